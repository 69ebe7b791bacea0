"""The command line: `seq2seq COMMAND`.

stdout carries data only; progress, warnings and errors go to stderr. Nothing imported at the top
needs TensorFlow, so help and wrong usage answer at once.
"""

import hashlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TextIO

import typer

from seq2seq.config import CONFIG_FILE, load_config, load_model_config
from seq2seq.errors import Interrupted, Seq2SeqError, UsageError
from seq2seq.journal import ResumableOutput, resumable_output
from seq2seq.lines import one_line, read_lines, unreadable
from seq2seq.search_options import Options, Sampling, search_options
from seq2seq.streams import (
    LineInput,
    check_new,
    is_special,
    opened_output,
    standard_output,
    write_new,
)
from seq2seq.translation import Hypothesis, Translation, pharaoh
from seq2seq.translator import TOKENIZER_FOLDER, Translator

_STDIN = 0
_PROGRESS_SECONDS = 30.0  # between lines of progress where there is no terminal
_SCORED_AT_A_TIME = 1024
_HASH_DIGITS = 16  # 64 bits tell any two files from each other that nobody made to be alike
_UNKNOWN_SHARE = 0.05  # of source pieces; more is warned about
# Readers of JSON lines that split at more than LF would split inside a string at these.
_JSON_ESCAPES = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}

