"""Averaged checkpoints: the mean by hand, and a model folder that is there whole or not at all."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from model_fixtures import SENTENCES, STEP, tiny_config

from seq2seq import averaging
from seq2seq.averaging import average
from seq2seq.checkpoint import (
    Checkpoint,
    checkpoint_steps,
    load_best_weights,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
    write_best,
)
from seq2seq.config_file import dump_config, load_model_config
from seq2seq.durable_files import locked
from seq2seq.errors import LockedError, ModelError, StorageError, UsageError
from seq2seq.generator import LanguageModel
from seq2seq.tokenizer import TokenizerPair, prepare_tokenizers
from seq2seq.translator import Translator

pytestmark = pytest.mark.usefixtures("no_wait_for_the_disk")


def save(model: Path, step: int, weights: dict[str, Sequence[float]]) -> None:
    """A checkpoint as training makes it."""
    arrays = {name: np.array(each, np.float32) for name, each in weights.items()}
    optimizer = {"iteration": np.array(step, np.int64)}
    save_checkpoint(model, Checkpoint(step, arrays, optimizer, {"best": {}}))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with checkpoints of the steps 3, 5 and 10, of which 3 is the best."""
    folder = tmp_path / "model"
    folder.mkdir()
    config = tiny_config(tmp_path)
    (folder / "config.toml").write_text(dump_config(config))
    prepare_tokenizers(config).save(folder / "tokenizer")
    save(folder, 3, {"kernel": [1.0, -2.0], "bias": [0.5]})
    save(folder, 5, {"kernel": [2.0, 4.0], "bias": [0.25]})
    save(folder, 10, {"kernel": [6.0, 10.0], "bias": [3.0]})
    write_best(folder, {"step": 3, "bleu": 9.0})
    return folder


def copied_and_trained_on(
    original: Path, tmp_path: Path, *, step: int, factor: int
) -> tuple[Path, dict[str, np.ndarray]]:
    """A copy of a model with a later checkpoint of `factor` times its weights; its weights."""
    model = tmp_path / "model"
    shutil.copytree(original, model)
    weights = load_best_weights(model)
    later = {name: factor * array for name, array in weights.items()}
    save_checkpoint(model, Checkpoint(step, later, {}, {}))
    return model, weights


