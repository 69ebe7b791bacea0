"""The best columns of many rows, and columns drawn at random by their weights.

Shapes: N rows, V or C columns.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

_BLOCK = 32  # columns of a block in `top_k` and `_draw`; from 16 to 64 all are about as fast


class Best(NamedTuple):
    """Columns of each row and their scores, best first: `[N, C]` and `[N, C]` int32."""

    scores: tf.Tensor
    ids: tf.Tensor


def top_k(scores: tf.Tensor, count: int) -> Best:
    """The `count` highest `scores` `[N, V]` of each row; of equal ones the lower id comes first.

    Over 8,000 columns `tf.math.top_k` takes longer than a whole LSTM step. So: the maximum of each
    block of columns, the best `count` blocks, the best columns in those. If `count` blocks come
    before a column's block, then so do as many columns before the column.
    """
    columns = scores.shape[1]
    if columns is None or columns < 4 * _BLOCK * count:
        comparable = tf.where(tf.math.is_nan(scores), -math.inf, scores)
        return Best(*tf.math.top_k(comparable, at_most(count, size_of(scores, 1))))
    blocks = _blocks(scores, filling=-math.inf)
    _, best = tf.math.top_k(tf.reduce_max(blocks, axis=2), count)
    best = tf.sort(best)  # so that of equal scores the lower id still comes first
    within = tf.reshape(tf.gather(blocks, best, batch_dims=1), [-1, count * _BLOCK])
    scores, places = tf.math.top_k(within, count)
    # Place 70 is column 70 % 32 = 6 of block best[70 // 32] = best[2].
    ids = tf.gather(best, places // _BLOCK, batch_dims=1) * _BLOCK + places % _BLOCK
    return Best(scores, ids)


def _blocks(rows: tf.Tensor, *, filling: float) -> tf.Tensor:
    """`rows` `[N, C]` as `[N, blocks, _BLOCK]`, the last block filled up."""
    missing = -rows.shape[1] % _BLOCK
    if missing:  # padding copies
        rows = tf.pad(rows, [[0, 0], [0, missing]], constant_values=filling)
    return tf.reshape(rows, [-1, rows.shape[1] // _BLOCK, _BLOCK])


def without(logits: tf.Tensor, forbidden_ids: Sequence[int]) -> tf.Tensor:
    """`logits` `[N, V]` with -inf for forbidden ids."""
    if not forbidden_ids:
        return logits
    ids = tf.range(size_of(logits, 1))
    may_not = tf.reduce_any(ids[:, None] == tf.constant(sorted(forbidden_ids)), axis=1)
    return tf.where(may_not, -math.inf, logits)


def draw_nucleus(weights: tf.Tensor, *, keys: tf.Tensor, top_p: tf.Tensor | float) -> tf.Tensor:
    """A column of each row `[N]` int32, drawn by `weights` `[N, C]` from the top `top_p` share.

    Needs no sorting: a column is in the nucleus if those before it weigh less than the share. One
    that is not is drawn anew, from the columns before it, as no later one can be in the nucleus.
    """
    if not tf.is_tensor(top_p) and top_p == 1.0:
        return _draw(weights, mix(keys))
    least = np.finfo(np.float32).tiny  # of a share of 0 there would be no end
    share = tf.maximum(top_p, least) * tf.reduce_sum(weights, axis=1)
    share = tf.where(top_p < 1.0, share, math.inf)
    columns = tf.range(size_of(weights, 1))

    def draw(
        attempt: tf.Tensor, drawn: tf.Tensor, rest: tf.Tensor, outside: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        again = _draw(rest, mix(keys ^ as_uint64(attempt)))
        drawn = tf.where(outside, again, drawn)
        own = tf.gather(weights, drawn, batch_dims=1)[:, None]
        before = (weights > own) | ((weights == own) & (columns < drawn[:, None]))
        rest = tf.where(before, weights, 0.0)
        # False for NaN, which nothing would ever be inside of.
        return attempt + 1, drawn, rest, tf.reduce_sum(rest, axis=1) >= share

    everywhere = tf.ones_like(share, tf.bool)
    loop = (tf.constant(0), tf.zeros_like(share, tf.int32), weights, everywhere)
    _, drawn, _, _ = tf.while_loop(lambda *loop: tf.reduce_any(loop[3]), draw, loop)
    return drawn


def _draw(weights: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """A column of each row `[N]` int32, drawn by `weights` `[N, C]` with random `keys` `[N]`."""
    columns = weights.shape[1]
    if columns is None or columns < _BLOCK**2:
        return _find(weights, _uniform(keys))
    # A block, then a column in it: cumulative sums over all columns are slow.
    blocks = _blocks(weights, filling=0.0)
    block = _find(tf.reduce_sum(blocks, axis=2), _uniform(keys))
    column = _find(tf.gather(blocks, block, batch_dims=1), _uniform(mix(keys)))
    return tf.minimum(block * _BLOCK + column, columns - 1)  # beyond only if weights are NaN


def _find(weights: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """The column `[N]` int32 in which the share `uniforms` `[N]` of all `weights` `[N, C]` lies."""
    sums = tf.cumsum(weights, axis=1)
    goals = uniforms[:, None] * sums[:, -1:]  # less than the last sum, so never beyond it
    columns = tf.searchsorted(sums, goals, side="right")[:, 0]
    return tf.minimum(columns, size_of(weights, 1) - 1)  # beyond only if weights are NaN


def _uniform(keys: tf.Tensor) -> tf.Tensor:
    """Numbers in [0, 1) made of the top 23 bits of `keys` uint64, so that x * y < y in float32."""
    return tf.cast(tf.bitwise.right_shift(keys, as_uint64(41)), tf.float32) * 2.0**-23


def mix(keys: tf.Tensor) -> tf.Tensor:
    """Random-looking uint64, each of one key: what SplitMix64 draws next in the state `keys`.

    Steele et al. 2014, "Fast splittable pseudorandom number generators". TensorFlow's own stateless
    generators take one key for a whole tensor, so that a row's numbers depend on its place in it.
    """
    keys += as_uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys = (keys ^ tf.bitwise.right_shift(keys, as_uint64(shift))) * as_uint64(factor)
    return keys ^ tf.bitwise.right_shift(keys, as_uint64(31))


def as_uint64(number: tf.Tensor | int) -> tf.Tensor:
    """`number` modulo 2 ** 64, as keys are."""
    if isinstance(number, int):
        return tf.constant(number % 2**64, tf.uint64)
    return tf.cast(number, tf.uint64)


def size_of(tensor: tf.Tensor, axis: int) -> tf.Tensor | int:
    """A number where the size is known when the graph is made."""
    size = tensor.shape[axis]
    return tf.shape(tensor)[axis] if size is None else size


def at_most(count: int, size: tf.Tensor | int) -> tf.Tensor | int:
    """The lesser of the two; a Python int where both are known."""
    return min(count, size) if isinstance(size, int) else tf.minimum(count, size)
