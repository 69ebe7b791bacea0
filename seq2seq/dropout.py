"""Dropout whose masks are a pure function of a seed, so that a resumed run repeats them.

Keras keeps the state of its dropout in variables that are not saved with the weights. Here the
caller passes the randomness: a seed `[2]` int32 made of (experiment, step), folded once more for
every place that drops.
"""

from typing import Any

import tensorflow as tf

from seq2seq.layers import sub_seed


def fold_in(seed: tf.Tensor | None, place: str) -> tf.Tensor | None:
    """The seed of one place in the model, by its name; None (no dropout) stays None."""
    if seed is None:
        return None
    return tf.random.experimental.stateless_fold_in(seed, sub_seed(0, place))


def dropout(inputs: tf.Tensor, rate: float, seed: tf.Tensor | None) -> tf.Tensor:
    """`inputs` with a share `rate` of its elements zero and the others scaled to keep the mean.

    Srivastava et al. 2014. Two masks are cut from each 32 random bits, so `rate` is rounded to a
    multiple of 1 / 65,536; the scale is exact for the rounded rate.

    Args:
        inputs: Any shape, float.
        rate: 0 to 1.
        seed: `[2]` int32; None returns `inputs` as they are (outside training).
    """
    dropped = min(round(rate * 65536), 65535)
    if seed is None or not dropped:
        return inputs
    size = tf.size(inputs)
    words: Any = tf.random.stateless_uniform(
        [(size + 1) // 2], seed, minval=None, maxval=None, dtype=tf.uint32
    )
    halves = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:size]
    kept = tf.reshape(halves >= tf.constant(dropped, tf.uint16), tf.shape(inputs))
    scaled = inputs * tf.cast(65536 / (65536 - dropped), inputs.dtype)
    return tf.where(kept, scaled, tf.zeros([], inputs.dtype))