Device = Literal["auto", "cpu", "gpu"]
Unit = Literal["pieces", "words"]
Renderer = Callable[[int, Translation], str]  # of the number of a line, from 0
ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder.")]

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    Args:
        arguments: What follows `seq2seq` on the command line; that of this process if left out.
    """
    debug = False
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        with typer.main.get_command(app).make_context("seq2seq", given) as context:
            debug = context.params["debug"]
            context.command.invoke(context)
    except typer.Exit as finished:
        return finished.exit_code
    except (Exception, KeyboardInterrupt) as err:
        if debug:
            traceback.print_exc()
        return _failed(err)
    return 0


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback with every error.")
    ] = False,
) -> None:
    """LSTM translation: train on raw parallel text, translate, score, evaluate."""


@app.command()
def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", help="The experiment, as in configs/.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Model folder to write.", show_default="runs/ and the config's name"),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Replace one key; repeatable."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the model in the folder first.")
    ] = False,
    device: Annotated[Device, typer.Option(help="auto takes a GPU if there is one.")] = "auto",
) -> None:
    """Train a model on raw parallel text; everything it needs later is in the model folder."""
    if resume and overwrite:
        raise UsageError("--resume and --overwrite: give one of them, not both")
    checked = load_config(config, overrides or ())
    folder = output or Path("runs") / config.stem

    from seq2seq.runtime import start_tensorflow

    start_tensorflow(device)

    from seq2seq.training import train as train_model  # heavy

    result = train_model(checked, folder, resume=resume, overwrite=overwrite)
    _say(
        f"{result.folder}: {result.steps:,} steps in {result.seconds:,.0f} s; {_best(result.best)}"
    )


@app.command()
def translate(
    model: ModelFolder,
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="Text file, one sentence a line; - is stdin.")
    ] = "-",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write when all is done.", show_default="stdout"
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on where a run with the same options was stopped."),
    ] = False,
    beam_size: Annotated[
        int | None, typer.Option(help="1 is greedy search.", show_default="the model's")
    ] = None,
    n_best: Annotated[
        int,
        typer.Option(
            help="Translations of each line, best first; more than 1 as text are printed as "
            "Moses does: LINE ||| TEXT ||| LogProb= P ||| SCORE, lines counted from 0."
        ),
    ] = 1,
    length_penalty: Annotated[
        float | None,
        typer.Option(help="Higher favours longer translations.", show_default="the model's"),
    ] = None,
    length_formula: Annotated[
        Literal["gnmt", "power"],
        typer.Option(help="Divide by ((5 + length) / 6) ** penalty, or by length ** penalty."),
    ] = "gnmt",
    coverage_penalty: Annotated[
        float, typer.Option(help="Higher leaves less of the source out; needs attention.")
    ] = 0.0,
    min_length: Annotated[int, typer.Option(help="Fewest pieces of a translation.")] = 0,
    max_length: Annotated[
        int | None,
        typer.Option(help="Most pieces of a translation.", show_default="grows with the source"),
    ] = None,
    min_length_ratio: Annotated[
        float, typer.Option(help="Fewest pieces for each piece of the source.")
    ] = 0.0,
    max_length_ratio: Annotated[
        float | None,
        typer.Option(help="Most pieces for each of the source.", show_default="the model's"),
    ] = None,
    no_repeat_ngram: Annotated[
        int, typer.Option(help="Never the same N pieces in a row twice; 0 allows it.")
    ] = 0,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1 makes pieces said before less likely.")
    ] = 1.0,
    ban: Annotated[
        list[str] | None, typer.Option(metavar="PIECE", help="Never say this piece; repeatable.")
    ] = None,
    prefix: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What each translation begins with, a line for each."),
    ] = None,
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(metavar="MODEL", help="Average probabilities with this model; repeatable."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Most sentences at a time.")] = 64,
    batch_tokens: Annotated[int, typer.Option(help="Most source pieces at a time.")] = 4096,
    sample: Annotated[
        bool, typer.Option("--sample", help="Draw translations at random instead of searching.")
    ] = False,
    temperature: Annotated[
        float | None, typer.Option(help="With --sample: below 1 is more careful.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="With --sample: draw from the K most likely pieces.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="With --sample: draw from this share of probability.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="With --sample: equal seeds draw equal translations.")
    ] = None,
    output_format: Annotated[
        Literal["text", "jsonl"],
        typer.Option(
            "--format", help="jsonl has scores, pieces, attention and alignment, an object a line."
        ),
    ] = "text",
    alignment: Annotated[
        Literal["pieces", "words"] | None,
        typer.Option(
            help="What i-j pairs of source and translation count; added to text after |||.",
            show_default="pieces in jsonl, none in text",
        ),
    ] = None,
) -> None:
    """Translate line by line: one line in, one line out, in order."""
    settings: Options = {
        "beam_size": beam_size,
        "n_best": n_best,
        "length_penalty": length_penalty,
        "length_formula": length_formula,
        "coverage_penalty": coverage_penalty,
        "min_length": min_length,
        "max_length": max_length,
        "min_length_ratio": min_length_ratio,
        "max_length_ratio": max_length_ratio,
        "no_repeat_ngram": no_repeat_ngram,
        "repetition_penalty": repetition_penalty,
        "banned": ban or (),
        "batch_size": batch_size,
        "batch_tokens": batch_tokens,
        "details": output_format == "jsonl" or alignment is not None,
        "sampling": _sampling(
            {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed},
            wanted=sample,
        ),
    }
    if resume:
        _check_can_resume(source, output)
    # Checked before the seconds that loading a model takes.
    config = load_model_config(model)
    options = search_options(config.decoding, **settings)
    if alignment is not None and config.model.attention == "none":
        raise UsageError(f"--alignment: {model} has no attention (model.attention)")
    _check_files(source, output)
    models = [model, *(ensemble or ())]
    work = _Work(models, prefix, settings, _renderer(output_format, n_best, alignment))
    with _terminable():
        if output is None or _is_stream(source) or is_special(output):
            summary = _translate_stream(work, source, output)
        else:
            deciding = {
                **_contents(models, prefix),
                **asdict(options),
                "format": output_format,
                "alignment": alignment,
            }
            with resumable_output(
                output, read_lines(Path(source)), settings=deciding, resume=resume
            ) as kept:
                summary = _translate_rest(work, kept)
    summary.report()


@app.command()
def attention(
    model: ModelFolder,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="One source sentence.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Picture to write: .png, .svg or .pdf.")
    ],
    target: Annotated[
        str | None, typer.Option(help="A translation of it.", show_default="the model's own")
    ] = None,
    beam_size: Annotated[
        int | None, typer.Option(help="1 is greedy search.", show_default="the model's")
    ] = None,
) -> None:
    """Draw where the model looks as it translates one sentence (needs the extra `plot`)."""
    from seq2seq.attention_plot import draw_attention, picture_kind

    kind = picture_kind(output)
    if load_model_config(model).model.attention == "none":
        raise UsageError(f"{model}: has no attention to draw (model.attention)")
    if not text.strip():
        raise UsageError("TEXT: is blank; expected a sentence")
    check_new(output)
    translator = Translator.load(model)
    if target is None:
        (translation,) = translator.translate([text], beam_size=beam_size)
        details = translation.details
    else:
        (details,) = translator.explain([text], [target])
    write_new(output, draw_attention(details, kind))
    standard_output().write(f"{' '.join(details.source)}\n{' '.join(details.target)}\n")


@app.command()
def score(
    model: ModelFolder,
    source: Annotated[Path, typer.Option(help="Text file, one sentence a line.")],
    target: Annotated[Path, typer.Option(help="Translations to score, line by line.")],
) -> None:
    """Print the log-probability of each given translation (forced decoding), a number a line."""
    load_model_config(model)  # what is wrong with MODEL comes up before anything is read
    from seq2seq.pairs import read_pairs

    pairs = list(read_pairs([source], [target]))  # whole: line counts are checked before any output
    translator = Translator.load(model)
    stream = standard_output()
    for first in range(0, len(pairs), _SCORED_AT_A_TIME):
        chunk = pairs[first : first + _SCORED_AT_A_TIME]
        scores = translator.score([pair.source for pair in chunk], [pair.target for pair in chunk])
        stream.write("".join(f"{log_prob:.6f}\n" for log_prob in scores))


@app.command()
def evaluate(
    reference: Annotated[
        list[Path], typer.Option(help="Reference translations; repeat it for further files.")
    ],
    model: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL", help="Model folder; may be left out with --hypothesis."),
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help="Text to translate and score the translations of.")
    ] = None,
    hypothesis: Annotated[
        Path | None, typer.Option(help="Translations to score; no model is run. - is stdin.")
    ] = None,
    output_format: Annotated[Literal["text", "json"], typer.Option("--format")] = "text",
) -> None:
    """Print BLEU, chrF and TER, with sacreBLEU signatures, of a model or of given translations.

    BLEU splits words as the model's validation does; 13a where no MODEL is given.
    """
    if hypothesis is None and (model is None or source is None):
        raise UsageError("evaluate: needs either --hypothesis, or MODEL and --source to translate")
    from seq2seq.evaluation import check_line_counts, render_json, render_text
    from seq2seq.evaluation import evaluate as evaluate_lines

    config = load_model_config(model) if model else None
    references = [list(read_lines(path)) for path in reference]
    lengths = [(str(path), len(lines)) for path, lines in zip(reference, references, strict=True)]
    sources = list(read_lines(source)) if source else []
    if source:
        check_line_counts([(str(source), len(sources)), *lengths])
    if model and hypothesis is None:
        name, hypotheses = f"translations of {source}", _hypotheses(model, sources)
    else:
        name = "standard input" if str(hypothesis) == "-" else str(hypothesis)
        hypotheses = list(_lines(str(hypothesis)))
    evaluation = evaluate_lines(
        hypotheses,
        references,
        tokenizer=config.validation.bleu_tokenizer if config else "13a",
        hypothesis_name=name,
        reference_names=[str(path) for path in reference],
    )
    for warning in evaluation.warnings:
        _say(f"warning: {warning}")
    render = render_json if output_format == "json" else render_text
    standard_output().write(render(evaluation))


@app.command()
def inspect(model: ModelFolder) -> None:
    """Print what a model is: sizes, vocabulary, scores, files, configuration."""
    from seq2seq.inspection import describe, render

    standard_output().write(render(describe(model)))


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the corpus and the model.")] = Path(
        "demo"
    ),
) -> None:
    """Make a corpus, train on it, translate and score: all offline, in minutes on two cores."""
    from seq2seq.demo import run_demo

    run_demo(output)


def _sampling(options: dict[str, Any], *, wanted: bool) -> Sampling | None:
    given = {name: value for name, value in options.items() if value is not None}
    if not wanted:
        if given:
            flag = "--" + next(iter(given)).replace("_", "-")
            raise UsageError(
                f"{flag}: has no effect without --sample; add --sample or leave it out"
            )
        return None
    if given.get("top_k", 1) < 1:
        raise UsageError(f"--top-k: got {given['top_k']}, expected 1 or more")
    return Sampling(**given)


class _Work(NamedTuple):
    """What `translate` is to do, wherever its lines come from and go.

    Attributes:
        models: Model folder; further ones are an ensemble with it.
        prefix: File of what translations begin with.
        settings: Of the search.
        render: A translation as it is written.
    """

    models: list[Path]
    prefix: Path | None
    settings: Options
    render: Renderer

    def load(self) -> Translator:
        return Translator.load(self.models[0], ensemble=self.models[1:])

    def prefixes(self, first: int = 0) -> Iterator[str] | None:
        """Those of all lines from number `first` on, counted from 0."""
        return islice(read_lines(self.prefix), first, None) if self.prefix else None


def _translate_stream(work: _Work, source: str, output: Path | None) -> "_Summary":
    """Translates what can be read or written but once."""
    with opened_output(output) as stream:
        translator = work.load()
        summary = _Summary()
        ready = None
        if source == "-":
            stdin = LineInput(_STDIN)
            lines, ready = stdin.lines(), stdin.line_ready
        else:
            lines = read_lines(Path(source))
        translations = translator.translate_iter(
            lines, prefixes=work.prefixes(), ready=ready, **work.settings
        )
        for number, translation in enumerate(summary.watch(translations)):
            stream.write(work.render(number, translation))
    return summary


def _translate_rest(work: _Work, output: ResumableOutput) -> "_Summary":
    """Translates the lines that are not done yet; what is written is saved after each window."""
    translator = work.load()
    window_size = search_options(translator.config.decoding, **work.settings).window_size
    summary = _Summary(output.lines, output.saved.counts)
    translations = translator.translate_iter(
        output.texts,
        prefixes=work.prefixes(output.lines),
        first_number=output.lines + 1,
        **work.settings,
    )
    for translation in summary.watch(translations):
        output.write(translation.source, work.render(output.lines, translation))
        if output.lines % window_size == 0:
            output.save(summary.counts)
    return summary


def _contents(models: Sequence[Path], prefix: Path | None) -> dict[str, str]:
    """What tells one translation's input from another's: a hash of each part but the text."""
    from seq2seq.checkpoint import best_weights_sha256  # heavier than what other commands need

    first = models[0]
    files = sorted(path for path in (first / TOKENIZER_FOLDER).glob("*") if path.is_file())
    parts = {
        "tokenizer": b"".join(path.read_bytes() for path in files),
        "configuration": (first / CONFIG_FILE).read_bytes(),
        "prefix": b"".join(f"{line}\n".encode() for line in read_lines(prefix)) if prefix else b"",
    }
    hashes = {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}
    shown = {name: each[:_HASH_DIGITS] for name, each in hashes.items()}
    weights = [best_weights_sha256(model)[:_HASH_DIGITS] for model in models]
    return {"weights": " ".join(weights), **shown}


def _is_stream(source: str) -> bool:
    return source == "-" or is_special(Path(source))


def _check_can_resume(source: str, output: Path | None) -> None:
    if output is None:
        raise UsageError("--resume: needs --output: standard output cannot be gone on with")
    if is_special(output):
        raise UsageError(f"--resume: {output} is no regular file and cannot be gone on with")
    if _is_stream(source):
        name = "standard input" if source == "-" else f"{source} is no regular file and"
        raise UsageError(f"--resume: {name} cannot be read from the start again; name a file")


def _check_files(source: str, output: Path | None) -> None:
    """Finds early what would fail only after the model is loaded, or overwrite the input."""
    path = Path(source)
    if source != "-" and not path.is_fifo() and not path.is_char_device():
        try:
            path.open("rb").close()
        except OSError as err:
            raise unreadable(path, err) from err
    if output is not None:
        if source != "-" and output.exists() and output.samefile(path):
            raise UsageError(f"{output}: is the input itself; choose another name for the output")
        check_new(output)


def _lines(source: str) -> Iterator[str]:
    return LineInput(_STDIN).lines() if source == "-" else read_lines(Path(source))


def _hypotheses(model: Path, sources: Sequence[str]) -> list[str]:
    """The model's translations, for `evaluate`."""
    translator = Translator.load(model)
    summary = _Summary()
    hypotheses = [each.text for each in summary.watch(translator.translate_iter(sources))]
    summary.report()
    return hypotheses


