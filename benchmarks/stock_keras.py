"""The model of a configuration in stock Keras layers: what the usual TensorFlow tutorial trains.

Built of `keras.layers` alone (Embedding, LSTM, Bidirectional, Attention, Dense), with the whole
logits, a one-hot label smoothing and `optimizer.apply`; one traced function for all shapes.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from seq2seq.batches import Batch
from seq2seq.config import ModelConfig, TrainingConfig
from seq2seq.decoder import shift_right

layers = keras.layers


def build(config: ModelConfig, vocabulary: int) -> keras.Model:
    """Logits `[B, T, V]` of (source `[B, S]`, its mask, target input `[B, T]`).

    Embeddings and output projection are three matrices of their own.
    """
    units, dropout = config.decoder_units, config.dropout
    source, target_input = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    mask = keras.Input((None,), dtype="bool")
    sequence = layers.Embedding(vocabulary, config.embedding_size)(source)
    final: list[Any] = []
    for _ in range(config.encoder_layers):
        layer = layers.LSTM(config.encoder_units, return_sequences=True, return_state=True)
        layer = layers.Bidirectional(layer) if config.bidirectional else layer
        sequence, *final = layer(layers.Dropout(dropout)(sequence), mask=mask)
    if config.bidirectional:
        final = [layers.Concatenate()(final[0::2]), layers.Concatenate()(final[1::2])]
    memory = sequence
    hidden = layers.Embedding(vocabulary, config.embedding_size)(target_input)
    for _ in range(config.decoder_layers):
        state = [layers.Dense(units)(each) for each in final]
        layer = layers.LSTM(units, return_sequences=True)
        hidden = layer(layers.Dropout(dropout)(hidden), initial_state=state)
    if config.attention == "luong":
        keys = layers.Dense(units, use_bias=False)(memory)
        context = layers.Attention()([hidden, memory, keys], mask=[None, mask])
        hidden = layers.Dense(units, activation="tanh")(layers.Concatenate()([hidden, context]))
    logits = layers.Dense(vocabulary)(layers.Dropout(dropout)(hidden))
    return keras.Model([source, mask, target_input], logits)


def trainer(
    config: ModelConfig, training: TrainingConfig, *, vocabulary: int, bos_id: int
) -> Callable[[Batch], float]:
    """One update on one batch, as a function that returns its loss in nats a token."""
    model = build(config, vocabulary)
    optimizer = keras.optimizers.Adam(
        training.learning_rate, global_clipnorm=training.gradient_norm
    )
    smoothing = training.label_smoothing
    ids, lengths = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)

    @tf.function(input_signature=[ids, lengths, ids, lengths])
    def step(source: Any, source_lengths: Any, target: Any, target_lengths: Any) -> Any:
        mask = tf.sequence_mask(source_lengths, tf.shape(source)[1])
        weights = tf.sequence_mask(target_lengths, tf.shape(target)[1], tf.float32)
        with tf.GradientTape() as tape:
            logits = model([source, mask, shift_right(target, bos_id)], training=True)
            wanted = tf.one_hot(target, vocabulary) * (1 - smoothing) + smoothing / vocabulary
            losses = tf.nn.softmax_cross_entropy_with_logits(wanted, tf.cast(logits, tf.float32))
            loss = tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return lambda batch: float(step(*batch[:4]))
