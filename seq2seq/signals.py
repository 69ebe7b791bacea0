"""SIGINT and SIGTERM, which end what is being done in good order.

In any thread but the main one, where signals are another's business, all of this does nothing.
"""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends what is being done as Ctrl-C does."""


@contextmanager
def terminable() -> Iterator[None]:
    """Within it SIGTERM is an exception, so that outputs are left in good order."""

    def terminate(*_: object) -> None:
        raise Terminated

    with _handling({signal.SIGTERM: terminate}):
        yield


@contextmanager
def signals_noted() -> Iterator[list[int]]:
    """A list that holds the number of the first SIGINT or SIGTERM; a second one acts at once."""
    received: list[int] = []
    previous: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        _set_handlers(previous)

    with _handling({signal.SIGINT: note, signal.SIGTERM: note}) as before:
        previous.update(before)
        yield received


@contextmanager
def handlers_kept() -> Iterator[None]:
    """After it the signals have the handlers that they had before, whatever a library set."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers: dict[int, Any] = {each: signal.getsignal(each) for each in numbers}
    try:
        yield
    finally:
        _set_handlers(handlers)


@contextmanager
def _handling(handlers: Mapping[int, Callable[..., None]]) -> Iterator[dict[int, Any]]:
    """Within it the signals have these handlers; the ones before are what it yields."""
    previous = _set_handlers(handlers)
    try:
        yield previous
    finally:
        _set_handlers(previous)


def _set_handlers(handlers: Mapping[int, Any]) -> dict[int, Any]:
    """Sets them and returns those before; not in a thread that has no say in signals."""
    try:
        return {
            number: signal.signal(number, handler)
            for number, handler in handlers.items()
            if handler is not None  # one that C code set, and Python cannot set again
        }
    except ValueError:
        return {}
