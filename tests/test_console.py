import errno
import io
import os
import sys

import pytest

from seq2seq import console
from seq2seq.console import Advance, say


class Clock:
    """In place of the clock: stands still until it is set."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


def taking(seconds, items, clock):
    """`items`, each of which takes so many seconds."""
    for item in items:
        clock.now += seconds
        yield item


def test_a_message_is_one_line_whatever_is_in_it(capsys):
    say("one\ntwo\x1b[31m")
    assert capsys.readouterr().err == "one two [31m\n"


def test_nothing_is_said_where_stderr_is_closed(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    say("nobody hears this")


@pytest.mark.parametrize(
    ("seconds", "done", "total", "told"),
    [
        (10.0, 0, 100, "0 of 100 lines read, 0 lines/s"),
        (10.0, 20, 100, "20 of 100 lines read, 2 lines/s, 0:40 left"),
        (100.0, 100, 15_000, "100 of 15,000 lines read, 1 lines/s, 4:08:20 left"),
        (10.0, 20, None, "20 lines read, 2 lines/s"),
        (1.0, 120, 100, "120 of 100 lines read, 120 lines/s, 0:00 left"),  # the file has grown
    ],
)
def test_speed_and_time_left(clock, seconds, done, total, told):
    advance = Advance("lines read", unit="lines", total=total)
    clock.now += seconds
    advance.done = done
    assert str(advance) == told


def test_what_an_earlier_run_did_is_not_in_the_speed(clock):
    advance = Advance("lines read", unit="lines", before=1000, total=1300)
    clock.now += 10
    advance.done += 100
    assert str(advance) == "1,100 of 1,300 lines read, 10 lines/s, 0:20 left"


def test_without_a_terminal_there_is_a_line_now_and_again(clock, capsys):
    advance = Advance("lines read", unit="lines", total=100)
    assert list(advance.watch(taking(1.0, range(70), clock))) == list(range(70))
    assert capsys.readouterr().err.splitlines() == [
        "30 of 100 lines read, 1 lines/s, 1:10 left",
        "60 of 100 lines read, 1 lines/s, 0:40 left",
    ]


def test_on_a_terminal_there_is_a_live_display(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    advance = Advance("lines read", unit="lines", total=10)
    assert list(advance.watch(taking(1.0, range(10), clock))) == list(range(10))
    assert "10 of 10 lines read, 1 lines/s, 0:00 left" in sys.stderr.getvalue()


@pytest.mark.parametrize("to_stdout", [True, False])
def test_data_on_the_same_terminal_are_not_disturbed(clock, monkeypatch, to_stdout):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(sys, "stdout", Terminal())
    advance = Advance("lines read", unit="lines", total=10, to_stdout=to_stdout)
    assert list(advance.watch(taking(1.0, range(10), clock))) == list(range(10))
    assert ("10 of 10 lines read" in sys.stderr.getvalue()) == (not to_stdout)


class Closed(io.StringIO):
    """A stream that can no longer be written, as on a full disk."""

    def write(self, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("terminal", [False, True])
def test_what_stderr_cannot_take_is_dropped_and_the_work_goes_on(monkeypatch, clock, terminal):
    stream = Closed()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    say("nobody hears this")
    assert list(Advance("items", unit="items").watch(taking(40, [1, 2], clock))) == [1, 2]
