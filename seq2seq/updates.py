"""One update of the weights: gradients of one or more batches, clipped, handed to the optimizer."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from seq2seq.config import CommonTrainingConfig
from seq2seq.errors import ModelError
from seq2seq.layers import assign_weights
from seq2seq.objectives import Objective
from seq2seq.workers import Workers


class Tensors(Protocol):
    """A batch."""

    @property
    def tensors(self) -> Sequence[Any]:
        """What the objective is given, in the order of its signature."""
        ...


class UpdateSums(NamedTuple):
    """Sums over the target tokens of an update, float32 scalars.

    Attributes:
        nll: Negative log-probability of the labels, nats.
        correct: Labels that had the highest logit.
        tokens: Target tokens, end of sentence included.
        gradient_norm: Global norm of the mean gradient before clipping.
    """

    nll: tf.Tensor
    correct: tf.Tensor
    tokens: tf.Tensor
    gradient_norm: tf.Tensor


class Updater:
    """Updates a model's weights; compiled once, for batches of any shape.

    The gradient is that of the mean loss over all real target tokens of the update, whatever
    batches they came in and whichever process computed them, scaled down to the global norm
    `gradient_norm` where it is larger (Pascanu et al. 2013). An update whose gradient is not finite
    is not made.

    With an `ema_decay`, moving averages of the weights are kept beside them (Polyak & Juditsky
    1992); the decay is min(ema_decay, (1 + n) / (10 + n)) after n updates, so that the initial
    weights are soon forgotten.
    """

    def __init__(
        self,
        config: CommonTrainingConfig,
        objective: Objective,
        *,
        seed: int,
        batches_per_update: int = 1,
        shards: int = 1,
        workers: Workers | None = None,
    ) -> None:
        """
        Args:
            config: The `[training]` section.
            objective: Its weights are updated in place.
            seed: Of the dropout masks, together with the number of the batch.
            batches_per_update: How many batches an update has, those of other processes included.
            shards: In how many parts the rows of a batch are dealt with side by side: a matter of
                speed, but each part has dropout masks of its own.
            workers: Who computes the gradients; this process alone, on one device, if left out.
        """
        self._objective = objective
        self._weights = list(objective.named_weights().values())
        self._optimizer = _OPTIMIZERS[config.optimizer](
            learning_rate=config.learning_rate,
            name="optimizer",  # in the names of its variables; Keras would number them
        )
        self._optimizer.build(self._weights)
        averaged = self._weights if config.ema_decay else []
        self._averages = [(tf.Variable(each.value, trainable=False), each) for each in averaged]
        self._config = config
        self._seed = seed
        self._shards = shards
        self._workers = workers or Workers(tf.distribute.get_strategy())
        replicas = self._workers.strategy.num_replicas_in_sync
        # What the batches of a device before the last of an update add up to, if there are any.
        self._sums = self._zeros() if batches_per_update > replicas else []
        signature = [*objective.signature, tf.TensorSpec([2], tf.int32)]
        signature *= self._workers.local_replicas
        self._accumulate_step = tf.function(
            self._on_replicas(self._accumulate), signature, autograph=False
        )
        self._update_step = tf.function(self._update, signature, autograph=False)
        # XLA makes one pass over each weight of what are a dozen passes otherwise.
        self._apply_gradients = tf.function(self._apply, jit_compile=True, autograph=False)

    def update(
        self, batches: Sequence[Tensors], *, number: int, learning_rate: float
    ) -> UpdateSums:
        """One update from the gradients of all batches, every token weighing the same.

        Args:
            batches: Those of this process: its part of as many as `batches_per_update` says.
            number: That of the first of `batches` in the whole training: decides the dropout
                masks.
            learning_rate: Of this update.

        Returns:
            The sums over all batches, those of other processes included. If the gradient norm is
            not finite, no weight was changed.
        """
        self._optimizer.learning_rate.assign(learning_rate)
        rounds = len(batches) // self._workers.local_replicas
        for turn in range(rounds - 1):
            self._accumulate_step(*self._turn(batches, number, slice(turn, None, rounds)))
        return UpdateSums(
            *self._update_step(*self._turn(batches, number, slice(rounds - 1, None, rounds)))
        )

    def weights(self) -> dict[str, np.ndarray]:
        """The weights as they are now, or their averages where such are kept, by name."""
        with self.averaged():
            named = self._objective.named_weights()
            return {name: np.asarray(each.numpy()) for name, each in named.items()}

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Sets the weights, and averages of them to the same.

        `load_optimizer_state` then sets the weights to those that `weights` are the averages of.

        Raises:
            ModelError: A weight is missing, unknown, or of another shape.
        """
        assign_weights(self._objective.named_weights(), weights)
        for average, weight in self._averages:
            average.assign(weight)

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

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the weights are their moving averages, where such are kept.

        These are the model that is validated and saved.
        """
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for average, weight in self._averages:
            trained = tf.identity(weight.value)
            weight.assign(average)
            average.assign(trained)

    def _state(self) -> Iterator[tuple[str, Any]]:
        if self._averages:  # weights are saved as averages, so here they are as they were trained
            for name, weight in self._objective.named_weights().items():
                yield f"trained/{name}", weight
        for variable in self._optimizer.variables:
            yield variable.path, variable
        for name, carried in self._objective.carried().items():
            yield f"carried/{name}", carried

    def _zeros(self) -> list[tf.Variable]:
        """Sums of every device: of the gradients, and of nll, correct and tokens."""
        shapes = [*(weight.shape for weight in self._weights), *[()] * 3]
        with self._workers.strategy.scope():
            return [
                tf.Variable(
                    tf.zeros(shape),
                    trainable=False,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                )
                for shape in shapes
            ]

    def _turn(self, batches: Sequence[Tensors], number: int, places: slice) -> list[Any]:
        """The tensors of one batch for each device, its dropout seed behind each."""
        numbered = list(enumerate(batches, number))[places]
        seeded = [[*batch.tensors, tf.constant([self._seed, n], tf.int32)] for n, batch in numbered]
        return list(itertools.chain.from_iterable(seeded))

    def _on_replicas(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` run on every device with that device's part of the arguments."""

        def run(*arguments: tf.Tensor) -> Any:
            each = len(arguments) // self._workers.local_replicas

            def on_replica() -> Any:
                place = self._workers.local_replica() * each
                return function(*arguments[place : place + each])

            return self._workers.strategy.run(on_replica)

        return run

    def _batch_sums(self, *batch_and_seed: tf.Tensor) -> list[tf.Tensor]:
        """Gradients of the summed loss of a batch; its nll, correct labels and tokens."""
        *batch, dropout_seed = batch_and_seed
        variables = [weight.value for weight in self._weights]
        carried = self._objective.carried()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            outcomes = [
                self._objective(
                    *(self._rows_of(tensor, shard) for tensor in batch),
                    carried={name: self._rows_of(each, shard) for name, each in carried.items()},
                    dropout_seed=tf.random.experimental.stateless_fold_in(dropout_seed, shard),
                )
                for shard in range(self._shards)
            ]
            total = tf.add_n([outcome.loss.total for outcome in outcomes])
        gradients = tape.gradient(total, variables)
        for name, variable in carried.items():
            variable.assign(tf.concat([outcome.carried[name] for outcome in outcomes], 0))
        counted = [(loss.nll, loss.correct, tokens) for loss, tokens, _ in outcomes]
        return [*map(tf.convert_to_tensor, gradients), *map(tf.add_n, zip(*counted, strict=True))]

    def _rows_of(self, tensor: Any, shard: int) -> tf.Tensor:
        """A shard's rows of `tensor`; all of one that has none."""
        tensor = tf.convert_to_tensor(tensor)
        if self._shards == 1 or not tensor.shape.rank:
            return tensor
        rows = tf.shape(tensor)[0]
        return tensor[shard * rows // self._shards : (shard + 1) * rows // self._shards]

    def _accumulate(self, *batch_and_seed: tf.Tensor) -> None:
        for total, part in zip(self._sums, self._batch_sums(*batch_and_seed), strict=True):
            total.assign_add(part)

    def _all_sums(self, *batch_and_seed: tf.Tensor) -> list[tf.Tensor]:
        """`_batch_sums`, with those accumulated before, of all devices of all processes."""
        sums = self._batch_sums(*batch_and_seed)
        if self._sums:
            sums = [a + b for a, b in zip(self._sums, sums, strict=True)]
            for total in self._sums:
                total.assign(tf.zeros_like(total))
        return self._workers.sum(sums)

    def _update(self, *batches_and_seeds: tf.Tensor) -> UpdateSums:
        sums = self._workers.first(self._on_replicas(self._all_sums)(*batches_and_seeds))
        *gradients, nll, correct, tokens = sums
        scale = 1.0 / tokens
        norm = tf.linalg.global_norm(gradients) * scale
        scale *= self._config.gradient_norm / tf.maximum(norm, self._config.gradient_norm)
        tf.cond(
            tf.math.is_finite(norm), lambda: self._apply_gradients(gradients, scale), lambda: None
        )
        return UpdateSums(nll, correct, tokens, norm)

    def _apply(self, gradients: list[tf.Tensor], scale: tf.Tensor) -> None:
        self._optimizer.apply([gradient * scale for gradient in gradients], self._weights)
        updates = tf.cast(self._optimizer.iterations, tf.float32)
        decay = tf.minimum(self._config.ema_decay, (1.0 + updates) / (10.0 + updates))
        for average, weight in self._averages:
            average.assign_add((1.0 - decay) * (weight - average))


_OPTIMIZERS = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
