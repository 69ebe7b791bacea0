"""A language model's texts and scores against NumPy on its saved weights."""

import math

import numpy as np
import pytest
import tensorflow as tf
from language_model_fixtures import TEXT, expected_log_probs

from seq2seq import LanguageModel, generator, lstm
from seq2seq.checkpoint import load_best_weights
from seq2seq.errors import ModelError, NotANumberError, UsageError
from seq2seq.search_options import Sampling

SENTENCE = "the small cat\nruns in ä park"


@pytest.fixture
def weights(language_model_folder):
    return load_best_weights(language_model_folder)


def after_newline(model, text):
    return np.array([model.tokenizer.newline_id, *model.tokenizer.encode(text)])


def expected_of(model, weights, text):
    """The log-probability of each symbol of `text`, the first after a newline."""
    ids = after_newline(model, text)
    return expected_log_probs(weights, ids)[np.arange(len(ids) - 1), ids[1:]]


# --- scores ---------------------------------------------------------------------------------------


def test_log_probs_are_those_of_numpy_on_the_saved_weights(language_model, weights):
    expected = expected_of(language_model, weights, SENTENCE)
    np.testing.assert_allclose(language_model.log_probs(SENTENCE), expected, rtol=1e-4, atol=1e-5)


def test_loss_perplexity_and_bits_are_those_of_numpy(language_model, weights):
    expected = expected_of(language_model, weights, SENTENCE)
    score = language_model.score(SENTENCE)
    assert score.loss == pytest.approx(-expected.mean(), rel=1e-5)
    assert score.perplexity == pytest.approx(np.exp(-expected.mean()), rel=1e-4)
    assert language_model.perplexity(SENTENCE) == score.perplexity
    bits = -expected.sum() / math.log(2) / len(SENTENCE)
    assert score.bits_per_character == pytest.approx(bits, rel=1e-5)
    assert (score.symbols, score.characters, score.unknown) == (len(SENTENCE), len(SENTENCE), 0)
    ids = after_newline(language_model, SENTENCE)
    right = expected_log_probs(weights, ids).argmax(axis=1) == ids[1:]
    assert score.accuracy == pytest.approx(right.mean())


@pytest.mark.parametrize("window", [1, 5, 1000])
def test_the_state_is_carried_from_window_to_window(language_model, weights, monkeypatch, window):
    monkeypatch.setattr(generator, "_WINDOW", window)
    expected = expected_of(language_model, weights, SENTENCE)
    np.testing.assert_allclose(language_model.log_probs(SENTENCE), expected, rtol=1e-4, atol=1e-5)
    # The beginning is read in windows as well.
    texts = language_model.generate(SENTENCE, length=8)
    monkeypatch.undo()
    assert texts == language_model.generate(SENTENCE, length=8)


