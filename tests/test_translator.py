# ruff: noqa: F811 (fixtures are imported)
import threading
import time

import numpy as np
import pytest
from model_fixtures import SENTENCES, model_folder, random_weights, translator  # noqa: F401

from seq2seq import translator as translator_module
from seq2seq.config import DecodingConfig
from seq2seq.errors import DataError, ModelError, UsageError
from seq2seq.translator import Sampling, Translator, search_options

# Of several lengths, in an order that sorting by length changes; some blank, one over-long.
TEXTS = ["a dog", *SENTENCES[:4], "", "birds", " \t", "the tree", "sing " * 20, "a dog"]


@pytest.fixture
def without_model(translator):
    """A translator that fails as soon as it runs its model: only blank texts can be translated."""
    return Translator(translator.config, translator.tokenizers, model=None)


def texts_of(translations):
    return [translation.text for translation in translations]


# --- what comes out -------------------------------------------------------------------------------


def greedy_by_teacher_forcing(translator, text):
    """Greedy search the slow way: the whole prefix is read again for each next id."""
    source_tokenizer, target_tokenizer = translator.tokenizers.source, translator.tokenizers.target
    source = [*source_tokenizer.encode(text), source_tokenizer.eos_id]
    most = len(source) - 1 + 4  # decoding.max_length_ratio 1, max_length_offset 4
    ids, log_prob = [], 0.0
    while len(ids) < most and (not ids or ids[-1] != target_tokenizer.eos_id):
        prefix = np.array([[target_tokenizer.bos_id, *ids]], np.int32)
        logits = translator._model.logits(
            np.array([source], np.int32), np.array([len(source)], np.int32), prefix
        )
        logits = logits.numpy()[0, -1].astype(np.float64)
        log_probs = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        allowed = log_probs.copy()
        allowed[
            [target_tokenizer.unk_id, target_tokenizer.bos_id, target_tokenizer.pad_id]
        ] = -np.inf
        ids.append(int(allowed.argmax()))
        log_prob += log_probs[ids[-1]]
    return ids, log_prob


@pytest.mark.parametrize("text", [SENTENCES[0], SENTENCES[4]])
def test_greedy_translation_is_the_best_id_at_each_step(translator, text):
    ids, log_prob = greedy_by_teacher_forcing(translator, text)
    tokenizer = translator.tokenizers.target
    ended = ids[-1] == tokenizer.eos_id
    (translation,) = translator.translate([text], beam_size=1, length_penalty=0)
    assert translation.pieces == tokenizer.pieces(ids[:-1] if ended else ids)
    assert translation.text == tokenizer.decode(ids)
    assert translation.truncated is not ended
    assert translation.log_prob == pytest.approx(log_prob, rel=1e-4)
    assert translation.score == translation.log_prob


def test_score_divides_by_the_length_penalty(translator):
    for length_penalty in (0.5, 1.0):
        (translation,) = translator.translate(["a dog"], length_penalty=length_penalty)
        length = len(translation.pieces) + (not translation.truncated)
        penalty = ((5 + length) / 6) ** length_penalty  # Wu et al. 2016, eq. 14
        assert translation.score == pytest.approx(translation.log_prob / penalty, rel=1e-5)


def test_results_do_not_depend_on_the_batch(translator):
    alone = [translator.translate([text], n_best=2)[0] for text in TEXTS]
    for batch_size in (1, 3, 64):
        together = translator.translate(TEXTS, n_best=2, batch_size=batch_size)
        assert [t.source for t in together] == TEXTS
        for one, other in zip(alone, together, strict=True):
            assert [h.text for h in one.hypotheses] == [h.text for h in other.hypotheses]
            assert [h.pieces for h in one.hypotheses] == [h.pieces for h in other.hypotheses]
            found = [h.log_prob for h in other.hypotheses]
            assert found == pytest.approx([h.log_prob for h in one.hypotheses], rel=1e-4)
    # Else the test could not tell sentences from each other.
    assert len(set(texts_of(alone))) > 5


def test_a_stream_gives_what_a_list_gives(translator):
    assert list(translator.translate_iter(text for text in TEXTS)) == translator.translate(TEXTS)


