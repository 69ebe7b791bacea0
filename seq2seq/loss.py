"""Output projection and cross-entropy in one: the loss and its exact gradient, chunk by chunk.

The logits of all tokens, `[N, V]`, are the largest tensor of a training step. Here they exist for
one chunk of tokens at a time, and the gradients with respect to features and weights are made
while they do.
"""

from typing import NamedTuple

import tensorflow as tf

MAX_CHUNK = 640
"""Most tokens of a chunk: large enough for fast products, small enough to stay in cache."""

_CHUNK_STEP = 32  # chunk sizes are multiples of this, as every new size is compiled anew


class Loss(NamedTuple):
    """Sums over N tokens, float32 scalars; with consistency the means of the two passes.

    Attributes:
        total: What is minimised: cross-entropy with label smoothing, and what is added for
            consistency, nats.
        nll: Negative log-probability of the labels, nats; not differentiable.
        correct: Number of tokens whose label has the highest logit, and of equals the lowest id;
            not differentiable.
    """

    total: tf.Tensor
    nll: tf.Tensor
    correct: tf.Tensor


def cross_entropy(
    features: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    labels: tf.Tensor,
    label_smoothing: float = 0.0,
    consistency: float = 0.0,
) -> Loss:
    """The loss of predicting `labels` with softmax(features @ kernel^T + bias).

    Label smoothing (Szegedy et al. 2016, sec. 7): the target distribution is 1 - e on the label
    plus e / V on every id. Products run in the dtype of `features`, all else in float32.

    Consistency (R-Drop, Liang et al. 2021, sec. 2): the features are those of two passes with
    other dropout masks, first all tokens of one and then all of the other. What is summed is the
    mean of both cross-entropies, plus a / 2 times the mean of the Kullback-Leibler divergences of
    the two distributions of a token from each other.

    Args:
        features: `[N, F]` float32 or bfloat16, real tokens only; `[2N, F]` for consistency.
        kernel: `[V, F]` float32.
        bias: `[V]` float32.
        labels: `[N]` int32.
        label_smoothing: e, 0 to 1.
        consistency: a, the weight of the divergence; 0 means a single pass.
    """
    if consistency:
        features, labels = _interleaved(features), tf.repeat(labels, 2)
    count = tf.shape(features)[0]
    chunks = tf.maximum(1, -(-count // MAX_CHUNK))
    chunk = tf.maximum(1, -(-count // chunks))
    chunk = -(-chunk // _CHUNK_STEP) * _CHUNK_STEP
    padding = chunks * chunk - count
    # A padded row has label -1: its loss and gradient are zero.
    features = tf.pad(features, [[0, padding], [0, 0]])
    labels = tf.pad(labels, [[0, padding]], constant_values=-1)
    sums = _chunked(features, kernel, bias, labels, chunk, label_smoothing, consistency)
    return Loss(*(each / 2.0 for each in sums) if consistency else sums)


def _interleaved(features: tf.Tensor) -> tf.Tensor:
    """Two passes `[2N, F]`, one after the other, as token after token: rows 2n and 2n + 1."""
    passes = tf.reshape(features, [2, -1, features.shape[1]])
    return tf.reshape(tf.transpose(passes, [1, 0, 2]), [-1, features.shape[1]])


def _chunked(
    features: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    labels: tf.Tensor,
    chunk: tf.Tensor,
    label_smoothing: float,
    consistency: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    dtype = features.dtype
    gradient_of_logits = _softmax_gradient if not consistency else _consistent_gradient
    chunks = tf.shape(features)[0] // chunk

    @tf.custom_gradient
    def run(features, kernel, bias):  # type: ignore[no-untyped-def]
        mean_logits = _sum_of_mean_logits(features, kernel, bias, labels)
        kernel = tf.cast(kernel, dtype)
        kernel_by_feature = tf.transpose(kernel)  # [F, V]

        def body(index, sums, d_features, d_kernel, d_bias):  # type: ignore[no-untyped-def]
            rows = features[index * chunk : (index + 1) * chunk]
            row_labels = labels[index * chunk : (index + 1) * chunk]
            logits = tf.matmul(rows, kernel_by_feature)  # [C, V]
            row_sums, d_logits, row_d_bias = gradient_of_logits(
                logits, bias, row_labels, tf.constant([label_smoothing, consistency])
            )
            d_features = d_features.write(index, tf.matmul(d_logits, kernel))
            d_kernel = _add(d_kernel, tf.matmul(d_logits, rows, transpose_a=True))
            return index + 1, sums + row_sums, d_features, d_kernel, d_bias + row_d_bias

        loop = (
            tf.constant(0), tf.zeros([4]), tf.TensorArray(dtype, chunks),
            tf.zeros(tf.shape(kernel)), tf.zeros_like(bias),
        )  # fmt: skip
        _, sums, d_features, d_kernel, d_bias = tf.while_loop(
            lambda index, *_: index < chunks, body, loop, parallel_iterations=1
        )
        log_normalizers, nll, correct, divergence = tf.unstack(sums)
        smooth = log_normalizers - mean_logits  # cross-entropy with the uniform distribution
        total = (1.0 - label_smoothing) * nll + label_smoothing * smooth
        total += consistency * divergence
        d_features = d_features.concat()

        def gradient(d_total, d_nll, d_correct):  # type: ignore[no-untyped-def]
            del d_nll, d_correct
            return tf.cast(d_total, dtype) * d_features, d_total * d_kernel, d_total * d_bias

        return (total, nll, correct), gradient

    return run(features, kernel, tf.convert_to_tensor(bias))


def _sum_of_mean_logits(
    features: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, labels: tf.Tensor
) -> tf.Tensor:
    """The logits' mean over the vocabulary, summed over real tokens: without making the logits."""
    tokens = tf.reduce_sum(tf.cast(labels >= 0, tf.float32))
    features = tf.reduce_sum(tf.cast(features, tf.float32), 0)  # [F]; padded rows are zero
    mean_kernel = tf.reduce_mean(kernel, 0)
    return tf.reduce_sum(features * mean_kernel) + tokens * tf.reduce_mean(bias)


@tf.function(jit_compile=True, autograph=False)
def _add(total, product):  # type: ignore[no-untyped-def]
    return total + tf.cast(product, tf.float32)


@tf.function(jit_compile=True, autograph=False)
def _softmax_gradient(logits, bias, labels, options):  # type: ignore[no-untyped-def]
    """Sums (log normalizer, nll, correct, 0), d total / d logits `[C, V]`, its sum `[V]`."""
    sums, d_logits, _ = _cross_entropy_gradient(logits, bias, labels, options[0])  # type: ignore[no-untyped-call]
    return sums, tf.cast(d_logits, logits.dtype), tf.reduce_sum(d_logits, 0)


@tf.function(jit_compile=True, autograph=False)
def _consistent_gradient(logits, bias, labels, options):  # type: ignore[no-untyped-def]
    """`_softmax_gradient` of rows 2n and 2n + 1 that are passes of one token, with divergences.

    d KL(p, q) / d p's logits is p (log p - log q - KL(p, q)), and of q's it is q - p.
    """
    sums, d_logits, log_probs = _cross_entropy_gradient(  # type: ignore[no-untyped-call]
        logits, bias, labels, options[0]
    )
    real = tf.cast(labels >= 0, tf.float32)[:, None]
    pairs = tf.reshape(log_probs, [-1, 2, logits.shape[1]])
    others = tf.reshape(pairs[:, ::-1], tf.shape(log_probs))  # of the other pass of each row
    probs, apart = tf.exp(log_probs), log_probs - others
    divergence = tf.reduce_sum(probs * apart, 1, keepdims=True)  # [C, 1]
    d_divergences = probs * (apart - divergence) + probs - tf.exp(others)
    d_logits += 0.5 * options[1] * real * d_divergences
    sums += tf.stack([0.0, 0.0, 0.0, 0.5 * tf.reduce_sum(real * divergence)])
    return sums, tf.cast(d_logits, logits.dtype), tf.reduce_sum(d_logits, 0)


def _cross_entropy_gradient(logits, bias, labels, smoothing):  # type: ignore[no-untyped-def]
    """Sums, d cross-entropy / d logits `[C, V]`, and log-probabilities `[C, V]`.

    Every pass over `[C, V]` costs as much as a good part of a product, so there are few; XLA makes
    none for log-probabilities that the caller drops.
    """
    vocabulary = logits.shape[1]
    logits = tf.cast(logits, tf.float32) + bias
    real = tf.cast(labels >= 0, tf.float32)
    ids, label = tf.range(vocabulary)[None, :], labels[:, None]
    label_logit = tf.gather(logits, tf.maximum(labels, 0), batch_dims=1)
    highest = tf.reduce_max(logits, 1)
    exponentials = tf.exp(logits - highest[:, None])
    normalizer = tf.reduce_sum(exponentials, 1)
    log_normalizer = highest + tf.math.log(normalizer)
    # As greedy search: of equal logits the lowest id. They are common in bfloat16.
    highest_before = tf.reduce_max(tf.where(ids < label, logits, logits.dtype.min), 1)
    correct = tf.cast((label_logit >= highest) & (label_logit > highest_before), tf.float32)
    wanted = tf.where(ids == label, 1.0 - smoothing, 0.0) + smoothing / vocabulary
    d_logits = real[:, None] * (exponentials / normalizer[:, None] - wanted)
    sums = [log_normalizer, log_normalizer - label_logit, correct, tf.zeros_like(real)]
    sums = tf.stack([tf.reduce_sum(real * each) for each in sums])
    return sums, d_logits, logits - log_normalizer[:, None]
