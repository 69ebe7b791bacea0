"""The loop: how long it lasts, what it leaves, and that no interruption changes that.

It runs on a scripted model, whose weights tell exactly which updates made them.
"""

import dataclasses
import math
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
    files_of,
    metrics_of,
    raising,
)

from seq2seq import durable_files, training_loop
from seq2seq.checkpoint import (
    checkpoint_steps,
    load_best_weights,
    load_checkpoint,
    load_newest_checkpoint,
    read_best,
    save_checkpoint,
    validated_steps,
)
from seq2seq.config import Config
from seq2seq.errors import (
    DivergenceError,
    Interrupted,
    ModelError,
    NotANumberError,
    StorageError,
    UsageError,
)
from seq2seq.training import TrainingResult, train
from seq2seq.validation import Validated

pytestmark = pytest.mark.usefixtures("no_wait_for_the_disk")


def train_until_killed(
    script: Script, at: int, config: Config, folder: Path, *, resume: bool = False
) -> None:
    """Trains until the process is killed in update `at` of the script."""
    script.events[at] = raising(Killed())
    with pytest.raises(Killed):
        train(config, folder, resume=resume)


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
    train_until_killed(script, 4, config, tmp_path / "model")
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
    train_until_killed(script, 4, config, tmp_path / "model")
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
    real = training_loop.Reporter.training

    def reporting(reporter: Any, record: Mapping[str, Any]) -> None:
        real(reporter, record)
        if record["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(training_loop.Reporter, "training", reporting)
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
    monkeypatch.setattr("seq2seq.training_loop.resolve_precision", lambda precision: "bfloat16")
    train(config_for(text, training__max_steps=2), tmp_path / "model")
    monkeypatch.setattr("seq2seq.training_loop.resolve_precision", lambda precision: "float32")
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
    train_until_killed(script, 5, config, tmp_path / "model")
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
    train_until_killed(
        script, 10, config_for(text, **options, training__max_steps=12), folder, resume=True
    )
    assert checkpoint_steps(folder) == [6, 8]
    path = folder / "checkpoints" / "step-8" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    capfd.readouterr()
    script.updates.clear()
    script.bleus, script.events = [1.5], {}
    result = train(config_for(text, **options, training__max_steps=8), folder, resume=True)
    told = capfd.readouterr().err
    assert f"warning: {path}: damaged" in told
    assert "; kept as damaged-step-8, going on from step 6\n" in told
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
    train_until_killed(script, 5, config_for(text, **options), folder)
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
    files = files_of(folder)
    text.write_bytes(before.replace(b"a", b"b", 1))
    longer = config_for(text, training__max_steps=8)
    with pytest.raises(UsageError, match="model: cannot be resumed with another text: a file that"):
        train(longer, folder, resume=True)
    assert len(script.updates) == 6
    assert files_of(folder) == files  # its ids and its configuration, too
    text.write_bytes(before)
    other = text.with_name("other words")
    other.write_bytes(before)
    watched = config_for(text, data__validation_source=other, data__validation_target=other)
    train(watched, tmp_path / "watched")
    files = files_of(tmp_path / "watched")
    other.write_bytes(before + b" \n")  # its scores would not be comparable with the best one
    with pytest.raises(UsageError, match="watched: cannot be resumed with another text"):
        train(watched, tmp_path / "watched", resume=True)
    assert files_of(tmp_path / "watched") == files
    # Where ids are used again, what was trained on decides all the same.
    saved = load_checkpoint(tmp_path / "watched", 6)
    other.write_bytes(before)
    shutil.rmtree(tmp_path / "watched" / "checkpoints" / "step-6")
    state = {**saved.state, "fingerprint": "of another text"}
    save_checkpoint(tmp_path / "watched", dataclasses.replace(saved, state=state))
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