def _renderer(output_format: str, n_best: int, unit: Unit | None) -> Renderer:
    """What a line of output is made by."""
    if output_format == "jsonl":
        return lambda number, translation: _json_line(translation, unit or "pieces")
    if n_best > 1:
        return lambda number, translation: _n_best_lines(number, translation, unit)
    return lambda number, translation: translation.text + _aligned(translation.hypotheses[0], unit)


def _json_line(translation: Translation, unit: Unit) -> str:
    record = {
        "source": translation.source,
        "source_truncated": translation.source_truncated,
        "source_pieces": translation.details.source[:-1],
        "hypotheses": [_json_object(hypothesis, unit) for hypothesis in translation.hypotheses],
    }
    return json.dumps(record, ensure_ascii=False).translate(_JSON_ESCAPES) + "\n"


def _json_object(hypothesis: Hypothesis, unit: Unit) -> dict[str, Any]:
    """All that is known of a hypothesis; rows of the attention are pieces, then the end."""
    details = hypothesis.details
    attention = details.attention
    return {
        "text": hypothesis.text,
        "score": hypothesis.score,
        "log_prob": hypothesis.log_prob,
        "pieces": hypothesis.pieces,
        "truncated": hypothesis.truncated,
        "duplicate": hypothesis.duplicate,
        "piece_log_probs": [round(each, 6) for each in details.log_probs],
        "alignment": details.word_alignment if unit == "words" else details.alignment,
        "attention": None if attention is None else attention.astype(float).round(4).tolist(),
    }


