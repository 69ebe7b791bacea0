"""What the same seconds are worth in stock Keras: another model trained on the same text.

    python benchmarks/equal_time.py runs/tatoeba_en_de \\
        --test data/tatoeba_en_de/test.en --reference data/tatoeba_en_de/test.de

Takes a model folder of `seq2seq train` and trains layers of the same sizes in stock Keras, float32,
for as many seconds on the same batches, by Adam, with the configuration's dropout, label smoothing,
gradient norm, and the rate that ours had after as many seconds (`--rate` says another highest one,
as what is best for one model need not be for the other). The clock stands still while a batch is
waited for, in the first update, in which TensorFlow traces, and during validations: what is
counted of ours is all of it. Its bridge is always dense, and an update is one batch. What these
layers do not have is left out: tied embeddings, a reversed source, attention in the first layer,
residuals, more heads, other kinds of dropout, averages of weights, other segmentations, and
consistency.

Both models translate by the same beam search: ours with its best weights, stock Keras with its last
ones. Prints validation BLEU of both at some points of the run, then BLEU of the test and whether
they differ by more than chance.
"""

import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import machine
import numpy as np
import typer
from results import console, metrics_of
from rich.table import Table

from seq2seq import Translator
from seq2seq.batches import Batch, BatchPlan, batches_from
from seq2seq.comparison import compare
from seq2seq.corpus import ParallelIds
from seq2seq.errors import Seq2SeqError
from seq2seq.evaluation import bleu, evaluate
from seq2seq.lines import check_line_counts, read_lines
from seq2seq.model_files import ENCODED_FOLDER
from seq2seq.pairs import PairCounts, validation_pairs


class Point(NamedTuple):
    """A point of a run.

    Attributes:
        seconds: Since its begin.
        updates: Made so far.
        bleu: Of the validation text.
    """

    seconds: float
    updates: int
    bleu: float


def main(
    folder: Annotated[Path, typer.Argument(help="A trained translator.")],
    test: Annotated[Path, typer.Option(help="Sources to translate.")],
    reference: Annotated[Path, typer.Option(help="Their translations.")],
    points: Annotated[int, typer.Option(help="Validations of the stock model.", min=1)] = 5,
    rate: Annotated[
        float | None, typer.Option(help="Highest of the stock model, if not as ours.", min=0.0)
    ] = None,
) -> None:
    """The curves of both, then their scores."""
    sources, references = [*read_lines(test)], [*read_lines(reference)]
    check_line_counts([(str(test), len(sources)), (str(reference), len(references))])
    ours = Translator.load(folder)
    records = metrics_of(folder)
    curve = [
        Point(each["seconds"], each["step"], each["bleu"])
        for each in records
        if each["split"] == "validation"
    ]
    console.print(machine.describe())
    console.print(f"ours: {records[-1]['step']:,} updates in {records[-1]['seconds']:,.0f} s")
    factor = 1.0 if rate is None else rate / ours.config.training.learning_rate
    rates = [
        (each["seconds"], factor * each["learning_rate"])
        for each in records
        if each["split"] == "train"
    ]
    stock = _Stock(ours, rates)
    options = ours.config.validation
    validation = list(validation_pairs(ours.config.data, PairCounts()))
    table = Table("seconds", "updates, ours", "BLEU", "updates, stock Keras", "BLEU")
    with _batches(folder, ours) as batches:
        for number in range(1, points + 1):
            seconds = records[-1]["seconds"] * number / points
            stock.train(batches, until=seconds)
            translations = _translated(
                stock.translator, [pair.source for pair in validation], options.beam_size
            )
            targets = [pair.target for pair in validation]
            score = bleu(translations, targets, options.bleu_tokenizer).value
            mine = max((each for each in curve if each.seconds <= seconds), default=None)
            row = [f"{mine.updates:,}", f"{mine.bleu:.2f}"] if mine else ["", ""]
            table.add_row(f"{seconds:,.0f}", *row, f"{stock.updates:,}", f"{score:.2f}")
            console.print(f"stock Keras: {stock.updates:,} updates, loss {stock.loss:.3f}")
    console.print(table)
    _print_scores(ours, stock.translator, sources, references)


class _Stock:
    """The stock model of a translator's configuration, being trained."""

    def __init__(self, like: Translator, rates: Sequence[tuple[float, float]]) -> None:
        """`rates` are seconds and the learning rate then; between two it goes evenly."""
        import keras
        import stock_keras

        self._rates = np.array(rates).T
        keras.utils.set_random_seed(like.config.seed)
        target = like.tokenizers.target
        self._trainer = stock_keras.Trainer(
            like.config.model,
            like.config.training,
            source_vocabulary=like.tokenizers.source.vocabulary_size,
            target_vocabulary=target.vocabulary_size,
            bos_id=target.bos_id,
        )
        searchable: Any = stock_keras.Searchable(self._trainer.model, like.config.decoding)
        self.translator = Translator(like.config, like.tokenizers, searchable)
        self._seconds = 0.0
        self.updates = 0
        self.loss = 0.0

    def train(self, batches: Iterator[Batch], *, until: float) -> None:
        """Goes on until so many seconds were spent in updates."""
        while self._seconds < until:
            batch, started = next(batches), time.perf_counter()
            rate = float(np.interp(self._seconds, *self._rates))
            self.loss = self._trainer.update(batch, rate)
            self.updates += 1
            if self.updates > 1:
                self._seconds += time.perf_counter() - started


@contextmanager
def _batches(folder: Path, translator: Translator) -> Iterator[Iterator[Batch]]:
    """Those that the model of `folder` was trained on, epoch after epoch."""
    corpus, config = ParallelIds.open(folder / ENCODED_FOLDER), translator.config
    plan = BatchPlan(
        corpus.source_lengths,
        corpus.target_lengths,
        batch_tokens=config.training.batch_tokens,
        seed=config.seed,
    )
    with batches_from(
        corpus,
        plan,
        itertools.count(),
        source_pad_id=translator.tokenizers.source.pad_id,
        target_pad_id=translator.tokenizers.target.pad_id,
    ) as numbered:
        yield (each.batch for each in numbered)


def _translated(translator: Translator, texts: Sequence[str], beam_size: int) -> list[str]:
    translator.take_up_weights()
    return [each.text for each in translator.translate(texts, beam_size=beam_size)]


def _print_scores(
    ours: Translator, stock: Translator, texts: Sequence[str], references: Sequence[str]
) -> None:
    beam_size = ours.config.decoding.beam_size
    table = Table(f"test, beam {beam_size}", "BLEU", "lower-cased")
    tokenizer = ours.config.validation.bleu_tokenizer
    hypotheses = {
        name: _translated(translator, texts, beam_size)
        for name, translator in (("ours", ours), ("stock Keras", stock))
    }
    for name, lines in hypotheses.items():
        cased, lowered = (
            evaluate(lines, [references], tokenizer=tokenizer, lowercase=lowercase).bleu
            for lowercase in (False, True)
        )
        table.add_row(name, f"{cased.value:.2f} ± {cased.interval:.2f}", f"{lowered.value:.2f}")
    console.print(table)
    found = compare(
        hypotheses["ours"], hypotheses["stock Keras"], [references], tokenizer=tokenizer
    )[0]
    console.print(f"p = {found.randomization:.3f} (approximate randomisation)")


if __name__ == "__main__":
    try:
        typer.run(main)
    except Seq2SeqError as err:
        sys.exit(f"error: {err}")
