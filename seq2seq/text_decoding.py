"""A language model's passes over text, compiled: reading, scoring, drawing what follows.

Shapes: N texts, T symbols, V vocabulary, H units.
"""

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq.decoder import Decoder, DecoderLayout, DecoderState
from seq2seq.lstm import forward_only
from seq2seq.search import Start, sample_onwards
from seq2seq.search_options import Sampling

_MOST_DRAWERS = 32  # traced graphs that are kept: one for each top_k, with nucleus or without
_TEXTS = tf.TensorSpec([None], tf.int32)
_IDS = tf.TensorSpec([None, None], tf.int32)


class SymbolScores(NamedTuple):
    """What a model makes of given symbols.

    Attributes:
        log_probs: Natural logarithm of the probability of each `[N, T]`, 0 past the end of a text.
        correct: Whether each was the most likely one `[N, T]`, 0 or 1.
    """

    log_probs: tf.Tensor
    correct: tf.Tensor


class CompiledText:
    """A decoder without attention as a language model; each pass is traced once for all shapes."""

    def __init__(self, decoder: Decoder, forbidden_ids: tuple[int, ...] = ()) -> None:
        """
        Args:
            decoder: With its weights set; if they are changed later, call `lay_out`.
            forbidden_ids: Never drawn.
        """
        self._decoder = decoder
        self._forbidden_ids = forbidden_ids
        self._drawer = functools.lru_cache(_MOST_DRAWERS)(self._new_drawer)
        state = tf.nest.map_structure(_any_rows, decoder.zero_state(1))
        self._score = tf.function(
            forward_only()(self._scored),
            input_signature=[_IDS, _IDS, _TEXTS, state],
            autograph=False,
        )
        self._read = tf.function(
            forward_only()(lambda ids, state: decoder.token_features(ids, state)[1]),
            input_signature=[_IDS, state],
            autograph=False,
        )
        self.lay_out()

    def lay_out(self) -> None:
        """Takes up the decoder's weights as they are now."""
        self._layout = self._decoder.layout()

    def zero_state(self, texts: int) -> DecoderState:
        """The state before anything is read."""
        return self._decoder.zero_state(texts)

    def read(self, ids: Any, state: DecoderState) -> DecoderState:
        """The state after `ids` `[N, T]` are read."""
        after: DecoderState = self._read(tf.constant(ids, tf.int32), state)
        return after

    def score(
        self, inputs: Any, targets: Any, lengths: Any, state: DecoderState
    ) -> tuple[SymbolScores, DecoderState]:
        """What the model makes of `targets` `[N, T]` as what follows each of `inputs` `[N, T]`.

        Args:
            inputs: int32.
            targets: int32.
            lengths: Real symbols of each text `[N]` int32.
            state: Before the first of `inputs`.

        Returns:
            The scores, and the state after the last of `inputs`.
        """
        log_probs, correct, after = self._score(inputs, targets, lengths, state)
        return SymbolScores(log_probs, correct), after

    def draw(
        self, start: Start, length: int, *, position: int, sampling: Sampling
    ) -> tuple[tf.Tensor, Start]:
        """See `sample_onwards`; ids `[N, T]`, and what goes on from there."""
        temperature, top_p, seed = sampling.temperature, sampling.top_p, sampling.seed
        top_k = min(sampling.top_k, self._decoder.vocabulary_size)
        ids, last, state = self._drawer(top_k, top_p < 1.0)(
            start.ids, start.state, self._layout, length, position, seed, temperature, top_p
        )
        return ids, Start(last, state)

    def _scored(
        self, inputs: tf.Tensor, targets: tf.Tensor, lengths: tf.Tensor, state: DecoderState
    ) -> tuple[tf.Tensor, tf.Tensor, DecoderState]:
        logits, after = self._decoder(inputs, state)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
        real = tf.sequence_mask(lengths, tf.shape(targets)[1], dtype=tf.float32)
        best = tf.argmax(logits, axis=2, output_type=tf.int32)
        return -losses * real, tf.cast(best == targets, tf.float32) * real, after

    def _new_drawer(self, top_k: int, has_nucleus: bool) -> Any:
        def draw(
            ids: tf.Tensor,
            state: DecoderState,
            layout: DecoderLayout,
            length: tf.Tensor,
            position: tf.Tensor,
            seed: tf.Tensor,
            temperature: tf.Tensor,
            top_p: tf.Tensor,
        ) -> tuple[tf.Tensor, tf.Tensor, DecoderState]:
            drawn, after = sample_onwards(
                self._decoder.stepper(layout),
                Start(ids, state),
                length,
                seed=seed,
                position=position,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p if has_nucleus else 1.0,
                forbidden_ids=self._forbidden_ids,
            )
            return drawn, after.ids, after.state

        whole, number = tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32)
        signature = [
            _TEXTS,
            tf.nest.map_structure(_any_rows, self._decoder.zero_state(1)),
            tf.nest.map_structure(tf.TensorSpec.from_tensor, self._layout),
            *(whole, whole, tf.TensorSpec([], tf.int64), number, number),
        ]
        return tf.function(draw, input_signature=signature, autograph=False)


def _any_rows(leaf: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *leaf.shape[1:]], leaf.dtype)