def _n_best_lines(number: int, translation: Translation, unit: Unit | None) -> str:
    """The n-best format of Moses, which reranking tools read."""
    return "".join(
        f"{number} ||| {each.text} ||| LogProb= {each.log_prob:.6f} ||| {each.score:.6f}"
        + _aligned(each, unit)
        for each in translation.hypotheses
    )


def _aligned(hypothesis: Hypothesis, unit: Unit | None) -> str:
    """What follows a translation on its line."""
    if unit is None:
        return "\n"
    details = hypothesis.details
    pairs = details.word_alignment if unit == "words" else details.alignment
    return f" ||| {pharaoh(pairs or ())}\n"


class _Summary:
    """What went by while translating, shown on stderr: at work, and when all is done."""

    def __init__(self, before: int = 0, counts: Mapping[str, int] | None = None) -> None:
        """Goes on from the `counts` of an earlier run, which translated `before` lines."""
        self.lines = self.before = before
        names = ("blank", "source_truncated", "truncated", "pieces", "unknown")
        self.counts = dict.fromkeys(names, 0) | dict(counts or {})
        self.started = time.monotonic()

    def watch(self, translations: Iterable[Translation]) -> Iterator[Translation]:
        """Passes `translations` on."""
        with _progress() as (show, interval):
            due = self.started + interval
            for translation in translations:
                self.lines += 1
                self.counts["blank"] += not translation.source_pieces
                self.counts["source_truncated"] += translation.source_truncated
                self.counts["truncated"] += translation.truncated
                self.counts["pieces"] += translation.source_pieces
                self.counts["unknown"] += translation.source_unknown
                if time.monotonic() >= due:
                    due = time.monotonic() + interval
                    show(f"{self.lines:,} lines translated, {self.speed():,.0f} sentences/s")
                yield translation

    def speed(self) -> float:
        """Lines a second, those of an earlier run left out."""
        return (self.lines - self.before) / max(time.monotonic() - self.started, 1e-9)

    def report(self) -> None:
        """Shows the totals, and what may be wrong with the input."""
        counts = self.counts
        before = f", {self.before:,} of them before" if self.before else ""
        _say(
            f"{self.lines:,} lines translated{before}, {counts['blank']:,} of them blank; "
            f"truncated: {counts['source_truncated']:,} lines, {counts['truncated']:,} "
            f"translations; {self.speed():,.1f} sentences/s"
        )
        if counts["unknown"] > _UNKNOWN_SHARE * counts["pieces"]:
            _say(
                f"warning: the model does not know {counts['unknown'] / counts['pieces']:.0%} of "
                "the source pieces; is the input in the language it was trained on?"
            )


