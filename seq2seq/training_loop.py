"""The loop of training: from where it stands to its end, with updates, validations, checkpoints."""

import itertools
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seq2seq.checkpoint import (
    Checkpoint,
    checkpoint_steps,
    load_newest_checkpoint,
    prune_checkpoints,
    read_best,
    save_checkpoint,
    set_aside_after,
    write_best,
)
from seq2seq.errors import (
    DivergenceError,
    Interrupted,
    ModelError,
    NotANumberError,
    StorageError,
)
from seq2seq.experiment import Experiment, LocatedBatch, check_same_text
from seq2seq.model_files import BEST_FILE
from seq2seq.precision import explain_precision, resolve_precision
from seq2seq.reporting import Onlooker, Reporter
from seq2seq.runtime import memory_for
from seq2seq.schedules import learning_rate
from seq2seq.signals import signals_noted
from seq2seq.training_folder import check_room
from seq2seq.training_records import RecentUpdates, validation_record
from seq2seq.workers import Workers

_SAVES_THAT_MAY_FAIL = 2  # in a row: a disk may be full for some minutes


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        folder: The model folder.
        steps: Updates done, those of earlier runs included.
        best: What `best.json` says: step and scores, of the newest step where nothing validates;
            empty where another worker writes it.
        headline: The best score that decides, in words; empty where nothing was validated, or
            another worker did it.
        seconds: Time spent, earlier runs included.
        stopped_early: Whether scores had stopped getting better before the last update.
    """

    folder: Path
    steps: int
    best: Mapping[str, Any]
    headline: str
    seconds: float
    stopped_early: bool


@dataclass(frozen=True)
class Standing:
    """What training must know, beside weights and optimizer, to go on as if never interrupted.

    Attributes:
        best: The scores of the best validation so far, or of the newest step where nothing
            validates; empty before the first.
        rounds_without_better: Validations since then.
        plateaus: How often the plateau schedule has lowered the learning rate.
        seconds: Time spent.
        fingerprint: Of the text; see `Experiment`.
        precision: Of the products.
        validated: Whether a round of training ends here, which validation follows.
    """

    best: Mapping[str, Any]
    rounds_without_better: int = 0
    plateaus: int = 0
    seconds: float = 0.0
    fingerprint: str = ""
    precision: str = ""
    validated: bool = True


class TrainingLoop:
    """One process's share of a training."""

    def __init__(self, experiment: Experiment, folder: Path, workers: Workers) -> None:
        self._experiment = experiment
        self._updater = experiment.updater
        self._workers = workers
        self._config = experiment.config
        self._folder = folder
        training = self._config.training
        self._batches_per_update = experiment.batches_per_update
        self._share = workers.share(self._batches_per_update)
        updates = training.max_epochs * experiment.steps_per_epoch / self._batches_per_update
        self.total_steps = min(math.ceil(updates), training.max_steps or math.ceil(updates))
        self.step = 0
        self._precision = resolve_precision(self._config.precision)
        self._standing = Standing(
            best={}, fingerprint=experiment.fingerprint, precision=self._precision
        )
        self._best_saved: Mapping[str, Any] = {}
        self._begins_with_model = False  # that of --init, which nothing was learned by yet
        self._failed_saves = 0
        self._started = self._saved_at = time.monotonic()

    def restore(self) -> list[str]:
        """Takes up the newest checkpoint, if there is one; a line for each damaged newer one.

        Raises:
            UsageError: It is of another text.
            ModelError: There are checkpoints, but none can be used.
        """
        damaged = self._restore() if self._workers.is_chief else []
        if self._workers.count > 1:
            # All begin with what the chief has, be it of a checkpoint or of the seed. It is taken
            # whole before any of it is set: averages that are loaded are the weights, too, until
            # the rest says what these were.
            weights, optimizer = self._updater.weights(), self._updater.optimizer_state()
            self._updater.load(self._workers.from_chief(weights))
            self._updater.load_optimizer_state(self._workers.from_chief(optimizer))
            self.step = int(self._workers.gather([self.step])[0, 0])
            self._begins_with_model = bool(self._workers.gather([self._begins_with_model])[0, 0])
            self._follow_chief()
        return damaged

    def _follow_chief(self) -> None:
        """Takes up what the chief's validations decided."""
        standing = self._standing
        decided = self._workers.gather([standing.rounds_without_better, standing.plateaus])[0]
        rounds, plateaus = map(int, decided)
        self._standing = replace(standing, rounds_without_better=rounds, plateaus=plateaus)

    def _restore(self) -> list[str]:
        if (saved := _load(self._folder)) is None:
            return []
        checkpoint, standing, damaged = saved
        check_same_text(self._folder, standing.fingerprint, self._experiment.fingerprint)
        self._updater.load(checkpoint.weights)
        if checkpoint.optimizer:
            self._updater.load_optimizer_state(checkpoint.optimizer)
        self.step = checkpoint.step
        self._begins_with_model = not checkpoint.step
        self._standing = replace(
            standing, fingerprint=self._experiment.fingerprint, precision=self._precision
        )
        set_aside = set_aside_after(self._folder, self.step)
        best = self._standing.best
        if best and best["step"] not in checkpoint_steps(self._folder):
            # It made room for a better one, which is damaged: now any score is the best.
            self._standing = replace(self._standing, best={}, rounds_without_better=0)
        self._best_saved = self._standing.best
        if self._standing.best:
            write_best(self._folder, self._standing.best)
        else:
            (self._folder / BEST_FILE).unlink(missing_ok=True)
        notes = [
            f"warning: {line}; kept as {name}, going on from step {self.step}"
            for line, name in zip(damaged, set_aside, strict=True)
        ]
        if standing.precision not in ("", self._precision):
            notes.append(
                f"warning: products were {standing.precision} until step {self.step} and are "
                f"{self._precision} on this machine, so the result is not that of an unbroken run"
            )
        return notes

    def check_room(self) -> None:
        """Checks that there is room for a checkpoint, if another one will be made."""
        if self._workers.is_chief and not self._is_complete():
            check_room_to_save(self._experiment, self._folder)

    def reporter(self) -> Reporter | Onlooker:
        """Who tells of it."""
        if not self._workers.is_chief:
            return Onlooker()
        return Reporter(self._folder, total_steps=self.total_steps, first_step=self.step)

    def cautions(self) -> list[str]:
        """What of the configuration will not come about in so few updates."""
        training = self._config.training
        if training.warmup_steps <= self.total_steps:
            return []
        return [
            f"warning: training.warmup_steps is {training.warmup_steps:,}, but there are "
            f"{self.total_steps:,} updates: the rate never reaches training.learning_rate; lower it"
        ]

    def summary(self) -> str:
        """What is about to be trained, in one line."""
        if self._is_complete():
            return (
                f"already complete after step {self.step:,}: nothing is left to be done; raise "
                "training.max_epochs, training.max_steps or validation.patience to go on"
            )
        weights = sum(each.size for each in self._updater.weights().values())
        return (
            f"{weights:,} weights, {self._experiment.steps_per_epoch} batches an epoch, "
            f"precision {explain_precision(self._config.precision)}, "
            f"from step {self.step:,} to {self.total_steps:,}"
        )

    def finish(self, reporter: Reporter | Onlooker) -> TrainingResult:
        """Trains until the last step, until scores stop getting better, or until a signal comes."""
        with self._batches() as batches, signals_noted() as received:
            if self._begins_with_model:
                self._validate_model_of_init(reporter)
            recent = RecentUpdates()
            while not self._is_complete():
                self._update(recent, batches)
                # Whichever worker got it, all stop; one that comes later waits for the next step.
                signal_number = int(self._workers.gather([*received, 0][:1]).max())
                ends_round = self._ends_a_round()
                saves = ends_round or bool(signal_number) or self._is_time_to_save()
                if saves or self.step % self._config.training.log_every_steps == 0:
                    record = recent.record(self.step, self._seconds())
                    reporter.training(record)
                    recent = RecentUpdates()
                if ends_round:
                    self._validate(reporter, record)
                if saves:
                    if not self._experiment.validates:
                        self._standing = replace(self._standing, best=dict(record))
                    self._save(reporter, is_last=bool(signal_number) or self._is_complete())
                    self._saved_at = time.monotonic()
                    recent = RecentUpdates()
                if signal_number and not self._is_complete():
                    raise Interrupted(
                        f"stopped by signal {signal_number} after step {self.step}, which is "
                        "saved; --resume goes on from there",
                        signal_number,
                    )
        return TrainingResult(
            folder=self._folder,
            steps=self.step,
            best=self._standing.best,
            headline=self._headline() if self._experiment.validates else "",
            seconds=self._seconds(),
            stopped_early=self.step < self.total_steps,
        )

    def _batches(self) -> AbstractContextManager[Iterator[LocatedBatch]]:
        return self._experiment.batches(
            step * self._batches_per_update + place
            for step in itertools.count(self.step)
            for place in self._share
        )

    def _update(self, recent: RecentUpdates, batches: Iterator[LocatedBatch]) -> None:
        chosen = [next(batches) for _ in self._share]
        rate = learning_rate(
            self._config.training,
            self.step + 1,
            total_steps=self.total_steps,
            plateaus=self._standing.plateaus,
        )
        advice = "make batches smaller (training.batch_tokens, or batch_size and window)"
        with memory_for(f"the batches of step {self.step + 1}", advice=advice):
            sums = self._updater.update(
                [each.batch for each in chosen],
                number=self.step * self._batches_per_update + self._share.start,
                learning_rate=rate,
            )
        self.step += 1
        recent.add(self.step, chosen, sums, rate)

    def _ends_a_round(self) -> bool:
        if self.step == self.total_steps:
            return True
        if self._config.validation.every_steps:
            return self.step % self._config.validation.every_steps == 0
        batches, epoch = self.step * self._batches_per_update, self._experiment.steps_per_epoch
        return batches // epoch > (batches - self._batches_per_update) // epoch

    def _is_time_to_save(self) -> bool:
        minutes = self._config.training.checkpoint_every_minutes
        return time.monotonic() - self._saved_at > 60 * minutes

    def _is_complete(self) -> bool:
        patience = self._config.validation.patience
        return self.step >= self.total_steps or self._standing.rounds_without_better >= patience

    def _validate(self, reporter: Reporter | Onlooker, trained: Mapping[str, Any]) -> None:
        if self._workers.is_chief and self._experiment.validates:
            self._score(reporter, trained)
        self._follow_chief()

    def _validate_model_of_init(self, reporter: Reporter | Onlooker) -> None:
        """So that what is learned counts as better only where it is."""
        untrained = {"step": 0, "epoch": 0, "learning_rate": 0.0, "target_tokens_per_second": 0.0}
        self._validate(reporter, untrained)
        if self._workers.is_chief and self._standing.best:
            self._best_saved = self._standing.best
            write_best(self._folder, self._standing.best)

    def _score(self, reporter: Reporter | Onlooker, trained: Mapping[str, Any]) -> None:
        try:
            with (
                self._updater.averaged(),
                memory_for("validation", advice="free some, or train a smaller model"),
            ):
                validated = self._experiment.validate()
        except NotANumberError as err:
            raise self._diverged(str(err)) from err
        if not math.isfinite(validated.scores["loss"]):
            raise self._diverged("the validation loss is not finite")
        record = validation_record(trained, validated, self._seconds())
        standing = self._standing
        if not standing.best or self._experiment.is_better(record, standing.best):
            standing = replace(standing, best=record, rounds_without_better=0)
            note = "(best)"
        else:
            rounds = standing.rounds_without_better + 1
            lowers = rounds % self._config.training.plateau_patience == 0
            standing = replace(
                standing, rounds_without_better=rounds, plateaus=standing.plateaus + lowers
            )
            note = f"(best: {self._headline()} at step {standing.best['step']:,})"
        self._standing = standing
        reporter.validation(record, validated.samples, note)

    def _headline(self) -> str:
        best = self._standing.best
        return self._experiment.headline(best) if best else ""

    def _save(self, reporter: Reporter | Onlooker, *, is_last: bool) -> None:
        """Makes a checkpoint. Where there is no room, the next one may find some."""
        if not self._workers.is_chief:
            return
        weights, optimizer = self._updater.weights(), self._updater.optimizer_state()
        if not all(np.isfinite(each).all() for each in (*weights.values(), *optimizer.values())):
            raise self._diverged("the weights are not finite")
        state = asdict(
            replace(self._standing, seconds=self._seconds(), validated=self._ends_a_round())
        )
        try:
            self._write(Checkpoint(self.step, weights, optimizer, state))
        except StorageError as err:
            if is_last or self._failed_saves == _SAVES_THAT_MAY_FAIL:
                raise
            self._failed_saves += 1
            # What is not on the disk cannot be the best.
            self._standing = replace(self._standing, best=self._best_saved)
            reporter.note(
                f"warning: {err}; training goes on, and ends if the next checkpoints fail as well "
                f"({self._failed_saves} of {_SAVES_THAT_MAY_FAIL + 1})"
            )
        else:
            self._failed_saves = 0
            self._best_saved = self._standing.best

    def _write(self, checkpoint: Checkpoint) -> None:
        save_checkpoint(self._folder, checkpoint)
        if self._standing.best:
            write_best(self._folder, self._standing.best)
        prune_checkpoints(self._folder, keep=self._config.training.keep_checkpoints)

    def _diverged(self, what: str) -> DivergenceError:
        return DivergenceError(
            f"step {self.step}: {what}; nothing of it was saved. Resume from the last checkpoint "
            "with a lower training.learning_rate"
        )

    def _seconds(self) -> float:
        return self._standing.seconds + time.monotonic() - self._started


