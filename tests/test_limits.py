"""What may follow, worked by hand; the searches that use it are in test_search."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.errors import UsageError
from seq2seq.limits import (
    FREE,
    Limits,
    forced_ids,
    may_not_follow,
    penalised,
    per_sentence,
    without_repeated_ngrams,
)

LENGTH = tf.constant(5)


def banned(said: list[list[int]], ngram: int, *, length: int, vocabulary: int = 10) -> list[Any]:
    """The ids of each row that may not follow the first `length` of those said."""
    logits = tf.zeros([len(said), vocabulary])
    limits = Limits(0, 99, no_repeat_ngram=ngram)
    found = without_repeated_ngrams(logits, limits, tf.constant(said), tf.constant(length))
    return [np.flatnonzero(np.isinf(row)).tolist() for row in found.numpy()]


def test_an_ngram_is_not_completed_twice() -> None:
    said = [[7, 8, 9, 7, 8, 0, 0], [7, 8, 9, 8, 7, 0, 0], [1, 1, 1, 1, 1, 0, 0]]
    assert banned(said, 3, length=5) == [[9], [], [1]]
    assert banned(said, 2, length=5) == [[9], [8], [1]]
    assert banned(said, 1, length=5) == [[7, 8, 9], [7, 8, 9], [1]]


def test_what_is_not_said_yet_completes_nothing() -> None:
    # The zeros after `length` ids are no ids.
    assert banned([[7, 8, 0, 0, 0, 0]], 3, length=2) == [[]]
    assert banned([[0, 0, 0, 0]], 2, length=1) == [[]]
    assert banned([[0, 0, 0, 0]], 1, length=0) == [[]]
    assert banned([[4, 4]], 3, length=2) == [[]]  # no room for one of three
    assert banned([[4]], 5, length=1) == [[]]


def test_a_repetition_penalty_lowers_what_was_said_once_whatever_its_sign() -> None:
    logits = tf.constant([[2.0, -1.0, 3.0, 0.5], [2.0, -1.0, 3.0, 0.5]])
    said = tf.constant([[0, 1, 0, 3], [2, 2, 2, 3]])
    found = penalised(logits, Limits(9, 9, repetition_penalty=2.0), said, tf.constant(3))
    np.testing.assert_allclose(found, [[1.0, -2.0, 3.0, 0.5], [2.0, -1.0, 1.5, 0.5]])
    assert penalised(logits, Limits(9, 9), said, LENGTH) is logits


def test_an_end_may_come_at_the_least_length_and_not_before() -> None:
    limits = per_sentence(Limits(3, 9, (1,), min_length=tf.constant([6, 7, 0])), tf.constant(3))
    ids = tf.constant([[3, 1, 2], [3, 1, 2], [3, 1, 2]])
    found = may_not_follow(ids, limits, LENGTH)  # the end would be the sixth id
    np.testing.assert_array_equal(
        found, [[False, True, False], [True, True, False], [False, True, False]]
    )


def test_prefixes_force_ids_in_every_row_of_a_sentence() -> None:
    limits = Limits(0, 9, prefix=tf.constant([[4, FREE, 6], [5, 7, FREE]]))
    rows = tf.zeros([4, 1])
    forced = [forced_ids(limits, tf.constant(length), rows).numpy().tolist() for length in range(4)]
    assert forced == [[4, 4, 5, 5], [FREE, FREE, 7, 7], [6, 6, FREE, FREE], [FREE] * 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"no_repeat_ngram": -1}, "no_repeat_ngram: got -1, expected 0 or more"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty: got 0\.0, expected a finite number"),
        ({"repetition_penalty": math.inf}, "repetition_penalty: got inf, expected a finite number"),
    ],
)
def test_limits_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        per_sentence(Limits(0, 9, **options), tf.constant(1))


@pytest.mark.parametrize("kind", ["prefix", "constraints"])
def test_there_is_a_row_for_each_sentence_or_one_for_all(kind: str) -> None:
    row = [5, 6] if kind == "prefix" else [[5], [6]]
    found = getattr(per_sentence(Limits(0, 9, **{kind: [row]}), tf.constant(3)), kind)
    np.testing.assert_array_equal(found, [row] * 3)
    with pytest.raises(UsageError, match=rf"^{kind}: got 2 rows, expected 3, one a sentence"):
        per_sentence(Limits(0, 9, **{kind: [row, row]}), tf.constant(3))


def test_ngrams_longer_than_any_number_of_ids_repeat_nothing() -> None:
    logits = tf.zeros([1, 4])
    limits = Limits(0, 9, no_repeat_ngram=3_000_000_000)
    found = without_repeated_ngrams(logits, limits, tf.constant([[1, 1, 1]]), tf.constant(3))
    np.testing.assert_array_equal(found, logits)