@contextmanager
def _progress() -> Iterator[tuple[Callable[[str], None], float]]:
    """Gives a function that shows how far the work has come, and how often to call it, seconds."""
    # Beside data on the same terminal a live display would be in the way.
    if _isatty(sys.stderr) and not _isatty(sys.stdout):
        from rich.console import Console

        with Console(stderr=True).status("translating", spinner="line") as status:
            yield status.update, 0.1
    else:
        yield _say, _PROGRESS_SECONDS


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends what is being done as Ctrl-C does."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Within it SIGTERM is an exception, so that outputs are left in good order."""

    def terminate(*_: object) -> None:
        raise _Terminated

    try:
        previous = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread, whose business signals are
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _isatty(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _best(best: Mapping[str, Any]) -> str:
    if not best:
        return "not validated yet"
    return f"best: BLEU {best['bleu']:.2f} at step {best['step']:,} ({best['signature']})"


def _failed(error: BaseException) -> int:
    """Tells what went wrong in one line, and what there is to know besides; the exit code."""
    _drop_unwritten()
    exit_code = _told(error)
    for note in getattr(error, "__notes__", ()):
        _say(note)
    return exit_code


def _told(error: BaseException) -> int:
    match error:
        case Interrupted():
            _say(str(error))
            return error.exit_code
        case Seq2SeqError():
            _say(f"error: {error}")
            return error.exit_code
        case typer.TyperException():
            _say(f"error: {_usage_message(error)}")
            return error.exit_code
        case BrokenPipeError():
            return 128 + signal.SIGPIPE
        case _Terminated():
            _say("terminated")
            return 128 + signal.SIGTERM
        case KeyboardInterrupt():
            _say("interrupted")
            return 128 + signal.SIGINT
        case _:
            _say(
                f"error: {type(error).__name__}: {error}; this should not happen: "
                "seq2seq --debug COMMAND shows where it did"
            )
            return 1


def _usage_message(error: typer.TyperException) -> str:
    message = error.format_message().strip().removesuffix(".")
    context = getattr(error, "ctx", None)
    return f"{message}; see {context.command_path} --help" if context else message


def _drop_unwritten() -> None:
    """Drops what stdout cannot take: Python would try again at exit, and complain."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str) -> None:
    """One line on stderr."""
    if sys.stderr is not None:
        print(one_line(text), file=sys.stderr, flush=True)
