"""The decoder: embedding, LSTM stack, attention if wanted, output projection.

The same weights run two ways: whole target sequences at once (teacher forcing) and one step at a
time (search). It needs no encoder: any (h, C) seeds it, and any sequence of vectors can be its
memory.

    decoder = Decoder(1000, units=256, attention="luong", memory_size=512)
    memory = decoder.memory(image_regions, region_counts)
    logits, state = decoder(ids, decoder.zero_state(batch), memory, training=True)
    logits, state = decoder.step(ids[:, 0], state, memory)            # one step of a search

Shapes: N rows, T target length, S memory length, V vocabulary, E embedding, H units, F features.
"""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple, Protocol

import keras
import tensorflow as tf

from seq2seq.attention import LuongAttention
from seq2seq.dropout import NO_DROPOUT, DropoutRates, fold_in
from seq2seq.errors import UsageError
from seq2seq.layers import ExplicitLayer, sub_seed
from seq2seq.lstm import LSTM, LSTMState, StepWeights, forward_only

DecoderState = tuple[LSTMState, ...]
"""(h, C) of every layer, each `[N, H]`."""

DecoderMemory = Any
"""A `Memory`, or () without attention: an absent part of a loop is empty, never None."""


class DecoderLayout(NamedTuple):
    """The weights of a decoder, laid out for the steps of a search.

    Attributes:
        embedding: `[V, E]` float32; () if there is none.
        layers: Of each LSTM.
        attention: Of the attentional vector; () without attention.
        output: Output projection `[F, V]` in the compute dtype.
        output_bias: `[V]` float32.
    """

    embedding: Any
    layers: tuple[StepWeights, ...]
    attention: Any
    output: tf.Tensor
    output_bias: tf.Tensor


class Step(Protocol):
    """A decoder's step, fit for any search; see `seq2seq.search.Step`."""

    def __call__(
        self, ids: tf.Tensor, state: DecoderState, memory: DecoderMemory = ()
    ) -> tuple[tf.Tensor, DecoderState]:
        """Logits `[N, V]` of what follows `ids` `[N]` int32, and the state after reading them."""
        ...


