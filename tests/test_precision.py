"""The precision of products: asked for, or what the hardware multiplies."""

import typing
from pathlib import Path
from typing import Any

import pytest
from fake_devices import Devices

from seq2seq import precision
from seq2seq.errors import UsageError
from seq2seq.precision import explain_precision, resolve_precision
from seq2seq.runtime import start_tensorflow

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
flags\t\t: fpu sse2 avx512f{flag} amx_tile
bugs\t\t: avx512_bf16
"""


def set_cpuinfo(text: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.delenv(name, raising=False)
    path = folder / "cpuinfo"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(precision, "Path", lambda name: {"/proc/cpuinfo": path}[name])


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (CPUINFO.format(flag=" amx_bf16"), "bfloat16"),
        (CPUINFO.format(flag=" avx512_bf16"), "bfloat16"),
        (CPUINFO.format(flag=""), "float32"),
        (CPUINFO.format(flag=" avx512_bf16x"), "float32"),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", "float32"),
        ("", "float32"),
        (None, "float32"),
    ],
    ids=["amx", "avx512", "neither", "longer name", "no x86", "empty", "no file"],
)
def test_auto_is_bfloat16_where_the_processor_multiplies_it(
    cpuinfo: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Devices([], monkeypatch)
    set_cpuinfo(cpuinfo, tmp_path, monkeypatch)
    assert resolve_precision("auto") == expected
    assert resolve_precision("float32") == "float32"
    assert resolve_precision("bfloat16") == "bfloat16"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2", "float32"),
        ("ONEDNN_MAX_CPU_ISA", "avx512_core", "float32"),
        ("DNNL_MAX_CPU_ISA", "AVX512_CORE_VNNI", "float32"),
        ("TF_ENABLE_ONEDNN_OPTS", "0", "float32"),
        ("TF_ENABLE_ONEDNN_OPTS", "False", "float32"),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", "bfloat16"),
        ("ONEDNN_MAX_CPU_ISA", "DEFAULT", "bfloat16"),
        ("TF_ENABLE_ONEDNN_OPTS", "1", "bfloat16"),
    ],
)
def test_auto_heeds_what_the_environment_forbids_onednn(
    variable: str, value: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Devices([], monkeypatch)
    set_cpuinfo(CPUINFO.format(flag=" amx_bf16"), tmp_path, monkeypatch)
    monkeypatch.setenv(variable, value)
    assert resolve_precision("auto") == expected


def test_a_precision_is_explained_where_it_is_not_what_one_would_expect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Devices([], monkeypatch)
    set_cpuinfo(CPUINFO.format(flag=" amx_bf16"), tmp_path, monkeypatch)
    assert explain_precision("auto") == "bfloat16"
    assert explain_precision("float32") == "float32"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert explain_precision("auto") == "float32 (no bfloat16 products on this machine)"
    assert explain_precision("bfloat16") == "bfloat16 (no bfloat16 products on this machine: slow)"
    assert explain_precision("float32") == "float32"


def test_auto_is_bfloat16_on_a_gpu_that_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Devices(["gpu 0"], monkeypatch)
    set_cpuinfo(None, tmp_path, monkeypatch)
    assert resolve_precision("auto") == "bfloat16"
    start_tensorflow("cpu")
    assert resolve_precision("auto") == "float32"
    Devices(["gpu 0", "gpu 1, an old one"], monkeypatch)
    assert resolve_precision("auto") == "float32"


def test_precisions_of_other_names_are_refused() -> None:
    other = typing.cast(Any, "float16")
    with pytest.raises(UsageError, match="precision: got 'float16', expected auto, float32 or bfl"):
        resolve_precision(other)
