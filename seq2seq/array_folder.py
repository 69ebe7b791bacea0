"""Flat arrays in a folder that is there whole or not at all, and a manifest of what made them.

The manifest has a key, equal for arrays made of the same things, so that they are used again for
as long as that stays the same, and the size and sha256 of each array.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from seq2seq.durable_files import file_sha256, sync
from seq2seq.errors import Seq2SeqError, UsageError, unwritable, writing
from seq2seq.model_files import check_plain, read_record

_MANIFEST = "manifest.json"
_Counts = TypeVar("_Counts")


class ArrayFile:
    """A flat array of a folder that is written piece by piece."""

    def __init__(self, folder: Path, name: str, dtype: str) -> None:
        self._dtype = dtype
        self._digest = hashlib.sha256()
        self._stream = (folder / _file_name(name)).open("wb")
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def append(self, values: Iterable[int]) -> None:
        """Writes integers, or an array of them, behind those before."""
        if isinstance(values, np.ndarray):
            data = values.astype(self._dtype).tobytes()
        else:
            data = np.fromiter(values, self._dtype).tobytes()
        self._stream.write(data)
        self._digest.update(data)
        self._bytes += len(data)

    def finish(self) -> dict[str, Any]:
        """What the manifest says about the array, which is on the disk now."""
        _flush(self._stream)
        return {"dtype": self._dtype, "bytes": self._bytes, "sha256": self._digest.hexdigest()}


def dtype_of_ids(vocabulary_size: int) -> str:
    """The smallest type on the disk that ids below `vocabulary_size` fit."""
    return "<u2" if vocabulary_size <= 1 << 16 else "<i4"


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest: `key` with its `format`, `arrays` by name, and what else is wanted."""
    with (folder / _MANIFEST).open("w", encoding="utf-8") as stream:
        json.dump(manifest, stream, indent=1)
        _flush(stream)


def read_manifest(folder: Path, *, form: int) -> dict[str, Any]:
    """The manifest in `folder`.

    Raises:
        OSError: It cannot be read.
        ValueError: It is damaged, or of another format than `form`.
        ModelError: There is none, or it is a link, pipe or device, or too large.
    """
    manifest: dict[str, Any] = read_record(folder / _MANIFEST)
    if manifest["key"]["format"] != form:
        raise ValueError(f"format {manifest['key']['format']}, expected {form}")
    return manifest


def fingerprint(manifest: Mapping[str, Any]) -> str:
    """Equal for the manifests of equal arrays, whatever they were made of."""
    return hashlib.sha256(json.dumps(manifest["arrays"], sort_keys=True).encode()).hexdigest()


def mapped_arrays(
    folder: Path, manifest: Mapping[str, Any], names: Iterable[str]
) -> dict[str, NDArray[Any]]:
    """The arrays of `folder`, read from the disk as they are used.

    Raises:
        OSError: One cannot be read.
        ValueError: One has another size than the manifest says.
        ModelError: One is missing, or a link, pipe or device.
    """
    return {name: _mapped(folder / _file_name(name), manifest["arrays"][name]) for name in names}


def reusable(
    folder: Path,
    key: Mapping[str, Any],
    names: Sequence[str],
    counts_of: Callable[[dict[str, Any]], _Counts],
) -> _Counts | None:
    """What `folder` counts, if its arrays are those of `key` and undamaged; else None.

    Args:
        folder: There is no need that it holds anything.
        key: Of what the arrays are to be made.
        names: Of the arrays.
        counts_of: Reads `counts` of the manifest.
    """
    try:
        manifest = read_manifest(folder, form=key["format"])
        if manifest["key"] != key or not is_undamaged(folder, manifest, names):
            return None
        return counts_of(manifest["counts"])
    except (OSError, Seq2SeqError, ValueError, KeyError, TypeError):
        return None  # nothing here, or damaged: it is made anew


@contextmanager
def replacing(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """A new folder that takes the place of `folder`, whole, if the block ends well.

    What a killed call left beside it goes. One call a folder at a time.

    Args:
        folder: Made, or replaced if it has nothing but the manifest and arrays in it.
        names: Of the arrays.

    Raises:
        StorageError: `folder` cannot be written.
        UsageError: It has other things in it.
    """
    _check_replaceable(folder, names)
    prefix = f".{folder.name}.tmp-"
    temporary = folder.with_name(f"{prefix}{os.getpid()}")
    old = folder.with_name(f"{prefix}{os.getpid()}-old")
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left_over in folder.parent.iterdir():
            if left_over.name.startswith(prefix):
                shutil.rmtree(left_over)
        temporary.mkdir()
        try:
            yield temporary
            sync(temporary)
            if folder.exists():
                folder.rename(old)
            temporary.rename(folder)
            sync(folder.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _check_replaceable(folder: Path, names: Iterable[str]) -> None:
    ours = {_MANIFEST, *(_file_name(name) for name in names)}
    try:
        others = sorted({path.name for path in folder.iterdir()} - ours)
    except FileNotFoundError:
        return
    except OSError as err:
        raise unwritable(folder, err) from err
    if others:
        raise UsageError(
            f"{folder}: has {others[0]!r} in it, which is not part of an encoded corpus; "
            "expected an empty or new folder"
        )


def is_undamaged(folder: Path, manifest: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether every array has the bytes that the manifest says.

    Raises:
        OSError: One cannot be read.
        ModelError: One is missing, or a link, pipe or device.
    """
    for name in names:
        path = folder / _file_name(name)
        _check_plain(path)
        if file_sha256(path) != manifest["arrays"][name]["sha256"]:
            return False
    return True


def _check_plain(path: Path) -> None:
    check_plain(path, most_bytes=sys.maxsize)  # arrays are never in memory as a whole


def _flush(stream: IO[Any]) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _file_name(array: str) -> str:
    return f"{array}.bin"


def _mapped(path: Path, about: Mapping[str, Any]) -> NDArray[Any]:
    _check_plain(path)
    if path.stat().st_size != about["bytes"]:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, not {about['bytes']}")
    if not about["bytes"]:  # nothing that could be mapped
        return np.empty(0, about["dtype"])
    # A plain array over the mapping: slices of np.memmap itself cost several times as much.
    return np.asarray(np.memmap(path, dtype=about["dtype"], mode="r"))
