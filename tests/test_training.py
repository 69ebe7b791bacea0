"""Training: what ends it, what it leaves, and that an interruption changes nothing.

Most tests run the loop on a scripted model, whose weights tell exactly which updates made them;
the last ones train real models.
"""

import dataclasses
import json
import math
import os
import random
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from training_fixtures import (
    ALWAYS,
    NEVER,
    PAIRS,
    Killed,
    Script,
    ScriptedValidator,
    config_for,
    losses_of,
    metrics_of,
    scripted,
    weights_and_state,
    write_corpus,
)

from seq2seq import durable_files, training, training_folder
from seq2seq.averaging import average
from seq2seq.checkpoint import (
    checkpoint_steps,
    load_best_weights,
    load_checkpoint,
    load_newest_checkpoint,
    read_best,
    save_checkpoint,
    validated_steps,
)
from seq2seq.config import Config, LanguageModelConfig
from seq2seq.config_file import load_model_config
from seq2seq.durable_files import locked
from seq2seq.errors import (
    DataError,
    DivergenceError,
    Interrupted,
    LockedError,
    ModelError,
    NotANumberError,
    StorageError,
    UsageError,
)
from seq2seq.tokenizer import TokenizerPair
from seq2seq.training import TrainingResult, train
from seq2seq.translation_experiment import TranslationExperiment
from seq2seq.translator import Translator
from seq2seq.updates import Updater
from seq2seq.validation import Validated
from seq2seq.worker_place import Place
from seq2seq.workers import Workers

pytestmark = pytest.mark.usefixtures("no_wait_for_the_disk")


@pytest.fixture
def script() -> Iterator[Script]:
    """The script of all training in a test; a second run goes on in it."""
    with scripted(Script()) as script:
        yield script


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_corpus(tmp_path)


@pytest.fixture
def other_text(tmp_path: Path) -> Path:
    """A text with other characters, for another tokenizer."""
    path = tmp_path / "other"
    path.write_text("dcba\nabcd\ndddd\n")
    return path


def raising(error: BaseException) -> Callable[[], None]:
    def event() -> None:
        raise error

    return event