class Decoder(ExplicitLayer):
    """An LSTM decoder over a vocabulary of V ids.

    Whichever method needs the weights first makes them; `build` makes them at once.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        units: int,
        layers: int = 1,
        embedding_size: int = 256,
        attention: Literal["none", "luong"] = "none",
        attention_layer: Literal["last", "first"] = "last",
        attention_heads: int = 1,
        memory_size: int | None = None,
        residual: bool = False,
        tied_output: bool = False,
        dropout: float | DropoutRates = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            vocabulary_size: V.
            units: H, the state size of each layer.
            layers: Number of LSTM layers.
            embedding_size: E; 0 reads one-hot vectors in place of an embedding, for vocabularies
                as small as an alphabet.
            attention: Whether a layer's output attends to a memory.
            attention_layer: Which layer's: of the last one (Luong et al. 2015), or of the first
                one; then every layer above reads what it found, too (Wu et al. 2016, sec. 3).
            attention_heads: See `LuongAttention`.
            memory_size: D, features of the memory; needed with attention.
            tied_output: Use the embedding as the output projection (Press & Wolf 2017); features
                are then projected to E.
            residual: Add what a layer reads of the one below to what it puts out (He et al. 2016;
                Wu et al. 2016, sec. 3.1).
            dropout: In training; a number is the rate of embeddings and layers.
            seed: Of the initial weights, and of the masks of `call`; decoders with the same seed
                begin alike.
            **kwargs: `name` and `dtype` of the Keras layer.

        Raises:
            UsageError: There is no such attention, attending layer or `dtype`; or a size is below
                1, or `memory_size` is missing; or the output is tied to an embedding that there is
                not.
        """
        super().__init__(**kwargs)
        if self.variable_dtype != "float32":
            raise UsageError(
                f"dtype: got {self.dtype_policy.name!r}, expected 'float32' or 'mixed_bfloat16': "
                "weights are float32"
            )
        if attention_layer not in ("last", "first"):
            raise UsageError(
                f"attention_layer: got {attention_layer!r}, expected 'last' or 'first'"
            )
        for name, size in (("layers", layers), ("attention_heads", attention_heads)):
            if size < 1:
                raise UsageError(f"{name}: got {size}, expected 1 or more")
        self.vocabulary_size = vocabulary_size
        self.units = units
        self.embedding_size = embedding_size
        self.tied_output = tied_output
        if not isinstance(dropout, DropoutRates):
            dropout = DropoutRates(layers=dropout, embedding=dropout)
        self.dropout = dropout
        self._random = None
        if dropout != NO_DROPOUT:  # for `call`; other methods are given a seed
            self._random = keras.random.SeedGenerator(sub_seed(seed, "dropout"))
        self.residual = residual
        self.attended_layer = 0 if attention_layer == "first" else layers - 1
        self.seed = seed
        if tied_output and not embedding_size:
            raise UsageError("tied_output: needs an embedding (embedding_size above 0)")
        self.feature_size = embedding_size if tied_output else units
        self.stack = [
            LSTM(
                units,
                recurrent_dropout=dropout.recurrent,
                seed=sub_seed(seed, f"layer_{index}"),
                name=f"layer_{index}",
                dtype=self.dtype_policy,
            )
            for index in range(layers)
        ]
        if attention not in ("none", "luong"):
            raise UsageError(f"attention: got {attention!r}, expected 'none' or 'luong'")
        self.attention = None
        if attention == "luong":
            if memory_size is None:
                raise UsageError("memory_size: missing; attention needs the memory's features")
            self.attention = LuongAttention(
                units=units,
                memory_size=memory_size,
                features=self.feature_size,
                heads=attention_heads,
                seed=sub_seed(seed, "attention"),
                name="attention",
                dtype=self.dtype_policy,
            )

    def build(self, ids_shape: Any = None) -> None:
        """Creates the weights; they do not depend on the shape of the ids."""
        del ids_shape
        self.embedding = None
        if self.embedding_size:
            self.embedding = self.add_weight(
                name="embedding",
                shape=(self.vocabulary_size, self.embedding_size),
                initializer=embedding_initializer(
                    self.embedding_size, sub_seed(self.seed, "embedding")
                ),
            )
        input_size = self.embedding_size or self.vocabulary_size
        for index, layer in enumerate(self.stack):
            layer.build((None, None, input_size))
            input_size = self.units
            if self.attention is not None and index >= self.attended_layer:
                input_size += self.attention.memory_size
        if self.attention is not None:
            self.attention.build()
        elif self.feature_size != self.units:
            self.feature_kernel = self.add_weight(
                name="feature_kernel",
                shape=(self.units, self.feature_size),
                initializer=keras.initializers.GlorotUniform(sub_seed(self.seed, "feature_kernel")),
            )
        self.output_kernel = self.embedding
        if not self.tied_output:
            self.output_kernel = self.add_weight(
                name="output_kernel",
                shape=(self.vocabulary_size, self.feature_size),
                initializer=keras.initializers.GlorotUniform(sub_seed(self.seed, "output_kernel")),
            )
        self.output_bias = self.add_weight(
            name="output_bias", shape=(self.vocabulary_size,), initializer="zeros"
        )

    def zero_state(self, rows: tf.Tensor | int) -> DecoderState:
        """The all-zero state of `rows` sequences."""
        return tuple(layer.zero_state(rows) for layer in self.stack)

    def state(self, layers: Iterable[tuple[tf.Tensor, tf.Tensor]]) -> DecoderState:
        """The state made of (h, C) `[N, H]` of each layer, whatever they come from, in the types
        that the steps keep it in: h in that of the products, C in float32.

        Raises:
            UsageError: There are more or fewer than the decoder has layers.
        """
        pairs = list(layers)
        if len(pairs) != len(self.stack):
            raise UsageError(
                f"state: got (h, C) of {len(pairs)} layers, expected {len(self.stack)}"
            )
        return tuple(
            LSTMState(tf.cast(h, self.compute_dtype), tf.cast(c, tf.float32)) for h, c in pairs
        )

    def memory(self, values: tf.Tensor, lengths: tf.Tensor | None = None) -> DecoderMemory:
        """What attention reads of `values` `[B, S, D]`; () without attention.

        Args:
            values: `[B, S, D]`.
            lengths: `[B]` int32, real positions of each row; S if left out.
        """
        if self.attention is None:
            return ()
        self._make_weights()
        if lengths is None:
            lengths = tf.fill([tf.shape(values)[0]], tf.shape(values)[1])
        return self.attention.memory(values, lengths)

    def call(
        self,
        ids: tf.Tensor,
        state: DecoderState,
        memory: DecoderMemory = (),
        training: bool | None = None,
    ) -> tuple[tf.Tensor, DecoderState]:
        """Teacher forcing: the logits after each of the ids given.

        Args:
            ids: `[B, T]` integers, what is read: the target shifted right, begin of sentence first.
            state: An `LSTMState` (h, C) of every layer before the first id; see `state`.
            memory: From `memory`; () without attention.
            training: Whether `dropout` drops, by masks that the layer's random state decides, and
                whether gradients are fast. Without it they are right all the same, and what is
                traced can be saved, as by Keras's `export`.

        Returns:
            Logits `[B, T, V]` float32, and the state after the last id.
        """
        seed = None
        if training and self._random is not None:
            seed = tf.cast(self._random.next(), tf.int32)
        with nullcontext() if training else forward_only():
            features, after = self.token_features(ids, state, memory, dropout_seed=seed)
        shape = [*tf.unstack(tf.shape(ids)), self.feature_size]
        return self.project(tf.reshape(features, shape)), after

    def attend(
        self, ids: tf.Tensor, state: DecoderState, memory: DecoderMemory = ()
    ) -> tuple[tf.Tensor, tf.Tensor | None, DecoderState]:
        """`call` without dropout, the attention weights `[B, T, S]` (None without) between."""
        hidden, weights, context, state = self._read(ids, state, memory, None)
        return self.project(self._features(hidden, context)), weights, state

    def token_features(
        self,
        ids: tf.Tensor,
        state: DecoderState,
        memory: DecoderMemory = (),
        lengths: tf.Tensor | None = None,
        dropout_seed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, DecoderState]:
        """Teacher forcing for the loss: features of real positions only, padding gathered away.

        Args:
            ids: `[B, T]` int32, as for `call`.
            state: (h, C) of every layer before the first id.
            memory: From `memory`; () without attention.
            lengths: `[B]` int32, real positions of each sequence; T if left out.
            dropout_seed: `[2]` int32 in training, else None.

        Returns:
            `[sum(lengths), F]`, sequence after sequence: the order of `real_tokens`; and the state
            after the last id, which means nothing for sequences with padding.
        """
        hidden, _, context, after = self._read(ids, state, memory, dropout_seed)
        hidden = real_tokens(hidden, lengths)
        context = None if context is None else real_tokens(context, lengths)
        features = self._features(hidden, context)
        if lengths is None:
            lengths = tf.fill([tf.shape(ids)[0]], tf.shape(ids)[1])
        seed = fold_in(dropout_seed, "features")
        return self.dropout.of_features(features, lengths, seed), after

    def project(self, features: tf.Tensor) -> tf.Tensor:
        """The logits `[..., V]` float32 of features `[..., F]`."""
        self._make_weights()
        kernel = tf.transpose(tf.cast(self.output_kernel, self.compute_dtype))
        logits = tf.tensordot(tf.cast(features, self.compute_dtype), kernel, 1)
        return tf.cast(logits, tf.float32) + self.output_bias

    def layout(self) -> DecoderLayout:
        """The weights as steps multiply by them, made once for many steps."""
        self._make_weights()
        return DecoderLayout(
            embedding=() if self.embedding is None else tf.convert_to_tensor(self.embedding),
            layers=tuple(layer.layout() for layer in self.stack),
            attention=() if self.attention is None else self.attention.layout(),
            output=tf.transpose(tf.cast(self.output_kernel, self.compute_dtype)),
            output_bias=tf.convert_to_tensor(self.output_bias),
        )

    def stepper(self, layout: DecoderLayout | None = None) -> Step:
        """The step of a search: (ids `[N]`, state, memory) to (logits `[N, V]` float32, state).

        With the weights of a `layout`, or as they are now. The memory may have fewer rows than N,
        see `LuongAttention.weights_and_contexts_of_rows`.
        """
        read = self._reader(layout)

        def step(
            ids: tf.Tensor, state: DecoderState, memory: DecoderMemory = ()
        ) -> tuple[tf.Tensor, DecoderState]:
            logits, state, _ = read(ids, state, memory)
            return logits, state

        return step

    def attending_stepper(
        self, layout: DecoderLayout | None = None
    ) -> Callable[[tf.Tensor, Any, Any], tuple[tf.Tensor, Any]]:
        """`stepper`, but its state is (state, attended `[N, S]`).

        `attended` is the attention that each position of the memory has had so far; it begins at 0.

        Raises:
            UsageError: The decoder has no attention.
        """
        if self.attention is None:
            raise UsageError("coverage penalty: the model has no attention (model.attention)")
        read = self._reader(layout)

        def step(ids: tf.Tensor, state: Any, memory: Any) -> tuple[tf.Tensor, Any]:
            logits, after, weights = read(ids, state[0], memory)
            return logits, (after, state[1] + weights)

        return step

    def _reader(
        self, layout: DecoderLayout | None
    ) -> Callable[..., tuple[tf.Tensor, DecoderState, tf.Tensor | None]]:
        """(ids, state, memory) to logits, state and attention weights `[N, S]` (None without)."""
        embedding, layers, attention, output, output_bias = layout or self.layout()
        steps = [layer.stepper(weights) for layer, weights in zip(self.stack, layers, strict=True)]
        combine = None if self.attention is None else self.attention.combiner(attention)

        def read(
            ids: tf.Tensor, state: DecoderState, memory: DecoderMemory
        ) -> tuple[tf.Tensor, DecoderState, tf.Tensor | None]:
            hidden, states = self._embed(ids, embedding), []
            weights = context = None
            for index, (layer_step, layer_state) in enumerate(zip(steps, state, strict=True)):
                below = hidden
                inputs = hidden if context is None else tf.concat([hidden, context], 1)
                states.append(layer_step(inputs, layer_state))
                hidden = states[-1].h
                if self.residual and index:
                    hidden += below
                if self.attention is not None and index == self.attended_layer:
                    weights, context = self.attention.weights_and_contexts_of_rows(hidden, memory)
            features = combine(hidden, context) if combine else self._features(hidden, None)
            logits = tf.matmul(features, output)
            return tf.cast(logits, tf.float32) + output_bias, tuple(states), weights

        return read

    def step(
        self, ids: tf.Tensor, state: DecoderState, memory: DecoderMemory = ()
    ) -> tuple[tf.Tensor, DecoderState]:
        """One step; for many, take `stepper` once."""
        return self.stepper()(ids, state, memory)

    def _make_weights(self) -> None:
        """`build`, if nothing has yet; Keras does it only before `call`."""
        if not self.built:
            self.build()

    def _read(
        self,
        ids: tf.Tensor,
        state: DecoderState,
        memory: DecoderMemory,
        dropout_seed: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor | None, DecoderState]:
        """The top layer's h `[B, T, H]`, attention weights, contexts `[B, T, D]`, final state.

        Weights and contexts are None without attention.
        """
        self._make_weights()
        sequence = self._embed(ids, self.embedding)
        sequence = tf.transpose(sequence, [1, 2, 0])  # [T, E, B]
        states = []
        weights = context = None
        for index, (layer, layer_state) in enumerate(zip(self.stack, state, strict=True)):
            below, seed = sequence, fold_in(dropout_seed, f"decoder/{index}")
            if context is not None:
                sequence = tf.concat([sequence, tf.transpose(context, [1, 2, 0])], 1)
            thin = self.dropout.of_layer if index else self.dropout.of_embedded
            sequence, layer_state = layer.sequence(
                thin(sequence, seed), layer_state, dropout_seed=fold_in(seed, "recurrent")
            )
            states.append(layer_state)
            if self.residual and index:
                sequence += below
            if self.attention is not None and index == self.attended_layer:
                queries = tf.transpose(sequence, [2, 0, 1])
                weights, context = self.attention.weights_and_context(queries, memory)
        return tf.transpose(sequence, [2, 0, 1]), weights, context, tuple(states)

    def _embed(self, ids: tf.Tensor, embedding: Any) -> tf.Tensor:
        """What the first layer reads of `ids` `[...]`: `[..., E]`, or one-hot `[..., V]`."""
        ids = tf.cast(ids, tf.int32)  # Keras exports models with float32 inputs
        if self.embedding is None:
            return tf.one_hot(ids, self.vocabulary_size, dtype=self.compute_dtype)
        return embed(ids, embedding, self.compute_dtype)

    def _features(self, hidden: tf.Tensor, context: tf.Tensor | None) -> tf.Tensor:
        """What the output projection sees, `[..., F]`."""
        if self.attention is not None:
            return self.attention.combine(hidden, context)
        if self.feature_size != self.units:
            return tf.tensordot(hidden, tf.cast(self.feature_kernel, self.compute_dtype), 1)
        return hidden


