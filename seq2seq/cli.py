"""The command line: `seq2seq COMMAND`.

stdout carries data only; progress, warnings and errors go to stderr. Nothing imported at the top
needs TensorFlow, so help and wrong usage answer at once.
"""

import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seq2seq.config import LanguageModelConfig
from seq2seq.config_file import load_any_model_config, load_config, load_model_config
from seq2seq.console import say
from seq2seq.errors import UsageError
from seq2seq.failures import drop_unwritten, tell_failure
from seq2seq.file_translation import Job, translate_file, translate_stream
from seq2seq.lines import OnBadUtf8
from seq2seq.output_formats import OutputFormat, Unit
from seq2seq.runtime import Device
from seq2seq.search_options import LengthFormula, Options, Sampling, SearchOptions, search_options
from seq2seq.signals import terminable
from seq2seq.streams import (
    check_has_folder,
    check_new,
    occupy_standard_streams,
    standard_output,
    write_new,
)
from seq2seq.translator import Translator

if TYPE_CHECKING:
    from seq2seq.generator import TextScore
    from seq2seq.training_loop import TrainingResult

_BETWEEN_SAMPLES = "-" * 20

ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder.")]

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    Args:
        arguments: What follows `seq2seq` on the command line; that of this process if left out.
    """
    debug = False
    occupy_standard_streams()
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
        return tell_failure(err)
    finally:
        drop_unwritten()
    return 0


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback with every error.")
    ] = False,
) -> None:
    """LSTM translators and language models: train on raw text, translate, evaluate, write."""


@app.command(short_help="Train a translator or a language model.")
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
        bool,
        typer.Option(
            "--overwrite",
            help="Replace the model in the folder, once the new one is ready to train.",
        ),
    ] = False,
    init: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Begin with this model's weights and tokenizer."),
    ] = None,
    device: Annotated[Device, typer.Option(help="auto takes a GPU if there is one.")] = "auto",
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT,...",
            help="All processes that train together, the one that writes the model first.",
            show_default="TF_CONFIG, else this process alone",
        ),
    ] = None,
    worker_index: Annotated[
        int | None, typer.Option(metavar="I", help="Which of --workers this one is, from 0.")
    ] = None,
) -> None:
    """Train a translator or a language model on raw text, all that it needs in one folder."""
    checked = load_config(config, overrides or ())
    from seq2seq.fine_tuning import check_start  # before the seconds that TensorFlow takes

    check_start(init, checked, resume=resume, overwrite=overwrite)
    folder = output or Path("runs") / config.stem

    from seq2seq.runtime import SHARDS, start_tensorflow
    from seq2seq.worker_place import place_of

    place = place_of(workers, worker_index, os.environ.get("TF_CONFIG"))
    start_tensorflow(device, shards=SHARDS)

    from seq2seq.training import train as train_model  # heavy

    result = train_model(
        checked, folder, resume=resume, overwrite=overwrite, init=init, place=place
    )
    best = _best(result) if result.best else "the model is where the first worker writes it"
    say(f"{result.folder}: {result.steps:,} steps in {result.seconds:,.0f} s; {best}")


@app.command(short_help="Translate text, line by line.")
def translate(
    model: ModelFolder,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Text file, one sentence a line; - or none is stdin. Several with --engine ray.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write when all is done, which must not exist; - is stdout. With --engine "
            "ray the folder of such files, named as the inputs.",
            show_default="stdout",
            callback=lambda path: None if path == Path("-") else path,
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
            help="Translations of each line, best first, at most --beam-size; more than 1 as text "
            "are printed as Moses does: LINE ||| TEXT ||| LogProb= P ||| SCORE, lines from 0."
        ),
    ] = SearchOptions.n_best,
    length_penalty: Annotated[
        float | None,
        typer.Option(help="Higher favours longer translations.", show_default="the model's"),
    ] = None,
    length_formula: Annotated[
        LengthFormula,
        typer.Option(help="Divide by ((5 + length) / 6) ** penalty, or by length ** penalty."),
    ] = SearchOptions.length_formula,
    coverage_penalty: Annotated[
        float,
        typer.Option(
            help="Higher leaves less of the source out; needs attention and a beam of 2 or more."
        ),
    ] = SearchOptions.coverage_penalty,
    min_length: Annotated[
        int, typer.Option(help="Fewest pieces of a translation, its end counted.")
    ] = SearchOptions.min_length,
    max_length: Annotated[
        int | None,
        typer.Option(
            help="Most pieces of a translation, its end counted; there is always room for --prefix "
            "and --constraints.",
            show_default="grows with the source",
        ),
    ] = None,
    min_length_ratio: Annotated[
        float, typer.Option(help="Fewest pieces: this times those of the source.")
    ] = SearchOptions.min_length_ratio,
    max_length_ratio: Annotated[
        float | None,
        typer.Option(
            help="Most pieces: this times those of the source, plus decoding.max_length_offset.",
            show_default="the model's; none with --max-length",
        ),
    ] = None,
    no_repeat_ngram: Annotated[
        int, typer.Option(help="No N pieces in a row occur twice; 0 allows it.")
    ] = SearchOptions.no_repeat_ngram,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1 makes pieces said before less likely.")
    ] = SearchOptions.repetition_penalty,
    ban: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PIECE",
            help="A piece never to be used, as jsonl shows pieces, unless --prefix or "
            "--constraints has it; repeatable.",
        ),
    ] = None,
    prefix: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What each translation begins with, a line for each."),
    ] = None,
    constraints: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What each translation must contain: a line for each, ||| between phrases. Needs "
            "a beam; best is one more than the phrases have pieces.",
        ),
    ] = None,
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(metavar="MODEL", help="Average probabilities with this model; repeatable."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Most sentences of a batch.", show_default="320 / beam size")
    ] = None,
    batch_tokens: Annotated[
        int, typer.Option(help="Most source pieces of a batch.")
    ] = SearchOptions.batch_tokens,
    sample: Annotated[
        bool, typer.Option("--sample", help="Draw translations at random instead of searching.")
    ] = False,
    temperature: Annotated[
        float | None, typer.Option(help="With --sample: below 1 is more careful.")
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="With --sample: draw from the K most likely pieces; 0 draws from all."),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="With --sample: draw from the likeliest pieces that together have this "
            "probability."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="With --sample: equal seeds draw equal translations.")
    ] = None,
    output_format: Annotated[
        OutputFormat,
        typer.Option(
            "--format", help="jsonl has scores, pieces, attention and alignment, an object a line."
        ),
    ] = "text",
    alignment: Annotated[
        Unit | None,
        typer.Option(
            help="Unit of the i-j pairs of the alignment; in text they follow the translation "
            "after |||.",
            show_default="pieces in jsonl, none in text",
        ),
    ] = None,
    on_bad_utf8: Annotated[
        OnBadUtf8,
        typer.Option(
            help="replace reads bytes that are not UTF-8 as U+FFFD, and counts the lines."
        ),
    ] = "error",
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            help="ray translates files on a cluster (needs the extra `ray`); without --resume, "
            "--prefix and --constraints."
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="With --engine ray: the cluster's head.",
            show_default="this machine alone",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="With --engine ray: processes.", show_default="one for each machine"
        ),
    ] = None,
) -> None:
    """Translate line by line: one line in, one line out, in order."""
    if engine == "ray" and (resume or prefix or constraints):
        raise UsageError("--engine ray: cannot be used with --resume, --prefix or --constraints")
    if engine == "local" and (address or workers or len(sources or ()) > 1):
        raise UsageError("--address, --workers and several inputs: need --engine ray")
    given: Options = {
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
    job = Job(
        models=[model, *(ensemble or ())],
        source=(sources or ["-"])[0],
        output=output,
        prefix=prefix,
        constraints=constraints,
        options=given,
        output_format=output_format,
        alignment=alignment,
        on_bad_utf8=on_bad_utf8,
    )
    # Checked before the seconds that loading a model takes.
    config = load_model_config(model)
    options = search_options(config.decoding, **given)
    if constraints:
        options.check_can_constrain()
    if alignment is not None:
        attentions = {load_model_config(each).model.attention for each in job.models}
        if attentions == {"none"}:
            raise UsageError(f"--alignment: {model} has no attention (model.attention)")
    if engine == "ray":
        from seq2seq.cluster import jobs_of, translate_files  # heavier than what others need

        jobs = jobs_of(job, sources or [])
        with terminable():
            translate_files(jobs, window_size=options.window_size, workers=workers, address=address)
        return
    job.check(resume=resume)
    with terminable():
        if job.can_resume:
            translate_file(job, resume=resume)
        else:
            translate_stream(job)


@app.command(short_help="Draw where the model looks.")
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
    from seq2seq.figures import check_can_draw

    kind = picture_kind(output)
    if target is not None and beam_size is not None:
        raise UsageError("--beam-size: has no effect with --target; leave out one or the other")
    check_can_draw()
    if load_model_config(model).model.attention == "none":
        raise UsageError(f"{model}: has no attention to draw (model.attention)")
    if not text.strip():
        raise UsageError("TEXT: is blank; expected a sentence")
    check_new(output)
    check_has_folder(output)
    translator = Translator.load(model)
    if target is None:
        (translation,) = translator.translate([text], beam_size=beam_size)
        details = translation.details
    else:
        (details,) = translator.explain([text], [target])
    write_new(output, draw_attention(details, kind))
    standard_output().write(f"{' '.join(details.source)}\n{' '.join(details.target)}\n")


@app.command(short_help="Score given translations.")
def score(
    model: ModelFolder,
    source: Annotated[Path, typer.Option(help="Text file, one sentence a line.")],
    target: Annotated[Path, typer.Option(help="Translations to score, line by line.")],
) -> None:
    """Print the log-probability of each given translation (forced decoding), a number a line."""
    load_model_config(model)  # what is wrong with MODEL comes up before anything is read
    from seq2seq.pairs import read_pairs

    pairs = list(read_pairs([source], [target]))  # whole: line counts are checked before any output
    sources = [pair.source for pair in pairs]
    translator = Translator.load(model)
    scores = translator.score(sources, [pair.target for pair in pairs])
    standard_output().write("".join(f"{log_prob:.6f}\n" for log_prob in scores))
    if cropped := translator.count_truncated(sources):
        say(
            f"warning: {source}: {cropped:,} lines are longer than what the model was trained on "
            f"(data.max_source_length), and only their first {translator.most_source_pieces} "
            "pieces were read"
        )


@app.command(short_help="BLEU, chrF and TER, or perplexity.")
def evaluate(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL", help="Model folder; may be left out with --hypothesis."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            help="Text to translate; for a language model, the text to score.",
            show_default="a language model's own test text",
        ),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(help="Reference translations; repeat it for further files."),
    ] = None,
    hypothesis: Annotated[
        Path | None, typer.Option(help="Translations to score; no model is run. - is stdin.")
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="Translations of another system, to test the difference with."),
    ] = None,
    lowercase: Annotated[
        bool, typer.Option("--lowercase", help="BLEU and chrF without regard to case.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html", help="Page to write: scores, BLEU by length, worst translations."
        ),
    ] = None,
    output_format: Annotated[
        Literal["text", "json", "jsonl"],
        typer.Option("--format", help="json has scores by length; jsonl every sentence's."),
    ] = "text",
) -> None:
    """Print BLEU, chrF and TER, with sacreBLEU signatures, of a model or of given translations.

    Beside each is half its 95 % confidence interval. BLEU splits words as the model's validation
    does; 13a where no MODEL is given. Of a language model print loss (nats), perplexity and bits
    per character of a text.
    """
    from seq2seq.file_evaluation import evaluate_files, score_file, score_test_text  # heavier

    if model and isinstance(load_any_model_config(model), LanguageModelConfig):
        others = hypothesis or baseline or lowercase or report or output_format == "jsonl"
        if others or reference:
            raise UsageError(
                f"evaluate: {model} is a language model: takes --source and --format text or json"
            )
        scored = score_file(model, source) if source else score_test_text(model)
        standard_output().write(_text_score(scored, as_json=output_format == "json"))
        if scored.unknown:
            name = source or f"{model}, test text"
            say(f"warning: {name}: {scored.unknown:,} symbols are scored as unknown to the model")
        return
    if baseline and output_format == "jsonl" and not report:
        raise UsageError(
            "--baseline: has no effect with --format jsonl, which has no comparison; add --report "
            "or leave it out"
        )
    from seq2seq.figures import check_can_draw
    from seq2seq.report import render_html, render_json, render_jsonl, render_text

    if report:
        check_new(report)
        check_has_folder(report)
        check_can_draw()
    found = evaluate_files(
        reference or [],
        model=model,
        source=source,
        hypothesis=hypothesis,
        baseline=baseline,
        lowercase=lowercase,
    )
    for warning in found.evaluation.warnings:
        say(f"warning: {warning}")
    render = {"text": render_text, "json": render_json, "jsonl": render_jsonl}[output_format]
    try:
        standard_output().write(render(found))
    finally:  # neither is lost where the other cannot be written
        if report:
            write_new(report, render_html(found).encode(errors="replace"))


@app.command(short_help="Write text with a language model.")
def generate(
    model: ModelFolder,
    prime: Annotated[
        str, typer.Option(help="What the text begins with.", show_default="the start of a line")
    ] = "",
    length: Annotated[
        int | None,
        typer.Option(
            help="Symbols to write: characters, pieces, or words with what is between them.",
            show_default="the model's",
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Below 1 is more careful.", show_default="the model's")
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            help="Draw from the K most likely symbols; 1 takes the likeliest, 0 draws from all.",
            show_default="the model's",
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Draw from the likeliest symbols that together have this probability.",
            show_default="the model's",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds write equal texts.")] = 0,
    samples: Annotated[
        int, typer.Option(help="Texts to write, with a line of dashes between them.")
    ] = 1,
) -> None:
    """Write text in the style of what a language model was trained on, as it is drawn."""
    from seq2seq.generator import LanguageModel

    loaded = LanguageModel.load(model)
    if unknown := loaded.tokenizer.unknown(prime):
        shown = " ".join(repr(each) for each in unknown)
        say(f"warning: --prime: the model does not know {shown}, and reads them as unknown")
    stream = standard_output()
    options: Any = {
        "length": length,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
    }
    if samples == 1:
        parts = loaded.stream(prime, **options)
        stream.write(prime)
        for part in parts:
            stream.write(part)
        stream.write("\n")
        return
    texts = loaded.generate(prime, samples=samples, **options)
    stream.write(f"\n{_BETWEEN_SAMPLES}\n".join(prime + text for text in texts) + "\n")


@app.command(short_help="Show what a model folder holds.")
def inspect(model: ModelFolder) -> None:
    """Print what a model is: sizes, vocabulary, scores, files, configuration."""
    from seq2seq.inspection import describe, render

    standard_output().write(render(describe(model)))


@app.command(short_help="Average checkpoints of a model.")
def average(
    model: ModelFolder,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Model folder to write; a new one.")],
    last: Annotated[
        int | None,
        typer.Option(metavar="N", help="How many checkpoints.", show_default="all that are kept"),
    ] = None,
) -> None:
    """Write a model whose weights are the mean of those of MODEL's newest checkpoints."""
    from seq2seq.averaging import average as average_checkpoints

    with terminable():
        done = average_checkpoints(model, output, last=last)
    steps = ", ".join(f"{step:,}" for step in done.steps)
    say(f"{done.folder}: mean of {len(done.steps)} checkpoints of {model}: steps {steps}")


