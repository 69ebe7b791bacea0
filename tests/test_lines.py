"""What a line is. Expected texts are written out, or made with `bytes.split` and `unicodedata`."""

import errno
import io
import os
import subprocess
import sys
import tracemalloc
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.errors import DataError, StorageError
from seq2seq.lines import (
    MAX_LINE_BYTES,
    LineBlock,
    LineCounts,
    check_line_counts,
    count_lines,
    line_blocks,
    one_line,
    read_block,
    read_lines,
    read_text,
    read_valid_lines,
    showable,
)

NOT_LINE_ENDS = ["\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\t", "\x01"]


def written(folder, content):
    path = folder / "f.en"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("character", NOT_LINE_ENDS, ids=ascii)
def test_only_lf_ends_a_line_and_other_separators_become_a_space(tmp_path, character):
    path = written(tmp_path, f"a{character}b\nc\n".encode())
    counts = LineCounts("f.en")
    assert list(read_lines(path, counts=counts)) == ["a b", "c"]
    assert (counts.lines, counts.control) == (2, 1)


@pytest.mark.parametrize("character", [*NOT_LINE_ENDS, "\n", "\0", "\x7f"], ids=ascii)
def test_one_line_leaves_nothing_that_any_reader_splits_at(character):
    assert one_line(f"a{character}b") == "a b"


def test_one_line_leaves_other_text_alone():
    text = "naïve  \u00a0\u3000 \u200d 🙂 \ufeff e\u0301 \u2581 \ufffd ~"
    assert one_line(text) == text


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"\n\n", ["", ""]),
        (b"a", ["a"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\nc\r\n", ["a", "b", "c"]),
        (b"a\r\r\n", ["a "]),
        (b"a\r", ["a"]),
        (b"\r\n \n", ["", " "]),
    ],
)
def test_line_ends(tmp_path, content, lines):
    path = written(tmp_path, content)
    assert list(read_lines(path)) == lines
    assert count_lines(path) == len(lines)


def test_what_is_shown_is_no_command_to_a_terminal():
    text = "a\tb\nc\x1b[31m\r\x9bX\x7f\x00ö\u2028"
    assert showable(text) == "a\tb\nc\\x1b[31m\\x0d\\x9bX\\x7f\\x00ö\u2028"


def test_lines_of_a_file_that_cannot_be_read_are_not_counted(tmp_path):
    with pytest.raises(StorageError, match=r"missing\.en: cannot be read: No such file"):
        count_lines(tmp_path / "missing.en")


def test_line_ends_are_counted(tmp_path):
    counts = LineCounts("f.en")
    content = b"a\r\nb\nc\r\nd\r"
    list(read_lines(written(tmp_path, content), counts=counts))
    assert (counts.lines, counts.carriage_returns, counts.size) == (4, 2, len(content))


def test_a_byte_order_mark_is_dropped_from_the_first_line_only(tmp_path):
    mark = b"\xef\xbb\xbf"
    counts = LineCounts("f.en")
    path = written(tmp_path, mark + b"a\n" + mark + b"b\n")
    assert list(read_lines(path, counts=counts)) == ["a", "\ufeffb"]
    assert counts.byte_order_mark


def test_invalid_utf8_names_file_line_and_byte_after_the_lines_before_it(tmp_path):
    path = written(tmp_path, b"eins\nzwei\ncaf\xe9\nvier\n")
    lines = read_lines(path)
    assert [next(lines), next(lines)] == ["eins", "zwei"]
    with pytest.raises(DataError, match=r"f\.en:3: invalid UTF-8 at byte 4 \(0xe9\); .*iconv"):
        next(lines)


