"""Training: how it begins, in which folder, with what and with whom; the last ones are real."""

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from training_fixtures import (
    ALWAYS,
    Killed,
    Script,
    config_for,
    files_of,
    losses_of,
    metrics_of,
    raising,
    weights_and_state,
    write_corpus,
)

from seq2seq import training, training_folder
from seq2seq.averaging import average
from seq2seq.checkpoint import (
    checkpoint_steps,
    load_best_weights,
    load_checkpoint,
    read_best,
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
    StorageError,
    UsageError,
)
from seq2seq.tokenizer import TokenizerPair
from seq2seq.training import TrainingResult, train
from seq2seq.translation_experiment import TranslationExperiment
from seq2seq.translator import Translator
from seq2seq.updates import Updater
from seq2seq.worker_place import Place
from seq2seq.workers import Workers

pytestmark = pytest.mark.usefixtures("no_wait_for_the_disk")


@pytest.fixture
def other_text(tmp_path: Path) -> Path:
    """A text with other characters, for another tokenizer."""
    path = tmp_path / "other"
    path.write_text("dcba\nabcd\ndddd\n")
    return path


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


# Refusals


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
        r"model: cannot be written: No space left on device; a checkpoint needs 0\.0 MB, and up to "
        "4 are kept"
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


def test_a_model_that_does_not_fit_into_memory_is_told_with_what_to_do(
    script: Script, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(self: Any, folder: Path, workers: Workers) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr(TranslationExperiment, "build", build)
    with pytest.raises(UsageError, match=r"out of memory with the model; make it smaller"):
        train(config_for(text), tmp_path / "model")


def test_a_folder_with_a_model_is_not_overwritten_unasked(
    script: Script, text: Path, tmp_path: Path
) -> None:
    folder, config = tmp_path / "model", config_for(text)
    train(config, folder)
    files = files_of(folder)
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
    before = files_of(folder)
    with pytest.raises(error):
        train(config_for(text, **change), folder, overwrite=True)
    after = files_of(folder)
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
    before = files_of(mean)
    with pytest.raises(ModelError, match=message) as caught:
        train(config, mean, resume=True)
    assert caught.value.exit_code == 4
    assert files_of(mean) == before
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
