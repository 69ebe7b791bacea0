"""Which pairs come of parallel files. Expected pairs are written out, or zipped by plain Python."""

import os
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.config import DataConfig
from seq2seq.errors import DataError, StorageError, UsageError
from seq2seq.lines import LineCounts
from seq2seq.pairs import (
    Pair,
    PairCounts,
    first_surplus_line,
    read_pairs,
    training_pairs,
    validation_pairs,
)


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def data_of(folder, source, target, **keys):
    """The data section for one file a side, for training and validation alike."""
    source = written(folder, "train.en", source)
    target = written(folder, "train.de", target)
    return DataConfig(
        train_source=[source],
        train_target=[target],
        validation_source=source,
        validation_target=target,
        **keys,
    )


def texts(pairs):
    return [(pair.source, pair.target) for pair in pairs]


def test_pairs_have_the_line_they_are_on(tmp_path):
    source = written(tmp_path, "a.en", "one\ntwo\n\nfour\n")
    target = written(tmp_path, "a.de", "eins\nzwei\ndrei\nvier")
    assert list(read_pairs([source], [target])) == [
        Pair(1, "one", "eins"),
        Pair(2, "two", "zwei"),
        Pair(3, "", "drei"),
        Pair(4, "four", "vier"),
    ]


@pytest.mark.parametrize("last", ["", "\n"], ids=["open", "ended"])
@pytest.mark.parametrize(("sources", "targets"), [(2, 3), (3, 2), (2, 4), (5, 2), (0, 1), (1, 0)])
def test_line_counts_that_differ_are_refused_with_both(tmp_path, sources, targets, last):
    source = written(tmp_path, "a.en", "\n".join("x" * sources) + last * (sources > 0))
    target = written(tmp_path, "a.de", "\n".join("y" * targets) + last * (targets > 0))
    message = rf"a\.en: {sources} lines, but .*a\.de: {targets}; expected"
    with pytest.raises(DataError, match=message):
        list(read_pairs([source], [target]))


# Lengths of lines; the others are their translations, a little longer, but for the surplus.
LENGTHS = [10, 40, 25, 5, 60, 33, 12, 48, 20, 7]


@pytest.mark.parametrize("at", range(len(LENGTHS) + 1))
@pytest.mark.parametrize("surplus", [[90], [2, 80, 15]])
def test_surplus_lines_are_found_by_the_lengths_of_all(at, surplus):
    longer = [length + 2 for length in LENGTHS]
    longer[at:at] = surplus
    one, other = np.array(LENGTHS, float), np.array(longer, float)
    assert first_surplus_line(one, other) == first_surplus_line(other, one) == at + 1


def test_where_lines_seem_to_be_shifted_is_told(tmp_path):
    source = written(tmp_path, "a.en", "".join("x" * length + "\n" for length in LENGTHS))
    kept = LENGTHS[:6] + LENGTHS[7:]
    target = written(tmp_path, "a.de", "".join("y" * length + "\n" for length in kept))
    message = "; by their lengths, lines seem to be shifted from line 7 on$"
    for pair in ((source, target), (target, source)):
        with pytest.raises(DataError, match=message):
            list(read_pairs([pair[0]], [pair[1]]))


@pytest.mark.parametrize(("sources", "targets"), [("1\n2\n", "i\n"), ("1\n", "i\nii\n")])
def test_only_whole_pairs_come_before_line_counts_are_refused(tmp_path, sources, targets):
    pairs = read_pairs([written(tmp_path, "a.en", sources)], [written(tmp_path, "a.de", targets)])
    assert next(pairs) == Pair(1, "1", "i")
    with pytest.raises(DataError, match="expected the translation of line n in line n"):
        next(pairs)


def test_files_of_one_side_follow_on_without_joining_lines(tmp_path):
    sources = [written(tmp_path, "a.en", "1\n2"), written(tmp_path, "b.en", "3\n")]
    target = written(tmp_path, "all.de", "i\nii\niii\n")
    pairs = list(read_pairs(sources, [target]))
    assert pairs == [Pair(1, "1", "i"), Pair(2, "2", "ii"), Pair(3, "3", "iii")]


