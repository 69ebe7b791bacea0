"""Parts, ids on disk and windows. Ids are those of a scripted tokenizer: code points, or counted.

What a window must hold is written out, or found by a plain loop over the text.
"""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.config import TextDataConfig
from seq2seq.errors import DataError, StorageError, UsageError
from seq2seq.text_corpus import (
    PartCounts,
    TextCounts,
    TextIds,
    TextParts,
    Windows,
    covering,
    encode_text,
    split_text,
)

PARTS = TextParts("abc abc\n", "ab?d!\n?", "")


class CodePoints:
    """A tokenizer whose ids are code points, but that knows no punctuation."""

    unknown_id = 0
    newline_id = 10

    def __init__(self, fingerprint="code points", vocabulary_size=1 << 16):
        self.vocabulary_size = vocabulary_size
        self.fingerprint = fingerprint
        self.encoded = []

    def encode(self, text):
        self.encoded.append(text)
        return np.array([0 if c in "?!" else ord(c) for c in text], np.int32)

    def decode(self, ids):
        return "".join(chr(number or 0xFFFD) for number in ids)

    def unknown(self, text):
        return [c for c in dict.fromkeys(text) if c in "?!"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "model" / "data"


def data_of(tmp_path, text, **keys):
    """A `[data]` section; texts are written to files."""
    for name, content in {"text": text, **keys}.items():
        if isinstance(content, str):
            path = tmp_path / f"{name}.txt"
            path.write_bytes(content.encode())
            keys[name] = [path] if name == "text" else path
    return TextDataConfig(**keys)


# Parts.


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((0.0, 0.0), ("0123456789", "", "")),
        ((0.1, 0.0), ("012345678", "9", "")),
        ((0.0, 0.2), ("01234567", "", "89")),
        ((0.3, 0.3), ("0123", "456", "789")),  # in floats, 1 - 0.3 - 0.3 is less than 0.4
        ((0.15, 0.15), ("0123456", "7", "89")),  # 10 * 0.7 and 10 * 0.85
        ((0.01, 0.0), ("012345678", "9", "")),
    ],
)
def test_a_text_is_cut_by_position(tmp_path, shares, expected):
    validation_share, test_share = shares
    data = data_of(tmp_path, "0123456789", validation_share=validation_share, test_share=test_share)
    assert split_text(data) == expected


@pytest.mark.parametrize("characters", [1_985_223, 1_115_394])
def test_the_last_tenth_begins_where_others_have_it_begin(tmp_path, characters):
    text = "x" * characters
    assert len(split_text(data_of(tmp_path, text)).training) == int(0.9 * characters)


def test_validation_text_in_a_file_takes_nothing_from_the_text(tmp_path):
    data = data_of(tmp_path, "0123456789", validation_text="val\r\n", test_share=0.2)
    assert split_text(data) == ("01234567", "val\r\n", "89")


def test_files_follow_on_with_nothing_in_between(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\tb")
    (tmp_path / "b.txt").write_bytes(b"c\r\n")
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    assert split_text(TextDataConfig(text=files, validation_share=0.0)).training == "a\tbc\r\n"


@pytest.mark.parametrize("text", ["", "x"])
def test_nothing_to_train_on_is_a_data_error(tmp_path, text):
    message = rf"text\.txt: {len(text)} characters, of which 0 are left to train on; expected a lon"
    with pytest.raises(DataError, match=message):
        split_text(data_of(tmp_path, text))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"validation_text": ""}, "validation_text"),
        ({"validation_text": "\ufeff"}, "validation_text"),
        # int(10 * 0.9) = 9 and int(10 * 0.95) = 9: the test text has the only character left.
        ({"validation_share": 0.05, "test_share": 0.05}, "validation_share"),
    ],
)
def test_a_validation_text_that_is_asked_for_is_not_empty(tmp_path, options, key):
    with pytest.raises(UsageError, match=rf"data\.{key}: there is nothing to validate with; exp"):
        split_text(data_of(tmp_path, "0123456789", **options))


