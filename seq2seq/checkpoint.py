"""Checkpoints that exist whole or not at all.

A checkpoint is a folder `MODEL/checkpoints/step-N` with the weights, the optimizer's variables and
the state of training. It is written under a temporary name, each file is fsynced, the manifest
(sizes and sha256 of the others) comes last, and a rename makes it visible. Which checkpoint is the
newest is read off the folder; no pointer file can be wrong.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from seq2seq.errors import LockedError, ModelError, StorageError

CHECKPOINTS = "checkpoints"
BEST_FILE = "best.json"
MANIFEST = "MANIFEST.json"
WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "training.json"
FORMAT_VERSION = 1

Arrays = Mapping[str, np.ndarray]


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
        temporary.mkdir(parents=True)
        (temporary / WEIGHTS).write_bytes(save(_in_order(checkpoint.weights)))
        (temporary / OPTIMIZER).write_bytes(save(_in_order(checkpoint.optimizer)))
        (temporary / STATE).write_text(json.dumps(dict(checkpoint.state)), encoding="utf-8")
        files = {path.name: _fingerprint(path) for path in sorted(temporary.iterdir())}
        manifest = {"format": FORMAT_VERSION, "step": checkpoint.step, "files": files}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        publish_folder(temporary, final)
    except OSError as err:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _unwritable(final, err) from err


def publish_folder(temporary: Path, final: Path) -> None:
    """Gives a folder beside it the name `final`, once all of it is on the disk.

    Raises:
        OSError: It cannot be done; or it was, and may not survive a power failure.
    """
    for path in [*temporary.rglob("*"), temporary]:
        _sync(path)
    temporary.rename(final)
    _sync(final.parent)


def load_checkpoint(folder: Path, step: int) -> Checkpoint:
    """The checkpoint of `step`, every file of it checked against the manifest.

    Raises:
        ModelError: It does not exist or is damaged.
    """
    path = _path(folder, step)
    try:
        files = _verified_files(path, [WEIGHTS, OPTIMIZER, STATE])
        return Checkpoint(
            step=step,
            weights=load_file(files[WEIGHTS]),
            optimizer=load_file(files[OPTIMIZER]),
            state=json.loads(files[STATE].read_text(encoding="utf-8")),
        )
    except (OSError, ValueError, SafetensorError) as err:
        raise ModelError(f"{path}: cannot be read: {err}") from err


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
    reason = "; ".join(damaged) or f"no checkpoint in {folder / CHECKPOINTS}"
    raise ModelError(f"{folder}: no usable checkpoint: {reason}")


def load_best_weights(folder: Path) -> dict[str, np.ndarray]:
    """The weights that validated best, or the newest ones if none were validated yet.

    Raises:
        ModelError: There are none, or they are damaged.
    """
    best = read_best(folder)
    if best is None:
        return dict(load_newest_checkpoint(folder)[0].weights)
    path = _path(folder, best["step"])
    try:
        return dict(load_file(_verified_files(path, [WEIGHTS])[WEIGHTS]))
    except (OSError, SafetensorError) as err:
        raise ModelError(f"{path / WEIGHTS}: cannot be read: {err}") from err


def best_weights_sha256(folder: Path) -> str:
    """The sha256 of the file with the weights that `load_best_weights` gives.

    Raises:
        ModelError: There are none, or they are damaged.
    """
    best = read_best(folder)
    if best is not None:
        return _weights_sha256(_path(folder, best["step"]), [WEIGHTS])
    for step in sorted(checkpoint_steps(folder), reverse=True):
        with suppress(ModelError):
            return _weights_sha256(_path(folder, step), [WEIGHTS, OPTIMIZER, STATE])
    raise ModelError(f"{folder}: no usable checkpoint in {folder / CHECKPOINTS}")


def write_best(folder: Path, best: Mapping[str, Any]) -> None:
    """Replaces `best.json`: `step`, and the scores of its validation.

    Raises:
        StorageError: It cannot be written; it is as before.
    """
    write_whole(folder / BEST_FILE, json.dumps(dict(best), indent=1) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Replaces the file `path`, which is there as before or complete, whatever happens.

    Raises:
        StorageError: It cannot be written; it is as before.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        temporary.write_text(text, encoding="utf-8")
        _sync(temporary)
        temporary.rename(path)
        _sync(path.parent)
    except OSError as err:
        temporary.unlink(missing_ok=True)
        raise _unwritable(path, err) from err


def read_best(folder: Path) -> dict[str, Any] | None:
    """What `best.json` says, or None before the first validation.

    Raises:
        ModelError: The file is there and says nothing usable.
    """
    path = folder / BEST_FILE
    if not path.exists():
        return None
    try:
        best = json.loads(path.read_text(encoding="utf-8"))
        return {**best, "step": int(best["step"])}
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ModelError(f"{path}: not a record of the best step: {err}") from err


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, ascending; whether they are whole is not looked at."""
    names = (path.name for path in (folder / CHECKPOINTS).glob("step-*"))
    return sorted(int(name[5:]) for name in names if name[5:].isdigit())


