"""The precision of matrix products: what is asked for, and what the hardware multiplies."""

import os
from pathlib import Path
from typing import Any, Literal, get_args

from seq2seq.config import Precision
from seq2seq.errors import UsageError

ComputePrecision = Literal["float32", "bfloat16"]
# Products of bfloat16 numbers with float32 sums are instructions of the processor or they are slow.
_BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16"}
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


def resolve_precision(precision: Precision) -> ComputePrecision:
    """The precision of matrix products: `auto` is bfloat16 where the hardware multiplies it.

    That is a GPU of the generation Ampere or later, or a processor with amx_bf16 or avx512_bf16
    that oneDNN may use: neither TF_ENABLE_ONEDNN_OPTS nor ONEDNN_MAX_CPU_ISA forbids it. Weights,
    softmax and loss are float32 in either precision, and so are cell states but on a GPU.

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
