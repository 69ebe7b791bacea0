"""Checkpoints that exist whole or not at all.

A checkpoint is a folder `MODEL/checkpoints/step-N` with the weights, the optimizer's variables and
the state of training. It is written under a temporary name, each file is fsynced, the manifest
(sizes and sha256 of the others) comes last, and a rename makes it visible. Which checkpoint is the
newest is read off the folder; no pointer file can be wrong.
"""

import hashlib
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from seq2seq.durable_files import publish_folder, sync, write_whole
from seq2seq.errors import ModelError, unwritable
from seq2seq.model_files import (
    BEST_FILE,
    CHECKPOINTS_FOLDER,
    LARGEST_RECORD,
    TOKENIZER_FOLDER,
    check_plain,
    folder_in_errors,
    read_record,
)

MANIFEST = "MANIFEST.json"
WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "training.json"
FORMAT_VERSION = 1

_FILES = {WEIGHTS, OPTIMIZER, STATE}
# What reading damaged or made-up files may raise.
_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError),
    SafetensorError,
)
_STEP_FOLDER = re.compile(r"step-(0|[1-9][0-9]*)", re.ASCII)
_LONGEST_HEADER = 1 << 20  # bytes of what a file says about its arrays: a thousand of them fit

Arrays = Mapping[str, np.ndarray]


class _Loading(Protocol):
    def load(self, weights: Arrays) -> None: ...


Model = TypeVar("Model", bound=_Loading)


@dataclass(frozen=True)
class Checkpoint:
    """Where training stood after `step` updates.

    Attributes:
        step: Number of updates done.
        weights: Every weight of the model by name.
        optimizer: Every variable of the optimizer by name.
        state: What else training needs to go on, as JSON values.
    """

    step: int
    weights: Arrays
    optimizer: Arrays
    state: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes `checkpoint` into the model folder `folder`.

    Raises:
        StorageError: It cannot be written; no part of it is left behind.
    """
    final = _path(folder, checkpoint.step)
    if final.exists():
        return  # the same step of the same run
    temporary = final.with_name(f".tmp-{final.name}-{os.getpid()}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        if not final.parent.exists():
            final.parent.mkdir(parents=True)
            sync(folder)
        temporary.mkdir()
        (temporary / WEIGHTS).write_bytes(save(_in_order(checkpoint.weights)))
        (temporary / OPTIMIZER).write_bytes(save(_in_order(checkpoint.optimizer)))
        (temporary / STATE).write_text(json.dumps(dict(checkpoint.state)), encoding="utf-8")
        manifest = {
            "format": FORMAT_VERSION,
            "step": checkpoint.step,
            "files": _fingerprints(temporary),
            "tokenizer": _fingerprints(folder / TOKENIZER_FOLDER),
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        publish_folder(temporary, final)
    except OSError as err:
        shutil.rmtree(temporary, ignore_errors=True)
        raise unwritable(final, err) from err


def load_checkpoint(folder: Path, step: int) -> Checkpoint:
    """The checkpoint of `step`, every file of it checked against the manifest.

    Raises:
        ModelError: It does not exist or is damaged.
    """
    path = _path(folder, step)
    try:
        promised = _promised_files(path)
        return Checkpoint(
            step=step,
            weights=_arrays(path / WEIGHTS, promised),
            optimizer=_arrays(path / OPTIMIZER, promised),
            state=json.loads(_verified(path / STATE, promised)),
        )
    except _UNREADABLE as err:
        raise ModelError(f"{path}: cannot be read: {err}") from err


def load_step_weights(folder: Path, step: int) -> dict[str, np.ndarray]:
    """The weights of the checkpoint of `step`, checked against the manifest.

    Raises:
        ModelError: It does not exist, or they are damaged.
    """
    return _weights(_path(folder, step))


def load_newest_checkpoint(folder: Path) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint that is whole, and one line for each newer one that is damaged.

    Raises:
        ModelError: There is none.
    """
    damaged: list[str] = []
    for step in sorted(checkpoint_steps(folder), reverse=True):
        try:
            return load_checkpoint(folder, step), damaged
        except ModelError as err:
            damaged.append(str(err))
    raise _nothing_usable(folder, damaged)


