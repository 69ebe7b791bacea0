from fractions import Fraction

import numpy as np
import pytest

from seq2seq.config import DecodingConfig
from seq2seq.errors import UsageError
from seq2seq.search_options import Sampling, search_options


def test_greatest_length_grows_with_the_source():
    decoding = DecodingConfig(max_length_ratio=1.5, max_length_offset=2)
    options = search_options(decoding)
    assert [options.most_pieces(pieces) for pieces in (1, 2, 3)] == [3, 5, 6]
    assert search_options(decoding, max_length=4).most_pieces(100) == 4
    assert search_options(decoding, max_length=50).most_pieces(3) == 50
    nothing = DecodingConfig(max_length_ratio=0.0, max_length_offset=0)
    assert search_options(nothing).most_pieces(7) == 1


def test_greatest_length_has_room_for_the_prefix_and_one_piece_more():
    options = search_options(DecodingConfig(), max_length=4)
    assert [options.most_pieces(9, prefix) for prefix in (0, 3, 4, 7)] == [4, 4, 5, 8]


def test_least_length_is_the_greater_of_both():
    options = search_options(DecodingConfig(), min_length=3, min_length_ratio=0.5)
    assert [options.fewest_pieces(pieces) for pieces in (1, 6, 7)] == [3, 3, 4]
    assert options.has_least_length
    assert not search_options(DecodingConfig(), min_length=1).has_least_length


def test_of_two_greatest_lengths_the_lesser_holds():
    options = search_options(
        DecodingConfig(max_length_offset=2), max_length=6, max_length_ratio=1.5
    )
    assert [options.most_pieces(pieces) for pieces in (1, 2, 3)] == [3, 5, 6]


@pytest.mark.parametrize("given", [{}, {"max_length_ratio": 1.0}])
def test_there_is_room_for_the_least_length_that_is_asked_for(given):
    decoding = DecodingConfig(max_length_ratio=1.0, max_length_offset=2)
    options = search_options(decoding, min_length=5, min_length_ratio=2.0, **given)
    assert [options.fewest_pieces(pieces) for pieces in (1, 3, 9)] == [5, 6, 18]
    assert [options.most_pieces(pieces) for pieces in (1, 3, 9)] == [5, 6, 18]


@pytest.mark.parametrize("ratio", [1e9, 1e37])
def test_no_length_is_beyond_what_there_is_room_for(ratio):
    least = search_options(DecodingConfig(), min_length_ratio=ratio)
    assert (least.fewest_pieces(9), least.most_pieces(9)) == (10_000, 10_000)
    assert search_options(DecodingConfig(), max_length_ratio=ratio).most_pieces(9) == 10_000


