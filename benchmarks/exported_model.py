"""Whether an exported model translates as `seq2seq translate` does, where nothing of it is left.

    python3 -m venv serve && serve/bin/pip install tensorflow tensorflow-text
    python benchmarks/exported_model.py runs/multi30k_en_de data/multi30k/test_2016_flickr.en \
        --python serve/bin/python

Exports the model, translates the file with the exported one in a process of that Python, in which
this package cannot be imported, and counts the sentences whose text is, byte for byte, that of the
translator in float32. Prints the size on the disk, the seconds that loading takes, and the speed.
"""

import json
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from results import console
from rich.table import Table

from seq2seq import Translator
from seq2seq.export import export
from seq2seq.lines import read_lines

_USE = """
import json, sys, time
for name in ("seq2seq", "sentencepiece"):
    sys.modules[name] = None  # to import it fails

import tensorflow as tf
import tensorflow_text

texts = json.load(sys.stdin)
started = time.perf_counter()
model = tf.saved_model.load(sys.argv[1])
record = {"load": time.perf_counter() - started}
for name in ("greedy", "beam"):
    signature = model.signatures[name]
    started = time.perf_counter()
    signature(texts=tf.constant(texts[:1]))
    first = time.perf_counter()
    found = signature(texts=tf.constant(texts))["text"].numpy()
    record[name] = {
        "first": first - started,
        "all": time.perf_counter() - first,
        "texts": [text.decode("utf-8") for text in found],
    }
json.dump(record, sys.stdout)
"""


def main(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    source: Annotated[Path, typer.Argument(help="Text, one sentence a line.")],
    python: Annotated[
        Path, typer.Option(help="A Python that has tensorflow and tensorflow-text.")
    ] = Path(sys.executable),
    sentences: Annotated[int, typer.Option(help="How many of the text.")] = 1000,
    beam_size: Annotated[int, typer.Option(help="Of the beam search.", min=2)] = 5,
) -> None:
    """Count the sentences that come out the same."""
    texts = [*islice(read_lines(source), sentences)]
    if not texts:
        sys.exit(f"error: {source}: is empty")
    with tempfile.TemporaryDirectory() as folder:
        exported = export(model, Path(folder), beam_size=beam_size)
        command = [str(python), "-c", _USE, str(exported.path)]
        done = subprocess.run(
            command, input=json.dumps(texts), capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout)
    translator = Translator.load(model, precision="float32")
    table = Table("search", "the same", "first sentence, s", "sentences/s")
    for name, size in (("greedy", 1), ("beam", beam_size)):
        ours = translator.translate(texts, beam_size=size)
        pairs = zip(ours, found[name]["texts"], strict=True)
        same = sum(each.text == text for each, text in pairs)
        speed = len(texts) / found[name]["all"]
        table.add_row(
            f"{name} {size}",
            f"{same} of {len(texts)}",
            f"{found[name]['first']:.1f}",
            f"{speed:.0f}",
        )
    console.print(table)
    console.print(f"{exported.size / 1e6:.1f} MB on the disk, loaded in {found['load']:.1f} s")


if __name__ == "__main__":
    typer.run(main)
