"""Sentence pairs from parallel files: checked, counted, streamed.

`read_pairs` gives every pair, `training_pairs` those with text on both sides, `validation_pairs`
all of a small corpus at once. Nothing is ever left out without being counted in `PairCounts`.
"""

import itertools
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seq2seq.config import DataConfig, OnBadPair
from seq2seq.errors import DataError, StorageError, UsageError, reading
from seq2seq.lines import MAX_LINE_BYTES, LineCounts, read_lines, read_valid_lines

_ONE_LINE_FILE_BYTES = 100_000  # a file of one line is suspicious from this size on
_FIRST_LINES = 5  # line numbers kept of each reason for which pairs are left out

Reason = Literal["blank", "too_long", "bad_utf8"]
_REASONS: tuple[Reason, ...] = ("blank", "too_long", "bad_utf8")
_REASON_WORDS = {"blank": "blank", "too_long": "too long", "bad_utf8": "not UTF-8"}


class Pair(NamedTuple):
    """A sentence and its translation.

    Attributes:
        line: Line number in the corpus, from 1; it runs on from file to file.
    """

    line: int
    source: str
    target: str


@dataclass
class PairCounts:
    """What became of the pairs of a corpus.

    Attributes:
        read: Pairs in the files.
        kept: Pairs to train on.
        identical: Kept pairs whose source and target are the same text.
        repeated: Kept pairs that are there before.
        leaked: Different kept pairs that are validation pairs as well.
        dropped: Pairs left out, by reason.
        first_lines: The first line numbers left out, by reason.
        source_files: What each source file had.
        target_files: What each target file had.
        reused: Whether ids from an earlier call were found and kept.
    """

    read: int = 0
    kept: int = 0
    identical: int = 0
    repeated: int = 0
    leaked: int = 0
    dropped: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(_REASONS, 0))
    first_lines: dict[Reason, list[int]] = field(
        default_factory=lambda: {reason: [] for reason in _REASONS}
    )
    source_files: list[LineCounts] = field(default_factory=list)
    target_files: list[LineCounts] = field(default_factory=list)
    reused: bool = False

    @property
    def blank(self) -> int:
        """Pairs without text on either or both sides."""
        return self.dropped["blank"]

    @property
    def too_long(self) -> int:
        """Pairs with a side over its limit of pieces."""
        return self.dropped["too_long"]

    @property
    def bad_utf8(self) -> int:
        """Pairs with a side that is not UTF-8."""
        return self.dropped["bad_utf8"]

    @property
    def files(self) -> list[LineCounts]:
        """What every file had, the source files first."""
        return self.source_files + self.target_files

    def drop(self, reason: Reason, line: int) -> None:
        """Counts the pair at `line` as left out."""
        self.dropped[reason] += 1
        if len(self.first_lines[reason]) < _FIRST_LINES:
            self.first_lines[reason].append(line)

    def reasons(self) -> str:
        """Why pairs were left out: `3 blank (lines 4, 17, 90), 1 too long (line 8)`."""
        return ", ".join(
            f"{count} {_REASON_WORDS[reason]} ({line_numbers(self.first_lines[reason], count)})"
            for reason, count in self.dropped.items()
            if count
        )

    def summary(self) -> str:
        """All counts that are not 0, in one line."""
        parts = [f"pairs: {self.read} read, {self.kept} kept"]
        if reasons := self.reasons():
            parts.append(f"left out: {reasons}")
        if self.repeated:
            parts.append(f"repeated: {self.repeated}")
        if cleaned := _cleaned(self.files):
            parts.append(f"cleaned: {cleaned}")
        return "; ".join(parts)

    def warnings(self) -> list[str]:
        """What is likely to be a mistake in the files, a line each."""
        found = []
        if self.identical * 2 > self.kept:
            found.append(
                f"source and target are the same text in {self.identical} of {self.kept} pairs: "
                "is one of the files the wrong one?"
            )
        if self.leaked:
            found.append(
                f"validation pairs that are training pairs as well: {self.leaked}; so validation "
                "scores are too good"
            )
        if self.bad_utf8 * 10 > self.read:
            found.append(
                f"{self.bad_utf8} of {self.read} pairs are not UTF-8: are the files Latin-1? "
                "Convert them with iconv -f LATIN1 -t UTF-8"
            )
        if self.too_long * 10 > self.read:
            found.append(
                f"{self.too_long} of {self.read} pairs are too long: "
                "raise data.max_source_length and data.max_target_length to train on them"
            )
        for file in self.files:
            if file.lines == 1 and file.size >= _ONE_LINE_FILE_BYTES:
                found.append(
                    f"{file.name}: 1 line, {file.size / 1e6:.1f} MB: expected one sentence a line"
                )
        return found


