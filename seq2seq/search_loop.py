"""Steps until every sentence is done: the loop that all searches have in common.

Sentences that are done leave the batch, and the loop ends when there are none left.

Shapes: B sentences, N rows (as many for each sentence, side by side), P ids of a prefix, X
constraints of L ids.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq.limits import Limits, per_sentence

_ROWS_KEPT = 8  # a batch shrinks to multiples of this, so that a step meets few different sizes


class Given(NamedTuple):
    """What decoding does not change, of the sentences that are still in the batch.

    Attributes:
        memory: What every step is given.
        max_length: `[B]` int32.
        min_length: `[B]` int32, or ().
        prefix: `[B, P]` int32, or ().
        constraints: `[B, X, L]` int32, or ().
        keys: Of random draws `[B]` uint64, or ().
    """

    memory: Any
    max_length: tf.Tensor
    min_length: Any
    prefix: Any
    constraints: Any
    keys: Any


def given_of(memory: Any, limits: Limits, sentences: tf.Tensor, keys: Any = ()) -> Given:
    """`memory` and the limits of each sentence; `sentences` is their number, an int32 scalar."""
    limits = per_sentence(limits, sentences)
    return Given(
        memory=tf.nest.map_structure(tf.convert_to_tensor, memory),
        max_length=limits.max_length,
        min_length=limits.min_length,
        prefix=limits.prefix,
        constraints=limits.constraints,
        keys=keys,
    )


def until_done(
    advance: Callable[[tf.Tensor, Any, Given], Any],
    progress: Any,
    given: Given,
    *,
    length: tf.Tensor,
    done: Callable[[Any], tf.Tensor],
    outcome: Callable[[Any], Any],
) -> Any:
    """The outcome of every sentence, after as many steps as it needs.

    Sentences that are done leave the batch, some at a time, so that no step is made for them.

    Args:
        advance: (length, progress, given) to the progress one step later.
        progress: The first; every leaf has as many rows for each sentence on axis 0.
        given: Likewise.
        length: Ids said before the first step.
        done: Of a progress, which sentences need no further step `[B]`.
        outcome: Of a progress, the results that are wanted, B on axis 0.
    """
    sentences = tf.range(tf.size(done(progress)))
    results = tf.nest.map_structure(tf.zeros_like, outcome(progress))

    def run(length, sentences, progress, given, results):  # type: ignore[no-untyped-def]
        enough = tf.size(sentences) * 3 // 4 // _ROWS_KEPT * _ROWS_KEPT
        length, progress = tf.while_loop(
            lambda _, progress: tf.math.count_nonzero(~done(progress), dtype=tf.int32) > enough,
            lambda length, progress: (
                length + 1,
                _with_shapes_of(progress, advance(length, progress, given)),
            ),
            (length, progress),
        )
        results = tf.nest.map_structure(
            lambda every, some: tf.tensor_scatter_nd_update(every, sentences[:, None], some),
            results,
            outcome(progress),
        )
        kept = _undone_first(done(progress))
        take = functools.partial(_rows_of, sentences=kept, of=tf.size(sentences))
        progress, given = tf.nest.map_structure(take, (progress, given))
        return length, tf.gather(sentences, kept), progress, given, results

    loop = (length, sentences, progress, given, results)
    *_, results = tf.while_loop(
        lambda _, sentences, *rest: tf.size(sentences) > 0,
        run,
        loop,
        shape_invariants=tf.nest.map_structure(_any_rows, loop),
    )
    return results


def longest_of(given: Given) -> tf.Tensor:
    """Room for the ids of a hypothesis; there is some even where none may be said."""
    return tf.maximum(tf.reduce_max(given.max_length), 1)


def repeat_rows(structure: Any, count: int) -> Any:
    """`[B, ...]` leaves as `[B * count, ...]`: row b * count + k is row b for each k."""
    return tf.nest.map_structure(lambda leaf: tf.repeat(leaf, count, axis=0), structure)


def _undone_first(done: tf.Tensor) -> tf.Tensor:
    """The undone sentences, filled up with done ones to a multiple of `_ROWS_KEPT` if any is left.

    [T, F, T, F] gives [1, 3, 0, 2] where a multiple of 4 is wanted.
    """
    left = tf.math.count_nonzero(~done, dtype=tf.int32)
    rounded = -(-left // _ROWS_KEPT) * _ROWS_KEPT
    return tf.argsort(tf.cast(done, tf.int32), stable=True)[:rounded]


def _rows_of(leaf: tf.Tensor, *, sentences: tf.Tensor, of: tf.Tensor) -> tf.Tensor:
    """The rows of some `sentences`, where axis 0 has as many for each of `of` sentences."""
    rows_each = tf.shape(leaf)[0] // of
    return tf.gather(leaf, tf.reshape(sentences[:, None] * rows_each + tf.range(rows_each), [-1]))


def _any_rows(leaf: tf.Tensor) -> tf.TensorShape:
    return tf.TensorShape([None, *leaf.shape[1:]] if leaf.shape.rank else [])


def _with_shapes_of(before: Any, after: Any) -> Any:
    """`after` with all that is known of the shapes before, which a loop must not lose."""
    return tf.nest.map_structure(lambda old, new: tf.ensure_shape(new, old.shape), before, after)
