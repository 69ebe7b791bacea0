"""Trainings for tests: small experiments, and a scripted model that trains in no time.

The weights of the scripted model tell exactly which updates made them.
"""

import dataclasses
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from seq2seq import translation_experiment
from seq2seq.batches import Batch
from seq2seq.checkpoint import load_newest_checkpoint
from seq2seq.config import Config
from seq2seq.evaluation import Score
from seq2seq.pairs import Pair
from seq2seq.updates import UpdateSums
from seq2seq.validation import Validated

PAIRS = 60
NEVER = 1e9  # minutes between checkpoints
ALWAYS = 1e-9


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def write_corpus(folder: Path, *, shortest: int = 1, longest: int = 6) -> Path:
    """A file of `PAIRS` words over four letters, to be copied."""
    generator = random.Random(0)
    lengths = [generator.randint(shortest, longest) for _ in range(PAIRS)]
    words = ["".join(generator.choices("abcd", k=length)) for length in lengths]
    text = folder / "words"
    text.write_text("".join(f"{word}\n" for word in words))
    return text


def config_for(text: Path, **changes: Any) -> Config:
    """An experiment that copies the words in `text`; a change is `section__key=value`."""
    sections: dict[str, dict[str, Any]] = {
        "data": {
            **dict.fromkeys(["train_source", "train_target"], text),
            **dict.fromkeys(["validation_source", "validation_target"], text),
        },
        "tokenizer": {"type": "char", "vocabulary_size": 10, "byte_fallback": False},
        "model": {
            "embedding_size": 8,
            "encoder_layers": 1,
            "encoder_units": 8,
            "bidirectional": False,
            "decoder_layers": 1,
            "decoder_units": 8,
            "dropout": 0.2,
        },
        "training": {
            "schedule": "constant",
            "warmup_steps": 0,
            "batch_tokens": 64,
            "max_steps": 6,
            "log_every_steps": 1,
            "checkpoint_every_minutes": NEVER,
        },
        "validation": {"every_steps": 1000, "samples": 1},
    }
    config: dict[str, Any] = {"precision": "float32", **sections}
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            config[section][key] = value
        else:
            config[section] = value
    return Config.model_validate(config)


class Update(NamedTuple):
    """What an update was made of."""

    rows: tuple[tuple[int, ...], ...]
    number: int
    learning_rate: float


class Weight:
    """A weight of the scripted model."""

    shape = (2,)

    def __init__(self) -> None:
        self.value = np.zeros(2, np.float32)

    def numpy(self) -> np.ndarray:
        return self.value.copy()


class ScriptedModel:
    """A model of one weight, to which each update adds what it was made of."""

    def __init__(self) -> None:
        self.weight = Weight()


@dataclasses.dataclass
class Script:
    """What happens in training, by update or validation counted in this script from 1.

    Attributes:
        updates: Those made.
        events: Called at an update, after it was made.
        norms: Gradient norms other than 1.
        bleus: BLEU of each validation; the last one goes on for ever.
        losses: Validation losses, likewise.
        validations: The weights at each validation.
        seeds: Given to the model and to the updater.
        averages: The model that is saved is not what is trained, but half of it.
    """

    updates: list[Update] = dataclasses.field(default_factory=list)
    events: dict[int, Callable[[], object]] = dataclasses.field(default_factory=dict)
    norms: dict[int, float] = dataclasses.field(default_factory=dict)
    bleus: list[float] = dataclasses.field(default_factory=lambda: [10.0])
    losses: list[float] = dataclasses.field(default_factory=lambda: [2.0])
    validations: list[np.ndarray] = dataclasses.field(default_factory=list)
    seeds: list[int] = dataclasses.field(default_factory=list)
    averages: bool = False
    model: ScriptedModel = dataclasses.field(default_factory=ScriptedModel)

    def new_model(self, *_: object, seed: int, **__: object) -> ScriptedModel:
        self.seeds.append(seed)
        self.model = ScriptedModel()
        return self.model

    def new_updater(self, *_: object, seed: int, **__: object) -> "ScriptedUpdater":
        self.seeds.append(seed)
        return ScriptedUpdater(self)

    def weights(self) -> list[float]:
        return self.model.weight.value.tolist()


class ScriptedUpdater:
    """Stands in for `Updater`."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.momentum = np.zeros((), np.float32)

    def update(self, batches: Sequence[Batch], *, number: int, learning_rate: float) -> UpdateSums:
        script = self.script
        rows = tuple(tuple(batch.rows.tolist()) for batch in batches)
        script.updates.append(Update(rows, number, learning_rate))
        count = len(script.updates)
        self.momentum = np.float32(0.5 * self.momentum + rows[0][0])
        value = script.model.weight.value
        script.model.weight.value = np.float32(
            [value[0] * 0.75 + learning_rate * self.momentum, value[1] + number]
        )
        if count in script.events:
            script.events[count]()
        tokens = np.float32(sum(batch.target_lengths.sum() for batch in batches))
        norm = np.float32(script.norms.get(count, 1.0))
        return UpdateSums(2 * tokens, tokens / 4, tokens, norm)

    def averaged(self) -> AbstractContextManager[None]:
        return nullcontext()

    def weights(self) -> dict[str, np.ndarray]:
        return {"weight": self.script.model.weight.numpy() / (1 + self.script.averages)}

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        self.script.model.weight.value = weights["weight"].copy()

    def optimizer_state(self) -> dict[str, np.ndarray]:
        trained = {"trained": self.script.model.weight.numpy()} if self.script.averages else {}
        return {"momentum": np.asarray(self.momentum), **trained}

    def load_optimizer_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.momentum = np.float32(state["momentum"])
        if self.script.averages:
            self.script.model.weight.value = state["trained"].copy()


class ScriptedValidator:
    """Stands in for `Validator`."""

    def __init__(self, script: Script, pairs: Sequence[Pair]) -> None:
        self.script = script
        self.pairs = pairs

    def validate(self) -> Validated:
        script = self.script
        place = len(script.validations)
        script.validations.append(script.model.weight.numpy())
        bleu = script.bleus[min(place, len(script.bleus) - 1)]
        return Validated(
            bleu=Score("BLEU", bleu, "nrefs:1|tok:13a"),
            loss=script.losses[min(place, len(script.losses) - 1)],
            accuracy=0.5,
            translations=["bad"] * len(self.pairs),
        )


@contextmanager
def scripted(script: Script) -> Iterator[Script]:
    """Within it translators are trained by the script."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(translation_experiment, "build_model", script.new_model)
        patched.setattr(translation_experiment, "Updater", script.new_updater)
        patched.setattr(
            translation_experiment,
            "Validator",
            lambda *arguments: ScriptedValidator(script, arguments[3]),
        )
        yield script


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights_and_state(folder: Path) -> dict[str, bytes]:
    checkpoint = load_newest_checkpoint(folder)[0]
    arrays = {**checkpoint.weights, **checkpoint.optimizer}
    return {name: array.tobytes() for name, array in arrays.items()}


def losses_of(folder: Path) -> list[tuple[int, str, str]]:
    return [(each["step"], each["split"], each["loss"].hex()) for each in metrics_of(folder)]


@pytest.fixture
def script() -> Iterator[Script]:
    """The script of all training in a test; a second run goes on in it."""
    with scripted(Script()) as script:
        yield script


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_corpus(tmp_path)


def raising(error: BaseException) -> Callable[[], None]:
    def event() -> None:
        raise error

    return event


def files_of(folder: Path) -> dict[Path, bytes]:
    """What each file in a folder, at any depth, has in it."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
