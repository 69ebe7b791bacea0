"""TensorFlow, started quietly on the device asked for, with as many threads as it can use."""

import math
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal, get_args

from seq2seq.errors import UsageError

Device = Literal["auto", "cpu", "gpu"]


SHARDS = 2
"""Parts of a batch in training, on a processor."""

# CPU time that a container may take, and in which time: "200000 100000" is two cores.
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")

_MOST_BATCHES = 8  # side by side, as each takes memory

_quiet = threading.RLock()


def start_tensorflow(device: Device = "auto", *, shards: int = 1) -> None:
    """Imports TensorFlow without its start-up noise and chooses the device.

    To be called before any other use of TensorFlow in the process: devices cannot be hidden once
    they are in use.

    Args:
        device: `auto` takes a GPU if there is one, with memory growth on.
        shards: How many computations will run side by side, unless on a GPU. If that keeps all
            cores busy, no operation is shared out; but TF_NUM_INTRAOP_THREADS goes before that.

    Raises:
        UsageError: A GPU is asked for and there is none; or none is to be used, and one is already;
            or KERAS_BACKEND names another backend.
    """
    if device not in get_args(Device):
        raise UsageError(f"device: got {device!r}, expected auto, cpu or gpu")
    if (backend := os.environ["KERAS_BACKEND"]) != "tensorflow":
        raise UsageError(
            f"KERAS_BACKEND: got {backend!r}, expected 'tensorflow': seq2seq has no other; unset it"
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # On processors without AVX-512 TensorFlow leaves oneDNN off. Its products are faster there too,
    # and with it comes the allocator that keeps memory instead of faulting it in at every step.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with quiet_stderr():
        import tensorflow as tf

        gpus = tf.config.get_visible_devices("GPU")
    if device == "gpu" and not gpus:
        raise UsageError(
            "--device gpu: TensorFlow sees no GPU; use --device cpu, or install the extra `gpu` "
            "and the driver"
        )
    if device == "cpu" and gpus:
        try:
            tf.config.set_visible_devices([], "GPU")
        except RuntimeError as err:
            raise UsageError(
                "device cpu: this process uses TensorFlow on a GPU already; load the model before "
                "anything else, or set CUDA_VISIBLE_DEVICES to nothing"
            ) from err
        gpus = []
    if not gpus and cores() <= shards and "TF_NUM_INTRAOP_THREADS" not in os.environ:
        with suppress(RuntimeError):  # in a process that uses it already, with the threads it has
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(shards)
    for gpu in gpus:
        with suppress(RuntimeError):  # likewise
            tf.config.experimental.set_memory_growth(gpu, True)


def cores() -> int:
    """Logical cores that this process may use: as many as it may run on, and its container has."""
    has_affinity = hasattr(os, "sched_getaffinity")
    found = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    try:
        quota, period = _CPU_QUOTA.read_text(encoding="ascii").split()
    except (OSError, ValueError):  # no Linux, or no control groups of version 2
        return found
    return found if quota == "max" else min(found, max(1, math.ceil(int(quota) / int(period))))


def shards_of_a_batch() -> int:
    """In how many parts the batches of a training are best dealt with: 1 on a GPU.

    On a processor it does not depend on the number of cores, as dropout masks depend on it.
    """
    return 1 if has_gpu() else SHARDS


def batches_at_a_time() -> int:
    """How many batches are best decoded side by side: one on each core, or one on a GPU."""
    return 1 if has_gpu() else min(cores(), _MOST_BATCHES)


def has_gpu() -> bool:
    """Whether TensorFlow may use a GPU."""
    import tensorflow as tf

    return bool(tf.config.get_visible_devices("GPU"))


@contextmanager
def memory_for(what: str, *, advice: str) -> Iterator[None]:
    """Within it, TensorFlow's many lines about memory are one that says what to do.

    Raises:
        UsageError: There is not enough memory for `what`.
    """
    import tensorflow as tf

    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as err:
        raise UsageError(f"out of memory with {what}; {advice}") from err


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keeps what is written to file descriptor 2 away from the user, unless the block fails.

    TensorFlow's libraries write there past Python's logging, some of it at every log level. One
    thread at a time.
    """
    with _quiet:
        if sys.stderr is not None:
            with suppress(OSError, ValueError):  # what it does not take is dropped
                sys.stderr.flush()
        try:
            saved = os.dup(2)
        except OSError:  # closed: there is nothing to keep quiet
            yield
            return
        with _noise() as noise:
            os.dup2(noise.fileno(), 2)
            try:
                yield
            except Exception:  # not for a signal
                noise.seek(0)
                os.write(saved, noise.read())
                raise
            finally:
                os.dup2(saved, 2)
                os.close(saved)


def _noise() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError:  # there is no folder for it: a container that can only be read
        return Path(os.devnull).open("r+b")
