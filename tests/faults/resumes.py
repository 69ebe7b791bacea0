"""F2 and F3: the same training again, and resumed from wherever it can be resumed."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import difference, started, translation
from language_model_fixtures import TEXT, language_model_config
from training_fixtures import config_for, weights_and_state, write_corpus
from verdicts import Verdict, two_at_a_time

from seq2seq.config import AnyConfig
from seq2seq.training import train
from seq2seq.training_loop import TrainingLoop

STEPS = 12  # of a training that is resumed from each of them


def trained_again(cases: Iterable[int], seed: int) -> Iterator[Verdict]:
    """F2: each process that trains with one seed ends with the same bits, and not with another.

    Case 0 has another seed.
    """
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        experiment = translation(work, steps=60, seed=seed)

        def trained(case: int) -> list[Verdict]:
            folder = work / f"case-{case}"
            other = [] if case else ["--set", f"seed={seed + 1}"]
            process = started([*experiment.training(folder), *other])
            errors = process.communicate()[1].decode()
            return [Verdict(case, errors[-300:] if process.returncode else "")]

        first, *verdicts = two_at_a_time(trained, [-1, *cases])
        assert not first.fault, first.fault
        for verdict in verdicts:
            fault = verdict.fault or difference(work / f"case-{verdict.case}", work / "case--1")
            if not verdict.case:
                fault = "" if fault else "another seed gave the same weights"
            yield Verdict(verdict.case, fault)


def resumed_at_every_step(cases: Iterable[int], seed: int) -> Iterator[Verdict]:
    """F3: case k is resumed after step k // 2 + 1: a translator, or of odd k a language model.

    The trainings end epochs, accumulate gradients, change the learning rate, average weights, draw
    pieces and dropout of every kind, and validate on the way. Each is resumed in the folder as it
    was right after that step was saved.
    """
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        configs = _configs(work, seed)
        cases = list(cases)
        for kind in sorted({case % 2 for case in cases}):
            _train_with_copies(configs[kind], work / f"kind-{kind}")
        for case in cases:
            step, unbroken = case // 2 + 1, work / f"kind-{case % 2}"
            folder = work / f"kind-{case % 2}-step-{step}"
            train(configs[case % 2], folder, resume=True)
            yield Verdict(case, difference(folder, unbroken))
            shutil.rmtree(folder)


def _configs(work: Path, seed: int) -> list[AnyConfig]:
    options: dict[str, Any] = {
        "seed": seed,
        "training__max_steps": STEPS,
        "training__max_epochs": STEPS,
        "training__checkpoint_every_minutes": 1e-9,
        "training__schedule": "linear",
        "training__ema_decay": 0.9,
        "model__word_dropout": 0.1,
        "model__recurrent_dropout": 0.2,
        "model__variational_dropout": True,
        "validation__every_steps": 5,
    }
    translator = config_for(
        write_corpus(work, shortest=3, longest=3),
        precision="bfloat16",
        tokenizer__type="unigram",
        tokenizer__vocabulary_size=16,
        model__bidirectional=True,
        training__accumulate_batches=2,
        training__subword_sampling=0.3,
        **options,
    )
    text = work / "text"
    text.write_text(TEXT, encoding="utf-8", newline="")
    return [translator, language_model_config(text, **options)]


def _train_with_copies(config: AnyConfig, folder: Path) -> None:
    """Trains, and copies the model folder whenever a step is saved."""
    real = TrainingLoop._save

    def save(loop: TrainingLoop, *arguments: Any, **options: Any) -> None:
        real(loop, *arguments, **options)
        shutil.copytree(folder, folder.with_name(f"{folder.name}-step-{loop.step}"))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TrainingLoop, "_save", save)
        train(config, folder)
    assert weights_and_state(folder)
