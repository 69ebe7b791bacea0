"""Where decoding ends, and what a hypothesis may and must say.

Shapes: B sentences, N rows (the hypotheses of all sentences, N / B each), V vocabulary, C columns,
T longest hypothesis, P longest prefix.
"""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq.errors import UsageError

_LONGEST_NGRAM = 1 << 30  # longer than any hypothesis, and what is added to it fits int32

FREE = -1
"""In a prefix: the position is left to the search."""


class Limits(NamedTuple):
    """Where decoding ends, and what a hypothesis may and must say.

    Attributes:
        end_id: The id that completes a hypothesis; -1 if none does.
        max_length: Most ids of each sentence's hypotheses, end id counted: `[B]` int32, or one
            number for all. A hypothesis of this length is complete without an end id.
        forbidden_ids: Ids that are never chosen. With the end id among them every hypothesis has
            `max_length` ids.
        min_length: Fewest ids, end id counted: `[B]` int32, or one number for all.
        prefix: What each hypothesis begins with, ids below V `[B, P]` int32, filled up with `FREE`,
            where any id may stand and the hypothesis may end; () if there is none. It goes before
            all other limits but `max_length`, and its ids are scored like any others.
        no_repeat_ngram: No so many ids in a row occur twice in a hypothesis (Paulus et al. 2018,
            sec. 2.5); 0 allows all.
        repetition_penalty: Logits of ids that the hypothesis has already are divided by it where
            positive, else multiplied (Keskar et al. 2019, sec. 4.1); 1 changes nothing.
        constraints: What each hypothesis contains, sequences of ids anywhere and in any order,
            `[B, X, L]` int32 with X and L of 1 or more, filled up with `constraints.NONE`; () if
            there are none. Of beam search only. They go before all other limits but `max_length`
            and `prefix`; where `max_length` leaves no room for all of them there is no hypothesis.
    """

    end_id: int
    max_length: tf.Tensor | int
    forbidden_ids: tuple[int, ...] = ()
    min_length: Any = 0
    prefix: Any = ()
    no_repeat_ngram: int = 0
    repetition_penalty: tf.Tensor | float = 1.0
    constraints: Any = ()

    @property
    def penalises(self) -> bool:
        """Whether scores differ from the model's log-probabilities."""
        return tf.is_tensor(self.repetition_penalty) or self.repetition_penalty != 1.0

    @property
    def has_least_length(self) -> bool:
        """Whether an end can come too early."""
        if isinstance(self.min_length, int):
            return self.min_length > 1
        return _is_there(self.min_length)

    @property
    def has_prefix(self) -> bool:
        """Whether ids are given."""
        return _is_there(self.prefix)

    @property
    def has_constraints(self) -> bool:
        """Whether ids have to be said."""
        return _is_there(self.constraints)


def _is_there(part: Any) -> bool:
    """Whether a limit is given: a loop carries () in its place, as it cannot carry None."""
    return not (isinstance(part, tuple) and not part)


def per_sentence(limits: Limits, sentences: tf.Tensor) -> Limits:
    """`limits` as int32 tensors, lengths for each of the `sentences` (how many, an int32 scalar).

    `min_length` is () where no end can come too early.

    Raises:
        UsageError: A limit is out of range.
    """
    if limits.no_repeat_ngram < 0:
        raise UsageError(f"no_repeat_ngram: got {limits.no_repeat_ngram}, expected 0 or more")
    penalty = limits.repetition_penalty
    if not tf.is_tensor(penalty) and not 0.0 < penalty < math.inf:
        raise UsageError(f"repetition_penalty: got {penalty!r}, expected a finite number above 0")
    least = limits.min_length
    return limits._replace(
        max_length=tf.broadcast_to(tf.cast(limits.max_length, tf.int32), [sentences]),
        min_length=(
            tf.broadcast_to(tf.cast(least, tf.int32), [sentences])
            if limits.has_least_length
            else ()
        ),
        prefix=_rows("prefix", limits.prefix, sentences) if limits.has_prefix else (),
        constraints=(
            _rows("constraints", limits.constraints, sentences) if limits.has_constraints else ()
        ),
    )


