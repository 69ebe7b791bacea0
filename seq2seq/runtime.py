"""TensorFlow, started quietly on the device and in the precision asked for."""

import json
import math
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, get_args

from seq2seq.config import Precision
from seq2seq.errors import UsageError

Device = Literal["auto", "cpu", "gpu"]
ComputePrecision = Literal["float32", "bfloat16"]

# Products of bfloat16 numbers with float32 sums are instructions of the processor or they are slow.
_BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16"}

SHARDS = 2
"""Parts of a batch in training, on a processor."""

# CPU time that a container may take, and in which time: "200000 100000" is two cores.
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")

_MOST_BATCHES = 8  # side by side, as each takes memory

_quiet = threading.RLock()
_AMPERE = (8, 0)  # the first NVIDIA GPUs that multiply bfloat16

# oneDNN makes the products, with no newer instructions than these variables allow.
_ISA_CAPS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_ISAS_WITHOUT_BFLOAT16 = {
    "SSE41",
    "AVX",
    "AVX2",
    "AVX2_VNNI",
    "AVX2_VNNI_2",
    "AVX512_CORE",
    "AVX512_CORE_VNNI",
}


@dataclass(frozen=True)
class Place:
    """Which of the processes that train together this one is.

    Attributes:
        addresses: `host:port` of every process, the chief's first; the same for all.
        index: Of this one.
    """

    addresses: tuple[str, ...]
    index: int


def place_of(workers: str | None, index: int | None, tf_config: str | None) -> Place | None:
    """This process among several, from options or else from TensorFlow's variable.

    Args:
        workers: `host:port,host:port,...`.
        index: Of this process among `workers`.
        tf_config: What the variable `TF_CONFIG` says, JSON: `cluster`, with the addresses of
            `chief` and `worker`, and `task`, with `type` and `index`.

    Returns:
        None if there is no other process.

    Raises:
        UsageError: It cannot be made out.
    """
    if workers is None and index is None:
        return _place_of_tf_config(tf_config) if tf_config else None
    if workers is None or index is None:
        raise UsageError("--workers and --worker-index: give both, or none")
    return _checked_place(workers.split(","), index, "--workers")


def _place_of_tf_config(text: str) -> Place | None:
    try:
        given = json.loads(text)
        cluster, task = given["cluster"], given["task"]
        chiefs, others = list(cluster.get("chief", [])), list(cluster.get("worker", []))
        index = int(task["index"]) + (0 if task["type"] == "chief" else len(chiefs))
        if task["type"] not in ("chief", "worker") or set(cluster) - {"chief", "worker"}:
            raise ValueError("only chief and worker can train")
        if not 0 <= int(task["index"]) < len(chiefs if task["type"] == "chief" else others):
            raise ValueError(f"there is no {task['type']} {task['index']}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise UsageError(
            f"TF_CONFIG: {type(err).__name__}: {err}; expected "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        ) from err
    return _checked_place([*chiefs, *others], index, "TF_CONFIG")


def _checked_place(addresses: Sequence[str], index: int, where: str) -> Place | None:
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UsageError(f"{where}: got {address!r}, expected host:port")
    if len(set(addresses)) < len(addresses):
        raise UsageError(f"{where}: an address is there twice; expected one for each process")
    if not 0 <= index < len(addresses):
        raise UsageError(
            f"{where}: index {index} of {len(addresses)} workers; expected 0 to "
            f"{len(addresses) - 1}"
        )
    return Place(tuple(addresses), index) if len(addresses) > 1 else None


def start_tensorflow(device: Device = "auto", *, shards: int = 1) -> None:
    """Imports TensorFlow without its start-up noise and chooses the device.

    To be called before any other use of TensorFlow in the process: devices cannot be hidden once
    they are in use.

    Args:
        device: `auto` takes a GPU if there is one, with memory growth on.
        shards: How many computations will run side by side, unless on a GPU. If that keeps all
            cores busy, no operation is shared out; but TF_NUM_INTRAOP_THREADS goes before that.

    Raises:
        UsageError: A GPU is asked for and there is none; or none is to be used, and one is already.
    """
    if device not in get_args(Device):
        raise UsageError(f"device: got {device!r}, expected auto, cpu or gpu")
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


def resolve_precision(precision: Precision) -> ComputePrecision:
    """The precision of matrix products: `auto` is bfloat16 where the hardware multiplies it.

    That is a GPU of the generation Ampere or later, or a processor with amx_bf16 or avx512_bf16
    that oneDNN may use: neither TF_ENABLE_ONEDNN_OPTS nor ONEDNN_MAX_CPU_ISA forbids it. Weights,
    cell states, softmax and loss are float32 in either precision.

    Raises:
        UsageError: It is none of the three.
    """
    if precision not in get_args(Precision):
        raise UsageError(f"precision: got {precision!r}, expected auto, float32 or bfloat16")
    if precision != "auto":
        return precision
    return "bfloat16" if _multiplies_bfloat16() else "float32"


def explain_precision(precision: Precision) -> str:
    """What `resolve_precision` says, with the reason where it is not what one would expect."""
    resolved = resolve_precision(precision)
    if _multiplies_bfloat16():
        return resolved
    missing = "no bfloat16 products on this machine"
    if precision == "auto":
        return f"{resolved} ({missing})"
    return f"{resolved} ({missing}: slow)" if resolved == "bfloat16" else resolved


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


def _multiplies_bfloat16() -> bool:
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    return all(map(_gpu_has_bfloat16, gpus)) if gpus else _cpu_has_bfloat16()


def _gpu_has_bfloat16(gpu: Any) -> bool:
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(gpu)
    return bool(details.get("compute_capability", _AMPERE) >= _AMPERE)


def _cpu_has_bfloat16() -> bool:
    caps = {os.environ.get(name, "").upper() for name in _ISA_CAPS}
    if (
        os.environ.get("TF_ENABLE_ONEDNN_OPTS", "").lower() in ("0", "false")
        or caps & _ISAS_WITHOUT_BFLOAT16
    ):
        return False
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():  # no Linux: no way to know, so no bfloat16
        return False
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n"):
        if line.startswith("flags"):
            return bool(_BFLOAT16_FLAGS & set(line.split()))
    return False


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keeps what is written to file descriptor 2 away from the user, unless the block fails.

    TensorFlow's libraries write there past Python's logging, some of it at every log level. One
    thread at a time.
    """
    with _quiet:
        if sys.stderr is not None:
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
