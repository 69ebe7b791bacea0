"""Decoding speed on real sentences, with the parts of a step, beside other programs.

    python benchmarks/decoding_speed.py data/multi30k/train.en data/multi30k/test_2016_flickr.en

Speed alone is measured: the weights are random and every translation is forced to one length, so
that the work is the same for every program, and that no sentence is done before another. The text
to train the tokenizer on comes first. Tokenization, encoder and all the rest are in the figures;
everything is compiled before the clock starts.

Prints sentences and tokens a second for each beam size, the share of what the products alone would
take at the rate this machine was measured at, and the parts of one batch.

`--peer SCRIPT` runs another program after each round, as `SCRIPT WORKLOAD` with `--peer-python`; it
must print lines such as "NAME beam 5: ... 1,234 tokens/s". WORKLOAD is a folder with vocab.txt and
test_2016_flickr.sp.en, the same sentences as pieces.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import machine
import typer
from results import Part, console, figures_of, number, print_parts, ratios
from rich.table import Table
from workload import MODEL

from seq2seq.config import Config, ModelConfig, TokenizerConfig
from seq2seq.errors import Seq2SeqError
from seq2seq.lines import read_lines
from seq2seq.search_options import search_options
from seq2seq.tokenizer import TokenizerPair, train_tokenizer
from seq2seq.translator import Translator

_ROUNDS_OF_PARTS = 9
_PEER_FIGURE = r"^(.+) beam (\d+): .*?([\d.,]+) tokens/s"  # its name, beam size, rate


def random_translator(
    tokenizers: TokenizerPair, model_config: ModelConfig, texts: Path, precision: str
) -> Translator:
    """A translator with random weights."""
    from seq2seq.precision import resolve_precision
    from seq2seq.runtime import start_tensorflow

    start_tensorflow("cpu")
    from seq2seq.models import build_model

    files = ("train_source", "train_target", "validation_source", "validation_target")
    config = Config.model_validate(
        {"data": dict.fromkeys(files, str(texts)), "model": model_config.model_dump()}
    )
    model = build_model(
        config.model,
        source_vocabulary=tokenizers.source.vocabulary_size,
        target_vocabulary=tokenizers.target.vocabulary_size,
        precision=resolve_precision(precision),  # type: ignore[arg-type]
        seed=1,
    )
    return Translator(config, tokenizers, model)


def write_pieces(tokenizers: TokenizerPair, texts: Sequence[str], folder: Path) -> None:
    """The vocabulary and the sentences as pieces, as other programs read them."""
    tokenizer = tokenizers.source
    pieces = tokenizer.pieces(range(tokenizer.vocabulary_size))
    lines = [" ".join(tokenizer.pieces(ids)) for ids in tokenizer.encode_batch(texts)]
    for name, content in (("vocab.txt", pieces), ("test_2016_flickr.sp.en", lines)):
        text = "".join(f"{line}\n" for line in content)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def middle(texts: Sequence[str], count: int, tokenizers: TokenizerPair) -> list[str]:
    """`count` texts of like lengths, neither the shortest nor the longest, as a batch has them."""
    lengths = [len(ids) for ids in tokenizers.source.encode_batch(texts)]
    order = sorted(range(len(texts)), key=lambda row: lengths[row])
    first = max(len(texts) - count, 0) // 2
    return [texts[row] for row in order[first : first + count]]


def step_gflop(model: Any, source_length: float) -> dict[str, float]:
    """GFLOP of the products of each part of a step, for one row."""
    decoder, width = model.decoder, model.encoder.width
    units, features = decoder.units, decoder.feature_size
    inputs = [decoder.embedding_size] + [units] * (len(decoder.stack) - 1)
    attention = 2 * source_length * (units + width) + 2 * (units + width) * features
    return {
        "decoder: LSTM": sum(2 * (size + units) * 4 * units for size in inputs) / 1e9,
        "decoder: attention": attention / 1e9,
        "decoder: output projection": 2 * features * decoder.vocabulary_size / 1e9,
    }


def encoder_gflop(model: Any, source_length: float) -> float:
    """GFLOP of reading one sentence, keys of the attention included."""
    config, width = model.config, model.encoder.width
    inputs = [config.embedding_size] + [width] * (config.encoder_layers - 1)
    directions = 2 if config.bidirectional else 1
    layers = directions * sum(
        2 * (size + config.encoder_units) * 4 * config.encoder_units for size in inputs
    )
    return float(source_length * (layers + 2 * width * config.decoder_units) / 1e9)


def measure_parts(
    translator: Translator, texts: Sequence[str], *, beam_size: int, length: int
) -> list[Part]:
    """The parts of translating `texts` as one batch; "search" is what the others leave."""
    model, tokenizers = translator.models[0], translator.tokenizers
    encoded = [[*ids, tokenizers.source.eos_id] for ids in tokenizers.source.encode_batch(texts)]
    rows, source_length = len(texts) * beam_size, sum(map(len, encoded)) / len(encoded)
    milliseconds = _milliseconds(
        {
            "tokenization, both ways": lambda: (
                tokenizers.source.encode_batch(texts),
                [tokenizers.target.decode(ids) for ids in encoded],
            ),
            **_model_parts(model, encoded, rows=rows, length=length),
            "whole batch": lambda: translator.translate(
                texts,
                beam_size=beam_size,
                batch_size=len(texts),
                batch_tokens=1 << 20,
                min_length=length,
                max_length=length,
            ),
        }
    )
    gflop = {"encoder": encoder_gflop(model, source_length) * len(texts)}
    for name, each in step_gflop(model, source_length).items():
        gflop[name] = each * rows * length
    whole = milliseconds.pop("whole batch")
    rest = whole - sum(milliseconds.values())
    return [
        *(Part(name, each, gflop.get(name, 0.0)) for name, each in milliseconds.items()),
        Part("search, and all the rest", rest, 0.0),
        Part("whole batch", whole, sum(gflop.values())),
    ]


def _model_parts(
    model: Any, encoded: Sequence[Sequence[int]], *, rows: int, length: int
) -> dict[str, Callable[[], object]]:
    """Reading a batch, and the parts of `length` steps of so many rows, each compiled alone."""
    import tensorflow as tf

    from seq2seq.lstm import forward_only

    longest = max(map(len, encoded))
    source = tf.constant([[*ids, *[ids[-1]] * (longest - len(ids))] for ids in encoded])
    begin = tf.function(forward_only()(model.begin))
    lengths = tf.constant([len(ids) for ids in encoded])
    _, memory = begin(source, lengths)
    decoder, dtype = model.decoder, model.compute_dtype
    state = decoder.zero_state(rows)
    steppers = [layer.stepper() for layer in decoder.stack]
    attention = decoder.attention
    combine = attention.combiner()
    kernel = tf.transpose(tf.cast(decoder.output_kernel, dtype))

    def layers(hidden: Any) -> Any:
        for step, layer_state in zip(steppers, state, strict=True):
            hidden = step(hidden, layer_state).h
        return hidden

    def look(hidden: Any) -> Any:
        return combine(hidden, attention.weights_and_contexts_of_rows(hidden, memory)[1])

    def steps(part: Callable[[Any], Any], features: int) -> Callable[[], object]:
        """All steps of one part, each of which waits for the one before."""
        inputs = tf.ones([rows, features], dtype)

        def run() -> Any:
            return tf.while_loop(
                lambda number, _: number < length,
                lambda number, before: (number + 1, part(inputs + 1e-9 * before)[:, :1]),
                (0, tf.zeros([rows, 1], dtype)),
            )

        compiled = tf.function(run)
        return lambda: compiled()[1].numpy()

    return {
        "encoder": lambda: begin(source, lengths)[0][0].h.numpy(),
        "decoder: LSTM": steps(layers, decoder.embedding_size),
        "decoder: attention": steps(look, decoder.units),
        "decoder: output projection": steps(
            lambda features: tf.matmul(features, kernel), decoder.feature_size
        ),
    }


def _milliseconds(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Of one call of each, the median; the calls take turns, so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(_ROUNDS_OF_PARTS + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - started) * 1e3)
    return {name: median(values[1:]) for name, values in times.items()}


def main(
    training_text: Annotated[Path, typer.Argument(help="Text to train the tokenizer on.")],
    source: Annotated[Path, typer.Argument(help="Text to translate, one sentence a line.")],
    beam_sizes: Annotated[str, typer.Option(help="With commas between.")] = "1,5",
    length: Annotated[int, typer.Option(help="Pieces of every translation.")] = 16,
    sentences: Annotated[int, typer.Option(help="How many of the text.")] = 1000,
    rounds: Annotated[int, typer.Option(help="Rounds of each.")] = 3,
    vocabulary: Annotated[int, typer.Option(help="Pieces.")] = 8000,
    units: Annotated[int, typer.Option(help="Decoder units; an encoder direction has half.")] = 512,
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16.")] = "auto",
    peer: Annotated[list[Path] | None, typer.Option(help="A program to run too.")] = None,
    peer_python: Annotated[str, typer.Option(help="What runs it.")] = sys.executable,
) -> None:
    """Ours, and other programs in turn with it."""
    console.print(machine.describe())
    tokenizer = train_tokenizer(
        list(read_lines(training_text)), TokenizerConfig(vocabulary_size=vocabulary)
    )
    tokenizers = TokenizerPair(tokenizer, tokenizer)
    config = MODEL.model_copy(update={"encoder_units": units // 2, "decoder_units": units})
    translator = random_translator(tokenizers, config, source, precision)
    texts = list(read_lines(source))[:sentences]
    beams = [int(each) for each in beam_sizes.split(",")]
    rates: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_pieces(tokenizers, texts, Path(folder))
        for round_number in range(rounds + 1):
            for beam_size in beams:
                started = time.perf_counter()
                translator.translate(
                    texts,
                    beam_size=beam_size,
                    min_length=length,
                    max_length=length,
                )
                rate = len(texts) * length / (time.perf_counter() - started)
                if round_number:  # the first round compiles
                    rates.setdefault(("ours", beam_size), []).append(rate)
            for script in (peer or []) if round_number else []:
                found = figures_of([peer_python, str(script), folder], _PEER_FIGURE)
                for name, beam_size, rate in found:
                    rates.setdefault((name, int(beam_size)), []).append(number(rate))
    _print_rates(rates, length)
    chosen = translator.models[0].compute_dtype
    limit = machine.product_rate(chosen)
    for beam_size in beams:
        batch_size = search_options(translator.config.decoding, beam_size=beam_size).batch_size
        batch = middle(texts, batch_size, tokenizers)
        parts = measure_parts(translator, batch, beam_size=beam_size, length=length)
        print_parts(f"{len(batch)} sentences, beam {beam_size}, {chosen}", limit, parts)


def _print_rates(rates: dict[tuple[str, int], list[float]], length: int) -> None:
    table = Table("", "beam", "tokens/s", "lowest to highest", "sentences/s", "ours is faster by")
    for (name, beam_size), values in sorted(rates.items(), key=lambda item: (item[0][1], item[0])):
        ours = rates.get(("ours", beam_size), [])
        table.add_row(
            name,
            str(beam_size),
            f"{median(values):,.0f}",
            f"{min(values):,.0f} to {max(values):,.0f}",
            f"{median(values) / length:,.0f}",
            "" if name == "ours" or not ours else ratios(ours, values),
        )
    console.print(table)


if __name__ == "__main__":
    try:
        typer.run(main)
    except Seq2SeqError as err:
        sys.exit(f"error: {err}")