def best_weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights that `load_best_weights` gives, without reading them.

    Raises:
        ModelError: There are none, their file is not as long as they are or as the manifest says,
            or the tokenizer is not the one they were trained with.
    """
    path = _best_path(folder)
    try:
        _check_size(path / WEIGHTS, _promised_files(path))
        return _shapes(path / WEIGHTS)
    except _UNREADABLE as err:
        raise ModelError(f"{path / WEIGHTS}: cannot be read: {err}") from err


def load_best_weights(folder: Path) -> dict[str, np.ndarray]:
    """The weights that validated best, or the newest ones if none were validated yet.

    Raises:
        ModelError: There are none, or they are damaged.
    """
    return _weights(_best_path(folder))


def with_best_weights(
    folder: Path, shapes: Iterable[tuple[int, ...]], make: Callable[[], Model]
) -> Model:
    """The model that `make` builds, with the weights that `load_best_weights` gives.

    Args:
        folder: The model folder.
        shapes: Of these weights, see `best_weight_shapes`.
        make: Builds the model that the folder's configuration describes.

    Raises:
        ModelError: There are no weights, they are damaged, or they are not of such a model.
    """
    from seq2seq.layers import without_initial_values  # imports TensorFlow

    with folder_in_errors(folder), without_initial_values(shapes):
        model = make()
    weights = load_best_weights(folder)
    with folder_in_errors(folder):
        model.load(weights)
    return model


def check_best_weights(folder: Path) -> None:
    """Reads the weights that `load_best_weights` gives, keeping none, and compares their sha256.

    Raises:
        ModelError: There are none, or they are damaged.
    """
    path = _best_path(folder)
    _check(path / WEIGHTS, _promised_files(path))


def write_best(folder: Path, best: Mapping[str, Any]) -> None:
    """Replaces `best.json`: `step`, and the scores of its validation.

    Raises:
        StorageError: It cannot be written; it is as before.
    """
    write_whole(folder / BEST_FILE, json.dumps(dict(best), indent=1) + "\n")


def read_best(folder: Path) -> dict[str, Any] | None:
    """What `best.json` says, or None before the first validation.

    Raises:
        ModelError: The file is there and says nothing usable.
    """
    path = folder / BEST_FILE
    if not path.exists():
        return None
    try:
        best = read_record(path)
        if not isinstance(best["step"], int):
            raise TypeError(f"step is {best['step']!r}")
        return dict(best)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ModelError(f"{path}: not a record of the best step: {err}") from err


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, ascending; whether they are whole is not looked at."""
    names = (path.name for path in (folder / CHECKPOINTS_FOLDER).glob("step-*"))
    return sorted(int(name[5:]) for name in names if _STEP_FOLDER.fullmatch(name))


def set_aside_after(folder: Path, step: int) -> list[str]:
    """Renames every checkpoint after `step` to `damaged-step-N`; the new names, newest first.

    Training that goes on from `step`, because later ones are damaged, makes those steps again;
    until then they must not count as checkpoints to be kept. They are left for the user to look at.
    """
    names = []
    for later in reversed(checkpoint_steps(folder)):
        if later > step:
            path = _path(folder, later)
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            names.append(aside.name)
    return names


def validated_steps(folder: Path) -> list[int]:
    """Those of `checkpoint_steps` that are the end of a round of training, as validation follows.

    The others are what a training of another model began with, and what the clock or a signal made:
    which these are differs from run to run.
    """
    return [step for step in checkpoint_steps(folder) if step and _ends_a_round(folder, step)]


def _ends_a_round(folder: Path, step: int) -> bool:
    path = _path(folder, step) / STATE
    try:
        check_plain(path, most_bytes=LARGEST_RECORD)
        return bool(json.loads(path.read_bytes()).get("validated", True))
    except (*_UNREADABLE, ModelError):
        return True  # damaged: to be told of where it is read


def prune_checkpoints(folder: Path, *, keep: int) -> None:
    """Deletes old checkpoints, and what crashes left.

    There stay the best one, the newest `keep` of all, and the newest `keep` of `validated_steps`.
    """
    best, steps = read_best(folder), checkpoint_steps(folder)
    kept = {*steps[-keep:], *validated_steps(folder)[-keep:]} | ({best["step"]} if best else set())
    for step in set(steps) - kept:
        shutil.rmtree(_path(folder, step), ignore_errors=True)
    for path in (folder / CHECKPOINTS_FOLDER).glob(".tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


def _path(folder: Path, step: int) -> Path:
    return folder / CHECKPOINTS_FOLDER / f"step-{step}"


def _in_order(arrays: Arrays) -> dict[str, np.ndarray]:
    """`arrays` as they lie in the file: safetensors copies memory, whatever an array's strides."""
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}


def _best_path(folder: Path) -> Path:
    """The checkpoint that validated best, or the newest one that is whole."""
    if (best := read_best(folder)) is not None:
        return _path(folder, best["step"])
    damaged: list[str] = []
    for step in sorted(checkpoint_steps(folder), reverse=True):
        path = _path(folder, step)
        try:
            promised = _promised_files(path)
            for name in _FILES:
                _check(path / name, promised)
            return path
        except ModelError as err:
            damaged.append(str(err))
    raise _nothing_usable(folder, damaged)


def _nothing_usable(folder: Path, damaged: Sequence[str]) -> ModelError:
    reason = "; ".join(damaged) or f"no checkpoint in {folder / CHECKPOINTS_FOLDER}"
    return ModelError(f"{folder}: no usable checkpoint: {reason}")


