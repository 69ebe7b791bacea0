"""What commands tell on stderr: messages and live progress. Data alone goes to stdout.

No work is lost because nobody listens: what stderr does not take is dropped.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from seq2seq.lines import one_line

if TYPE_CHECKING:
    from rich.console import Console

_Item = TypeVar("_Item")

_LINE_SECONDS = 30.0  # between lines of progress where there is no terminal


def say(text: str) -> None:
    """One line on stderr."""
    if sys.stderr is not None:
        print(one_line(text), file=_Dropping(sys.stderr), flush=True)


def display_console() -> "Console":
    """rich's console for what is shown on stderr."""
    from rich.console import Console  # slow to import, and not needed for --help

    file: Any = _Dropping(sys.stderr) if sys.stderr is not None else None
    return Console(file=file, stderr=True, highlight=False, soft_wrap=True)


class _Dropping:
    """A stream that drops what cannot be written: a full disk, a terminal that was closed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Advance:
    """How far a piece of work has come, and how fast.

    Attributes:
        done: Items done, those of an earlier run included.
        before: Those of the earlier run.
    """

    def __init__(
        self,
        what: str,
        *,
        unit: str,
        before: int = 0,
        total: int | None = None,
        to_stdout: bool = False,
    ) -> None:
        """
        Args:
            what: What `done` counts, such as `lines translated`.
            unit: What is told of a second, such as `sentences`.
            before: Items that an earlier run did.
            total: Items there are in all, None where nobody knows.
            to_stdout: Whether items are written to stdout as they come.
        """
        self.done = self.before = before
        self._what = what
        self._unit = unit
        self._total = total
        self._to_stdout = to_stdout
        self._started = time.monotonic()

    @property
    def per_second(self) -> float:
        """Items a second, those of an earlier run left out."""
        return (self.done - self.before) / max(time.monotonic() - self._started, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all is done at this speed; None where that cannot be told."""
        if self._total is None or self.done == self.before:
            return None
        return max(self._total - self.done, 0) / self.per_second

    def __str__(self) -> str:
        """Such as `1,200 of 5,000 lines translated, 40 sentences/s, 1:35 left`."""
        of = "" if self._total is None else f" of {self._total:,}"
        left = self.seconds_left
        rest = "" if left is None else f", {_clock(left)} left"
        return f"{self.done:,}{of} {self._what}, {self.per_second:,.0f} {self._unit}/s{rest}"

    def watch(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Passes `items` on and counts them; shows on stderr how far it has come.

        A live display on a terminal, unless the items go to a terminal, where it would be in the
        way; else a line now and again.
        """
        if _isatty(sys.stderr) and not (self._to_stdout and _isatty(sys.stdout)):
            yield from self._displayed(items)
            return
        due = time.monotonic() + _LINE_SECONDS
        for item in items:
            self.done += 1
            if time.monotonic() >= due:
                due = time.monotonic() + _LINE_SECONDS
                say(str(self))
            yield item

    def _displayed(self, items: Iterable[_Item]) -> Iterator[_Item]:
        from rich.progress import BarColumn, Progress, TextColumn  # slow, as rich's console

        columns = BarColumn(bar_width=24), TextColumn("{task.description}")
        with Progress(*columns, console=display_console(), transient=True) as display:
            task = display.add_task("", total=self._total)
            for item in items:
                self.done += 1
                display.update(task, completed=self.done, description=str(self))
                yield item


def _clock(seconds: float) -> str:
    """`0:07`, `12:34` or `1:02:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _isatty(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()
