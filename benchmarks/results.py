"""What the benchmarks have in common: parts of a whole, what other programs print, and tables."""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from seq2seq.model_files import METRICS_FILE

console = Console(width=110, highlight=False)


class Part(NamedTuple):
    """Milliseconds of one part of a piece of work, and the GFLOP of its matrix products."""

    name: str
    milliseconds: float
    gflop: float


def figures_of(command: Sequence[str], pattern: str) -> list[Any]:
    """What `pattern` finds in what a program prints; ends this program if it finds nothing."""
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.findall(pattern, finished.stdout, re.MULTILINE)
    if not found:
        raise SystemExit(f"{' '.join(command)}: printed no figure\n{finished.stderr[-2000:]}")
    return found


def metrics_of(folder: Path) -> list[Mapping[str, Any]]:
    """The records of a training, in order."""
    lines = (folder / METRICS_FILE).read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def number(text: str) -> float:
    """The number that a program printed, such as `1,234.5`."""
    return float(text.replace(",", ""))


def ratios(ours: Sequence[float], others: Sequence[float]) -> str:
    """How much faster ours is, round by round: median, lowest and highest."""
    each = [mine / other for mine, other in zip(ours, others, strict=True)]
    return f"{median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def print_parts(title: str, rate: float, parts: Sequence[Part]) -> None:
    """A table of parts, with their share of the machine's `rate` in GFLOP/s."""
    table = Table(title, "ms", "GFLOP", "GFLOP/s", f"of {rate:,.0f} GFLOP/s")
    for name, milliseconds, gflop in parts:
        speed = gflop / milliseconds * 1e3
        work = [f"{gflop:.1f}", f"{speed:,.0f}", f"{speed / rate:.0%}"] if gflop else []
        table.add_row(name, f"{milliseconds:.1f}", *work)
    console.print(table)
