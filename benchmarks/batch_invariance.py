"""Whether a sentence's translation depends on the sentences beside it, or on the number of threads.

    python benchmarks/batch_invariance.py runs/multi30k_en_de data/multi30k/test_2016_flickr.en

Translates the file in batches of 64, 7 and 1, in its own and in a shuffled order, by one thread and
by two, on as many cores, each in a process of its own, and counts the sentences whose text is that
of the first run. Where one differs, the difference of the two scores is printed: rounding decides
between hypotheses that are equally good.
"""

import json
import os
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from results import console
from rich.table import Table

from seq2seq.lines import read_lines

_ONE_RUN = """
import json, os, sys
from seq2seq import Translator

options = json.load(sys.stdin)
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options["threads"]])
translator = Translator.load(options["model"], precision=options["precision"])
found = translator.translate(
    options["texts"], beam_size=options["beam_size"], batch_size=options["batch_size"]
)
json.dump([[each.text, each.score] for each in found], sys.stdout)
"""


class Way(NamedTuple):
    """One way of translating the same sentences."""

    batch_size: int
    shuffled: bool
    threads: int


WAYS = [
    Way(64, False, 2),
    Way(64, True, 2),
    Way(64, False, 1),
    Way(7, False, 2),
    Way(7, True, 1),
    Way(1, False, 2),
    Way(1, False, 1),
]


def translations(
    way: Way, texts: list[str], *, model: Path, beam_size: int, precision: str
) -> list[tuple[str, float]]:
    """Text and score of each, in the order of `texts`."""
    order = list(range(len(texts)))
    if way.shuffled:
        random.Random(1).shuffle(order)
    options = {
        "model": str(model),
        "texts": [texts[row] for row in order],
        "beam_size": beam_size,
        "batch_size": way.batch_size,
        "precision": precision,
        "threads": way.threads,
    }
    threads = {"TF_NUM_INTRAOP_THREADS": str(way.threads), "TF_NUM_INTEROP_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _ONE_RUN],
        input=json.dumps(options),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **threads, "OMP_NUM_THREADS": str(way.threads)},
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found = dict(zip(order, json.loads(done.stdout), strict=True))
    return [(found[row][0], found[row][1]) for row in range(len(texts))]


def main(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    source: Annotated[Path, typer.Argument(help="Text, one sentence a line.")],
    sentences: Annotated[int, typer.Option(help="How many of the text.")] = 1000,
    beam_size: Annotated[int, typer.Option(help="1 is greedy search.")] = 5,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
) -> None:
    """Count the sentences that come out the same."""
    texts = [*islice(read_lines(source), sentences)]
    table = Table("batch size", "order", "threads", "the same", "scores differ by at most")
    first = None
    for way in WAYS:
        found = translations(way, texts, model=model, beam_size=beam_size, precision=precision)
        first = found if first is None else first
        pairs = list(zip(found, first, strict=True))
        same = sum(ours[0] == theirs[0] for ours, theirs in pairs)
        gap = max(abs(ours[1] - theirs[1]) for ours, theirs in pairs)
        order = "shuffled" if way.shuffled else "file"
        table.add_row(
            str(way.batch_size), order, str(way.threads), f"{same} of {len(texts)}", f"{gap:.1e}"
        )
        for (text, score), (other, other_score) in pairs:
            if text != other:
                console.print(f"{score:.6f} {text}\n{other_score:.6f} {other}\n")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