def test_a_long_text_is_scored_in_rows(language_model, weights, monkeypatch):
    monkeypatch.setattr(generator, "_ROW_SYMBOLS", 40)
    ids = after_newline(language_model, TEXT)
    rows = (len(ids) - 1) // 40
    assert rows > 2
    span = -(-(len(ids) - 1) // rows)
    total = 0.0
    for first in range(0, len(ids) - 1, span):
        row = ids[first : first + span + 1]
        total += expected_log_probs(weights, row)[np.arange(len(row) - 1), row[1:]].sum()
    assert language_model.score(TEXT).loss == pytest.approx(-total / (len(ids) - 1), rel=1e-5)


def test_unknown_symbols_are_counted_and_scored_as_unknown(language_model, weights):
    score = language_model.score("a Ж dog ♥")
    assert score.unknown == 2
    ids = after_newline(language_model, "a Ж dog ♥")
    assert (ids == language_model.tokenizer.unknown_id).sum() == 2
    log_probs = expected_log_probs(weights, ids)[np.arange(len(ids) - 1), ids[1:]]
    assert score.loss == pytest.approx(-log_probs.mean(), rel=1e-5)


def test_nothing_is_compiled_for_the_shape_of_a_text(language_model, monkeypatch):
    decoder = language_model._compiled._decoder
    fresh = LanguageModel(language_model.config, language_model.tokenizer, decoder)
    monkeypatch.delattr(lstm, "_training_cell")
    assert fresh.score(SENTENCE) == language_model.score(SENTENCE)
    assert fresh.generate(SENTENCE, length=5) == language_model.generate(SENTENCE, length=5)


def test_too_little_memory_for_a_text_is_told(language_model, monkeypatch):
    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(language_model._compiled, "score", full)
    with pytest.raises(UsageError, match="out of memory with the text to score; free some, or"):
        language_model.score("a dog")


def test_nothing_has_no_score(language_model):
    assert language_model.log_probs("") == []
    with pytest.raises(UsageError, match="text: is empty; expected something to score"):
        language_model.score("")
    with pytest.raises(UsageError, match="text: got bytes, expected str"):
        language_model.score(b"abc")


# --- texts ----------------------------------------------------------------------------------------


def test_the_likeliest_symbols_are_those_of_numpy(language_model, weights):
    ids = list(after_newline(language_model, "the "))
    for _ in range(15):
        follows = expected_log_probs(weights, np.array([*ids, 0]))[-1]
        follows[language_model.tokenizer.unknown_id] = -np.inf
        ids.append(int(follows.argmax()))
    (text,) = language_model.generate("the ", length=15, top_k=1, seed=9)
    assert text == language_model.tokenizer.decode(ids[-15:])


def test_the_share_drawn_from_is_that_of_each_call(language_model):
    (likeliest,) = language_model.generate("a ", length=20, top_k=1)
    options = {"length": 20, "top_k": 3, "seed": 4, "temperature": 5.0}
    (drawn,) = language_model.generate("a ", **options, top_p=1.0)
    for top_p, expected in ((1e-6, likeliest), (1.0, drawn), (0.999999, drawn), (1e-6, likeliest)):
        assert language_model.generate("a ", **options, top_p=top_p) == [expected]
    assert drawn != likeliest


def test_equal_seeds_write_equal_texts_and_others_do_not(language_model):
    texts = language_model.generate("a ", length=30, seed=4, samples=3)
    assert texts == language_model.generate("a ", length=30, seed=4, samples=3)
    assert len({*texts, *language_model.generate("a ", length=30, seed=5, samples=3)}) == 6
    assert [len(text) for text in texts] == [30] * 3
    assert texts[0] == language_model.generate("a ", length=30, seed=4)[0]


@pytest.mark.parametrize("at_a_time", [1, 7, 100])
def test_a_stream_is_the_text_part_by_part(language_model, monkeypatch, at_a_time):
    monkeypatch.setattr(generator, "_STREAMED_AT_A_TIME", at_a_time)
    parts = list(language_model.stream("a dog", length=30, seed=2, temperature=0.8, top_p=0.9))
    expected = language_model.generate("a dog", length=30, seed=2, temperature=0.8, top_p=0.9)
    assert ["".join(parts)] == expected
    assert len(parts) >= 30 / at_a_time


class Bytes:
    """A tokenizer whose ids are bytes."""

    def decode(self, ids):
        return bytes(ids).decode("utf-8", "replace")


@pytest.mark.parametrize("at_a_time", [1, 2, 3, 4, 5])
def test_bytes_that_are_no_text_are_streamed_as_they_are_written_whole(
    language_model, monkeypatch, at_a_time
):
    random = np.random.default_rng(at_a_time)
    given = ["a\N{SLIGHTLY SMILING FACE}".encode() + b"\xe2\x82\xf0\x9f\x99\x82\xc3\xa9\xf0\x9f"]
    given += [
        bytes(random.choice([0x61, 0xE2, 0x82, 0xF0, 0x9F, 0x99, 0xC3], 40)) for _ in range(99)
    ]
    monkeypatch.setattr(language_model, "tokenizer", Bytes())
    for content in given:
        ids = np.frombuffer(content, np.uint8)[None]
        chunks = [ids[:, at : at + at_a_time] for at in range(0, len(content), at_a_time)]
        monkeypatch.setattr(language_model, "_drawn", lambda *_, chunks=chunks: chunks)
        parts = list(language_model._streamed(None, len(content), Sampling()))
        assert "".join(parts) == content.decode("utf-8", "replace")


def test_defaults_are_the_configured_ones(language_model):
    (text,) = language_model.generate("a")
    assert len(text) == 20
    assert language_model.generate("", length=5) != language_model.generate("dog", length=5)


def test_no_unknown_symbol_is_ever_written(language_model):
    (text,) = language_model.generate("Ж", length=400, temperature=50.0)
    assert language_model.tokenizer.unknown(text) == []
    assert "\ufffd" not in text
    assert len(set(text)) > 10


def test_draws_follow_the_models_distribution(language_model, weights):
    """Chi-square, of what is drawn first after one beginning: 18 symbols, 4,000 draws."""
    ids = after_newline(language_model, "the")
    probabilities = np.exp(expected_log_probs(weights, np.array([*ids, 0]))[-1])
    probabilities[language_model.tokenizer.unknown_id] = 0
    probabilities /= probabilities.sum()
    drawn = language_model.generate("the", length=1, samples=4000, seed=1)
    counts = np.bincount(
        [int(language_model.tokenizer.encode(text)[0]) for text in drawn],
        minlength=len(probabilities),
    )
    likely = probabilities * 4000 > 5
    expected = np.append(probabilities[likely], probabilities[~likely].sum()) * 4000
    found = np.append(counts[likely], counts[~likely].sum())
    expected, found = expected[expected > 0], found[expected > 0]
    statistic = ((found - expected) ** 2 / expected).sum()
    degrees = len(expected) - 1
    assert statistic < degrees + 5 * math.sqrt(2 * degrees)  # five standard deviations


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length: got 0, expected a whole number of 1 or more"),
        ({"samples": 0}, "samples: got 0, expected a whole number of 1 or more"),
        ({"temperature": 0.0}, r"temperature: got 0\.0, expected a number above 0"),
        ({"top_k": -1}, "top-k: got -1, expected a whole number of 0 or more"),
        ({"top_p": 1.5}, r"top-p: got 1\.5, expected a number above 0, at most 1"),
        ({"prime": 3}, "text: got int, expected str"),
    ],
)
def test_options_out_of_range_are_refused(language_model, options, message):
    with pytest.raises(UsageError, match=message):
        language_model.generate(**options)
    if "samples" not in options:
        with pytest.raises(UsageError, match=message):
            language_model.stream(**options)  # before any of it is asked for


