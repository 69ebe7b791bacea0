"""How speed and memory grow: with batch, units, vocabulary, length, and size of the corpus.

    python benchmarks/scaling.py --output runs/scaling        # scaling.md and scaling.png

Each point is a process of its own, so that its peak memory is its own. The first four axes train
on random ids, ours and stock Keras in turn; along each, the other three stay at their middle
value. The corpus axis is ours alone: text is written, encoded to memory-mapped ids, and a whole
epoch of it trained with a tiny model; it also tells how long training waited for input.
"""

import itertools
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Annotated, NamedTuple

import machine
import matplotlib

matplotlib.use("Agg")
import numpy as np
import typer
from matplotlib import pyplot
from rich.console import Console
from training_speed import Worker, run_keras, run_ours
from workload import MODEL, random_workload

from seq2seq.config import Config, ModelConfig

console = Console(highlight=False)

MIDDLE = {"batch": 64, "units": 256, "vocabulary": 8000, "length": 20}
AXES = {
    "batch": [16, 64, 256],
    "units": [128, 256, 512, 1024],
    "vocabulary": [2000, 8000, 32000],
    "length": [10, 20, 40, 80],
    "corpus": [10_000, 100_000, 1_000_000],
}
UNIT = {"batch": "sentences", "length": "tokens", "corpus": "pairs"}


class Point(NamedTuple):
    """One measurement; `seconds` are those of an update, of a whole epoch on the corpus axis."""

    axis: str
    value: int
    system: str
    tokens_per_second: float
    seconds: float
    megabytes: float
    waiting: float | None = None  # share of the time in which training waited for a batch


