"""What rows have of their constraints and want next, and whose turn it is, by hand."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.constraints import NONE, Met, in_turns, met_by


def met(said: list[int], constraints: list[list[int]]) -> Met:
    """Of one row, and room for two ids more than it has said."""
    longest = max(map(len, constraints))
    filled = [each + [NONE] * (longest - len(each)) for each in constraints]
    return met_by(tf.constant([filled]), tf.constant([[*said, 0, 0]]), tf.constant(len(said)))


@pytest.mark.parametrize(
    ("said", "constraints", "whole", "wanted"),
    [
        ([], [[5, 6], [7]], [False, False], [5, 7]),
        ([5], [[5, 6], [7]], [False, False], [6, 7]),
        ([5, 4], [[5, 6], [7]], [False, False], [5, 7]),
        ([5, 6, 4], [[5, 6], [7]], [True, False], [NONE, 7]),
        ([7, 5, 6], [[5, 6], [7]], [True, True], [NONE, NONE]),
        # The next id of both stands there once.
        ([5], [[5, 6, 7], [5, 6]], [False, False], [6, NONE]),
        # What was said anew after 1 1 is still the beginning of it.
        ([1, 1, 1], [[1, 1, 2]], [False], [2]),
        ([1, 2, 1], [[1, 2, 1, 3]], [False], [3]),
        ([1, 2, 1, 2], [[1, 2, 1, 3]], [False], [1]),
        # What comes after the ids said, and is 0, counts for nothing.
        ([], [[0]], [False], [0]),
        ([4], [[4, 0]], [False], [0]),
        # No ids are everywhere.
        ([], [[NONE], [3]], [True, False], [NONE, 3]),
    ],
)
def test_what_a_row_has_and_wants(
    said: list[int], constraints: list[list[int]], whole: list[bool], wanted: list[int]
) -> None:
    found = met(said, constraints)
    assert found.whole.numpy().tolist() == [whole]
    assert found.wanted.numpy().tolist() == [wanted]


def test_ids_met_are_those_of_whole_constraints_and_of_the_one_longest_begun() -> None:
    constraints = [[5, 6], [7, 8, 9], [6, 4, 3]]
    #             whole 5 6       and so 4 goes on from 6
    assert met([5], constraints).ids_with(tf.constant([[6, 5, 7, 4]])).numpy().tolist() == [
        [2 + 1, 1, 1, 0]
    ]
    assert met([5, 6], constraints).ids_with(tf.constant([[4, 7, 1]])).numpy().tolist() == [
        [2 + 2, 2 + 1, 2]
    ]
    everything = met([7, 8, 9, 5, 6, 4], constraints)
    assert everything.ids_with(tf.constant([[3, 1]])).numpy().tolist() == [[8, 5]]
    assert everything.all_ids.numpy().tolist() == [8]


def test_rows_have_the_constraints_of_their_sentence() -> None:
    constraints = tf.constant([[[5]], [[6]]])
    said = tf.constant([[5], [6], [5], [6]])  # two rows of each sentence
    found = met_by(constraints, said, tf.constant(1))
    assert found.whole.numpy().ravel().tolist() == [True, False, False, True]


def test_the_best_of_each_number_take_turns_highest_number_first() -> None:
    scores = tf.constant([[-1.0, -2.0, -3.0, -4.0, -5.0, -math.inf], [-1.0] * 5 + [-0.5]])
    ids_met = tf.constant([[0, 0, 0, 1, 3, 3], [0, 1, 0, 1, 0, 0]])
    turns = in_turns(scores, ids_met, 6)
    np.testing.assert_array_equal(turns, [[4, 3, 0, 1, 2, 5], [1, 5, 3, 0, 2, 4]])
    np.testing.assert_array_equal(in_turns(scores, ids_met, 2), turns[:, :2])


def test_turns_are_those_of_plain_sorting() -> None:
    random = np.random.default_rng(3)
    scores = random.integers(-4, 0, [20, 12]).astype(np.float32)  # with ties
    scores[random.random(scores.shape) < 0.2] = -np.inf
    ids_met = random.integers(0, 3, scores.shape).astype(np.int32)
    for row, found in enumerate(in_turns(scores, ids_met, 6).numpy()):
        left = [i for i in range(12) if np.isfinite(scores[row, i])]
        left.sort(key=lambda i: (-scores[row, i], i))
        queues = [[i for i in left if ids_met[row, i] == met] for met in (2, 1, 0)]
        turns = [i for turn in itertools.zip_longest(*queues) for i in turn if i is not None]
        count = min(6, len(turns))
        assert found[:count].tolist() == turns[:count]
        assert not np.isfinite(scores[row, found[count:]]).any()
