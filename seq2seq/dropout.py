"""Dropout whose masks are a pure function of a seed, so that a resumed run repeats them.

Keras keeps the state of its dropout in variables that are not saved with the weights. Here the
caller passes the randomness: a seed `[2]` int32 made of (experiment, step), folded once more for
every place that drops.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq.layers import sub_seed


class DropoutRates(NamedTuple):
    """What is dropped in training; every rate a share from 0 to 1.

    Shapes: T positions, X features, B sequences, N positions of all sequences.

    Attributes:
        layers: Of the elements between layers and of the features before the output (Zaremba et
            al. 2014).
        embedding: Of the elements of embedded ids.
        words: Of the ids: all elements of one that is dropped, at each position for itself (after
            Gal & Ghahramani 2016, sec. 4.2, who drop an id wherever it is in a sentence).
        recurrent: Of the weights by which a layer reads its own last state, the same ones for all
            sentences that are computed together: a batch, or a shard of one on a processor (Merity
            et al. 2018, sec. 2).
        variational: Elements are dropped at every position of a sequence or at none of them (Gal &
            Ghahramani 2016, sec. 4.1).
    """

    layers: float = 0.0
    embedding: float = 0.0
    words: float = 0.0
    recurrent: float = 0.0
    variational: bool = False

    def of_embedded(self, sequence: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """What is left of embedded ids `[T, X, B]`."""
        sequence = self._of_elements(sequence, self.embedding, seed)
        return dropout(sequence, self.words, fold_in(seed, "words"), same_along=1)

    def of_layer(self, sequence: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """What is left of what a layer reads of the one below, `[T, X, B]`."""
        return self._of_elements(sequence, self.layers, seed)

    def of_features(
        self, features: tf.Tensor, lengths: tf.Tensor, seed: tf.Tensor | None
    ) -> tf.Tensor:
        """What is left of the features `[N, X]` of sequences of `lengths` `[B]`, one by one."""
        if seed is None or not self.variational:
            return dropout(features, self.layers, seed)
        factors = tf.ones([tf.size(lengths), features.shape[-1]], features.dtype)
        return features * tf.repeat(dropout(factors, self.layers, seed), lengths, axis=0)

    def _of_elements(self, sequence: tf.Tensor, rate: float, seed: tf.Tensor | None) -> tf.Tensor:
        return dropout(sequence, rate, seed, same_along=0 if self.variational else None)


NO_DROPOUT = DropoutRates()


def fold_in(seed: tf.Tensor | None, place: str) -> tf.Tensor | None:
    """The seed of one place in the model, by its name; None (no dropout) stays None."""
    if seed is None:
        return None
    return tf.random.experimental.stateless_fold_in(seed, sub_seed(0, place))


def dropout(
    inputs: tf.Tensor, rate: float, seed: tf.Tensor | None, *, same_along: int | None = None
) -> tf.Tensor:
    """`inputs` with a share `rate` of its elements zero and the others scaled to keep the mean.

    Srivastava et al. 2014. Two masks are cut from each 32 random bits, so `rate` is rounded to a
    multiple of 1 / 65,536; the scale is that of the rounded rate, in the type of `inputs`.

    Args:
        inputs: Any shape, float.
        rate: 0 to 1.
        seed: `[2]` int32; None returns `inputs` as they are (outside training).
        same_along: An axis along which the mask is the same: all is dropped, or nothing.
    """
    dropped = min(round(rate * 65536), 65535)
    if seed is None or not dropped:
        return inputs
    shape = tf.shape(inputs)
    if same_along is not None:
        shape = tf.where(tf.range(tf.rank(inputs)) == same_along, 1, shape)
    size = tf.reduce_prod(shape)
    words: Any = tf.random.stateless_uniform(
        [(size + 1) // 2], seed, minval=None, maxval=None, dtype=tf.uint32
    )
    halves = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:size]
    kept = tf.reshape(halves >= tf.constant(dropped, tf.uint16), shape)
    scaled = inputs * tf.cast(65536 / (65536 - dropped), inputs.dtype)
    thinned = tf.where(kept, scaled, tf.zeros([], inputs.dtype))
    return tf.ensure_shape(thinned, inputs.shape)
