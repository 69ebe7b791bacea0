"""The processes and devices that train one model together.

Each holds all weights and makes the same updates of them; what they share out is the batches of an
update, whose gradients are summed. So an update is the same mathematics whatever their number, and
the result does not depend on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from seq2seq.console import say
from seq2seq.errors import UsageError, WorkerLostError
from seq2seq.model_files import WORKERS_FOLDER
from seq2seq.runtime import quiet_stderr
from seq2seq.worker_place import Place

_SUM = tf.distribute.ReduceOp.SUM
# What collective operations fail with when another process is gone.
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)


def check_shared(place: Place | None, batches_per_update: int) -> None:
    """Checks that the workers of `place` can share updates of so many batches.

    Raises:
        UsageError: Several processes and their devices cannot share the batches of an update
            evenly.
    """
    if place is None:
        return
    devices = len(place.addresses) * _devices()
    if batches_per_update % devices:
        raise UsageError(
            f"{len(place.addresses)} workers: {_unshared(batches_per_update, devices)}"
        )


def start_workers(place: Place | None, batches_per_update: int) -> "Workers":
    """Meets the other processes, or stands alone, with the devices that TensorFlow was started on.

    Of several GPUs one process alone uses all if they can share the batches of an update evenly,
    else one. Several processes must be able to; see `check_shared`.
    """
    devices = _devices()
    if place is None:
        if batches_per_update % devices:
            say(f"note: 1 of {devices} GPUs is used: {_unshared(batches_per_update, devices)}")
            devices = 1
        mirrored = tf.distribute.MirroredStrategy if devices > 1 else tf.distribute.get_strategy
        return Workers(mirrored())
    count = len(place.addresses)
    say(f"worker {place.index} of {count}: waiting for the others")
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(place.addresses)}),
        task_type="worker",
        task_id=place.index,
        rpc_layer="grpc",
    )
    with quiet_stderr():
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    return Workers(strategy, count=count, index=place.index)


def _devices() -> int:
    """How many of them this process uses."""
    return len(tf.config.get_visible_devices("GPU")) or 1


def _unshared(batches: int, devices: int) -> str:
    """Why so many devices cannot share an update, and what to do."""
    return (
        f"an update has {batches} batches, which {devices} devices cannot share evenly; expected "
        f"training.accumulate_batches to be a multiple of {devices}"
    )


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
        self.local_replicas: int = strategy.num_replicas_in_sync // count
        self._sum = tf.function(
            self._sum_over_processes, [tf.TensorSpec([None], tf.float64)], autograph=False
        )

    @property
    def is_chief(self) -> bool:
        """Whether this process validates and writes."""
        return self.index == 0

    def share(self, batches: int) -> range:
        """Which batches of an update, of `batches` in all, are those of this process."""
        each = batches // self.count
        return range(self.index * each, (self.index + 1) * each)

    def check_same(self, digests: Mapping[str, str]) -> None:
        """Checks that all processes have been given the same; all must call it.

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
                "; ".join(faults) + "; give all workers the same configuration, text and versions; "
                f"what a worker keeps of an earlier run is in {WORKERS_FOLDER}/INDEX of its model "
                "folder"
            )

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """In a function that `strategy` runs: each tensor summed over all devices of all."""
        if self.strategy.num_replicas_in_sync == 1:
            return list(tensors)
        context = tf.distribute.get_replica_context()
        return list(context.all_reduce(_SUM, list(tensors)))

    def gather(self, numbers: Sequence[float]) -> NDArray[np.float64]:
        """`[W, n]`: the `numbers` of every process. All must call it, each with as many."""
        given = np.zeros([self.count, len(numbers)])
        given[self.index] = numbers
        return self._summed(given.ravel()).reshape(given.shape)

    def from_chief(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The arrays of the chief; others give ones of the same names, shapes and dtypes."""
        given = np.concatenate([each.ravel().astype(np.float64) for each in arrays.values()])
        found = self._summed(given if self.is_chief else np.zeros_like(given))
        ends = np.cumsum([each.size for each in arrays.values()])
        parts = np.split(found, ends[:-1])
        return {
            name: part.reshape(each.shape).astype(each.dtype)
            for (name, each), part in zip(arrays.items(), parts, strict=True)
        }

    def _summed(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """`[n]`: sums over all processes; float64 holds whatever has 32 bits as it is."""
        return numbers if self.count == 1 else self._sum(numbers).numpy()

    def _sum_over_processes(self, numbers: tf.Tensor) -> tf.Tensor:
        def on_replica() -> tf.Tensor:
            # The devices of a process have the same to give; one of them does. And TensorFlow looks
            # for the device of what is reduced, which arguments do not have.
            give = tf.identity if self.local_replica() == 0 else tf.zeros_like
            return self.sum([give(numbers)])[0]

        return self.first(self.strategy.run(on_replica))

    def local_replica(self) -> int:
        """In a function that `strategy` runs: which device of this process it is for."""
        if self.local_replicas == 1:
            return 0
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return int(tf.get_static_value(replica)) % self.local_replicas

    def first(self, results: Any) -> Any:
        """What a function that `strategy` ran made on the first device of this process."""
        return tf.nest.map_structure(
            lambda each: self.strategy.experimental_local_results(each)[0], results
        )


@contextmanager
def reporting_lost_workers() -> Iterator[None]:
    """Within it the loss of another worker is one line that says so.

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
