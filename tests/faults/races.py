"""F9: trainers that start at the same time in the same model folder."""

import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from commands import started, translation
from verdicts import Verdict

from seq2seq.durable_files import locked
from seq2seq.errors import LockedError


def raced(cases: Iterable[int], seed: int) -> Iterator[Verdict]:
    """F9: as many trainers as there are cases are started at once in one folder.

    One must train and all others exit with 7, naming it; the moment it is killed, the folder must
    be free. The verdict on the one is that on the lock after its death.
    """
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        experiment = translation(work, steps=1_000_000, seed=seed)
        folder = work / "model"
        trainers = {case: started(experiment.training(folder)) for case in cases}
        try:
            winner = _last(trainers)
            for case in trainers.keys() - {winner}:
                errors = trainers[case].communicate()[1].decode()
                refused = trainers[case].returncode == LockedError.exit_code
                named = f"(pid {trainers[winner].pid} on " in errors
                yield Verdict(case, "" if refused and named else errors[-300:], "refused")
        finally:
            for trainer in trainers.values():
                trainer.kill()
                trainer.communicate()
        try:
            with locked(folder):
                yield Verdict(winner, "", "trained")
        except LockedError as err:
            yield Verdict(winner, f"killed, and still: {err}", "trained")


def _last(trainers: Mapping[int, "subprocess.Popen[bytes]"]) -> int:
    """The one that is left when all others have ended, or any if none is left."""
    running = list(trainers)
    while len(running) > 1:
        time.sleep(0.1)
        running = [case for case in running if trainers[case].poll() is None] or running[:1]
    return running[0]