def test_no_least_length_is_above_the_greatest_one():
    options = search_options(DecodingConfig(), max_length=7, min_length_ratio=2.0)
    assert [options.fewest_pieces(pieces) for pieces in (3, 4)] == [6, 7]
    assert [options.most_pieces(pieces) for pieces in (3, 4)] == [7, 7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "beam size: got 0, expected a whole number of 1 or more"),
        ({"beam_size": 2.0}, "beam size: got 2.0, expected a whole number"),
        ({"beam_size": True}, "beam size: got True, expected a whole number"),
        ({"n_best": 0}, "n-best: got 0, expected a whole number of 1 or more"),
        ({"n_best": 6}, "n-best: got 6 hypotheses, but a beam of 5 finds no more than that"),
        ({"n_best": 2, "sampling": Sampling()}, "n-best: got 2 hypotheses, but a sample is one"),
        ({"beam_size": 2, "sampling": Sampling()}, "sampling has no beam: give a beam size or"),
        ({"batch_size": 0}, "batch size: got 0, expected a whole number of 1 or more"),
        ({"max_length": 0}, "max length: got 0, expected a whole number of 1 or more"),
        ({"max_length": 10**9}, "max length: got 1000000000, expected at most 10000"),
        ({"min_length": -1}, "min length: got -1, expected a whole number of 0 or more"),
        ({"min_length": 10**9}, "min length: got 1000000000, expected at most 10000"),
        ({"min_length": 5, "max_length": 4}, "min length: got 5, more than the max length 4"),
        ({"min_length_ratio": -1}, "min length ratio: got -1, expected a number of 0 or more"),
        ({"max_length_ratio": -1}, "max length ratio: got -1, expected a number of 0 or more"),
        ({"no_repeat_ngram": -1}, "no-repeat n-gram: got -1, expected a whole number of 0 or"),
        ({"repetition_penalty": 1e-46}, "repetition penalty: got 1e-46, expected a number above 0"),
        (
            {"length_penalty": 1e39},
            r"length penalty: got 1e\+39, expected a number of 0 or more, a",
        ),
        ({"repetition_penalty": 0.0}, r"repetition penalty: got 0\.0, expected a number above 0"),
        ({"coverage_penalty": -1.0}, r"coverage penalty: got -1\.0, expected a number of 0"),
        ({"coverage_penalty": 0.2, "beam_size": 1}, "coverage penalty: it ranks the hypotheses of"),
        ({"length_formula": "wu"}, "length formula: got 'wu', expected gnmt or power"),
        ({"batch_tokens": 0}, "batch tokens: got 0, expected a whole number of 1 or more"),
        ({"length_penalty": -0.1}, "length penalty: got -0.1, expected a number of 0 or more"),
        ({"length_penalty": float("nan")}, "length penalty: got nan, expected a number of 0"),
        ({"length_penalty": float("inf")}, "length penalty: got inf, expected a number of 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        search_options(DecodingConfig(beam_size=5), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, r"temperature: got 0\.0, expected a number above 0"),
        ({"temperature": -1.0}, r"temperature: got -1\.0, expected a number above 0"),
        ({"temperature": float("nan")}, "temperature: got nan, expected a number above 0"),
        ({"temperature": 1e39}, r"temperature: got 1e\+39, expected a number above 0, at most 1e"),
        ({"temperature": float("inf")}, "temperature: got inf, expected a number above 0"),
        ({"top_p": 0.0}, r"top-p: got 0\.0, expected a number above 0, at most 1"),
        ({"top_p": 1.1}, r"top-p: got 1\.1, expected a number above 0, at most 1"),
        ({"top_p": float("nan")}, "top-p: got nan, expected a number above 0, at most 1"),
        ({"top_k": -1}, "top-k: got -1, expected a whole number of 0 or more"),
        ({"seed": -1}, "seed: got -1, expected a whole number of 0 or more"),
        ({"seed": 2**63}, "seed: got 9223372036854775808, expected less than 2"),
    ],
)
def test_sampling_out_of_range_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Sampling(**options)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"beam_size": 1}, 320),
        ({"beam_size": 5}, 64),
        ({"beam_size": 1000}, 1),
        ({"sampling": Sampling()}, 320),
        ({"beam_size": 5, "batch_size": 7}, 7),
    ],
)
def test_a_batch_has_about_as_many_hypotheses_whatever_the_beam(options, size):
    assert search_options(DecodingConfig(), **options).batch_size == size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length_penalty": "1"}, "length penalty: got '1', expected a number of 0 or more"),
        ({"max_length_ratio": "2"}, "max length ratio: got '2', expected a number"),
        ({"coverage_penalty": None}, None),
        ({"repetition_penalty": [1]}, r"repetition penalty: got \[1\], expected a number above 0"),
        ({"sampling": {"temperature": 1.0}}, "sampling: got .*, expected Sampling"),
        ({"sampling": True}, "sampling: got True, expected Sampling"),
    ],
)
def test_values_of_a_wrong_type_are_told(options, message):
    if message is None:
        assert search_options(DecodingConfig(), **options).coverage_penalty == 0.0
        return
    with pytest.raises(UsageError, match=message):
        search_options(DecodingConfig(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": "1"}, "temperature: got '1', expected a number above 0"),
        ({"top_p": None}, "top-p: got None, expected a number above 0, at most 1"),
        ({"top_k": 1.0}, "top-k: got 1.0, expected a whole number of 0 or more"),
    ],
)
def test_samplings_of_a_wrong_type_are_told(options, message):
    with pytest.raises(UsageError, match=message):
        Sampling(**options)


def test_numbers_of_numpy_are_numbers():
    options = search_options(
        DecodingConfig(), beam_size=np.int64(3), length_penalty=np.float32(0.5)
    )
    assert (options.beam_size, options.length_penalty) == (3, 0.5)


def test_numbers_of_sampling_become_those_of_python():
    sampling = Sampling(
        temperature=Fraction(1, 2), top_p=np.float64(0.5), top_k=np.int64(3), seed=np.int32(7)
    )
    assert sampling == Sampling(temperature=0.5, top_p=0.5, top_k=3, seed=7)
    kinds = [type(getattr(sampling, name)) for name in ("temperature", "top_p", "top_k", "seed")]
    assert kinds == [float, float, int, int]


@pytest.mark.parametrize(
    ("options", "way"),
    [({"beam_size": 1}, "give a beam size of 2"), ({"sampling": Sampling()}, "do not sample")],
)
def test_what_needs_a_beam_says_how_to_get_one(options, way):
    with pytest.raises(UsageError, match=f"coverage penalty: .* {way}"):
        search_options(DecodingConfig(), coverage_penalty=0.2, **options)
    with pytest.raises(UsageError, match=f"constraints: .* {way}"):
        search_options(DecodingConfig(), **options).check_can_constrain()


def test_ratios_are_not_rounded_past_a_whole_number():
    options = search_options(DecodingConfig(), min_length_ratio=1.1, max_length_ratio=2.3)
    assert 1.1 * 50 > 55
    assert options.fewest_pieces(50) == 55
    assert 2.3 * 50 + 10 < 125
    assert options.most_pieces(50) == 125


def test_banned_pieces_that_are_none_are_refused():
    with pytest.raises(UsageError, match=r"^banned: got 5, expected a list of pieces"):
        search_options(DecodingConfig(), banned=5)


def test_banned_pieces_may_be_an_array():
    assert search_options(DecodingConfig(), banned=np.array(["a", "b"])).banned == ("a", "b")
