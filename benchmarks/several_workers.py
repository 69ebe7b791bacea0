"""Training by two processes on this machine, and what more machines would gain.

    python benchmarks/several_workers.py configs/multi30k_en_de.toml --steps 40

Trains the same experiment, of two batches an update, by one process and by two on loopback, one
after the other, and prints target tokens a second of each, how far losses differ, and which part of
an update the sum of gradients over processes takes. On one machine there is nothing to gain: two
processes share its cores. What counts is what they lose.

Then an account, computed and not measured, of workers on machines of their own: in an update each
sends and receives 2 (n - 1) / n times the gradients, as float32, while nothing is computed.
"""

import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, NamedTuple

import machine
import typer
from results import console, metrics_of
from rich.table import Table

_GBIT = (1, 10, 25)
_WORKERS = (2, 4, 8)


class Run(NamedTuple):
    """What a training's records say.

    Attributes:
        losses: Of each record of updates.
        tokens_per_second: Median over the records, the first left out, where shapes are compiled.
        seconds: Of one update, median.
    """

    losses: list[float]
    tokens_per_second: float
    seconds: float


def main(
    config: Annotated[Path, typer.Argument(help="An experiment.")],
    steps: Annotated[int, typer.Option(help="Updates, of two batches each.", min=10)] = 40,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="As in train.")
    ] = None,
) -> None:
    """One process, then two."""
    console.print(machine.describe())
    with tempfile.TemporaryDirectory() as folder:
        options = [str(config), *(f"--set={each}" for each in overrides or [])]
        settings = {
            "max_steps": steps,
            "accumulate_batches": 2,
            "log_every_steps": 5,
            "checkpoint_every_minutes": 1e6,  # a checkpoint makes a record of its own
        }
        options += [f"--set=training.{key}={value}" for key, value in settings.items()]
        one = _trained(Path(folder) / "one", options, 1)
        two = _trained(Path(folder) / "two", options, 2)
        weights = _weights(Path(folder) / "one")
    table = Table("processes", "target tokens/s", "seconds an update")
    for count, run in enumerate((one, two), 1):
        table.add_row(str(count), f"{run.tokens_per_second:,.0f}", f"{run.seconds:.3f}")
    console.print(table)
    apart = max(abs(a - b) / b for a, b in zip(two.losses, one.losses, strict=True))
    console.print(f"losses differ by {apart:.1e} at most")
    _print_account(weights, one.seconds / 2)


def _trained(folder: Path, options: Sequence[str], count: int) -> Run:
    addresses = ",".join(f"127.0.0.1:{_free_port()}" for _ in range(count))
    processes = []
    for index in range(count):
        command = [sys.executable, "-m", "seq2seq", "train", *options, "--output", str(folder)]
        if count > 1:
            command += ["--workers", addresses, "--worker-index", str(index)]
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    told = [process.communicate()[1] for process in processes]
    for process, text in zip(processes, told, strict=True):
        if process.returncode:
            sys.exit(text)
    trained = [each for each in metrics_of(folder) if each["split"] == "train"]
    pairs = zip(trained[1:], trained[:-1], strict=True)
    seconds = [(b["seconds"] - a["seconds"]) / (b["step"] - a["step"]) for b, a in pairs]
    rates = [each["target_tokens_per_second"] for each in trained[1:]]
    return Run([each["loss"] for each in trained], median(rates), median(seconds))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _weights(folder: Path) -> int:
    from seq2seq.inspection import describe

    return sum(describe(folder).part_sizes.values())


def _print_account(weights: int, seconds: float) -> None:
    table = Table(
        "workers", "MB each sends an update", *(f"times faster, {gbit} Gbit/s" for gbit in _GBIT)
    )
    for count in _WORKERS:
        sent = 4 * weights * 2 * (count - 1) / count  # bytes, of a ring
        gains = [count * seconds / (seconds + sent * 8 / (gbit * 1e9)) for gbit in _GBIT]
        table.add_row(str(count), f"{sent / 1e6:,.0f}", *(f"{gain:.1f}" for gain in gains))
    console.print(
        f"computed: {weights:,} weights, one batch of {seconds:.2f} s for each worker an update"
    )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
