"""An output that a killed run leaves half done and a later run resumes.

Until all is done there are, beside OUTPUT, `.OUTPUT.partial` with what is written so far and
`.OUTPUT.journal`, which says how much of it counts. The journal has a JSON object a line: first the
settings that decide the output; then a mark now and again, with the number of input lines that are
done, the sha256 of their text, and the bytes of output they became. What a mark counts is on the
disk before the mark is, so the last whole mark is true after a kill or a power cut.

The input is known by the lines that are done, and not by its name, size or time. They are read
again in any case to come to those after them, and those may have been corrected since: a run that
failed at line 5,000,000 because it was not UTF-8 goes on when it is.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from seq2seq.durable_files import lock, publish_file, sync
from seq2seq.errors import LockedError, ModelError, UsageError, writing
from seq2seq.streams import LineOutput, check_new, opened

FORMAT_VERSION = 1

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Mark:
    """How far an output has come.

    Attributes:
        lines: Input lines that are done.
        size: Bytes of output they became.
        input_sha256: Of their text, an LF after each.
        counts: What was counted in them, by name.
    """

    lines: int = 0
    size: int = 0
    input_sha256: str = hashlib.sha256().hexdigest()
    counts: Mapping[str, int] = field(default_factory=dict)


class ResumableOutput:
    """What `resumable_output` gives: write what each of `texts` became, and save now and again.

    Attributes:
        texts: The input lines that are to be done.
        lines: How many are done, those of earlier runs included.
        saved: Where a later run would go on.
    """

    def __init__(
        self, path: Path, texts: Iterator[str], *, start: Mark, partial: BinaryIO, journal: BinaryIO
    ) -> None:
        """Goes on at `start`, where `partial` and `journal` end."""
        self._input = _pass_over(path, texts, start)
        self.texts = texts
        self.lines = start.lines
        self.saved = start
        self._path = path
        self._partial = partial
        self._journal = journal
        self._output = LineOutput(partial, str(path))

    def write(self, source: str, text: str) -> None:
        """Writes `text`, which is what the next input line, `source`, became.

        Raises:
            StorageError: It cannot be written, as on a full disk.
        """
        self._output.write(text)
        self._input.update(f"{source}\n".encode())
        self.lines += 1

    def save(self, counts: Mapping[str, int]) -> None:
        """Keeps what is written: a later run goes on after it.

        Args:
            counts: What that run finds in `saved.counts`.

        Raises:
            StorageError: It cannot be written, as on a full disk.
        """
        mark = Mark(self.lines, self._partial.tell(), self._input.hexdigest(), dict(counts))
        with writing(self._path):
            os.fsync(self._partial.fileno())
            _append(self._journal, asdict(mark))
        self.saved = mark


@contextmanager
def resumable_output(
    path: Path, texts: Iterable[str], *, settings: Callable[[], Settings], resume: bool
) -> Iterator[ResumableOutput]:
    """An output that appears as `path` when all of it is written; what fails keeps what was saved.

    An exception that leaves the block then has a note that says how much that is. Nothing stays
    behind where nothing was saved.

    Args:
        path: A file, not a device or pipe; it does not exist yet.
        texts: The lines of the input, from the first one on.
        settings: Gives all that decides the output except the input, as JSON values; asked once,
            after what can be checked without.
        resume: Go on with what an earlier run left, if there is anything.

    Raises:
        UsageError: `path` exists; or there is something of an earlier run, and `resume` is not
            asked for.
        ModelError: What the earlier run left is of other settings or another input.
        LockedError: Another process is writing it.
        StorageError: It cannot be written.
    """
    with _locked_journal(path) as journal:
        earlier = _earlier(path)
        with _nothing_left_of_nothing(path):
            check_new(path)
            if earlier.mark.lines:
                _check_wanted(path, earlier, resume=resume)
                _check_same(path, earlier, settings())
                _cut(path, journal, earlier)
            else:
                _begin(path, journal, settings())
            with opened(_partial(path), "r+b", name=str(path)) as partial:
                partial.seek(0, os.SEEK_END)
                output = ResumableOutput(
                    path, iter(texts), start=earlier.mark, partial=partial, journal=journal
                )
                try:
                    yield output
                    _publish(path)
                except BaseException as err:
                    _note_what_is_kept(path, err)
                    raise


class _Earlier(NamedTuple):
    """What earlier runs left.

    Attributes:
        settings: Theirs.
        mark: The last one that the partial file has all the bytes of.
        end: Bytes of the journal, up to that mark and with it.
    """

    settings: Settings
    mark: Mark
    end: int


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _journal(path: Path) -> Path:
    return path.with_name(f".{path.name}.journal")


def _start_again(path: Path) -> str:
    return f"delete {_journal(path)} to start again"


@contextmanager
def _locked_journal(path: Path) -> Iterator[BinaryIO]:
    """The journal, held for one process; the kernel lets go if the process dies."""
    while True:
        with opened(_journal(path), "a+b", name=str(path)) as journal:
            with writing(path):
                held = lock(journal)
            if not held:
                raise LockedError(f"{path}: another process is writing it; wait for it or stop it")
            if _is_still(_journal(path), journal):
                yield journal
                return


def _is_still(path: Path, file: BinaryIO) -> bool:
    """False if the file was deleted between opening and locking it, by the process that held it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    return False


