"""What each option is worth: the same experiment with one thing changed, trained and scored.

    python benchmarks/ablation.py configs/multi30k_10k_en_de.toml benchmarks/ablation.toml \\
        --test data/multi30k/test_2016_flickr.en --reference data/multi30k/test_2016_flickr.de

The second file names variants, each a list of what differs from the experiment, as `--set` of
`train` has it; the first variant is what the others are compared with. Each is trained with every
seed into a folder of its own below `--output`. Variants that are done are not trained again, and
one that was cut short is gone on with: the table of many hours can be made in parts.

BLEU is sacreBLEU's, of the beam search that the experiment names: the mean over seeds and its
standard deviation, or, of one seed, half the 95 % confidence interval; p is that of paired
bootstrap resampling against the first variant with the same seed (the first one).
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any, NamedTuple

import machine
import typer
from results import console
from rich.table import Table

from seq2seq.comparison import compare
from seq2seq.evaluation import evaluate
from seq2seq.lines import read_lines


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
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Of all.")
    ] = None,
) -> None:
    """A row for each variant, as soon as it is done."""
    references = [*read_lines(reference)]
    console.print(machine.describe())
    table = Table("variant", "BLEU", "lower-cased", "p", "minutes of training")
    first: list[Trained] = []
    for name, changes in tomllib.loads(variants.read_text(encoding="utf-8")).items():
        settings = [*(overrides or []), *changes]
        runs = [
            _trained(config, [*settings, f"seed={seed}"], output / f"{_slug(name)}-{seed}", test)
            for seed in seeds.split(",")
        ]
        first = first or runs
        table.add_row(name, *_row(runs, first, references))
        console.print(f"{name}: {', '.join(_row(runs, first, references))}")
    console.print(table)


def _trained(config: Path, settings: Sequence[str], folder: Path, test: Path) -> Trained:
    options = [f"--set={each}" for each in settings]
    begun = ["--resume"] if (folder / "config.toml").exists() else []
    _seq2seq("train", str(config), *options, "--output", str(folder), *begun)
    hypotheses = folder / f"{test.name}.hypotheses"
    if not hypotheses.exists():
        _seq2seq("translate", str(folder), str(test), "--output", str(hypotheses))
    return Trained([*read_lines(hypotheses)], _metrics(folder)[-1]["seconds"] / 60)


def _seq2seq(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "seq2seq", *arguments], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def _metrics(folder: Path) -> list[Mapping[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def _row(runs: Sequence[Trained], first: Sequence[Trained], references: list[str]) -> list[str]:
    """BLEU, BLEU lower-cased, p and minutes of a variant."""
    scores = [_bleu(runs, references, lowercase=lowercase) for lowercase in (False, True)]
    p = ""
    if runs is not first:
        found = compare(runs[0].hypotheses, first[0].hypotheses, [references])
        p = f"{found[0].bootstrap:.3f}"
    return [*scores, p, f"{mean(run.minutes for run in runs):.0f}"]


def _bleu(runs: Sequence[Trained], references: list[str], *, lowercase: bool) -> str:
    found = [evaluate(run.hypotheses, [references], lowercase=lowercase).bleu for run in runs]
    if len(found) == 1:
        return f"{found[0].value:.2f} ± {found[0].interval:.2f}"
    values = [each.value for each in found]
    return f"{mean(values):.2f} ± {stdev(values):.2f} of {len(values)} seeds"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


if __name__ == "__main__":
    typer.run(main)