def test_n_best_does_not_change_the_best(translator):
    one = translator.translate(SENTENCES)
    three = translator.translate(SENTENCES, n_best=3)
    assert texts_of(one) == texts_of(three)
    assert all(len(translation.hypotheses) == 3 for translation in three)
    for translation in three:
        scores = [hypothesis.score for hypothesis in translation.hypotheses]
        assert scores == sorted(scores, reverse=True)
        assert len({tuple(hypothesis.pieces) for hypothesis in translation.hypotheses}) == 3


def test_beam_size_and_length_penalty_default_to_the_configured_ones(translator):
    decoding = translator.config.decoding
    explicit = translator.translate(
        SENTENCES, beam_size=decoding.beam_size, length_penalty=decoding.length_penalty
    )
    assert translator.translate(SENTENCES) == explicit
    assert texts_of(translator.translate(SENTENCES, beam_size=1)) != texts_of(explicit)


def test_blank_texts_are_empty_and_never_reach_the_model(without_model):
    for translation in without_model.translate(["", " ", "\t\u2003\u3000"], n_best=2):
        (hypothesis,) = translation.hypotheses
        assert (hypothesis.text, hypothesis.pieces, hypothesis.truncated) == ("", [], False)
        assert (hypothesis.score, hypothesis.log_prob) == (0, 0)
        assert (translation.source_pieces, translation.source_truncated) == (0, False)
    with pytest.raises(AttributeError):
        without_model.translate(["", "x"])


def test_of_an_over_long_text_the_first_pieces_are_translated(translator):
    # One piece a character and one for the space in front; 24 pieces with the end of sentence.
    text = "some birds sing in a green tree"
    whole, start = translator.translate([text, text[:22]])
    assert whole.source_truncated
    assert not start.source_truncated
    assert whole.source_pieces == len(text) + 1
    assert start.source_pieces == 23
    assert whole.hypotheses == start.hypotheses


def test_unknown_characters_are_counted(translator):
    known, unknown = translator.translate(["a dog", "a \u732b d"])
    assert known.source_unknown == 0
    assert unknown.source_unknown == 1


def test_a_translation_ends_at_the_greatest_length(translator):
    for translation in translator.translate(SENTENCES, max_length=2, n_best=3):
        for hypothesis in translation.hypotheses:
            # Two pieces and no end, or the end is the second at most.
            assert (
                len(hypothesis.pieces) == 2 if hypothesis.truncated else len(hypothesis.pieces) < 2
            )
    cut = [translation.truncated for translation in translator.translate(SENTENCES, max_length=2)]
    assert set(cut) == {True, False}


def test_greatest_length_grows_with_the_source():
    decoding = DecodingConfig(max_length_ratio=1.5, max_length_offset=2)
    options = search_options(decoding)
    assert [options.target_length(pieces) for pieces in (1, 2, 3)] == [3, 5, 6]
    assert search_options(decoding, max_length=4).target_length(100) == 4
    nothing = DecodingConfig(max_length_ratio=0.0, max_length_offset=0)
    assert search_options(nothing).target_length(7) == 1


# --- sampling -------------------------------------------------------------------------------------


def test_equal_seeds_draw_equal_samples_in_any_batch(translator):
    sampling = Sampling(seed=4)
    drawn = texts_of(translator.translate(SENTENCES, sampling=sampling))
    for batch_size in (1, 3):
        again = translator.translate(SENTENCES, sampling=sampling, batch_size=batch_size)
        assert texts_of(again) == drawn
    assert texts_of(translator.translate(SENTENCES, sampling=Sampling(seed=5))) != drawn
    # The same text twice is drawn twice.
    assert len(set(texts_of(translator.translate(["a cat sleeps"] * 8, sampling=sampling)))) > 1


def test_sampling_from_the_best_piece_alone_is_greedy_search(translator):
    greedy = texts_of(translator.translate(SENTENCES, beam_size=1))
    for sampling in (Sampling(top_k=1), Sampling(temperature=1e-4), Sampling(top_p=1e-6)):
        assert texts_of(translator.translate(SENTENCES, sampling=sampling)) == greedy


# --- scoring --------------------------------------------------------------------------------------