def test_what_cannot_be_read_is_named(tmp_path):
    data = data_of(tmp_path, "abc", validation_text=tmp_path / "none.txt")
    with pytest.raises(StorageError, match=r"none\.txt: cannot be read: No such file"):
        split_text(data)
    with pytest.raises(DataError, match=r"text\.txt:2: NUL at byte 1"):
        split_text(data_of(tmp_path, "a\n\0"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe: not a regular file; training reads it more than"):
        split_text(TextDataConfig(text=[tmp_path / "pipe"]))


# Ids on disk.


def test_ids_are_those_of_each_part(folder):
    encode_text(PARTS, CodePoints(), folder)
    ids = TextIds.open(folder)
    assert ids.training.tolist() == [ord(c) for c in PARTS.training]
    assert ids.validation.tolist() == [97, 98, 0, 100, 0, 10, 0]
    assert ids.test.shape == (0,)


def test_unknown_symbols_are_counted_part_by_part(folder):
    counts = encode_text(PARTS, CodePoints(), folder)
    assert counts == TextCounts(
        training=PartCounts(8, 8, 0, ()),
        validation=PartCounts(7, 7, 3, ("?", "!")),
        test=PartCounts(0, 0, 0, ()),
    )
    assert TextIds.open(folder).counts == counts


@pytest.mark.parametrize(("size", "dtype"), [(1 << 16, np.uint16), ((1 << 16) + 1, np.int32)])
def test_ids_are_stored_as_small_as_they_fit(folder, size, dtype):
    encode_text(PARTS, CodePoints(vocabulary_size=size), folder)
    ids = TextIds.open(folder)
    assert {ids.training.dtype, ids.validation.dtype, ids.test.dtype} == {np.dtype(dtype)}
    assert isinstance(ids.training.base, np.memmap)  # nothing is loaded


def test_a_second_call_uses_what_is_there(folder):
    first = encode_text(PARTS, CodePoints(), folder)
    tokenizer = CodePoints()
    second = encode_text(PARTS, tokenizer, folder)
    assert tokenizer.encoded == []
    assert (first.reused, second.reused) == (False, True)
    assert second.validation == first.validation


@pytest.mark.parametrize(
    "parts",
    [
        PARTS._replace(training="abc abd\n"),
        PARTS._replace(validation=""),
        PARTS._replace(test="x"),
        TextParts(PARTS.training + "a", PARTS.validation[1:], ""),  # the same text cut elsewhere
    ],
)
def test_other_parts_are_encoded_anew(folder, parts):
    encode_text(PARTS, CodePoints(), folder)
    assert not encode_text(parts, CodePoints(), folder).reused
    assert len(TextIds.open(folder).training) == len(parts.training)


def test_another_tokenizer_encodes_anew(folder):
    encode_text(PARTS, CodePoints(), folder)
    assert not encode_text(PARTS, CodePoints("another"), folder).reused


@pytest.mark.parametrize("name", ["training.bin", "validation.bin", "manifest.json"])
@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:-1], lambda b: b"\0" + b[1:]])
def test_damaged_ids_are_encoded_anew(folder, name, damage):
    encode_text(PARTS, CodePoints(), folder)
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    assert not encode_text(PARTS, CodePoints(), folder).reused
    assert TextIds.open(folder).training.tolist() == [ord(c) for c in PARTS.training]


@pytest.mark.parametrize("name", ["manifest.json", "test.bin"])
def test_a_pipe_in_the_place_of_a_file_is_not_read(folder, name):
    encode_text(PARTS, CodePoints(), folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(DataError, match=rf"{name}: is no file; expected a file in the model"):
        TextIds.open(folder, verified=["test"])
    assert not encode_text(PARTS, CodePoints(), folder).reused
    assert TextIds.open(folder, verified=["test"]).test.tolist() == [ord(c) for c in PARTS.test]


def test_brackets_nested_too_deep_are_no_manifest(folder):
    encode_text(PARTS, CodePoints(), folder)
    (folder / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="data: not a complete encoded text"):
        TextIds.open(folder)


def test_opening_tells_what_is_missing(folder):
    message = "data: not a complete encoded text .*; delete it and train again"
    with pytest.raises(DataError, match=message):
        TextIds.open(folder)
    encode_text(PARTS, CodePoints(), folder)
    ids = bytearray((folder / "training.bin").read_bytes())
    ids[0] ^= 1
    (folder / "training.bin").write_bytes(ids)
    TextIds.open(folder, verified=["validation"])
    with pytest.raises(DataError, match=r"data: not a complete encoded text \(other bytes than"):
        TextIds.open(folder, verified=["training"])
    (folder / "validation.bin").write_bytes(b"x")
    with pytest.raises(DataError, match=r"validation\.bin has 1 bytes, not 14"):
        TextIds.open(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["key"]["format"] = 99
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="format 99, expected 1"):
        TextIds.open(folder)


def test_a_faulty_call_leaves_the_old_ids_and_nothing_beside_them(folder):
    encode_text(PARTS, CodePoints(), folder)

    class Failing(CodePoints):
        def encode(self, text):
            raise DataError("no")

    with pytest.raises(DataError, match="no"):
        encode_text(PARTS, Failing("failing"), folder)
    assert [path.name for path in folder.parent.iterdir()] == ["data"]
    assert encode_text(PARTS, CodePoints(), folder).reused


def test_a_model_folder_may_be_moved_with_its_ids(folder, tmp_path):
    encode_text(PARTS, CodePoints(), folder)
    shutil.move(folder.parent, tmp_path / "elsewhere")
    assert len(TextIds.open(tmp_path / "elsewhere" / "data").training) == 8


def test_a_folder_with_other_things_in_it_is_not_replaced(folder):
    folder.mkdir(parents=True)
    (folder / "diary.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"data: has 'diary\.txt' in it, which is not part of an"):
        encode_text(PARTS, CodePoints(), folder)
    assert (folder / "diary.txt").read_text() == "mine"


# Windows.


def test_the_windows_of_thirteen_symbols():
    windows = Windows(np.arange(13, dtype=np.uint16), 2, 3)
    assert windows.steps == 2
    assert windows.window(0).inputs.tolist() == [[0, 1, 2], [6, 7, 8]]
    assert windows.window(0).targets.tolist() == [[1, 2, 3], [7, 8, 9]]
    assert windows.window(1).inputs.tolist() == [[3, 4, 5], [9, 10, 11]]
    assert windows.window(1).targets.tolist() == [[4, 5, 6], [10, 11, 12]]
    assert Windows(np.arange(12), 2, 3).steps == 1  # the target of the last input is missing


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 70))
def test_rows_follow_on_and_only_an_incomplete_window_is_left(rows, length, more):
    ids = np.arange(rows * length + 1 + more, dtype=np.uint16)
    windows = Windows(ids, rows, length)
    inputs = np.concatenate([windows.window(k).inputs for k in range(windows.steps)], axis=1)
    targets = np.concatenate([windows.window(k).targets for k in range(windows.steps)], axis=1)
    used = rows * length * windows.steps
    # Read row after row, it is the text; each symbol's target is the next one.
    assert inputs.reshape(-1).tolist() == list(range(used))
    assert targets.tolist() == (inputs + 1).tolist()
    assert 0 <= len(ids) - 1 - used < rows * length
    assert windows.unread == len(ids) - 1 - used


