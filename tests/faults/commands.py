"""Commands as processes of their own, and small experiments for them to train."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from language_model_fixtures import TEXT, language_model_config
from training_fixtures import config_for, losses_of, weights_and_state, write_corpus

from seq2seq.checkpoint import read_best
from seq2seq.config_file import dump_config

COMMAND = [sys.executable, "-m", "seq2seq"]
# One thread a process: two of them run at a time, and every run has the same.
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
OTHER_BEST = "the best steps differ"
SAVE_INTERVAL = 0.3  # seconds between checkpoints


def started(
    arguments: Sequence[str], *, environment: Mapping[str, str] | None = None, **options: Any
) -> "subprocess.Popen[bytes]":
    """`seq2seq` as a process, its outputs to be read with `communicate`."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**(os.environ if environment is None else environment), **ONE_THREAD},
        **options,
    )


class Experiment(NamedTuple):
    """A configuration on disk.

    Attributes:
        config: The file.
        steps: Updates of a whole training.
    """

    config: Path
    steps: int

    def training(self, folder: Path) -> list[str]:
        """Arguments that train into `folder`, or go on with what is there."""
        return ["train", str(self.config), "--output", str(folder), "--resume"]


def translation(folder: Path, *, steps: int, **changes: Any) -> Experiment:
    """A translator with dropout, saved every `SAVE_INTERVAL`; what it needs lies in `folder`."""
    config = config_for(
        write_corpus(folder, shortest=3, longest=3),  # each shape of a batch is compiled
        model__attention="none",
        training__max_steps=steps,
        training__max_epochs=steps,
        training__checkpoint_every_minutes=SAVE_INTERVAL / 60,
        validation__every_steps=max(steps // 3, 1),
        **changes,
    )
    path = folder / "translation.toml"
    path.write_text(dump_config(config), encoding="utf-8")
    return Experiment(path, steps)


def language_model(folder: Path, *, steps: int) -> Experiment:
    """A language model with dropout, its state carried from update to update."""
    text = folder / "text"
    text.write_text(TEXT, encoding="utf-8", newline="")
    config = language_model_config(
        text,
        training__max_steps=steps,
        training__max_epochs=steps,
        training__checkpoint_every_minutes=SAVE_INTERVAL / 60,
        validation__every_steps=max(steps // 3, 1),
        validation__patience=steps,
    )
    path = folder / "language_model.toml"
    path.write_text(dump_config(config), encoding="utf-8")
    return Experiment(path, steps)


def difference(folder: Path, unbroken: Path) -> str:
    """How a finished training differs from the unbroken one; empty if by no bit."""
    if weights_and_state(folder) != weights_and_state(unbroken):
        return "the weights or the optimizer's state differ"
    if losses_of(folder) != losses_of(unbroken):
        return "the losses differ"
    best, expected = read_best(folder), read_best(unbroken)
    if best is None or expected is None or best["step"] != expected["step"]:
        return OTHER_BEST
    return ""
