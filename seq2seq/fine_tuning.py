"""Training that begins with the weights and the tokenizer of another model.

The new model folder is laid out with them as if it had been trained for no steps at all; then
training goes on there as after any interruption, and the other model is not needed any more.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seq2seq.checkpoint import load_best_weights
from seq2seq.config import AnyConfig, Config
from seq2seq.config_file import load_any_model_config
from seq2seq.errors import UsageError
from seq2seq.new_model import AnyTokenizer, load_any_tokenizer

_TOKENIZER_FILES = ("tokenizer.source_model", "tokenizer.target_model")


class InitialModel(NamedTuple):
    """What a training begins with.

    Attributes:
        tokenizer: Of the other model.
        weights: Its best ones.
    """

    tokenizer: AnyTokenizer
    weights: Mapping[str, np.ndarray]


def check_start(model: Path | None, config: AnyConfig, *, resume: bool, overwrite: bool) -> None:
    """Checks what a training of `config` is to begin with, before anything is written.

    Args:
        model: Another model folder, to begin with its weights and tokenizer.
        config: The experiment.
        resume: Whether to go on with what is in the folder of the training.
        overwrite: Whether to begin anew in place of it.

    Raises:
        UsageError: More than one way to begin is given; or `config` has a tokenizer of its own
            beside that of `model`, or another task or other layers.
        ModelError: `model` is no model folder.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite: give one of them, not both")
    if model is None:
        return
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


def load_start(model: Path, config: AnyConfig) -> InitialModel:
    """What a training of `config` begins with that `check_start` found nothing wrong with.

    Raises:
        ModelError: Tokenizer or weights of `model` are missing or damaged.
        StorageError: They cannot be read.
    """
    return InitialModel(load_any_tokenizer(model, config), load_best_weights(model))


def _named_tokenizers(config: Config) -> list[str]:
    values = config.tokenizer.model_dump()
    return [key for key in _TOKENIZER_FILES if values[key.removeprefix("tokenizer.")] is not None]


def _what_weights_are_for(config: AnyConfig) -> dict[str, Any]:
    """The keys that must be the same for weights to mean the same: all but those of dropout."""
    sections = {"model": config.model.model_dump(), "tokenizer": config.tokenizer.model_dump()}
    return {
        f"{section}.{key}": each
        for section, keys in sections.items()
        for key, each in keys.items()
        if "dropout" not in key and f"{section}.{key}" not in _TOKENIZER_FILES
    }
