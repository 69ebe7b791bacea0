"""Arrays in a folder, whole or not at all; what faults do to a corpus is in test_corpus.py."""

import hashlib

import numpy as np
import pytest

from seq2seq.array_folder import (
    ArrayFile,
    dtype_of_ids,
    mapped_arrays,
    read_manifest,
    replacing,
    reusable,
    write_manifest,
)
from seq2seq.errors import StorageError, UsageError


def write(folder, **arrays):
    """Writes int32 arrays, each in one piece a list, with a manifest."""
    with replacing(folder, list(arrays)) as temporary:
        about = {}
        for name, pieces in arrays.items():
            with ArrayFile(temporary, name, "<i4") as array:
                for piece in pieces:
                    array.append(piece)
                about[name] = array.finish()
        write_manifest(temporary, {"key": {"format": 1}, "arrays": about, "counts": {"n": 7}})


def counted(folder, *names, key=None):
    """What is counted in `folder`, if it can be used again."""
    return reusable(folder, key or {"format": 1}, names, lambda counts: counts["n"])


def test_arrays_of_another_key_or_form_or_of_no_folder_are_not_used_again(tmp_path):
    assert counted(tmp_path / "f", "a") is None
    write(tmp_path / "f", a=[[1, 2]])
    assert counted(tmp_path / "f", "a") == 7
    assert counted(tmp_path / "f", "a", key={"format": 1, "text": "another"}) is None
    assert counted(tmp_path / "f", "a", key={"format": 2}) is None
    assert counted(tmp_path / "f", "missing") is None
    with pytest.raises(ZeroDivisionError):  # a fault of the program is not taken for damage
        reusable(tmp_path / "f", {"format": 1}, ["a"], lambda counts: counts["n"] / 0)


def test_arrays_are_their_pieces_one_after_the_other(tmp_path):
    write(tmp_path / "f", a=[[1, 2], iter([3]), np.array([4, 5], np.int64)], empty=[[]])
    manifest = read_manifest(tmp_path / "f", form=1)
    arrays = mapped_arrays(tmp_path / "f", manifest, ["a", "empty"])
    assert arrays["a"].tolist() == [1, 2, 3, 4, 5]
    assert (arrays["empty"].tolist(), arrays["empty"].dtype) == ([], np.int32)
    assert counted(tmp_path / "f", "a", "empty") == 7


def test_the_manifest_has_size_and_sum_of_each_array(tmp_path):
    write(tmp_path / "f", a=[[1], [258]])
    content = b"\1\0\0\0\2\1\0\0"
    about = read_manifest(tmp_path / "f", form=1)["arrays"]["a"]
    assert about == {"dtype": "<i4", "bytes": 8, "sha256": hashlib.sha256(content).hexdigest()}


def test_a_changed_byte_is_damage_and_a_missing_one_is_refused(tmp_path):
    write(tmp_path / "f", a=[[1, 2]])
    manifest = read_manifest(tmp_path / "f", form=1)
    (tmp_path / "f" / "a.bin").write_bytes(b"\1\0\0\0\3\0\0\0")
    assert counted(tmp_path / "f", "a") is None
    (tmp_path / "f" / "a.bin").write_bytes(b"\1\0\0\0\2\0\0")
    with pytest.raises(ValueError, match=r"a\.bin has 7 bytes, not 8"):
        mapped_arrays(tmp_path / "f", manifest, ["a"])


def test_a_manifest_of_another_format_is_refused(tmp_path):
    write(tmp_path / "f", a=[[1]])
    with pytest.raises(ValueError, match="format 1, expected 2"):
        read_manifest(tmp_path / "f", form=2)


@pytest.mark.parametrize(("size", "dtype"), [(1, "<u2"), (65_536, "<u2"), (65_537, "<i4")])
def test_ids_get_the_smallest_type_that_they_fit(size, dtype):
    assert dtype_of_ids(size) == dtype


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    write(tmp_path / "f", a=[[1]])
    with pytest.raises(OverflowError):  # while it is written
        write(tmp_path / "f", a=[[2], [1 << 40]])
    assert (tmp_path / "f" / "a.bin").read_bytes() == b"\1\0\0\0"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    write(tmp_path / "f", a=[[2]])
    assert (tmp_path / "f" / "a.bin").read_bytes() == b"\2\0\0\0"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_folder_with_other_things_in_it_stays(tmp_path):
    write(tmp_path / "f", a=[[1]])
    message = r"f: has 'a\.bin' in it, which is not part of an encoded corpus; expected an empty"
    with pytest.raises(UsageError, match=message), replacing(tmp_path / "f", ["b"]):
        pass


def test_what_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written: Not a directory"):
        write(tmp_path / "file" / "f", a=[[1]])
