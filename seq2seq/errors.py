"""The errors that users can cause, and the exit code of each.

Every message is one line: where (`file:line:` or `file: section.key:`), what is wrong, what was
expected and what to do. The command line prints it after `error: ` and exits with `exit_code`;
a traceback is shown for bugs only. Library users catch `Seq2SeqError`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral


class Seq2SeqError(Exception):
    """Base of every error this package raises on purpose; itself never raised."""

    exit_code = 1


class UsageError(Seq2SeqError):
    """An option or a configuration that cannot be used."""

    exit_code = 2


class DataError(Seq2SeqError):
    """A corpus or an input text that is not what it must be."""

    exit_code = 3


class ModelError(Seq2SeqError):
    """A model folder, tokenizer, checkpoint or journal: missing, damaged or of another kind."""

    exit_code = 4


class NotANumberError(ModelError, FloatingPointError):
    """A model whose output is not a number: its weights are damaged."""


class StorageError(Seq2SeqError):
    """A file or folder that cannot be read or written: missing, no permission, disk full."""

    exit_code = 5


class DivergenceError(Seq2SeqError):
    """Training whose loss or gradient is no longer finite."""

    exit_code = 6


class LockedError(Seq2SeqError):
    """A model folder or an output that another process is writing."""

    exit_code = 7


class WorkerLostError(Seq2SeqError):
    """Training of several processes of which one is gone."""

    exit_code = 5


class Interrupted(Seq2SeqError):
    """Work that a signal ended in good order; `exit_code` is 128 plus the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def check_whole_number(name: str, value: object, *, at_least: int) -> None:
    """Checks a number that a user gave.

    Raises:
        UsageError: `value` is no whole number, or below `at_least`.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < at_least:
        raise UsageError(f"{name}: got {value!r}, expected a whole number of {at_least} or more")


@contextmanager
def reading(file: object) -> Iterator[None]:
    """Within it an OSError is the error for a file that the system does not let us read.

    Raises:
        StorageError: It happened.
    """
    try:
        yield
    except OSError as err:
        raise unreadable(file, err) from err


@contextmanager
def writing(file: object) -> Iterator[None]:
    """Within it an OSError is the error for a file or folder that we may not, or cannot, write.

    Raises:
        StorageError: It happened.
    """
    try:
        yield
    except OSError as err:
        raise unwritable(file, err) from err


def unreadable(file: object, err: OSError) -> StorageError:
    """The error for a file that the system does not let us read."""
    return StorageError(f"{file}: cannot be read: {err.strerror or err}")


def unwritable(file: object, err: OSError) -> StorageError:
    """The error for a file or folder that the system does not let us write."""
    return StorageError(f"{file}: cannot be written: {err.strerror or err}")
