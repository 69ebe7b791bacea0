"""The mean of a model's newest checkpoints, as a model folder of its own."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seq2seq.checkpoint import checkpoint_steps, load_step_weights, validated_steps
from seq2seq.config import AnyConfig
from seq2seq.config_file import load_any_model_config
from seq2seq.durable_files import locked, publish_folder
from seq2seq.errors import ModelError, UsageError, check_whole_number, unwritable
from seq2seq.model_files import CHECKPOINTS_FOLDER, TOKENIZER_FOLDER
from seq2seq.new_model import load_any_tokenizer, write_new_model

_FEWEST = 2


class Average(NamedTuple):
    """What `average` wrote.

    Attributes:
        folder: The new model folder.
        steps: Whose weights it has the mean of, ascending.
    """

    folder: Path
    steps: list[int]


def average(model: Path, folder: Path, *, last: int | None = None) -> Average:
    """Writes a model whose weights are the mean of those of a model's newest checkpoints.

    Vaswani et al. 2017, sec. 6.1, average the last 5 or 20 checkpoints of their models. `model` may
    be in training meanwhile.

    Args:
        model: Model folder, of a translator or a language model.
        folder: Model folder to write; there whole or not at all. It is of the newest of the steps.
        last: How many checkpoints; None is all that are kept, the best one included. Those that no
            validation followed do not count, as when they are made depends on the clock; nor does
            the model that `--init` began with.

    Raises:
        UsageError: `folder` exists, `last` is below 2, or there are not as many checkpoints.
        ModelError: `model` is no model folder, or a checkpoint is damaged, or gone.
        LockedError: Another process writes `folder`.
        StorageError: `folder` cannot be written.
    """
    if last is not None:
        check_whole_number("last", last, at_least=_FEWEST)
    if folder.exists():
        raise UsageError(f"{folder}: exists already; delete it or choose another name")
    config = load_any_model_config(model)
    steps = _newest_steps(model, config, last)
    tokenizer, weights = load_any_tokenizer(model, config), _mean_weights(model, steps)
    with _new_folder(folder) as temporary:
        write_new_model(temporary, config, tokenizer=tokenizer, weights=weights, step=steps[-1])
    return Average(folder, steps)


def _newest_steps(model: Path, config: AnyConfig, last: int | None) -> list[int]:
    steps, wanted = validated_steps(model), last or _FEWEST
    if len(steps) < wanted:
        raise UsageError(
            f"{model}: checkpoints to average: got {len(steps)}, expected {wanted} or more; raise "
            f"training.keep_checkpoints, which is {config.training.keep_checkpoints}, and train on"
        )
    return steps[-(last or len(steps)) :]


def _mean_weights(model: Path, steps: Sequence[int]) -> dict[str, np.ndarray]:
    """The mean of the weights at some steps: of sums in float64, as float32."""
    sums: dict[str, np.ndarray] = {}
    for step in steps:
        weights = _weights(model, step)
        if not sums:
            sums = {name: np.zeros(each.shape) for name, each in weights.items()}
        if _shapes(weights) != _shapes(sums):
            raise ModelError(
                f"{model}: the checkpoints of steps {steps[0]} and {step} do not have the same "
                "weights; they are of different models"
            )
        for name, each in weights.items():
            sums[name] += each
    return {name: (each / len(steps)).astype(np.float32) for name, each in sums.items()}


def _shapes(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: each.shape for name, each in arrays.items()}


def _weights(model: Path, step: int) -> dict[str, np.ndarray]:
    try:
        return load_step_weights(model, step)
    except ModelError as err:
        if step in checkpoint_steps(model):
            raise
        raise ModelError(
            f"{model}: the checkpoint of step {step} is gone: a training in this folder made room "
            "for a newer one; try again, or with a lower --last"
        ) from err


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its name if the block ends well, and goes if not."""
    temporary = folder.with_name(f".tmp-{folder.name}")
    with locked(temporary):
        try:
            for left_over in (CHECKPOINTS_FOLDER, TOKENIZER_FOLDER):  # by one that was killed
                shutil.rmtree(temporary / left_over, ignore_errors=True)
            yield temporary
            publish_folder(temporary, folder)
        except OSError as err:
            raise unwritable(str(folder), err) from err
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
