import numpy as np
import pytest
import tensorflow as tf

from seq2seq import selection


@pytest.mark.parametrize("columns", [1024, 1003, 5, 40])
def test_top_k_sorts_by_score_and_then_by_id(columns: int) -> None:
    random = np.random.default_rng(0)
    # Few values, so that there are many equal ones; and whole rows of one value.
    scores = random.integers(0, 6, size=(50, columns)).astype("f4")
    scores[0], scores[1], scores[2, 7:] = 1.0, -np.inf, -np.inf
    best = selection.top_k(tf.constant(scores), 4)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :4]
    np.testing.assert_array_equal(best.ids, expected)
    np.testing.assert_array_equal(best.scores, np.take_along_axis(scores, expected, axis=1))


def test_top_k_takes_the_lower_of_equal_ids_from_a_worse_block() -> None:
    # Ids 160 to 191 are a block, with the best score; of the three 3.0, id 70 is in another.
    scores = np.zeros((1, 1024), "f4")
    scores[0, [170, 171, 70, 200]] = 9.0, 3.0, 3.0, 3.0
    assert selection.top_k(tf.constant(scores), 4).ids.numpy().tolist() == [[170, 70, 171, 200]]


def test_a_share_of_all_weights_lies_in_a_column_that_has_some() -> None:
    # Of the weights 0 1 3 0, the first quarter, 0 included, lies in column 1 and the rest in 2.
    largest = selection._uniform(tf.constant([2**64 - 1], tf.uint64)).numpy()[0]
    uniforms = tf.constant([0.0, 0.2499, 0.25, largest])
    weights = tf.constant([[0.0, 1.0, 3.0, 0.0]] * 4)
    assert largest < 1.0
    assert selection._find(weights, uniforms).numpy().tolist() == [1, 1, 2, 2]


def test_keys_are_those_of_splitmix64() -> None:
    # The first numbers of SplitMix64 seeded with 1234567, as published on rosettacode.org.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = [(1234567 + n * 0x9E3779B97F4A7C15) % 2**64 for n in range(3)]
    keys = selection.mix(tf.constant(states, tf.uint64)).numpy()
    assert keys.tolist() == published
    assert (keys >> 41).astype(float) * 2.0**-23 == pytest.approx(
        selection._uniform(tf.constant(published, tf.uint64)).numpy(), rel=1e-7
    )


@pytest.mark.parametrize("top_p", [1e-46, 1e-38, 0.3])
def test_the_least_share_is_the_likeliest_column(top_p: float) -> None:
    weights = tf.constant([[0.2, 0.6, 0.2]] * 20)
    keys = tf.cast(tf.range(20), tf.uint64)
    drawn = selection.draw_nucleus(weights, keys=keys, top_p=tf.constant(top_p, tf.float32))
    assert drawn.numpy().tolist() == [1] * 20
