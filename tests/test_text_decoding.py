"""A language model's passes: reading, scoring and drawing agree with the decoder's own steps."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.decoder import Decoder, DecoderState
from seq2seq.search import Start
from seq2seq.search_options import Sampling
from seq2seq.text_decoding import CompiledText

V = 11


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    decoder = Decoder(V, units=8, layers=2, embedding_size=6, seed=5)
    decoder.build()
    return decoder


@pytest.fixture(scope="module")
def compiled(decoder: Decoder) -> CompiledText:
    return CompiledText(decoder)


def some_ids(rows: int, length: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, V, (rows, length)).astype(np.int32)


def stepped(decoder: Decoder, ids: np.ndarray) -> tuple[np.ndarray, DecoderState]:
    """Log-probabilities `[N, T, V]` after each of `ids`, one step at a time, and the last state."""
    state, found = decoder.zero_state(len(ids)), []
    for column in ids.T:
        logits, state = decoder.step(tf.constant(column), state)
        found.append(tf.nn.log_softmax(logits).numpy())
    return np.stack(found, axis=1), state


def assert_same_state(one: DecoderState, other: DecoderState) -> None:
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_reading_leads_to_the_state_of_single_steps(
    decoder: Decoder, compiled: CompiledText
) -> None:
    ids = some_ids(3, 7)
    state = compiled.read(ids[:, :4], compiled.zero_state(3))
    assert_same_state(compiled.read(ids[:, 4:], state), stepped(decoder, ids)[1])


def test_scores_are_those_of_single_steps_and_nothing_past_the_end(
    decoder: Decoder, compiled: CompiledText
) -> None:
    ids, lengths = some_ids(3, 7), np.array([6, 2, 5], np.int32)
    inputs, targets = ids[:, :-1], ids[:, 1:]
    expected, state = stepped(decoder, inputs)
    scores, after = compiled.score(inputs, targets, lengths, compiled.zero_state(3))
    real = np.arange(6) < lengths[:, None]
    log_probs = np.take_along_axis(expected, targets[:, :, None], axis=2)[:, :, 0]
    np.testing.assert_allclose(scores.log_probs, np.where(real, log_probs, 0.0), rtol=1e-4)
    right = expected.argmax(axis=2) == targets
    np.testing.assert_array_equal(scores.correct, np.where(real, right, False))
    assert_same_state(after, state)


def drawn(compiled: CompiledText, length: int, *, position: int = 0, start: Start) -> tuple:
    return compiled.draw(start, length, position=position, sampling=Sampling(seed=4))


def test_a_text_drawn_in_parts_is_the_one_drawn_at_once(compiled: CompiledText) -> None:
    start = Start(np.array([1, 2], np.int32), compiled.zero_state(2))
    whole, end = drawn(compiled, 12, start=start)
    first, between = drawn(compiled, 5, start=start)
    second, end_of_parts = drawn(compiled, 7, position=5, start=between)
    np.testing.assert_array_equal(whole, np.concatenate([first, second], axis=1))
    assert_same_state(end.state, end_of_parts.state)


def test_the_likeliest_symbols_are_those_of_single_steps(
    decoder: Decoder, compiled: CompiledText
) -> None:
    ids, state, expected = np.array([1, 2], np.int32), decoder.zero_state(2), []
    for _ in range(6):
        logits, state = decoder.step(tf.constant(ids), state)
        expected.append(ids := logits.numpy().argmax(axis=1).astype(np.int32))
    start = Start(np.array([1, 2], np.int32), compiled.zero_state(2))
    found, _ = compiled.draw(start, 6, position=0, sampling=Sampling(top_k=1))
    np.testing.assert_array_equal(found, np.stack(expected, axis=1))


def test_forbidden_symbols_are_never_drawn(decoder: Decoder) -> None:
    compiled = CompiledText(decoder, forbidden_ids=tuple(range(V - 2)))
    start = Start(np.zeros(4, np.int32), compiled.zero_state(4))
    found, _ = drawn(compiled, 20, start=start)
    assert set(np.unique(found)) == {V - 2, V - 1}


def test_changed_weights_are_drawn_from_after_they_are_laid_out() -> None:
    decoder = Decoder(V, units=8, embedding_size=6, seed=5)
    decoder.build()
    compiled = CompiledText(decoder)
    decoder.output_bias.assign(tf.one_hot(7, V) * 1000.0)
    start = Start(np.array([1], np.int32), compiled.zero_state(1))
    assert (drawn(compiled, 9, start=start)[0].numpy() != 7).any()
    compiled.lay_out()
    assert (drawn(compiled, 9, start=start)[0].numpy() == 7).all()


def test_graphs_of_many_values_of_top_k_do_not_pile_up(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seq2seq.text_decoding._MOST_DRAWERS", 2)
    compiled = CompiledText(decoder)
    start, made = Start(np.array([1], np.int32), compiled.zero_state(1)), []
    for top_k in (1, 2, 3, 3):
        made.append(compiled.draw(start, 3, position=0, sampling=Sampling(top_k=top_k)))
    assert compiled._drawer.cache_info()[:2] == (1, 3)  # hits and misses
    assert compiled._drawer.cache_info().currsize == 2
    np.testing.assert_array_equal(made[2][0], made[3][0])
