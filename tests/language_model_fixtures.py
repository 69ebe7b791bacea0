"""A folder of a small language model with random weights, and the model loaded."""

from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest

from seq2seq.checkpoint import Checkpoint, save_checkpoint, write_best
from seq2seq.config import LanguageModelConfig
from seq2seq.config_file import dump_config
from seq2seq.generator import LanguageModel
from seq2seq.text_tokenizer import TextTokenizer, make_text_tokenizer

TEXT = "a dog runs\nthe small dog runs in the park\n\tä cat sleeps\n" * 3


def language_model_config(text: Path, **changes: Any) -> LanguageModelConfig:
    """An experiment on the file `text`; a change is `section__key=value`."""
    config: dict[str, Any] = {
        "task": "language-model",
        "precision": "float32",
        "data": {"text": text, "validation_share": 0.2},
        "model": {"embedding_size": 5, "units": 7, "layers": 2, "dropout": 0.3},
        "training": {"batch_size": 4, "window": 6, "log_every_steps": 1, "max_epochs": 3},
        "validation": {"sample_length": 0},
        "generation": {"length": 20},
    }
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            config.setdefault(section, {})[key] = value
        else:
            config[section] = value
    return LanguageModelConfig.model_validate(config)


def random_weights(config: LanguageModelConfig, tokenizer: TextTokenizer) -> dict[str, np.ndarray]:
    """Large ones, so that what follows depends on what came before."""
    from seq2seq.models import build_language_model

    decoder = build_language_model(config.model, vocabulary=tokenizer.vocabulary_size)
    random = np.random.default_rng(3)
    return {
        name: random.normal(0, 1.0, weight.shape).astype(np.float32)
        for name, weight in sorted(decoder.named_weights().items())
    }


@pytest.fixture(scope="session")
def language_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; not to be changed."""
    folder = tmp_path_factory.mktemp("language-models")
    text = folder / "text.txt"
    text.write_text(TEXT, encoding="utf-8", newline="")
    config = language_model_config(text)
    model = folder / "tiny"
    model.mkdir()
    (model / "config.toml").write_bytes(dump_config(config).encode())
    tokenizer = make_text_tokenizer(config.tokenizer, TEXT)
    tokenizer.save(model / "tokenizer")
    save_checkpoint(model, Checkpoint(3, random_weights(config, tokenizer), optimizer={}, state={}))
    write_best(model, {"step": 3, "loss": 2.5, "perplexity": 12.0})
    return model


@pytest.fixture(scope="session")
def language_model(language_model_folder: Path) -> LanguageModel:
    """That model, loaded."""
    return LanguageModel.load(language_model_folder)


def expected_log_probs(weights: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    """In NumPy float64: the log-probabilities `[T - 1, V]` of what follows each of `ids` `[T]`."""
    units = weights["layer_0/recurrent_kernel"].shape[0]
    layers = sum(name.endswith("recurrent_kernel") for name in weights)
    wide = {name: each.astype(np.float64) for name, each in weights.items()}
    states = [oracles.zero_state(1, units)] * layers
    logits = oracles.decoder_logits(np.asarray(ids[None, :-1]), states, None, (), wide)
    return oracles.log_softmax(logits)[0]