def measure_point(axis: str, value: int, system: str, *, precision: str, steps: int) -> Point:
    """Training on random ids with one size changed."""
    sizes = {**MIDDLE, axis: value}
    units = sizes["units"]
    config = MODEL.model_copy(
        update={"encoder_units": units // 2, "decoder_units": units, "embedding_size": units // 2}
    )
    work = random_workload(
        vocabulary=sizes["vocabulary"],
        sentences=sizes["batch"],
        length=sizes["length"],
        steps=steps,
    )
    serve = run_ours if system == "ours" else run_keras
    worker = Worker(serve, work, config, precision if system == "ours" else "float32")
    worker.ask("train")  # compiles
    seconds = median(worker.ask("train") for _ in range(3)) / steps
    megabytes = worker.ask("memory")
    worker.stop()
    tokens = work.target_tokens / steps
    return Point(axis, value, system, tokens / seconds, seconds, megabytes)


def measure_corpus(pairs: int, precision: str) -> Point:
    """A whole epoch over a corpus of `pairs` sentence pairs."""
    worker = Worker(run_corpus, pairs, precision)
    tokens, seconds, waited, megabytes = worker.ask("train")
    worker.stop()
    return Point("corpus", pairs, "ours", tokens / seconds, seconds, megabytes, waited / seconds)


def run_corpus(connection: Connection, pairs: int, precision: str) -> None:
    """Answers the first order with (tokens, seconds, seconds waited, MB) of one epoch."""
    connection.recv()
    with tempfile.TemporaryDirectory() as folder:
        connection.send(_epoch(Path(folder), pairs, precision))
    connection.recv()


def _epoch(folder: Path, pairs: int, precision: str) -> tuple[int, float, float, float]:
    from seq2seq.precision import resolve_precision
    from seq2seq.runtime import SHARDS, start_tensorflow

    start_tensorflow("cpu", shards=SHARDS)
    from seq2seq.batches import BatchPlan, batches_from
    from seq2seq.corpus import ParallelIds, encode_corpus
    from seq2seq.models import build_model
    from seq2seq.objectives import TranslationObjective
    from seq2seq.tokenizer import prepare_tokenizers
    from seq2seq.updates import Updater

    config = _tiny_experiment(folder, pairs)
    tokenizers = prepare_tokenizers(config)
    encode_corpus(config, tokenizers, folder / "ids")
    corpus = ParallelIds.open(folder / "ids")
    plan = BatchPlan(
        corpus.source_lengths,
        corpus.target_lengths,
        batch_tokens=config.training.batch_tokens,
        seed=1,
    )
    model = build_model(
        config.model,
        source_vocabulary=tokenizers.source.vocabulary_size,
        target_vocabulary=tokenizers.target.vocabulary_size,
        precision=resolve_precision(precision),  # type: ignore[arg-type]
    )
    bos_id, pad_id = tokenizers.target.bos_id, tokenizers.target.pad_id
    objective = TranslationObjective(
        model, bos_id=bos_id, label_smoothing=config.training.label_smoothing
    )
    updater = Updater(config.training, objective, seed=1, shards=SHARDS)
    read = partial(batches_from, corpus, plan, source_pad_id=pad_id, target_pad_id=pad_id)
    # One batch of each number of sentences, for which something is compiled: before the clock runs.
    steps = range(plan.steps_per_epoch)
    first_of_size = {plan.shape(0, step)[0]: step for step in reversed(steps)}
    with read(first_of_size.values()) as batches:
        for each in batches:
            updater.update([each.batch], number=0, learning_rate=1e-3)
    tokens, waited, started = 0, 0.0, time.perf_counter()
    with read(itertools.count()) as batches:
        for number in steps:
            asked = time.perf_counter()
            batch = next(batches).batch
            waited += time.perf_counter() - asked
            float(updater.update([batch], number=number, learning_rate=1e-3).nll)
            tokens += int(batch.target_lengths.sum())
    return tokens, time.perf_counter() - started, waited, machine.peak_memory()


def _tiny_experiment(folder: Path, pairs: int) -> Config:
    for name, lines in (("source", _sentences(pairs, 1)), ("target", _sentences(pairs, 2))):
        with (folder / name).open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(lines)
        with (folder / f"validation.{name}").open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(_sentences(10, 3))
    tiny = ModelConfig(
        embedding_size=32,
        encoder_layers=1,
        encoder_units=16,
        decoder_layers=1,
        decoder_units=32,
        tied_embeddings="all",
    )
    return Config.model_validate(
        {
            "data": {
                "train_source": str(folder / "source"),
                "train_target": str(folder / "target"),
                "validation_source": str(folder / "validation.source"),
                "validation_target": str(folder / "validation.target"),
            },
            "tokenizer": {"vocabulary_size": 500},
            "model": tiny.model_dump(),
            "training": {"batch_tokens": 8192},
        }
    )


def _sentences(count: int, seed: int) -> Iterable[str]:
    """Lines of 3 to 12 invented words, a thousand at a time."""
    numbers = np.random.default_rng(seed)
    letters = np.array(list("aeioulmnrst"))
    words = np.array(["".join(numbers.choice(letters, 4)) for _ in range(200)])
    for start in range(0, count, 1000):
        for length in numbers.integers(3, 13, min(1000, count - start)):
            yield " ".join(numbers.choice(words, length)) + "\n"


def table(points: Sequence[Point]) -> str:
    """The points as a Markdown table."""
    rows = [
        "| axis | value | system | target tokens/s | ms an update | peak MB |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for point in points:
        time_taken = f"{point.seconds * 1e3:,.0f}"
        if point.waiting is not None:
            time_taken = f"epoch: {point.seconds:,.1f} s, waiting {point.waiting:.1%}"
        rows.append(
            f"| {point.axis} | {point.value:,} | {point.system} | {point.tokens_per_second:,.0f} "
            f"| {time_taken} | {point.megabytes:,.0f} |"
        )
    return "\n".join(rows) + "\n"


def plot(points: Sequence[Point], path: Path) -> None:
    """Tokens a second above, megabytes below; a column for each axis."""
    axes = list(dict.fromkeys(point.axis for point in points))
    figure, grid = pyplot.subplots(
        2, len(axes), figsize=(3.2 * len(axes), 6), squeeze=False, layout="constrained"
    )
    for column, axis in enumerate(axes):
        for row, (field, label) in enumerate(
            (("tokens_per_second", "target tokens/s"), ("megabytes", "peak memory, MB"))
        ):
            panel = grid[row][column]
            chosen = [point for point in points if point.axis == axis]
            for system, group in itertools.groupby(
                sorted(chosen, key=lambda point: (point.system, point.value)), lambda p: p.system
            ):
                line = list(group)
                values = [getattr(point, field) for point in line]
                panel.plot([point.value for point in line], values, "o-", label=system)
            panel.set_xscale("log")
            panel.set_ylim(bottom=0)
            panel.set_xlabel(f"{axis}, {UNIT[axis]}" if axis in UNIT else axis)
            panel.grid(alpha=0.3)
            if not column:
                panel.set_ylabel(label)
                panel.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(
    output: Annotated[Path, typer.Option(help="Folder for scaling.md and scaling.png.")],
    axes: Annotated[str, typer.Option(help="Which, with commas between.")] = ",".join(AXES),
    values: Annotated[str, typer.Option(help="Of the axis, instead of its own; commas.")] = "",
    precision: Annotated[str, typer.Option(help="Of ours: auto, float32, bfloat16.")] = "auto",
    steps: Annotated[int, typer.Option(help="Batches of a measurement.")] = 3,
) -> None:
    """Measures every point, then writes the table and the plot."""
    wanted, points = axes.split(","), list[Point]()
    if unknown := [axis for axis in wanted if axis not in AXES]:
        raise typer.BadParameter(f"axes: got {unknown[0]!r}, expected some of {', '.join(AXES)}")
    for axis in wanted:
        for value in [int(value) for value in values.split(",") if value] or AXES[axis]:
            if axis == "corpus":
                points.append(measure_corpus(value, precision))
            else:
                points += [
                    measure_point(axis, value, system, precision=precision, steps=steps)
                    for system in ("ours", "stock Keras")
                ]
            console.print(table(points).split("\n")[-2])
    output.mkdir(parents=True, exist_ok=True)
    heading = f"{machine.describe()}; middle: {MIDDLE}\n\n"
    (output / "scaling.md").write_text(heading + table(points), encoding="utf-8")
    plot(points, output / "scaling.png")
    console.print(f"{output / 'scaling.md'} and {output / 'scaling.png'} are written")


if __name__ == "__main__":
    typer.run(main)
