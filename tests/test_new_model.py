"""A model folder of weights from elsewhere: what loads it finds all it needs."""

from pathlib import Path

import numpy as np
import pytest
from language_model_fixtures import TEXT, language_model_config
from model_fixtures import tiny_config

from seq2seq.checkpoint import load_checkpoint, load_newest_checkpoint, read_best
from seq2seq.config import AnyConfig
from seq2seq.config_file import load_any_model_config
from seq2seq.errors import ModelError, StorageError
from seq2seq.new_model import AnyTokenizer, load_any_tokenizer, write_new_model
from seq2seq.text_tokenizer import CharacterTokenizer, make_text_tokenizer
from seq2seq.tokenizer import TokenizerPair, prepare_tokenizers

WEIGHTS = {"kernel": np.array([[1.5, -2.0]], np.float32)}


def translation(folder: Path) -> tuple[AnyConfig, AnyTokenizer]:
    config = tiny_config(folder)
    return config, prepare_tokenizers(config)


def language_model(folder: Path) -> tuple[AnyConfig, AnyTokenizer]:
    config = language_model_config(folder / "text.txt")
    return config, make_text_tokenizer(config.tokenizer, TEXT)


@pytest.mark.parametrize("make", [translation, language_model])
def test_what_is_written_is_a_model_of_either_kind(make, tmp_path):
    config, tokenizer = make(tmp_path)
    folder = tmp_path / "model"
    folder.mkdir()
    write_new_model(folder, config, tokenizer=tokenizer, weights=WEIGHTS, step=4)
    assert load_any_model_config(folder) == config
    found = load_any_tokenizer(folder, config)
    if isinstance(found, TokenizerPair):
        assert found.same_as(tokenizer)
    else:
        assert isinstance(found, CharacterTokenizer)
        assert found.fingerprint == tokenizer.fingerprint
    (checkpoint, damaged) = load_newest_checkpoint(folder)
    assert (checkpoint.step, checkpoint.optimizer, damaged) == (4, {}, [])
    np.testing.assert_array_equal(checkpoint.weights["kernel"], WEIGHTS["kernel"])
    assert read_best(folder) is None


def test_the_checkpoint_is_bound_to_the_tokenizer(tmp_path):
    config, tokenizer = translation(tmp_path)
    folder = tmp_path / "model"
    folder.mkdir()
    write_new_model(folder, config, tokenizer=tokenizer, weights=WEIGHTS, step=0)
    (folder / "tokenizer" / "joint.model").write_bytes(b"another one")
    with pytest.raises(ModelError, match=r"joint\.model: damaged"):
        load_checkpoint(folder, 0)


def test_a_model_without_a_tokenizer_is_told_of_as_its_kind_is(tmp_path):
    for make, name in ((translation, "joint.model"), (language_model, "characters.json")):
        with pytest.raises(ModelError, match=rf"no tokenizer: expected {name}"):
            load_any_tokenizer(tmp_path, make(tmp_path)[0])


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path):
    config, tokenizer = translation(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written: Not a directory"):
        write_new_model(tmp_path / "file", config, tokenizer=tokenizer, weights=WEIGHTS, step=0)
