"""Which models a training can begin with.

What training makes of it is in test_training.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language_model_fixtures import TEXT, language_model_config
from model_fixtures import tiny_config

from seq2seq.config import Config, LanguageModelConfig
from seq2seq.errors import ModelError, UsageError
from seq2seq.fine_tuning import check_start, load_start
from seq2seq.new_model import write_new_model
from seq2seq.text_tokenizer import make_text_tokenizer
from seq2seq.tokenizer import TokenizerPair, prepare_tokenizers

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
    ],
)
def test_other_text_training_and_dropout_are_what_fine_tuning_is_for(
    model: Path, tmp_path: Path, sections: dict[str, dict[str, Any]]
) -> None:
    check_start(model, translation(tmp_path, **sections), resume=False, overwrite=False)


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
        check_start(model, config, resume=False, overwrite=False)
    assert caught.value.exit_code == 2
    assert "dropout" not in str(caught.value)


def test_a_language_models_symbols_must_be_of_one_kind(
    language_model: Path, tmp_path: Path
) -> None:
    config = language_model_config(tmp_path / "text.txt", tokenizer__type="word", model__units=9)
    message = "model.units is 9, and 7 there; tokenizer.type is 'word', and 'character' there; set"
    with pytest.raises(UsageError, match=message):
        check_start(language_model, config, resume=False, overwrite=False)
    dropout = {"model__dropout": 0.0, "model__embedding_dropout": 0.5}
    other: LanguageModelConfig = language_model_config(tmp_path / "text.txt", **dropout)
    check_start(language_model, other, resume=False, overwrite=False)


def test_a_model_of_the_other_task_is_refused(
    model: Path, language_model: Path, tmp_path: Path
) -> None:
    message = "is of task 'translation', and task is 'language-model' in the configuration; weig"
    with pytest.raises(UsageError, match=message):
        check_start(
            model, language_model_config(tmp_path / "text.txt"), resume=False, overwrite=False
        )
    with pytest.raises(UsageError, match="is of task 'language-model', and task is 'translation'"):
        check_start(language_model, translation(tmp_path), resume=False, overwrite=False)


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
        check_start(model, config, resume=False, overwrite=False)


def test_what_is_resumed_has_begun_already(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^--resume and --init: give .* needs {model} no more$"):
        check_start(model, translation(tmp_path), resume=True, overwrite=False)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not a model folder: no config\.toml"):
        check_start(tmp_path, translation(tmp_path), resume=False, overwrite=False)


def test_training_begins_with_the_best_weights_and_the_tokenizer(
    model: Path, tmp_path: Path
) -> None:
    start = load_start(model, translation(tmp_path))
    np.testing.assert_array_equal(start.weights["kernel"], WEIGHTS["kernel"])
    assert isinstance(start.tokenizer, TokenizerPair)
    assert start.tokenizer.same_as(TokenizerPair.load(model / "tokenizer"))


def test_one_way_to_begin_is_given(tmp_path: Path) -> None:
    config = translation(tmp_path)
    check_start(None, config, resume=True, overwrite=False)
    check_start(None, config, resume=False, overwrite=True)
    with pytest.raises(UsageError, match=r"^--resume and --overwrite: give one of them, not both$"):
        check_start(None, config, resume=True, overwrite=True)


def test_what_a_configuration_says_of_the_tokenizer_is_so(model: Path, tmp_path: Path) -> None:
    config = translation(tmp_path, tokenizer={"type": "bpe", "vocabulary_size": 900})
    message = (
        "tokenizer.type is 'bpe', and 'char' there; tokenizer.vocabulary_size is 900, and 40 there;"
    )
    with pytest.raises(UsageError, match=message):
        check_start(model, config, resume=False, overwrite=False)
