"""What the training loop must know of a task; there is one class for each task."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from seq2seq.config import AnyConfig
from seq2seq.errors import UsageError
from seq2seq.updates import Updater
from seq2seq.workers import Workers

Location = Callable[[], str]
"""Tells where the text of a batch is, for messages."""


class Validation(NamedTuple):
    """What a validation found.

    Attributes:
        scores: By name, as `metrics.jsonl` has them; `loss` is one, nats a token.
        samples: What the model says now, to be shown: texts by what they are.
    """

    scores: Mapping[str, Any]
    samples: Sequence[Mapping[str, str]]


def check_same_text(folder: Path, before: str, now: str) -> None:
    """Checks that the training in `folder` goes on with the text that it began with.

    Args:
        folder: For the message.
        before: The fingerprint of the text that it began with; "" if that is not known.
        now: That of the text it is given.

    Raises:
        UsageError: It does not.
    """
    if before not in ("", now):
        raise UsageError(
            f"{folder}: cannot be resumed with another text: a file that [data] names has changed "
            "since this training began; set it back, or train into another folder"
        )


class LocatedBatch(NamedTuple):
    """A batch of a training.

    Attributes:
        epoch: From 0.
        batch: What the updater is given.
        location: Tells where its text is, for messages.
    """

    epoch: int
    batch: Any
    location: Location


class Experiment(Protocol):
    """One task's share of a training: its data, model, updates and scores.

    Made before the model folder is touched; `prepare` then lays out what the model needs beside its
    weights, still beside a model that is overwritten, and `build` makes the model. Faults of the
    configuration and of the files it names are found before `build`; the attributes are there after
    it.

    Attributes:
        updater: Of the model.
        steps_per_epoch: Batches of an epoch.
        fingerprint: Equal for equal text to train on and to validate with.
        batches_per_update: Batches whose gradients make one update.
        validates: Whether there is anything to validate with. If not, the newest weights that are
            saved are the best.
    """

    updater: Updater
    steps_per_epoch: int
    fingerprint: str
    batches_per_update: int
    validates: bool

    @property
    def config(self) -> AnyConfig:
        """The experiment, with absolute paths."""
        ...

    def prepare(self, folder: Path, *, text: str = "") -> list[str]:
        """Writes tokenizer and encoded text, or takes what is there of a model; what to tell.

        Args:
            folder: It has either a configuration and a tokenizer, or nothing.
            text: The fingerprint of the text that the training in `folder` began with, if known.

        Raises:
            UsageError: It is to go on with another text; nothing in `folder` has changed.
        """
        ...

    def build(self, folder: Path, workers: Workers) -> None:
        """Makes the model, its weights a function of the seed, trained by `workers`."""
        ...

    def batches(self, numbers: Iterable[int]) -> AbstractContextManager[Iterator[LocatedBatch]]:
        """The batches of some numbers, counted from 0, epoch after epoch without end."""
        ...

    def validate(self) -> Validation:
        """Scores the model as it is now.

        Raises:
            NotANumberError: Its output is not a number.
        """
        ...

    def is_better(self, record: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
        """Whether the scores of a validation are better than those of the best before."""
        ...

    def headline(self, record: Mapping[str, Any]) -> str:
        """The score that decides, in words."""
        ...