def test_more_candidates_than_symbols_are_all(language_model):
    options = {"length": 10, "seed": 3}
    every = language_model.tokenizer.vocabulary_size
    texts = [language_model.generate(top_k=count, **options) for count in (10**6, every)]
    assert texts[0] == texts[1]


# --- loading, weights -----------------------------------------------------------------------------


def test_a_translator_is_no_language_model(model_folder):
    with pytest.raises(ModelError, match="is a translator"):
        LanguageModel.load(model_folder)


def test_changed_weights_are_taken_up(language_model_folder):
    model = LanguageModel.load(language_model_folder)
    decoder = model._compiled._decoder
    before = model.generate("a ", length=20, top_k=1)
    decoder.output_bias.assign(decoder.output_bias + 100.0 * np.eye(decoder.vocabulary_size)[3])
    model.take_up_weights()
    (text,) = model.generate("a ", length=20, top_k=1)
    assert text == model.tokenizer.decode([3]) * 20 != before[0]


def test_output_that_is_not_a_number_is_an_error(language_model_folder):
    model = LanguageModel.load(language_model_folder)
    model._compiled._decoder.output_bias.assign(
        np.full(model.tokenizer.vocabulary_size, np.nan, np.float32)
    )
    model.take_up_weights()
    with pytest.raises(NotANumberError, match="the model's output is not a number"):
        model.generate("a", length=3)
    with pytest.raises(NotANumberError, match="the model's output is not a number"):
        model.score("abc")


@pytest.mark.parametrize("ids", [[], [-1], [10**6]])
def test_ids_that_are_none_are_not_scored(language_model, ids):
    with pytest.raises(UsageError, match=r"^ids: expected one or more, from 0 to"):
        language_model.score_ids(np.array(ids, np.int64), characters=1)
