"""Which models a training can begin with, and the mark of a start that is not whole.

What training makes of it is in test_training.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language_model_fixtures import TEXT, language_model_config
from model_fixtures import tiny_config

from seq2seq.checkpoint import load_checkpoint
from seq2seq.config import Config, LanguageModelConfig
from seq2seq.errors import ModelError, UsageError
from seq2seq.fine_tuning import (
    check_init,
    check_not_cut_short,
    drop_mark,
    load_start,
    mark_start,
    write_start,
)
from seq2seq.new_model import write_new_model
from seq2seq.text_tokenizer import make_text_tokenizer
from seq2seq.tokenizer import prepare_tokenizers

WEIGHTS = {"kernel": np.array([1.5, -2.0], np.float32)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A translator's folder, without real weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    config = tiny_config(tmp_path)
    tokenizers = prepare_tokenizers(config)
    write_new_model(folder, config, tokenizer=tokenizers, weights=WEIGHTS, step=7)
    return folder


@pytest.fixture
def language_model(tmp_path: Path) -> Path:
    """A language model's folder, likewise."""
    folder = tmp_path / "language model"
    folder.mkdir()
    config = language_model_config(tmp_path / "text.txt")
    tokenizer = make_text_tokenizer(config.tokenizer, TEXT)
    write_new_model(folder, config, tokenizer=tokenizer, weights=WEIGHTS, step=7)
    return folder


def translation(folder: Path, **sections: dict[str, Any]) -> Config:
    """The experiment of `model`, with other keys in some sections."""
    raw = tiny_config(folder).model_dump()
    for name, section in sections.items():
        raw[name] |= section
    return Config.model_validate(raw)


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"model": {"dropout": 0.7}},
        {"training": {"optimizer": "sgd"}, "decoding": {"beam_size": 1}},
        {"tokenizer": {"type": "bpe", "vocabulary_size": 900}},  # none is made
    ],
)
def test_other_text_training_and_dropout_are_what_fine_tuning_is_for(
    model: Path, tmp_path: Path, sections: dict[str, dict[str, Any]]
) -> None:
    check_init(model, translation(tmp_path, **sections), resume=False)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"decoder_units": 16}, "model.decoder_units is 16, and 12 there; set them as they are"),
        (
            {"bidirectional": False, "attention": "none", "dropout": 0.9},
            "model.bidirectional is False, and True there; model.attention is 'none', and 'luong'",
        ),
        ({"tied_embeddings": "all"}, "model.tied_embeddings is 'all', and 'none' there"),
    ],
)
def test_weights_of_other_layers_are_refused_and_all_keys_named(
    model: Path, tmp_path: Path, section: dict[str, Any], told: str
) -> None:
    config = translation(tmp_path, model=section)
    message = f"^--init {model}: its weights are of another model: {told}"
    with pytest.raises(UsageError, match=message) as caught:
        check_init(model, config, resume=False)
    assert caught.value.exit_code == 2
    assert "dropout" not in str(caught.value)


def test_a_language_models_symbols_must_be_of_one_kind(
    language_model: Path, tmp_path: Path
) -> None:
    config = language_model_config(tmp_path / "text.txt", tokenizer__type="word", model__units=9)
    message = "model.units is 9, and 7 there; tokenizer.type is 'word', and 'character' there; set"
    with pytest.raises(UsageError, match=message):
        check_init(language_model, config, resume=False)
    dropout = {"model__dropout": 0.0, "model__embedding_dropout": 0.5}
    other: LanguageModelConfig = language_model_config(tmp_path / "text.txt", **dropout)
    check_init(language_model, other, resume=False)


def test_a_model_of_the_other_task_is_refused(
    model: Path, language_model: Path, tmp_path: Path
) -> None:
    message = "is of task 'translation', and task is 'language-model' in the configuration; weig"
    with pytest.raises(UsageError, match=message):
        check_init(model, language_model_config(tmp_path / "text.txt"), resume=False)
    with pytest.raises(UsageError, match="is of task 'language-model', and task is 'translation'"):
        check_init(language_model, translation(tmp_path), resume=False)


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (["source_model"], "tokenizer.source_model: cannot be used with --init, which takes the"),
        (["source_model", "target_model"], "tokenizer.source_model and tokenizer.target_model: c"),
    ],
)
def test_there_is_no_second_tokenizer(
    model: Path, tmp_path: Path, named: list[str], told: str
) -> None:
    config = translation(tmp_path, tokenizer=dict.fromkeys(named, "pieces.model"))
    with pytest.raises(UsageError, match=f"^{told}"):
        check_init(model, config, resume=False)


def test_what_is_resumed_has_begun_already(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^--resume and --init: give .* needs {model} no more$"):
        check_init(model, translation(tmp_path), resume=True)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not a model folder: no config\.toml"):
        check_init(tmp_path, translation(tmp_path), resume=False)


def test_the_mark_goes_when_all_that_training_begins_with_is_there(
    model: Path, tmp_path: Path
) -> None:
    config = translation(tmp_path)
    folder = tmp_path / "new"
    folder.mkdir()
    check_not_cut_short(folder)
    mark_start(folder)
    with pytest.raises(UsageError, match="new: cannot be resumed: its start with --init was cut"):
        check_not_cut_short(folder)
    write_start(folder, config, load_start(model, config))
    check_not_cut_short(folder)
    np.testing.assert_array_equal(load_checkpoint(folder, 0).weights["kernel"], WEIGHTS["kernel"])
    mark_start(folder)
    drop_mark(folder)
    check_not_cut_short(folder)
