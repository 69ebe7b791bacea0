"""Files that are written whole, and a lock that ends with its process."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from limited_files import largest_file

from seq2seq import durable_files
from seq2seq.durable_files import file_sha256, locked, write_whole
from seq2seq.errors import LockedError, StorageError


def test_content_and_name_are_synced_and_nothing_is_left_of_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(tmp_path / "file", b"one")
    assert synced == [".tmp-file", tmp_path.name]

    def failing(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StorageError, match="file: cannot be written: No space left on device"):
        write_whole(tmp_path / "file", b"two")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"one"


def test_a_file_has_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\1\0\0\0\2\1\0\0")
    assert file_sha256(tmp_path / "file") == sha256(b"\1\0\0\0\2\1\0\0").hexdigest()
    with pytest.raises(StorageError, match="none: cannot be read: No such file"):
        file_sha256(tmp_path / "none")


HOLD = """
import sys, time
from pathlib import Path
from seq2seq.durable_files import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_until_the_first_is_killed(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    message = rf"another process is writing here \(pid {holder.pid} on {os.uname().nodename}\)"
    with pytest.raises(LockedError, match=message) as caught, locked(tmp_path):
        pytest.fail("two trainers")
    assert caught.value.exit_code == 7
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()
        assert str(holder.pid) not in (tmp_path / ".lock").read_text()


def test_the_lock_holds_within_a_process_and_ends_with_an_exception(tmp_path: Path) -> None:
    own = f"pid {os.getpid()} "
    with locked(tmp_path), pytest.raises(LockedError, match=own), locked(tmp_path):
        pytest.fail("two trainers")
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    message = "model: cannot be written: Not a directory"
    with pytest.raises(StorageError, match=message), locked(tmp_path / "file" / "model"):
        pytest.fail("no folder")


def test_a_full_disk_when_locking_is_a_storage_error(tmp_path: Path) -> None:
    message = "cannot be written: File too large"
    with largest_file(0), pytest.raises(StorageError, match=message), locked(tmp_path):
        pytest.fail("not locked")
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path), locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_a_lock_that_fails_otherwise_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: object, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(StorageError, match="cannot be written: Input/output"), locked(tmp_path):
        pytest.fail("not locked")


def test_a_folder_that_is_there_is_locked_whatever_its_parent_is(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(durable_files, "sync", refused)
    with locked(tmp_path):
        assert (tmp_path / ".lock").exists()
