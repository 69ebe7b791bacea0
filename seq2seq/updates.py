"""One update of the weights: gradients of one or more batches, clipped, handed to the optimizer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from seq2seq.config import CommonTrainingConfig
from seq2seq.errors import ModelError
from seq2seq.objectives import Objective, Outcome


class Tensors(Protocol):
    """A batch."""

    @property
    def tensors(self) -> Sequence[Any]:
        """What the objective is given, in the order of its signature."""
        ...


class UpdateSums(NamedTuple):
    """Sums over the target tokens of one batch, float32 scalars.

    Attributes:
        nll: Negative log-probability of the labels, nats.
        correct: Labels that had the highest logit.
        tokens: Target tokens, end of sentence included.
        gradient_norm: Global norm of the update's mean gradient before clipping; 0 for a batch
            that was only accumulated.
    """

    nll: tf.Tensor
    correct: tf.Tensor
    tokens: tf.Tensor
    gradient_norm: tf.Tensor


class Updater:
    """Updates a model's weights; compiled once, for batches of any shape.

    The gradient is that of the mean loss over all real target tokens of the update, whatever
    batches they came in, scaled down to the global norm `gradient_norm` where it is larger
    (Pascanu et al. 2013). An update whose gradient is not finite is not made.
    """

    def __init__(
        self,
        config: CommonTrainingConfig,
        objective: Objective,
        *,
        seed: int,
        batches_per_update: int = 1,
    ) -> None:
        """
        Args:
            config: The `[training]` section.
            objective: Its weights are updated in place.
            seed: Of the dropout masks, together with the number of the batch.
            batches_per_update: How many batches `update` will be given.
        """
        self._objective = objective
        self._weights = list(objective.named_weights().values())
        self._optimizer = _OPTIMIZERS[config.optimizer](
            learning_rate=config.learning_rate,
            name="optimizer",  # in the names of its variables; Keras would number them
        )
        self._optimizer.build(self._weights)
        self._config = config
        self._seed = seed
        self._strategy = tf.distribute.get_strategy()
        # Gradients and tokens of the batches before the last of an update, if there are any.
        waiting = self._weights if batches_per_update > 1 else []
        self._sums = [tf.Variable(tf.zeros(each.shape), trainable=False) for each in waiting]
        self._tokens = tf.Variable(0.0, trainable=False)
        signature = [*objective.signature, tf.TensorSpec([2], tf.int32)]
        self._accumulate_step = tf.function(self._on_replica(self._accumulate), signature)
        self._update_step = tf.function(self._on_replica(self._update), signature)
        # XLA makes one pass over each weight of what are a dozen passes otherwise.
        self._apply_gradients = tf.function(self._apply, jit_compile=True)

    def update(
        self, batches: Sequence[Tensors], *, number: int, learning_rate: float
    ) -> list[UpdateSums]:
        """One update from the gradients of all `batches`, every token weighing the same.

        Args:
            batches: As many as `batches_per_update` says.
            number: That of the first batch in the whole training: decides the dropout masks.
            learning_rate: Of this update.

        Returns:
            The sums of each batch; the last one's gradient norm is the update's. If that is not
            finite, nothing was changed.
        """
        self._optimizer.learning_rate.assign(learning_rate)
        *first, last = batches
        sums = [self._run(self._accumulate_step, b, number + i) for i, b in enumerate(first)]
        return [*sums, self._run(self._update_step, last, number + len(first))]

    def optimizer_state(self) -> dict[str, np.ndarray]:
        """Every variable of the optimizer by its path, and what the objective carries over."""
        return {path: np.asarray(each.numpy()) for path, each in self._state()}

    def load_optimizer_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets every variable of `optimizer_state`.

        Raises:
            ModelError: A variable is missing or of another shape.
        """
        for path, variable in self._state():
            value = state.get(path)
            if value is None or tuple(value.shape) != tuple(variable.shape):
                raise ModelError(f"optimizer state {path}: missing or of another shape")
            variable.assign(value)

    def _state(self) -> Iterator[tuple[str, Any]]:
        for variable in self._optimizer.variables:
            yield variable.path, variable
        for name, carried in self._objective.carried().items():
            yield f"carried/{name}", carried

    def _run(self, step: Any, batch: Tensors, number: int) -> UpdateSums:
        return UpdateSums(*step(*batch.tensors, tf.constant([self._seed, number], tf.int32)))

    def _on_replica(self, function: Any) -> Any:
        return lambda *arguments: self._strategy.run(function, arguments)

    def _gradients(self, *batch_and_seed: tf.Tensor) -> tuple[list[tf.Tensor], Outcome]:
        """Gradients of the summed loss, and what the objective makes of the batch."""
        *batch, dropout_seed = batch_and_seed
        variables = [weight.value for weight in self._weights]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            outcome = self._objective(*batch, dropout_seed=dropout_seed)
        gradients = tape.gradient(outcome.loss.total, variables)
        return [tf.convert_to_tensor(each) for each in gradients], outcome

    def _apply(self, gradients: list[tf.Tensor], scale: tf.Tensor) -> None:
        self._optimizer.apply([gradient * scale for gradient in gradients], self._weights)

    def _accumulate(self, *batch_and_seed: tf.Tensor) -> UpdateSums:
        gradients, (loss, tokens, carried) = self._gradients(*batch_and_seed)
        self._objective.carry(carried)
        for total, gradient in zip(self._sums, gradients, strict=True):
            total.assign_add(gradient)
        self._tokens.assign_add(tokens)
        return UpdateSums(loss.nll, loss.correct, tokens, tf.constant(0.0))

    def _update(self, *batch_and_seed: tf.Tensor) -> UpdateSums:
        gradients, (loss, tokens, carried) = self._gradients(*batch_and_seed)
        self._objective.carry(carried)
        if self._sums:
            gradients = [a + b for a, b in zip(self._sums, gradients, strict=True)]
        scale = 1.0 / (tokens + self._tokens)
        norm = tf.linalg.global_norm(gradients) * scale
        scale *= self._config.gradient_norm / tf.maximum(norm, self._config.gradient_norm)

        tf.cond(
            tf.math.is_finite(norm), lambda: self._apply_gradients(gradients, scale), lambda: None
        )
        if self._sums:
            for total in self._sums:
                total.assign(tf.zeros_like(total))
            self._tokens.assign(0.0)
        return UpdateSums(loss.nll, loss.correct, tokens, norm)


_OPTIMIZERS = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
