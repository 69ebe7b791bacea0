"""Training a language model: what it scores, where it stops, and that it goes on exactly."""

import itertools
import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language_model_fixtures import TEXT, expected_log_probs, language_model_config
from training_fixtures import files_of

from seq2seq.checkpoint import load_best_weights, load_newest_checkpoint, read_best
from seq2seq.config import LanguageModelConfig
from seq2seq.errors import DataError, Interrupted, UsageError
from seq2seq.text_tokenizer import load_text_tokenizer
from seq2seq.training import train
from seq2seq.updates import Updater

pytestmark = pytest.mark.usefixtures("no_wait_for_the_disk")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8", newline="")
    return path


def config_for(text: Path, **changes: Any) -> LanguageModelConfig:
    return language_model_config(text, **changes)


def records_of(folder: Path, split: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["split"] == split]


# TEXT has 168 characters, of which 134 are to train on: 5 windows of 4 rows of 6 symbols an epoch.
WINDOWS = 5


def test_each_epoch_is_validated_and_the_best_is_kept(text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    result = train(config_for(text), folder)
    assert result.steps == 3 * WINDOWS
    validations = records_of(folder, "validation")
    assert [record["step"] for record in validations] == [5, 10, 15]
    best = min(validations, key=lambda record: record["loss"])
    assert json.loads((folder / "best.json").read_text())["step"] == best["step"]
    assert result.headline == f"loss {best['loss']:.4f}"
    assert records_of(folder, "train")[-1]["epoch"] == 3


def test_scores_are_those_of_numpy_on_the_saved_weights(text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    train(config_for(text, training__max_epochs=1), folder)
    (record,) = records_of(folder, "validation")
    tokenizer = load_text_tokenizer(folder / "tokenizer")
    validation = TEXT[int(0.8 * len(TEXT)) :]
    ids = np.array([tokenizer.newline_id, *tokenizer.encode(validation)])
    log_probs = expected_log_probs(load_best_weights(folder), ids)
    nll = -log_probs[np.arange(len(validation)), ids[1:]].mean()
    assert record["loss"] == pytest.approx(nll, rel=1e-5)
    assert record["perplexity"] == pytest.approx(math.exp(nll), rel=1e-4)
    assert record["bits_per_character"] == pytest.approx(nll / math.log(2), rel=1e-5)
    assert record["accuracy"] == pytest.approx((log_probs.argmax(axis=1) == ids[1:]).mean())


def test_a_first_step_has_the_loss_of_numpy_and_the_second_goes_on_from_it(
    text: Path, tmp_path: Path
) -> None:
    """Without dropout and with a rate too small to move weights."""
    folder = tmp_path / "model"
    changes: dict[str, Any] = {"model__dropout": 0.0, "training__learning_rate": 1e-12}
    train(config_for(text, training__max_epochs=2, **changes), folder)
    tokenizer = load_text_tokenizer(folder / "tokenizer")
    ids = tokenizer.encode(TEXT)
    weights = load_best_weights(folder)
    span = 6 * WINDOWS
    rows = [ids[row * span : (row + 1) * span + 1] for row in range(4)]
    log_probs = [expected_log_probs(weights, row)[np.arange(span), row[1:]] for row in rows]
    nll = -np.stack(log_probs)  # [4, 30]: one pass over each row
    expected = [nll[:, 6 * step : 6 * step + 6].mean() for step in range(WINDOWS)]
    found = [record["loss"] for record in records_of(folder, "train")]
    np.testing.assert_allclose(found, 2 * expected, rtol=1e-5)  # the second epoch begins anew


class Stopped(Exception):
    pass


@pytest.mark.parametrize("stop", [1, 4, 5, 7])
def test_a_run_that_is_gone_on_with_is_the_unbroken_one(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    config = config_for(text, training__checkpoint_every_minutes=1e-9, validation__sample_length=5)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(config, whole)
    update, updates = Updater.update, []

    def stopping(self: Updater, *arguments: Any, **options: Any) -> Any:
        if len(updates) == stop:
            raise Stopped
        updates.append(stop)
        return update(self, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Updater, "update", stopping)
        with pytest.raises(Stopped):
            train(config, broken)
    train(config, broken, resume=True)
    expected, _ = load_newest_checkpoint(whole)
    found, _ = load_newest_checkpoint(broken)
    for kind in ("weights", "optimizer"):
        arrays, wanted = getattr(found, kind), getattr(expected, kind)
        assert arrays.keys() == wanted.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, wanted[name], err_msg=name)
    assert any(name.startswith("carried/") for name in expected.optimizer)
    losses = [record["loss"] for record in records_of(broken, "train")]
    assert losses == [record["loss"] for record in records_of(whole, "train")]


def test_without_validation_text_the_newest_weights_are_the_best(
    text: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    result = train(config_for(text, data__validation_share=0.0), folder)
    assert records_of(folder, "validation") == []
    assert result.best["step"] == result.steps == 3 * 6  # 168 symbols: 6 windows an epoch
    assert result.headline == ""
    newest, _ = load_newest_checkpoint(folder)
    for name, array in load_best_weights(folder).items():
        np.testing.assert_array_equal(array, newest.weights[name])


@pytest.mark.parametrize("stop", [4, 8])  # in the first epoch, and in the second one
def test_without_validation_text_what_an_interruption_saves_is_the_best(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    folder, update, updates = tmp_path / "model", Updater.update, []

    def stopping(self: Updater, *arguments: Any, **options: Any) -> Any:
        updates.append(stop)
        if len(updates) == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self, *arguments, **options)

    monkeypatch.setattr(Updater, "update", stopping)
    with pytest.raises(Interrupted):
        train(config_for(text, data__validation_share=0.0), folder)
    assert read_best(folder)["step"] == stop
    newest, _ = load_newest_checkpoint(folder)
    assert newest.step == stop
    for name, array in load_best_weights(folder).items():
        np.testing.assert_array_equal(array, newest.weights[name])


def test_training_stops_when_the_loss_no_longer_falls(text: Path, tmp_path: Path) -> None:
    config = config_for(
        text, training__max_epochs=50, training__learning_rate=1e-30, validation__patience=2
    )
    result = train(config, tmp_path / "model")
    assert result.stopped_early
    assert result.steps == 3 * WINDOWS  # the first is the best there was


def test_a_model_that_repeats_one_line_learns_it(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("abcdefgh\n" * 200, encoding="utf-8")
    config = config_for(
        path,
        model__units=24,
        model__dropout=0.0,
        training__learning_rate=1e-2,
        training__max_epochs=6,
    )
    result = train(config, tmp_path / "model")
    assert result.best["loss"] < 0.05
    assert result.best["accuracy"] > 0.99


def test_samples_are_shown(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"validation__prime": "a d", "validation__sample_length": 12}
    train(config_for(text, training__max_epochs=1, **changes), tmp_path / "model")
    errors = capsys.readouterr().err
    assert "symbols, " in errors
    assert "    sample      a d" in errors
    lines = errors.split("\n")
    sample = next(at for at, line in enumerate(lines) if line.startswith("    sample"))
    # Symbols are shown one for one, each line of the text in its own place.
    shown = itertools.takewhile(lambda line: line.startswith("    "), lines[sample:])
    assert len("\n".join(line[16:] for line in shown)) == len("a d") + 12
    assert "bits a character" in errors


def test_unknown_symbols_of_the_validation_text_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "text.txt"
    path.write_text(TEXT + "♥♥ Ж" * 3, encoding="utf-8")
    train(config_for(path, training__max_epochs=1), tmp_path / "model")
    assert (
        "warning: 9 symbols of the validation text are not in the vocabulary and are scored as "
        "unknown, such as '♥' 'Ж'"
    ) in capsys.readouterr().err


def test_the_share_of_unknown_symbols_stands_beside_what_they_make_better(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"training__max_epochs": 1, "validation__sample_length": 0}
    words = {"type": "word", "vocabulary_size": 3}
    train(config_for(text, tokenizer=words, **options), tmp_path / "model")
    record = records_of(tmp_path / "model", "validation")[-1]
    assert 0 < record["unknown"] <= 1
    assert f"  {record['unknown']:.1%} unknown  " in capsys.readouterr().err
    train(config_for(text, **options), tmp_path / "all")
    assert "unknown" not in records_of(tmp_path / "all", "validation")[-1]


def test_what_fills_no_window_is_told(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"training__max_epochs": 1, "validation__sample_length": 0}
    train(config_for(text, **options), tmp_path / "model")
    # 134 symbols, of which the first is predicted by none: 5 windows of 4 x 6, and 13 more.
    assert (
        "warning: the last 13 symbols of the training text fill no window of 4 x 6 and are not "
        "trained on; a smaller training.batch_size or training.window leaves fewer"
    ) in capsys.readouterr().err
    train(config_for(text, training__window=33, **options), tmp_path / "one")  # 4 * 33, and 1 more
    assert "fill no window" not in capsys.readouterr().err


def test_a_text_that_is_too_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("abc abc", encoding="utf-8")
    with pytest.raises(DataError, match="the training text has 5 symbols, but 25 are needed"):
        train(config_for(path), tmp_path / "model")
    fitting = config_for(path, training__batch_size=1, training__window=2)
    assert train(fitting, tmp_path / "model").steps  # nothing was begun that is in the way


def test_a_text_that_is_too_short_costs_no_other_model(text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    train(config_for(text, training__max_epochs=1), folder)
    before = files_of(folder)
    with pytest.raises(DataError, match="are needed"):
        train(config_for(text, training__window=1000), folder, overwrite=True)
    after = files_of(folder)
    assert after == before


def test_another_text_is_not_gone_on_with(text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    train(config_for(text, training__max_epochs=1), folder)
    before = files_of(folder)
    text.write_text(TEXT.replace("dog", "god", 1), encoding="utf-8", newline="")
    with pytest.raises(UsageError, match="cannot be resumed with another text: a file that"):
        train(config_for(text, training__max_epochs=2), folder, resume=True)
    assert files_of(folder) == before


def test_another_experiment_is_not_gone_on_with(text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    train(config_for(text, training__max_epochs=1), folder)
    with pytest.raises(UsageError, match=r"training\.window was 6, is 7"):
        train(config_for(text, training__window=7), folder, resume=True)
    train(config_for(text, training__max_epochs=2, generation__length=7), folder, resume=True)


def test_a_language_model_begins_with_another_ones_weights_and_symbols(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config_for(text), tmp_path / "before")
    other = tmp_path / "other.txt"
    other.write_text("♥ the red dog\n" * 12, encoding="utf-8")
    still: dict[str, Any] = {"training__learning_rate": 1e-12, "training__max_epochs": 1}
    config = config_for(other, model__dropout=0.0, **still)
    train(config, tmp_path / "model", init=tmp_path / "before")
    before = load_best_weights(tmp_path / "before")
    for name, array in load_best_weights(tmp_path / "model").items():
        np.testing.assert_allclose(array, before[name], atol=1e-9)
    symbols = load_text_tokenizer(tmp_path / "model" / "tokenizer")
    assert symbols.fingerprint == load_text_tokenizer(tmp_path / "before/tokenizer").fingerprint
    errors = capsys.readouterr().err
    assert "symbols of the training text are not in the vocabulary" in errors
    assert f"starting with weights and tokenizer of {tmp_path / 'before'}\n" in errors


def test_symbols_of_another_kind_are_refused(text: Path, tmp_path: Path) -> None:
    train(config_for(text, training__max_epochs=1), tmp_path / "before")
    words = config_for(text, tokenizer__type="word")
    message = "before: its weights .* tokenizer.type is 'word', and 'character' there; set"
    with pytest.raises(UsageError, match=message):
        train(words, tmp_path / "model", init=tmp_path / "before")
    assert not (tmp_path / "model").exists()