def read_pairs(
    sources: Sequence[Path],
    targets: Sequence[Path],
    *,
    on_bad_utf8: OnBadPair = "error",
    counts: PairCounts | None = None,
) -> Iterator[Pair]:
    """The pairs of parallel files, blank ones too.

    The files of one side follow on. With as many files on either side the first is parallel to
    the first, the second to the second, and so on, and so are their line counts.

    Args:
        sources: Files of the source side.
        targets: Files of the target side.
        on_bad_utf8: What to do about a line that is not UTF-8: raise, or leave out its pair.
        counts: Filled while reading.

    Raises:
        StorageError: A file cannot be read.
        DataError: The line counts differ, which shows at the end of the shorter side at the
            latest; a line is not UTF-8 or has a NUL.
    """
    counts = PairCounts() if counts is None else counts
    parts: Iterable[tuple[Sequence[Path], Sequence[Path]]] = [(sources, targets)]
    if len(sources) == len(targets):
        parts = [([source], [target]) for source, target in zip(sources, targets, strict=True)]
    for source_part, target_part in parts:
        source_files = [LineCounts(str(path)) for path in source_part]
        target_files = [LineCounts(str(path)) for path in target_part]
        counts.source_files += source_files
        counts.target_files += target_files
        source_lines = _lines(source_part, source_files, on_bad_utf8)
        target_lines = _lines(target_part, target_files, on_bad_utf8)
        end = "\n"  # no line has a LF in it
        for source, target in itertools.zip_longest(source_lines, target_lines, fillvalue=end):
            if source == end or target == end:
                continue  # on to the end of the longer side, for the message
            counts.read += 1
            if source is None or target is None:
                counts.drop("bad_utf8", counts.read)
            else:
                yield Pair(counts.read, source, target)
        _check_parallel(source_files, target_files)


def training_pairs(data: DataConfig, counts: PairCounts | None = None) -> Iterator[Pair]:
    """The pairs of the training files that have text on both sides.

    Args:
        data: Where the files are and what to do about lines that are not UTF-8.
        counts: Filled while reading; `kept` is not, as lengths are not known here.

    Raises:
        StorageError: A file cannot be read.
        UsageError: A file is a pipe: it could not be read a second time.
        DataError: As for `read_pairs`; no pair has text on both sides.
    """
    counts = PairCounts() if counts is None else counts
    for path in [*data.train_source, *data.train_target]:
        check_rereadable(path)
    pairs = read_pairs(
        data.train_source, data.train_target, on_bad_utf8=data.on_bad_utf8, counts=counts
    )
    for pair in pairs:
        if pair.source.strip() and pair.target.strip():
            yield pair
        else:
            counts.drop("blank", pair.line)
    if sum(counts.dropped.values()) == counts.read:
        raise no_usable_pairs(counts)


def validation_pairs(data: DataConfig, counts: PairCounts | None = None) -> list[Pair]:
    """Every pair of the validation files, blank and long ones too, so that scores stay comparable.

    Args:
        data: Where the files are and what to do about lines that are not UTF-8.
        counts: Filled while reading.

    Raises:
        StorageError: A file cannot be read.
        DataError: As for `read_pairs`.
        UsageError: No pair has text on both sides, so there is nothing to validate with.
    """
    counts = PairCounts() if counts is None else counts
    pairs = list(
        read_pairs(
            [data.validation_source],
            [data.validation_target],
            on_bad_utf8=data.on_bad_utf8,
            counts=counts,
        )
    )
    if not any(pair.source.strip() and pair.target.strip() for pair in pairs):
        raise UsageError(
            f"{data.validation_source}: no validation pair has text on both sides "
            f"({counts.read} read); expected at least one"
        )
    counts.kept = len(pairs)
    return pairs