@pytest.mark.parametrize(
    ("content", "byte"),
    [
        (b"\xef\xbb\xbfab\xff\n", 6),  # bytes are those of the file, its mark included
        (b"\xed\xa0\x80\n", 1),  # a surrogate is no character
        (b"\xc0\x80\n", 1),  # NUL written in two bytes
        (b"ab\xe2\x82\n", 3),  # the line ends inside a character
        (b"ab\xe2\x82", 3),
    ],
)
def test_where_invalid_utf8_begins(tmp_path, content, byte):
    with pytest.raises(DataError, match=rf"f\.en:1: invalid UTF-8 at byte {byte} "):
        list(read_lines(written(tmp_path, content)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\0c\n", r"f\.en:2: NUL at byte 2; expected text"),
        ("\ufeffab\n".encode("utf-16-le"), r"f\.en:1: not UTF-8 text; the file is UTF-16: .*iconv"),
        ("\ufeffab\n".encode("utf-16-be"), r"f\.en:1: not UTF-8 text; the file is UTF-16: .*iconv"),
        ("ab cd\n".encode("utf-16-le"), r"f\.en:1: NUL at byte 2; the file looks like UTF-16"),
        (b"\x1f\x8b\x08\x00abc", r"f\.en:1: not UTF-8 text; the file is compressed: .*gunzip"),
    ],
)
def test_files_that_are_not_text_are_refused_with_advice(tmp_path, content, message):
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=message):
        list(read_lines(path))
    with pytest.raises(DataError, match=message):
        list(read_valid_lines(path))


def test_replacing_goes_on_and_counts(tmp_path):
    counts = LineCounts("f.en")
    path = written(tmp_path, b"ab\xffc\nok\nx\0y\n" + "\ufffd is fine\n".encode())
    lines = list(read_lines(path, on_bad_utf8="replace", counts=counts))
    assert lines == ["ab\ufffdc", "ok", "x y", "\ufffd is fine"]
    assert counts.bad_utf8 == 2


def test_valid_lines_keep_the_place_of_invalid_ones(tmp_path):
    counts = LineCounts("f.en")
    path = written(tmp_path, b"a\n\xff\xfe\nb\xff\nc")
    assert list(read_valid_lines(path, counts=counts)) == ["a", None, None, "c"]
    assert (counts.lines, counts.bad_utf8) == (4, 2)


def test_a_binary_stream_is_read_and_left_open():
    stream = io.BytesIO(b"a\r\nb")
    assert list(read_lines(stream)) == ["a", "b"]
    assert not stream.closed


def test_messages_name_a_stream_by_its_name_or_as_input():
    with pytest.raises(DataError, match=r"^input:1: invalid UTF-8"):
        list(read_lines(io.BytesIO(b"\xff")))
    named = io.BytesIO(b"\xff")
    named.name = "<stdin>"
    with pytest.raises(DataError, match=r"^<stdin>:1: invalid UTF-8"):
        list(read_lines(named))


def test_a_line_of_a_pipe_is_there_before_the_next_is_written():
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as reader, open(write_end, "wb", buffering=0) as writer:  # noqa: PTH123
        lines = read_lines(reader)
        for text in ("first", "second"):
            writer.write(f"{text}\n".encode())
            assert next(lines) == text


