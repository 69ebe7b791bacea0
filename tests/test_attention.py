"""Luong attention against the NumPy float64 oracle, finite differences and numbers by hand."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import oracles
import pytest
import tensorflow as tf

from seq2seq.attention import LuongAttention, Memory, coverage_score
from seq2seq.errors import UsageError

B, T, S, H, D, F = 3, 4, 5, 4, 6, 3
LENGTHS = (5, 1, 3)
WEIGHTS = ("score_kernel", "combine_kernel", "combine_bias")
ARRAYS = ("queries", "values", *WEIGHTS)


def random_arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {
        "queries": (B, T, H),
        "values": (B, S, D),
        "score_kernel": (D, H),
        "combine_kernel": (H + D, F),
        "combine_bias": (F,),
        "factor": (B, T, F),
    }
    return {
        name: random.normal(scale=0.7, size=shape).astype(np.float32).astype(np.float64)
        for name, shape in shapes.items()
    }


def loaded_layer(arrays: Mapping[str, np.ndarray], **options: Any) -> LuongAttention:
    layer = LuongAttention(units=H, memory_size=D, features=F, **options)
    layer.build()
    for name in WEIGHTS:
        getattr(layer, name).assign(arrays[name])
    return layer


def tensor(array: np.ndarray) -> tf.Tensor:
    return tf.constant(array, tf.float32)


def vectors(layer: LuongAttention, queries: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    memory = layer.memory(values, tf.constant(LENGTHS))
    _, context = layer.weights_and_context(queries, memory)
    return layer.combine(queries, context)


def test_attentional_vectors_equal_the_oracle() -> None:
    arrays = random_arrays()
    result = vectors(loaded_layer(arrays), tensor(arrays["queries"]), tensor(arrays["values"]))
    expected = oracles.attention(arrays["queries"], arrays["values"], LENGTHS, arrays)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_gradients_equal_finite_differences() -> None:
    arrays = random_arrays()

    def weighted_sum(moved: Mapping[str, np.ndarray]) -> float:
        result = oracles.attention(moved["queries"], moved["values"], LENGTHS, moved)
        return float((result * moved["factor"]).sum())

    layer = loaded_layer(arrays)
    queries, values = tensor(arrays["queries"]), tensor(arrays["values"])
    with tf.GradientTape() as tape:
        tape.watch([queries, values])
        total = tf.reduce_sum(vectors(layer, queries, values) * tensor(arrays["factor"]))
    weights = [getattr(layer, name).value for name in WEIGHTS]
    gradients = tape.gradient(total, [queries, values, *weights])
    for name, gradient in zip(ARRAYS, gradients, strict=True):
        numerical = oracles.numerical_gradient(weighted_sum, arrays, name)
        np.testing.assert_allclose(
            gradient.numpy().ravel(),
            numerical,
            rtol=1e-4,
            atol=1e-5 * np.abs(numerical).max(),
            err_msg=name,
        )


def test_weights_are_a_distribution_over_the_real_positions() -> None:
    arrays = random_arrays()
    layer = loaded_layer(arrays)
    memory = layer.memory(tensor(arrays["values"]), tf.constant(LENGTHS))
    weights, context = layer.weights_and_context(tensor(arrays["queries"]), memory)
    for row, length in enumerate(LENGTHS):
        assert not weights[row, :, length:].numpy().any()
        for position in range(T):
            expected = oracles.attention_weights(
                arrays["queries"][row, position],
                arrays["values"][row],
                length,
                arrays["score_kernel"],
            )
            np.testing.assert_allclose(weights[row, position], expected, rtol=1e-5, atol=1e-7)
    # A source of one position can only be looked at there.
    np.testing.assert_allclose(context[1], np.tile(arrays["values"][1, :1], (T, 1)), rtol=1e-6)


def test_weights_and_context_worked_by_hand() -> None:
    # Memory (1, 0) and (0, 2), W_a = (log 3, 0)^T: keys log 3 and 0; query 1: scores log 3 and 0,
    # weights 3/4 and 1/4; context (3/4, 1/2); the third position is padding.
    layer = LuongAttention(units=1, memory_size=2, features=1)
    layer.build()
    layer.score_kernel.assign([[np.log(3.0)], [0.0]])
    values = tf.constant([[[1.0, 0.0], [0.0, 2.0], [50.0, 50.0]]])
    weights, context = layer.weights_and_context(
        tf.ones([1, 1, 1]), layer.memory(values, tf.constant([2]))
    )
    np.testing.assert_allclose(weights, [[[0.75, 0.25, 0.0]]], rtol=1e-6)
    np.testing.assert_allclose(context, [[[0.75, 0.5]]], rtol=1e-6)


@pytest.mark.parametrize("heads", [1, 2])
def test_each_head_attends_with_its_part_of_the_features(heads: int) -> None:
    arrays = random_arrays()
    layer = loaded_layer(arrays, heads=heads)
    memory = layer.memory(tensor(arrays["values"]), tf.constant(LENGTHS))
    weights, context = layer.weights_and_context(tensor(arrays["queries"]), memory)
    expected = oracles.contexts(
        arrays["queries"], arrays["values"], LENGTHS, arrays["score_kernel"], heads
    )
    np.testing.assert_allclose(context, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), np.ones([B, T]), rtol=1e-6)


def test_the_weights_of_two_heads_worked_by_hand() -> None:
    # Memory (1, 0) and (0, 1), W_a = diag(log 3, log 7), query (1, 1): the first head scores its
    # keys log 3 and 0, the second 0 and log 7; both divided by sqrt(1). Weights (3/4, 1/4) and
    # (1/8, 7/8), their mean (7/16, 9/16); each head's context is its own column: (3/4, 7/8).
    layer = LuongAttention(units=2, memory_size=2, features=1, heads=2)
    layer.build()
    layer.score_kernel.assign(np.diag([np.log(3.0), np.log(7.0)]))
    memory = layer.memory(tf.constant([[[1.0, 0.0], [0.0, 1.0]]]), tf.constant([2]))
    weights, context = layer.weights_and_context(tf.ones([1, 1, 2]), memory)
    np.testing.assert_allclose(weights, [[[7 / 16, 9 / 16]]], rtol=1e-6)
    np.testing.assert_allclose(context, [[[3 / 4, 7 / 8]]], rtol=1e-6)


def test_heads_that_do_not_divide_the_features_are_refused() -> None:
    message = r"^heads: got 4, expected a divisor of units \(4\) and of memory_size \(6\)$"
    with pytest.raises(UsageError, match=message):
        LuongAttention(units=H, memory_size=D, features=F, heads=4)


def test_padding_of_the_memory_has_no_influence_and_no_gradient() -> None:
    arrays = random_arrays()
    layer = loaded_layer(arrays)
    padding = np.arange(S) >= np.array(LENGTHS)[:, None]  # [B, S]
    garbage = tensor(np.where(padding[..., None], -1e4, arrays["values"]))
    queries = tensor(arrays["queries"])
    with tf.GradientTape() as tape:
        tape.watch(garbage)
        result = vectors(layer, queries, garbage)
    np.testing.assert_array_equal(result, vectors(layer, queries, tensor(arrays["values"])))
    assert not tape.gradient(result, garbage).numpy()[padding].any()


@pytest.mark.parametrize("row", range(B))
def test_a_sentence_in_a_batch_equals_the_sentence_alone(row: int) -> None:
    arrays = random_arrays()
    layer = loaded_layer(arrays)
    whole = vectors(layer, tensor(arrays["queries"]), tensor(arrays["values"]))
    length, queries = LENGTHS[row], tensor(arrays["queries"][row : row + 1])
    memory = layer.memory(tensor(arrays["values"][row : row + 1, :length]), tf.constant([length]))
    alone = layer.combine(queries, layer.weights_and_context(queries, memory)[1])
    np.testing.assert_allclose(whole[row : row + 1], alone, rtol=1e-5, atol=1e-6)


def test_bfloat16_is_near_float32() -> None:
    arrays = random_arrays()
    result = vectors(
        loaded_layer(arrays, dtype="mixed_bfloat16"),
        tf.cast(arrays["queries"], tf.bfloat16),
        tensor(arrays["values"]),
    )
    expected = oracles.attention(arrays["queries"], arrays["values"], LENGTHS, arrays)
    assert oracles.relative_error(tf.cast(result, tf.float32), expected) < 2e-2


def test_queries_of_one_sentence_share_its_memory() -> None:
    arrays = random_arrays()
    layer = loaded_layer(arrays)
    memory = layer.memory(tensor(arrays["values"]), tf.constant(LENGTHS))
    queries = tf.reshape(tensor(arrays["queries"]), [B * T, H])  # T of each sentence
    repeated = Memory(*(tf.repeat(part, T, axis=0) for part in memory))
    together = layer.weights_and_contexts_of_rows(queries, memory)
    alone = layer.weights_and_contexts_of_rows(queries, repeated)
    for found, expected in zip(together, alone, strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_step_is_a_position_of_a_sequence() -> None:
    arrays = random_arrays()
    layer = loaded_layer(arrays)
    memory = layer.memory(tensor(arrays["values"]), tf.constant(LENGTHS))
    queries = tensor(arrays["queries"])
    weights, context = layer.weights_and_context(queries, memory)
    expected = layer.combine(queries, context)
    combine = layer.combiner()
    for position in range(T):
        query = queries[:, position]
        step_weights, step_context = layer.weights_and_contexts_of_rows(query, memory)
        features = combine(query, step_context)
        np.testing.assert_allclose(step_weights, weights[:, position], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(features, expected[:, position], rtol=1e-5, atol=1e-6)


def test_no_queries_of_no_sentences() -> None:
    layer = loaded_layer(random_arrays())
    memory = layer.memory(tf.zeros([0, S, D]), tf.zeros([0], tf.int32))
    weights, context = layer.weights_and_contexts_of_rows(tf.zeros([0, H]), memory)
    assert (weights.shape, context.shape) == ((0, S), (0, D))


def test_coverage_is_lost_for_what_was_looked_at_less_than_once() -> None:
    attended = tf.constant(
        [
            [0.5, 1.7, 0.25],  # two rows of the first sentence: log 0.5 + log 1 + log 0.25
            [1.0, 1.0, 1.0],
            [0.1, 0.0, 0.0],  # of the second only the first position is real
            [3.0, 0.0, 0.0],
        ]
    )
    scores = coverage_score(attended, tf.constant([3, 1]), 0.2)
    expected = [0.2 * np.log(0.125), 0.0, 0.2 * np.log(0.1), 0.0]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_what_was_never_looked_at_costs_much_but_not_all() -> None:
    (score,) = coverage_score(tf.zeros([1, 2]), tf.constant([2]), 1.0).numpy()
    assert -1000 < score < -100


def test_of_no_memory_nothing_is_looked_at_however_it_is_padded() -> None:
    layer = loaded_layer(random_arrays())
    random = np.random.default_rng(4)
    queries = tensor(random.normal(size=(1, 2, layer.units)))
    for padding in (1, 4):
        values = tensor(random.normal(size=(1, padding, layer.memory_size)))
        weights, context = layer.weights_and_context(
            queries, layer.memory(values, tf.zeros([1], tf.int32))
        )
        assert not weights.numpy().any()
        assert not context.numpy().any()
