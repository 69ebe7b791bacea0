"""Exit codes are a promise to scripts: the numbers are written out here."""

import signal

import pytest

from seq2seq import errors


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.UsageError, 2),
        (errors.DataError, 3),
        (errors.ModelError, 4),
        (errors.StorageError, 5),
        (errors.DivergenceError, 6),
        (errors.LockedError, 7),
        (errors.WorkerLostError, 5),  # a network is as a disk
    ],
)
def test_exit_codes(error, exit_code):
    assert error.exit_code == exit_code
    with pytest.raises(errors.Seq2SeqError, match=r"^what went wrong$"):
        raise error("what went wrong")


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_has_the_exit_code_of_the_shell(number, exit_code):
    assert errors.Interrupted("stopped", number).exit_code == exit_code


def test_no_two_errors_share_an_exit_code():
    errors_of_one_code = set(errors.Seq2SeqError.__subclasses__()) - {
        errors.Interrupted,
        errors.WorkerLostError,
    }
    codes = [error.exit_code for error in errors_of_one_code]
    assert len(codes) == len(set(codes))
    assert not {0, 1} & set(codes)  # success, and a fault of ours


@pytest.mark.parametrize(
    ("within", "what"), [(errors.reading, "cannot be read"), (errors.writing, "cannot be written")]
)
def test_what_the_system_refuses_is_told_with_the_file(within, what):
    for error, why in [(OSError(28, "No space left"), "No space left"), (OSError("odd"), "odd")]:
        with (
            pytest.raises(errors.StorageError, match=f"^a/b: {what}: {why}$") as caught,
            within("a/b"),
        ):
            raise error
        assert caught.value.__cause__ is error
    with pytest.raises(KeyError), within("a/b"):
        raise KeyError