def set_aside_after(folder: Path, step: int) -> None:
    """Renames every checkpoint after `step` to `damaged-step-N`.

    Training that goes on from `step`, because later ones are damaged, makes those steps again;
    until then they must not count as checkpoints to be kept.
    """
    for later in checkpoint_steps(folder):
        if later > step:
            path = _path(folder, later)
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)


def prune_checkpoints(folder: Path, *, keep: int) -> None:
    """Deletes all but the newest `keep` checkpoints and the best one, and what crashes left."""
    best = read_best(folder)
    kept = set(checkpoint_steps(folder)[-keep:]) | ({best["step"]} if best else set())
    for step in set(checkpoint_steps(folder)) - kept:
        shutil.rmtree(_path(folder, step), ignore_errors=True)
    for path in (folder / CHECKPOINTS).glob(".tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder for one process that writes it; the kernel lets go if that dies.

    Raises:
        LockedError: Another process holds it.
        StorageError: The folder cannot be written to.
    """
    import fcntl  # POSIX only

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a+", encoding="utf-8")
    except OSError as err:
        raise _unwritable(folder, err) from err
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"pid {os.getpid()} on {os.uname().nodename}".encode())
        except BlockingIOError as err:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise LockedError(
                f"{folder}: another process is writing here ({owner}); wait for it or stop it"
            ) from err
        except OSError as err:  # a file system without locks, a full disk
            raise _unwritable(folder, err) from err
        yield


def _path(folder: Path, step: int) -> Path:
    return folder / CHECKPOINTS / f"step-{step}"


def _in_order(arrays: Arrays) -> dict[str, np.ndarray]:
    """`arrays` as they lie in the file: safetensors copies memory, whatever an array's strides."""
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _verified_files(path: Path, names: Sequence[str]) -> dict[str, Path]:
    """Files of a checkpoint by name, each as long and with the hash that the manifest promises."""
    promised = _promised_files(path)
    for name in names:
        file = path / name
        if not file.is_file():
            raise ModelError(f"{file}: missing; the checkpoint is damaged")
        if _fingerprint(file) != promised.get(name):
            raise ModelError(f"{file}: damaged: not the size and sha256 that {MANIFEST} says")
    return {name: path / name for name in names}


def _weights_sha256(path: Path, names: Sequence[str]) -> str:
    """That of a checkpoint of which the files `names` are whole."""
    _verified_files(path, names)
    return str(_promised_files(path)[WEIGHTS]["sha256"])


def _promised_files(path: Path) -> dict[str, Any]:
    """Size and sha256 of each file of a checkpoint by name, from its manifest."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version, step, promised = manifest["format"], manifest["step"], dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ModelError(f"{path}: not a whole checkpoint: {MANIFEST}: {err}") from err
    if version != FORMAT_VERSION:
        raise ModelError(f"{path}: format {version}, expected {FORMAT_VERSION}; retrain or convert")
    if path.name != f"step-{step}":
        raise ModelError(f"{path}: {MANIFEST} is of step {step}; give the folder its name back")
    return promised


def _unwritable(path: Path, err: OSError) -> StorageError:
    return StorageError(f"{path}: cannot be written: {err.strerror or err}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