def test_windows_are_arrays_of_their_own_that_tensorflow_takes():
    ids = np.arange(13, dtype=np.uint16)
    window = Windows(ids, 2, 3).window(0)
    for array in window:
        assert array.dtype == np.int32
        assert array.flags.c_contiguous
        array += 1
    assert ids.tolist() == list(range(13))


def test_the_published_run_has_198_windows_of_100_by_100():
    assert Windows(np.zeros(1_985_223, np.uint16), 100, 100).steps == 198


def test_a_text_too_short_for_a_window_is_refused_with_what_to_lower():
    assert Windows(np.arange(10_001), 100, 100).steps == 1
    message = (
        r"the training text has 10,000 symbols, but 10,001 are needed for one window of 100 rows "
        r"of 100; lower training\.batch_size or training\.window, or train on more text$"
    )
    with pytest.raises(DataError, match=message):
        Windows(np.arange(10_000), 100, 100)


@pytest.mark.parametrize("step", [-1, 2])
def test_a_step_that_is_not_there_is_refused(step):
    with pytest.raises(UsageError, match=rf"step: got {step}, expected 0 to 1$"):
        Windows(np.arange(13), 2, 3).window(step)


# Scoring.


def test_scoring_windows_of_nine_symbols_in_three_rows():
    # Targets 1 to 8 in rows of three: the last row has but two.
    first, second = covering(np.arange(9, dtype=np.uint16), 3, 2)
    assert first.inputs.tolist() == [[0, 1], [3, 4], [6, 7]]
    assert first.targets.tolist() == [[1, 2], [4, 5], [7, 8]]
    assert first.lengths.tolist() == [2, 2, 2]
    assert second.targets[:2].tolist() == [[3], [6]]
    assert second.lengths.tolist() == [1, 1, 0]
    assert {array.dtype for array in (*first, *second)} == {np.dtype(np.int32)}


@given(st.integers(2, 60), st.integers(1, 8), st.integers(1, 9))
def test_every_symbol_but_the_first_is_a_target_once_after_the_one_before(symbols, rows, length):
    ids = np.arange(100, 100 + symbols, dtype=np.uint16)
    found, latest = [], {}
    windows = list(covering(ids, rows, length))
    for window in windows:
        assert window.inputs.shape == window.targets.shape == (len(window.lengths), length) or (
            window is windows[-1]
        )
        for row, real in enumerate(window.lengths):
            inputs, targets = (
                window.inputs[row, :real].tolist(),
                window.targets[row, :real].tolist(),
            )
            assert [number + 1 for number in inputs] == targets
            if real:
                assert inputs[0] == latest.get(row, inputs[0])
                latest[row] = targets[-1]  # where the next window goes on
            found += targets
    assert sorted(found) == list(range(101, 100 + symbols))
    assert len(windows[0].lengths) == min(rows, symbols - 1)


def test_one_row_is_one_pass_over_the_text():
    windows = list(covering(np.arange(8), 1, 3))
    assert [window.inputs.tolist() for window in windows] == [[[0, 1, 2]], [[3, 4, 5]], [[6]]]
    assert [window.lengths.tolist() for window in windows] == [[3], [3], [1]]


@pytest.mark.parametrize("symbols", [0, 1])
def test_a_text_with_nothing_to_predict_is_refused_at_once(symbols):
    message = f"a text of {symbols} symbols has none to predict; expected at least 2 of them"
    with pytest.raises(DataError, match=message):
        covering(np.zeros(symbols, np.int32), 1, 3)
