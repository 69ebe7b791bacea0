"""Training speed beside stock Keras, on the same batches of real text, in one run.

    python benchmarks/training_speed.py data/multi30k/train.en data/multi30k/train.de

Two processes stay alive, ours and stock Keras's, and are told in turn to train on the same batches:
so both see the same state of the machine, and each waits while the other works. Every shape is
compiled before the clock starts. Prints target tokens a second (padding not counted, end of
sentence counted), the ratio round by round, peak memory of both processes, and the parts of our
update with the share that their matrix products reach of the rate this machine was measured at.

`--peer SCRIPT` runs another program after each round, as `SCRIPT WORKLOAD f32|bf16 STEPS` with
`--peer-python`; it must print "... N target tokens/s ...". WORKLOAD is a folder with vocab.txt and
train.sp.{en,de}, the same text as pieces.
"""

import itertools
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import machine
import typer
from results import Part, console, figures_of, number, print_parts, ratios
from rich.table import Table
from workload import MODEL, TRAINING, Workload, real_workload

from seq2seq.config import ModelConfig
from seq2seq.errors import Seq2SeqError

_PEER_FIGURE = r"([\d.,]+) target tokens/s"


def run_ours(
    connection: Connection, work: Workload, model_config: ModelConfig, precision: str
) -> None:
    """Serves rounds of training with this project's model."""
    from seq2seq.precision import resolve_precision
    from seq2seq.runtime import SHARDS, start_tensorflow

    start_tensorflow("cpu", shards=SHARDS)
    from parts import measure_parts, waiting_for_input

    from seq2seq.models import build_model
    from seq2seq.objectives import TranslationObjective
    from seq2seq.updates import Updater

    model = build_model(
        model_config,
        source_vocabulary=work.vocabulary,
        target_vocabulary=work.vocabulary,
        precision=resolve_precision(precision),  # type: ignore[arg-type]
        seed=1,
    )
    objective = TranslationObjective(
        model, bos_id=work.bos_id, label_smoothing=TRAINING.label_smoothing
    )
    updater = Updater(TRAINING, objective, seed=1, shards=SHARDS)
    numbers = itertools.count()

    def update(batch: Any) -> float:
        sums = updater.update([batch], number=next(numbers), learning_rate=TRAINING.learning_rate)
        return float(sums.nll)

    def parts() -> Any:
        chosen = resolve_precision(precision)  # type: ignore[arg-type]
        measured = measure_parts(
            model,
            work.batches,
            update,
            label_smoothing=TRAINING.label_smoothing,
            bos_id=work.bos_id,
        )
        measured.append(Part("input, waiting for a batch", waiting_for_input(work, update), 0.0))
        return chosen, machine.product_rate(chosen), [tuple(part) for part in measured]

    _serve(connection, work, update, parts)


def run_keras(
    connection: Connection, work: Workload, model_config: ModelConfig, precision: str
) -> None:
    """Serves rounds of training with stock Keras."""
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    if precision == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    import stock_keras

    trainer = stock_keras.Trainer(
        model_config,
        TRAINING,
        source_vocabulary=work.vocabulary,
        target_vocabulary=work.vocabulary,
        bos_id=work.bos_id,
    )
    _serve(connection, work, trainer.update, lambda: None)


def _serve(
    connection: Connection, work: Workload, update: Callable[[Any], Any], parts: Callable[[], Any]
) -> None:
    """Answers "train" with the seconds of all batches, "memory" with MB, "parts" with those."""
    while (order := connection.recv()) != "stop":
        if order == "train":
            started = time.perf_counter()
            for batch in work.batches:
                update(batch)
            connection.send(time.perf_counter() - started)
        else:
            connection.send(machine.peak_memory() if order == "memory" else parts())


class Worker:
    """A process that trains when it is told to."""

    def __init__(self, serve: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, order: str) -> Any:
        """What the process answers; an EOFError if it died, after its own traceback."""
        self._connection.send(order)
        return self._connection.recv()

    def stop(self) -> None:
        """Ends the process."""
        self._connection.send("stop")
        self._process.join()


def main(
    source: Annotated[Path, typer.Argument(help="Text, one sentence a line.")],
    target: Annotated[Path, typer.Argument(help="Its translations.")],
    precision: Annotated[str, typer.Option(help="Of ours: auto, float32, bfloat16.")] = "auto",
    keras_precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    steps: Annotated[int, typer.Option(help="Batches of a round.")] = 10,
    rounds: Annotated[int, typer.Option(help="Rounds of each.")] = 5,
    sentences: Annotated[int, typer.Option(help="Sentences of a batch.")] = 128,
    vocabulary: Annotated[int, typer.Option(help="Pieces, both languages together.")] = 8000,
    units: Annotated[int, typer.Option(help="Decoder units; an encoder direction has half.")] = 512,
    peer: Annotated[list[Path] | None, typer.Option(help="A program to run too.")] = None,
    peer_precision: Annotated[str, typer.Option(help="Its argument.")] = "f32",
    peer_python: Annotated[str, typer.Option(help="What runs it.")] = sys.executable,
) -> None:
    """Ours and stock Keras, alternating."""
    console.print(machine.describe())
    config = MODEL.model_copy(update={"encoder_units": units // 2, "decoder_units": units})
    with tempfile.TemporaryDirectory() as folder:
        work = real_workload(
            source,
            target,
            vocabulary=vocabulary,
            sentences=sentences,
            steps=steps,
            folder=Path(folder),
        )
        workers = {
            "ours": Worker(run_ours, work, config, precision),
            f"stock Keras {keras_precision}": Worker(run_keras, work, config, keras_precision),
        }
        rates: dict[str, list[float]] = {name: [] for name in workers}
        for round_number in range(rounds + 1):
            found: dict[str, float] = {}
            for script in peer or []:  # first, so that one which cannot run is told at once
                command = [peer_python, str(script), folder, peer_precision, str(steps)]
                rate = number(figures_of(command, _PEER_FIGURE)[0])
                found[f"{script.stem} {peer_precision}"] = rate
            for name, worker in workers.items():
                found[name] = work.target_tokens / worker.ask("train")
            for name, rate in found.items() if round_number else ():  # the first round compiles
                rates.setdefault(name, []).append(rate)
        memory = {name: worker.ask("memory") for name, worker in workers.items()}
        parts = workers["ours"].ask("parts")
        for worker in workers.values():
            worker.stop()
    _print_rates(rates, memory)
    precision, product_rate, measured = parts
    named = [Part(*part) for part in measured]
    print_parts(f"one update, {precision}", product_rate, named)


def _print_rates(rates: dict[str, list[float]], memory: dict[str, float]) -> None:
    table = Table("", "target tokens/s", "lowest to highest", "ours is faster by", "peak memory")
    for name, values in rates.items():
        table.add_row(
            name,
            f"{median(values):,.0f}",
            f"{min(values):,.0f} to {max(values):,.0f}",
            "" if name == "ours" else ratios(rates["ours"], values),
            f"{memory[name]:,.0f} MB" if name in memory else "",
        )
    console.print(table)


if __name__ == "__main__":
    try:
        typer.run(main)
    except Seq2SeqError as err:
        sys.exit(f"error: {err}")
