"""Speed of a character language model: training beside other programs, and writing text.

    python benchmarks/language_model_speed.py data/anna_karenina/all.txt

Trains 2 x 512 units on windows of 100 x 100 characters, dropout 0.5, gradients clipped to 5, in
rounds, every shape compiled before the clock starts; then writes text, one stream and many at once,
with random weights: what is drawn does not change the work. It does so in a process of its own, as
training sets TensorFlow's threads in its own way. Prints characters a second, the median and range
of the rounds, and the share of this machine's own product rate that training reaches.

`--peer "SCRIPT ARGUMENTS"` runs another program after each round, as `SCRIPT TEXT ARGUMENTS STEPS`
with `--peer-python`; it must print "... 1,234 characters/s ...".
"""

import multiprocessing
import shlex
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import machine
import typer
from results import console, figures_of, number, ratios
from rich.table import Table

from seq2seq.config import LanguageModelConfig
from seq2seq.errors import Seq2SeqError
from seq2seq.lines import read_text
from seq2seq.text_corpus import Windows
from seq2seq.text_tokenizer import make_text_tokenizer

_PEER_FIGURE = r"([\d.,]+) characters/s"


class Trainer:
    """This project's language model in training."""

    def __init__(self, text: Path, config: LanguageModelConfig) -> None:
        from seq2seq.precision import resolve_precision
        from seq2seq.runtime import SHARDS, start_tensorflow

        start_tensorflow("cpu", shards=SHARDS)
        from seq2seq.language_model_experiment import WindowBatch
        from seq2seq.models import build_language_model
        from seq2seq.objectives import LanguageModelObjective
        from seq2seq.updates import Updater

        content, training = read_text(text), config.training
        tokenizer = make_text_tokenizer(config.tokenizer, content)
        self.precision = resolve_precision(config.precision)
        self.decoder = build_language_model(
            config.model, vocabulary=tokenizer.vocabulary_size, precision=self.precision
        )
        objective = LanguageModelObjective(self.decoder, rows=training.batch_size)
        self._updater = Updater(training, objective, seed=1, shards=SHARDS)
        self._windows = Windows(tokenizer.encode(content), training.batch_size, training.window)
        self._as_batch: Any = WindowBatch
        self._step = 0
        self.characters = training.batch_size * training.window

    def train(self, steps: int) -> float:
        """Seconds of so many updates."""
        started = time.perf_counter()
        for _ in range(steps):
            window = self._windows.window(self._step % self._windows.steps)
            batch = self._as_batch(*window, self._step == 0)
            sums = self._updater.update([batch], number=self._step, learning_rate=1e-3)
            float(sums.nll)
            self._step += 1
        return time.perf_counter() - started

    def gflop(self) -> float:
        """GFLOP of the products of one update: forward, and twice that backward."""
        decoder = self.decoder
        inputs = [decoder.embedding_size or decoder.vocabulary_size]
        inputs += [decoder.units] * (len(decoder.stack) - 1)
        layers = sum(2 * (size + decoder.units) * 4 * decoder.units for size in inputs)
        output = 2 * decoder.feature_size * decoder.vocabulary_size
        return 3 * self.characters * (layers + output) / 1e9


def writing_rates(
    text: Path, config: LanguageModelConfig, *, samples: int, length: int, rounds: int
) -> list[float]:
    """Characters a second of writing so many texts at once, by a process that only writes."""
    from seq2seq.precision import resolve_precision
    from seq2seq.runtime import start_tensorflow

    start_tensorflow("cpu")
    from seq2seq.generator import LanguageModel
    from seq2seq.models import build_language_model

    tokenizer = make_text_tokenizer(config.tokenizer, read_text(text))
    decoder = build_language_model(
        config.model,
        vocabulary=tokenizer.vocabulary_size,
        precision=resolve_precision(config.precision),
    )
    model = LanguageModel(config, tokenizer, decoder)
    rates = []
    for _ in range(rounds + 1):  # the first one compiles
        started = time.perf_counter()
        model.generate("The ", length=length, samples=samples, top_k=5)
        rates.append(samples * length / (time.perf_counter() - started))
    return rates[1:]


def main(
    text: Annotated[Path, typer.Argument(help="Text to train on.")],
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    units: Annotated[int, typer.Option(help="Of each of the two layers.")] = 512,
    batch_size: Annotated[int, typer.Option(help="Texts side by side.")] = 100,
    window: Annotated[int, typer.Option(help="Characters of a window.")] = 100,
    steps: Annotated[int, typer.Option(help="Updates of a round.")] = 8,
    rounds: Annotated[int, typer.Option(help="Rounds of each.")] = 5,
    length: Annotated[int, typer.Option(help="Characters of each text that is written.")] = 500,
    streams: Annotated[int, typer.Option(help="Texts written at once.")] = 256,
    peer: Annotated[list[str] | None, typer.Option(help="A program to run too.")] = None,
    peer_python: Annotated[str, typer.Option(help="What runs it.")] = sys.executable,
) -> None:
    """Ours, and other programs in turn with it."""
    console.print(machine.describe())
    config = LanguageModelConfig.model_validate(
        {
            "task": "language-model",
            "precision": precision,
            "data": {"text": str(text)},
            "model": {"embedding_size": 0, "units": units, "layers": 2, "dropout": 0.5},
            "training": {"batch_size": batch_size, "window": window},
        }
    )
    trainer = Trainer(text, config)
    rates: dict[str, list[float]] = {}
    trainer.train(2)  # compiles
    for _ in range(rounds):
        rate = steps * trainer.characters / trainer.train(steps)
        rates.setdefault("ours, training", []).append(rate)
        for program in peer or []:
            script, *arguments = shlex.split(program)
            command = [peer_python, script, str(text), *arguments, str(steps)]
            rates.setdefault(Path(script).stem + " " + " ".join(arguments), []).append(
                number(figures_of(command, _PEER_FIGURE)[0])
            )
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as writer:
        for samples, name in ((1, "one stream"), (streams, f"{streams} streams")):
            rates[f"ours, writing {name}"] = writer.submit(
                writing_rates, text, config, samples=samples, length=length, rounds=rounds
            ).result()
    _print_rates(rates)
    product_rate = machine.product_rate(trainer.precision)
    reached = median(rates["ours, training"]) * trainer.gflop() / trainer.characters
    console.print(
        f"training in {trainer.precision}: {trainer.gflop():.0f} GFLOP an update, {reached:.0f} "
        f"GFLOP/s, {reached / product_rate:.0%} of this machine's {product_rate:.0f}"
    )


def _print_rates(rates: dict[str, list[float]]) -> None:
    table = Table("", "characters/s", "lowest to highest", "ours is faster by")
    ours = rates["ours, training"]
    for name, values in rates.items():
        table.add_row(
            name,
            f"{median(values):,.0f}",
            f"{min(values):,.0f} to {max(values):,.0f}",
            "" if name.startswith("ours") else ratios(ours, values),
        )
    console.print(table)


if __name__ == "__main__":
    try:
        typer.run(main)
    except Seq2SeqError as err:
        sys.exit(f"error: {err}")
