"""What an update minimises: the summed loss of one batch, as a function of its tensors."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from seq2seq.loss import Loss
from seq2seq.models import TranslationModel

IDS = tf.TensorSpec([None, None], tf.int32)
LENGTHS = tf.TensorSpec([None], tf.int32)


class Outcome(NamedTuple):
    """What an objective makes of one batch.

    Attributes:
        loss: Sums over its target tokens.
        tokens: How many there are, float32 scalar.
        carried: What the next batch begins with, for `Objective.carry`; () if nothing is.
    """

    loss: Loss
    tokens: tf.Tensor
    carried: Any = ()


class Objective(Protocol):
    """A model and what is minimised with it.

    Attributes:
        signature: Of the tensors of a batch.
    """

    signature: list[tf.TensorSpec]

    def named_weights(self) -> dict[str, keras.Variable]:
        """What is trained."""
        ...

    def __call__(self, *tensors: tf.Tensor, dropout_seed: tf.Tensor | None) -> Outcome:
        """The loss of one batch; dropout only with a seed, `[2]` int32."""
        ...

    def carry(self, carried: Any) -> None:
        """Keeps what the next batch begins with."""
        ...

    def carried(self) -> Mapping[str, tf.Variable]:
        """What is kept, by name: without it a training cannot be gone on with."""
        ...


class TranslationObjective:
    """Cross-entropy of the target under teacher forcing."""

    def __init__(
        self, model: TranslationModel, *, bos_id: int, label_smoothing: float = 0.0
    ) -> None:
        """
        Args:
            model: Its weights are trained.
            bos_id: What the decoder reads first.
            label_smoothing: See `cross_entropy`.
        """
        self.signature = [IDS, LENGTHS, IDS, LENGTHS]
        self._model = model
        self._bos_id = bos_id
        self._label_smoothing = label_smoothing

    def named_weights(self) -> dict[str, keras.Variable]:
        """Those of the model."""
        return self._model.named_weights()

    def __call__(self, *tensors: tf.Tensor, dropout_seed: tf.Tensor | None) -> Outcome:
        """The loss of source ids `[B, S]`, lengths `[B]`, target ids `[B, T]` and lengths `[B]`."""
        loss = self._model.loss(
            *tensors,
            bos_id=self._bos_id,
            label_smoothing=self._label_smoothing,
            dropout_seed=dropout_seed,
        )
        return Outcome(loss, tf.cast(tf.reduce_sum(tensors[3]), tf.float32))

    def carry(self, carried: Any) -> None:
        """Nothing: sentence pairs do not follow on from each other."""

    def carried(self) -> Mapping[str, tf.Variable]:
        """Nothing."""
        return {}
