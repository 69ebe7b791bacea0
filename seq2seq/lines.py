"""The reader of every text file: what a line is, decided here and nowhere else.

Python's text files, `str.splitlines` and TensorFlow's readers split at different characters, and
one surplus line shifts every line after it: a corpus is then misaligned, a translation misplaced.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from seq2seq.errors import DataError, reading

LINE_BREAKING = "[\x00-\x1f\x7f-\x9f\u2028\u2029]"  # a pattern, to Python and to RE2
MAX_LINE_BYTES = 1 << 20  # bounds memory; a line this long is past any length limit in pieces

_CHUNK = 1 << 20
_LINE_BREAKING = re.compile(LINE_BREAKING)
_UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# First bytes of files that are not UTF-8 text, and what to do about each.
_FOREIGN_STARTS = {
    b"\xff\xfe": "the file is UTF-16: convert it with iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "the file is UTF-16: convert it with iconv -f UTF-16 -t UTF-8",
    b"\x1f\x8b": "the file is compressed: decompress it with gunzip",
}


@dataclass
class LineCounts:
    """What one text file had, counted while it is read.

    Attributes:
        name: The file, as messages name it.
        lines: As `wc -l` counts them, and one more if the last one does not end.
        size: Bytes.
        bad_utf8: Lines that are not UTF-8, or have a NUL.
        control: Lines in which characters became spaces, as `one_line` does it.
        carriage_returns: Lines that ended in CR LF.
        cut: Lines of which only the first `MAX_LINE_BYTES` bytes were kept.
        byte_order_mark: Whether the file began with one.
    """

    name: str
    lines: int = 0
    size: int = 0
    bad_utf8: int = 0
    control: int = 0
    carriage_returns: int = 0
    cut: int = 0
    byte_order_mark: bool = False


class LineBlock(NamedTuple):
    """Some lines of a file that follow on.

    Attributes:
        first: The number of the first, from 0.
        lines: How many.
        offset: The byte where they begin.
    """

    first: int
    lines: int
    offset: int


OnBadUtf8 = Literal["error", "replace"]
"""What to do about a line that is not UTF-8 or has a NUL: raise, or put U+FFFD for what cannot be
read and a space for the NUL."""


def one_line(text: str) -> str:
    """`text` with a space for each control character and Unicode line or paragraph separator.

    What comes out is one line to every reader, whatever it splits at.
    """
    return _LINE_BREAKING.sub(" ", text)


def showable(text: str) -> str:
    r"""`text` with control characters, but for LF and tab, as `\x1b`: no command to a terminal."""
    return _UNSHOWABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def read_lines(
    file: str | Path | BinaryIO,
    *,
    on_bad_utf8: OnBadUtf8 = "error",
    counts: LineCounts | None = None,
) -> Iterator[str]:
    """The lines of a UTF-8 file or binary stream, each made `one_line`, as soon as it is there.

    Only LF ends a line, one CR before it goes with it, and a last line counts without one too. A
    byte order mark is dropped. Of a line over `MAX_LINE_BYTES` the rest is passed over.

    Args:
        file: A path, or a binary stream such as `sys.stdin.buffer`, which is left open.
        on_bad_utf8: See `OnBadUtf8`.
        counts: Filled while reading.

    Raises:
        StorageError: The file cannot be read.
        DataError: A line is not UTF-8 or has a NUL; names file, line and byte.
    """
    counts = LineCounts(_name(file)) if counts is None else counts
    for raw in _raw_lines(file, counts):
        if on_bad_utf8 == "replace":
            yield _replaced(raw, counts)
        else:
            _refuse_nul(raw, name=counts.name, line=counts.lines)
            yield _decoded(raw, counts)


def read_valid_lines(path: Path, *, counts: LineCounts | None = None) -> Iterator[str | None]:
    """The lines of a file as `read_lines` gives them, and None for each that is not UTF-8.

    Raises:
        StorageError: The file cannot be read.
        DataError: A line has a NUL: the file is no text then, or text in another encoding.
    """
    counts = LineCounts(_name(path)) if counts is None else counts
    for raw in _raw_lines(path, counts):
        _refuse_nul(raw, name=counts.name, line=counts.lines)
        try:
            text = _decoded(raw, counts)
        except DataError:
            counts.bad_utf8 += 1
            yield None
        else:
            yield text


def read_text(path: Path) -> str:
    """The whole of a UTF-8 file, every character as it is, but for a byte order mark.

    For text that is more than its lines: line ends, tabs and separators of any kind are kept.

    Raises:
        StorageError: The file cannot be read.
        DataError: It is not UTF-8 or has a NUL; names file, line and byte.
    """
    with reading(path):
        content = path.read_bytes()
    _refuse_nul(content, name=str(path), line=1)
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as err:
        raise _invalid_utf8(content, err.start, name=str(path), line=1) from err


def count_lines(path: Path) -> int:
    """How many lines `read_lines` finds in a file.

    Raises:
        StorageError: The file cannot be read.
    """
    lines, last = 0, b"\n"
    with reading(path), path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            lines += chunk.count(b"\n")
            last = chunk
    return lines + (not last.endswith(b"\n"))


def check_line_counts(lengths: Sequence[tuple[str, int]]) -> None:
    """Checks that all files have the same line count.

    Args:
        lengths: The name of each file with its line count.

    Raises:
        DataError: A count differs from the first one.
    """
    first_name, first = lengths[0]
    for name, length in lengths[1:]:
        if length != first:
            raise DataError(
                f"{name}: {length} lines, but {first_name} has {first}; line i of each file must "
                "belong to the same sentence"
            )


def line_blocks(path: Path, lines: int) -> Iterator[LineBlock]:
    """A file cut into blocks of `lines` lines, the last one shorter.

    Raises:
        StorageError: The file cannot be read.
    """
    offset = end = first = line = 0
    with reading(path), path.open("rb") as stream:
        while part := stream.readline(_CHUNK):
            end += len(part)
            line += part.endswith(b"\n")
            if line == first + lines:
                yield LineBlock(first, lines, offset)
                offset, first = end, line
            unfinished = not part.endswith(b"\n")
    if offset < end:
        yield LineBlock(first, line + unfinished - first, offset)


def read_block(
    path: Path, block: LineBlock, *, on_bad_utf8: OnBadUtf8 = "error", counts: LineCounts
) -> Iterator[str]:
    """The lines of a block of a file, as `read_lines` gives them; `counts` are those of the block.

    Raises:
        StorageError: The file cannot be read.
        DataError: A line is not UTF-8 or has a NUL; names file, line and byte.
    """
    counts.lines = block.first
    with reading(path), path.open("rb") as stream:
        stream.seek(block.offset)
        lines = read_lines(stream, on_bad_utf8=on_bad_utf8, counts=counts)
        yield from islice(lines, block.lines)


def _name(file: str | Path | BinaryIO) -> str:
    if isinstance(file, str | Path):
        return str(file)
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else "input"


@contextmanager
def _opened(file: str | Path | BinaryIO) -> Iterator[BinaryIO]:
    if not isinstance(file, str | Path):
        yield file
        return
    with Path(file).open("rb") as stream:
        yield stream


def _raw_lines(file: str | Path | BinaryIO, counts: LineCounts) -> Iterator[bytes]:
    """Each line as bytes without its end; all counts but those of its text are kept here."""
    with reading(counts.name), _opened(file) as stream:
        while raw := _raw_line(stream, counts):
            counts.lines += 1
            if counts.lines == 1 and raw.startswith(_BYTE_ORDER_MARK):
                counts.byte_order_mark = True
                raw = raw.removeprefix(_BYTE_ORDER_MARK)
            counts.carriage_returns += raw.endswith(b"\r\n")
            yield raw.removesuffix(b"\n").removesuffix(b"\r")


def _raw_line(stream: BinaryIO, counts: LineCounts) -> bytes:
    """The next line with its end, or as much of it as is kept; nothing at the end of the file."""
    raw = stream.readline(MAX_LINE_BYTES)
    counts.size += len(raw)
    if len(raw) < MAX_LINE_BYTES or raw.endswith(b"\n"):
        return raw
    rest = stream.readline(MAX_LINE_BYTES)
    counts.size += len(rest)
    if rest in (b"", b"\n", b"\r\n"):
        return raw + rest
    counts.cut += 1
    while rest and not rest.endswith(b"\n"):
        rest = stream.readline(MAX_LINE_BYTES)
        counts.size += len(rest)
    return raw[: codecs.utf_8_decode(raw, "replace", False)[1]]  # no part of a character


def _refuse_nul(raw: bytes, *, name: str, line: int) -> None:
    """Refuses text from `line` on with a NUL, and a file that begins like one of another kind."""
    if line == 1 and (advice := _FOREIGN_STARTS.get(raw[:2])):
        raise DataError(f"{name}:1: not UTF-8 text; {advice}")
    nul = raw.find(0)
    if nul < 0:
        return
    advice = "expected text: remove the byte or the line"
    if raw.count(0) * 3 > len(raw):  # Latin letters in UTF-16 have one in every second byte
        advice = "the file looks like UTF-16: convert it with iconv -f UTF-16LE -t UTF-8"
    line, byte = _place(raw, nul, line=line)
    raise DataError(f"{name}:{line}: NUL at byte {byte}; {advice}")


def _decoded(raw: bytes, counts: LineCounts) -> str:
    try:
        return _cleaned(raw.decode(), counts)
    except UnicodeDecodeError as err:
        mark = _BYTE_ORDER_MARK if counts.byte_order_mark and counts.lines == 1 else b""
        place = len(mark) + err.start
        raise _invalid_utf8(mark + raw, place, name=counts.name, line=counts.lines) from err


def _invalid_utf8(raw: bytes, position: int, *, name: str, line: int) -> DataError:
    """The error for a byte of text from `line` on."""
    line, byte = _place(raw, position, line=line)
    return DataError(
        f"{name}:{line}: invalid UTF-8 at byte {byte} (0x{raw[position]:02x}); expected UTF-8: "
        "correct the line or, if the file is in another encoding, convert it, say with "
        "iconv -f LATIN1 -t UTF-8"
    )


def _place(raw: bytes, position: int, *, line: int) -> tuple[int, int]:
    """The line of a byte of text that begins with `line`, and its place there, from 1."""
    return line + raw.count(b"\n", 0, position), position - raw.rfind(b"\n", 0, position)


def _replaced(raw: bytes, counts: LineCounts) -> str:
    text = raw.decode(errors="replace")
    # U+FFFD may also stand in the line itself; only the strict decoder tells.
    counts.bad_utf8 += 0 in raw or ("\ufffd" in text and not _is_utf8(raw))
    return _cleaned(text, counts)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _cleaned(text: str, counts: LineCounts) -> str:
    text, replaced = _LINE_BREAKING.subn(" ", text)
    counts.control += replaced > 0
    return text