def test_score_is_the_sum_of_the_log_probabilities_of_the_pieces(translator):
    sources = ["a dog runs", "the tree", ""]
    targets = ["a bird", "", "two dogs sing in the park"]
    expected = []
    for source, target in zip(sources, targets, strict=True):
        tokenizer = translator.tokenizers.source
        source_ids = [*tokenizer.encode(source), tokenizer.eos_id]
        target_ids = [*tokenizer.encode(target), tokenizer.eos_id]
        logits = translator._model.logits(
            np.array([source_ids], np.int32),
            np.array([len(source_ids)], np.int32),
            np.array([[tokenizer.bos_id, *target_ids[:-1]]], np.int32),
        ).numpy()[0]
        chosen = logits[np.arange(len(target_ids)), target_ids]
        expected.append((chosen - np.log(np.exp(logits).sum(axis=1))).sum())
    assert translator.score(sources, targets) == pytest.approx(expected, rel=1e-4)
    assert translator.score(sources, targets, batch_size=1) == pytest.approx(expected, rel=1e-4)


def test_score_of_a_translation_is_its_log_probability(translator):
    compared = 0
    tokenizer = translator.tokenizers.target
    for translation in translator.translate(SENTENCES, n_best=3):
        for hypothesis in translation.hypotheses:
            # Others read back as other pieces, or have no end to be scored.
            if hypothesis.truncated or tokenizer.pieces(tokenizer.encode(hypothesis.text)) != (
                hypothesis.pieces
            ):
                continue
            compared += 1
            (log_prob,) = translator.score([translation.source], [hypothesis.text])
            assert log_prob == pytest.approx(hypothesis.log_prob, rel=1e-4)
    assert compared


def test_long_targets_are_scored_in_smaller_batches(translator, monkeypatch):
    sources = ["a dog"] * 5
    targets = ["a", "two birds", "the old cat", "b", ""]
    expected = translator.score(sources, targets)
    # Room for 12 target tokens: the longest, of 13 with its end, is alone; then 1, then 4 rows.
    monkeypatch.setattr(
        translator_module, "_SCORING_LOGITS", 12 * translator.tokenizers.target.vocabulary_size
    )
    rows = list(translator._scoring_batches([[0] * 3, [0] * 11, [0] * 13, [0] * 3, [0]], 64))
    assert rows == [[2], [1], [0, 3, 4]]
    assert translator.score(sources, targets) == pytest.approx(expected, rel=1e-4)


def test_score_of_nothing_is_nothing(without_model):
    assert without_model.score([], []) == []


# --- streams --------------------------------------------------------------------------------------


def test_what_the_input_raises_comes_after_the_texts_before_it(without_model):
    def lines():
        yield from ["", " "]
        raise DataError("in.txt:3: not UTF-8")

    found = without_model.translate_iter(lines())
    assert [next(found).source, next(found).source] == ["", " "]
    with pytest.raises(DataError, match=r"in\.txt:3: not UTF-8"):
        next(found)


@pytest.mark.parametrize("sampling", [None, Sampling(seed=4)])
def test_from_any_window_on_the_same_comes_out(translator, sampling):
    options = {"batch_size": 1, "sampling": sampling}
    window_size = search_options(translator.config.decoding, **options).window_size
    texts = TEXTS * 4
    assert len(texts) > 2 * window_size
    whole = translator.translate(texts, **options)
    rest = translator.translate_iter(texts[window_size:], first_number=window_size + 1, **options)
    assert list(rest) == whole[window_size:]


def test_a_fault_in_a_text_comes_after_the_texts_before_it(without_model):
    found = without_model.translate_iter(["", " ", 3, ""])
    assert [next(found).source, next(found).source] == ["", " "]
    with pytest.raises(UsageError, match=r"texts\[2\]: got int, expected str"):
        next(found)


def test_no_more_than_a_window_is_read_ahead(without_model):
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield ""

    found = without_model.translate_iter(endless(), batch_size=2)
    for _ in range(100):
        next(found)
    assert read <= 100 + 2 * translator_module._WINDOW_BATCHES


def test_each_text_is_answered_before_one_that_is_not_there_yet(without_model):
    answered = []

    def one_by_one():
        for number in range(3):
            assert len(answered) == number
            yield ""

    for translation in without_model.translate_iter(one_by_one(), ready=lambda: False):
        answered.append(translation)
    assert len(answered) == 3


def test_order_is_kept_over_many_windows(without_model):
    texts = [" " * (number % 7) for number in range(500)]
    found = without_model.translate_iter(iter(texts), batch_size=3)
    assert [translation.source for translation in found] == texts


