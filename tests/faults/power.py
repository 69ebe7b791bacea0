"""F8: power cuts. What reached the disk is worked out from what was synced, and put in a folder."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from disk import Call, Disk, installed
from rehearsal import Rehearsal, run, script
from verdicts import Verdict

from seq2seq.checkpoint import checkpoint_steps


@dataclass
class File:
    """Its bytes as of the last time it was synced; none before."""

    synced: bytes = b""


@dataclass
class Folder:
    """What is in it by name, now and as of the last time it was synced."""

    now: "dict[str, File | Folder]" = field(default_factory=dict)
    synced: "dict[str, File | Folder]" = field(default_factory=dict)


class CutDisk(Disk):
    """Remembers what would be left of a folder if the power failed.

    POSIX promises no more than this: the bytes of a file that were there when it was synced, and
    the names in a folder that were there when it was synced. What libraries write by themselves is
    taken to be lost.
    """

    def __init__(self, folder: Path, after_call: Callable[["CutDisk"], None]) -> None:
        super().__init__(folder)
        self._top = folder
        self._root = Folder()
        self._after_call = after_call

    def call(self, call: Call, act: Callable[[], Any], half: Any = None) -> Any:
        """Does `act`, and notes what it did."""
        done = super().call(call, act, half)
        self._note(call)
        self._after_call(self)
        return done

    def put(self, folder: Path, *, names_are_kept: bool) -> None:
        """Makes `folder` what would be left now.

        Args:
            folder: To be made.
            names_are_kept: Names reach the disk by themselves, as on most file systems, only what
                is in files does not.
        """
        _put(self._root, folder, names_are_kept=names_are_kept)

    def _note(self, call: Call) -> None:
        if call.path == self._top:
            if call.name == "fsync":
                self._root.synced = dict(self._root.now)
            return
        names, name = self._folder_of(call.path).now, call.path.name
        match call.name:
            case "mkdir":
                names[name] = Folder()
            case "open":
                names.setdefault(name, File())
            case "unlink" | "rmdir":
                names.pop(name, None)
            case "rename" | "replace":
                assert call.target is not None
                self._folder_of(call.target).now[call.target.name] = names.pop(name)
            case "fsync":
                node = names[name]
                if isinstance(node, Folder):
                    node.synced = dict(node.now)
                else:
                    node.synced = call.path.read_bytes()

    def _folder_of(self, path: Path) -> Folder:
        folder = self._root
        for name in path.parent.relative_to(self._top).parts:
            found = folder.now.setdefault(name, Folder())
            assert isinstance(found, Folder)
            folder = found
        return folder


def _put(node: Folder, folder: Path, *, names_are_kept: bool) -> None:
    folder.mkdir()
    for name, each in (node.now if names_are_kept else node.synced).items():
        if isinstance(each, Folder):
            _put(each, folder / name, names_are_kept=names_are_kept)
        else:
            (folder / name).write_bytes(each.synced)


def cut_at_every_call(cases: Iterable[int], seed: int) -> Iterator[Verdict]:
    """F8: in case 2 n the power fails after call n of a training; in case 2 n + 1 names are kept.

    Nothing is random, and there is no verdict on a call that is never made. A checkpoint that was
    finished must be there and whole, and training go on to the same bits.
    """
    del seed
    wanted = set(cases)
    with tempfile.TemporaryDirectory() as name:
        rehearsal = Rehearsal(Path(name))
        states: list[tuple[int, int]] = []  # number of the case, checkpoints that were finished

        def cut(disk: CutDisk) -> None:
            for case in {2 * len(disk.calls) - 2, 2 * len(disk.calls) - 1} & wanted:
                disk.put(rehearsal.work / f"case-{case}", names_are_kept=bool(case % 2))
                synced = [call for call in disk.calls if call == "fsync checkpoints"]
                states.append((case, len(synced)))

        disk = CutDisk(rehearsal.work / "model", cut)
        with script(), installed(disk):
            run(*rehearsal.training(rehearsal.work / "model"))
        for case, finished in states:
            folder, call = rehearsal.work / f"case-{case}", disk.calls[case // 2]
            fault = "" if checkpoint_steps(folder) or not finished else "no checkpoint is left"
            fault = fault or rehearsal.fault_after(folder)
            yield Verdict(case, fault and f"after {call}: {fault}")
            shutil.rmtree(folder)
