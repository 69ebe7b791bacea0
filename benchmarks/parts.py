"""Where the time of an update goes: each part alone, forward and backward, on the same shapes."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf
from results import Part
from workload import Workload

from seq2seq.batches import Batch, BatchPlan, batches_from
from seq2seq.decoder import real_tokens
from seq2seq.loss import cross_entropy
from seq2seq.models import TranslationModel
from seq2seq.runtime import SHARDS


def measure_parts(
    model: TranslationModel,
    batches: Sequence[Batch],
    update: Callable[[Batch], object],
    *,
    label_smoothing: float,
    bos_id: int,
) -> list[Part]:
    """The parts of the mean update over `batches`, of a model with attention; last the whole.

    "rest of the gradient" is what embeddings, dropout and bridge take and what it costs to put the
    parts together: the whole gradient less the parts. "optimizer" is the update less the gradient.
    """
    pieces: dict[str, Callable[..., Any]] = {
        "encoder": lambda batch: model.encoder(
            _embedded(model, batch.source), batch.source_lengths
        ),
        "decoder": lambda batch: _decode(model, _embedded(model, batch.target)),
        "attention": lambda batch: _attend(model, batch),
        "loss": lambda batch: _loss(model, batch, label_smoothing),
        "gradient": lambda batch: (
            model.loss(
                *batch.tensors,
                bos_id=bos_id,
                label_smoothing=label_smoothing,
                dropout_seed=tf.constant([1, 2]),
            ).total
        ),
    }
    runs = {name: _with_gradient(model, piece) for name, piece in pieces.items()}
    milliseconds = _milliseconds({**runs, "update": update}, batches)
    work = _gflop(model, batches)
    known = [Part(name, milliseconds[name], work[name]) for name in work]
    rest = milliseconds["gradient"] - sum(part.milliseconds for part in known)
    return [
        *known,
        Part("rest of the gradient", rest, 0.0),
        Part("optimizer", milliseconds["update"] - milliseconds["gradient"], 0.0),
        Part("update", milliseconds["update"], sum(work.values())),
    ]


def waiting_for_input(work: Workload, update: Callable[[Batch], object]) -> float:
    """Milliseconds an update in which training waits for the next batch of the read-ahead."""
    sources, targets = [], []
    for batch in work.batches:
        for ids, count in zip(batch.source, batch.source_lengths, strict=True):
            sources.append(ids[:count])
        for ids, count in zip(batch.target, batch.target_lengths, strict=True):
            targets.append(ids[:count])
    corpus = _Corpus(sources, targets)
    tokens = max(
        len(batch.source) * max(batch.source.shape[1], batch.target.shape[1])
        for batch in work.batches
    )
    plan = BatchPlan(corpus.source_lengths, corpus.target_lengths, batch_tokens=tokens, seed=1)
    waited, updates = 0.0, min(plan.steps_per_epoch, 2 * len(work.batches))
    with batches_from(corpus, plan, itertools.count(), source_pad_id=0, target_pad_id=0) as batches:
        for _ in range(updates):
            asked = time.perf_counter()
            batch = next(batches).batch
            waited += time.perf_counter() - asked
            update(batch)
    return waited / updates * 1e3


class _Corpus:
    """Sentence pairs in memory, as `BatchPlan` and `make_batch` read them."""

    def __init__(self, sources: list[np.ndarray], targets: list[np.ndarray]) -> None:
        self._sources, self._targets = sources, targets
        self.source_lengths = np.array([len(ids) for ids in sources])
        self.target_lengths = np.array([len(ids) for ids in targets])

    def source(self, row: int) -> np.ndarray:
        return self._sources[row]

    def target(self, row: int) -> np.ndarray:
        return self._targets[row]


def _with_gradient(model: TranslationModel, piece: Callable[..., Any]) -> Callable[..., Any]:
    variables = [weight.value for weight in model.trainable_weights]
    ids, lengths = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)

    @tf.function(input_signature=[ids, lengths, ids, lengths])
    def run(source: Any, source_lengths: Any, target: Any, target_lengths: Any) -> Any:
        rows = tf.shape(source)[0]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            outputs = []
            for shard in range(SHARDS):  # as an update has them
                part = slice(shard * rows // SHARDS, (shard + 1) * rows // SHARDS)
                sources = source[part], source_lengths[part]
                targets = target[part], target_lengths[part]
                outputs.append(piece(Batch(*sources, *targets, np.zeros(0, np.int64))))
        gradients = tape.gradient(outputs, variables)
        # One number that needs every gradient, so that none is left out and none is copied.
        dense = [tf.convert_to_tensor(each) for each in gradients if each is not None]
        return tf.add_n([tf.reshape(each, [-1])[0] for each in dense])

    return lambda batch: float(run(*batch.tensors))


def _embedded(model: TranslationModel, ids: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.gather(model.embedding, ids), model.compute_dtype)


def _decode(model: TranslationModel, embedded: tf.Tensor) -> tf.Tensor:
    sequence = tf.transpose(embedded, [1, 2, 0])
    for layer in model.decoder.stack:
        sequence, _ = layer.sequence(sequence)
    return sequence


def _attend(model: TranslationModel, batch: Any) -> tf.Tensor:
    attention = model.decoder.attention
    assert attention is not None
    # Any vectors will do; they depend on weights so that the gradient goes all the way.
    values = tf.gather(attention.combine_kernel[: model.encoder.width], batch.source % 8)
    values = tf.tile(values, [1, 1, -(-model.encoder.width // values.shape[-1])])
    values = tf.cast(values[..., : model.encoder.width], model.compute_dtype)
    queries = tf.gather(attention.score_kernel, batch.target % 8)
    queries = tf.cast(queries, model.compute_dtype)
    memory = attention.memory(values, batch.source_lengths)
    _, context = attention.weights_and_context(queries, memory)
    return attention.combine(
        real_tokens(queries, batch.target_lengths), real_tokens(context, batch.target_lengths)
    )


def _loss(model: TranslationModel, batch: Any, label_smoothing: float) -> tf.Tensor:
    labels = real_tokens(batch.target, batch.target_lengths)
    kernel = tf.convert_to_tensor(model.decoder.output_kernel)
    features = tf.cast(tf.gather(kernel, labels), model.compute_dtype)
    return cross_entropy(features, kernel, model.decoder.output_bias, labels, label_smoothing).total


def _milliseconds(
    runs: Mapping[str, Callable[[Batch], object]], batches: Sequence[Batch]
) -> dict[str, float]:
    """Of one call of each, the mean over the batches; the median of five passes after the first.

    The passes of all take turns, so that all see the same state of the machine.
    """
    passes: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(6):
        for name, run in runs.items():
            started = time.perf_counter()
            for batch in batches:
                run(batch)
            passes[name].append((time.perf_counter() - started) / len(batches) * 1e3)
    return {name: median(values[1:]) for name, values in passes.items()}


def _gflop(model: TranslationModel, batches: Sequence[Batch]) -> Mapping[str, float]:
    """GFLOP of the products of each part in the mean update: forward, and twice that backward.

    Counted over padded positions for the LSTMs, over real target tokens for the projections.
    """
    config = model.config
    width, units = model.encoder.width, config.decoder_units
    encoder_inputs = [config.embedding_size] + [width] * (config.encoder_layers - 1)
    decoder_inputs = [config.embedding_size] + [units] * (config.decoder_layers - 1)
    directions = 2 if config.bidirectional else 1
    encoder = directions * sum(_lstm_flop(size, config.encoder_units) for size in encoder_inputs)
    decoder = sum(_lstm_flop(size, units) for size in decoder_inputs)
    features, vocabulary = model.decoder.feature_size, model.decoder.vocabulary_size
    totals = {"encoder": 0.0, "decoder": 0.0, "attention": 0.0, "loss": 0.0}
    for batch in batches:
        (rows, source), target = batch.source.shape, batch.target.shape[1]
        tokens = int(batch.target_lengths.sum())
        totals["encoder"] += rows * source * encoder
        totals["decoder"] += rows * target * decoder
        totals["attention"] += 2 * rows * source * width * units
        totals["attention"] += 2 * rows * target * source * (units + width)
        totals["attention"] += 2 * tokens * (units + width) * features
        totals["loss"] += 2 * tokens * features * vocabulary
    return {name: 3 * flop / len(batches) / 1e9 for name, flop in totals.items()}


def _lstm_flop(inputs: int, units: int) -> int:
    return 2 * (inputs + units) * 4 * units
