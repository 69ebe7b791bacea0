"""One step of a beam, by hand: V = 4 with end id 3, and a beam of two."""

import math

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.beams import Beams, Candidates, Live, advance_beams, find_candidates, first_beams
from seq2seq.continuations import Position
from seq2seq.limits import Limits
from seq2seq.search_loop import given_of

END = 3
LIMITS = Limits(end_id=END, max_length=4)
TWO_BEAMS = [[math.log(0.6), math.log(0.4)]]
PROBABILITIES = [[0.5, 0.3, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1]]


def live_beams(scores: list[list[float]], said: list[list[list[int]]]) -> Live:
    """Hypotheses that have said `said`, all of equal length, of at most 4 ids."""
    room = [[row + [0] * (4 - len(row)) for row in beams] for beams in said]
    last = [[row[-1] for row in beams] for beams in said]
    return Live(tf.constant(last), tf.constant(scores), tf.constant(scores), tf.constant(room))


def position_of(live: Live, length: int) -> Position:
    said = tf.reshape(live.sequences, [-1, live.sequences.shape[2]])
    given = given_of((), LIMITS, tf.shape(live.ids)[0])
    return Position(tf.constant(length), said, given, LIMITS)


def candidates_of(logits: list[list[float]], scores: list[list[float]]) -> Candidates:
    live = live_beams(scores, [[[0], [1]][: len(scores[0])] for _ in scores])
    return find_candidates(tf.constant(logits), live, position_of(live, 1), beam_size=2)


# --- candidates -----------------------------------------------------------------------------------


def test_candidates_are_the_best_of_all_beams_together() -> None:
    found = candidates_of(np.log(PROBABILITIES).tolist(), TWO_BEAMS)
    # 0.6 * 0.5, 0.4 * 0.7, 0.6 * 0.3, 0.6 * 0.1 (of the two that are equal the lower id)
    np.testing.assert_allclose(np.exp(found.scores), [[0.30, 0.28, 0.18, 0.06]], rtol=1e-5)
    np.testing.assert_allclose(np.exp(found.log_probs), np.exp(found.scores), rtol=1e-6)
    assert found.ids.numpy().tolist() == [[0, 2, 1, 2]]
    assert found.parents.numpy().tolist() == [[0, 1, 0, 0]]
    assert not found.failed.numpy().any()


def test_an_empty_slot_gives_no_candidates_whatever_its_logits() -> None:
    logits = [np.log(PROBABILITIES[0]).tolist(), [math.nan] * 4]
    found = candidates_of(logits, [[math.log(0.6), -math.inf]])
    assert found.parents.numpy()[0, :3].tolist() == [0, 0, 0]
    np.testing.assert_allclose(np.exp(found.scores), [[0.30, 0.18, 0.06, 0.0]], rtol=1e-5)
    assert not found.failed.numpy().any()


def test_a_sentence_has_failed_where_a_live_beam_has_no_distribution() -> None:
    logits = np.log([*PROBABILITIES, *PROBABILITIES])
    logits[1] = math.nan
    found = candidates_of(logits.tolist(), TWO_BEAMS * 2)
    assert found.failed.numpy().tolist() == [True, False]


def test_one_beam_of_a_tiny_vocabulary_is_filled_up_with_nothing() -> None:
    found = candidates_of([[0.0, 0.0]], [[0.0]])
    np.testing.assert_allclose(np.exp(found.scores), [[0.5, 0.5, 0.0, 0.0]], rtol=1e-6)


# --- one step of the beam -------------------------------------------------------------------------


def advanced(
    scores: list[float], ids: list[int], parents: list[int], bonus: object = None, n_best: int = 2
) -> Beams:
    """What two beams that have said [0] and [1] become; complete ones rank by score / length."""
    live = live_beams(TWO_BEAMS, [[[0], [1]]])
    before = first_beams(tf.constant([7]), (), given_of((), LIMITS, tf.constant(1)), n_best=n_best)
    before = before._replace(live=live, state=tf.constant([[10.0], [11.0]]))
    candidates = Candidates(
        scores=tf.constant([scores]),
        log_probs=tf.constant([scores]),
        ids=tf.constant([ids]),
        parents=tf.constant([parents]),
        failed=tf.constant([False]),
    )
    return advance_beams(
        before,
        candidates,
        position_of(live, 1),
        beam_size=2,
        rank=lambda score, length: score / tf.cast(length, tf.float32),
        bonus=bonus,
    )


def test_what_ends_is_finished_and_the_next_best_stay() -> None:
    beams = advanced([-1.0, -2.0, -3.0, -5.0], [END, 2, 0, END], [1, 0, 1, 0])
    assert beams.live.sequences.numpy()[0, :, :2].tolist() == [[0, 2], [1, 0]]
    assert beams.live.scores.numpy().tolist() == [[-2.0, -3.0]]
    assert beams.live.ids.numpy().tolist() == [[2, 0]]
    assert beams.state.numpy().tolist() == [[10.0], [11.0]]  # of the parents 0 and 1
    assert beams.finished.scores.numpy().tolist() == [[-0.5, -math.inf]]  # -1 by its 2 ids
    assert beams.finished.log_probs.numpy().tolist() == [[-1.0, -math.inf]]
    assert beams.finished.sequences.numpy()[0, 0, :2].tolist() == [1, END]
    assert beams.finished.lengths.numpy()[0, 0] == 2
    assert not beams.done.numpy()[0]


def test_an_end_beyond_the_first_two_candidates_is_lost() -> None:
    beams = advanced([-1.0, -2.0, -3.0, -5.0], [0, 1, END, 2], [0, 0, 0, 1])
    assert np.isinf(beams.finished.scores.numpy()).all()
    assert beams.live.scores.numpy().tolist() == [[-1.0, -2.0]]
    assert beams.state.numpy().tolist() == [[10.0], [10.0]]  # both go on from beam 0


@pytest.mark.parametrize(("best_live", "done"), [(-1.5, False), (-2.5, True)])
def test_a_sentence_is_done_when_nothing_live_can_become_better(
    best_live: float, done: bool
) -> None:
    # What has ended ranks at -0.5; a live one of score s can reach s / 4, as 4 ids are the most.
    scores = [-1.0, best_live, -9.0, -9.0]
    assert advanced(scores, [END, 0, 1, 2], [0, 0, 1, 1], n_best=1).done.numpy()[0] == done
    assert not advanced(scores, [END, 0, 1, 2], [0, 0, 1, 1], n_best=2).done.numpy()[0]


def test_a_sentence_is_done_when_as_many_end_at_once_as_the_beam_has() -> None:
    beams = advanced([-1.0, -2.0, -2.1, -2.2], [END, END, 0, 1], [0, 1, 0, 1])
    assert beams.finished.scores.numpy().tolist() == [[-0.5, -1.0]]
    assert beams.done.numpy()[0]


def test_a_completion_score_is_added_to_what_ends_by_its_parent() -> None:
    bonus = tf.constant([[-0.25, -4.0]])
    beams = advanced([-1.0, -2.0, -3.0, -5.0], [END, 2, 0, 1], [0, 0, 1, 0], bonus)
    assert beams.finished.scores.numpy()[0, 0] == -0.75
    assert beams.finished.log_probs.numpy()[0, 0] == -1.0
    assert beams.live.scores.numpy().tolist() == [[-2.0, -3.0]]
