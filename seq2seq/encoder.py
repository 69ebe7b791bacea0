"""The encoder: source to the memory attention reads, and the final (h, C) of every layer."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq.dropout import NO_DROPOUT, DropoutRates, fold_in
from seq2seq.layers import ExplicitLayer, sub_seed
from seq2seq.lstm import LSTM, LSTMState


class Encoded(NamedTuple):
    """What is known of B source sentences.

    Attributes:
        outputs: The top layer's h at every position, `[B, S, D]`; D is twice the units if
            bidirectional. Past a sentence's length the values are meaningless.
        states: (h, C) after the last real token, of every layer, `[B, D]`: forward and backward
            state side by side if bidirectional.
    """

    outputs: tf.Tensor
    states: tuple[LSTMState, ...]


class Encoder(ExplicitLayer):
    """A stack of LSTM layers over embedded source ids, each layer bidirectional or not."""

    def __init__(
        self,
        *,
        layers: int,
        units: int,
        bidirectional: bool,
        residual: bool = False,
        dropout: DropoutRates = NO_DROPOUT,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            layers: Number of layers.
            units: State size of one direction.
            bidirectional: Whether each layer also reads from right to left (Schuster & Paliwal
                1997).
            residual: Add what a layer reads of the one below to what it puts out (He et al. 2016;
                Wu et al. 2016, sec. 3.1).
            dropout: In training.
            seed: Of the initial weights.
            **kwargs: `name` and `dtype` of the Keras layer.
        """
        super().__init__(**kwargs)
        self.residual = residual
        self.dropout = dropout
        directions = ("forward", "backward") if bidirectional else ("forward",)
        self.stack = [
            [
                LSTM(
                    units,
                    reverse=direction == "backward",
                    recurrent_dropout=dropout.recurrent,
                    seed=sub_seed(seed, f"layer_{index}_{direction}"),
                    name=f"layer_{index}_{direction}",
                    dtype=self.dtype_policy,
                )
                for direction in directions
            ]
            for index in range(layers)
        ]
        self.width = units * len(directions)

    def build(self, embedded_shape: Sequence[int | None]) -> None:
        """Creates the weights for embeddings whose size is last in `embedded_shape`."""
        input_size = embedded_shape[-1]
        for directions in self.stack:
            for layer in directions:
                layer.build((None, None, input_size))
            input_size = self.width

    def call(
        self, embedded: tf.Tensor, lengths: tf.Tensor, dropout_seed: tf.Tensor | None = None
    ) -> Encoded:
        """The outputs at every position, and the final (h, C) of each layer.

        Args:
            embedded: `[B, S, E]`.
            lengths: `[B]` int32, at least 1.
            dropout_seed: `[2]` int32 in training, else None.
        """
        sequence = tf.transpose(tf.cast(embedded, self.compute_dtype), [1, 2, 0])  # [S, E, B]
        states = []
        sequence = self.dropout.of_embedded(sequence, fold_in(dropout_seed, "source_embedding"))
        for index, directions in enumerate(self.stack):
            below = sequence
            if index:
                seed = fold_in(dropout_seed, f"encoder/{index}")
                sequence = self.dropout.of_layer(sequence, seed)
            read = [
                layer.sequence(
                    sequence,
                    lengths=lengths,
                    dropout_seed=fold_in(dropout_seed, f"encoder/{layer.name}"),
                )
                for layer in directions
            ]
            sequence = tf.concat([hidden for hidden, _ in read], 1)  # [S, D, B]
            if self.residual and index:
                sequence += below
            h, c = zip(*(state for _, state in read), strict=True)
            states.append(LSTMState(tf.concat(h, 1), tf.concat(c, 1)))
        return Encoded(tf.transpose(sequence, [2, 0, 1]), tuple(states))
