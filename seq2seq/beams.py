"""The beam: hypotheses of each sentence that still grow, and those that are complete.

Shapes: B sentences, K hypotheses of each, N rows (B times the hypotheses a sentence has in the
beam: beam k of sentence b is row b * K + k), T longest hypothesis, C candidates.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq.constraints import in_turns
from seq2seq.continuations import Position, best_choices, constrained
from seq2seq.search_loop import Given, longest_of
from seq2seq.selection import at_most, size_of


class Live(NamedTuple):
    """Hypotheses still growing, in the order of `Candidates`; an empty slot has score -inf.

    Attributes:
        ids: The last id of each `[B, K]` int32, what the next step is fed.
        scores: What they are compared by `[B, K]`.
        log_probs: `[B, K]`.
        sequences: All ids of each `[B, K, T]` int32.
    """

    ids: tf.Tensor
    scores: tf.Tensor
    log_probs: tf.Tensor
    sequences: tf.Tensor


class Finished(NamedTuple):
    """Complete hypotheses, best first; an empty slot has score and log-probability -inf.

    Attributes:
        scores: `ranking_score` of each, completion score added `[B, K]`.
        log_probs: `[B, K]`.
        lengths: `[B, K]` int32.
        sequences: `[B, K, T]` int32.
    """

    scores: tf.Tensor
    log_probs: tf.Tensor
    lengths: tf.Tensor
    sequences: tf.Tensor


class Beams(NamedTuple):
    """How far beam search has come.

    Attributes:
        live: Hypotheses still growing.
        state: The state before `live.ids` are read, N on axis 0 of every leaf.
        finished: Complete hypotheses; those of a done sentence never change.
        done: Sentences that need no further step `[B]` bool.
        failed: Sentences with logits that were no distribution `[B]` bool.
    """

    live: Live
    state: Any
    finished: Finished
    done: tf.Tensor
    failed: tf.Tensor


class Candidates(NamedTuple):
    """Continuations of the live hypotheses by one id, best first, or in turns; see `constraints`.

    Attributes:
        scores: Of the whole hypothesis `[B, C]`, as is `log_probs`.
        log_probs: See `Live`.
        ids: The new id `[B, C]` int32.
        parents: The beam that each continues `[B, C]` int32.
        failed: Sentences with logits that were no distribution `[B]` bool.
    """

    scores: tf.Tensor
    log_probs: tf.Tensor
    ids: tf.Tensor
    parents: tf.Tensor
    failed: tf.Tensor


Rank = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # (scores, lengths) -> ranking scores


def first_beams(ids: tf.Tensor, state: Any, given: Given, *, n_best: int) -> Beams:
    """One live hypothesis of each sentence, the empty one."""
    ids = tf.cast(ids, tf.int32)
    batch, longest = tf.size(ids), longest_of(given)
    done = given.max_length <= 0
    zeros = tf.zeros([batch, 1])
    complete = tf.where(
        done[:, None] & (tf.range(n_best) == 0), 0.0, tf.fill([batch, n_best], -math.inf)
    )
    return Beams(
        live=Live(
            ids=ids[:, None],
            scores=zeros,
            log_probs=zeros,
            sequences=tf.zeros([batch, 1, longest], tf.int32),
        ),
        state=tf.nest.map_structure(tf.convert_to_tensor, state),
        finished=Finished(
            scores=complete,
            log_probs=complete,
            lengths=tf.zeros([batch, n_best], tf.int32),
            sequences=tf.zeros([batch, n_best, longest], tf.int32),
        ),
        done=done,
        failed=tf.zeros_like(done),
    )


def find_candidates(logits: tf.Tensor, live: Live, at: Position, *, beam_size: int) -> Candidates:
    """The first 2K continuations, as up to K of them end: one of each live hypothesis."""
    slots = live.ids.shape[1]
    # K + 1 of each row, so that K are left when one of them ends.
    best, ids_met = best_choices(logits, beam_size + 1, at), None
    if at.limits.has_constraints:
        best, ids_met = constrained(best, tf.cast(logits, tf.float32), at)
    width = size_of(best.ids, 1)
    scores = live.scores[:, :, None] + tf.reshape(best.scores, [-1, slots, width])
    log_probs = live.log_probs[:, :, None] + tf.reshape(best.log_probs, [-1, slots, width])
    empty = tf.math.is_inf(live.scores)[:, :, None]  # slots whose logits mean nothing
    undefined = tf.math.is_nan(scores) & ~empty
    every = slots * width
    # One hypothesis of a tiny vocabulary may have fewer continuations than there are beams.
    spare = [[0, 0], [0, beam_size if slots == 1 else 0]]
    scores = tf.reshape(tf.where(empty | undefined, -math.inf, scores), [-1, every])
    scores = tf.pad(scores, spare, constant_values=-math.inf)
    count = at_most(2 * beam_size, every + spare[1][1])
    if ids_met is None:
        scores, order = tf.math.top_k(scores, count)  # [B, C]
    else:
        order = in_turns(scores, tf.pad(tf.reshape(ids_met, [-1, every]), spare), count)
        scores = tf.gather(scores, order, batch_dims=1)
    order = tf.minimum(order, every - 1)
    return Candidates(
        scores=scores,
        log_probs=tf.gather(tf.reshape(log_probs, [-1, every]), order, batch_dims=1),
        ids=tf.gather(tf.reshape(best.ids, [-1, every]), order, batch_dims=1),
        parents=order // width,
        failed=tf.reduce_any(undefined, axis=[1, 2]),
    )


def advance_beams(
    beams: Beams,
    candidates: Candidates,
    at: Position,
    *,
    beam_size: int,
    rank: Rank,
    bonus: tf.Tensor | None,
) -> Beams:
    """`beams` with complete candidates among the finished, and the first others in the beam.

    `bonus` is the completion score of each live hypothesis `[B, K]`, if there are such.
    """
    length, slots = at.length + 1, beams.live.ids.shape[1]
    cut = tf.greater_equal(length, at.limits.max_length)[:, None]
    complete = (candidates.ids == at.limits.end_id) | cut  # [B, C]
    sequences = tf.gather(beams.live.sequences, candidates.parents, batch_dims=1)  # [B, C, T]
    here = tf.range(tf.shape(sequences)[2]) == at.length
    sequences = tf.where(here, candidates.ids[:, :, None], sequences)

    leaving = complete[:, :beam_size] & ~beams.done[:, None]
    scores = rank(tf.where(leaving, candidates.scores[:, :beam_size], -math.inf), length)
    if bonus is not None:
        scores += tf.gather(bonus, candidates.parents[:, :beam_size], batch_dims=1)
    finished = _keep_best(
        beams.finished,
        Finished(
            scores=scores,
            log_probs=tf.where(leaving, candidates.log_probs[:, :beam_size], -math.inf),
            lengths=tf.fill(tf.shape(scores), length),
            sequences=sequences[:, :beam_size],
        ),
    )
    width = tf.shape(complete)[1]
    _, staying = tf.math.top_k(tf.where(complete, -width, -tf.range(width)), beam_size)  # [B, K]
    scores = tf.gather(tf.where(complete, -math.inf, candidates.scores), staying, batch_dims=1)
    parents = tf.gather(candidates.parents, staying, batch_dims=1)
    rows = tf.reshape(tf.range(tf.shape(parents)[0])[:, None] * slots + parents, [-1])  # [N]
    # The most that a live hypothesis can still reach, as log-probabilities only fall.
    bound = rank(tf.reduce_max(scores, axis=1), at.limits.max_length)
    failed = candidates.failed & ~beams.done
    return Beams(
        live=Live(
            ids=tf.gather(candidates.ids, staying, batch_dims=1),
            scores=scores,
            log_probs=tf.gather(candidates.log_probs, staying, batch_dims=1),
            sequences=tf.gather(sequences, staying, batch_dims=1),
        ),
        state=tf.nest.map_structure(lambda leaf: tf.gather(leaf, rows), beams.state),
        finished=finished,
        done=beams.done
        | failed
        | (bound <= finished.scores[:, -1])
        | tf.reduce_all(leaving, axis=1),
        failed=beams.failed | failed,
    )


def _keep_best(finished: Finished, added: Finished) -> Finished:
    """The best of both, as many as `finished` has."""
    both = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=1), finished, added)
    _, kept = tf.math.top_k(both.scores, finished.scores.shape[1])
    best: Finished = tf.nest.map_structure(lambda part: tf.gather(part, kept, batch_dims=1), both)
    return best