def _rows(name: str, ids: Any, sentences: tf.Tensor) -> tf.Tensor:
    """`ids` as int32, a row for each of the `sentences`; one row is that of all."""
    ids, known = tf.cast(ids, tf.int32), tf.get_static_value(sentences)
    if known is not None and ids.shape[0] not in (1, known, None):
        raise UsageError(f"{name}: got {ids.shape[0]} rows, expected {known}, one a sentence")
    return tf.broadcast_to(ids, tf.concat([[sentences], tf.shape(ids)[1:]], 0))


def may_not_follow(ids: tf.Tensor, limits: Limits, length: tf.Tensor) -> tf.Tensor:
    """Which of `ids` `[N, C]` may not follow `length` ids: forbidden ones, and an early end."""
    may_not = tf.zeros_like(ids, tf.bool)
    if limits.forbidden_ids:
        forbidden = tf.constant(sorted(limits.forbidden_ids))
        may_not = tf.reduce_any(ids[:, :, None] == forbidden, axis=2)
    if limits.has_least_length:
        early = length + 1 < per_row(limits.min_length, ids)  # [N]
        may_not |= early[:, None] & (ids == limits.end_id)
    return may_not


def forced_ids(limits: Limits, length: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """What each of the `rows` (any tensor `[N, ...]`) must say after `length` ids, or `FREE`."""
    padded = tf.pad(limits.prefix, [[0, 0], [0, 1]], constant_values=FREE)
    at = tf.minimum(length, tf.shape(limits.prefix)[1])
    return per_row(padded[:, at], rows)


def penalised(logits: tf.Tensor, limits: Limits, said: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """`logits` `[N, V]` after the repetition penalty; `said` `[N, T]` has `length` ids a row."""
    if not limits.penalises:
        return logits
    place = _places(said, tf.broadcast_to(tf.range(tf.shape(said)[1]) < length, tf.shape(said)))
    repeated = tf.gather_nd(logits, place)
    factor = tf.cast(limits.repetition_penalty, tf.float32)
    lower = tf.where(repeated > 0.0, repeated / factor, repeated * factor)
    return tf.tensor_scatter_nd_update(logits, place, lower)


def without_repeated_ngrams(
    logits: tf.Tensor, limits: Limits, said: tf.Tensor, length: tf.Tensor
) -> tf.Tensor:
    """`logits` `[N, V]` with -inf for what would complete an n-gram that `said` `[N, T]` has.

    With n = 3, said = [7, 8, 9, 7, 8] and so length = 5: the last two ids stand at 0 as well, and
    there 9 follows.
    """
    n = min(limits.no_repeat_ngram, _LONGEST_NGRAM)
    if not n:
        return logits
    starts = tf.maximum(tf.shape(said)[1] - n + 1, 0)  # where an n-gram can begin
    same = tf.broadcast_to(tf.range(starts) <= length - n, [tf.shape(said)[0], starts])

    def compared(offset: tf.Tensor, same: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        last = tf.gather(said, tf.maximum(length - n + 1 + offset, 0), axis=1)  # [N]
        return offset + 1, same & (said[:, offset : offset + starts] == last[:, None])

    _, same = tf.while_loop(
        lambda offset, same: (offset < n - 1) & (starts > 0),
        compared,
        (tf.constant(0), same),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None])),
    )
    place = _places(said[:, n - 1 :][:, :starts], same)
    values = tf.fill([tf.shape(place)[0]], tf.constant(-math.inf))
    return tf.tensor_scatter_nd_update(logits, place, values)


def _places(ids: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Where the `chosen` of `ids` `[N, C]` stand among logits: pairs of row and id."""
    columns = tf.cast(tf.where(chosen), tf.int32)  # pairs of row and column
    return tf.stack([columns[:, 0], tf.gather_nd(ids, columns)], axis=1)


def per_row(values: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """`[B]` as `[N]`: a sentence's value for each of its `rows` (any tensor `[N, ...]`)."""
    sentences = tf.maximum(tf.shape(values)[0], 1)
    return tf.repeat(values, tf.shape(rows)[0] // sentences)