def weights_of(folder: Path) -> dict[str, list[float]]:
    return {name: each.tolist() for name, each in load_best_weights(folder).items()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_that_are_kept_are_averaged_the_best_one_included(model: Path, tmp_path: Path) -> None:
    done = average(model, tmp_path / "runs" / "mean")
    assert done == (tmp_path / "runs" / "mean", [3, 5, 10])
    # (1 + 2 + 6) / 3, (-2 + 4 + 10) / 3; (0.5 + 0.25 + 3) / 3
    assert weights_of(done.folder) == {"kernel": [3.0, 4.0], "bias": [1.25]}


def test_the_newest_ones_are_averaged_if_so_many_are_asked_for(model: Path, tmp_path: Path) -> None:
    assert average(model, tmp_path / "mean", last=2).steps == [5, 10]
    assert weights_of(tmp_path / "mean") == {"kernel": [4.0, 7.0], "bias": [1.625]}


def test_what_no_validation_followed_is_left_out(model: Path, tmp_path: Path) -> None:
    weights = {"kernel": np.full(2, 99, np.float32), "bias": np.full(1, 99, np.float32)}
    for step in (0, 4, 12):  # what training began with, and what the clock made
        save_checkpoint(model, Checkpoint(step, weights, {}, {"validated": False}))
    assert average(model, tmp_path / "mean").steps == [3, 5, 10]
    assert average(model, tmp_path / "two", last=2).steps == [5, 10]
    with pytest.raises(UsageError, match="checkpoints to average: got 3, expected 4 or more"):
        average(model, tmp_path / "four", last=4)


def test_sums_are_exact_to_more_than_32_bits(model: Path, tmp_path: Path) -> None:
    shutil.rmtree(model / "checkpoints")
    for step, value in enumerate([2.0**24, 1.0, 1.0], start=1):
        save(model, step, {"kernel": [value]})
    average(model, tmp_path / "mean")
    # (16,777,216 + 1 + 1) / 3; of float32 the sum would be the same without the ones.
    assert weights_of(tmp_path / "mean") == {"kernel": [5592406.0]}
    assert load_best_weights(tmp_path / "mean")["kernel"].dtype == np.float32


def test_the_new_folder_has_what_a_model_folder_has(model: Path, tmp_path: Path) -> None:
    mean = average(model, tmp_path / "mean").folder
    assert names(mean) == [".lock", "checkpoints", "config.toml", "tokenizer"]
    assert load_model_config(mean) == load_model_config(model)
    tokenizers = TokenizerPair.load(mean / "tokenizer")
    assert tokenizers.same_as(TokenizerPair.load(model / "tokenizer"))
    assert checkpoint_steps(mean) == [10]
    assert load_checkpoint(mean, 10).optimizer == {}
    manifest, before = (
        json.loads((folder / "checkpoints" / "step-10" / "MANIFEST.json").read_text())
        for folder in (mean, model)
    )
    assert manifest["format"] == before["format"]
    assert manifest["tokenizer"] == before["tokenizer"]
    assert manifest["files"].keys() == before["files"].keys()
    assert names(tmp_path) == ["mean", "model", "sentences.txt"]


@pytest.mark.parametrize(
    ("kept", "last", "message"),
    [
        (0, None, "got 0, expected 2 or more; raise training.keep_checkpoints, which is 2, and"),
        (1, None, "got 1, expected 2 or more; raise training.keep_checkpoints"),
        (1, 2, "got 1, expected 2 or more"),
        (3, 4, "got 3, expected 4 or more"),
    ],
)
def test_too_few_checkpoints_are_told_with_what_to_do(
    model: Path, tmp_path: Path, kept: int, last: int | None, message: str
) -> None:
    for step in [3, 5, 10][: 3 - kept]:
        shutil.rmtree(model / "checkpoints" / f"step-{step}")
    with pytest.raises(UsageError, match=f"^{model}: checkpoints to average: {message}") as caught:
        average(model, tmp_path / "mean", last=last)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize("last", [1, 0, -3])
def test_fewer_than_two_are_no_average(model: Path, tmp_path: Path, last: int) -> None:
    with pytest.raises(UsageError, match=f"^last: got {last}, expected a whole number of 2 or"):
        average(model, tmp_path / "mean", last=last)


def test_a_folder_that_exists_is_left_as_it_is(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mean").mkdir()
    with pytest.raises(UsageError, match="mean: exists already; delete it or choose another name"):
        average(model, tmp_path / "mean")
    assert names(tmp_path / "mean") == []


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model folder"):
        average(tmp_path, tmp_path / "mean")


@pytest.mark.parametrize("part", ["checkpoints/step-5/weights.safetensors", "tokenizer"])
def test_a_damaged_checkpoint_is_not_averaged(model: Path, tmp_path: Path, part: str) -> None:
    path = model / part
    path = next(path.iterdir()) if path.is_dir() else path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"{path.name}: damaged"):
        average(model, tmp_path / "mean")
    assert names(tmp_path) == ["model", "sentences.txt"]


def test_a_checkpoint_that_makes_room_meanwhile_is_told_of(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = averaging.load_step_weights

    def load_and_train_on(folder: Path, step: int) -> dict[str, np.ndarray]:
        weights = real(folder, step)
        prune_checkpoints(model, keep=1)  # leaves the best one, 3, and 10
        return weights

    monkeypatch.setattr(averaging, "load_step_weights", load_and_train_on)
    message = "^.*model: the checkpoint of step 5 is gone: a training in this folder made room"
    with pytest.raises(ModelError, match=message) as caught:
        average(model, tmp_path / "mean")
    assert caught.value.exit_code == 4
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize("weights", [{"kernel": [1.0, 2.0]}, {"kernel": [1.0], "bias": [0.0]}])
def test_checkpoints_of_different_models_are_not_averaged(
    model: Path, tmp_path: Path, weights: dict[str, list[float]]
) -> None:
    save(model, 11, weights)
    with pytest.raises(ModelError, match="of steps 3 and 11 do not have the same weights"):
        average(model, tmp_path / "mean")


def test_what_a_killed_one_left_goes(model: Path, tmp_path: Path) -> None:
    left = tmp_path / ".tmp-mean"
    left.mkdir()
    save(left, 10, {"other": [7.0]})
    (left / "tokenizer").mkdir()
    (left / "tokenizer" / "characters.json").write_bytes(b"half")
    mean = average(model, tmp_path / "mean").folder
    assert weights_of(mean) == {"kernel": [3.0, 4.0], "bias": [1.25]}
    assert names(mean / "tokenizer") == names(model / "tokenizer")
    assert names(tmp_path) == ["mean", "model", "sentences.txt"]


def test_whichever_call_to_the_disk_fails_the_folder_is_whole_or_not_there(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    fails_at = 0

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    average(model, tmp_path / "whole")
    of_all, published = len(calls), []
    for fails_at in range(1, of_all + 1):
        calls.clear()
        with pytest.raises(StorageError, match=r"mean.*: cannot be written: No space left"):
            average(model, tmp_path / "mean")
        if (tmp_path / "mean").exists():
            assert weights_of(tmp_path / "mean") == weights_of(tmp_path / "whole")
            shutil.rmtree(tmp_path / "mean")
            published.append(fails_at)
        assert not list(tmp_path.glob(".tmp-mean/*"))
    assert published == [of_all]  # when the name itself cannot be made sure of


def test_two_that_write_one_folder_exclude_each_other(model: Path, tmp_path: Path) -> None:
    with locked(tmp_path / ".tmp-mean"), pytest.raises(LockedError, match="another process is"):
        average(model, tmp_path / "mean")


def test_it_needs_no_tensorflow(model: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from seq2seq.cli import main; code = main(); "
        "sys.exit(code or bool({'tensorflow', 'keras'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, "average", str(model), "--output"]
    done = subprocess.run([*command, str(tmp_path / "mean")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"{tmp_path}/mean: mean of 3 checkpoints of {model}: steps 3, 5, 10\n"


def test_a_translator_averaged_with_itself_translates_as_before(
    model_folder: Path, tmp_path: Path
) -> None:
    model, weights = copied_and_trained_on(model_folder, tmp_path, step=STEP + 1, factor=1)
    mean = average(model, tmp_path / "mean").folder
    for name, array in load_best_weights(mean).items():
        np.testing.assert_array_equal(array, weights[name])
    before, after = (
        [(each.text, each.score) for each in Translator.load(folder).translate(SENTENCES)]
        for folder in (model, mean)
    )
    assert before == after


def test_a_language_model_has_the_weights_between_those_averaged(
    language_model_folder: Path, tmp_path: Path
) -> None:
    model, weights = copied_and_trained_on(language_model_folder, tmp_path, step=8, factor=3)
    mean = LanguageModel.load(average(model, tmp_path / "mean").folder)
    twice = {name: 2 * array for name, array in weights.items()}
    doubled = tmp_path / "doubled"
    shutil.copytree(model, doubled, ignore=shutil.ignore_patterns("checkpoints", "best.json"))
    save_checkpoint(doubled, Checkpoint(1, twice, {}, {}))
    assert mean.score("a dog").loss == LanguageModel.load(doubled).score("a dog").loss
