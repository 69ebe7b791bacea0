"""F5: each call that a training makes to the disk fails, or is the last one before a kill."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from commands import OTHER_BEST
from disk import Disk, Killed, installed
from rehearsal import Rehearsal, run, script
from verdicts import Verdict

from seq2seq.checkpoint import checkpoint_steps
from seq2seq.errors import StorageError


def failed_at_every_call(cases: Iterable[int], seed: int) -> Iterator[Verdict]:
    """F5: case 2 n is a failure of call n of a training, case 2 n + 1 a kill at it.

    There is no verdict on a call that is never made; there is nothing random. Afterwards all
    checkpoints must be whole, and as many of them as were there before the call; training must go
    on to the same bits. A failure must have ended in exit code 5, or have changed nothing.
    """
    del seed
    with tempfile.TemporaryDirectory() as name:
        rehearsal = Rehearsal(Path(name))
        calls = _calls(rehearsal)
        for case in cases:
            at, kill = divmod(case, 2)
            if at >= len(calls):
                return
            fault = _fault(rehearsal, Disk(rehearsal.work / "model", at=at, kill=bool(kill)))
            shutil.rmtree(rehearsal.work / "model", ignore_errors=True)
            where = f"call {at}, {calls[at]}: "
            yield Verdict(case, fault and where + fault, "killed" if kill else "failed")


def _calls(rehearsal: Rehearsal) -> list[str]:
    disk = Disk(rehearsal.work / "model")
    with script(), installed(disk):
        run(*rehearsal.training(rehearsal.work / "model"))
    shutil.rmtree(rehearsal.work / "model")
    return disk.calls


def _fault(rehearsal: Rehearsal, disk: Disk) -> str:
    folder = rehearsal.work / "model"
    try:
        with script(), installed(disk):
            ended = run(*rehearsal.training(folder))
    except Killed:
        ended = None
    if ended and ended.exit_code not in {0, StorageError.exit_code}:
        return f"exit code {ended.exit_code}: {ended.errors}"
    before = disk.calls[: disk.at]
    if any(call.startswith("rename .tmp-step-") for call in before) and not checkpoint_steps(
        folder
    ):
        return "no checkpoint is left"
    fault = rehearsal.fault_after(folder)
    # A checkpoint that could not be written cannot be the best one.
    missed = ended is not None and "training goes on" in ended.errors
    return "" if missed and fault == OTHER_BEST else fault
