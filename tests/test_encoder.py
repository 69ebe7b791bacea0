"""The encoder against the NumPy float64 oracle, and its independence of padding."""

from typing import Any

import numpy as np
import oracles
import pytest
import tensorflow as tf

from seq2seq.dropout import DropoutRates
from seq2seq.encoder import Encoded, Encoder
from seq2seq.lstm import LSTM

B, S, E, U = 3, 4, 3, 5
LENGTHS = (4, 1, 3)
SHAPES = pytest.mark.parametrize(
    ("layers", "bidirectional"), [(1, False), (3, False), (1, True), (2, True)]
)


def random_embedded() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(B, S, E))


def random_encoder(
    *,
    layers: int,
    bidirectional: bool,
    residual: bool = False,
    between: float = 0.0,
    dtype: str = "float32",
    **rates: Any,
) -> Encoder:
    """An encoder with random weights, biases too."""
    encoder = Encoder(
        layers=layers,
        units=U,
        bidirectional=bidirectional,
        residual=residual,
        dropout=DropoutRates(layers=between, **rates),
        dtype=dtype,
    )
    encoder.build((None, None, E))
    random = np.random.default_rng(2)
    for directions in encoder.stack:
        for layer in directions:
            for weight in layer.weights:
                weight.assign(random.normal(scale=0.6, size=weight.shape))
    return encoder


def weights_of(layer: LSTM) -> oracles.LSTMWeights:
    return oracles.LSTMWeights(
        *(
            weight.numpy().astype(np.float64)
            for weight in (layer.kernel, layer.recurrent_kernel, layer.bias)
        )
    )


def oracle(encoder: Encoder, embedded: np.ndarray) -> oracles.EncoderOutput:
    layers = [[weights_of(layer) for layer in directions] for directions in encoder.stack]
    return oracles.encoder_stack(embedded, LENGTHS, layers, residual=encoder.residual)


def encode(encoder: Encoder, embedded: np.ndarray, seed: list[int] | None = None) -> Encoded:
    return encoder(
        tf.constant(embedded, tf.float32),
        tf.constant(LENGTHS),
        None if seed is None else tf.constant(seed),
    )


@SHAPES
@pytest.mark.parametrize("residual", [False, True])
def test_outputs_and_states_equal_the_oracle(
    layers: int, bidirectional: bool, residual: bool
) -> None:
    encoder = random_encoder(layers=layers, bidirectional=bidirectional, residual=residual)
    encoded, expected = encode(encoder, random_embedded()), oracle(encoder, random_embedded())
    assert len(encoded.states) == layers
    for state, expected_state in zip(encoded.states, expected.states, strict=True):
        np.testing.assert_allclose(state.h, expected_state.h, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state.c, expected_state.c, rtol=1e-5, atol=1e-6)
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(
            encoded.outputs[row, :length], expected.outputs[row, :length], rtol=1e-5, atol=1e-6
        )


@SHAPES
def test_the_final_state_is_that_of_the_last_real_token(layers: int, bidirectional: bool) -> None:
    """Cutting the padding off, or filling it with anything, changes nothing."""
    encoder = random_encoder(layers=layers, bidirectional=bidirectional)
    embedded = random_embedded()
    padding = np.arange(S) >= np.array(LENGTHS)[:, None]
    encoded = encode(encoder, embedded)
    garbage = encode(encoder, np.where(padding[..., None], 77.0, embedded))
    for row, length in enumerate(LENGTHS):
        alone = encoder(
            tf.constant(embedded[row : row + 1, :length], tf.float32), tf.constant([length])
        )
        np.testing.assert_allclose(
            encoded.outputs[row, :length], alone.outputs[0], rtol=1e-5, atol=1e-6
        )
        np.testing.assert_array_equal(encoded.outputs[row, :length], garbage.outputs[row, :length])
        for state, alone_state, garbage_state in zip(
            encoded.states, alone.states, garbage.states, strict=True
        ):
            np.testing.assert_allclose(state.h[row], alone_state.h[0], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(state.c[row], alone_state.c[0], rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(state.h[row], garbage_state.h[row])
            np.testing.assert_array_equal(state.c[row], garbage_state.c[row])


def test_backward_direction_reads_the_mirrored_sentence() -> None:
    encoder = random_encoder(layers=1, bidirectional=True)
    ((forward, backward),) = encoder.stack
    for name in ("kernel", "recurrent_kernel", "bias"):
        getattr(backward, name).assign(getattr(forward, name).numpy())
    embedded = tf.constant(random_embedded(), tf.float32)
    lengths = tf.constant(LENGTHS)
    encoded = encoder(embedded, lengths)
    mirrored = encoder(tf.reverse_sequence(embedded, lengths, seq_axis=1), lengths)
    np.testing.assert_allclose(
        encoded.states[0].c[:, :U], mirrored.states[0].c[:, U:], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        encoded.states[0].h[:, U:], mirrored.states[0].h[:, :U], rtol=1e-5, atol=1e-6
    )


def test_dropout_needs_a_seed_and_is_a_function_of_it() -> None:
    encoder = random_encoder(layers=2, bidirectional=True, between=0.5)
    without = random_encoder(layers=2, bidirectional=True)
    embedded = random_embedded()
    first = encode(encoder, embedded, [1, 2])
    np.testing.assert_array_equal(
        encode(encoder, embedded).outputs, encode(without, embedded).outputs
    )
    np.testing.assert_array_equal(first.outputs, encode(encoder, embedded, [1, 2]).outputs)
    for other in (encode(encoder, embedded, [1, 3]), encode(encoder, embedded)):
        assert np.abs(first.outputs - other.outputs).max() > 1e-3
    # Dropout is between layers: the first layer's states do not feel it.
    np.testing.assert_array_equal(first.states[0].c, encode(encoder, embedded).states[0].c)


@pytest.mark.parametrize("rate", ["embedding", "words", "recurrent"])
def test_each_rate_thins_what_it_is_named_after(rate: str) -> None:
    encoder = random_encoder(layers=1, bidirectional=True, **{rate: 0.5})
    without = random_encoder(layers=1, bidirectional=True)
    embedded = random_embedded()
    plain = encode(without, embedded, [1, 2]).states[0].c
    np.testing.assert_array_equal(encode(encoder, embedded).states[0].c, plain)
    first = encode(encoder, embedded, [1, 2]).states[0].c
    np.testing.assert_array_equal(first, encode(encoder, embedded, [1, 2]).states[0].c)
    assert np.abs(first - plain).max() > 1e-3
    assert np.abs(first - encode(encoder, embedded, [1, 3]).states[0].c).max() > 1e-3


@SHAPES
def test_bfloat16_is_near_float32(layers: int, bidirectional: bool) -> None:
    encoder = random_encoder(layers=layers, bidirectional=bidirectional, dtype="mixed_bfloat16")
    encoded, expected = encode(encoder, random_embedded()), oracle(encoder, random_embedded())
    real = np.arange(S) < np.array(LENGTHS)[:, None]
    outputs = tf.cast(encoded.outputs, tf.float32).numpy()
    assert oracles.relative_error(outputs[real], expected.outputs[real]) < 2e-2
    for state, expected_state in zip(encoded.states, expected.states, strict=True):
        assert state.c.dtype == tf.float32
        assert oracles.relative_error(tf.cast(state.h, tf.float32), expected_state.h) < 2e-2
        assert oracles.relative_error(state.c, expected_state.c) < 2e-2
