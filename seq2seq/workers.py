"""The processes and devices that train one model together.

Each holds all weights and makes the same updates of them; what they share out is the batches of an
update, whose gradients are summed. So an update is the same mathematics whatever their number, and
how many there are is no part of an experiment.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from seq2seq.console import say
from seq2seq.errors import UsageError, WorkerLostError
from seq2seq.runtime import Place, quiet_stderr

WORKERS = "workers"
"""Folder, in the model folder, of what workers other than the chief keep."""

_SUM = tf.distribute.ReduceOp.SUM
# What collective operations fail with when another process is gone.
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)


def start_workers(place: Place | None, batches_per_update: int) -> "Workers":
    """Meets the other processes, or stands alone, with the devices that TensorFlow was started on.

    Of several GPUs all are used if they can share the batches of an update evenly, else one.

    Raises:
        UsageError: The processes and their devices cannot share the batches of an update evenly.
    """
    if place is None:
        gpus = tf.config.get_visible_devices("GPU")
        if len(gpus) > 1 and batches_per_update % len(gpus) == 0:
            return Workers(tf.distribute.MirroredStrategy())
        if len(gpus) > 1:
            say(
                f"note: 1 of {len(gpus)} GPUs is used; all are with training.accumulate_batches a "
                f"multiple of {len(gpus)}"
            )
        return Workers(tf.distribute.get_strategy())
    say(f"worker {place.index} of {len(place.addresses)}: waiting for the others")
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(place.addresses)}),
        task_type="worker",
        task_id=place.index,
        rpc_layer="grpc",
    )
    with quiet_stderr():
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    workers = Workers(strategy, count=len(place.addresses), index=place.index)
    workers.check_shareable(batches_per_update)
    return workers


class Workers:
    """This process among those that train together, and the devices it uses.

    Attributes:
        strategy: Runs a function on every device of this process.
        count: Processes.
        index: Of this one; 0 is the chief, which alone validates and writes.
        local_replicas: Devices of this process.
    """

    def __init__(self, strategy: tf.distribute.Strategy, *, count: int = 1, index: int = 0) -> None:
        self.strategy = strategy
        self.count = count
        self.index = index
        self.local_replicas = strategy.num_replicas_in_sync // count
        # One graph for all numbers of values: processes must agree on the order of collectives.
        self._sum = tf.function(self._sum_over_replicas)

    @property
    def is_chief(self) -> bool:
        """Whether this process validates and writes."""
        return self.index == 0

    def share(self, batches: int) -> range:
        """Which batches of an update, of `batches` in all, are those of this process."""
        each = batches // self.count
        return range(self.index * each, (self.index + 1) * each)

    def check_shareable(self, batches: int) -> None:
        """
        Raises:
            UsageError: An update of so many batches cannot be shared out evenly.
        """
        replicas = self.strategy.num_replicas_in_sync
        if batches % replicas:
            raise UsageError(
                f"training.accumulate_batches: got {batches}, expected a multiple of {replicas}, "
                f"so that {self.count} processes with {self.local_replicas} devices each share the "
                "batches of an update; an update is then the same as one process makes of as many"
            )

    def check_same(self, digests: Mapping[str, str]) -> None:
        """All processes must call it.

        Args:
            digests: The sha256 of what all must have in common, by what it is.

        Raises:
            UsageError: A worker has something else than the chief.
        """
        numbers = [
            int(digest[at : at + 8], 16) for digest in digests.values() for at in range(0, 64, 8)
        ]
        given = self.gather(numbers).reshape([self.count, len(digests), 8])
        differ = (given != given[0]).any(2)  # [W, things]
        faults = [
            f"worker {worker} has another {what} than the chief, worker 0"
            for worker, row in enumerate(differ)
            for what, is_other in zip(digests, row, strict=True)
            if is_other
        ]
        if faults:
            raise UsageError(
                "; ".join(faults) + "; give all workers the same configuration, text and versions"
            )

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """In a function that `strategy` runs: each tensor summed over all devices of all."""
        if self.strategy.num_replicas_in_sync == 1:
            return list(tensors)
        context = tf.distribute.get_replica_context()
        return list(context.all_reduce(_SUM, list(tensors)))

    def gather(self, numbers: Sequence[float]) -> NDArray[np.float64]:
        """`[W, n]`: the `numbers` of every process. All must call it, each with as many."""
        own = np.zeros([self.count, len(numbers)])
        own[self.index] = numbers
        return own if self.count == 1 else self._summed([own])[0]

    def from_chief(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The arrays of the chief; others give ones of the same names, shapes and dtypes."""
        if self.count == 1:
            return dict(arrays)
        given = [each if self.is_chief else np.zeros_like(each) for each in arrays.values()]
        return dict(zip(arrays, self._summed(given), strict=True))

    def _summed(self, arrays: Sequence[NDArray[Any]]) -> list[Any]:
        return [each.numpy() for each in self._sum(*map(tf.constant, arrays))]

    def _sum_over_replicas(self, *tensors: tf.Tensor) -> list[tf.Tensor]:
        def on_replica() -> list[tf.Tensor]:
            # The devices of a process have the same to give; one of them does.
            mine = [each if self.local_replica() == 0 else tf.zeros_like(each) for each in tensors]
            return self.sum(mine)

        return self.first(self.strategy.run(on_replica))

    def local_replica(self) -> int:
        """In a function that `strategy` runs: which device of this process it is for."""
        if self.local_replicas == 1:
            return 0
        place = tf.distribute.get_replica_context().replica_id_in_sync_group
        return int(tf.get_static_value(place)) % self.local_replicas

    def first(self, results: Any) -> Any:
        """What a function that `strategy` ran made on the first device of this process."""
        return tf.nest.map_structure(
            lambda each: self.strategy.experimental_local_results(each)[0], results
        )


@contextmanager
def lost_workers_told() -> Iterator[None]:
    """
    Raises:
        WorkerLostError: The block failed because another process is gone.
    """
    try:
        yield
    except _LOST as err:
        raise WorkerLostError(
            "another worker is gone: training stops. Start all workers again with --resume; they "
            "go on from the chief's last checkpoint"
        ) from err
