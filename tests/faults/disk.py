"""A disk between Python and the real one: counts what is done to it, fails, dies, remembers.

Every call that changes a disk and is made through `os`, `pathlib`, `shutil` or `open` goes through
it. What libraries write by themselves (TensorBoard's events) does not.
"""

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, and nothing that is done after it has an effect."""


class Call(NamedTuple):
    """One call that changes the disk.

    Attributes:
        name: Of the function.
        path: What is changed.
        target: Its new path, if it gets one.
    """

    name: str
    path: Path
    target: Path | None = None


class Disk:
    """Counts calls, and lets one of them go wrong.

    Attributes:
        at: The call that goes wrong, counted from 0.
        calls: What was called, and on which path.
    """

    def __init__(self, folder: Path, *, at: int | None = None, kill: bool = False) -> None:
        """
        Args:
            folder: Calls on paths elsewhere are left alone.
            at: The call that goes wrong, counted from 0.
            kill: It is the last thing the process does; else it fails as on a full disk.
        """
        self.calls: list[str] = []
        self._folder = folder
        self.at = at
        self._kill = kill
        self._dead = False

    def watches(self, path: Path) -> bool:
        """Whether calls on a path are counted."""
        return path.is_relative_to(self._folder)

    def call(self, call: "Call", act: Callable[[], Any], half: Any = None) -> Any:
        """Does `act`, unless this is the call that goes wrong.

        Args:
            call: What it is.
            act: What is to be done.
            half: What is done of it when it goes wrong in the middle.
        """
        if self._dead:
            raise Killed
        self.calls.append(f"{call.name} {call.path.name}")
        if len(self.calls) - 1 != self.at:
            return act()
        if half is not None:
            half()
        if self._kill:
            self._dead = True
            raise Killed
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(call.path))

    @property
    def dead(self) -> bool:
        """Whether the process counts as killed."""
        return self._dead


def _path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


@contextmanager
def installed(disk: Disk) -> Iterator[Disk]:
    """Within it Python writes through `disk`."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("rename", "replace", "mkdir", "rmdir", "unlink", "fsync", "truncate"):
            patched.setattr(os, name, _counted(disk, name, getattr(os, name)))
        opened = _opening(disk, io.open)
        patched.setattr(io, "open", opened)
        patched.setattr(builtins, "open", opened)
        yield disk


def _counted(disk: Disk, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def counted(given: Any, *arguments: Any, **options: Any) -> Any:
        path = _path_of(given) if isinstance(given, int) else Path(given)
        if options.get("dir_fd") is not None:  # as shutil.rmtree has it
            path = _path_of(options["dir_fd"]) / path
        if not disk.watches(path):
            return real(given, *arguments, **options)
        target = Path(arguments[0]) if name in {"rename", "replace"} else None
        if name == "fsync":  # takes long, and no power fails here
            return disk.call(Call(name, path), lambda: None)
        return disk.call(Call(name, path, target), lambda: real(given, *arguments, **options))

    return counted


def _opening(disk: Disk, real: Callable[..., Any]) -> Callable[..., Any]:
    def opened(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> Any:
        writes = bool(set(mode) & set("wax+"))
        if not writes or isinstance(file, int) or not disk.watches(Path(file)):
            return real(file, mode, buffering, *rest, **options)
        raw = disk.call(Call("open", Path(file)), lambda: _File(disk, file, mode.replace("b", "")))
        if not buffering:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffer
        return io.TextIOWrapper(buffer, *rest, **options)

    return opened


class _File(io.FileIO):
    """A file whose writes the disk is asked for."""

    def __init__(self, disk: Disk, path: Any, mode: str) -> None:
        super().__init__(path, mode)
        self._disk = disk

    def write(self, data: Any) -> int:
        if self._disk.dead:  # Python flushes what is forgotten; the dead write nothing
            return len(data)
        whole = bytes(data)
        write = super().write
        call = Call("write", Path(self.name))
        written: int = self._disk.call(
            call, lambda: write(whole), half=lambda: write(whole[: len(whole) // 2])
        )
        return written
