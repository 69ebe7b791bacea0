"""Ids on disk. The tokenizer here is a scripted one: a character is its code point.

So the expected ids of a text are `[ord(c) for c in text] + [END]`, with no model in between.
"""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from seq2seq import corpus
from seq2seq.config import Config, DataConfig
from seq2seq.corpus import ParallelIds, encode_corpus
from seq2seq.errors import DataError, StorageError, UsageError
from seq2seq.pairs import Pair

END = 3
ZERO_WIDTH = "\u200b"  # no blank to Python, nothing to the scripted tokenizer


class CodePoints:
    """A tokenizer whose ids are code points, and which keeps what it was asked."""

    def __init__(self, fingerprint="code points", vocabulary_size=1 << 16):
        self.vocabulary_size = vocabulary_size
        self.eos_id = END
        self.fingerprint = fingerprint
        self.batches = []

    def encode_batch(self, texts):
        self.batches.append(list(texts))
        return [[ord(c) for c in text if c != ZERO_WIDTH] for text in texts]


class Tokenizers:
    def __init__(self, source=None, target=None):
        self.source = source or CodePoints()
        self.target = target or CodePoints()


def ids_of(text):
    return [ord(c) for c in text] + [END]


def config_of(folder, source, target, **keys):
    paths = {"train_source": folder / "train.en", "train_target": folder / "train.de"}
    for path, text in zip(paths.values(), (source, target), strict=True):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    validation = {"validation_source": paths["train_source"]}
    validation |= {"validation_target": paths["train_target"]}
    files = {key: [path] for key, path in paths.items()}
    return Config(data=DataConfig(**files, **validation, **keys))


def rows_of(ids):
    return [(ids.source(row).tolist(), ids.target(row).tolist()) for row in range(len(ids))]


SOURCE, TARGET = "one\n\nthree\nvier\n", "eins\nzwei\ndrei\nfour, too long\n"


@pytest.fixture
def config(tmp_path):
    return config_of(tmp_path, SOURCE, TARGET, max_source_length=9, max_target_length=9)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "model" / "data"


def nothing_beside(folder):
    return [path.name for path in folder.parent.iterdir()] in ([], [folder.name])


def test_rows_are_the_kept_pairs_in_order_each_side_ended(config, folder):
    counts = encode_corpus(config, Tokenizers(), folder)
    ids = ParallelIds.open(folder)
    assert rows_of(ids) == [(ids_of("one"), ids_of("eins")), (ids_of("three"), ids_of("drei"))]
    assert len(ids) == counts.kept == 2
    assert ids.source_lengths.tolist() == [4, 6]
    assert ids.target_lengths.tolist() == [5, 5]
    assert ids.lines.tolist() == [1, 3]
    assert (counts.read, counts.blank, counts.too_long) == (4, 1, 1)
    assert counts.first_lines == {"blank": [2], "too_long": [4], "bad_utf8": []}
    assert ids.counts == counts
    assert nothing_beside(folder)


def test_lengths_count_the_end_and_the_limit_itself_is_kept(tmp_path, folder):
    config = config_of(tmp_path, "abc\nabcd\nabc\n", "x\nx\nxyz\n", max_source_length=4)
    config = config.model_copy(
        update={"data": config.data.model_copy(update={"max_target_length": 3})}
    )
    counts = encode_corpus(config, Tokenizers(), folder)
    assert rows_of(ParallelIds.open(folder)) == [(ids_of("abc"), ids_of("x"))]
    assert counts.first_lines["too_long"] == [2, 3]


@pytest.mark.parametrize(
    ("vocabulary_size", "character", "bytes_an_id"),
    [(1 << 16, "\uffee", 2), ((1 << 16) + 1, "\uffee", 4), (1 << 20, "🙂", 4)],
)
def test_ids_are_stored_as_small_as_they_fit_and_read_as_int32(
    tmp_path, folder, vocabulary_size, character, bytes_an_id
):
    config = config_of(tmp_path, f"a{character}\n", "x\n")
    encode_corpus(config, Tokenizers(source=CodePoints("wide", vocabulary_size)), folder)
    source = ParallelIds.open(folder).source(0)
    assert source.dtype == np.int32
    assert source.tolist() == ids_of(f"a{character}")
    assert (folder / "source_ids.bin").stat().st_size == 3 * bytes_an_id


