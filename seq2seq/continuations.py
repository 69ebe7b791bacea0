"""The ids that hypotheses may go on with: the best of each row, or one drawn at random.

What may and must be said is heeded here.

Shapes: N rows, V vocabulary, T longest hypothesis, C choices.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq.constraints import NONE, met_by
from seq2seq.limits import (
    FREE,
    Limits,
    forced_ids,
    may_not_follow,
    penalised,
    per_row,
    without_repeated_ngrams,
)
from seq2seq.search_loop import Given
from seq2seq.selection import draw_nucleus, size_of, top_k, without

_FEW = 16  # forbidden ids that may still stand among the best of each row, and are left out there


class Position:
    """Where the hypotheses of a batch stand: how long they are and what they have said."""

    def __init__(self, length: tf.Tensor, said: tf.Tensor, given: Given, limits: Limits) -> None:
        """
        Args:
            length: Ids of every live hypothesis `[]` int32.
            said: These ids `[N, T]` int32.
            given: What decoding does not change.
            limits: Of the whole batch; those of a sentence are in `given`.
        """
        self.length = length
        self.said = said
        self.given = given
        self.limits = limits._replace(
            max_length=given.max_length,
            min_length=given.min_length,
            prefix=given.prefix,
            constraints=given.constraints,
        )


class Choices(NamedTuple):
    """Ids that rows may go on with `[N, C]` int32.

    Attributes:
        ids: The ids.
        scores: What the search goes by: `log_probs` after the repetition penalty, -inf for what
            may not be said.
        log_probs: The model's own log-probabilities.
    """

    ids: tf.Tensor
    scores: tf.Tensor
    log_probs: tf.Tensor


def best_choices(logits: tf.Tensor, count: int, at: Position) -> Choices:
    """At least the `count` best ids of each row; a forced one alone, where there is one.

    What may not be said can be among them and then has score -inf; rows that are no distribution
    have NaN.
    """
    logits = tf.cast(logits, tf.float32)
    lower = penalised(logits, at.limits, at.said, at.length)
    allowed = without_repeated_ngrams(lower, at.limits, at.said, at.length)
    forbidden = at.limits.forbidden_ids
    if len(forbidden) > _FEW:
        allowed, spare = without(allowed, forbidden), 0
    else:
        spare = len(forbidden)
    scores, ids = top_k(allowed, count + spare + at.limits.has_least_length)
    if allowed is logits:
        # The best id's probability is at least 1 / V, so its logarithm is safe, and softmax is one
        # pass where log-sum-exp takes three. A NaN makes it NaN or 0.
        best = tf.gather(tf.nn.softmax(logits), ids[:, :1], batch_dims=1)  # [N, 1]
        log_probs = scores - scores[:, :1] + tf.math.log(tf.where(best > 0.0, best, math.nan))
        scores = log_probs
    else:
        log_probs = tf.gather(logits, ids, batch_dims=1) - _log_sums(logits)
        scores = scores - _log_sums(lower) if at.limits.penalises else scores - _log_sums(logits)
    scores = tf.where(may_not_follow(ids, at.limits, at.length), -math.inf, scores)
    return _forced(Choices(ids, scores, log_probs), logits, at)


def constrained(choices: Choices, logits: tf.Tensor, at: Position) -> tuple[Choices, tf.Tensor]:
    """`choices`, with those that bring a row nearer to what it must contain, and no early end.

    And how many of these ids a row has met with each choice `[N, C]` int32.
    """
    met = met_by(at.limits.constraints, at.said, at.length)
    wanted = met.wanted
    if at.limits.has_prefix:
        free = forced_ids(at.limits, at.length, logits) == FREE
        wanted = tf.where(free[:, None], wanted, NONE)
    twice = tf.reduce_any(choices.ids[:, :, None] == wanted[:, None], axis=2)
    nothing, wanted = wanted == NONE, tf.maximum(wanted, 0)
    log_probs = tf.where(nothing, -math.inf, _log_probs_of(wanted, logits))
    ids = tf.concat([choices.ids, wanted], axis=1)
    scores = tf.concat([tf.where(twice, -math.inf, choices.scores), log_probs], axis=1)
    ids_met = met.ids_with(ids)
    end = (ids == at.limits.end_id) | (at.length + 1 >= per_row(at.limits.max_length, ids))[:, None]
    early = end & (ids_met < met.all_ids[:, None])
    return Choices(
        ids=ids,
        scores=tf.where(early, -math.inf, scores),
        log_probs=tf.concat([choices.log_probs, log_probs], axis=1),
    ), ids_met


def drawn_choices(
    logits: tf.Tensor,
    at: Position,
    *,
    keys: tf.Tensor,
    temperature: tf.Tensor | float,
    count: int,
    top_p: tf.Tensor | float,
) -> Choices:
    """One id of each row, drawn at random from the `count` best (0: all) and `top_p` of those."""
    lower = penalised(logits, at.limits, at.said, at.length)
    allowed = without_repeated_ngrams(lower, at.limits, at.said, at.length)
    allowed = without(allowed, at.limits.forbidden_ids)
    if at.limits.has_least_length:
        every = tf.range(size_of(logits, 1))[None]
        may_not = may_not_follow(
            tf.tile(every, [tf.shape(logits)[0], 1]),
            at.limits._replace(forbidden_ids=()),
            at.length,
        )
        allowed = tf.where(may_not, -math.inf, allowed)
    scores, ids = top_k(allowed, count) if count else (allowed, None)
    highest = tf.reduce_max(scores, axis=1, keepdims=True)
    temperature = tf.maximum(temperature, np.finfo(np.float32).tiny)
    columns = draw_nucleus(tf.exp((scores - highest) / temperature), keys=keys, top_p=top_p)
    ids = columns if ids is None else tf.gather(ids, columns, batch_dims=1)
    ids = ids[:, None]
    may_say = tf.gather(allowed, ids, batch_dims=1) > -math.inf
    log_probs = _log_probs_of(ids, logits)
    log_probs = tf.where(may_say | tf.math.is_nan(log_probs), log_probs, -math.inf)
    return _forced(Choices(ids, log_probs, log_probs), logits, at)


def _forced(choices: Choices, logits: tf.Tensor, at: Position) -> Choices:
    """`choices`, or for rows whose next id is given that one alone."""
    if not at.limits.has_prefix:
        return choices
    forced = forced_ids(at.limits, at.length, logits)[:, None]  # [N, 1]
    free = forced == FREE
    log_probs = _log_probs_of(tf.maximum(forced, 0), logits)
    first = tf.range(size_of(choices.ids, 1)) == 0
    alone = tf.where(first, log_probs, -math.inf)  # [N, C]
    return Choices(
        ids=tf.where(free, choices.ids, forced),
        scores=tf.where(free, choices.scores, alone),
        log_probs=tf.where(free, choices.log_probs, alone),
    )


def _log_probs_of(ids: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Of some ids of each row `[N, C]`; NaN where the row is no distribution."""
    log_sums = _log_sums(logits)
    log_probs = tf.gather(logits, ids, batch_dims=1) - log_sums
    return tf.where(tf.math.is_finite(log_sums), log_probs, math.nan)


def _log_sums(logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_logsumexp(logits, axis=1, keepdims=True)  # [N, 1]
