"""F6: file systems without space. Needs to mount one, which is for root."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rehearsal import Rehearsal, run, script
from verdicts import Verdict, drawing

from seq2seq.errors import StorageError

SIZE = 8 << 20  # bytes of the file system
MOST_LEFT = 100_000  # bytes that are left on it; a training of the rehearsal takes about as many


class NoFileSystem(Exception):
    """None can be mounted here."""


@contextmanager
def file_system() -> Iterator[Path]:
    """A file system of `SIZE` bytes, in memory.

    Raises:
        NoFileSystem: It cannot be mounted; the message says why.
    """
    with tempfile.TemporaryDirectory() as name:
        options = ["-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", name]
        mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
        if mounted.returncode:
            raise NoFileSystem(mounted.stderr.strip())
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


def filled(cases: Iterable[int], seed: int) -> Iterator[Verdict]:
    """F6: the disk is full but for a random number of bytes when a training starts, or goes on.

    It must end with exit code 5 and leave whole checkpoints, or not need more; with space again it
    must go on to the same bits. Even cases start with nothing, so that tokenizer, encoded text and
    configuration come first; odd ones go on after the first checkpoint.
    """
    with tempfile.TemporaryDirectory() as name, file_system() as disk:
        rehearsal = Rehearsal(Path(name))
        for case in cases:
            draw = drawing("full disk", seed=seed, case=case)
            folder = disk / f"case-{case}"
            if case % 2:
                with script():
                    run(*rehearsal.training(folder), "--set", "training.max_steps=2")
            left = draw.randrange(MOST_LEFT)
            with _ballast(disk, left=left), script():
                ended = run(*rehearsal.training(folder))
            fault = f"exit code {ended.exit_code}: {ended.errors[-500:]}"
            if ended.exit_code in {0, StorageError.exit_code}:
                fault = rehearsal.fault_after(folder)
            shutil.rmtree(folder, ignore_errors=True)
            yield Verdict(
                case, fault and f"{left} bytes left: {fault}", f"exit code {ended.exit_code}"
            )


@contextmanager
def _ballast(disk: Path, *, left: int) -> Iterator[None]:
    """Fills the file system within the block."""
    path = disk / "ballast"
    status = os.statvfs(disk)
    path.write_bytes(bytes(max(status.f_bavail * status.f_frsize - left, 0)))
    try:
        yield
    finally:
        path.unlink()