def test_line_counts_are_checked_file_by_file_where_there_are_as_many(tmp_path):
    sources = [written(tmp_path, "a.en", "1\n2\n"), written(tmp_path, "b.en", "3\n")]
    targets = [written(tmp_path, "a.de", "1\n"), written(tmp_path, "b.de", "2\n3\n")]
    with pytest.raises(DataError, match=r"a\.en: 2 lines, but .*a\.de: 1;"):
        list(read_pairs(sources, targets))


def test_line_numbers_run_on_from_file_to_file(tmp_path):
    sources = [written(tmp_path, "a.en", "1\n2\n"), written(tmp_path, "b.en", "3\n")]
    counts = PairCounts()
    pairs = list(read_pairs(sources, sources, counts=counts))
    assert [pair.line for pair in pairs] == [1, 2, 3]
    assert counts.read == 3
    assert [file.lines for file in counts.source_files] == [2, 1]


def test_a_missing_file_is_named(tmp_path):
    source = written(tmp_path, "a.en", "x\n")
    with pytest.raises(StorageError, match=r"none\.de: cannot be read: No such file"):
        list(read_pairs([source], [tmp_path / "none.de"]))


@pytest.mark.parametrize("separator", ["\r", "\u2028", "\x85", "\v", "\x1e"], ids=ascii)
def test_separators_on_one_side_do_not_shift_the_other(tmp_path, separator):
    source = written(tmp_path, "a.en", f"one{separator}uno\ntwo\n")
    target = written(tmp_path, "a.de", "eins\nzwei\n")
    assert texts(read_pairs([source], [target])) == [("one uno", "eins"), ("two", "zwei")]


def test_a_line_that_is_not_utf8_stops_reading_unless_it_is_skipped(tmp_path):
    source = written(tmp_path, "a.en", b"1\n\xff\n3\n4\n")
    target = written(tmp_path, "a.de", b"i\nii\n\xfe\niv\n")
    with pytest.raises(DataError, match=r"a\.en:2: invalid UTF-8 at byte 1"):
        list(read_pairs([source], [target]))
    counts = PairCounts()
    pairs = read_pairs([source], [target], on_bad_utf8="skip", counts=counts)
    assert list(pairs) == [Pair(1, "1", "i"), Pair(4, "4", "iv")]
    assert (counts.read, counts.bad_utf8, counts.first_lines["bad_utf8"]) == (4, 2, [2, 3])


def test_a_nul_is_refused_even_where_bad_lines_are_skipped(tmp_path):
    source = written(tmp_path, "a.en", b"1\n2\0\n")
    with pytest.raises(DataError, match=r"a\.en:2: NUL at byte 2"):
        list(read_pairs([source], [source], on_bad_utf8="skip"))


def test_blank_on_either_side_or_both_drops_the_pair_and_counts_it(tmp_path):
    source = "a\n\nc\n \u00a0\u3000\t\ne\nf\n\n\n"
    target = "A\nB\n\n\nE\n\r\nG\n\n"
    counts = PairCounts()
    pairs = list(training_pairs(data_of(tmp_path, source, target), counts))
    assert texts(pairs) == [("a", "A"), ("e", "E")]
    assert (counts.read, counts.blank) == (8, 6)
    assert counts.first_lines["blank"] == [2, 3, 4, 6, 7]  # the first five of six


def test_nothing_in_the_files_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"train\.en: 0 usable pairs of 0 read: the files are emp"):
        list(training_pairs(data_of(tmp_path, "", "")))


def test_nothing_left_is_refused_with_the_counts_by_reason(tmp_path):
    data = data_of(tmp_path, b"\n\xff\nx\n", b"y\ny\n\n", on_bad_utf8="skip")
    message = r"0 usable pairs of 3 read: 2 blank \(lines 1, 3\), 1 not UTF-8 \(line 2\); expected"
    with pytest.raises(DataError, match=message):
        list(training_pairs(data))


def test_training_files_must_be_readable_again(tmp_path):
    data = data_of(tmp_path, "x\n", "y\n")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="pipe: not a regular file; training reads it more than"):
        list(training_pairs(data.model_copy(update={"train_target": [pipe]})))
    with pytest.raises(StorageError, match=rf"{tmp_path.name}: cannot be read: Is a directory"):
        list(training_pairs(data.model_copy(update={"train_source": [tmp_path]})))
    with pytest.raises(StorageError, match="none: cannot be read: No such file"):
        list(training_pairs(data.model_copy(update={"train_source": [tmp_path / "none"]})))


