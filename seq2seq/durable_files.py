"""Files and folders that are there whole or not at all, whatever happens, and have one writer."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from seq2seq.errors import LockedError, reading, unwritable, writing

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def write_whole(path: Path, content: bytes | str) -> None:
    """Writes a file that is there either as before or complete, even after a power failure.

    Raises:
        StorageError: It cannot be written; it is as before.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        publish_file(temporary, path)
    except OSError as err:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise unwritable(path, err) from err


def publish_file(temporary: Path, final: Path) -> None:
    """Puts a file in the place of `final`, once all of it is on the disk.

    Raises:
        OSError: It cannot be done; or it was, and may not survive a power failure.
    """
    sync(temporary)
    temporary.replace(final)
    sync(final.parent)


def publish_folder(temporary: Path, final: Path) -> None:
    """Gives a folder beside it the name `final`, once all of it is on the disk.

    Raises:
        OSError: It cannot be done; or it was, and may not survive a power failure.
    """
    for path in [*temporary.rglob("*"), temporary]:
        sync(path)
    temporary.rename(final)
    sync(final.parent)


def sync(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk.

    Raises:
        OSError: It cannot be read, or not written to the disk.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """The sha256 of a file.

    Raises:
        StorageError: It cannot be read.
    """
    with reading(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder for one process that writes it; the kernel lets go if that dies.

    Raises:
        LockedError: Another process holds it.
        StorageError: The folder cannot be written to.
    """
    with writing(folder):
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            sync(folder.parent)
        file = (folder / ".lock").open("a+", encoding="utf-8")
    with file:
        with writing(folder):
            if not lock(file):
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise LockedError(
                    f"{folder}: another process is writing here ({owner}); wait for it or stop it"
                )
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"pid {os.getpid()} on {os.uname().nodename}".encode())
        yield


def lock(file: IO[Any]) -> bool:
    """Holds an open file for this process, until it is closed; false if another one holds it.

    Where the file system has no locks, as some of networks have none, nothing is held.

    Raises:
        OSError: It cannot be held for another reason.
    """
    import fcntl  # POSIX only

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as err:
        if err.errno not in _NO_LOCKS:
            raise
    return True
