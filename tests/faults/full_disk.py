"""F6: file systems without space. Needs to mount one, which is for root."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from model_fixtures import SENTENCES, tiny_config, write_model_folder
from rehearsal import Command, Rehearsal, run, script
from verdicts import Verdict, drawing

from seq2seq.errors import StorageError
from seq2seq.translator import Translator

SIZE = 8 << 20  # bytes of the file system


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
    """F6: the disk is full but for a random number of bytes when a command starts.

    It must end with exit code 5 and leave whole checkpoints, or not need more; with space again it
    must go on to the same bits. Of three cases one is a training that starts with nothing, so that
    tokenizer, encoded text and configuration come first, one a training that goes on after its
    first checkpoint, and one a translation.
    """
    with tempfile.TemporaryDirectory() as name, file_system() as disk:
        works = [_Training(Path(name)), _Resumed(Path(name)), _Translation(Path(name))]
        for case in cases:
            draw = drawing("full disk", seed=seed, case=case)
            work, folder = works[case % len(works)], disk / f"case-{case}"
            work.before(folder)
            left = draw.randrange(work.most_left)
            with _ballast(disk, left=left):
                ended = work.run(folder)
            fault = f"exit code {ended.exit_code}: {ended.errors[-500:]}"
            if ended.exit_code in {0, StorageError.exit_code}:
                fault = work.fault_after(folder)
            shutil.rmtree(folder)
            fault = fault and f"{left} bytes left: {fault}"
            yield Verdict(case, fault, f"{work.name} with exit code {ended.exit_code}")


class _Training:
    """A rehearsal from its start."""

    name, most_left = "trainings", 100_000

    def __init__(self, work: Path) -> None:
        self._rehearsal = Rehearsal(work)

    def before(self, folder: Path) -> None:
        folder.mkdir()

    def run(self, folder: Path) -> Command:
        with script():
            return run(*self._rehearsal.training(folder))

    def fault_after(self, folder: Path) -> str:
        return self._rehearsal.fault_after(folder)


class _Resumed(_Training):
    """A rehearsal from its first checkpoint on."""

    name, most_left = "resumed trainings", 50_000

    def before(self, folder: Path) -> None:
        with script():
            run(*self._rehearsal.training(folder), "--set", "training.max_steps=2")


class _Translation:
    """Of a file to a file."""

    name, most_left = "translations", 20_000

    def __init__(self, work: Path) -> None:
        self._work = work / "translation"
        self._work.mkdir()
        write_model_folder(self._work / "model", tiny_config(self._work))
        self._translator = Translator.load(self._work / "model")
        (self._work / "source").write_text("".join(f"{each}\n" for each in SENTENCES * 50))
        first = self.run(self._work)
        assert first.exit_code == 0, first.errors

    def before(self, folder: Path) -> None:
        folder.mkdir()

    def run(self, folder: Path) -> Command:
        arguments = ["translate", str(self._work / "model"), str(self._work / "source"), "-o"]
        options = ["--resume", "--batch-size", "8", "--beam-size", "1"]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Translator, "load", lambda *_, **__: self._translator)
            return run(*arguments, str(folder / "output"), *options)

    def fault_after(self, folder: Path) -> str:
        if not (folder / "output").exists():
            ended = self.run(folder)
            if ended.exit_code:
                return f"cannot be resumed: {ended.errors}"
        same = (folder / "output").read_bytes() == (self._work / "output").read_bytes()
        return "" if same else "the output differs"


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