def test_a_huge_line_needs_little_memory_and_is_one_line(tmp_path):
    path = written(tmp_path, b"before\n" + b"x" * 10_000_000 + b"\nafter\n")
    counts = LineCounts("f.en")
    tracemalloc.start()
    lengths = [len(line) for line in read_lines(path, counts=counts)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lengths == [6, MAX_LINE_BYTES, 5]
    assert (counts.lines, counts.cut, counts.size) == (3, 1, 10_000_014)
    assert peak < 5 * MAX_LINE_BYTES


def test_a_huge_line_is_cut_between_characters(tmp_path):
    text = "a" + "é" * MAX_LINE_BYTES  # the limit falls into the middle of an é
    path = written(tmp_path, f"{text}\nnext\n".encode())
    assert list(read_lines(path)) == ["a" + "é" * (MAX_LINE_BYTES // 2 - 1), "next"]


def test_a_byte_order_mark_before_a_huge_line_is_no_part_of_it(tmp_path):
    text = "ab" + "é" * MAX_LINE_BYTES  # after the mark's three bytes again in the middle of an é
    assert list(read_lines(written(tmp_path, f"\ufeff{text}\n".encode()))) == [
        "ab" + "é" * ((MAX_LINE_BYTES - 5) // 2)
    ]


def test_a_line_as_long_as_the_limit_is_whole(tmp_path):
    text = "x" * (MAX_LINE_BYTES - 1)
    counts = LineCounts("f.en")
    assert list(read_lines(written(tmp_path, f"{text}\nb\n".encode()), counts=counts)) == [
        text,
        "b",
    ]
    assert counts.cut == 0


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("length", [MAX_LINE_BYTES - 1, MAX_LINE_BYTES])
def test_nothing_is_cut_of_a_line_of_which_all_is_kept(tmp_path, length, end):
    counts = LineCounts("f.en")
    path = written(tmp_path, b"x" * length + end.encode())
    assert [len(line) for line in read_lines(path, counts=counts)] == [length]
    assert (counts.cut, counts.size) == (0, length + len(end))
    assert counts.carriage_returns == (end == "\r\n")


def test_a_missing_file_and_a_folder_are_storage_errors_that_name_it(tmp_path):
    with pytest.raises(StorageError, match=r"missing\.en: cannot be read: No such file"):
        list(read_lines(tmp_path / "missing.en"))
    with pytest.raises(StorageError, match=rf"{tmp_path.name}: cannot be read: Is a directory"):
        list(read_lines(str(tmp_path)))


def test_a_file_without_permission_is_a_storage_error(tmp_path, monkeypatch):
    def refuse(self, mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so chmod shows nothing
    with pytest.raises(StorageError, match=r"f\.en: cannot be read: Permission denied"):
        list(read_lines(tmp_path / "f.en"))


def test_a_fault_while_reading_is_a_storage_error():
    class Failing(io.BytesIO):
        def readline(self, size=-1):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(StorageError, match="input: cannot be read: Input/output error"):
        list(read_lines(Failing()))


def test_the_locale_does_not_matter(tmp_path):
    path = written(tmp_path, "Ünïcode\u2028 🙂\n".encode())
    program = (
        "import sys; from seq2seq.lines import read_lines; "
        "print(ascii(list(read_lines(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", program, str(path)],
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().strip() == ascii(["Ünïcode  🙂"])


CHUNKS = [b"\n", b"\r", b"\r\n", "\x85".encode(), "\u2028".encode(), b"\v", b"\f", b"\0"]
CHUNKS += [b"\xef\xbb\xbf", b"", b"word", b"\xff", "é🙂".encode()]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(CHUNKS), max_size=12).map(b"".join))
def test_any_bytes_have_as_many_lines_as_lfs_and_one_more_for_a_tail(content):
    tail = 0 if content.endswith(b"\n") or not content else 1
    lines = list(read_lines(io.BytesIO(content), on_bad_utf8="replace"))
    assert len(lines) == content.count(b"\n") + tail
    assert all(len(line.splitlines()) <= 1 for line in lines)
    whole = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")[: len(lines)]
    for line, raw in zip(lines, whole, strict=True):
        text = (raw[:-1] if raw.endswith(b"\r") else raw).decode("utf-8", "replace")
        spaced = [" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text]
        assert line == "".join(spaced)


# The whole text.


def test_a_text_is_read_as_it_is(tmp_path):
    text = "  a\tb \r\nc\rd\x85\u2028\u2029\x0b\x0c e\u0301 é \U0001f642\u200d\ufeff\x01\n\n"
    assert read_text(written(tmp_path, text.encode())) == text


@settings(max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_is_read_byte_for_byte(tmp_path_factory, text):
    path = written(tmp_path_factory.mktemp("text"), text.encode())
    assert read_text(path) == text.removeprefix("\ufeff")


def test_only_the_byte_order_mark_of_a_text_is_dropped(tmp_path):
    assert read_text(written(tmp_path, "\ufeffa\n\ufeffb".encode())) == "a\n\ufeffb"
    assert read_text(written(tmp_path, b"")) == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ab\xffc", r"f\.en:1: invalid UTF-8 at byte 3 \(0xff\); expected UTF-8: correct the"),
        (b"a\n\nbc\xe9\nd\xff", r"f\.en:3: invalid UTF-8 at byte 3 \(0xe9\); .*iconv -f LATIN1"),
        (b"\xef\xbb\xbfa\xff", r"f\.en:1: invalid UTF-8 at byte 5 "),
        (b"a\nb\xe2\x82", r"f\.en:2: invalid UTF-8 at byte 2 "),  # ends inside a character
        (b"a\nbc\n\0", r"f\.en:3: NUL at byte 1; expected text: remove"),
        (b"a\nb\0\xff", r"f\.en:2: NUL at byte 2; "),
        ("\ufeffab\n".encode("utf-16-le"), r"f\.en:1: not UTF-8 text; the file is UTF-16: .*iconv"),
        ("ab\ncd\n".encode("utf-16-le"), r"f\.en:1: NUL at byte 2; the file looks like UTF-16"),
        (b"\x1f\x8b\x08\x00abc", r"f\.en:1: not UTF-8 text; the file is compressed: .*gunzip"),
    ],
)
def test_a_file_that_is_no_text_is_refused_with_the_place(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_text(written(tmp_path, content))


def test_a_fault_far_into_a_huge_line_is_found(tmp_path):
    content = b"x" * (MAX_LINE_BYTES + 5) + b"\xff"
    with pytest.raises(DataError, match=rf":1: invalid UTF-8 at byte {MAX_LINE_BYTES + 6} "):
        read_text(written(tmp_path, content))


def test_a_text_that_cannot_be_read_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match=r"missing\.en: cannot be read: No such file"):
        read_text(tmp_path / "missing.en")
    with pytest.raises(StorageError, match=rf"{tmp_path.name}: cannot be read: Is a directory"):
        read_text(tmp_path)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"a",
        b"a\n",
        b"a\nb\nc\nd\ne",
        b"\xef\xbb\xbfa\r\nb\rc\n\n\nd\x0c\xe2\x80\xa8e\n",
        b"x" * (MAX_LINE_BYTES + 5) + b"\ny\nz",
    ],
    ids=["none", "blank", "open", "one", "five", "breaks", "over-long"],
)
def test_blocks_have_the_lines_of_the_file(tmp_path, content, size):
    path = tmp_path / "text"
    path.write_bytes(content)
    blocks = list(line_blocks(path, size))
    assert [
        line for block in blocks for line in read_block(path, block, counts=LineCounts("text"))
    ] == list(read_lines(path))
    assert all(block.lines == size for block in blocks[:-1])
    assert [block.first for block in blocks] == list(range(0, count_lines(path), size))
    assert sum(block.lines for block in blocks) == count_lines(path)


def test_a_fault_in_a_block_is_told_by_its_line_in_the_file(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"a\nb\nc\xff\nd\n")
    block = list(line_blocks(path, 2))[1]
    with pytest.raises(DataError, match=r"text:3: invalid UTF-8 at byte 2 \(0xff\)"):
        list(read_block(path, block, counts=LineCounts(str(path))))
    counts = LineCounts(str(path))
    assert list(read_block(path, block, on_bad_utf8="replace", counts=counts)) == ["c\ufffd", "d"]
    assert counts.bad_utf8 == 1


def test_blocks_of_a_file_that_is_not_there_are_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="nothing: cannot be read: No such file"):
        list(line_blocks(tmp_path / "nothing", 2))
    with pytest.raises(StorageError, match="nothing: cannot be read: No such file"):
        list(read_block(tmp_path / "nothing", LineBlock(0, 1, 0), counts=LineCounts("nothing")))


def test_equal_line_counts_pass_even_if_zero():
    check_line_counts([("a", 0), ("b", 0)])
    with pytest.raises(DataError, match="c: 2 lines, but a has 1"):
        check_line_counts([("a", 1), ("b", 1), ("c", 2)])
