"""F10: a gradient that is not a number, from one batch."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from commands import translation
from rehearsal import run
from training_fixtures import weights_and_state
from verdicts import Verdict

from seq2seq.checkpoint import checkpoint_steps, load_checkpoint
from seq2seq.errors import DivergenceError
from seq2seq.objectives import TranslationObjective
from seq2seq.updates import Updater

STEPS = 12
LOGGED_EVERY = 3  # steps


def poisoned(cases: Iterable[int], seed: int) -> Iterator[Verdict]:
    """F10: the batch of step `case` % 12 + 1 makes every gradient NaN, or infinite in odd cases.

    Training must end with exit code 6, name the step, and do no more than the steps up to the next
    record; every array that was saved must be finite; resumed without the poison it must end as a
    training that never met it.
    """
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        experiment = translation(
            work, steps=STEPS, seed=seed, training__log_every_steps=LOGGED_EVERY
        )
        unbroken = work / "unbroken"
        first = run(*experiment.training(unbroken))
        assert first.exit_code == 0, first.errors
        for case in cases:
            folder, step = work / f"case-{case}", case % STEPS + 1
            with _poison(step, np.inf if case % 2 else np.nan) as steps:
                ended = run(*experiment.training(folder))
            fault = _fault(folder, ended.errors, step, done=len(steps))
            if ended.exit_code != DivergenceError.exit_code:
                fault = f"exit code {ended.exit_code}: {ended.errors[-300:]}"
            if not fault:
                resumed = run(*experiment.training(folder))
                fault = resumed.errors[-300:] if resumed.exit_code else ""
            # Saves cut the windows that losses are summed over, and come by the clock.
            if not fault and weights_and_state(folder) != weights_and_state(unbroken):
                fault = "the weights or the optimizer's state differ"
            yield Verdict(case, fault)


@contextmanager
def _poison(step: int, value: float) -> Iterator[list[int]]:
    """Within it the loss of one update is multiplied by `value`; gives the updates that are made.

    The factor is part of the compiled update, and 1 at all other times.
    """
    factor, made = tf.Variable(1.0, trainable=False), []
    objective, update = TranslationObjective.__call__, Updater.update

    def multiplied(self: TranslationObjective, *batch: Any, **options: Any) -> Any:
        outcome = objective(self, *batch, **options)
        return outcome._replace(loss=outcome.loss._replace(total=outcome.loss.total * factor))

    def updated(self: Updater, *arguments: Any, number: int, **options: Any) -> Any:
        made.append(number + 1)
        factor.assign(value if number + 1 == step else 1.0)
        return update(self, *arguments, number=number, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TranslationObjective, "__call__", multiplied)
        patched.setattr(Updater, "update", updated)
        yield made


def _fault(folder: Path, errors: str, step: int, *, done: int) -> str:
    if f"step {step}: the gradient is not finite" not in errors:
        return f"step {step} is not named: {errors[-300:]}"
    if done > -(-step // LOGGED_EVERY) * LOGGED_EVERY:
        return f"{done} updates were made, the poison was in {step}"
    for saved in checkpoint_steps(folder):
        checkpoint = load_checkpoint(folder, saved)
        arrays = [*checkpoint.weights.values(), *checkpoint.optimizer.values()]
        if saved >= step or not all(np.isfinite(array).all() for array in arrays):
            return f"step {saved} was saved"
    return ""
