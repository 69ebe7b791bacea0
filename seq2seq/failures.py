"""What a command tells when it fails, and the exit code that it ends with."""

import os
import signal
import sys

import typer

from seq2seq.console import say
from seq2seq.errors import Interrupted, Seq2SeqError, StorageError
from seq2seq.signals import Terminated


def tell_failure(error: BaseException) -> int:
    """Tells what went wrong in one line, and what there is to know besides; the exit code."""
    drop_unwritten()
    exit_code = _tell(error)
    for note in getattr(error, "__notes__", ()):
        say(note)
    return exit_code


def _tell(error: BaseException) -> int:
    match error:
        case Interrupted():
            say(str(error))
            return error.exit_code
        case Seq2SeqError():
            say(f"error: {error}")
            return error.exit_code
        case typer.TyperException():
            say(f"error: {_usage_message(error)}")
            return error.exit_code
        case BrokenPipeError():
            return 128 + signal.SIGPIPE
        case Terminated():
            say("terminated")
            return 128 + signal.SIGTERM
        case KeyboardInterrupt():
            say("interrupted")
            return 128 + signal.SIGINT
        case OSError() if error.filename is not None:  # a folder on the way that may not be entered
            say(f"error: {error.filename}: {error.strerror}")
            return StorageError.exit_code
        case _:
            say(
                f"error: {type(error).__name__}: {error}; this should not happen: "
                "seq2seq --debug COMMAND shows where it did"
            )
            return 1


def _usage_message(error: typer.TyperException) -> str:
    message = error.format_message().strip().removesuffix(".")
    context = getattr(error, "ctx", None)
    return f"{message}; see {context.command_path} --help" if context else message


def drop_unwritten() -> None:
    """Drops what stdout and stderr cannot take: at exit Python would try again and end with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
