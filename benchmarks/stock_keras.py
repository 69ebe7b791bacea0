"""The model of a configuration in stock Keras layers: what the usual TensorFlow tutorial trains.

Built of `keras.layers` alone (Embedding, LSTM, Bidirectional, Attention, Dense), with the whole
logits, a one-hot label smoothing and `optimizer.apply`; one traced function for all shapes. This
project's searches can translate with it.
"""

from typing import Any

import keras
import tensorflow as tf

from seq2seq.batches import Batch
from seq2seq.config import DecodingConfig, ModelConfig, TrainingConfig
from seq2seq.decoder import shift_right

layers = keras.layers


def build(config: ModelConfig, *, source_vocabulary: int, target_vocabulary: int) -> keras.Model:
    """Logits `[B, T, V]` of (source `[B, S]`, its mask, target input `[B, T]`).

    Embeddings and output projection are three matrices of their own.
    """
    units, dropout = config.decoder_units, config.dropout
    source, target_input = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    mask = keras.Input((None,), dtype="bool")
    sequence = layers.Embedding(source_vocabulary, config.embedding_size)(source)
    final: list[Any] = []
    for _ in range(config.encoder_layers):
        layer = layers.LSTM(config.encoder_units, return_sequences=True, return_state=True)
        layer = layers.Bidirectional(layer) if config.bidirectional else layer
        sequence, *final = layer(layers.Dropout(dropout)(sequence), mask=mask)
    if config.bidirectional:
        final = [layers.Concatenate()(final[0::2]), layers.Concatenate()(final[1::2])]
    memory = sequence
    hidden = layers.Embedding(target_vocabulary, config.embedding_size)(target_input)
    for _ in range(config.decoder_layers):
        state = [layers.Dense(units)(each) for each in final]
        layer = layers.LSTM(units, return_sequences=True)
        hidden = layer(layers.Dropout(dropout)(hidden), initial_state=state)
    if config.attention == "luong":
        keys = layers.Dense(units, use_bias=False)(memory)
        context = layers.Attention()([hidden, memory, keys], mask=[None, mask])
        hidden = layers.Dense(units, activation="tanh")(layers.Concatenate()([hidden, context]))
    logits = layers.Dense(target_vocabulary)(layers.Dropout(dropout)(hidden))
    return keras.Model([source, mask, target_input], logits)


class Trainer:
    """Updates of a new model, by Adam.

    Attributes:
        model: What is trained.
    """

    def __init__(
        self,
        config: ModelConfig,
        training: TrainingConfig,
        *,
        source_vocabulary: int,
        target_vocabulary: int,
        bos_id: int,
    ) -> None:
        self.model = build(
            config, source_vocabulary=source_vocabulary, target_vocabulary=target_vocabulary
        )
        self._optimizer = keras.optimizers.Adam(
            training.learning_rate, global_clipnorm=training.gradient_norm
        )
        smoothing = training.label_smoothing
        ids, lengths = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)

        @tf.function(input_signature=[ids, lengths, ids, lengths])
        def step(source: Any, source_lengths: Any, target: Any, target_lengths: Any) -> Any:
            mask = tf.sequence_mask(source_lengths, tf.shape(source)[1])
            weights = tf.sequence_mask(target_lengths, tf.shape(target)[1], tf.float32)
            with tf.GradientTape() as tape:
                logits = self.model([source, mask, shift_right(target, bos_id)], training=True)
                wanted = tf.one_hot(target, target_vocabulary) * (1 - smoothing)
                wanted += smoothing / target_vocabulary
                losses = tf.nn.softmax_cross_entropy_with_logits(
                    wanted, tf.cast(logits, tf.float32)
                )
                loss = tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)
            gradients = tape.gradient(loss, self.model.trainable_variables)
            self._optimizer.apply(gradients, self.model.trainable_variables)
            return loss

        self._step = step

    def update(self, batch: Batch, learning_rate: float | None = None) -> float:
        """One update, at the configuration's rate or another; its loss in nats a token."""
        if learning_rate is not None:
            self._optimizer.learning_rate.assign(learning_rate)
        return float(self._step(*batch.tensors))


class Searchable:
    """A stock model as this project's searches take one.

    It has no single step: each reads all that was said anew, to the same logits.
    """

    def __init__(self, model: keras.Model, decoding: DecodingConfig) -> None:
        """
        Args:
            model: Its last layer makes the logits.
            decoding: Says how long a translation may be.
        """
        self.decoder = self
        self._features = keras.Model(model.inputs, model.layers[-1].input)
        self._project = model.layers[-1]
        self._decoding = decoding

    def begin(self, source: Any, source_lengths: Any) -> tuple[Any, Any]:
        """Nothing said `[B, T]`, of length 0 `[B]`; the source `[B, S]` and its mask `[B, S]`."""
        rows, length = tf.unstack(tf.shape(source))
        most = tf.cast(self._decoding.max_length_ratio * tf.cast(length, tf.float32), tf.int32)
        most += self._decoding.max_length_offset + 1
        said = tf.zeros([rows, most], tf.int32), tf.zeros([rows], tf.int32)
        return said, (source, tf.sequence_mask(source_lengths, length))

    def layout(self) -> Any:
        """Nothing: the weights are read as they are."""
        return ()

    def stepper(self, layout: Any) -> Any:
        """The step of a search; the memory has a row for each sentence."""
        del layout

        def step(ids: Any, state: Any, memory: Any) -> Any:
            said, lengths = state
            said = tf.where(tf.range(tf.shape(said)[1]) == lengths[:, None], ids[:, None], said)
            beam_size = tf.shape(ids)[0] // tf.shape(memory[0])[0]
            source, mask = (tf.repeat(each, beam_size, axis=0) for each in memory)
            read = self._features([source, mask, said[:, : lengths[0] + 1]], training=False)
            return self._project(read[:, -1]), (said, lengths + 1)

        return step