@contextmanager
def _nothing_left_of_nothing(path: Path) -> Iterator[None]:
    """Deletes both files if the block fails and there is nothing in them to go on with."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if not _earlier(path).mark.lines:
                _partial(path).unlink(missing_ok=True)
                _journal(path).unlink()
        raise


def _note_what_is_kept(path: Path, err: BaseException) -> None:
    with suppress(OSError):  # the files are asked: a fault while saving may come before or after it
        if lines := _earlier(path).mark.lines:
            err.add_note(f"{path}: {lines:,} lines are translated and kept; --resume goes on there")


def _earlier(path: Path) -> _Earlier:
    """What earlier runs left, which may be nothing.

    Raises:
        ModelError: The journal is of another kind.
    """
    # What comes after the last LF is nothing, or what a kill or a full disk left of a line.
    lines = _journal(path).read_bytes().split(b"\n")[:-1]
    if not lines:
        return _Earlier({}, Mark(), 0)
    settings = _settings(path, lines[0])
    mark, end, marked = Mark(), 0, len(lines[0]) + 1
    size = _partial(path).stat().st_size if _partial(path).exists() else 0
    for line in lines[1:]:
        try:
            later = Mark(**json.loads(line))
        except (ValueError, TypeError):
            break
        marked += len(line) + 1
        if later.size <= size:
            mark, end = later, marked
    return _Earlier(settings, mark, end)


def _settings(path: Path, header: bytes) -> Settings:
    with suppress(ValueError, KeyError, TypeError):
        fields = json.loads(header)
        if fields["format"] == FORMAT_VERSION:
            return dict(fields["settings"])
    raise ModelError(
        f"{_journal(path)}: not the journal of a translation by this version; delete it to start "
        "again"
    )


def _check_wanted(path: Path, earlier: _Earlier, *, resume: bool) -> None:
    if not resume:
        raise UsageError(
            f"{path}: {earlier.mark.lines:,} lines are translated already; go on with --resume, or "
            f"{_start_again(path)}"
        )


def _check_same(path: Path, earlier: _Earlier, settings: Settings) -> None:
    now = json.loads(json.dumps(settings))  # as it would be read: a tuple is a list then
    differing = [
        f"{key} was {earlier.settings.get(key)}, is {now.get(key)}"
        for key in {**earlier.settings, **now}
        if earlier.settings.get(key) != now.get(key)
    ]
    if differing:
        raise ModelError(
            f"{path}: {earlier.mark.lines:,} lines are translated with other settings: "
            f"{'; '.join(differing)}; give the same, or {_start_again(path)}"
        )


def _pass_over(path: Path, texts: Iterator[str], mark: Mark) -> "hashlib._Hash":
    """Skips the texts that are done; the running hash of what was skipped.

    Raises:
        ModelError: They are not those that were translated.
    """
    done = hashlib.sha256()
    for text in islice(texts, mark.lines):
        done.update(f"{text}\n".encode())
    if done.hexdigest() != mark.input_sha256:
        raise ModelError(
            f"{path}: the first {mark.lines:,} lines of the input are not those that were "
            f"translated; give the same input, or {_start_again(path)}"
        )
    return done


def _begin(path: Path, journal: BinaryIO, settings: Settings) -> None:
    """Makes both files anew."""
    with writing(path):
        journal.truncate(0)
        _append(journal, {"format": FORMAT_VERSION, "settings": dict(settings)})
        _partial(path).write_bytes(b"")
        sync(path.parent)


def _cut(path: Path, journal: BinaryIO, earlier: _Earlier) -> None:
    """Ends both files at the mark."""
    with writing(path):
        # First: a mark that is passed over must not count again when the partial file has grown.
        journal.truncate(earlier.end)
        os.fsync(journal.fileno())
        os.truncate(_partial(path), earlier.mark.size)


def _append(journal: BinaryIO, fields: Mapping[str, Any]) -> None:
    journal.write(json.dumps(fields).encode() + b"\n")
    journal.flush()
    os.fsync(journal.fileno())


def _publish(path: Path) -> None:
    with writing(path):
        publish_file(_partial(path), path)
    with suppress(OSError):  # without the partial file it counts for nothing
        _journal(path).unlink()
