"""A model folder before a training: resumed, or begun in place of what was there.

What a training begins with is laid out in a folder of its own inside the model folder and moved to
its place when it is whole: a model that is to be overwritten is deleted only when the new one is
ready for its first update.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seq2seq.config import AnyConfig
from seq2seq.config_file import flat_config, load_any_model_config
from seq2seq.durable_files import sync
from seq2seq.errors import StorageError, UsageError, writing
from seq2seq.fine_tuning import InitialModel
from seq2seq.model_files import (
    BEST_FILE,
    CHECKPOINTS_FOLDER,
    CONFIG_FILE,
    ENCODED_FOLDER,
    METRICS_FILE,
    TENSORBOARD_FOLDER,
    TOKENIZER_FOLDER,
)
from seq2seq.new_model import write_new_model

# Where a start is laid out. That of one with --init stays where it was cut short: without it such a
# folder would look like one of no training at all, and be resumed from weights of the seed.
_START, _START_WITH_WEIGHTS = ".tmp-start", ".tmp-init"

# What a training writes; what has a configuration is whole, so this comes first when a model goes.
_OF_A_MODEL = (
    CONFIG_FILE,
    BEST_FILE,
    METRICS_FILE,
    CHECKPOINTS_FOLDER,
    TOKENIZER_FOLDER,
    ENCODED_FOLDER,
    TENSORBOARD_FOLDER,
)

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
    "validation.every_steps",  # but not how BLEU is measured: scores would not compare
    "validation.patience",
    "validation.samples",
    "validation.sample_length",
    "validation.prime",
    "decoding.beam_size",  # validation has its own
    "generation.",
)

_MEGABYTE = bytes(1 << 20)


def resumes(
    folder: Path, config: AnyConfig, *, resume: bool, overwrite: bool, init: Path | None
) -> bool:
    """Whether a training of `config` resumes what is in `folder`; else it begins there.

    Args:
        folder: The model folder, locked; there is no need that it holds anything.
        config: The experiment.
        resume: Go on with what is there.
        overwrite: Begin anew in place of what is there.
        init: Another model folder to begin with.

    Raises:
        UsageError: There is a model and neither flag is given; or it is to be resumed, and is
            of another experiment, or was cut short; or `init` is `folder`.
        ModelError: What is to be resumed is damaged.
        StorageError: A file cannot be read.
    """
    taken = _holds_a_model(folder)
    if resume:
        _check_not_cut_short(folder)
        if taken:
            _check_same_experiment(load_any_model_config(folder), config, folder)
        return taken
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
    return False


@contextmanager
def new_start(folder: Path, config: AnyConfig, start: InitialModel | None) -> Iterator[Path]:
    """A folder in which to lay out what a training begins with.

    At the end of the block all that is in it takes the place of the model in `folder`, if there is
    one; files of it that are open then stay open, under their new names. If the block fails, that
    model is as it was; but if there was a `start`, a mark stays, and nothing is resumed in `folder`
    until it is deleted.

    Args:
        folder: The model folder, locked.
        config: The experiment.
        start: Weights and tokenizer to begin with; these are laid out already.

    Raises:
        StorageError: A file cannot be written, or not deleted.
    """
    for name in (_START, _START_WITH_WEIGHTS):
        _delete(folder / name)
    staging = folder / (_START_WITH_WEIGHTS if start else _START)
    _make(staging)
    try:
        if start:
            write_new_model(
                staging, config, tokenizer=start.tokenizer, weights=start.weights, step=0
            )
        yield staging
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        if start:
            _make(staging)
        raise
    for name in _OF_A_MODEL:
        _delete(folder / name)
    with writing(folder):
        for name in reversed(_OF_A_MODEL):
            if (staging / name).exists():
                (staging / name).rename(folder / name)
        sync(folder)
        staging.rmdir()


def check_room(folder: Path, size: int, *, kept: int, freed: int = 0) -> None:
    """Checks that `folder` has room for a checkpoint, by filling it for a moment.

    Args:
        folder: The model folder.
        size: Of a checkpoint, bytes.
        kept: How many of them may be kept beside the best one; for the message.
        freed: What will be deleted before, bytes.

    Raises:
        StorageError: There is no room, or no permission.
    """
    path = folder / ".tmp-room"
    try:
        try:
            with path.open("wb") as file:
                for _ in range(max(0, size - freed) // len(_MEGABYTE) + 1):
                    file.write(_MEGABYTE)
        finally:
            path.unlink(missing_ok=True)
    except OSError as err:
        raise StorageError(
            f"{folder}: cannot be written: {err.strerror or err}; a checkpoint needs "
            f"{size / 1e6:,.1f} MB, and up to {kept} are kept beside the best one"
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


def _holds_a_model(folder: Path) -> bool:
    """Whether anything of a model is there, but for what a start that was cut short left."""
    if any((folder / name).exists() for name in (_START, _START_WITH_WEIGHTS)):
        return (folder / CONFIG_FILE).exists()
    return any((folder / name).exists() for name in _OF_A_MODEL)


def _check_not_cut_short(folder: Path) -> None:
    if (mark := folder / _START_WITH_WEIGHTS).exists():
        raise UsageError(
            f"{folder}: cannot be resumed: its start with --init was cut short, and the weights it "
            "was to begin with are missing; give --init again, and --overwrite instead of "
            f"--resume, or delete {mark} to go on with what was there before"
        )


def _make(folder: Path) -> None:
    with writing(folder):
        folder.mkdir()


def size_of_model(folder: Path) -> int:
    """Bytes of what a new start would delete."""
    named = [folder / name for name in _OF_A_MODEL]
    files = [path for each in named for path in (each, *each.rglob("*")) if path.is_file()]
    return sum(path.stat().st_size for path in files)


def _delete(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as err:
        raise StorageError(f"{path}: cannot be deleted: {err.strerror or err}") from err