def trained_text(folder: Path) -> str:
    """The fingerprint of the text that the training in `folder` began with; "" if none is known.

    Raises:
        ModelError: There are checkpoints, but none can be gone on with.
    """
    saved = _load(folder)
    return saved[1].fingerprint if saved else ""


def _load(folder: Path) -> tuple[Checkpoint, Standing, list[str]] | None:
    """The newest checkpoint, where training stood then, and a line for each damaged newer one."""
    if not checkpoint_steps(folder):
        if (gone := read_best(folder)) is not None:
            raise ModelError(
                f"{folder}: the best step is {gone['step']}, and there is no checkpoint in it any "
                "more; --overwrite starts anew"
            )
        return None
    checkpoint, damaged = load_newest_checkpoint(folder)
    try:
        standing = Standing(**checkpoint.state)
        if standing.best:
            int(standing.best["step"])
    except (TypeError, KeyError, ValueError) as err:
        raise ModelError(
            f"{folder}: checkpoint of step {checkpoint.step}: its state of training is none of "
            f"this version ({type(err).__name__}: {err})"
        ) from err
    if checkpoint.step and not checkpoint.optimizer:
        raise ModelError(
            f"{folder}: cannot be resumed: it has the mean of weights, as seq2seq average makes "
            f"it, and no optimizer; --init {folder} begins a training with them in another folder"
        )
    return checkpoint, standing, damaged


def check_room_to_save(experiment: Experiment, folder: Path, *, freed: int = 0) -> None:
    """Checks that a checkpoint can be written, before hours are spent on it.

    Args:
        experiment: With its model made.
        folder: The model folder.
        freed: What will be deleted in it before, bytes.

    Raises:
        StorageError: There is no room, or no permission.
    """
    arrays = (experiment.updater.weights(), experiment.updater.optimizer_state())
    size = sum(each.nbytes for part in arrays for each in part.values())
    check_room(folder, size, kept=2 * experiment.config.training.keep_checkpoints, freed=freed)
