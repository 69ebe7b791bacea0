"""What training tells: a live display or plain lines on stderr, metrics.jsonl, TensorBoard."""

import errno
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tensorflow as tf
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from seq2seq.console import display_console, say
from seq2seq.durable_files import write_whole
from seq2seq.errors import writing
from seq2seq.lines import one_line
from seq2seq.model_files import METRICS_FILE, TENSORBOARD_FOLDER

# What a validation is shown by, as far as the task has it.
_SHOWN = {
    "bleu": "BLEU {:.2f}",
    "loss": "loss {:.3f}",
    "perplexity": "perplexity {:.2f}",
    "bits_per_character": "{:.3f} bits a character",
    "accuracy": "accuracy {:.1%}",
    "unknown": "{:.1%} unknown",
}


class Reporter:
    """Writes metrics, and shows progress while it is entered as a context.

    On a terminal a bar stays at the bottom; elsewhere each record is a line. Everything goes to
    stderr: stdout is for data. Metrics that cannot be written, as on a full disk, are written with
    later ones: whether training goes on is up to its checkpoints.
    """

    def __init__(self, folder: Path, *, total_steps: int, first_step: int = 0) -> None:
        """
        Args:
            folder: The model folder.
            total_steps: Updates of the whole training.
            first_step: Updates done before; later records of an earlier run are dropped, since
                they will be made again.
        """
        self._metrics = folder / METRICS_FILE
        self._total_steps = total_steps
        self._unwritten = b""
        self._warned: set[Path] = set()
        _keep_records(self._metrics, first_step)
        self._console = display_console()
        self._writer = tf.summary.create_file_writer(str(folder / TENSORBOARD_FOLDER))
        self._display = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._display.add_task("", total=total_steps, completed=first_step)

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._display.stop()
        with suppress(tf.errors.OpError):
            self._writer.close()
        if error is None and self._unwritten:
            with writing(self._metrics):
                self._append()

    def note(self, text: str) -> None:
        """Shows one line."""
        self._console.print(one_line(text), markup=False, emoji=False)

    def training(self, record: Mapping[str, Any]) -> None:
        """Records the updates since the last record; keys as in `metrics.jsonl`."""
        self._write(record)
        line = (
            f"step {record['step']:,}/{self._total_steps:,}  epoch {record['epoch']}  "
            f"loss {record['loss']:.3f}  accuracy {record['accuracy']:.1%}  "
            f"{record['target_tokens_per_second']:,.0f} tokens/s"
        )
        self._display.update(self._task, completed=record["step"], description=line)
        if not self._console.is_terminal:
            self.note(line)

    def validation(
        self, record: Mapping[str, Any], samples: Sequence[Mapping[str, str]], note: str
    ) -> None:
        """Records a validation, and shows it with samples: texts by what they are."""
        self._write(record)
        scores = [text.format(record[name]) for name, text in _SHOWN.items() if name in record]
        self.note(f"validation at step {record['step']:,}: {'  '.join(scores)}  {note}")
        for sample in samples:
            for name, text in sample.items():
                for line in text.split("\n"):
                    self.note(f"    {name:<12}{line}")
                    name = ""

    def _write(self, record: Mapping[str, Any]) -> None:
        self._unwritten += json.dumps(dict(record)).encode() + b"\n"
        try:
            self._append()
        except OSError as err:
            rest = "; what is missing is written later if it can be"
            self._warn(self._metrics, f"{err.strerror}{rest}")
        try:
            self._plot(record)
        except tf.errors.OpError as err:
            why = f"{type(err).__name__}; {METRICS_FILE} has the same curves"
            self._warn(self._metrics.with_name(TENSORBOARD_FOLDER), why)

    def _warn(self, path: Path, why: str) -> None:
        if path not in self._warned:
            self._warned.add(path)
            self.note(f"warning: {path}: cannot be written: {why}")

    def _append(self) -> None:
        """Writes what is not written yet to the metrics: all of it, or nothing."""
        with self._metrics.open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                if file.write(self._unwritten) < len(self._unwritten):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())  # before a checkpoint that has these updates behind it
            except OSError:
                file.truncate(end)
                raise
        self._unwritten = b""

    def _plot(self, record: Mapping[str, Any]) -> None:
        with self._writer.as_default(step=record["step"]):
            for name, value in record.items():
                if isinstance(value, float):
                    tf.summary.scalar(f"{name}/{record['split']}", value)
        self._writer.flush()


class Onlooker:
    """The reporter of a worker that is not the chief: shows its notes, records nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Shows one line."""
        say(text)

    def training(self, record: Mapping[str, Any]) -> None:
        """Nothing: the chief records the updates of all."""

    def validation(
        self, record: Mapping[str, Any], samples: Sequence[Mapping[str, str]], note: str
    ) -> None:
        """Nothing: the chief validates."""


def _keep_records(path: Path, last_step: int) -> None:
    """Drops the records after `last_step`, and a line that a crash left half-written.

    Of a training that begins at step 0 it drops all: the validation of that step is made again.
    """
    if not path.exists():
        return
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            if last_step and json.loads(line)["step"] <= last_step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    write_whole(path, "".join(kept))
