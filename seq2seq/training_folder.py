"""A model folder made ready for training: new, gone on with, or overwritten."""

import shutil
from pathlib import Path

from seq2seq.checkpoint import BEST_FILE, CHECKPOINTS, checkpoint_steps
from seq2seq.config import CONFIG_FILE, AnyConfig, flat_config, load_any_model_config
from seq2seq.errors import StorageError, UsageError
from seq2seq.experiment import ENCODED
from seq2seq.fine_tuning import (
    check_not_cut_short,
    drop_mark,
    load_start,
    mark_start,
    write_start,
)
from seq2seq.model_files import METRICS_FILE, TOKENIZER_FOLDER
from seq2seq.reporting import TENSORBOARD

# What a resumed run may change: how long it lasts and what is shown, kept or decoded on the way,
# but nothing that made the weights what they are. The learning rate may change because that is
# what helps where training has diverged.
_FREE_ON_RESUME = (
    "training.learning_rate",
    "training.max_epochs",
    "training.max_steps",
    "training.log_every_steps",
    "training.checkpoint_every_minutes",
    "training.keep_checkpoints",
    "validation.",
    "decoding.",
    "generation.",
)

_MEGABYTE = bytes(1 << 20)


def make_ready(
    folder: Path, config: AnyConfig, *, resume: bool, overwrite: bool, init: Path | None
) -> None:
    """Makes `folder` one in which a training of `config` can begin or go on.

    Where a model is overwritten, nothing of it is left; nothing is deleted before all is found
    that the training needs.

    Args:
        folder: The model folder, locked; there is no need that it holds anything.
        config: The experiment.
        resume: Go on with what is there.
        overwrite: Delete what is there.
        init: Another model folder to begin with, of which `check_init` has found that it fits.

    Raises:
        UsageError: `resume` and `overwrite` are both given; or there is a model and neither is; or
            the model is of another experiment, or was cut short; or `init` is `folder`.
        ModelError: What is to be gone on with or begun with is missing or damaged.
        StorageError: A file cannot be read or written.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other; give one")
    taken = (folder / CONFIG_FILE).exists() or bool(checkpoint_steps(folder))
    if resume:
        check_not_cut_short(folder)
        if taken:
            _check_same_experiment(load_any_model_config(folder), config, folder)
        return
    if taken and not overwrite:
        raise UsageError(
            f"{folder}: holds a model already; --resume goes on with it, --overwrite deletes it, "
            "--output names another folder"
        )
    if init and init.resolve() == folder.resolve():
        raise UsageError(
            f"--init {init}: is the folder to write, whose model would be lost; --output names "
            "another folder"
        )
    start = load_start(init, config) if init else None  # before anything is deleted
    if start:
        mark_start(folder)
    else:
        drop_mark(folder)
    if taken:
        for name in (CHECKPOINTS, TOKENIZER_FOLDER, ENCODED, TENSORBOARD):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in (BEST_FILE, METRICS_FILE, CONFIG_FILE):
            (folder / name).unlink(missing_ok=True)
    if start:
        write_start(folder, config, start)


def check_room(folder: Path, size: int, *, kept: int) -> None:
    """Checks that `folder` has room for a checkpoint, by filling it for a moment.

    Args:
        folder: The model folder.
        size: Of a checkpoint, bytes.
        kept: How many of them are kept beside the best one; for the message.

    Raises:
        StorageError: There is no room, or no permission.
    """
    path = folder / ".tmp-room"
    try:
        try:
            with path.open("wb") as file:
                for _ in range(size // len(_MEGABYTE) + 1):
                    file.write(_MEGABYTE)
        finally:
            path.unlink(missing_ok=True)
    except OSError as err:
        raise StorageError(
            f"{folder}: cannot be written: {err.strerror or err}; a checkpoint needs "
            f"{size / 1e6:,.1f} MB, and {kept} are kept beside the best one"
        ) from err


def _check_same_experiment(before: AnyConfig, now: AnyConfig, folder: Path) -> None:
    was, wanted = flat_config(before), flat_config(now)
    changes = [
        f"{key} was {was.get(key)!r}, is {wanted.get(key)!r}"
        for key in sorted(was.keys() | wanted.keys())
        if was.get(key) != wanted.get(key) and not key.startswith(_FREE_ON_RESUME)
    ]
    if changes:
        raise UsageError(
            f"{folder}: cannot be resumed with another experiment: {'; '.join(changes)}; set them "
            "back, or train into another folder"
        )
