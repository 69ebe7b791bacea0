"""Signals: noted once, then as before; SIGTERM as an exception; nothing outside the main thread."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

import pytest

from seq2seq.signals import Terminated, handlers_kept, signals_noted, terminable

NUMBERS = [signal.SIGINT, signal.SIGTERM]


def send(number: int) -> None:
    """The signal to this process; returns when its handler has run, if that does not raise."""
    os.kill(os.getpid(), number)
    time.sleep(0.001)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in NUMBERS]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_is_noted_and_nothing_else_happens(number: int) -> None:
    before = handlers()
    with signals_noted() as received:
        assert received == []
        send(number)
        assert received == [number]
        assert handlers() == before  # so the next one acts at once
    assert handlers() == before


def test_a_second_signal_acts_at_once() -> None:
    with signals_noted() as received:
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert received == [signal.SIGTERM]


def test_sigterm_is_an_exception_that_ends_as_ctrl_c_does() -> None:
    before = handlers()
    with pytest.raises(Terminated) as caught, terminable():
        send(signal.SIGTERM)
    assert isinstance(caught.value, KeyboardInterrupt)
    assert handlers() == before


def fail_within(context: AbstractContextManager[object], before: list[object]) -> None:
    with context:
        assert handlers() != before
        raise ValueError("mine")


@pytest.mark.parametrize("context", [signals_noted, terminable])
def test_an_error_within_leaves_the_handlers_as_they_were(
    context: Callable[[], AbstractContextManager[object]],
) -> None:
    before = handlers()
    with pytest.raises(ValueError, match="mine"):
        fail_within(context(), before)
    assert handlers() == before


@pytest.mark.parametrize("context", [signals_noted, terminable])
def test_signals_are_left_alone_in_another_thread(
    context: Callable[[], AbstractContextManager[object]],
) -> None:
    before, seen = handlers(), []

    def run() -> None:
        with context():
            seen.append(handlers())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_handlers_that_a_library_sets_are_set_back() -> None:
    before = handlers()
    with suppress(KeyError), handlers_kept():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyError
    assert handlers() == before