# --- many threads, few compilations ---------------------------------------------------------------


def test_threads_share_one_compiled_search(translator, monkeypatch):
    fresh = Translator(translator.config, translator.tokenizers, translator._model)
    compile_search = translator_module._compile_search
    compiled = []

    def slowly(*arguments):
        compiled.append(arguments)
        time.sleep(0.05)  # time for every thread to arrive
        return compile_search(*arguments)

    monkeypatch.setattr(translator_module, "_compile_search", slowly)
    results = {}

    def work(number):
        results[number] = texts_of(fresh.translate(SENTENCES[number:], beam_size=1))

    threads = [threading.Thread(target=work, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = texts_of(translator.translate(SENTENCES, beam_size=1))
    assert results == {number: expected[number:] for number in range(6)}
    assert len(compiled) == 1


def test_other_shapes_and_options_are_not_compiled_anew(translator):
    for texts in (["a"], SENTENCES):
        for length_penalty in (0.0, 0.3):
            translator.translate(texts, length_penalty=length_penalty, max_length=3)
            translator.translate(
                texts, sampling=Sampling(temperature=0.5 + length_penalty), max_length=3
            )
        translator.score(texts, texts)
    compiled = list(translator._compiled.values())
    assert len(compiled) >= 3
    assert {function.experimental_get_tracing_count() for function in compiled} == {1}


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("texts", ["one text", b"bytes", None, 3])
def test_what_is_no_list_of_texts_is_refused(without_model, texts):
    kind = type(texts).__name__
    message = f"texts: got {kind}, expected a list of str; put one text in a list as well"
    with pytest.raises(UsageError, match=message):
        without_model.translate(texts)
    with pytest.raises(UsageError, match=message):
        without_model.translate_iter(texts)  # at once, not when the first result is asked for
    with pytest.raises(UsageError, match=f"targets: got {kind}, expected a list of str"):
        without_model.score([], texts)


@pytest.mark.parametrize("text", [None, b"bytes", 3, ["nested"]])
def test_an_element_that_is_no_text_is_named(without_model, text):
    kind = type(text).__name__
    with pytest.raises(UsageError, match=rf"texts\[1\]: got {kind}, expected str"):
        without_model.translate(["", text])
    with pytest.raises(UsageError, match=rf"sources\[1\]: got {kind}, expected str"):
        without_model.score(["", text], ["", ""])


def test_a_text_that_is_not_unicode_is_named(without_model):
    message = r"texts\[1\]: not valid Unicode: a lone surrogate at character 2"
    with pytest.raises(DataError, match=message):
        without_model.translate(["", "ab\ud800"])


def test_sources_and_targets_must_be_as_many(without_model):
    with pytest.raises(DataError, match="2 sources, but 1 targets; each source needs its own"):
        without_model.score(["a", "b"], ["a"])


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


def test_a_beam_wider_than_the_vocabulary_is_refused(without_model):
    vocabulary = without_model.tokenizers.target.vocabulary_size
    without_model.translate([""], beam_size=vocabulary)
    with pytest.raises(
        UsageError, match=f"beam size: got {vocabulary + 1}, more than the {vocabulary}"
    ):
        without_model.translate([""], beam_size=vocabulary + 1)


def test_output_that_is_not_a_number_is_an_error_that_names_the_sentence(translator):
    from seq2seq.models import build_model

    config, tokenizers = translator.config, translator.tokenizers
    size = tokenizers.target.vocabulary_size
    model = build_model(config.model, source_vocabulary=size, target_vocabulary=size)
    weights = random_weights(config, tokenizers)
    weights["decoder/output_bias"][:] = np.nan
    model.load(weights)
    broken = Translator(config, tokenizers, model)
    for options in ({"beam_size": 1}, {"beam_size": 2}, {"sampling": Sampling()}):
        with pytest.raises(
            FloatingPointError, match="sentence 2: the model's output is not a number"
        ):
            broken.translate(["", "a dog"], **options)
    with pytest.raises(FloatingPointError, match="sentence 1: the model's output is not a number"):
        broken.score(["a"], ["b"])


def test_loading_any_other_folder_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"not a model folder: no config\.toml in it"):
        Translator.load(tmp_path)
    with pytest.raises(ModelError, match=r"nowhere: not a model folder"):
        Translator.load(str(tmp_path / "nowhere"))
