"""Luong attention: what part of the source the decoder looks at (Luong et al. 2015)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from seq2seq.errors import UsageError
from seq2seq.layers import ExplicitLayer, sub_seed
from seq2seq.lstm import StepWeights

_LEAST_ATTENTION = 1e-30  # of a position that was never looked at: its logarithm is finite


class Memory(NamedTuple):
    """N source sentences as attention reads them; projected once, used at every step.

    Attributes:
        keys: What queries are compared with, `[N, S, H]` in the compute dtype.
        values: What is averaged, `[N, S, D]` in the compute dtype.
        lengths: Real positions, `[N]` int32.
    """

    keys: tf.Tensor
    values: tf.Tensor
    lengths: tf.Tensor


class LuongAttention(ExplicitLayer):
    """Global attention with the "general" score (Luong et al. 2015, sec. 3.1).

    score(h, m_s) = h . (m_s W_a); the weights are its softmax over the real positions of the
    source; the context is the weighted mean of the memory; the attentional vector is
    tanh(W_c [h; context] + b).

    With more than one head, each does that with its own part of h, m W_a and m, and scores are
    divided by the square root of that part's size (Vaswani et al. 2017, sec. 3.2).
    """

    def __init__(
        self,
        *,
        units: int,
        memory_size: int,
        features: int,
        heads: int = 1,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            units: H, size of the queries.
            memory_size: D, features of the memory.
            features: F, size of the attentional vector.
            heads: A, which divides `units` and `memory_size`.
            seed: Of the initial weights.
            **kwargs: `name` and `dtype` of the Keras layer.

        Raises:
            UsageError: `heads` does not divide both.
        """
        if units % heads or memory_size % heads:
            raise UsageError(
                f"heads: got {heads}, expected a divisor of units ({units}) and of memory_size "
                f"({memory_size})"
            )
        super().__init__(**kwargs)
        self.units = units
        self.memory_size = memory_size
        self.features = features
        self.heads = heads
        self.seed = seed

    def build(self) -> None:
        """Creates the weights."""
        memory_size = self.memory_size
        glorot = keras.initializers.GlorotUniform
        self.score_kernel = self.add_weight(
            name="score_kernel",
            shape=(memory_size, self.units),
            initializer=glorot(sub_seed(self.seed, "score_kernel")),
        )
        self.combine_kernel = self.add_weight(
            name="combine_kernel",
            shape=(self.units + memory_size, self.features),
            initializer=glorot(sub_seed(self.seed, "combine_kernel")),
        )
        self.combine_bias = self.add_weight(
            name="combine_bias", shape=(self.features,), initializer="zeros"
        )

    def memory(self, values: tf.Tensor, lengths: tf.Tensor) -> Memory:
        """The memory of `values` `[B, S, D]`, of which `lengths` `[B]` positions are real."""
        values = tf.cast(values, self.compute_dtype)
        # One product over all positions: a batched one would make a gradient [D, H] per sentence.
        keys = tf.tensordot(values, tf.cast(self.score_kernel, self.compute_dtype), 1)
        return Memory(keys, values, lengths)

    def weights_and_context(
        self, queries: tf.Tensor, memory: Memory
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The attention weights `[N, T, S]` (float32) and contexts `[N, T, D]` of `[N, T, H]`.

        The weights are the mean of those of all heads.
        """
        queries, keys, values = map(self._by_head, (queries, memory.keys, memory.values))
        scores = tf.cast(tf.matmul(queries, keys, transpose_b=True), tf.float32)
        if self.heads > 1:
            scores *= (self.units / self.heads) ** -0.5
        real = tf.sequence_mask(memory.lengths, tf.shape(memory.keys)[1])[:, None, None, :]
        weights = tf.nn.softmax(tf.where(real, scores, scores.dtype.min))  # [N, A, T, S]
        # Of nothing at all there is nothing to look at, rather than padding.
        weights *= tf.cast(memory.lengths > 0, weights.dtype)[:, None, None, None]
        contexts = tf.matmul(tf.cast(weights, values.dtype), values)
        if self.heads == 1:
            return weights[:, 0], contexts[:, 0]
        contexts = tf.transpose(contexts, [0, 2, 1, 3])  # [N, T, A, D / A]
        shape = [*tf.unstack(tf.shape(contexts)[:2]), self.memory_size]
        return tf.reduce_mean(weights, 1), tf.reshape(contexts, shape)

    def _by_head(self, vectors: tf.Tensor) -> tf.Tensor:
        """`[N, T, X]` as `[N, A, T, X / A]`."""
        if self.heads == 1:
            return vectors[:, None]
        rows, positions = tf.unstack(tf.shape(vectors)[:2])
        parts = tf.reshape(vectors, [rows, positions, self.heads, vectors.shape[-1] // self.heads])
        return tf.transpose(parts, [0, 2, 1, 3])

    def weights_and_contexts_of_rows(
        self, queries: tf.Tensor, memory: Memory
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The weights `[N, S]` (float32) and contexts `[N, D]` of one query `[N, H]` a row.

        The memory may have fewer rows, B: then N / B queries in a row are of one sentence.
        """
        rows, sentences = tf.shape(queries)[0], tf.shape(memory.lengths)[0]
        rows_each = rows // tf.maximum(sentences, 1)
        queries = tf.reshape(queries, [sentences, rows_each, self.units])
        weights, context = self.weights_and_context(queries, memory)
        weights = tf.reshape(weights, [rows, tf.shape(memory.keys)[1]])
        return weights, tf.reshape(context, [rows, self.memory_size])

    def combine(self, queries: tf.Tensor, context: tf.Tensor) -> tf.Tensor:
        """The attentional vectors `[..., F]` of queries `[..., H]` and contexts `[..., D]`."""
        joined = tf.concat([queries, context], -1)
        kernel = tf.cast(self.combine_kernel, self.compute_dtype)
        product = tf.tensordot(joined, kernel, 1)
        return tf.tanh(product + tf.cast(self.combine_bias, self.compute_dtype))

    def layout(self) -> StepWeights:
        """The weights of the attentional vector, laid out for many steps."""
        kernel = tf.transpose(tf.cast(self.combine_kernel, self.compute_dtype))
        return StepWeights(kernel, tf.cast(self.combine_bias, self.compute_dtype)[:, None])

    def combiner(
        self, layout: StepWeights | None = None
    ) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """`combine` of queries `[N, H]` and contexts `[N, D]`, with the weights of a `layout`."""
        kernel, bias = layout or self.layout()

        def combine(queries: tf.Tensor, context: tf.Tensor) -> tf.Tensor:
            joined = tf.concat([queries, context], 1)
            return tf.transpose(tf.tanh(tf.matmul(kernel, joined, transpose_b=True) + bias))

        return combine


def coverage_score(
    attended: tf.Tensor, lengths: tf.Tensor, penalty: tf.Tensor | float
) -> tf.Tensor:
    """`penalty` * sum over the source of log min(attended, 1) (Wu et al. 2016, sec. 7, eq. 14).

    Args:
        attended: The attention each source position has had in all steps together, `[N, S]`.
        lengths: Real positions of the source, `[B]` int32; each holds for N / B consecutive rows.
        penalty: beta there; 0 makes every score 0.

    Returns:
        `[N]`, at most 0: what a hypothesis loses for source positions that it did not look at.
    """
    rows_each = tf.shape(attended)[0] // tf.maximum(tf.shape(lengths)[0], 1)
    real = tf.sequence_mask(tf.repeat(lengths, rows_each), tf.shape(attended)[1])
    logs = tf.math.log(tf.clip_by_value(attended, _LEAST_ATTENTION, 1.0))
    return penalty * tf.reduce_sum(tf.where(real, logs, 0.0), axis=1)
