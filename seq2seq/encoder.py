"""The encoder: source to the memory attention reads, and the final (h, C) of every layer."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq.dropout import dropout, fold_in
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
        dropout: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            layers: Number of layers.
            units: State size of one direction.
            bidirectional: Whether each layer also reads from right to left (Schuster & Paliwal
                1997).
            dropout: Share of elements dropped between layers, in training.
            seed: Of the initial weights.
            **kwargs: `name` and `dtype` of the Keras layer.
        """
        super().__init__(**kwargs)
        self.dropout = dropout
        directions = ("forward", "backward") if bidirectional else ("forward",)
        self.stack = [
            [
                LSTM(
                    units,
                    reverse=direction == "backward",
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
        """
        Args:
            embedded: `[B, S, E]`.
            lengths: `[B]` int32, at least 1.
            dropout_seed: `[2]` int32 in training, else None.
        """
        sequence = tf.transpose(tf.cast(embedded, self.compute_dtype), [1, 2, 0])  # [S, E, B]
        states = []
        for index, directions in enumerate(self.stack):
            if index:
                sequence = dropout(
                    sequence, self.dropout, fold_in(dropout_seed, f"encoder/{index}")
                )
            read = [layer.sequence(sequence, lengths=lengths) for layer in directions]
            sequence = tf.concat([hidden for hidden, _ in read], 1)  # [S, D, B]
            h, c = zip(*(state for _, state in read), strict=True)
            states.append(LSTMState(tf.concat(h, 1), tf.concat(c, 1)))
        return Encoded(tf.transpose(sequence, [2, 0, 1]), tuple(states))
