"""The fused loss against the NumPy float64 oracle, finite differences and hand-worked numbers."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import oracles
import pytest
import tensorflow as tf

from seq2seq.loss import cross_entropy

F, V = 4, 7
ARRAYS = ("features", "output_kernel", "output_bias")


def random_arrays(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {"features": (rows, F), "output_kernel": (V, F), "output_bias": (V,)}
    return {
        name: random.normal(size=shape).astype(np.float32).astype(np.float64)
        for name, shape in shapes.items()
    }


def random_labels(rows: int) -> np.ndarray:
    return np.random.default_rng(9).integers(0, V, size=rows).astype(np.int32)


def oracle(
    arrays: Mapping[str, np.ndarray], labels: np.ndarray, label_smoothing: float
) -> oracles.Loss:
    logits = arrays["features"] @ arrays["output_kernel"].T + arrays["output_bias"]
    return oracles.cross_entropy(logits, labels, label_smoothing)


def tensors(arrays: Mapping[str, np.ndarray]) -> list[tf.Tensor]:
    return [tf.constant(arrays[name], tf.float32) for name in ARRAYS]


def assert_slopes(
    function: Callable[[oracles.Weights], float],
    arrays: Mapping[str, np.ndarray],
    gradients: Sequence[tf.Tensor],
) -> None:
    """Gradients of `ARRAYS` are those of `function` by differences, in 30 entries of each."""
    for name, gradient in zip(ARRAYS, gradients, strict=True):
        entries = np.random.default_rng(len(arrays["features"])).permutation(arrays[name].size)[:30]
        np.testing.assert_allclose(
            gradient.numpy().flat[entries],
            oracles.numerical_gradient(function, arrays, name, entries),
            rtol=1e-3,
            atol=1e-5 * np.abs(gradient).max(),
            err_msg=name,
        )


ROWS = pytest.mark.parametrize("rows", [1, 1281])
SMOOTHING = pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.7])


@ROWS
@SMOOTHING
def test_loss_equals_the_oracle(rows: int, label_smoothing: float) -> None:
    arrays, labels = random_arrays(rows), random_labels(rows)
    loss = cross_entropy(*tensors(arrays), tf.constant(labels), label_smoothing)
    expected = oracle(arrays, labels, label_smoothing)
    np.testing.assert_allclose(loss.total, expected.total, rtol=1e-5)
    np.testing.assert_allclose(loss.nll, expected.nll, rtol=1e-5)
    assert int(loss.correct) == expected.correct


@ROWS
@SMOOTHING
def test_gradients_equal_finite_differences(rows: int, label_smoothing: float) -> None:
    arrays, labels = random_arrays(rows), random_labels(rows)
    watched = tensors(arrays)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        total = cross_entropy(*watched, tf.constant(labels), label_smoothing).total
    assert_slopes(
        lambda moved: oracle(moved, labels, label_smoothing).total,
        arrays,
        tape.gradient(total, watched),
    )


def test_gradients_are_scaled_by_what_follows_the_loss() -> None:
    arrays, labels = random_arrays(5), random_labels(5)
    watched = tensors(arrays)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(watched)
        total = cross_entropy(*watched, tf.constant(labels), 0.1).total
        mean = total / 8.0
    for whole, part in zip(
        tape.gradient(total, watched), tape.gradient(mean, watched), strict=True
    ):
        np.testing.assert_allclose(part, whole / 8.0, rtol=1e-6)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary() -> None:
    # p = 1/7 for every word, so -log p = log 7 whatever the label and the smoothing: 2 rows.
    loss = cross_entropy(tf.zeros([2, F]), tf.ones([V, F]), tf.zeros([V]), tf.constant([0, 6]), 0.3)
    np.testing.assert_allclose(loss.total, 2.0 * np.log(7.0), rtol=1e-6)
    np.testing.assert_allclose(loss.nll, 2.0 * np.log(7.0), rtol=1e-6)


def test_smoothed_loss_of_two_words_by_hand() -> None:
    # Logits (log 3, 0), so p = (3/4, 1/4); label 0; e = 0.2, V = 2: target (0.9, 0.1).
    # total = -0.9 log(3/4) - 0.1 log(1/4); nll = -log(3/4); the largest logit is the label.
    loss = cross_entropy(
        tf.ones([1, 1]), tf.constant([[np.log(3.0)], [0.0]], tf.float32), tf.zeros([2]),
        tf.constant([0]), 0.2,
    )  # fmt: skip
    np.testing.assert_allclose(loss.total, -0.9 * np.log(0.75) - 0.1 * np.log(0.25), rtol=1e-6)
    np.testing.assert_allclose(loss.nll, -np.log(0.75), rtol=1e-6)
    assert int(loss.correct) == 1


def test_huge_logits_give_a_finite_loss_and_finite_gradients() -> None:
    # Logits (300, -300) and label 1: -log p = 600 to float32 precision, p = (1, 0).
    features = tf.constant([[300.0]])
    kernel = tf.constant([[1.0], [-1.0]])
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = cross_entropy(features, kernel, tf.zeros([2]), tf.constant([1]), 0.0)
    np.testing.assert_allclose(loss.total, 600.0, rtol=1e-6)
    # d/dx of (x - (-x)) = 2
    np.testing.assert_allclose(tape.gradient(loss.total, features), [[2.0]], rtol=1e-6)


def test_loss_is_the_same_inside_a_graph_of_unknown_size() -> None:
    graph = tf.function(
        lambda features, kernel, bias, labels: cross_entropy(features, kernel, bias, labels, 0.1),
        input_signature=[
            tf.TensorSpec([None, F]),
            tf.TensorSpec([V, F]),
            tf.TensorSpec([V]),
            tf.TensorSpec([None], tf.int32),
        ],
    )
    for rows in (1, 1281):
        arrays, labels = random_arrays(rows), random_labels(rows)
        expected = oracle(arrays, labels, 0.1)
        loss = graph(*tensors(arrays), tf.constant(labels))
        np.testing.assert_allclose(loss.total, expected.total, rtol=1e-5)
        np.testing.assert_allclose(loss.nll, expected.nll, rtol=1e-5)


def test_bfloat16_features_give_nearly_the_float32_loss() -> None:
    arrays, labels = random_arrays(50), random_labels(50)
    features, kernel, bias = tensors(arrays)
    with tf.GradientTape() as tape:
        tape.watch([features, kernel, bias])
        loss = cross_entropy(tf.cast(features, tf.bfloat16), kernel, bias, tf.constant(labels), 0.1)
    expected = oracle(arrays, labels, 0.1)
    assert loss.total.dtype == tf.float32
    np.testing.assert_allclose(loss.total, expected.total, rtol=2e-2)
    np.testing.assert_allclose(loss.nll, expected.nll, rtol=2e-2)
    for gradient in tape.gradient(loss.total, [features, kernel, bias]):
        assert gradient.dtype == tf.float32


def test_no_tokens_have_no_loss() -> None:
    loss = cross_entropy(tf.zeros([0, 3]), tf.ones([7, 3]), tf.zeros([7]), tf.zeros([0], tf.int32))
    assert [float(part) for part in loss] == [0.0, 0.0, 0.0]


def test_of_equal_logits_the_lowest_id_counts_as_predicted() -> None:
    labels = tf.constant([0, 1])
    loss = cross_entropy(tf.zeros([2, 3]), tf.ones([7, 3]), tf.zeros([7]), labels)
    assert float(loss.correct) == 1.0


def consistent_total(arrays: Mapping[str, np.ndarray], labels: np.ndarray, weight: float) -> float:
    """From the definition: the mean of two cross-entropies plus weight / 2 times that of KLs."""
    one, other = np.split(arrays["features"] @ arrays["output_kernel"].T + arrays["output_bias"], 2)
    total = 0.0
    for logits, others in ((one, other), (other, one)):
        p, q = oracles.log_softmax(logits), oracles.log_softmax(others)
        divergence = (np.exp(p) * (p - q)).sum()
        total += oracles.cross_entropy(logits, labels, 0.1).total / 2 + weight / 2 * divergence / 2
    return float(total)


@pytest.mark.parametrize("tokens", [1, 641])
def test_two_passes_are_drawn_together_as_defined(tokens: int) -> None:
    arrays, labels, weight = random_arrays(2 * tokens), random_labels(tokens), 3.0
    watched = tensors(arrays)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        loss = cross_entropy(*watched, tf.constant(labels), 0.1, weight)
    assert float(loss.total) == pytest.approx(consistent_total(arrays, labels, weight), rel=1e-5)
    assert_slopes(
        lambda moved: consistent_total(moved, labels, weight),
        arrays,
        tape.gradient(loss.total, watched),
    )
    one, other = np.split(arrays["features"], 2)
    parts = [oracle({**arrays, "features": each}, labels, 0.1) for each in (one, other)]
    assert float(loss.nll) == pytest.approx(sum(part.nll for part in parts) / 2, rel=1e-5)
    assert float(loss.correct) == sum(part.correct for part in parts) / 2


def test_two_equal_passes_are_one() -> None:
    arrays, labels = random_arrays(50), tf.constant(random_labels(50))
    features, kernel, bias = tensors(arrays)
    once = cross_entropy(features, kernel, bias, labels, 0.1)
    twice = cross_entropy(tf.tile(features, [2, 1]), kernel, bias, labels, 0.1, 5.0)
    for found, expected in zip(twice, once, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