def real_tokens(values: tf.Tensor, lengths: tf.Tensor | None) -> tf.Tensor:
    """The real positions of `[B, T, X]` as `[sum(lengths), X]`, in order.

    All are real where there are no `lengths`.
    """
    if lengths is None:
        return tf.reshape(values, [-1, values.shape[-1]])
    return tf.boolean_mask(values, tf.sequence_mask(lengths, tf.shape(values)[1]))


def embedding_initializer(size: int, seed: int) -> keras.initializers.Initializer:
    """Normal with standard deviation 1 / sqrt(size): rows of length about 1, fit for an output."""
    return keras.initializers.RandomNormal(stddev=size**-0.5, seed=seed)


def embed(ids: tf.Tensor, embedding: Any, dtype: str) -> tf.Tensor:
    """The rows `[..., E]` of `ids` in `embedding` `[V, E]`, times sqrt(E).

    So the elements that an LSTM reads have a variance of about 1 from the start, while the same
    matrix can be an output projection (Vaswani et al. 2017, sec. 3.4).
    """
    rows = tf.gather(embedding, ids)
    return tf.cast(rows * rows.shape[-1] ** 0.5, dtype)


def shift_right(target: tf.Tensor, bos_id: int) -> tf.Tensor:
    """What the decoder reads when it is to say `target` `[B, T]`: bos, then all but the last."""
    bos = tf.fill([tf.shape(target)[0], 1], tf.cast(bos_id, target.dtype))
    return tf.concat([bos, target[:, :-1]], 1)
