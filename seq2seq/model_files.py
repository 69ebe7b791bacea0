"""Files of a model folder: looked at before they are read, and written whole.

A folder may come from anybody, and the power may fail at any moment.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from seq2seq.errors import ModelError, unwritable

METRICS_FILE = "metrics.jsonl"
TOKENIZER_FOLDER = "tokenizer"

LARGEST_RECORD = 1 << 20
"""Bytes of a file that people can read: configurations, manifests, scores."""
LARGEST_TOKENIZER = 1 << 28
"""Bytes of a tokenizer's file: ten times what a million words need."""


def check_plain(path: Path, *, most_bytes: int) -> None:
    """Refuses what is no file of the folder itself, or would fill the memory.

    Raises:
        ModelError: It is missing, a link, pipe or device, or larger than `most_bytes`.
    """
    try:
        status = path.lstat()
    except OSError as err:
        raise ModelError(f"{path}: cannot be read: {err.strerror}") from err
    if not stat.S_ISREG(status.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no file"
        raise ModelError(f"{path}: is {what}; expected a file in the model folder itself")
    if status.st_size > most_bytes:
        raise ModelError(
            f"{path}: has {status.st_size:,} bytes, expected at most {most_bytes:,}: damaged, or "
            "no such file"
        )


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Within it errors of a model are told with its folder."""
    try:
        yield
    except ModelError as err:
        raise ModelError(f"{folder}: {err}") from err


def read_record(path: Path) -> Any:
    """What a file of JSON says.

    Raises:
        ModelError: As for `check_plain`.
        OSError: It cannot be read.
        ValueError: It is no JSON.
    """
    check_plain(path, most_bytes=LARGEST_RECORD)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as err:
        raise ValueError("brackets nested too deep") from err


def write_whole(path: Path, content: bytes | str) -> None:
    """Writes a file that is there either as before or complete, even after a power failure.

    Raises:
        StorageError: It cannot be written; it is as before.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as err:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise unwritable(path, err) from err


def publish_folder(temporary: Path, final: Path) -> None:
    """Gives a folder beside it the name `final`, once all of it is on the disk.

    Raises:
        OSError: It cannot be done; or it was, and may not survive a power failure.
    """
    for path in [*temporary.rglob("*"), temporary]:
        sync(path)
    temporary.rename(final)
    sync(final.parent)


def sync(path: Path) -> None:
    """Returns when a file, or which names are in a folder, is on the disk.

    Raises:
        OSError: It cannot be read, or not written to the disk.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