def signalling(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def steps_an_epoch(script: Script, text: Path, folder: Path) -> int:
    """Batches of one epoch, found by training it; the script is as new afterwards."""
    train(config_for(text, training__max_steps=None, training__max_epochs=1), folder)
    count = len(script.updates)
    script.updates.clear()
    script.validations.clear()
    return count


# How long it lasts


def test_training_sees_every_pair_once_an_epoch(script: Script, text: Path, tmp_path: Path) -> None:
    config = config_for(text, training__max_steps=None, training__max_epochs=3)
    result = train(config, tmp_path / "model")
    assert result.steps == len(script.updates)
    assert result.steps % 3 == 0
    epochs = np.array_split(np.arange(result.steps), 3)
    orders = [[row for i in epoch for row in script.updates[i].rows[0]] for epoch in epochs]
    assert [sorted(order) for order in orders] == [list(range(PAIRS))] * 3
    assert orders[0] != orders[1] != orders[2]
    assert [update.number for update in script.updates] == list(range(result.steps))


@pytest.mark.parametrize("accumulate", [2, 3, 100])
def test_an_update_of_several_batches_takes_the_ones_that_follow(
    accumulate: int, script: Script, text: Path, tmp_path: Path
) -> None:
    epoch = steps_an_epoch(script, text, tmp_path / "epoch")
    train(config_for(text, training__max_steps=2 * epoch), tmp_path / "one")
    one = [update.rows[0] for update in script.updates]
    script.updates.clear()
    config = config_for(
        text,
        training__max_steps=None,
        training__max_epochs=2,
        training__accumulate_batches=accumulate,
    )
    result = train(config, tmp_path / "many")
    # The last update may reach into an epoch more than was asked for.
    assert result.steps == math.ceil(2 * epoch / accumulate)
    many = [rows for update in script.updates for rows in update.rows]
    assert many[: len(one)] == one
    assert [update.number for update in script.updates] == [
        step * accumulate for step in range(result.steps)
    ]


def test_max_steps_ends_training(script: Script, text: Path, tmp_path: Path) -> None:
    result = train(config_for(text, training__max_steps=4), tmp_path / "model")
    assert (result.steps, len(script.updates), result.stopped_early) == (4, 4, False)
    assert checkpoint_steps(tmp_path / "model") == [4]
    assert [len(script.validations), result.best["step"]] == [1, 4]


def test_training_stops_after_patience_rounds_without_a_better_bleu(
    script: Script, text: Path, tmp_path: Path
) -> None:
    script.bleus = [1.0, 3.0, 2.0, 4.0, 3.9, 4.0, 3.0, 9.0]
    config = config_for(
        text, training__max_steps=50, validation__every_steps=2, validation__patience=3
    )
    result = train(config, tmp_path / "model")
    # Best at the fourth round, step 8; the fifth, sixth (a tie) and seventh were not better.
    assert (result.steps, result.stopped_early) == (14, True)
    assert (result.best["step"], result.best["bleu"]) == (8, 4.0)
    assert read_best(tmp_path / "model")["step"] == 8
    np.testing.assert_array_equal(
        load_best_weights(tmp_path / "model")["weight"], script.validations[3]
    )


def test_at_equal_bleu_the_lower_loss_is_better(script: Script, text: Path, tmp_path: Path) -> None:
    script.bleus, script.losses = [0.0], [5.0, 4.0, 3.0, 3.5, 3.0]
    config = config_for(
        text, training__max_steps=50, validation__every_steps=1, validation__patience=2
    )
    result = train(config, tmp_path / "model")
    assert (result.best["step"], result.steps) == (3, 5)


def test_below_a_bleu_of_1_the_loss_decides(script: Script, text: Path, tmp_path: Path) -> None:
    script.bleus = [0.06, 0.06, 0.04, 0.04, 1.2, 1.1]
    script.losses = [6.1, 6.0, 5.9, 5.8, 5.9, 5.7]
    config = config_for(
        text, training__max_steps=50, validation__every_steps=1, validation__patience=3
    )
    result = train(config, tmp_path / "model")
    assert (result.best["step"], result.steps) == (5, 8)


def test_a_warm_up_that_does_not_end_is_told_of(
    script: Script, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for steps, told in ((5, True), (6, False)):
        config = config_for(text, training__max_steps=steps, training__warmup_steps=6)
        train(config, tmp_path / f"{steps}")
        warning = "warning: training.warmup_steps is 6, but there are 5 updates: the rate never"
        assert (warning in capsys.readouterr().err) == told


def test_validation_is_after_each_epoch_and_at_the_end(
    script: Script, text: Path, tmp_path: Path
) -> None:
    epoch = steps_an_epoch(script, text, tmp_path / "epoch")
    train(config_for(text, training__max_steps=2 * epoch + 1, validation={}), tmp_path / "model")
    validated = [each["step"] for each in metrics_of(tmp_path / "model") if "bleu" in each]
    assert validated == [epoch, 2 * epoch, 2 * epoch + 1]


def test_schedules_are_given_the_update_counted_from_1_and_the_last_one(
    script: Script, text: Path, tmp_path: Path
) -> None:
    config = config_for(
        text,
        training__max_steps=5,
        training__schedule="linear",
        training__warmup_steps=2,
        training__learning_rate=0.8,
    )
    train(config, tmp_path / "model")
    # Up to the peak at update 2, then down by a quarter of it, to 0 at the one after the last.
    rates = [update.learning_rate for update in script.updates]
    assert rates == pytest.approx([0.4, 0.8, 0.6, 0.4, 0.2])


def test_plateaus_lower_the_learning_rate_also_after_a_resume(
    script: Script, text: Path, tmp_path: Path
) -> None:
    script.bleus = [5.0, 4.0, 4.0, 6.0, 5.0, 5.0, 5.0, 5.0]
    config = config_for(
        text,
        training__max_steps=9,
        training__schedule="plateau",
        training__learning_rate=0.8,
        training__plateau_patience=2,
        training__plateau_factor=0.5,
        validation__every_steps=1,
    )
    script.events[7] = signalling(signal.SIGTERM)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "model")
    train(config, tmp_path / "model", resume=True)
    # Two rounds without a better BLEU after steps 1 and 4, then two more.
    rates = [update.learning_rate for update in script.updates]
    assert rates == pytest.approx([0.8] * 3 + [0.4] * 3 + [0.2] * 2 + [0.1])


def test_the_seed_decides_weights_dropout_and_order(
    script: Script, text: Path, tmp_path: Path
) -> None:
    orders = []
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        train(config_for(text, seed=seed), tmp_path / name)
        orders.append([*script.updates])
        script.updates.clear()
    assert script.seeds == [1, 1, 1, 1, 2, 2]
    assert orders[0] == orders[1] != orders[2]


# What it leaves


def test_a_run_writes_the_model_folder(script: Script, text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "model"
    config = config_for(text, validation__every_steps=3)
    result = train(config, folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("config.toml", "tokenizer", "checkpoints", "best.json", "metrics.jsonl", "tensorboard"),
        *(".lock", "encoded"),
    }
    assert load_model_config(folder) == config
    assert TokenizerPair.load(folder / "tokenizer").joint
    assert checkpoint_steps(folder) == [3, 6]
    assert list((folder / "tensorboard").iterdir())
    best = json.loads((folder / "best.json").read_text())
    assert best == result.best
    assert best["bleu"] == 10.0
    assert best["signature"] == "nrefs:1|tok:13a"
    assert result.folder == folder


def test_metrics_have_the_keys_and_values_promised(
    script: Script, text: Path, tmp_path: Path
) -> None:
    script.losses = [math.log(5.0)]
    train(config_for(text, validation__every_steps=4, training__log_every_steps=2), tmp_path / "m")
    records = metrics_of(tmp_path / "m")
    assert [(record["step"], record["split"]) for record in records] == [
        (2, "train"),
        (4, "train"),
        (4, "validation"),
        (6, "train"),
        (6, "validation"),
    ]
    always = {"step", "epoch", "split", "loss", "learning_rate", "seconds"}
    for record in records:
        assert always | {"target_tokens_per_second"} <= record.keys()
        assert record["learning_rate"] == 1e-3
        assert record["epoch"] == 1
        assert record["target_tokens_per_second"] > 0
        if record["split"] == "validation":
            assert record["perplexity"] == pytest.approx(5.0)
            assert (record["bleu"], record["signature"]) == (10.0, "nrefs:1|tok:13a")
        else:
            # The scripted sums are 2 nats a token and a quarter right.
            assert record["loss"] == pytest.approx(2.0)
            assert record["accuracy"] == pytest.approx(0.25)
            assert record["gradient_norm"] == 1.0
    seconds = [record["seconds"] for record in records]
    assert seconds == sorted(seconds)


def test_progress_goes_to_stderr(
    script: Script, text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(config_for(text), tmp_path / "model")
    captured = capfd.readouterr()
    assert captured.out == ""
    for expected in (
        "pairs: 60 read, 60 kept; repeated: ",
        "validation pairs: 60 read, 60 kept\n",
        "warning: source and target are the same text in 60 of 60 pairs",
        "precision float32, from step 0 to 6\n",
        "step 6/6  epoch 1  loss 2.000",
        "validation at step 6: BLEU 10.00",
        "    hypothesis  bad\n",
    ):
        assert expected in captured.err


def test_the_best_checkpoint_is_kept_with_the_newest(
    script: Script, text: Path, tmp_path: Path
) -> None:
    script.bleus = [1.0, 7.0, 2.0]
    config = config_for(text, validation__every_steps=1, training__keep_checkpoints=2)
    train(config, tmp_path / "model")
    assert checkpoint_steps(tmp_path / "model") == [2, 5, 6]


def test_what_is_averaged_does_not_depend_on_the_clock(
    script: Script, text: Path, tmp_path: Path
) -> None:
    steps = []
    for minutes in (NEVER, ALWAYS):
        config = config_for(
            text, validation__every_steps=2, training__checkpoint_every_minutes=minutes
        )
        train(config, tmp_path / f"{minutes}")
        steps.append(validated_steps(tmp_path / f"{minutes}"))
    assert steps == [[2, 4, 6]] * 2  # the best one, and two
    assert checkpoint_steps(tmp_path / f"{NEVER}") == [2, 4, 6]
    assert checkpoint_steps(tmp_path / f"{ALWAYS}") == [2, 4, 5, 6]


def test_checkpoints_are_made_in_between_when_it_is_time(
    script: Script, text: Path, tmp_path: Path
) -> None:
    config = config_for(text, training__checkpoint_every_minutes=ALWAYS)
    script.events[4] = raising(Killed())
    with pytest.raises(Killed):
        train(config, tmp_path / "model")
    assert checkpoint_steps(tmp_path / "model") == [2, 3]
    assert read_best(tmp_path / "model") is None


# Interruptions


@pytest.mark.parametrize(("schedule", "accumulate"), [("constant", 1), ("linear", 3)])
def test_killed_at_any_step_and_resumed_equals_unbroken(
    schedule: str, accumulate: int, script: Script, text: Path, tmp_path: Path
) -> None:
    options = {
        "training__schedule": schedule,
        "training__accumulate_batches": accumulate,
        "training__max_steps": 10,  # over the end of an epoch
        "validation__every_steps": 4,
    }
    config = config_for(text, **options)
    train(config, tmp_path / "whole")
    unbroken, weights = [*script.updates], script.weights()
    losses = [(each["step"], each["loss"]) for each in metrics_of(tmp_path / "whole")]
    for killed_at in range(1, 11):
        script.updates.clear()
        folder = tmp_path / f"killed-{killed_at}"
        script.events = {killed_at: raising(Killed())}
        with pytest.raises(Killed):
            train(config, folder)
        script.events.clear()
        assert train(config, folder, resume=True).steps == 10
        saved = (killed_at - 1) // 4 * 4  # the last validation before
        assert script.updates == unbroken[:killed_at] + unbroken[saved:]
        assert script.weights() == weights
        found = [(each["step"], each["loss"]) for each in metrics_of(folder)]
        assert found == losses


def test_saved_at_every_step_only_the_killed_one_is_made_again(
    script: Script, text: Path, tmp_path: Path
) -> None:
    config = config_for(text, training__checkpoint_every_minutes=ALWAYS)
    script.events[4] = raising(Killed())
    with pytest.raises(Killed):
        train(config, tmp_path / "model")
    train(config, tmp_path / "model", resume=True)
    numbers = [update.number for update in script.updates]
    assert numbers == [0, 1, 2, 3, 3, 4, 5]


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_step_saves_and_is_told(
    number: int, exit_code: int, script: Script, text: Path, tmp_path: Path
) -> None:
    folder, config = tmp_path / "model", config_for(text, training__log_every_steps=100)
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    script.events[3] = signalling(number)
    message = f"stopped by signal {int(number)} after step 3, which is saved; --resume goes on"
    with pytest.raises(Interrupted, match=message) as caught:
        train(config, folder)
    assert caught.value.exit_code == exit_code
    assert checkpoint_steps(folder) == [3]
    assert load_checkpoint(folder, 3).weights["weight"].tolist() == script.weights()
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert train(config, folder, resume=True).steps == 6
    assert [update.number for update in script.updates] == [0, 1, 2, 3, 4, 5]


def test_a_signal_while_a_step_is_reported_is_not_told_before_it_is_saved(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = training.Reporter.training

    def reporting(reporter: Any, record: Mapping[str, Any]) -> None:
        real(reporter, record)
        if record["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(training.Reporter, "training", reporting)
    with pytest.raises(Interrupted, match=r"after step (3|4), which is saved") as caught:
        train(config_for(text), tmp_path / "model")
    (saved,) = checkpoint_steps(tmp_path / "model")
    assert f"after step {saved}," in str(caught.value)


def test_a_signal_in_the_last_step_changes_nothing(
    script: Script, text: Path, tmp_path: Path
) -> None:
    script.events[6] = signalling(signal.SIGTERM)
    assert train(config_for(text), tmp_path / "model").steps == 6
    assert read_best(tmp_path / "model")["step"] == 6


def test_a_signal_in_the_update_after_which_patience_ends_changes_nothing(
    script: Script, text: Path, tmp_path: Path
) -> None:
    script.bleus = [10.0, 5.0]
    script.events[3] = signalling(signal.SIGTERM)
    config = config_for(
        text, training__max_steps=50, validation__every_steps=1, validation__patience=2
    )
    result = train(config, tmp_path / "model")
    assert (result.steps, result.stopped_early) == (3, True)


def test_products_of_another_precision_than_before_are_told_of(
    script: Script,
    text: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("seq2seq.training.resolve_precision", lambda precision: "bfloat16")
    train(config_for(text, training__max_steps=2), tmp_path / "model")
    monkeypatch.setattr("seq2seq.training.resolve_precision", lambda precision: "float32")
    told = "warning: products were bfloat16 until step 2 and are float32 on this machine"
    for steps, times in ((4, 1), (6, 0)):  # from then on they are what they are
        capsys.readouterr()
        train(config_for(text, training__max_steps=steps), tmp_path / "model", resume=True)
        assert capsys.readouterr().err.count(told) == times


def test_too_little_memory_for_validation_is_told(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(experiment: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr("seq2seq.translation_experiment.TranslationExperiment.validate", full)
    with pytest.raises(UsageError, match="out of memory with validation"):
        train(config_for(text, training__max_steps=2), tmp_path / "model")


def test_a_second_signal_acts_at_once(script: Script, text: Path, tmp_path: Path) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    script.events[3] = twice
    with pytest.raises(KeyboardInterrupt):
        train(config_for(text), tmp_path / "model")
    assert checkpoint_steps(tmp_path / "model") == []


def test_training_in_a_thread_leaves_signals_alone(
    script: Script, text: Path, tmp_path: Path
) -> None:
    results: list[TrainingResult] = []
    thread = threading.Thread(
        target=lambda: results.append(train(config_for(text), tmp_path / "model"))
    )
    thread.start()
    thread.join()
    assert results[0].steps == 6


def test_a_finished_run_resumed_is_done_at_once(
    script: Script, text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = config_for(text)
    first = train(config, tmp_path / "model")
    before = metrics_of(tmp_path / "model")
    second = train(config, tmp_path / "model", resume=True)
    assert len(script.updates) == 6
    assert (second.steps, second.best) == (6, first.best)
    assert second.seconds >= load_checkpoint(tmp_path / "model", 6).state["seconds"] > 0
    assert metrics_of(tmp_path / "model") == before
    assert checkpoint_steps(tmp_path / "model") == [6]
    assert "already complete after step 6: nothing is left to be done; " in capfd.readouterr().err


def test_a_run_that_stopped_early_goes_on_only_with_more_patience(
    script: Script, text: Path, tmp_path: Path
) -> None:
    script.bleus = [5.0, 1.0]
    options = {"training__max_steps": 20, "validation__every_steps": 1}
    impatient = config_for(text, **options, validation__patience=2)
    assert train(impatient, tmp_path / "model").steps == 3
    again = train(impatient, tmp_path / "model", resume=True)
    assert (again.steps, again.stopped_early) == (3, True)
    patient = config_for(text, **options, validation__patience=4)
    assert train(patient, tmp_path / "model", resume=True).steps == 5


def test_a_longer_training_goes_on_where_the_shorter_ended(
    script: Script, text: Path, tmp_path: Path
) -> None:
    train(config_for(text, training__max_steps=3), tmp_path / "model")
    train(config_for(text, training__max_steps=6), tmp_path / "model", resume=True)
    in_parts, weights = [*script.updates], script.weights()
    script.updates.clear()
    train(config_for(text, training__max_steps=6), tmp_path / "whole")
    assert script.updates == in_parts
    assert script.weights() == weights


def test_a_worse_model_after_a_resume_is_not_the_best(
    script: Script, text: Path, tmp_path: Path
) -> None:
    script.bleus = [1.0, 8.0, 5.0]
    config = config_for(text, validation__every_steps=2, training__keep_checkpoints=1)
    script.events[5] = raising(Killed())
    with pytest.raises(Killed):
        train(config, tmp_path / "model")
    (tmp_path / "model" / "best.json").unlink()  # killed just before it was written
    result = train(config, tmp_path / "model", resume=True)
    assert (result.best["step"], result.best["bleu"]) == (4, 8.0)
    assert read_best(tmp_path / "model") == result.best
    assert checkpoint_steps(tmp_path / "model") == [4, 6]


# Damage


def test_training_goes_on_from_the_checkpoint_before_a_damaged_one(
    script: Script, text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = {"validation__every_steps": 2, "training__keep_checkpoints": 2}
    folder = tmp_path / "model"
    script.bleus = [1.0, 2.0, 2.0, 3.0]
    train(config_for(text, **options), folder)
    assert read_best(folder)["step"] == 4
    script.events[10] = raising(Killed())
    with pytest.raises(Killed):
        train(config_for(text, **options, training__max_steps=12), folder, resume=True)
    assert checkpoint_steps(folder) == [6, 8]
    path = folder / "checkpoints" / "step-8" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    capfd.readouterr()
    script.updates.clear()
    script.bleus, script.events = [1.5], {}
    result = train(config_for(text, **options, training__max_steps=8), folder, resume=True)
    assert f"warning: {path}: damaged" in capfd.readouterr().err
    assert [update.number for update in script.updates] == [6, 7]
    # Step 4 was the best when step 6 was saved, but made room for step 8: that is best now.
    assert result.best["step"] == 8
    assert checkpoint_steps(folder) == [6, 8]
    assert load_newest_checkpoint(folder)[1] == []
    assert load_best_weights(folder)["weight"].tolist() == script.weights()


def test_a_best_step_that_is_damaged_is_not_named_when_none_before_was_validated(
    script: Script, text: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    options = {"validation__every_steps": 4, "training__checkpoint_every_minutes": ALWAYS}
    script.events[5] = raising(Killed())
    with pytest.raises(Killed):
        train(config_for(text, **options), folder)
    assert (checkpoint_steps(folder), read_best(folder)["step"]) == ([3, 4], 4)
    (folder / "checkpoints" / "step-4" / "training.json").unlink()
    script.events[6] = raising(Killed())  # before anything else is saved
    with pytest.raises(Killed):
        train(config_for(text, **options), folder, resume=True)
    assert load_newest_checkpoint(folder)[0].step == 3
    assert read_best(folder) is None
    np.testing.assert_array_equal(
        load_best_weights(folder)["weight"], load_checkpoint(folder, 3).weights["weight"]
    )


@pytest.mark.parametrize("state", [{"best": {}, "mood": 1}, {"best": {"bleu": 2.0}}, {"best": 7}])
def test_a_state_of_another_version_is_a_model_error(
    state: dict[str, Any], script: Script, text: Path, tmp_path: Path
) -> None:
    folder, config = tmp_path / "model", config_for(text)
    train(config, folder)
    checkpoint = load_newest_checkpoint(folder)[0]
    shutil.rmtree(folder / "checkpoints")
    (folder / "best.json").unlink()
    save_checkpoint(folder, dataclasses.replace(checkpoint, state=state))
    with pytest.raises(ModelError, match="step 6: its state of training is none of this version"):
        train(config, folder, resume=True)


def test_a_model_that_does_not_fit_into_memory_is_told_with_what_to_do(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(self: Any, folder: Path, workers: Workers) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr(TranslationExperiment, "build", build)
    with pytest.raises(UsageError, match=r"out of memory with the model; make it smaller"):
        train(config_for(text), tmp_path / "model")


def test_without_a_whole_checkpoint_training_never_starts_from_scratch(
    script: Script, text: Path, tmp_path: Path
) -> None:
    config = config_for(text, validation__every_steps=3)
    train(config, tmp_path / "model")
    for path in (tmp_path / "model" / "checkpoints").glob("step-*/training.json"):
        path.write_bytes(bytes(path.stat().st_size))
    before = metrics_of(tmp_path / "model")
    with pytest.raises(ModelError, match=r"no usable checkpoint: .*step-6.*step-3") as caught:
        train(config, tmp_path / "model", resume=True)
    assert caught.value.exit_code == 4
    assert checkpoint_steps(tmp_path / "model") == [3, 6]
    assert metrics_of(tmp_path / "model") == before


def test_checkpoints_that_are_gone_are_an_error_and_not_a_new_start(
    script: Script, text: Path, tmp_path: Path
) -> None:
    train(config_for(text, validation__every_steps=3), tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "checkpoints")
    script.updates.clear()
    message = "the best step is 3, and there is no checkpoint in it any more; --overwrite starts"
    with pytest.raises(ModelError, match=message):
        train(config_for(text), tmp_path / "model", resume=True)
    assert script.updates == []


def test_records_are_on_the_disk_before_the_checkpoint_that_has_them_behind_it(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fsync", fsync)
    train(config_for(text), tmp_path / "model")
    assert synced.index("metrics.jsonl") < synced.index("MANIFEST.json")


def test_a_garbled_best_file_is_written_anew(script: Script, text: Path, tmp_path: Path) -> None:
    config = config_for(text, validation__every_steps=3)
    first = train(config, tmp_path / "model")
    (tmp_path / "model" / "best.json").write_bytes(bytes(40))
    train(config, tmp_path / "model", resume=True)
    assert read_best(tmp_path / "model") == first.best


def test_a_full_disk_ends_training_and_leaves_the_last_checkpoint(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, config = tmp_path / "model", config_for(text, validation__every_steps=2)

    message = "step-6: cannot be written: No space left on device"
    with monkeypatch.context() as patch:
        script.events[3] = lambda: fill_the_disk(patch)
        with pytest.raises(StorageError, match=message):
            train(config, folder)
    assert checkpoint_steps(folder) == [2]
    script.events.clear()
    assert train(config, folder, resume=True).steps == 6
    assert [update.number for update in script.updates] == [0, 1, 2, 3, 4, 5, 2, 3, 4, 5]


def fill_the_disk(patch: pytest.MonkeyPatch) -> None:
    """No more checkpoints can be written; small files still can."""
    full = raising(OSError(28, "No space left on device"))
    patch.setattr(durable_files, "sync", lambda path: full() if "step-" in str(path) else None)


def test_a_disk_that_is_full_for_a_while_ends_nothing(
    script: Script,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, config = tmp_path / "model", config_for(text, validation__every_steps=1)
    script.bleus = [5.0, 4.0, 9.0, 8.0, 6.0, 7.0]
    with monkeypatch.context() as patch:
        script.events = {3: lambda: fill_the_disk(patch), 5: patch.undo}
        train(config, folder)
    # Step 3 was the best and could not be kept, nor could step 4, which was the best after that.
    assert read_best(folder)["step"] == 6
    assert checkpoint_steps(folder) == [5, 6]
    assert load_best_weights(folder)["weight"].tolist() == script.weights()
    warnings = [line for line in capfd.readouterr().err.splitlines() if "step-" in line]
    assert [line.partition("; ")[2] for line in warnings] == [
        f"training goes on, and ends if the next checkpoints fail as well ({number} of 3)"
        for number in (1, 2)
    ]
    assert warnings[0].startswith("warning: ")
    assert f"{folder / 'checkpoints' / 'step-3'}: cannot be written: No space left" in warnings[0]


def test_a_disk_that_stays_full_ends_training_at_the_third_checkpoint(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(text, training__checkpoint_every_minutes=ALWAYS, training__max_steps=9)
    script.events[3] = lambda: fill_the_disk(monkeypatch)
    with pytest.raises(StorageError, match="step-5: cannot be written: No space left") as caught:
        train(config, tmp_path / "model")
    assert caught.value.exit_code == 5
    assert checkpoint_steps(tmp_path / "model") == [1, 2]


def test_what_a_signal_asks_to_be_saved_is_never_said_to_be_if_it_is_not(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_and_stop() -> None:
        fill_the_disk(monkeypatch)
        os.kill(os.getpid(), signal.SIGTERM)

    script.events[3] = fill_and_stop
    with pytest.raises(StorageError, match="step-3: cannot be written"):
        train(config_for(text), tmp_path / "model")


def test_room_for_a_checkpoint_is_looked_for_before_training(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def opened(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == ".tmp-room":
            return real(Path("/dev/full"), "wb", buffering=0)
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)
    message = (
        r"model: cannot be written: No space left on device; a checkpoint needs 0\.0 MB, and 2"
    )
    with pytest.raises(StorageError, match=message):
        train(config_for(text), tmp_path / "model")
    assert script.updates == []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", real)
        train(config_for(text, training__max_steps=2), tmp_path / "model")
    script.updates.clear()
    before = {
        path: path.read_bytes() for path in (tmp_path / "model").rglob("*.*") if path.is_file()
    }
    with pytest.raises(StorageError, match=message):
        train(config_for(text), tmp_path / "model", overwrite=True)
    assert all(path.read_bytes() == content for path, content in before.items())
    with pytest.raises(StorageError, match=message):
        train(config_for(text), tmp_path / "model", resume=True)
    assert script.updates == []
    # Where nothing is left to be done, no room is needed.
    complete = train(config_for(text, training__max_steps=2), tmp_path / "model", resume=True)
    assert complete.steps == 2
    monkeypatch.setattr(Path, "open", real)
    train(config_for(text), tmp_path / "model", resume=True)
    assert not (tmp_path / "model" / ".tmp-room").exists()


def test_batches_too_large_for_the_memory_are_told_with_what_to_do(
    script: Script, text: Path, tmp_path: Path
) -> None:
    script.events[2] = raising(tf.errors.ResourceExhaustedError(None, None, "OOM"))
    message = "out of memory with the batches of step 2; make batches smaller"
    with pytest.raises(UsageError, match=message):
        train(config_for(text), tmp_path / "model")


def test_a_text_that_has_changed_is_not_gone_on_with(
    script: Script, text: Path, tmp_path: Path
) -> None:
    folder, before = tmp_path / "model", text.read_bytes()
    train(config_for(text), folder)
    text.write_bytes(before.replace(b"a", b"b", 1))
    longer = config_for(text, training__max_steps=8)
    with pytest.raises(UsageError, match="model: cannot be resumed with another text: a file that"):
        train(longer, folder, resume=True)
    assert len(script.updates) == 6
    text.write_bytes(before)
    other = text.with_name("other words")
    other.write_bytes(before)
    watched = config_for(text, data__validation_source=other, data__validation_target=other)
    train(watched, tmp_path / "watched")
    other.write_bytes(before + b" \n")  # its scores would not be comparable with the best one
    with pytest.raises(UsageError, match="watched: cannot be resumed with another text"):
        train(watched, tmp_path / "watched", resume=True)
    # Earlier versions did not keep what the text was known by.
    saved = load_checkpoint(folder, 6)
    shutil.rmtree(folder / "checkpoints" / "step-6")
    state = {name: value for name, value in saved.state.items() if name != "fingerprint"}
    save_checkpoint(folder, dataclasses.replace(saved, state=state))
    assert train(longer, folder, resume=True).steps == 8


# Divergence


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_ends_training_and_names_the_step(
    norm: float, script: Script, text: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    config = config_for(
        text,
        validation__every_steps=3,
        training__log_every_steps=2,
        training__learning_rate=0.25,
    )
    script.norms[5] = norm
    pairs = r"learning rate 0\.25; \S*words: lines \d+(, \d+)*"
    with pytest.raises(DivergenceError, match=rf"^step 5: the gradient .* \({pairs}\)") as caught:
        train(config, folder)
    assert caught.value.exit_code == 6
    assert checkpoint_steps(folder) == [3]
    assert read_best(folder)["step"] == 3
    message = str(caught.value)
    assert "\n" not in message
    lines = message.partition("lines ")[2].partition(")")[0].split(", ")
    assert [int(line) - 1 for line in lines] == sorted(script.updates[4].rows[0])
    # Lower, as the message says, and on.
    lower = config_for(text, validation__every_steps=3, training__learning_rate=0.125)
    assert train(lower, folder, resume=True).steps == 6
    assert [update.learning_rate for update in script.updates[-3:]] == [0.125] * 3


def test_of_several_batches_all_are_named_where_the_gradient_is_not_finite(
    script: Script, text: Path, tmp_path: Path
) -> None:
    script.norms[1] = math.inf
    with pytest.raises(DivergenceError) as caught:
        train(config_for(text, training__accumulate_batches=3), tmp_path / "model")
    named = [
        [int(line) - 1 for line in batch.split(", ")]
        for batch in re.findall(r"lines? ([\d, ]+\d)", str(caught.value))
    ]
    assert named == [sorted(rows) for rows in script.updates[0].rows]


def test_weights_that_are_not_finite_are_never_saved(
    script: Script, text: Path, tmp_path: Path
) -> None:
    def spoil() -> None:
        script.model.weight.value[0] = np.inf

    script.events[4] = spoil
    config = config_for(text, training__checkpoint_every_minutes=ALWAYS)
    with pytest.raises(
        DivergenceError, match=r"step 4: the weights are not finite; .*learning_rate"
    ):
        train(config, tmp_path / "model")
    assert checkpoint_steps(tmp_path / "model") == [2, 3]


def test_a_validation_that_is_not_finite_is_divergence(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(text, validation__every_steps=2)
    script.losses = [2.0, math.nan]
    with pytest.raises(DivergenceError, match="step 4: the validation loss is not finite"):
        train(config, tmp_path / "loss")
    assert checkpoint_steps(tmp_path / "loss") == [2]

    def failing(_: ScriptedValidator) -> Validated:
        raise NotANumberError("sentence 3: the model's output is not a number")

    monkeypatch.setattr(ScriptedValidator, "validate", failing)
    with pytest.raises(DivergenceError, match="step 2: sentence 3: the model's output is not a n"):
        train(config, tmp_path / "output")
    assert checkpoint_steps(tmp_path / "output") == []


# Refusals


def test_a_folder_with_a_model_is_not_overwritten_unasked(
    script: Script, text: Path, tmp_path: Path
) -> None:
    folder, config = tmp_path / "model", config_for(text)
    train(config, folder)
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    del files[folder / ".lock"]
    message = "model: holds a model already; --resume goes on with it, --overwrite deletes it"
    with pytest.raises(UsageError, match=message) as caught:
        train(config, folder)
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match="--resume and --overwrite: give one of them, not both"):
        train(config, folder, resume=True, overwrite=True)
    assert all(path.read_bytes() == content for path, content in files.items())


def test_overwriting_starts_anew_with_nothing_of_the_old_model(
    script: Script, text: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    train(config_for(text, training__max_steps=9), folder)
    script.updates.clear()
    new = config_for(text, tokenizer__joint=False, model__decoder_units=16)
    result = train(new, folder, overwrite=True)
    assert result.steps == len(script.updates) == 6
    assert load_model_config(folder) == new
    assert not TokenizerPair.load(folder / "tokenizer").joint
    assert checkpoint_steps(folder) == [6]
    assert {record["step"] for record in metrics_of(folder)} == set(range(1, 7))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"data__train_source": "missing.en"}, StorageError),
        ({"data__validation_source": "missing.en"}, StorageError),
        ({"tokenizer__type": "unigram", "tokenizer__vocabulary_size": 50_000}, UsageError),
        ({"tokenizer__source_model": "missing.model"}, StorageError),
        ({"validation__bleu_tokenizer": "ja-mecab"}, UsageError),
        ({"data__max_source_length": 2}, DataError),
    ],
)
@pytest.mark.parametrize("existing", [False, True])
def test_a_training_that_cannot_begin_leaves_the_folder_as_it_was(
    existing: bool,
    change: dict[str, Any],
    error: type[Exception],
    script: Script,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "model"
    monkeypatch.setitem(sys.modules, "MeCab", None)  # which its BLEU tokenizer needs
    if existing:
        train(config_for(text), folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(error):
        train(config_for(text, **change), folder, overwrite=True)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert before.keys() | {folder / ".lock"} >= after.keys()
    assert all(after[path] == content for path, content in before.items())
    assert train(config_for(text), folder, resume=True).steps == 6


def test_overwriting_or_resuming_nothing_is_just_training(
    script: Script, text: Path, tmp_path: Path
) -> None:
    assert train(config_for(text), tmp_path / "one", resume=True).steps == 6
    assert train(config_for(text), tmp_path / "two", overwrite=True).steps == 6


def test_resuming_another_experiment_is_refused_and_all_changes_are_listed(
    script: Script, text: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    train(config_for(text), folder)
    other = config_for(
        text, seed=2, model__decoder_units=16, training__optimizer="sgd", data__max_source_length=9
    )
    changes = (
        r"data.max_source_length was 128, is 9; model.decoder_units was 8, is 16; "
        r"seed was 1, is 2; training.optimizer was 'adam', is 'sgd'; set them back"
    )
    with pytest.raises(UsageError, match=f"cannot be resumed with another experiment: {changes}"):
        train(other, folder, resume=True)
    assert load_model_config(folder) == config_for(text)


def test_what_does_not_make_the_weights_may_change_on_resume(
    script: Script, text: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    train(config_for(text), folder)
    changed = config_for(
        text,
        training__max_steps=8,
        training__max_epochs=30,
        training__log_every_steps=3,
        training__checkpoint_every_minutes=2.0,
        training__keep_checkpoints=4,
        training__learning_rate=0.5,
        validation={"every_steps": 2, "patience": 9, "samples": 1},
        decoding={"beam_size": 2},
    )
    assert train(changed, folder, resume=True).steps == 8
    assert load_model_config(folder) == changed


@pytest.mark.parametrize("key", ["length_penalty", "max_length_ratio", "max_length_offset"])
def test_what_translations_are_validated_with_stays_on_resume(
    key: str, script: Script, text: Path, tmp_path: Path
) -> None:
    train(config_for(text), tmp_path / "model")
    with pytest.raises(UsageError, match=rf"another experiment: decoding\.{key} was .*, is 7"):
        train(config_for(text, decoding={key: 7}), tmp_path / "model", resume=True)


def test_paths_mean_the_same_from_another_folder(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(config_for(Path("words")), tmp_path / "model")
    assert load_model_config(tmp_path / "model").data.train_source == [text]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    train(config_for(Path("../words").resolve()), tmp_path / "model", resume=True)


def test_a_folder_in_use_is_refused(script: Script, text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with locked(folder), pytest.raises(LockedError, match="another process is writing here"):
        train(config_for(text), folder)
    assert script.updates == []
    assert train(config_for(text), folder).steps == 6


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_validation_set_is_refused_before_anything_is_written(
    content: str, script: Script, text: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.write_text(content)
    config = config_for(text, data__validation_source=empty, data__validation_target=empty)
    with pytest.raises(UsageError, match="empty: no validation pair has text on both sides"):
        train(config, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_what_a_killed_start_left_is_not_used(script: Script, text: Path, tmp_path: Path) -> None:
    half = tmp_path / "model" / ".tmp-start" / "tokenizer"
    half.mkdir(parents=True)
    (half / "source.model").write_bytes(b"half")
    assert train(config_for(text), tmp_path / "model").steps == 6
    assert not half.parent.exists()


# Beginning with another model


def test_training_begins_with_the_best_weights_and_the_tokenizer_of_another_model(
    script: Script, text: Path, other_text: Path, tmp_path: Path
) -> None:
    script.bleus = [1.0, 9.0, 2.0]
    base, folder = tmp_path / "base", tmp_path / "model"
    train(config_for(text, validation__every_steps=2), base)
    assert read_best(base)["step"] == 4
    best = load_best_weights(base)["weight"]
    script.updates.clear()
    script.events[1] = raising(Killed())
    with pytest.raises(Killed):
        train(config_for(other_text, training__learning_rate=0.25), folder, init=base)
    # As the script has it: steps and momentum anew.
    (update,) = script.updates
    assert (update.number, update.learning_rate) == (0, 0.25)
    expected = [best[0] * 0.75 + 0.25 * update.rows[0][0], best[1] + 0]
    assert script.weights() == pytest.approx(expected)
    assert read_best(folder)["step"] == 0
    np.testing.assert_array_equal(load_best_weights(folder)["weight"], best)
    tokenizers = [TokenizerPair.load(each / "tokenizer") for each in (base, folder)]
    assert tokenizers[0].same_as(tokenizers[1])


def test_what_is_learned_counts_only_where_it_is_better_than_the_other_model(
    script: Script, text: Path, tmp_path: Path
) -> None:
    base, folder = tmp_path / "base", tmp_path / "model"
    train(config_for(text, seed=2), base)
    best = load_best_weights(base)["weight"]
    script.validations.clear()
    script.bleus = [30.0, 29.0, 28.0, 27.0]
    config = config_for(text, validation__every_steps=2, validation__patience=3)
    result = train(config, folder, init=base)
    assert (result.best["step"], result.best["bleu"], result.steps) == (0, 30.0, 6)
    np.testing.assert_array_equal(script.validations[0], best)
    np.testing.assert_array_equal(load_best_weights(folder)["weight"], best)
    validated = [each["step"] for each in metrics_of(folder) if "bleu" in each]
    assert validated == [0, 2, 4, 6]


def test_the_other_model_is_validated_again_where_nothing_else_is_saved(
    script: Script, text: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    train(config_for(text, seed=2), tmp_path / "base")
    config = config_for(text, validation__every_steps=2)
    script.bleus = [30.0, 31.0]
    script.validations.clear()
    script.events[len(script.updates) + 1] = raising(Killed())
    with pytest.raises(Killed):
        train(config, folder, init=tmp_path / "base")
    script.events.clear()
    assert [each["step"] for each in metrics_of(folder)] == [0]
    script.validations.clear()
    assert train(config, folder, resume=True).best["step"] == 2
    validated = [each["step"] for each in metrics_of(folder) if "bleu" in each]
    assert validated == [0, 2, 4, 6]


def test_it_goes_on_without_the_other_model_to_the_weights_of_an_unbroken_run(
    script: Script, text: Path, tmp_path: Path
) -> None:
    config = config_for(text, validation__every_steps=2)
    train(config_for(text, seed=2), tmp_path / "base")
    script.updates.clear()
    whole = train(config, tmp_path / "whole", init=tmp_path / "base")
    unbroken, weights = [*script.updates], script.weights()
    assert whole.steps == len(unbroken) == 6
    assert checkpoint_steps(tmp_path / "whole") == [0, 4, 6]  # the best one, and two
    for killed_at in range(1, 7):
        folder = tmp_path / f"killed-{killed_at}"
        script.updates.clear()
        script.events = {killed_at: raising(Killed())}
        with pytest.raises(Killed):
            train(config, folder, init=tmp_path / "base")
        script.events.clear()
        (tmp_path / "base").rename(tmp_path / "elsewhere")
        assert train(config, folder, resume=True).steps == 6
        (tmp_path / "elsewhere").rename(tmp_path / "base")
        saved = (killed_at - 1) // 2 * 2
        assert script.updates == unbroken[:killed_at] + unbroken[saved:]
        assert script.weights() == weights


def test_wherever_its_start_is_killed_it_never_goes_on_from_other_weights(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(text, training__max_steps=2)
    for name, seed in (("base", 2), ("before", 3)):
        train(config_for(text, seed=seed, training__max_steps=3), tmp_path / name)
    calls: list[str] = []
    killed_at = 0

    def fsync(descriptor: int) -> None:
        calls.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        if len(calls) == killed_at:
            raise Killed

    def start(folder: Path, *, over: bool) -> None:
        if over:
            shutil.copytree(tmp_path / "before", folder)
        train(config, folder, init=tmp_path / "base", overwrite=over)

    monkeypatch.setattr(os, "fsync", fsync)
    for over in (False, True):
        calls.clear()
        killed_at = 0
        start(tmp_path / f"whole-{over}", over=over)
        weights, count = script.weights(), len(calls)
        first = [".tmp-init" in each for each in calls].index(True)
        refused = 0
        for killed_at in range(first + 1, count + 1):
            calls.clear()
            folder = tmp_path / f"{over}-{killed_at}"
            with pytest.raises(Killed):
                start(folder, over=over)
            calls.clear()
            calls.extend([""] * count)  # no more kills
            try:
                train(config, folder, resume=True)
            except UsageError as err:
                assert "its start with --init was cut short" in str(err)  # noqa: PT017
                train(config, folder, init=tmp_path / "base", overwrite=True)
                refused += 1
            assert script.weights() == weights
        assert 5 < refused < count - first


def test_a_start_that_was_cut_short_is_nothing_to_a_new_training(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config_for(text), tmp_path / "base")
    with monkeypatch.context() as patched:
        patched.setattr(training_folder, "write_new_model", lambda *_, **__: raising(Killed())())
        with pytest.raises(Killed):
            train(config_for(text), tmp_path / "model", init=tmp_path / "base")
    message = (
        r"model: cannot be resumed: its start with --init was cut short, and the weights it was to "
        r"begin with are missing; give --init again, and --overwrite instead of --resume, or "
        r"delete .*model/\.tmp-init to go on with what was there before$"
    )
    with pytest.raises(UsageError, match=message):
        train(config_for(text), tmp_path / "model", resume=True)
    script.updates.clear()
    train(config_for(text), tmp_path / "model")
    assert train(config_for(text), tmp_path / "model", resume=True).steps == 6
    assert len(script.updates) == 6


def test_dropout_may_differ_from_the_other_models(
    script: Script, text: Path, tmp_path: Path
) -> None:
    train(config_for(text), tmp_path / "base")
    config = config_for(text, model__dropout=0.0, seed=9)
    assert train(config, tmp_path / "model", init=tmp_path / "base").steps == 6
    assert train(config, tmp_path / "model", resume=True).steps == 6


@pytest.mark.parametrize("existing", [False, True])
def test_another_model_that_is_damaged_leaves_the_folder_as_it_was(
    existing: bool, script: Script, text: Path, tmp_path: Path
) -> None:
    base, folder, config = tmp_path / "base", tmp_path / "model", config_for(text)
    for each in (base, folder)[: 1 + existing]:
        train(config, each)
    path = base / "checkpoints" / "step-6" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"weights\.safetensors: damaged"):
        train(config, folder, init=base, overwrite=True)
    assert checkpoint_steps(folder) == ([6] if existing else [])
    assert train(config, folder, resume=True).steps == 6


def test_a_model_is_not_deleted_to_begin_with_it(
    script: Script, text: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    train(config_for(text), folder)
    with pytest.raises(UsageError, match="is the folder to write, whose model would be lost; --ou"):
        train(config_for(text), folder, init=folder, overwrite=True)
    with pytest.raises(UsageError, match="holds a model already"):
        train(config_for(text), folder, init=folder)
    with pytest.raises(UsageError, match=r"^--resume and --init: give one of them: --re"):
        train(config_for(text), folder, init=folder, resume=True)
    assert train(config_for(text), folder, resume=True).steps == 6


def test_averaged_weights_are_not_gone_on_with_but_begun_with(
    script: Script, text: Path, tmp_path: Path
) -> None:
    config, mean = config_for(text, validation__every_steps=3), tmp_path / "mean"
    train(config, tmp_path / "base")
    average(tmp_path / "base", mean)
    message = (
        rf"^{mean}: cannot be resumed: it has the mean of weights, as seq2seq average makes it, "
        rf"and no optimizer; --init {mean} begins a training with them in another folder$"
    )
    with pytest.raises(ModelError, match=message) as caught:
        train(config, mean, resume=True)
    assert caught.value.exit_code == 4
    weights = load_best_weights(mean)["weight"]
    script.events[len(script.updates) + 1] = raising(Killed())
    with pytest.raises(Killed):
        train(config, tmp_path / "model", init=mean)
    np.testing.assert_array_equal(load_best_weights(tmp_path / "model")["weight"], weights)


def test_a_worker_has_the_other_models_tokenizer_too(
    script: Script, text: Path, other_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config_for(text), tmp_path / "base")
    config = config_for(other_text, training__accumulate_batches=2)
    workers = Told(1, {})
    monkeypatch.setattr(training, "start_workers", lambda *_: workers)
    place = Place(("a:1", "b:2"), 1)
    train(config, tmp_path / "model", init=tmp_path / "base", place=place)
    own = TokenizerPair.load(tmp_path / "model" / "workers" / "1" / "tokenizer")
    assert own.same_as(TokenizerPair.load(tmp_path / "base" / "tokenizer"))
    assert train(config, tmp_path / "model", resume=True, place=place).steps == 6


# Several workers: what the others say is told by the test, what they would compute is left out


class Told(Workers):
    """Two workers, of whom the test speaks for the one that is not this process.

    Attributes:
        says: The other's part of each gathering, by how many numbers it has, one after the other;
            the last one goes on for ever.
    """

    def __init__(self, index: int, says: Mapping[int, list[list[float]]]) -> None:
        super().__init__(tf.distribute.get_strategy())
        self.count, self.index, self.says = 2, index, says

    def gather(self, numbers: Sequence[float]) -> Any:
        given = self.says.get(len(numbers), [list(numbers)])
        other = given.pop(0) if len(given) > 1 else given[0]
        return np.array([other, list(numbers)] if self.index else [list(numbers), other])

    def from_chief(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        return dict(arrays)


def train_as(
    workers: Told, config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> TrainingResult:
    monkeypatch.setattr(training, "start_workers", lambda *_: workers)
    return train(config, folder, place=Place(("a:1", "b:2"), workers.index))


def test_workers_take_their_own_batches_and_only_the_chief_validates_and_writes(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(text, training__accumulate_batches=4, validation__every_steps=2)
    train(config, tmp_path / "alone")
    alone, validations = [*script.updates], len(script.validations)
    shares = []
    for index in range(2):
        script.updates.clear()
        script.validations.clear()
        train_as(Told(index, {}), config, tmp_path / "model", monkeypatch)
        shares.append([*script.updates])
        assert len(script.validations) == (0 if index else validations)
    for whole, first, second in zip(alone, *shares, strict=True):
        assert first.rows + second.rows == whole.rows
        assert (first.number, second.number) == (whole.number, whole.number + 2)
    own = tmp_path / "model" / "workers" / "1"
    assert sorted(each.name for each in own.iterdir()) == [
        ".lock", "config.toml", "encoded", "tokenizer",
    ]  # fmt: skip
    assert checkpoint_steps(tmp_path / "model")


def test_workers_go_on_with_the_trained_weights_and_not_with_their_averages(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.averages = True
    config = config_for(
        text, training__accumulate_batches=2, training__max_steps=4, validation__every_steps=2
    )
    train_as(Told(0, {}), config, tmp_path / "unbroken", monkeypatch)
    unbroken = script.weights()
    script.events = {len(script.updates) + 3: raising(Killed())}
    with pytest.raises(Killed):
        train_as(Told(0, {}), config, tmp_path / "killed", monkeypatch)
    monkeypatch.setattr(training, "start_workers", lambda *_: Told(0, {}))
    train(config, tmp_path / "killed", resume=True, place=Place(("a:1", "b:2"), 0))
    assert script.weights() == unbroken


def test_a_worker_that_is_new_to_a_run_takes_its_tokenizer(
    script: Script, text: Path, other_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config_for(text), tmp_path / "base")
    config = config_for(other_text, training__accumulate_batches=2)
    train(config, tmp_path / "model", init=tmp_path / "base")
    monkeypatch.setattr(training, "start_workers", lambda *_: Told(1, {}))
    train(config, tmp_path / "model", resume=True, place=Place(("a:1", "b:2"), 1))
    own = TokenizerPair.load(tmp_path / "model" / "workers" / "1" / "tokenizer")
    assert own.same_as(TokenizerPair.load(tmp_path / "base" / "tokenizer"))


def test_a_worker_goes_by_what_the_chief_found_in_validation(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(
        text,
        training__accumulate_batches=2,
        training__max_steps=20,
        training__schedule="plateau",
        training__learning_rate=0.8,
        validation__every_steps=1,
        validation__patience=3,
    )
    # Rounds without a better score, and plateaus: at the start and after each validation.
    chief = [[0, 0], [0, 0], [1, 0], [2, 1], [3, 1]]
    result = train_as(Told(1, {2: chief}), config, tmp_path / "model", monkeypatch)
    assert (result.steps, result.stopped_early, result.best) == (4, True, {})
    rates = [update.learning_rate for update in script.updates]
    assert rates == pytest.approx([0.8, 0.8, 0.8, 0.4])


@pytest.mark.parametrize("index", [0, 1])
def test_a_signal_to_another_worker_stops_this_one_too(
    index: int, script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(text, training__accumulate_batches=2)
    # What the other gives: the step it begins with and whether there is a model of --init to begin
    # with (asked of the chief), then its signals.
    says = {1: [[0], [0], [0], [0], [15]]}
    with pytest.raises(Interrupted, match="stopped by signal 15 after step 3") as caught:
        train_as(Told(index, says), config, tmp_path / "model", monkeypatch)
    assert caught.value.exit_code == 143
    assert checkpoint_steps(tmp_path / "model") == ([] if index else [3])


def test_a_language_model_is_not_trained_by_several_workers(tmp_path: Path) -> None:
    config = LanguageModelConfig.model_validate({"data": {"text": "text"}})
    with pytest.raises(UsageError, match=r"^a language model is trained by one process.*TF_CONFIG"):
        train(config, tmp_path / "model", place=Place(("a:1", "b:2"), 0))
    assert not (tmp_path / "model").exists()


# Real models


class Runs(NamedTuple):
    """A folder for further runs, the experiment, and the folder of its unbroken run."""

    folder: Path
    config: Config
    unbroken: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("training")
    text = write_corpus(folder, shortest=3, longest=3)  # each shape of a batch is compiled
    config = config_for(text, model__attention="none", validation__every_steps=4)
    train(config, folder / "unbroken")
    yield Runs(folder, config, folder / "unbroken")
    shutil.rmtree(folder)


def test_a_run_stopped_and_resumed_ends_with_the_same_bits(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Updater.update

    def update(updater: Updater, *arguments: Any, number: int, **options: Any) -> Any:
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(updater, *arguments, number=number, **options)

    folder = runs.folder / "resumed"
    with monkeypatch.context() as patched:
        patched.setattr(Updater, "update", update)
        with pytest.raises(Interrupted, match="after step 3, which is saved"):
            train(runs.config, folder)
    assert train(runs.config, folder, resume=True).steps == 6
    assert weights_and_state(folder) == weights_and_state(runs.unbroken)
    assert losses_of(folder) == losses_of(runs.unbroken)
    best, unbroken = read_best(folder), read_best(runs.unbroken)
    for key in ("step", "bleu", "loss", "signature"):
        assert best[key] == unbroken[key]


def test_a_training_begun_with_another_model_has_its_losses(runs: Runs) -> None:
    """Without dropout and with a rate too small to move weights."""
    config = config_for(
        runs.folder / "words",
        model__attention="none",
        model__dropout=0.0,
        training__learning_rate=1e-12,
        training__max_epochs=1,
        training__max_steps=None,
        training__log_every_steps=1000,
        validation={},
    )
    folder = runs.folder / "begun"
    train(config, folder, init=runs.unbroken)
    before = load_best_weights(runs.unbroken)
    for name, array in load_best_weights(folder).items():
        np.testing.assert_allclose(array, before[name], atol=1e-9)
    begun, trained, after = metrics_of(folder)
    expected = read_best(runs.unbroken)["loss"]  # of the same pairs, which are validated with
    for record in (begun, trained, after):
        assert record["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_training_begun_with_another_model_resumes_with_the_same_bits(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Updater.update
    fatal = [0, 2]  # before anything but what it began with is saved, and in between

    def update(updater: Updater, *arguments: Any, number: int, **options: Any) -> Any:
        if fatal and number == fatal[0]:
            fatal.pop(0)
            raise Killed
        return real(updater, *arguments, number=number, **options)

    config = config_for(
        runs.folder / "words",
        model__attention="none",
        seed=5,
        training__max_steps=3,
        validation__every_steps=2,
    )
    folders = [runs.folder / "begun-unbroken", runs.folder / "begun-killed"]
    train(config, folders[0], init=runs.unbroken)
    with monkeypatch.context() as patched:
        patched.setattr(Updater, "update", update)
        with pytest.raises(Killed):
            train(config, folders[1], init=runs.unbroken)
        with pytest.raises(Killed):
            train(config, folders[1], resume=True)
    assert train(config, folders[1], resume=True).steps == 3
    assert weights_and_state(folders[1]) == weights_and_state(folders[0])
    assert losses_of(folders[1]) == losses_of(folders[0])


def test_the_model_folder_is_all_a_translator_needs(runs: Runs, tmp_path: Path) -> None:
    moved = tmp_path / "moved model"
    shutil.copytree(runs.unbroken, moved, ignore=shutil.ignore_patterns("encoded", "tensorboard"))
    assert len(Translator.load(moved).translate(["abc", "", "dcba"])) == 3


def test_a_learning_rate_far_too_high_is_divergence_and_saves_nothing_broken(runs: Runs) -> None:
    config = config_for(
        runs.folder / "words",
        model__attention="none",
        training__optimizer="sgd",
        training__learning_rate=1e38,
        training__gradient_norm=1e6,
        training__checkpoint_every_minutes=ALWAYS,
        validation__every_steps=2,
    )
    folder = runs.folder / "diverged"
    with pytest.raises(DivergenceError, match=r"^step \d: "):
        train(config, folder)
    for step in checkpoint_steps(folder):
        checkpoint = load_checkpoint(folder, step)
        arrays = [*checkpoint.weights.values(), *checkpoint.optimizer.values()]
        assert all(np.isfinite(array).all() for array in arrays)


# Minutes long


@pytest.mark.slow
@pytest.mark.parametrize(("attention", "units", "steps"), [("luong", 64, 300), ("none", 128, 1200)])
def test_short_strings_are_learnt_to_be_reversed(
    attention: str, units: int, steps: int, tmp_path: Path
) -> None:
    generator = random.Random(0)
    drawn = ["".join(generator.choices("abcdefgh", k=generator.randint(2, 8))) for _ in range(3500)]
    words = list(dict.fromkeys(drawn))
    unseen, seen = words[:300], words[300:]
    files = {}
    for name, part in (("train", seen), ("validation", unseen)):
        for side, order in (("source", 1), ("target", -1)):
            files[f"{name}_{side}"] = tmp_path / f"{name}.{side}"
            lines = "".join(f"{word[::order]}\n" for word in part)
            files[f"{name}_{side}"].write_text(lines)
    config = Config.model_validate(
        {
            "data": files,
            "tokenizer": {"type": "char", "vocabulary_size": 16, "byte_fallback": False},
            "model": {
                "embedding_size": 32,
                "encoder_layers": 1,
                "encoder_units": units,
                "decoder_layers": 1,
                "decoder_units": units,
                "attention": attention,
                "dropout": 0.0,
            },
            "training": {
                "learning_rate": 5e-3,
                "schedule": "linear",
                "warmup_steps": 50,
                "batch_tokens": 1024,
                "max_steps": steps,
                "max_epochs": 100,
            },
            "validation": {"every_steps": 300, "bleu_tokenizer": "char", "samples": 1},
        }
    )
    result = train(config, tmp_path / "model")
    translations = Translator.load(tmp_path / "model").translate(unseen, beam_size=1)
    right = [each.text == word[::-1] for word, each in zip(unseen, translations, strict=True)]
    assert np.mean(right) > 0.95
    assert result.best["bleu"] > 95.0
