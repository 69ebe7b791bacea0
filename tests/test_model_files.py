"""Files of a model folder: what is no file of it is refused."""

import os
import re
from pathlib import Path

import pytest

from seq2seq.errors import ModelError
from seq2seq.model_files import LARGEST_RECORD, check_plain, read_record


def test_a_file_of_the_folder_may_be_as_large_as_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    check_plain(path, most_bytes=5)
    with pytest.raises(ModelError, match="file: has 5 bytes, expected at most 4: damaged"):
        check_plain(path, most_bytes=4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.symlink_to("/dev/zero"), "is a symbolic link; expected a file in the"),
        (os.mkfifo, "is no file; expected a file in the model folder itself"),
        (Path.mkdir, "is no file; expected"),
        (lambda path: None, "cannot be read: No such file or directory"),
    ],
)
def test_what_is_no_file_of_the_folder_is_refused(tmp_path: Path, make, message) -> None:
    make(tmp_path / "file")
    with pytest.raises(ModelError, match=f"{re.escape(str(tmp_path))}/file: {message}"):
        check_plain(tmp_path / "file", most_bytes=1)


def test_a_record_is_read_and_one_that_is_none_is_not(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text('{"a": [1, "ü"]}', encoding="utf-8")
    assert read_record(path) == {"a": [1, "ü"]}
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deep"):
        read_record(path)
    os.truncate(path, LARGEST_RECORD + 1)
    with pytest.raises(ModelError, match="expected at most 1,048,576"):
        read_record(path)