def test_validation_keeps_blank_pairs_in_place(tmp_path):
    counts = PairCounts()
    pairs = validation_pairs(data_of(tmp_path, "a\n\nc\n", "A\nB\n\n"), counts)
    assert pairs == [Pair(1, "a", "A"), Pair(2, "", "B"), Pair(3, "c", "")]
    assert (counts.read, counts.kept, counts.blank) == (3, 3, 0)


@pytest.mark.parametrize(("source", "target", "read"), [("", "", 0), ("\n\n", "\n\n", 2)])
def test_validation_without_text_is_a_usage_error(tmp_path, source, target, read):
    message = rf"train\.en: no validation pair has text on both sides \({read} read\); expected at"
    with pytest.raises(UsageError, match=message):
        validation_pairs(data_of(tmp_path, source, target))


def test_the_summary_is_one_line_with_every_count_that_is_not_zero():
    counts = PairCounts(read=20, kept=11)
    for line in (3, 4, 5, 6, 7, 8):
        counts.drop("blank", line)
    counts.drop("too_long", 12)
    counts.drop("bad_utf8", 14)
    counts.drop("bad_utf8", 15)
    counts.source_files = [LineCounts("a", control=2, carriage_returns=1, byte_order_mark=True)]
    counts.target_files = [LineCounts("b", control=1, cut=3)]
    assert counts.summary() == (
        "pairs: 20 read, 11 kept; left out: 6 blank (lines 3, 4, 5, 6, 7, ...), "
        "1 too long (line 12), 2 not UTF-8 (lines 14, 15); cleaned: control characters (3 lines), "
        "CR LF line ends (1 line), byte order mark (1 file), cut at 1048576 bytes (3 lines)"
    )


def test_the_summary_of_clean_files_is_short():
    assert PairCounts(read=2, kept=2).summary() == "pairs: 2 read, 2 kept"


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (PairCounts(read=9, kept=9, identical=5), "same text in 5 of 9 pairs"),
        (PairCounts(read=9, dropped={"bad_utf8": 1, "too_long": 0}), "1 of 9 .*UTF-8.* Latin-1"),
        (PairCounts(read=9, dropped={"bad_utf8": 0, "too_long": 1}), "1 of 9 .*max_source_length"),
        (
            PairCounts(source_files=[LineCounts("big.en", lines=1, size=2_500_000)]),
            r"big\.en: 1 line, 2\.5 MB: expected one sentence a line",
        ),
    ],
)
def test_what_looks_like_a_mistake_is_warned_of(counts, words):
    (warning,) = counts.warnings()
    assert re.search(words, warning)


def test_ordinary_counts_bring_no_warning():
    counts = PairCounts(read=100, kept=80, identical=40)  # half is not over half
    counts.dropped = {"blank": 0, "bad_utf8": 10, "too_long": 10}  # neither is a tenth over one
    counts.source_files = [LineCounts("one.en", lines=1, size=99), LineCounts("a", 9, 10**9)]
    assert counts.warnings() == []
    assert PairCounts().warnings() == []


SIDE = st.lists(st.sampled_from(["", " ", "a", "b\rc", "\u2028", "é"]), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_training_pairs_are_the_lines_with_text_on_both_sides(tmp_path_factory, data):
    sources = data.draw(SIDE)
    targets = data.draw(st.lists(st.sampled_from(["", "x", "\x85", "y z"]), min_size=len(sources)))
    folder = tmp_path_factory.mktemp("pairs")
    section = data_of(
        folder, "".join(f"{s}\n" for s in sources), "".join(f"{t}\n" for t in targets)
    )
    usable = [
        Pair(n, s.replace("\r", " ").replace("\u2028", " "), t.replace("\x85", " "))
        for n, (s, t) in enumerate(zip(sources, targets, strict=False), start=1)
        if s.strip() and t.strip()
    ]
    counts = PairCounts()
    if len(sources) != len(targets):
        with pytest.raises(DataError, match=f"{len(sources)} lines, but .* {len(targets)};"):
            list(training_pairs(section, counts))
    elif not usable:
        with pytest.raises(DataError, match="0 usable pairs"):
            list(training_pairs(section, counts))
    else:
        assert list(training_pairs(section, counts)) == usable
        assert counts.blank == len(sources) - len(usable)
