"""Dropout: a pure function of its seed that keeps the mean."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.dropout import NO_DROPOUT, DropoutRates, dropout, fold_in

SEED = tf.constant([1, 2], tf.int32)


def test_equal_seeds_drop_the_same_and_others_do_not() -> None:
    inputs = tf.ones([50, 7])
    dropped = dropout(inputs, 0.5, SEED)
    np.testing.assert_array_equal(dropped, dropout(inputs, 0.5, SEED))
    assert np.any(dropped.numpy() != dropout(inputs, 0.5, tf.constant([1, 3])).numpy())
    assert np.any(dropped.numpy() != dropout(inputs, 0.5, tf.constant([2, 2])).numpy())


def test_places_of_one_seed_drop_differently() -> None:
    inputs = tf.ones([50, 7])
    masks = [dropout(inputs, 0.5, fold_in(SEED, place)).numpy() for place in range(3)]
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        # Independent masks at rate 1/2 agree in half of 350 places: 175, standard deviation 9.4.
        assert 120 < (masks[first] == masks[second]).sum() < 230


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.9])
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_mean_is_preserved_and_the_share_dropped_is_the_rate(rate: float, dtype: tf.DType) -> None:
    size = 40_001  # odd: the last 32 random bits are used by half
    dropped = tf.cast(dropout(tf.fill([size], tf.cast(2.0, dtype)), rate, SEED), tf.float32)
    kept = dropped.numpy() != 0.0
    # Share and mean lie within five standard deviations; bfloat16 rounds the scale by up to 2^-9.
    deviation = np.sqrt(rate * (1.0 - rate) / size)
    assert abs(kept.mean() - (1.0 - rate)) < 5.0 * deviation
    rounding = 0.0 if dtype == tf.float32 else 2.0**-8
    assert abs(dropped.numpy().mean() - 2.0) < 2.0 * (5.0 * deviation / (1.0 - rate) + rounding)
    np.testing.assert_allclose(dropped.numpy()[kept], 2.0 / (1.0 - rate), rtol=1e-4 + rounding)


def test_neighbouring_elements_are_dropped_independently() -> None:
    kept = dropout(tf.ones([40_000]), 0.5, SEED).numpy() != 0.0
    # Both of two neighbours are kept in a quarter of 20,000 pairs; standard deviation 0.003.
    for offset in (0, 1):
        first, second = kept[offset:-2:2], kept[offset + 1 : -1 : 2]
        assert abs((first & second).mean() - 0.25) < 0.016


def test_nothing_is_dropped_without_a_seed_or_at_rate_zero() -> None:
    inputs = tf.constant([[1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(dropout(inputs, 0.9, None), inputs)
    np.testing.assert_array_equal(dropout(inputs, 0.0, SEED), inputs)
    assert fold_in(None, 3) is None


def test_gradient_flows_only_through_what_is_kept() -> None:
    inputs = tf.ones([200])
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        dropped = dropout(inputs, 0.25, SEED)
    # Inputs are 1, so the output is the factor of each element: 0 or 4/3.
    np.testing.assert_array_equal(tape.gradient(dropped, inputs), dropped)


def test_masks_are_the_same_whatever_was_drawn_before_and_in_a_graph() -> None:
    inputs = tf.ones([50, 7])
    first = dropout(inputs, 0.5, fold_in(SEED, 4)).numpy()
    tf.random.set_seed(5)
    tf.random.normal([3])
    compiled = tf.function(lambda seed: dropout(inputs, 0.5, fold_in(seed, 4)))
    for _ in range(2):
        np.testing.assert_array_equal(first, compiled(SEED))
        np.testing.assert_array_equal(first, dropout(inputs, 0.5, fold_in(SEED, 4)))


@pytest.mark.parametrize("shape", [[], [1], [0, 3], [3, 1, 5]])
def test_shape_and_dtype_are_kept(shape: list[int]) -> None:
    for dtype in (tf.float32, tf.bfloat16):
        dropped = dropout(tf.ones(shape, dtype), 0.5, SEED)
        assert dropped.shape == shape
        assert dropped.dtype == dtype


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_elements_along_an_axis_may_share_their_fate(axis: int) -> None:
    dropped = dropout(tf.ones([20, 21, 22]), 0.5, SEED, same_along=axis).numpy()
    np.testing.assert_array_equal(dropped, np.repeat(dropped.take([0], axis), 20 + axis, axis))
    # Of at least 420 places about half are kept; four standard deviations are 0.1.
    assert 0.4 < (dropped.take(0, axis) != 0).mean() < 0.6
    np.testing.assert_array_equal(dropped[dropped != 0], 2.0)


def test_variational_masks_are_the_same_at_every_position_of_a_sequence() -> None:
    positions, features, rows = 5, 30, 12
    ones = tf.ones([positions, features, rows])
    same = DropoutRates(layers=0.5, embedding=0.25, variational=True)
    other = DropoutRates(layers=0.5, embedding=0.25)
    for thin in (same.of_embedded, same.of_layer):
        kept = thin(ones, SEED).numpy() != 0
        assert (kept == kept[:1]).all()
        assert (kept[0, :, :1] != kept[0]).any()  # but not of every sequence
    for thin in (other.of_embedded, other.of_layer):
        kept = thin(ones, SEED).numpy() != 0
        assert (kept != kept[:1]).any()
    lengths = tf.constant([3, 0, 2])
    kept = same.of_features(tf.ones([5, 40]), lengths, SEED).numpy() != 0
    assert (kept[0] == kept[1]).all()
    assert (kept[0] == kept[2]).all()
    assert (kept[3] == kept[4]).all()
    assert (kept[2] != kept[3]).any()
    kept = other.of_features(tf.ones([5, 40]), lengths, SEED).numpy() != 0
    assert (kept[0] != kept[1]).any()


def test_a_word_is_dropped_with_all_its_elements() -> None:
    thinned = DropoutRates(words=0.5).of_embedded(tf.ones([20, 7, 30]), SEED).numpy()
    whole, gone = (thinned == 2).all(axis=1), (thinned == 0).all(axis=1)  # [T, B]
    assert (whole | gone).all()
    assert 0.4 < gone.mean() < 0.6
    both = DropoutRates(embedding=0.5, words=0.5).of_embedded(tf.ones([20, 70, 30]), SEED).numpy()
    assert 0.7 < (both == 0).mean() < 0.8  # independent: 1 - 1/2 * 1/2


def test_nothing_is_thinned_without_rates_or_outside_training() -> None:
    ones = tf.ones([4, 3, 2])
    rates = DropoutRates(0.5, 0.5, 0.5, 0.5, variational=True)
    for rate, seed in ((NO_DROPOUT, SEED), (rates, None)):
        for thinned in (
            rate.of_embedded(ones, seed),
            rate.of_layer(ones, seed),
            rate.of_features(ones[0], tf.constant([2, 1]), seed),
        ):
            np.testing.assert_array_equal(thinned, 1.0)
