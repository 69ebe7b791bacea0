"""Files of a model folder: what they are called, and looked at before they are read.

A folder may come from anybody.
"""

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seq2seq.errors import ModelError

CONFIG_FILE = "config.toml"
TOKENIZER_FOLDER = "tokenizer"
ENCODED_FOLDER = "encoded"
CHECKPOINTS_FOLDER = "checkpoints"
BEST_FILE = "best.json"
METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
WORKERS_FOLDER = "workers"
"""What workers other than the chief keep."""

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
def folder_in_errors(folder: Path) -> Iterator[None]:
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
