"""What an update minimises: the summed loss of one batch, as a function of its tensors."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from seq2seq.decoder import Decoder
from seq2seq.loss import Loss, cross_entropy
from seq2seq.models import TranslationModel

IDS = tf.TensorSpec([None, None], tf.int32)
LENGTHS = tf.TensorSpec([None], tf.int32)


class Outcome(NamedTuple):
    """What an objective makes of one batch.

    Attributes:
        loss: Sums over its target tokens.
        tokens: How many there are, float32 scalar.
        carried: What the next batch begins with, under the names of `Objective.carried`.
    """

    loss: Loss
    tokens: tf.Tensor
    carried: Mapping[str, tf.Tensor]


class Objective(Protocol):
    """A model and what is minimised with it.

    Attributes:
        signature: Of the tensors of a batch: one row for each text, and scalars.
    """

    signature: list[tf.TensorSpec]

    def named_weights(self) -> dict[str, keras.Variable]:
        """What is trained."""
        ...

    def __call__(
        self,
        *tensors: tf.Tensor,
        carried: Mapping[str, tf.Tensor],
        dropout_seed: tf.Tensor | None,
    ) -> Outcome:
        """The loss of one batch, or of some of its rows and their part of what is carried.

        Dropout only with a seed, `[2]` int32.
        """
        ...

    def carried(self) -> Mapping[str, tf.Variable]:
        """What goes on from batch to batch, a row for each text, float32, by name.

        Without it a training cannot be resumed.
        """
        ...


class TranslationObjective:
    """Cross-entropy of the target under teacher forcing."""

    def __init__(
        self,
        model: TranslationModel,
        *,
        bos_id: int,
        label_smoothing: float = 0.0,
        consistency: float = 0.0,
    ) -> None:
        """
        Args:
            model: Its weights are trained.
            bos_id: What the decoder reads first.
            label_smoothing: See `cross_entropy`.
            consistency: See `TranslationModel.loss`.
        """
        self.signature = [IDS, LENGTHS, IDS, LENGTHS]
        self._model = model
        self._options: dict[str, Any] = {
            "bos_id": bos_id,
            "label_smoothing": label_smoothing,
            "consistency": consistency,
        }

    def named_weights(self) -> dict[str, keras.Variable]:
        """Those of the model."""
        return self._model.named_weights()

    def __call__(
        self,
        *tensors: tf.Tensor,
        carried: Mapping[str, tf.Tensor],
        dropout_seed: tf.Tensor | None,
    ) -> Outcome:
        """The loss of source ids `[B, S]`, lengths `[B]`, target ids `[B, T]` and lengths `[B]`."""
        loss = self._model.loss(*tensors, **self._options, dropout_seed=dropout_seed)
        return Outcome(loss, tf.cast(tf.reduce_sum(tensors[3]), tf.float32), carried)

    def carried(self) -> Mapping[str, tf.Variable]:
        """Nothing: sentence pairs do not follow on from each other."""
        return {}


class LanguageModelObjective:
    """Cross-entropy of what follows, in windows of texts that go on from batch to batch.

    The state at the end of a window is what the next one begins with; no gradient goes back there
    (truncated back-propagation through time, Williams & Peng 1990).
    """

    def __init__(self, decoder: Decoder, *, rows: int, label_smoothing: float = 0.0) -> None:
        """
        Args:
            decoder: One without attention; its weights are trained.
            rows: N, texts read side by side.
            label_smoothing: See `cross_entropy`.
        """
        window = tf.TensorSpec([rows, None], tf.int32)
        self.signature = [window, window, tf.TensorSpec([], tf.bool)]
        self._decoder = decoder
        self._label_smoothing = label_smoothing
        self._carried = {
            f"layer_{index}/{part}": tf.Variable(tf.zeros([rows, decoder.units]), trainable=False)
            for index in range(len(decoder.stack))
            for part in ("h", "c")
        }

    def named_weights(self) -> dict[str, keras.Variable]:
        """Those of the decoder."""
        return self._decoder.named_weights()

    def __call__(
        self,
        *tensors: tf.Tensor,
        carried: Mapping[str, tf.Tensor],
        dropout_seed: tf.Tensor | None,
    ) -> Outcome:
        """The loss of ids `[N, M]`, what follows each `[N, M]`, and whether texts begin here."""
        inputs, targets, begins = tensors
        parts = [tf.where(begins, 0.0, part) for part in carried.values()]
        state = self._decoder.state(zip(parts[0::2], parts[1::2], strict=True))
        features, after = self._decoder.token_features(inputs, state, dropout_seed=dropout_seed)
        loss = cross_entropy(
            features,
            tf.convert_to_tensor(self._decoder.output_kernel),
            self._decoder.output_bias,
            tf.reshape(targets, [-1]),
            self._label_smoothing,
        )
        # bfloat16 numbers are float32 numbers too, and files of weights have those.
        left = [tf.cast(part, tf.float32) for part in tf.nest.flatten(after)]
        return Outcome(
            loss, tf.cast(tf.size(targets), tf.float32), dict(zip(carried, left, strict=True))
        )

    def carried(self) -> Mapping[str, tf.Variable]:
        """The state of every layer `[N, H]` float32."""
        return self._carried
