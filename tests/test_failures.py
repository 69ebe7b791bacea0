"""What ends a command: one line, and an exit code that says which kind it is."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from cli_fixtures import error_of, output_of

from seq2seq.cli import main
from seq2seq.errors import (
    DataError,
    DivergenceError,
    Interrupted,
    LockedError,
    ModelError,
    StorageError,
    UsageError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (DataError("x"), 3),
        (ModelError("x"), 4),
        (StorageError("x"), 5),
        (DivergenceError("x"), 6),
        (LockedError("x"), 7),
    ],
)
def test_each_error_is_one_line_with_its_exit_code(error, code, monkeypatch, capsysbinary):
    monkeypatch.setattr("seq2seq.inspection.describe", _raising(error))
    assert main(["inspect", "m"]) == code
    assert error_of(capsysbinary) == "error: x"


def test_a_full_disk_behind_stderr_changes_no_exit_code():
    program = """
import sys
from seq2seq import cli
from seq2seq.console import say
from seq2seq.runtime import quiet_stderr

@cli.app.command()
def tell():
    say("something")
    with quiet_stderr():
        print("done")

sys.exit(cli.main(["tell"]))
"""
    with Path("/dev/full").open("wb", buffering=0) as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, check=False
        )
    assert (done.returncode, done.stdout) == (0, b"done\n")


def _raising(error):
    def fail(*_):
        raise error

    return fail


def test_an_interruption_that_was_saved_is_no_error(monkeypatch, capsysbinary):
    monkeypatch.setattr("seq2seq.inspection.describe", _raising(Interrupted("saved step 3", 15)))
    assert main(["inspect", "m"]) == 128 + 15
    assert error_of(capsysbinary) == "saved step 3"


def test_an_unexpected_error_is_one_line_that_tells_how_to_see_more(monkeypatch, capsysbinary):
    monkeypatch.setattr("seq2seq.inspection.describe", _raising(KeyError("a\nb\u2028c")))
    assert main(["inspect", "m"]) == 1
    line = error_of(capsysbinary)
    assert line.startswith("error: KeyError: ")
    assert line.endswith("this should not happen: seq2seq --debug COMMAND shows where it did")


def test_debug_shows_the_traceback_and_then_the_line(monkeypatch, capsysbinary):
    monkeypatch.setattr("seq2seq.inspection.describe", _raising(ModelError("x")))
    assert main(["--debug", "inspect", "m"]) == 4
    lines = output_of(capsysbinary)[1].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2:] == ["seq2seq.errors.ModelError: x", "error: x"]


def test_an_interrupt_is_exit_code_130(monkeypatch, capsysbinary):
    monkeypatch.setattr("seq2seq.inspection.describe", _raising(KeyboardInterrupt()))
    assert main(["inspect", "m"]) == 130
    assert error_of(capsysbinary) == "interrupted"


def test_a_folder_that_may_not_be_entered_is_exit_code_5(monkeypatch, capsysbinary):
    def denied(folder):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr("seq2seq.inspection.describe", denied)
    assert main(["inspect", "private/model"]) == 5
    assert error_of(capsysbinary) == "error: private/model: Permission denied"
