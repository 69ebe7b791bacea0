"""The translation model: embeddings, encoder, bridge and decoder. It knows ids, not text."""

from typing import Any

import keras
import tensorflow as tf

from seq2seq.config import ModelConfig, TextModelConfig
from seq2seq.decoder import (
    Decoder,
    DecoderMemory,
    DecoderState,
    embed,
    embedding_initializer,
    real_tokens,
    shift_right,
)
from seq2seq.dropout import DropoutRates
from seq2seq.encoder import Encoder
from seq2seq.layers import ExplicitLayer, sub_seed
from seq2seq.loss import Loss, cross_entropy
from seq2seq.lstm import LSTMState
from seq2seq.precision import ComputePrecision


class Bridge(ExplicitLayer):
    """The encoder's final (h, C) to the decoder's first: copied, or each through a linear map.

    Layers are matched from the top; decoder layers beyond the encoder's depth take its lowest.
    """

    def __init__(self, *, layers: int, units: int, dense: bool, seed: int = 0, **kwargs: Any):
        """
        Args:
            layers: Of the decoder.
            units: Of the decoder.
            dense: A learned map instead of a copy.
            seed: Of the initial weights.
            **kwargs: `name` and `dtype` of the Keras layer.
        """
        super().__init__(**kwargs)
        self.layers = layers
        self.units = units
        self.dense = dense
        self.seed = seed
        self.maps: list[dict[str, keras.Variable]] = []

    def build(self, encoder_width: int) -> None:
        """Creates the weights, if there are any, for encoder states of `encoder_width`."""
        if not self.dense:
            return
        for layer in range(self.layers):
            weights = {}
            for part in ("h", "c"):
                seed = sub_seed(self.seed, f"layer_{layer}_{part}")
                weights[f"{part}_kernel"] = self.add_weight(
                    name=f"layer_{layer}_{part}_kernel",
                    shape=(encoder_width, self.units),
                    initializer=keras.initializers.GlorotUniform(seed),
                )
                weights[f"{part}_bias"] = self.add_weight(
                    name=f"layer_{layer}_{part}_bias", shape=(self.units,), initializer="zeros"
                )
            self.maps.append(weights)

    def call(self, states: tuple[LSTMState, ...]) -> DecoderState:
        """(h, C) of every decoder layer, `[B, H]`, from those of every encoder layer, `[B, D]`."""
        surplus = len(states) - self.layers
        matched = [states[max(layer + surplus, 0)] for layer in range(self.layers)]
        if not self.dense:
            return tuple(matched)
        return tuple(
            LSTMState(
                tf.cast(
                    self._linear(state.h, weights["h_kernel"], weights["h_bias"]),
                    self.compute_dtype,
                ),
                self._linear(state.c, weights["c_kernel"], weights["c_bias"]),
            )
            for state, weights in zip(matched, self.maps, strict=True)
        )

    def _linear(self, inputs: tf.Tensor, kernel: Any, bias: Any) -> tf.Tensor:
        dtype = self.compute_dtype
        product = tf.matmul(tf.cast(inputs, dtype), tf.cast(kernel, dtype))
        return tf.cast(product, tf.float32) + bias