def test_arrays_are_mapped_from_the_disk_with_the_types_that_are_promised(config, folder):
    encode_corpus(config, Tokenizers(), folder)
    ids = ParallelIds.open(folder)
    types = (ids.source_lengths.dtype, ids.target_lengths.dtype, ids.lines.dtype)
    assert types == (np.int32, np.int32, np.int64)
    for array in (ids.source_lengths, ids.target_lengths, ids.lines):
        assert isinstance(array.base, np.memmap)


def test_text_that_is_nothing_to_the_tokenizer_is_blank(tmp_path, folder):
    config = config_of(tmp_path, f"a\n{ZERO_WIDTH}\nc\n", "x\ny\nz\n")
    counts = encode_corpus(config, Tokenizers(), folder)
    assert ParallelIds.open(folder).lines.tolist() == [1, 3]
    assert counts.first_lines["blank"] == [2]


def test_the_same_text_on_both_sides_is_counted(tmp_path, folder):
    config = config_of(tmp_path, "a\nb\nc\n", "a\nb\nz\n")
    counts = encode_corpus(config, Tokenizers(), folder)
    assert counts.identical == 2
    assert "2 of 3 pairs" in counts.warnings()[0]


def test_pairs_that_are_there_twice_or_held_out_are_counted_and_kept(tmp_path, folder):
    source, target = "a\nb\na\na\nb\nc\n\n", "1\n2\n1\n3\n2\n3\n\n"
    held_out = [Pair(1, "b", "2"), Pair(2, "c", "3"), Pair(3, "c", "4"), Pair(4, "", "")]
    config = config_of(tmp_path, source, target)
    counts = encode_corpus(config, Tokenizers(), folder, validation=held_out)
    # Lines 3 and 5 are there before; lines 2 (twice) and 6 are held out.
    assert (counts.kept, counts.repeated, counts.leaked) == (6, 2, 2)
    assert counts.summary().endswith("; left out: 1 blank (line 7); repeated: 2")
    warning = (
        "validation pairs that are training pairs as well: 2; so validation scores are too good"
    )
    assert warning in counts.warnings()
    other = encode_corpus(config, Tokenizers(), folder, validation=held_out[:1])
    assert (other.leaked, other.reused) == (1, False)
    assert encode_corpus(config, Tokenizers(), folder, validation=held_out[:1]).reused


def test_equal_ids_have_an_equal_fingerprint(tmp_path, folder):
    found = []
    for source, target in (("a\nb\n", "c\nd\n"), ("a\n\nb\n", "c\n\nd\n"), ("a\nb\n", "c\nD\n")):
        encode_corpus(config_of(tmp_path, source, target), Tokenizers(), folder)
        found.append(ParallelIds.open(folder))
    # A blank pair moves the lines of those after it.
    assert len({each.fingerprint for each in found}) == 3
    encode_corpus(config_of(tmp_path, "a\nb\n\n", "c\nd\n\n"), Tokenizers(), folder)
    assert ParallelIds.open(folder).fingerprint == found[0].fingerprint


def test_a_row_knows_its_place_in_the_files(tmp_path, folder):
    config = config_of(tmp_path, "1\n\n3\n", "i\nii\niii\n")
    more = tmp_path / "more.en"
    more.write_text("4\n5\n")
    data = config.data.model_copy(
        update={
            "train_source": [*config.data.train_source, more],
            "train_target": [*config.data.train_target, more],
        }
    )
    encode_corpus(config.model_copy(update={"data": data}), Tokenizers(), folder)
    ids = ParallelIds.open(folder)
    train = config.data.train_source[0]
    assert ids.location([2, 1, 0]) == f"{train}: lines 1, 3; {more}: line 1"
    assert ids.location([3]) == f"{more}: line 2"
    assert ids.location(range(4)) == f"{train}: lines 1, 3; {more}: lines 1, 2"
    assert ids.lines.tolist() == [1, 3, 4, 5]


