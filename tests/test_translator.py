import pickle
import shutil
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from model_fixtures import SENTENCES, random_weights

from seq2seq import decoding
from seq2seq.config_file import load_model_config
from seq2seq.errors import DataError, ModelError, NotANumberError, UsageError
from seq2seq.models import build_model
from seq2seq.search import Hypotheses
from seq2seq.search_options import Sampling, search_options
from seq2seq.sentences import Request
from seq2seq.tokenizer import TokenizerPair, train_tokenizer
from seq2seq.translator import Translator

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
        logits, _ = translator.models[0].attend(
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


def test_batches_side_by_side_give_what_one_after_the_other_gives(translator, monkeypatch):
    searching, at_a_time = translator._search, []
    lock, at_work = threading.Lock(), [0]

    def search(*arguments):
        with lock:
            at_work[0] += 1
            at_a_time.append(at_work[0])
        found = searching(*arguments)
        with lock:
            at_work[0] -= 1
        return found

    monkeypatch.setattr(translator, "_search", search)
    found = {}
    for threads in (1, 4):
        monkeypatch.setattr("seq2seq.runtime.batches_at_a_time", lambda threads=threads: threads)
        at_a_time.clear()
        found[threads] = translator.translate(TEXTS, n_best=2, batch_size=1)
        assert (max(at_a_time) > 1) == (threads > 1)
        assert max(at_a_time) <= threads
    assert found[1] == found[4]


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
        logits, _ = translator.models[0].attend(
            np.array([source_ids], np.int32),
            np.array([len(source_ids)], np.int32),
            np.array([[tokenizer.bos_id, *target_ids[:-1]]], np.int32),
        )
        logits = logits.numpy()[0]
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


def test_only_lists_of_texts_are_counted(translator):
    assert translator.count_truncated(iter([SENTENCES[0], "a " * 200])) == 1
    for sources in ("abc", 3, [b"abc"]):
        with pytest.raises(UsageError, match=r"sources.*: got (str|int|bytes), expected"):
            translator.count_truncated(sources)


def test_score_of_nothing_is_nothing(without_model):
    assert without_model.score([], []) == []


# --- details --------------------------------------------------------------------------------------


def test_details_add_up_to_the_log_probability(translator):
    for translation in translator.translate(SENTENCES, n_best=3, max_length=6):
        for hypothesis in translation.hypotheses:
            details = hypothesis.details
            assert sum(details.log_probs) == pytest.approx(hypothesis.log_prob, rel=1e-4)
            ended = [] if hypothesis.truncated else ["</s>"]
            assert details.target == [*hypothesis.pieces, *ended]
            assert len(details.log_probs) == len(details.target)
            assert details.attention.shape == (len(details.target), len(details.source))
            np.testing.assert_allclose(details.attention.sum(axis=1), 1.0, rtol=1e-5)


def test_attention_is_that_of_the_steps(translator):
    """The same weights by the decoder's own attention, one step after the other."""
    (translation,) = translator.translate(SENTENCES[:1])
    model, tokenizers = translator.models[0], translator.tokenizers
    source = [*tokenizers.source.encode(translation.source), tokenizers.source.eos_id]
    state, memory = model.begin(np.array([source], np.int32), np.array([len(source)], np.int32))
    step = model.decoder.attending_stepper()
    state = state, np.zeros([1, len(source)], np.float32)
    said = [tokenizers.target.bos_id, *translation.hypotheses[0].ids]
    for place, token in enumerate(said[:-1]):
        before = np.array(state[1])
        _, state = step(np.array([token], np.int32), state, memory)
        np.testing.assert_allclose(
            state[1][0] - before[0], translation.details.attention[place], atol=1e-5
        )


def test_details_found_beforehand_are_those_found_when_asked_for(translator):
    late = translator.translate(TEXTS, n_best=2)
    early = translator.translate(TEXTS, n_best=2, details=True, batch_size=3)
    for one, other in zip(late, early, strict=True):
        for a, b in zip(one.hypotheses, other.hypotheses, strict=True):
            assert a.details.target == b.details.target
            assert a.details.source == b.details.source
            np.testing.assert_allclose(a.details.log_probs, b.details.log_probs, rtol=1e-4)
            np.testing.assert_allclose(a.details.attention, b.details.attention, atol=1e-5)


def test_details_found_beforehand_go_with_the_translation_into_another_process(translator):
    made = translator.translate(["a dog", " "], details=True)
    for here, there in zip(made, pickle.loads(pickle.dumps(made)), strict=True):
        assert there.details.source == here.details.source
        np.testing.assert_array_equal(there.details.attention, here.details.attention)
    with pytest.raises(UsageError, match="has no model any more"):
        _ = pickle.loads(pickle.dumps(translator.translate(["a dog"])))[0].details


def test_a_blank_text_has_no_details(translator):
    (translation,) = translator.translate([" "])
    assert translation.alignment == []
    assert translation.details.source == ["</s>"]
    assert translation.details.log_probs == []


# --- limits and penalties -------------------------------------------------------------------------


def test_every_translation_begins_with_its_prefix(translator):
    prefixes = ["", "cat", "the chair", ""]
    texts = SENTENCES[:4]
    encode = translator.tokenizers.target.encode
    for options in ({}, {"beam_size": 1}, {"sampling": Sampling(seed=2)}):
        found = translator.translate(texts, prefixes=prefixes, **options)
        for translation, prefix in zip(found, prefixes, strict=True):
            ids = tuple(encode(prefix))
            assert translation.hypotheses[0].ids[: len(ids)] == ids
            assert translation.text.startswith(prefix)
            (log_prob,) = [sum(translation.details.log_probs)]
            assert translation.log_prob == pytest.approx(log_prob, rel=1e-4)
    free = texts_of(translator.translate(texts))
    assert [free[0], free[3]] == [
        text
        for text, prefix in zip(
            texts_of(translator.translate(texts, prefixes=prefixes)), prefixes, strict=True
        )
        if not prefix
    ]


def test_there_are_as_many_prefixes_as_texts(without_model):
    with pytest.raises(DataError, match="prefixes: there are 1, fewer than texts; each text needs"):
        without_model.translate(["", ""], prefixes=[""])
    with pytest.raises(DataError, match="texts: there are 1, fewer than prefixes"):
        without_model.translate([""], prefixes=["", ""])
    with pytest.raises(UsageError, match="prefixes: got str, expected a list of str"):
        without_model.translate([""], prefixes="a")


def test_every_translation_contains_its_constraints(translator):
    constraints = [["cat"], [], ["red", "a book"], ["", "cat"]]
    free = texts_of(translator.translate(SENTENCES[:4], beam_size=9))
    found = translator.translate(
        SENTENCES[:4], constraints=constraints, beam_size=9, n_best=3, banned=["c"]
    )
    for translation, wanted in zip(found, constraints, strict=True):
        for hypothesis in translation.hypotheses:
            assert all(text in hypothesis.text for text in wanted)
        assert translation.log_prob == pytest.approx(sum(translation.details.log_probs), rel=1e-4)
    assert not any("cat" in text for text in (free[0], free[3]))
    assert free[1] == found[1].text
    # Room is made where the greatest length leaves none.
    (short,) = translator.translate(SENTENCES[:1], constraints=[["cat"]], beam_size=9, max_length=1)
    assert "cat" in short.text
    assert len(short.hypotheses[0].ids) == len(" cat") + 1


def test_constraints_that_cannot_be_met_are_refused(without_model):
    def refused(error, message, constraints, **options):
        with pytest.raises(error, match=message):
            without_model.translate(["a"], constraints=constraints, **options)

    refused(UsageError, "constraints: need a beam; .* give a beam size of 2 or", [[]], beam_size=1)
    refused(UsageError, "constraints: need a beam", [[]], sampling=Sampling())
    refused(UsageError, "constraints: got str, expected a list", "cat", beam_size=2)
    refused(UsageError, r"constraints\[0\]: got str, expected a list of", ["cat"], beam_size=2)
    refused(UsageError, r"constraints\[0\]\[1\]: got int, expected str", [["a", 1]], beam_size=2)
    refused(DataError, "constraints: there are 0, fewer than texts; each text", [], beam_size=2)
    refused(
        DataError,
        "constraints of sentence 1: '\u732b' has characters that the target vocabulary cannot "
        "write",
        [["cat", "\u732b"]],
        beam_size=2,
    )


def test_a_banned_piece_is_never_said(translator):
    usual = translator.translate(SENTENCES)
    piece = max({piece for each in usual for piece in each.pieces})
    for each in translator.translate(SENTENCES, banned=[piece]):
        assert piece not in each.pieces
    with pytest.raises(UsageError, match="banned: 'no piece' is no piece of the target vocabulary"):
        translator.translate(SENTENCES, banned=["no piece"])
    with pytest.raises(UsageError, match=r"banned: '\\udcff' is no piece of the target vocabulary"):
        translator.translate(SENTENCES, banned=["\udcff"])
    with pytest.raises(UsageError, match="banned: got str, expected a list of str"):
        translator.translate(SENTENCES, banned=piece)


def test_lengths_keep_within_both_bounds(translator):
    for translation in translator.translate(SENTENCES, min_length=4, max_length=5):
        assert 4 <= len(translation.hypotheses[0].ids) <= 5
    for translation in translator.translate(SENTENCES, min_length_ratio=1.5, max_length_ratio=2):
        read = len(translation.details.source) - 1
        assert len(translation.hypotheses[0].ids) >= 1.5 * read


def test_what_leaves_nothing_to_say_is_told(translator):
    size = translator.tokenizers.target.vocabulary_size
    options = {"no_repeat_ngram": 1, "min_length": size + 1, "max_length": size + 2}
    with pytest.raises(UsageError, match=r"^sentence 2: nothing can be said of the length that"):
        translator.translate(["", SENTENCES[0]], **options)


def test_nothing_is_said_twice_if_it_must_not_be(translator):
    repeated = 0
    for translation in translator.translate(SENTENCES, min_length=12, max_length=12):
        repeated += len({*translation.pieces}) < len(translation.pieces)
    assert repeated
    for translation in translator.translate(
        SENTENCES, min_length=12, max_length=12, no_repeat_ngram=1
    ):
        assert len({*translation.pieces}) == len(translation.pieces)


def test_a_repetition_penalty_is_in_the_score_alone(translator):
    options = {"beam_size": 4, "length_penalty": 0.0, "max_length": 9}
    for translation in translator.translate(SENTENCES, repetition_penalty=3.0, **options):
        assert sum(translation.details.log_probs) == pytest.approx(translation.log_prob, rel=1e-4)
    changed = translator.translate(SENTENCES, repetition_penalty=3.0, **options)
    assert any(abs(each.score - each.log_prob) > 1e-3 for each in changed)


def test_coverage_is_what_the_attention_left_out(translator):
    """Wu et al. 2016, eq. 14, from the attention of forced decoding."""
    options = {"length_penalty": 0.5, "coverage_penalty": 0.7, "n_best": 3, "beam_size": 3}
    for translation in translator.translate(SENTENCES, **options):
        for hypothesis in translation.hypotheses:
            length = len(hypothesis.ids)
            attended = hypothesis.details.attention.sum(axis=0)
            coverage = 0.7 * np.log(np.minimum(attended, 1.0)).sum()
            score = hypothesis.log_prob / ((5 + length) / 6) ** 0.5 + coverage
            assert hypothesis.score == pytest.approx(score, rel=1e-3)


def test_the_power_formula_divides_by_the_length(translator):
    for translation in translator.translate(SENTENCES, length_penalty=1, length_formula="power"):
        expected = translation.log_prob / len(translation.hypotheses[0].ids)
        assert translation.score == pytest.approx(expected, rel=1e-5)


def test_equal_texts_are_marked(translator):
    tokenizer = translator.tokenizers.target
    space, letter, other = (tokenizer.id_of(piece) for piece in ("\u2581", "t", "o"))
    end = tokenizer.eos_id
    ids = [[letter, end, end], [other, end, end], [space, letter, end], [space, other, end]]
    numbers = np.zeros([1, 4])
    found = Hypotheses(np.array([ids]), np.array([[2, 2, 3, 3]]), numbers, numbers)
    (sentence,) = translator._encoded([Request("a")], first_number=1)
    hypotheses = translator._hypotheses(found, 0, sentence)
    assert [each.text for each in hypotheses] == ["t", "o", "t", "o"]
    assert [each.duplicate for each in hypotheses] == [False, False, True, True]


# --- ensembles ------------------------------------------------------------------------------------


def test_an_ensemble_has_the_mean_of_the_probabilities(translator):
    other = translator_of_other_weights(translator)
    both = Translator(
        translator.config, translator.tokenizers, translator.models[0], ensemble=other.models
    )
    for options in ({"beam_size": 1}, {"beam_size": 3}, {"sampling": Sampling(seed=4)}):
        for translation in both.translate(SENTENCES, max_length=6, **options):
            alone = [
                dict(
                    each._forced.explain(
                        each._encoded([Request(translation.source)], first_number=1),
                        [translation.hypotheses[0].ids],
                        batch_size=1,
                    )
                )[0]
                for each in (translator, other)
            ]
            mean = np.mean([np.exp(each.log_probs) for each in alone], axis=0)
            np.testing.assert_allclose(np.exp(translation.details.log_probs), mean, rtol=1e-4)
            assert translation.log_prob == pytest.approx(np.log(mean).sum(), rel=1e-4)
            attention = np.mean([each.attention for each in alone], axis=0)
            np.testing.assert_allclose(translation.details.attention, attention, atol=1e-5)


def test_an_ensemble_attends_if_any_of_its_models_does(translator):
    attends = translator.config
    plain = attends.model_copy(
        update={"model": attends.model.model_copy(update={"attention": "none"})}
    )
    size = translator.tokenizers.target.vocabulary_size
    model = build_model(plain.model, source_vocabulary=size, target_vocabulary=size)
    mixed = Translator(plain, translator.tokenizers, model, ensemble=translator.models)
    blank, text = mixed.translate([" ", "a dog"], beam_size=1, max_length=3)
    assert blank.alignment == []
    assert text.details.attention.shape[1] == len(text.details.source)


def test_an_ensemble_of_one_model_twice_is_that_model(translator):
    twice = Translator(
        translator.config,
        translator.tokenizers,
        translator.models[0],
        ensemble=translator.models,
    )
    for options in ({"beam_size": 1}, {"beam_size": 3, "coverage_penalty": 0.2}):
        once = translator.translate(SENTENCES, **options)
        found = twice.translate(SENTENCES, **options)
        assert texts_of(found) == texts_of(once)
        np.testing.assert_allclose(
            [each.score for each in found], [each.score for each in once], rtol=1e-4
        )


def test_models_of_an_ensemble_share_their_tokenizer(model_folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    config = load_model_config(other)
    tokenizer = train_tokenizer(SENTENCES[:2] * 9, config.tokenizer)
    TokenizerPair(tokenizer, tokenizer).save(other / "tokenizer")
    with pytest.raises(ModelError, match=f"{other}: its tokenizer is not that of {model_folder}"):
        Translator.load(model_folder, ensemble=[other])


def translator_of_other_weights(translator):
    from seq2seq.models import build_model

    config, tokenizers = translator.config, translator.tokenizers
    size = tokenizers.target.vocabulary_size
    model = build_model(config.model, source_vocabulary=size, target_vocabulary=size)
    weights = random_weights(config, tokenizers)
    model.load({name: value[..., ::-1] for name, value in weights.items()})
    return Translator(config, tokenizers, model)


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
    window = search_options(without_model.config.decoding, batch_size=2).window_size
    assert 100 <= read <= 100 + window


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
    fresh = Translator(translator.config, translator.tokenizers, translator.models[0])
    expected = texts_of(translator.translate(SENTENCES, beam_size=1))
    compiled_search = decoding.CompiledSearch
    compiled = []

    def slowly(*arguments):
        compiled.append(arguments)
        time.sleep(0.05)  # time for every thread to arrive
        return compiled_search(*arguments)

    monkeypatch.setattr(decoding, "CompiledSearch", slowly)
    results = {}

    def work(number):
        results[number] = texts_of(fresh.translate(SENTENCES[number % 6 :], beam_size=1))

    threads = [threading.Thread(target=work, args=[number]) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: expected[number % 6 :] for number in range(64)}
    assert len(compiled) == 1


def test_kinds_of_search_share_the_weights_and_do_not_pile_up(translator, monkeypatch):
    monkeypatch.setattr("seq2seq.translator._MOST_COMPILED", 2)
    fresh = Translator(translator.config, translator.tokenizers, translator.models[0])
    for banned in ("a", "e", "o", "a"):
        found = texts_of(fresh.translate(SENTENCES[:3], banned=[banned], max_length=4, beam_size=1))
        assert found == texts_of(
            translator.translate(SENTENCES[:3], banned=[banned], max_length=4, beam_size=1)
        )
    assert len(fresh._compiled) == 2
    assert {each._layouts for each in fresh._compiled.values()} == {fresh._layouts}


def test_other_shapes_and_options_are_not_compiled_anew(translator):
    for texts in (["a"], SENTENCES):
        for length_penalty in (0.0, 0.3):
            translator.translate(texts, length_penalty=length_penalty, max_length=3)
            translator.translate(
                texts, sampling=Sampling(temperature=0.5 + length_penalty), max_length=3
            )
        translator.score(texts, texts)
    compiled = [*translator._compiled.values(), translator._forced._compile()]
    assert len(compiled) >= 3
    assert {each.function.experimental_get_tracing_count() for each in compiled} == {1}


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
        with pytest.raises(NotANumberError, match="sentence 2: the model's output is not a number"):
            broken.translate(["", "a dog"], **options)
    with pytest.raises(NotANumberError, match="sentence 1: the model's output is not a number"):
        broken.score(["a"], ["b"])


def test_batches_too_large_for_the_memory_are_told_with_what_to_do(translator, monkeypatch):
    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "Detected at node\nOOM")

    fresh = Translator(translator.config, translator.tokenizers, translator.models[0])
    monkeypatch.setattr(fresh, "_compiled_search", lambda options, sentences: exhausted)
    monkeypatch.setattr(fresh._forced, "_compile", lambda: exhausted)
    message = (
        "^out of memory with 2 sentences and a beam of 3 in a batch; lower the batch size or b"
    )
    with pytest.raises(UsageError, match=message):
        fresh.translate(["a dog", "", "a cat"])
    message = "^out of memory with 2 sentences at a time; lower the batch size$"
    with pytest.raises(UsageError, match=message):
        fresh.score(["a", "b"], ["c", "d"])


def test_weights_that_do_not_fit_are_an_error_that_names_the_folder(model_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    config = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(config.replace("embedding_size = 8", "embedding_size = 9"))
    message = r"model: weights do not fit the model's configuration: no weight of shape \[9, 32\]"
    with pytest.raises(ModelError, match=message):
        Translator.load(folder)


def test_loading_any_other_folder_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"not a model folder: no config\.toml in it"):
        Translator.load(tmp_path)
    with pytest.raises(ModelError, match=r"nowhere: not a model folder"):
        Translator.load(str(tmp_path / "nowhere"))