@app.command(short_help="Write a SavedModel.")
def export(
    model: ModelFolder,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of versions: DIR/1, DIR/2, ...")
    ],
    version: Annotated[
        int | None, typer.Option(help="A number above those in DIR.", show_default="the next one")
    ] = None,
    beam_size: Annotated[
        int | None, typer.Option(help="Of the signature beam.", show_default="the model's")
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option(help="Higher favours longer translations.", show_default="the model's"),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Most pieces of a translation.", show_default="grows with the source"),
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Sentences to verify with as well, beside those made for it."
        ),
    ] = None,
) -> None:
    """Write a SavedModel, strings in, strings and scores out, as TensorFlow Serving takes it.

    It has the tokenizer and the search in it, both as given here. Before it gets its number, its
    translations are compared with the model's own in float32.
    """
    from seq2seq.export import export as export_model  # heavier than what other commands need

    with terminable():
        done = export_model(
            model,
            folder,
            version=version,
            verify=verify,
            beam_size=beam_size,
            length_penalty=length_penalty,
            max_length=max_length,
        )
    say(
        f"{done.path}: {done.size / 1e6:,.1f} MB; signatures {', '.join(done.signatures)}; "
        f"{done.verified:,} of {done.verified:,} texts as the model has them in float32"
    )
    say(f"operations of tensorflow-text in it: {', '.join(done.foreign_operations)}")


@app.command(short_help="Try it all, offline, in minutes.")
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
    return Sampling(**given)


def _text_score(score: "TextScore", *, as_json: bool) -> str:
    if as_json:
        return json.dumps(score.record) + "\n"
    return "".join(
        f"{name:<20}{f'{value:.4f}' if isinstance(value, float) else f'{value:,}'}\n"
        for name, value in score.record.items()
    )


def _best(result: "TrainingResult") -> str:
    if not result.headline:
        return "the newest weights are the model, as nothing was validated"
    signature = f" ({result.best['signature']})" if "signature" in result.best else ""
    return f"best: {result.headline} at step {result.best['step']:,}{signature}"