def test_chunks_do_not_show_in_the_result(tmp_path, folder, monkeypatch):
    lines = [f"sentence {number}" * (number % 4) for number in range(23)]
    config = config_of(
        tmp_path, "".join(f"{x}\n" for x in lines), "".join(f"{x}\n" for x in reversed(lines))
    )
    whole, parts = Tokenizers(), Tokenizers()
    encode_corpus(config, whole, folder)
    monkeypatch.setattr(corpus, "_CHUNK_PAIRS", 3)
    encode_corpus(config, parts, tmp_path / "parts")
    assert rows_of(ParallelIds.open(tmp_path / "parts")) == rows_of(ParallelIds.open(folder))
    assert (len(whole.source.batches), max(map(len, parts.source.batches))) == (1, 3)


def test_long_lines_close_a_chunk_early(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(corpus, "_CHUNK_CHARACTERS", 10)
    config = config_of(tmp_path, "a\nb\n0123456789\nc\n", "x\nx\nx\nx\n")
    tokenizers = Tokenizers()
    encode_corpus(config, tokenizers, folder)
    assert tokenizers.source.batches == [["a", "b", "0123456789"], ["c"]]


def test_a_second_call_uses_what_is_there(config, folder):
    first = encode_corpus(config, Tokenizers(), folder)
    again = Tokenizers()
    second = encode_corpus(config, again, folder)
    assert again.source.batches == []
    assert (first.reused, second.reused) == (False, True)
    assert second.summary() == first.summary()
    assert second.first_lines == first.first_lines


def test_text_moved_elsewhere_is_the_same_text(config, folder, tmp_path):
    encode_corpus(config, Tokenizers(), folder)
    moved = [path.rename(path.with_suffix(".moved")) for path in config.data.train_source]
    data = config.data.model_copy(update={"train_source": moved})
    assert encode_corpus(config.model_copy(update={"data": data}), Tokenizers(), folder).reused


def changed(config, **keys):
    return config.model_copy(update={"data": config.data.model_copy(update=keys)})


@pytest.mark.parametrize(
    "change",
    [
        {"max_source_length": 5},
        {"max_target_length": 8},
        {"on_bad_utf8": "skip"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_limits_are_encoded_anew(config, folder, change):
    encode_corpus(config, Tokenizers(), folder)
    assert not encode_corpus(changed(config, **change), Tokenizers(), folder).reused


def test_other_text_of_the_same_size_is_encoded_anew(config, folder):
    encode_corpus(config, Tokenizers(), folder)
    config.data.train_source[0].write_text(SOURCE.replace("one", "ONE"))
    counts = encode_corpus(config, Tokenizers(), folder)
    assert not counts.reused
    assert ParallelIds.open(folder).source(0).tolist() == ids_of("ONE")
    assert nothing_beside(folder)


@pytest.mark.parametrize("side", ["source", "target"])
def test_another_tokenizer_is_encoded_anew(config, folder, side):
    encode_corpus(config, Tokenizers(), folder)
    assert not encode_corpus(config, Tokenizers(**{side: CodePoints("other")}), folder).reused


@pytest.mark.parametrize("name", ["source_ids.bin", "target_offsets.bin", "lines.bin"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_corpus_is_encoded_anew(config, folder, name, damage):
    encode_corpus(config, Tokenizers(), folder)
    whole = rows_of(ParallelIds.open(folder))
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    if damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content if damage == "flipped" else content[:-1])
    assert not encode_corpus(config, Tokenizers(), folder).reused
    assert rows_of(ParallelIds.open(folder)) == whole


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"key": {"format": 1}}', "\0"])
def test_a_damaged_manifest_is_encoded_anew_and_not_opened(config, folder, content):
    encode_corpus(config, Tokenizers(), folder)
    (folder / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"data: not a complete encoded corpus \(.*train again"):
        ParallelIds.open(folder)
    assert not encode_corpus(config, Tokenizers(), folder).reused
    assert len(ParallelIds.open(folder)) == 2


def test_opening_tells_what_is_missing(config, folder):
    with pytest.raises(DataError, match=r"data: not a complete encoded corpus .*No such file"):
        ParallelIds.open(folder)
    encode_corpus(config, Tokenizers(), folder)
    with (folder / "source_ids.bin").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(DataError, match=r"source_ids\.bin has 21 bytes, not 20"):
        ParallelIds.open(folder)


def test_a_corpus_of_another_format_is_not_opened(config, folder):
    encode_corpus(config, Tokenizers(), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["key"]["format"] = 99
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="format 99, expected 2"):
        ParallelIds.open(folder)


def test_a_faulty_corpus_leaves_nothing_behind_and_the_old_one_intact(config, folder):
    encode_corpus(config, Tokenizers(), folder)
    whole = rows_of(ParallelIds.open(folder))
    config.data.train_target[0].write_text(TARGET + "one more\n")
    with pytest.raises(DataError, match=r"train\.en: 4 lines, but .*train\.de: 5;"):
        encode_corpus(config, Tokenizers(), folder)
    assert rows_of(ParallelIds.open(folder)) == whole
    assert nothing_beside(folder)


def test_a_corpus_of_which_nothing_is_left_is_refused_with_counts(config, folder):
    short = changed(config, max_source_length=1)
    message = r"0 usable pairs of 4 read: 1 blank \(line 2\), 3 too long \(lines 1, 3, 4\); expec"
    with pytest.raises(DataError, match=message):
        encode_corpus(short, Tokenizers(), folder)
    assert nothing_beside(folder)


def test_an_interrupted_call_leaves_nothing_behind(config, folder):
    class Interrupted(CodePoints):
        def encode_batch(self, texts):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_corpus(config, Tokenizers(target=Interrupted()), folder)
    assert not folder.exists()
    assert nothing_beside(folder)


def test_what_a_killed_call_left_is_cleared_away(config, folder):
    left_over = folder.with_name(".data.tmp-12345")
    left_over.mkdir(parents=True)
    (left_over / "source_ids.bin").write_bytes(b"half")
    unrelated = folder.with_name(".data2.tmp-1")
    unrelated.mkdir()
    encode_corpus(config, Tokenizers(), folder)
    assert not left_over.exists()
    assert unrelated.exists()


def test_a_folder_with_other_things_in_it_is_not_replaced(config, folder):
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"data: has 'thesis\.txt' in it, .*empty or new folder"):
        encode_corpus(config, Tokenizers(), folder)
    assert (folder / "thesis.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_a_storage_error(config, folder):
    folder.parent.write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="data: cannot be written: Not a directory"):
        encode_corpus(config, Tokenizers(), folder)


def test_a_full_disk_is_a_storage_error_and_the_old_corpus_stays(config, folder, monkeypatch):
    encode_corpus(config, Tokenizers(), folder)
    whole = rows_of(ParallelIds.open(folder))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="data: cannot be written: No space left on device"):
        encode_corpus(changed(config, max_source_length=5), Tokenizers(), folder)
    assert rows_of(ParallelIds.open(folder)) == whole
    assert nothing_beside(folder)


def test_all_is_on_the_disk_before_the_folder_gets_its_name(config, folder, monkeypatch):
    events = []
    fsync, rename = os.fsync, Path.rename

    def recorded_fsync(descriptor):
        events.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def recorded_rename(path, target):
        events.append("rename")
        rename(path, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "rename", recorded_rename)
    encode_corpus(config, Tokenizers(), folder)
    *files, itself, renamed, parent = events
    assert set(files) == {path.stat().st_ino for path in folder.iterdir()}
    assert (itself, renamed) == (folder.stat().st_ino, "rename")
    assert parent == folder.parent.stat().st_ino


def test_a_file_that_grows_while_it_is_read_is_refused(config, folder):
    class Growing(CodePoints):
        def encode_batch(self, texts):
            with config.data.train_source[0].open("a") as stream:
                stream.write("late\n")
            return super().encode_batch(texts)

    with pytest.raises(DataError, match=r"train\.en: changed while it was read; run again"):
        encode_corpus(config, Tokenizers(source=Growing()), folder)
    assert not folder.exists()


def test_a_missing_file_is_named(config, folder):
    config.data.train_target[0].unlink()
    with pytest.raises(StorageError, match=r"train\.de: cannot be read: No such file"):
        encode_corpus(config, Tokenizers(), folder)


def test_a_model_folder_may_be_moved_with_its_ids(config, folder, tmp_path):
    encode_corpus(config, Tokenizers(), folder)
    whole = rows_of(ParallelIds.open(folder))
    shutil.move(folder, tmp_path / "elsewhere")
    assert rows_of(ParallelIds.open(tmp_path / "elsewhere")) == whole
