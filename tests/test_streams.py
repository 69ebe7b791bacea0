import errno
import io
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seq2seq import streams
from seq2seq.errors import StorageError, UsageError
from seq2seq.streams import LineInput, LineOutput, opened_output, standard_output, write_new


@pytest.fixture
def pipe():
    """(read end, write end); what a test leaves open is closed."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_lines_end_at_line_feeds_only(pipe):
    os.write(pipe[1], b"one\r\ntwo\x0bthree\n\nlast")
    os.close(pipe[1])
    assert list(LineInput(pipe[0]).lines()) == ["one", "two three", "", "last"]


def test_readline_gives_no_more_than_the_limit(pipe):
    os.write(pipe[1], b"abcdef\ngh\n")
    stream = LineInput(pipe[0])
    assert [stream.readline(4), stream.readline(4), stream.readline(4)] == [
        b"abcd",
        b"ef\n",
        b"gh\n",
    ]


def test_lines_longer_than_a_chunk_arrive_whole(pipe):
    line = b"x" * 200_000 + b"\n"
    writer = threading.Thread(target=lambda: (os.write(pipe[1], line + line), os.close(pipe[1])))
    writer.start()
    stream = LineInput(pipe[0])
    assert stream.readline() == line
    assert stream.readline() == line
    assert stream.readline() == b""
    writer.join()


def test_a_line_is_ready_only_when_all_of_it_is_there(pipe):
    stream = LineInput(pipe[0])
    assert not stream.line_ready()
    os.write(pipe[1], b"half")
    assert not stream.line_ready()
    os.write(pipe[1], b" a line\nand ")
    assert stream.line_ready()
    assert stream.readline() == b"half a line\n"
    assert not stream.line_ready()


def test_at_the_end_of_the_input_nothing_is_waited_for(pipe):
    os.write(pipe[1], b"no line feed")
    os.close(pipe[1])
    stream = LineInput(pipe[0])
    assert stream.line_ready()
    assert stream.readline() == b"no line feed"
    assert stream.line_ready()
    assert stream.readline() == b""


def test_of_a_line_without_end_no_more_is_read_than_is_kept(pipe, monkeypatch):
    monkeypatch.setattr(streams, "MAX_LINE_BYTES", 3 * streams._CHUNK)
    stream = LineInput(pipe[0])
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(os.write, pipe[1], b"x" * (8 * streams._CHUNK))
        assert stream.line_ready()
        assert len(stream._buffer) < 4 * streams._CHUNK
        assert len(stream.readline(8 * streams._CHUNK)) == writing.result()


def test_an_input_that_does_not_block_is_waited_for(pipe):
    os.set_blocking(pipe[0], False)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(LineInput(pipe[0]).readline)
        time.sleep(0.05)
        os.write(pipe[1], b"late\n")
        assert reading.result() == b"late\n"


def test_lines_of_a_regular_file_are_always_ready(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"one\ntwo\n")
    with path.open("rb") as file:
        stream = LineInput(file.fileno())
        assert stream.line_ready()
        assert list(stream.lines()) == ["one", "two"]


def test_input_that_cannot_be_read_is_an_error():
    descriptor = os.open("/", os.O_RDONLY)
    try:
        with pytest.raises(StorageError, match="standard input: cannot be read: Is a directory"):
            list(LineInput(descriptor).lines())
    finally:
        os.close(descriptor)


def test_standard_output_is_utf8_whatever_its_text_layer_is(monkeypatch, tmp_path):
    path = tmp_path / "out.txt"
    with path.open("w", encoding="ascii", newline="\r\n") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        standard_output().write("Größe\n")
        assert path.read_bytes() == "Größe\n".encode()  # there before the stream is closed


@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_pipe_that_does_not_block_gets_all_of_it(buffering):
    text = "".join(f"line {i} of many\n" for i in range(20_000))
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with (
        ThreadPoolExecutor(1) as pool,
        os.fdopen(reading, "rb") as source,
        os.fdopen(writing, "wb", buffering=buffering) as stream,
    ):
        written = pool.submit(LineOutput(stream, "out").write, text)
        time.sleep(0.05)  # it is full by now
        received = source.read(len(text))
        written.result(10)
    assert received == text.encode()


class Terminal(io.BytesIO):
    def isatty(self):
        return True


def test_text_is_data_but_on_a_terminal_where_it_could_be_a_command():
    text = "one\x1b]0;owned\x07\ttwo\n"
    written = []
    for kind in (io.BytesIO, Terminal):
        stream = kind()
        LineOutput(stream, "out").write(text)
        written.append(stream.getvalue().decode())
    assert written == [text, "one\\x1b]0;owned\\x07\ttwo\n"]


def test_closed_standard_output_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(StorageError, match="standard output: cannot be written: it is closed"):
        standard_output()


def test_file_names_that_are_not_utf8_come_out_as_they_went_in(tmp_path):
    path = tmp_path / "out.txt"
    with path.open("wb") as stream:
        LineOutput(stream, "out").write(os.fsdecode(b"caf\xe9\n"))
    assert path.read_bytes() == b"caf\xe9\n"


def test_an_output_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "out.txt"
    with opened_output(path) as output:
        output.write("one\n")
        assert not path.exists()
        output.write("two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_fails_leaves_nothing_behind(tmp_path):
    def fail():
        with opened_output(tmp_path / "out.txt") as output:
            output.write("one\n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_output_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "other.txt").touch()
    with opened_output(tmp_path / "out.txt") as output:
        output.write("one\n")
    modes = [(tmp_path / name).stat().st_mode for name in ("out.txt", "other.txt")]
    assert modes[0] == modes[1]


def test_existing_files_and_folders_are_not_replaced(tmp_path):
    path = tmp_path / "out.txt"
    path.write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"out\.txt: exists already; delete it or choose another"):
        opened_output(path).__enter__()
    with pytest.raises(UsageError, match="is a folder; expected the name of a file to write"):
        opened_output(tmp_path).__enter__()
    assert path.read_bytes() == b"precious"


def test_a_missing_folder_is_an_error_that_names_the_output(tmp_path):
    with pytest.raises(StorageError, match=r"no/out\.txt: cannot be written: No such file"):
        opened_output(tmp_path / "no" / "out.txt").__enter__()


def test_a_device_is_written_directly():
    with opened_output(Path("/dev/null")) as output:
        output.write("one\n")
    assert Path("/dev/null").is_char_device()


def test_a_full_disk_is_an_error_that_names_the_output():
    with (
        pytest.raises(StorageError, match="/dev/full: cannot be written: No space left on device"),
        opened_output(Path("/dev/full")) as output,
    ):
        output.write("one\n")


def test_a_reader_that_left_is_no_storage_error(pipe):
    os.close(pipe[0])
    stream = os.fdopen(os.dup(pipe[1]), "wb", buffering=0)
    with stream, pytest.raises(BrokenPipeError):
        LineOutput(stream, "out").write("one\n")


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    write_new(path, b"whole")
    assert path.read_bytes() == b"whole"
    with pytest.raises(UsageError, match=r"picture\.png: exists already"):
        write_new(path, b"another")
    with pytest.raises(StorageError, match=r"no/x: cannot be written: No such file"):
        write_new(tmp_path / "no" / "x", b"")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="second: cannot be written: No space left on device"):
        write_new(tmp_path / "second", b"half")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"whole"


@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
def test_what_is_no_file_is_written_and_stays_what_it_is(tmp_path, kind):
    path, read = tmp_path / "out", []
    if kind == "pipe":
        os.mkfifo(path)
        reader = threading.Thread(target=lambda: read.append(path.read_bytes()), daemon=True)
        reader.start()
    else:
        path.symlink_to("/dev/null")
    write_new(path, b"all of it")
    assert not path.is_file()
    if kind == "pipe":
        reader.join(timeout=10)
        assert read == [b"all of it"]
