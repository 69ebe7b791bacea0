"""What the machine can do, measured: the rate of large matrix products."""

import time
from pathlib import Path
from statistics import median
from typing import Any


def describe() -> str:
    """Processor, the instructions that matter, and the number of logical cores."""
    import os

    model, flags = "unknown processor", set()
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().split("\n") if cpuinfo.exists() else []:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
        elif key.strip() == "flags":
            flags = set(value.split())
    has = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{model}, {os.cpu_count()} logical cores, {' '.join(has) or 'no vector instructions'}"


def product_rate(precision: str, *, size: int = 2048, rounds: int = 7) -> float:
    """GFLOP/s of square products in `precision`, the median of some rounds.

    There are two at a time: so all cores have work, whether or not TensorFlow may share one product
    out among them.
    """
    import tensorflow as tf

    dtype = tf.as_dtype(precision)
    left = tf.cast(tf.random.stateless_normal([size, size], [1, 2]), dtype)
    right = tf.cast(tf.random.stateless_normal([size, size], [3, 4]), dtype)

    @tf.function
    def products(left: Any, right: Any) -> Any:
        return tf.matmul(left, right)[0, 0] + tf.matmul(right, left)[0, 0]

    times = []
    for _ in range(rounds + 1):  # the first one compiles
        started = time.perf_counter()
        products(left, right).numpy()
        times.append(time.perf_counter() - started)
    return 2 * 2 * size**3 / median(times[1:]) / 1e9


def peak_memory() -> float:
    """Largest resident size of this process so far, in MB."""
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
