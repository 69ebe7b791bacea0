"""What the command line reads and writes: bytes, UTF-8, LF, in any locale."""

import os
import secrets
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, Literal, cast

from seq2seq.durable_files import publish_file
from seq2seq.errors import StorageError, UsageError, unwritable, writing
from seq2seq.lines import MAX_LINE_BYTES, LineCounts, OnBadUtf8, read_lines, showable

OutputMode = Literal["wb", "xb", "r+b", "a+b"]

_STDIN = 0
_STDERR = 2
_CHUNK = 1 << 16
# How long the next line may take and still count as being there: a program that writes line after
# line is not waiting for answers, and somebody who does will not notice.
_PATIENCE_SECONDS = 0.005


class LineInput:
    """Standard input that knows whether a line is waiting in it.

    Python's own buffered reader cannot tell: looking for a line blocks until there is one.
    """

    def __init__(self, descriptor: int, name: str = "standard input") -> None:
        self.name = name
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._ended = False

    def lines(
        self, *, on_bad_utf8: OnBadUtf8 = "error", counts: LineCounts | None = None
    ) -> Iterator[str]:
        """All lines, as `read_lines` gives them."""
        stream = cast(BinaryIO, self)  # no more of it is needed than `readline`
        return read_lines(stream, on_bad_utf8=on_bad_utf8, counts=counts)

    def readline(self, limit: int = -1) -> bytes:
        """The next line with its LF, at most `limit` bytes of it; empty at the end."""
        while (end := self._buffer.find(b"\n") + 1) == 0 and not self._ended:
            if 0 <= limit <= len(self._buffer):
                break
            self._fill()
        end = end or len(self._buffer)
        if limit >= 0:
            end = min(end, limit)
        line = bytes(self._buffer[:end])
        del self._buffer[:end]
        return line

    def line_ready(self) -> bool:
        """Whether `readline` would return at once; it would at the end of the input, too.

        Of a line that is longer than is kept, the beginning is enough.
        """
        while b"\n" not in self._buffer and not self._ended and len(self._buffer) < MAX_LINE_BYTES:
            if not select.select([self._descriptor], [], [], _PATIENCE_SECONDS)[0]:
                return False
            self._fill()
        return True

    def _fill(self) -> None:
        select.select([self._descriptor], [], [])  # it may be one that does not block
        chunk = os.read(self._descriptor, _CHUNK)
        self._buffer += chunk
        self._ended = not chunk


class LineOutput:
    """Lines to a stream, each one written as soon as it is there.

    Text is data and stays as it is, but on a terminal, where generated text or the name of a file
    could be a command to it.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        # Without its buffer, whose write ends in the middle where a stream does not block.
        self._stream = cast(RawIOBase, getattr(stream, "raw", stream))
        self._name = name

    def write(self, text: str) -> None:
        """Writes `text`.

        Raises:
            StorageError: It cannot be written, as on a full disk.
            BrokenPipeError: Nobody reads it any more.
        """
        if self._stream.isatty():
            text = showable(text)
        try:
            # File names may hold bytes that are not UTF-8; they come out as they went in.
            left = memoryview(text.encode("utf-8", "surrogateescape"))
            while left:
                taken = self._stream.write(left)
                if taken is None:  # it does not block, and has no room now
                    select.select([], [self._stream], [])
                else:
                    left = left[taken:]
        except BrokenPipeError:
            raise
        except OSError as err:
            raise unwritable(self._name, err) from err


def occupy_standard_streams() -> None:
    """Opens those of the three standard streams that are closed on nothing.

    Else files that are opened later would get their numbers, and what is written to file
    descriptor 2, as libraries do, would end up in them.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(descriptor)


def standard_input() -> LineInput:
    """Standard input."""
    return LineInput(_STDIN)


def standard_output() -> LineOutput:
    """Standard output.

    Raises:
        StorageError: It is closed.
    """
    if sys.stdout is None:
        raise StorageError("standard output: cannot be written: it is closed")
    sys.stdout.flush()
    return LineOutput(sys.stdout.buffer, "standard output")


@contextmanager
def opened_output(path: Path | None) -> Iterator[LineOutput]:
    """An output that appears under its name when all of it is written; None is standard output.

    It is written beside `path`, and deleted if the block fails. What is no regular file, such as
    a device or a pipe, is written directly.

    Raises:
        UsageError: `path` exists already.
        StorageError: It cannot be written.
    """
    if path is None:
        yield standard_output()
    else:
        with _new_file(path) as stream:
            yield LineOutput(stream, str(path))


def write_new(path: Path, content: bytes) -> None:
    """Writes a file that appears under its name when all of it is written; see `opened_output`.

    Raises:
        UsageError: `path` exists already.
        StorageError: It cannot be written.
    """
    with _new_file(path) as stream, writing(path):
        stream.write(content)
        stream.flush()


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path`, which takes its name if the block ends well and is deleted if not.

    A device or a pipe is itself written: it is nothing that a file may take the name of.
    """
    if is_special(path):
        with opened(path, "wb", name=str(path)) as stream:
            yield stream
        return
    check_new(path)
    temporary = path.with_name(f".tmp-{secrets.token_hex(4)}-{path.name}")
    try:
        with opened(temporary, "xb", name=str(path)) as stream:
            yield stream
        with writing(path):
            publish_file(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """Whether `path` is there and neither file nor folder: a device or a pipe."""
    return path.exists() and not path.is_file() and not path.is_dir()


def check_new(path: Path) -> None:
    """Checks that writing to `path` would replace nothing.

    Raises:
        UsageError: It would.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; expected the name of a file to write")
    if path.is_file():
        raise UsageError(f"{path}: exists already; delete it or choose another name")


def check_has_folder(path: Path) -> None:
    """Checks that a file can be made at `path`, before the work that fills it.

    Raises:
        StorageError: There is no folder that a file of this name could be written to.
    """
    if not path.parent.is_dir():
        raise StorageError(f"{path}: cannot be written: {path.parent} is no folder")


@contextmanager
def opened(path: Path, mode: OutputMode, *, name: str) -> Iterator[BinaryIO]:
    """The file `path`. The caller flushes every write, so an error of closing it is no news.

    Raises:
        StorageError: It cannot be opened; says that `name` cannot be written.
    """
    with writing(name):
        stream = path.open(mode)
    try:
        yield stream
    finally:
        with suppress(OSError):  # every write was flushed, so what fails now has failed before
            stream.close()