def _fingerprints(folder: Path) -> dict[str, Any]:
    """Size and sha256 of every file in `folder` by name; hidden ones were left by a crash."""
    paths = sorted(path for path in folder.glob("[!.]*") if path.is_file())
    return {path.name: _fingerprint(path) for path in paths}


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _check(file: Path, promised: Mapping[str, Any]) -> None:
    """Refuses a file that is not as long as the manifest promises, or has another hash."""
    _check_size(file, promised)
    try:
        found = _fingerprint(file)
    except OSError as err:
        raise ModelError(f"{file}: cannot be read: {err.strerror or err}") from err
    if found != promised[file.name]:
        raise _not_as_promised(file)


def _check_size(file: Path, promised: Mapping[str, Any]) -> None:
    if not file.exists() and not file.is_symlink():
        raise ModelError(f"{file}: missing; the checkpoint is damaged")
    check_plain(file, most_bytes=sys.maxsize)
    if file.stat().st_size != promised[file.name]["bytes"]:
        raise _not_as_promised(file)


def _not_as_promised(file: Path) -> ModelError:
    return ModelError(f"{file}: damaged: not the size and sha256 that {MANIFEST} says")


def _verified(file: Path, promised: Mapping[str, Any]) -> bytes:
    """The bytes of a file, which are those that the manifest promises."""
    _check_size(file, promised)
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != promised[file.name]["sha256"]:
        raise _not_as_promised(file)
    return content


def _arrays(file: Path, promised: Mapping[str, Any]) -> dict[str, np.ndarray]:
    content = _verified(file, promised)
    _header_length(file, content)
    return dict(load(content))


def _weights(path: Path) -> dict[str, np.ndarray]:
    """The weights of a checkpoint."""
    try:
        return _arrays(path / WEIGHTS, _promised_files(path))
    except _UNREADABLE as err:
        raise ModelError(f"{path / WEIGHTS}: cannot be read: {err}") from err


def _header_length(file: Path, content: bytes) -> int:
    """The bytes of a safetensors header, which the first eight bytes of the file tell."""
    length = int.from_bytes(content[:8], "little")
    if length > _LONGEST_HEADER:
        raise ModelError(
            f"{file}: a header of {length:,} bytes, expected at most {_LONGEST_HEADER:,}: damaged, "
            "or not weights"
        )
    return length


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays in a file, which has room for them as float32 and for no more."""
    with file.open("rb") as stream:
        length = _header_length(file, stream.read(8))
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    if others := {about["dtype"] for about in header.values()} - {"F32"}:
        raise ModelError(f"{file}: has weights of type {min(others)}, expected F32 (float32)")
    shapes = {name: tuple(int(size) for size in about["shape"]) for name, about in header.items()}
    expected = 8 + length + sum(4 * math.prod(shape) for shape in shapes.values())
    if file.stat().st_size != expected:
        raise ModelError(
            f"{file}: has {file.stat().st_size:,} bytes, expected {expected:,} for the weights in "
            "its header, as float32"
        )
    return shapes


def _promised_files(path: Path) -> dict[str, Any]:
    """Size and sha256 of each file of a checkpoint by name, from its manifest.

    Its tokenizer is checked: ids mean other pieces with another one.
    """
    if path.is_symlink():
        raise ModelError(f"{path}: is a symbolic link; expected the checkpoint itself")
    try:
        manifest = read_record(path / MANIFEST)
        version, step, promised = manifest["format"], manifest["step"], dict(manifest["files"])
        tokenizer = dict(manifest.get("tokenizer", {}))  # version 0.1.0 did not write it
        if unknown := manifest.keys() - {"format", "step", "files", "tokenizer"}:
            raise ValueError(f"unknown key {min(unknown)!r}")
        if elsewhere := [name for name in tokenizer if name != Path(name).name]:
            raise ValueError(f"a tokenizer's file is called {elsewhere[0]!r}")
        for about in (*promised.values(), *tokenizer.values()):
            if not isinstance(about["bytes"], int) or not isinstance(about["sha256"], str):
                raise TypeError(f"no size and hash: {about}")
    except (*_UNREADABLE, ModelError) as err:
        raise ModelError(f"{path}: not a whole checkpoint: {MANIFEST}: {err}") from err
    if version != FORMAT_VERSION:
        raise ModelError(f"{path}: format {version}, expected {FORMAT_VERSION}; retrain or convert")
    if path.name != f"step-{step}":
        raise ModelError(f"{path}: {MANIFEST} is of step {step}; give the folder its name back")
    if promised.keys() != _FILES:
        named = ", ".join(sorted(promised))
        raise ModelError(f"{path}: {MANIFEST} names {named}; expected {', '.join(sorted(_FILES))}")
    for name in tokenizer:
        _check(path.parents[1] / TOKENIZER_FOLDER / name, tokenizer)
    return promised
