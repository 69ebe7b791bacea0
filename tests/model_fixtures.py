"""A model folder as training leaves it, with random weights: small, and quick to load."""

import json
from pathlib import Path

import numpy as np
import pytest

from seq2seq.checkpoint import Checkpoint, save_checkpoint, write_best
from seq2seq.config import Config
from seq2seq.config_file import dump_config
from seq2seq.tokenizer import TokenizerPair, prepare_tokenizers
from seq2seq.translator import Translator

SENTENCES = [
    "a dog runs",
    "the small dog runs in the park",
    "a cat sleeps",
    "the old cat sleeps on the red chair",
    "two birds sing",
    "some birds sing in a green tree",
    "my brother reads a long book at home",
    "her sister writes",
]
STEP = 7


def tiny_config(folder: Path) -> Config:
    """An experiment on `SENTENCES`, which are written to `folder`."""
    text = folder / "sentences.txt"
    text.write_bytes("".join(f"{sentence}\n" for sentence in SENTENCES).encode())
    return Config.model_validate(
        {
            "precision": "float32",
            "data": {
                "train_source": text,
                "train_target": text,
                "validation_source": text,
                "validation_target": text,
                "max_source_length": 24,
            },
            "tokenizer": {"vocabulary_size": 40, "type": "char", "byte_fallback": False},
            "model": {
                "embedding_size": 8,
                "encoder_layers": 1,
                "encoder_units": 8,
                "decoder_layers": 1,
                "decoder_units": 12,
            },
            "decoding": {"beam_size": 3, "max_length_ratio": 1.0, "max_length_offset": 4},
        }
    )


def random_weights(config: Config, tokenizers: TokenizerPair) -> dict[str, np.ndarray]:
    """Large ones, so that different sources have quite different translations; ends are likely."""
    from seq2seq.models import build_model

    model = build_model(
        config.model,
        source_vocabulary=tokenizers.source.vocabulary_size,
        target_vocabulary=tokenizers.target.vocabulary_size,
    )
    random = np.random.default_rng(3)
    weights = {
        name: random.normal(0, 1.5, weight.shape).astype(np.float32)
        for name, weight in sorted(model.named_weights().items())
    }
    weights["decoder/output_bias"][tokenizers.target.eos_id] += 3.0
    return weights


def write_model_folder(folder: Path, config: Config) -> None:
    """A whole model folder at `folder`, which is made."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_bytes(dump_config(config).encode())
    tokenizers = prepare_tokenizers(config)
    tokenizers.save(folder / "tokenizer")
    weights = random_weights(config, tokenizers)
    save_checkpoint(folder, Checkpoint(STEP, weights, optimizer={}, state={}))
    best = {"step": STEP, "bleu": 12.345, "signature": "nrefs:1|tok:13a", "loss": 2.5}
    write_best(folder, best)
    records = [
        {"step": STEP, "split": "train", "loss": 2.0},
        {"step": STEP, "split": "validation", "loss": 2.5, "bleu": 12.345},
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "metrics.jsonl").write_bytes(lines.encode())


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; not to be changed."""
    folder = tmp_path_factory.mktemp("models")
    write_model_folder(folder / "tiny", tiny_config(folder))
    return folder / "tiny"


@pytest.fixture(scope="session")
def translator(model_folder: Path) -> Translator:
    """That model, loaded."""
    return Translator.load(model_folder)
