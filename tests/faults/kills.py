"""F1 and F4: trainings that are ended from outside, again and again, by SIGKILL or SIGTERM.

A case is a training, killed and resumed until it has been killed so many times, and then let run to
its end. Where it ends before, it starts anew.
"""

import json
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from commands import SAVE_INTERVAL, Experiment, difference, language_model, started, translation
from verdicts import Verdict, drawing, two_at_a_time

from seq2seq.checkpoint import checkpoint_steps, load_newest_checkpoint
from seq2seq.errors import ModelError
from seq2seq.model_files import CHECKPOINTS_FOLDER

KILLS = 10  # of a case
AIMED = {2, 5, 8}  # those in the middle of a save
STEPS = 400
LONGEST_STEP = 5.0  # seconds, on a busy machine; the first one compiles and is followed by a save
MOST_SECONDS_TO_STOP = 30.0


class Unbroken(NamedTuple):
    """A training that nothing came between.

    Attributes:
        experiment: What was trained.
        folder: The model folder.
        seconds: From the start of the process to its end.
    """

    experiment: Experiment
    folder: Path
    seconds: float


def killed_at_random_times(cases: Iterable[int], seed: int) -> Iterator[Verdict]:
    """F1: SIGKILL at random times of the run, three of ten in the middle of a save.

    Each verdict is on one kill: the newest checkpoint must be whole, what is to be done again no
    more than the save interval, and the training it belongs to must end with the bits of the
    unbroken one: weights, optimizer, and the loss of every step.
    """
    yield from _ended_again_and_again(cases, seed, signal.SIGKILL)


def terminated_at_random_times(cases: Iterable[int], seed: int) -> Iterator[Verdict]:
    """F4: SIGTERM at random times of the run.

    It must exit with 143 (what a shell shows, too, of a process that the signal ended while it was
    importing) within 30 s, the last finished step saved, and the training end as an unbroken one.
    """
    yield from _ended_again_and_again(cases, seed, signal.SIGTERM)


def _ended_again_and_again(
    cases: Iterable[int], seed: int, number: signal.Signals
) -> Iterator[Verdict]:
    cases = list(cases)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        runs = [_unbroken(translation(work, steps=STEPS), work / "unbroken")]
        if any(case % 3 == 2 for case in cases):
            runs.append(_unbroken(language_model(work, steps=STEPS), work / "unbroken-text"))

        def ended(case: int) -> list[Verdict]:
            draw = drawing(number.name, seed=seed, case=case)
            unbroken = runs[1] if case % 3 == 2 else runs[0]
            chain = _Chain(case, unbroken, work / f"case-{case}", draw, number)
            return chain.run()

        yield from two_at_a_time(ended, cases)


def _unbroken(experiment: Experiment, folder: Path) -> Unbroken:
    begin = time.monotonic()
    process = started(experiment.training(folder))
    errors = process.communicate()[1].decode()
    assert process.returncode == 0, errors
    return Unbroken(experiment, folder, time.monotonic() - begin)


class _Chain:
    """A training that is ended and resumed."""

    def __init__(
        self,
        case: int,
        unbroken: Unbroken,
        folder: Path,
        draw: random.Random,
        number: signal.Signals,
    ) -> None:
        self._case = case
        self._unbroken = unbroken
        self._folder = folder
        self._draw = draw
        self._number = number
        self._lives = 0
        self._waiting: list[Verdict] = []  # for the end of the training they belong to
        self._verdicts: list[Verdict] = []

    def run(self) -> list[Verdict]:
        """A verdict for each of `KILLS` signals."""
        while len(self._waiting) + len(self._verdicts) < KILLS:
            self._end_once()
        while self._waiting:
            process = self._start()
            errors = process.communicate()[1].decode()
            self._finish(process.returncode, errors)
        return self._verdicts

    @property
    def _life(self) -> Path:
        return self._folder.with_name(f"{self._folder.name}-{self._lives}")

    def _start(self) -> "subprocess.Popen[bytes]":
        return started(self._unbroken.experiment.training(self._life))

    def _end_once(self) -> None:
        kill = len(self._waiting) + len(self._verdicts)
        process = self._start()
        if self._number == signal.SIGKILL and kill in AIMED:
            _wait_for_a_save(self._life, process, after=self._draw.randint(1, 3))
        else:
            with suppress(subprocess.TimeoutExpired):
                process.wait(self._draw.uniform(0, self._unbroken.seconds))
        sent = time.monotonic()
        process.send_signal(self._number)
        errors = process.communicate()[1].decode()
        seconds = time.monotonic() - sent
        if process.returncode == 0:  # it was faster
            self._finish(process.returncode, errors)
            return
        if self._number == signal.SIGKILL:
            fault = self._fault_after_kill(process.returncode, errors)
        else:
            fault = self._fault_after_term(process.returncode, errors, seconds)
        self._waiting.append(Verdict(self._case, fault, _where(self._life, process.pid, errors)))

    def _fault_after_kill(self, returncode: int, errors: str) -> str:
        if returncode != -signal.SIGKILL:
            return f"exit code {returncode}: {errors[-300:]}"
        if not checkpoint_steps(self._life):
            return ""
        try:
            checkpoint, damaged = load_newest_checkpoint(self._life)
        except ModelError as err:
            return str(err)
        if damaged:
            return f"damaged: {damaged}"
        lost = [record["seconds"] for record in _records(self._life)][-1:]
        again = lost[0] - checkpoint.state["seconds"] if lost else 0.0
        if again > SAVE_INTERVAL + LONGEST_STEP:
            return f"{again:.1f} s of work are to be done again"
        return ""

    def _fault_after_term(self, returncode: int, errors: str, seconds: float) -> str:
        if returncode not in {128 + signal.SIGTERM, -signal.SIGTERM}:
            return f"exit code {returncode}: {errors[-300:]}"
        if seconds > MOST_SECONDS_TO_STOP:
            return f"took {seconds:.0f} s to stop"
        saved = max(checkpoint_steps(self._life), default=0)
        done = max((record["step"] for record in _records(self._life)), default=0)
        if returncode > 0 and (
            saved != done or f"after step {saved}, which is saved" not in errors
        ):
            return f"step {done} was done, step {saved} is saved: {errors[-300:]}"
        return ""

    def _finish(self, returncode: int, errors: str) -> None:
        """Judges all signals of a training by how it ended; the next one is another training."""
        fault = f"exit code {returncode}: {errors[-300:]}" if returncode else ""
        fault = fault or difference(self._life, self._unbroken.folder)
        self._verdicts += [each._replace(fault=each.fault or fault) for each in self._waiting]
        self._waiting.clear()
        self._lives += 1


def _wait_for_a_save(folder: Path, process: "subprocess.Popen[bytes]", *, after: int) -> None:
    """Waits until some more checkpoints are there, and then for the middle of writing one."""
    first = max(checkpoint_steps(folder), default=0)
    seen: set[int] = set()
    while process.poll() is None:
        seen |= {step for step in checkpoint_steps(folder) if step > first}
        if len(seen) >= after and _half_written(folder, process.pid):
            return
        time.sleep(0.0005)


def _half_written(folder: Path, process_id: int) -> bool:
    """Whether there is a checkpoint that the process has not finished; others may have left one."""
    return any((folder / CHECKPOINTS_FOLDER).glob(f".tmp-*-{process_id}"))


def _where(folder: Path, process_id: int, errors: str) -> str:
    if _half_written(folder, process_id):
        return "in a save"
    return "in training" if "weights, " in errors else "at the start"


def _records(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of `metrics.jsonl`."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]