def no_usable_pairs(counts: PairCounts) -> DataError:
    """The error for a corpus of which nothing can be trained on, with the counts by reason."""
    why = counts.reasons() or "the files are empty"
    return DataError(
        f"{_names(counts.source_files)}: 0 usable pairs of {counts.read} read: {why}; "
        "expected pairs with text on both sides, within data.max_source_length and "
        "data.max_target_length"
    )


def check_rereadable(path: Path) -> None:
    """Checks that `path` is a file that can be read more than once.

    Training reads its text for the tokenizer first and for the ids later; a pipe would be empty.

    Raises:
        StorageError: There is no such file, or it is a folder.
        UsageError: It is a pipe or a device.
    """
    with reading(path):
        mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise StorageError(f"{path}: cannot be read: Is a directory")
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path}: not a regular file; training reads it more than once")


def first_surplus_line(one: NDArray[np.float64], other: NDArray[np.float64]) -> int:
    """The line at which the longer of two sides most likely has its surplus, from 1.

    Lines and their translations are of like lengths: of all places where the surplus may be, that
    one is taken that makes the lengths of pairs differ least (their ratio, as a logarithm).

    Args:
        one: The length of each line of a side, `[N]`.
        other: That of the other side, `[M]`; M is not N.
    """
    shorter, longer = sorted((np.log1p(one), np.log1p(other)), key=len)
    surplus, count = len(longer) - len(shorter), len(shorter)
    differences = np.abs(shorter - longer[:count]), np.abs(shorter - longer[surplus:])
    # With the surplus before line p, lines 0 to p - 1 stand as they are and the others are moved.
    before, after = (np.concatenate([[0.0], np.cumsum(each)]) for each in differences)
    return int(np.argmin(before + after[-1] - after)) + 1


def line_numbers(first: Sequence[int], count: int | None = None) -> str:
    """The `first` of `count` line numbers in words: `line 3`, or `lines 3, 8, ...` of more."""
    count = len(first) if count is None else count
    numbers = ", ".join(map(str, first)) + (", ..." if count > len(first) else "")
    return f"{'line' if count == 1 else 'lines'} {numbers}"


def _lines(
    paths: Sequence[Path], files: Sequence[LineCounts], on_bad_utf8: OnBadPair
) -> Iterator[str | None]:
    """The lines of files that follow on; None is one that is to be skipped."""
    for path, counts in zip(paths, files, strict=True):
        if on_bad_utf8 == "skip":
            yield from read_valid_lines(path, counts=counts)
        else:
            yield from read_lines(path, counts=counts)


def _check_parallel(sources: Sequence[LineCounts], targets: Sequence[LineCounts]) -> None:
    source_lines = sum(file.lines for file in sources)
    target_lines = sum(file.lines for file in targets)
    if source_lines != target_lines:
        raise DataError(
            f"{_names(sources)}: {source_lines} lines, but {_names(targets)}: {target_lines}; "
            "expected the translation of line n in line n, so as many lines on either side"
            + _shift_told(sources, targets)
        )


def _shift_told(sources: Sequence[LineCounts], targets: Sequence[LineCounts]) -> str:
    """Where the surplus lines may be, in words; nothing for what cannot be read twice."""
    if not all(Path(file.name).is_file() for file in (*sources, *targets)):
        return ""
    line = first_surplus_line(_lengths(sources), _lengths(targets))
    return f"; by their lengths, lines seem to be shifted from line {line} on"


def _lengths(files: Sequence[LineCounts]) -> NDArray[np.float64]:
    """The length of each line, `[N]`."""
    lines = (line for file in files for line in read_valid_lines(Path(file.name)))
    return np.fromiter((len(line or "") for line in lines), np.float64)


def _names(files: Sequence[LineCounts]) -> str:
    return " + ".join(file.name for file in files)


def _cleaned(files: Sequence[LineCounts]) -> str:
    totals = (
        ("control characters", sum(file.control for file in files), "line"),
        ("CR LF line ends", sum(file.carriage_returns for file in files), "line"),
        ("byte order mark", sum(file.byte_order_mark for file in files), "file"),
        (f"cut at {MAX_LINE_BYTES} bytes", sum(file.cut for file in files), "line"),
    )
    return ", ".join(f"{what} ({n} {unit}{'s' * (n > 1)})" for what, n, unit in totals if n)