class TranslationModel(ExplicitLayer):
    """Encoder and decoder with the weights of one experiment; made by `build_model`."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        source_vocabulary: int,
        target_vocabulary: int,
        seed: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.source_vocabulary = source_vocabulary
        self.seed = seed
        policy = self.dtype_policy
        dropout = _dropout(config, embedding=config.dropout)
        self.encoder = Encoder(
            layers=config.encoder_layers,
            units=config.encoder_units,
            bidirectional=config.bidirectional,
            residual=config.residual,
            dropout=dropout,
            seed=sub_seed(seed, "encoder"),
            name="encoder",
            dtype=policy,
        )
        dense = self.encoder.width != config.decoder_units
        self.bridge = Bridge(
            layers=config.decoder_layers,
            units=config.decoder_units,
            dense=dense if config.bridge == "auto" else config.bridge == "dense",
            seed=sub_seed(seed, "bridge"),
            name="bridge",
            dtype=policy,
        )
        self.decoder = Decoder(
            target_vocabulary,
            units=config.decoder_units,
            layers=config.decoder_layers,
            embedding_size=config.embedding_size,
            attention=config.attention,
            attention_layer=config.attention_layer,
            attention_heads=config.attention_heads,
            memory_size=self.encoder.width,
            residual=config.residual,
            tied_output=config.tied_embeddings != "none",
            dropout=dropout,
            seed=sub_seed(seed, "decoder"),
            name="decoder",
            dtype=policy,
        )

    def build(self) -> None:
        """Creates all weights."""
        size = self.config.embedding_size
        self.encoder.build((None, None, size))
        self.bridge.build(self.encoder.width)
        self.decoder.build()
        self.embedding = self.decoder.embedding
        if self.config.tied_embeddings != "all":
            self.embedding = self.add_weight(
                name="source_embedding",
                shape=(self.source_vocabulary, size),
                initializer=embedding_initializer(size, sub_seed(self.seed, "source_embedding")),
            )

    def begin(
        self,
        source: tf.Tensor,
        source_lengths: tf.Tensor,
        dropout_seed: tf.Tensor | None = None,
    ) -> tuple[DecoderState, DecoderMemory]:
        """Reads the source: the decoder's first state, and the memory its steps are given.

        Args:
            source: `[B, S]` int32.
            source_lengths: `[B]` int32, at least 1.
            dropout_seed: `[2]` int32 in training, else None.
        """
        if self.config.reverse_source:
            source = tf.reverse_sequence(source, source_lengths, seq_axis=1)
        embedded = embed(source, self.embedding, self.compute_dtype)  # [B, S, E]
        encoded = self.encoder(embedded, source_lengths, dropout_seed)
        return self.bridge(encoded.states), self.decoder.memory(encoded.outputs, source_lengths)

    def attend(
        self, source: tf.Tensor, source_lengths: tf.Tensor, target_input: tf.Tensor
    ) -> tuple[tf.Tensor, Any]:
        """Teacher forcing: logits `[B, T, V]` float32 after each id of `target_input` `[B, T]`.

        And where the decoder looked `[B, T, S]` float32; None without attention.
        """
        state, memory = self.begin(source, source_lengths)
        logits, weights, _ = self.decoder.attend(target_input, state, memory)
        return logits, weights

    def loss(
        self,
        source: tf.Tensor,
        source_lengths: tf.Tensor,
        target: tf.Tensor,
        target_lengths: tf.Tensor,
        *,
        bos_id: int,
        label_smoothing: float = 0.0,
        consistency: float = 0.0,
        dropout_seed: tf.Tensor | None = None,
    ) -> Loss:
        """The loss of B sentence pairs under teacher forcing, summed over real target tokens.

        Args:
            source: `[B, S]` int32.
            source_lengths: `[B]` int32.
            target: `[B, T]` int32, end of sentence included.
            target_lengths: `[B]` int32.
            bos_id: What the decoder reads first.
            label_smoothing: See `cross_entropy`.
            consistency: See `cross_entropy`; above 0 each pair is read twice, with other masks but
                for that of recurrent kernels, which are dropped once for both.
            dropout_seed: `[2]` int32 in training, else None.
        """
        labels = real_tokens(target, target_lengths)
        if consistency:
            source, target = tf.tile(source, [2, 1]), tf.tile(target, [2, 1])
            source_lengths = tf.tile(source_lengths, [2])
            target_lengths = tf.tile(target_lengths, [2])
        state, memory = self.begin(source, source_lengths, dropout_seed)
        features, _ = self.decoder.token_features(
            shift_right(target, bos_id), state, memory, target_lengths, dropout_seed
        )
        return cross_entropy(
            features,
            tf.convert_to_tensor(self.decoder.output_kernel),
            self.decoder.output_bias,
            labels,
            label_smoothing,
            consistency,
        )


def build_model(
    config: ModelConfig,
    *,
    source_vocabulary: int,
    target_vocabulary: int,
    precision: ComputePrecision = "float32",
    seed: int = 0,
) -> TranslationModel:
    """A model with its initial weights, a pure function of `seed`.

    Args:
        config: The `[model]` section.
        source_vocabulary: Number of source ids.
        target_vocabulary: Number of target ids.
        precision: Of the matrix products; weights are float32 in either.
        seed: Of the initial weights.
    """
    model = TranslationModel(
        config,
        source_vocabulary=source_vocabulary,
        target_vocabulary=target_vocabulary,
        seed=seed,
        name="model",
        dtype=_dtype_policy(precision),
    )
    model.build()
    return model


def build_language_model(
    config: TextModelConfig,
    *,
    vocabulary: int,
    precision: ComputePrecision = "float32",
    seed: int = 0,
) -> Decoder:
    """A language model with its initial weights: a decoder without attention or encoder.

    Args:
        config: The `[model]` section.
        vocabulary: Number of ids.
        precision: Of the matrix products; weights are float32 in either.
        seed: Of the initial weights.
    """
    decoder = Decoder(
        vocabulary,
        units=config.units,
        layers=config.layers,
        embedding_size=config.embedding_size,
        residual=config.residual,
        tied_output=config.tied_embeddings,
        dropout=_dropout(config, embedding=config.embedding_dropout),
        seed=sub_seed(seed, "decoder"),
        name="decoder",
        dtype=_dtype_policy(precision),
    )
    decoder.build()
    return decoder


def _dtype_policy(precision: ComputePrecision) -> str:
    return "float32" if precision == "float32" else "mixed_bfloat16"


def _dropout(config: ModelConfig | TextModelConfig, *, embedding: float) -> DropoutRates:
    return DropoutRates(
        layers=config.dropout,
        embedding=embedding,
        words=config.word_dropout,
        recurrent=config.recurrent_dropout,
        variational=config.variational_dropout,
    )
