"""What rows may go on with, by hand: three ids with probabilities 1/2, 1/3 and 1/6."""

import math

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.continuations import Position, best_choices, drawn_choices
from seq2seq.limits import Limits
from seq2seq.search_loop import given_of
from seq2seq.selection import as_uint64

LOGITS = tf.math.log([[1 / 2, 1 / 3, 1 / 6]]) + 5.0  # logits are what they are but for a constant


def position(**limits: object) -> Position:
    each = Limits(end_id=0, **{"max_length": 4, **limits})  # type: ignore[arg-type]
    given = given_of((), each, tf.constant(1))
    return Position(tf.constant(1), tf.constant([[2, 0, 0, 0]]), given, each)


def test_the_best_come_first_with_their_log_probabilities() -> None:
    best = best_choices(LOGITS, 2, position())
    assert best.ids.numpy().tolist() == [[0, 1]]
    np.testing.assert_allclose(best.log_probs, np.log([[1 / 2, 1 / 3]]), rtol=1e-6)
    np.testing.assert_array_equal(best.scores, best.log_probs)


@pytest.mark.parametrize("limits", [{"forbidden_ids": (0,)}, {"min_length": 3}])
def test_what_may_not_be_said_has_no_score_and_takes_nothing_from_the_others(
    limits: dict[str, object],
) -> None:
    best = best_choices(LOGITS, 2, position(**limits))
    scores = dict(zip(best.ids[0].numpy().tolist(), best.scores[0].numpy().tolist(), strict=True))
    assert scores[0] == -math.inf  # the end, forbidden or too early
    assert scores[1] == pytest.approx(math.log(1 / 3), rel=1e-5)
    assert scores[2] == pytest.approx(math.log(1 / 6), rel=1e-5)


def test_a_forced_id_is_the_only_one() -> None:
    at = position(prefix=tf.constant([[2, 2]]))
    best = best_choices(LOGITS, 2, at)
    assert best.ids.numpy().tolist() == [[2, 2]]
    np.testing.assert_allclose(best.scores, [[math.log(1 / 6), -math.inf]], rtol=1e-5)
    drawn = drawn_choices(
        LOGITS, at, keys=as_uint64(tf.constant([7])), temperature=1.0, count=0, top_p=1.0
    )
    assert drawn.ids.numpy().tolist() == [[2]]


def test_what_said_before_is_penalised_in_the_score_alone() -> None:
    # The model's own probabilities are 4, 2 and 16 of 22. Id 2 was said: a penalty of 2 halves its
    # logit, from log 16 to log 4, and the scores are of 4, 2 and 4 of 10.
    logits = tf.math.log([[4.0, 2.0, 16.0]])
    best = best_choices(logits, 3, position(repetition_penalty=2.0))
    found = {int(i): place for place, i in enumerate(best.ids[0])}
    np.testing.assert_allclose(
        tf.exp(best.scores)[0].numpy()[[found[i] for i in range(3)]], [0.4, 0.2, 0.4], rtol=1e-5
    )
    np.testing.assert_allclose(
        tf.exp(best.log_probs)[0].numpy()[[found[i] for i in range(3)]],
        [4 / 22, 2 / 22, 16 / 22],
        rtol=1e-5,
    )


def test_logits_that_are_no_distribution_have_no_scores() -> None:
    bad = tf.constant([[math.nan, 0.0, 1.0]])
    assert np.isnan(best_choices(bad, 2, position()).scores).any()
    drawn = drawn_choices(
        bad,
        position(),
        keys=as_uint64(tf.constant([7])),
        temperature=1.0,
        count=0,
        top_p=1.0,
    )
    assert np.isnan(drawn.log_probs).all()
