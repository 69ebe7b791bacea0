"""What each option is worth: the same experiment with one thing changed, trained and scored.

    python benchmarks/ablation.py configs/multi30k_10k_en_de.toml benchmarks/ablation.toml \\
        --test data/multi30k/test_2016_flickr.en --reference data/multi30k/test_2016_flickr.de

The second file names variants, each a list of what differs from the experiment, as `--set` of
`train` has it; the first variant is what the others are compared with. Each is trained with every
seed into a folder of its own below `--output`. Variants that are done are not trained again, and
one that was cut short is gone on with: the table of many hours can be made in parts. With `--jobs`
several are trained at a time, each with its share of the cores: one small model alone does not
keep two of them busy. What a training tells is in a file beside its folder; a variant that fails
leaves the others alone, and the exit code is 1.

BLEU is sacreBLEU's, with the experiment's tokenizer and beam search: the mean over seeds and its
standard deviation, or, of one seed, half the 95 % confidence interval; p is that of approximate
randomisation against the first variant with the same seed (the first one).
"""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any, NamedTuple

import machine
import typer
from results import console, metrics_of
from rich.table import Table

from seq2seq.comparison import compare
from seq2seq.config import Config
from seq2seq.config_file import load_config
from seq2seq.errors import Seq2SeqError, UsageError
from seq2seq.evaluation import evaluate
from seq2seq.lines import check_line_counts, count_lines, read_lines
from seq2seq.runtime import cores

# What TensorFlow reads: threads within a product, and products at a time.
_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


class AblationError(Exception):
    """A training or a translation failed; the message says where it tells why."""


class Trained(NamedTuple):
    """A variant with one seed.

    Attributes:
        hypotheses: Translations of the test sources.
        minutes: Of training, validations included.
    """

    hypotheses: list[str]
    minutes: float


def main(
    config: Annotated[Path, typer.Argument(help="An experiment.")],
    variants: Annotated[Path, typer.Argument(help="TOML: name = [SECTION.KEY=VALUE, ...].")],
    test: Annotated[Path, typer.Option(help="Sources to translate.")],
    reference: Annotated[Path, typer.Option(help="Their translations.")],
    output: Annotated[Path, typer.Option(help="Folder of all models.")] = Path("runs/ablation"),
    seeds: Annotated[str, typer.Option(help="With commas between.")] = "1",
    jobs: Annotated[int, typer.Option(help="Trainings at a time.", min=1)] = 1,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Of all.")
    ] = None,
) -> None:
    """A row for each variant, as soon as it is done."""
    references = [*read_lines(reference)]
    check_line_counts([(str(test), count_lines(test)), (str(reference), len(references))])
    wanted = tomllib.loads(variants.read_text(encoding="utf-8"))
    folders = [_slug(name) for name in wanted]
    if "" in folders or len(set(folders)) < len(folders):
        raise UsageError(
            f"{variants}: expected names that differ in their letters a to z and digits, of which "
            "the folders' names are made"
        )
    experiment = load_config(config, overrides or ())
    if not isinstance(experiment, Config):
        raise UsageError(f"{config}: is a language model's, which has no BLEU")
    for changes in wanted.values():  # a fault in the last shows before the first is trained
        load_config(config, [*(overrides or ()), *changes])
    tokenizer = experiment.validation.bleu_tokenizer
    console.print(machine.describe())
    table = Table("variant", "BLEU", "lower-cased", "p", "minutes of training")
    output.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        runs: dict[str, list[Future[Trained]]] = {}
        for name, changes in wanted.items():
            runs[name] = []
            for seed in seeds.split(","):
                settings = [*(overrides or []), *changes, f"seed={seed}"]
                folder = output / f"{_slug(name)}-{seed}"
                run = pool.submit(_trained, config, settings, folder, test, jobs=jobs)
                runs[name].append(run)
        first = next(iter(runs.values()), [])
        try:
            for name, its_runs in runs.items():
                row = _row(its_runs, first, references, tokenizer)
                table.add_row(name, *row)
                console.print(f"{name}: {', '.join(row)}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    console.print(table)
    if any(run.exception() for its_runs in runs.values() for run in its_runs):
        raise typer.Exit(1)


def _trained(
    config: Path, settings: Sequence[str], folder: Path, test: Path, *, jobs: int
) -> Trained:
    options = [f"--set={each}" for each in settings]
    begun = ["--resume"] if (folder / "config.toml").exists() else []
    _seq2seq(folder, jobs, "train", str(config), *options, "--output", str(folder), *begun)
    # Of these weights, this text and this search.
    made_of = [(folder / "best.json").read_bytes(), test.read_bytes(), repr(settings).encode()]
    hypotheses = folder / f"{sha256(b''.join(made_of)).hexdigest()[:16]}.hypotheses"
    if not hypotheses.exists():
        files = [str(test), "--output", str(hypotheses)]
        _seq2seq(folder, jobs, "translate", str(folder), *files, "--resume")
    return Trained([*read_lines(hypotheses)], metrics_of(folder)[-1]["seconds"] / 60)


def _seq2seq(folder: Path, jobs: int, *arguments: str) -> None:
    """Runs a command about the model in `folder` with one of `jobs` shares of the cores."""
    threads = str(max(1, cores() // jobs))
    shares = {} if jobs == 1 else dict.fromkeys(_THREADS, threads)
    log = folder.with_name(f"{folder.name}.log")
    with log.open("ab") as file:
        command = [sys.executable, "-m", "seq2seq", *arguments]
        done = subprocess.run(command, env={**os.environ, **shares}, stderr=file, check=False)
    if done.returncode:
        raise AblationError(f"failed: see {log.name}")


def _row(
    runs: Sequence[Future[Trained]],
    first: Sequence[Future[Trained]],
    references: list[str],
    tokenizer: str,
) -> list[str]:
    """BLEU, BLEU lower-cased, p and minutes of a variant, or why there are none; waits for them."""
    try:
        trained = [run.result() for run in runs]
    except AblationError as err:
        return [str(err)]
    scores = [
        _bleu(trained, references, tokenizer=tokenizer, lowercase=lowercase)
        for lowercase in (False, True)
    ]
    p = ""
    if runs is not first and not first[0].exception():
        found = compare(
            trained[0].hypotheses,
            first[0].result().hypotheses,
            [references],
            tokenizer=tokenizer,
        )
        p = f"{found[0].randomization:.3f}"
    return [*scores, p, f"{mean(run.minutes for run in trained):.0f}"]


def _bleu(
    runs: Sequence[Trained], references: list[str], *, tokenizer: str, lowercase: bool
) -> str:
    options: dict[str, Any] = {"tokenizer": tokenizer, "lowercase": lowercase}
    found = [evaluate(run.hypotheses, [references], **options).bleu for run in runs]
    if len(found) == 1:
        return f"{found[0].value:.2f} ± {found[0].interval:.2f}"
    values = [each.value for each in found]
    return f"{mean(values):.2f} ± {stdev(values):.2f} of {len(values)} seeds"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


if __name__ == "__main__":
    try:
        typer.run(main)
    except Seq2SeqError as err:
        sys.exit(f"error: {err}")
