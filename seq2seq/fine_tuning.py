"""Training that begins with the weights and the tokenizer of another model.

The new model folder is laid out with them as if it had been trained for no steps at all; then
training goes on there as after any interruption, and the other model is not needed any more. Until
the folder is whole a mark lies in it: a start that was cut short is never gone on with by chance,
from weights that are not those of the other model.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seq2seq.checkpoint import load_best_weights, write_whole
from seq2seq.config import AnyConfig, Config, LanguageModelConfig, load_any_model_config
from seq2seq.errors import UsageError
from seq2seq.new_model import AnyTokenizer, load_any_tokenizer, write_new_model

_MARK = ".tmp-init"


class Start(NamedTuple):
    """What a training begins with.

    Attributes:
        tokenizer: Of the other model.
        weights: Its best ones.
    """

    tokenizer: AnyTokenizer
    weights: Mapping[str, np.ndarray]


def check_init(model: Path, config: AnyConfig, *, resume: bool) -> None:
    """Checks that a training of `config` can begin with the weights and tokenizer of `model`.

    Raises:
        UsageError: It is to be resumed, has a tokenizer of its own, or has another task or other
            layers.
        ModelError: `model` is no model folder.
    """
    if resume:
        raise UsageError(
            "--resume and --init: give one of them: --resume goes on from what is in the folder, "
            f"which needs {model} no more"
        )
    before = load_any_model_config(model)
    if before.task != config.task:
        raise UsageError(
            f"--init {model}: is of task {before.task!r}, and task is {config.task!r} in the "
            "configuration; weights of one are of no use for the other"
        )
    if isinstance(config, Config) and (named := _named_tokenizers(config)):
        raise UsageError(
            f"{' and '.join(named)}: cannot be used with --init, which takes the tokenizer of "
            f"{model}; leave out one or the other"
        )
    was, wanted = _what_weights_are_for(before), _what_weights_are_for(config)
    if differing := [key for key in wanted if was[key] != wanted[key]]:
        told = "; ".join(f"{key} is {wanted[key]!r}, and {was[key]!r} there" for key in differing)
        raise UsageError(
            f"--init {model}: its weights are of another model: {told}; set them as they are there"
        )


def load_start(model: Path, config: AnyConfig) -> Start:
    """What a training of `config` begins with that `check_init` found nothing wrong with.

    Raises:
        ModelError: Tokenizer or weights of `model` are missing or damaged.
        StorageError: They cannot be read.
    """
    return Start(load_any_tokenizer(model, config), load_best_weights(model))


def mark_start(folder: Path) -> None:
    """Marks `folder` as one that `write_start` has still to be done with.

    Raises:
        StorageError: It cannot be written.
    """
    write_whole(folder / _MARK, "")


def write_start(folder: Path, config: AnyConfig, start: Start) -> None:
    """Makes `folder`, which holds no model, that of a training of no steps, and drops the mark.

    Raises:
        StorageError: It cannot be written.
    """
    write_new_model(folder, config, tokenizer=start.tokenizer, weights=start.weights, step=0)
    drop_mark(folder)


def drop_mark(folder: Path) -> None:
    """Lets `folder` be used whether or not a start was cut short in it."""
    (folder / _MARK).unlink(missing_ok=True)


def check_not_cut_short(folder: Path) -> None:
    """
    Raises:
        UsageError: `folder` is marked: what training was to begin with is not all there.
    """
    if (folder / _MARK).exists():
        raise UsageError(
            f"{folder}: cannot be resumed: its start with --init was cut short, and the weights it "
            "was to begin with are missing; give --init again, and --overwrite instead of --resume"
        )


def _named_tokenizers(config: Config) -> list[str]:
    keys = ("source_model", "target_model")
    return [f"tokenizer.{key}" for key in keys if getattr(config.tokenizer, key) is not None]


def _what_weights_are_for(config: AnyConfig) -> dict[str, Any]:
    """The keys that must be the same for weights to mean the same: all but those of dropout."""
    model = config.model.model_dump()
    found = {f"model.{key}": each for key, each in model.items() if "dropout" not in key}
    if isinstance(config, LanguageModelConfig):
        found["tokenizer.type"] = config.tokenizer.type
    return found
