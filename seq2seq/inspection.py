"""What a model folder holds, without running the model: configuration, sizes, scores, files."""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seq2seq.checkpoint import (
    best_weight_shapes,
    check_best_weights,
    checkpoint_steps,
    read_best,
)
from seq2seq.config import AnyConfig, LanguageModelConfig
from seq2seq.config_file import dump_config, load_any_model_config
from seq2seq.errors import reading
from seq2seq.model_files import METRICS_FILE, TOKENIZER_FOLDER
from seq2seq.text_tokenizer import load_text_tokenizer
from seq2seq.tokenizer import TokenizerPair


@dataclass(frozen=True)
class ModelDescription:
    """What `describe` found.

    Attributes:
        folder: The model folder.
        config: The configuration it was trained with.
        vocabulary: Its size and kind, in words.
        part_sizes: Numbers (weights) in each part of the model, by the part's name.
        best: What `best.json` says; empty before the first validation.
        last_validation: The newest validation line of `metrics.jsonl`; empty if there is none.
        checkpoint_steps: Steps that have a checkpoint, ascending.
        files: Sizes in bytes by path inside the folder.
    """

    folder: Path
    config: AnyConfig
    vocabulary: str
    part_sizes: Mapping[str, int]
    best: Mapping[str, Any]
    last_validation: Mapping[str, Any]
    checkpoint_steps: tuple[int, ...]
    files: Mapping[str, int]


def describe(folder: Path) -> ModelDescription:
    """What the model folder `folder` holds; the best weights are checked against their manifest.

    Raises:
        ModelError: It is no model folder, or something in it is missing or damaged.
        StorageError: Something in it cannot be read.
    """
    config = load_any_model_config(folder)
    vocabulary = _vocabulary(config, folder / TOKENIZER_FOLDER)
    sizes: Counter[str] = Counter()
    check_best_weights(folder)
    for name, shape in best_weight_shapes(folder).items():
        sizes["/".join(name.split("/")[:2])] += math.prod(shape)
    return ModelDescription(
        folder=folder,
        config=config,
        vocabulary=vocabulary,
        part_sizes=dict(sorted(sizes.items())),
        best=read_best(folder) or {},
        last_validation=_last_validation(folder / METRICS_FILE),
        checkpoint_steps=tuple(checkpoint_steps(folder)),
        files=_file_sizes(folder),
    )


def render(description: ModelDescription) -> str:
    """The description as text for people, section by section."""
    weights = [f"{size:>12,}  {part}" for part, size in description.part_sizes.items()]
    files = [f"{size:>12,}  {name}" for name, size in description.files.items()]
    steps = ", ".join(str(step) for step in description.checkpoint_steps) or "none"
    sections = [
        ("model", [str(description.folder)]),
        ("weights", [f"{sum(description.part_sizes.values()):>12,}  all", *weights]),
        ("vocabulary", [description.vocabulary]),
        ("best", _scores(description.best)),
        ("last validation", _scores(description.last_validation)),
        ("checkpoints", [f"steps {steps}"]),
        ("files", [f"{sum(description.files.values()):>12,}  bytes in all", *files]),
        ("configuration", dump_config(description.config).strip().split("\n")),
    ]
    texts = []
    for title, lines in sections:
        texts.append(f"{title}\n" + "\n".join(f"  {line}".rstrip() for line in lines))
    return "\n\n".join(texts) + "\n"


def _vocabulary(config: AnyConfig, folder: Path) -> str:
    if isinstance(config, LanguageModelConfig):
        size = load_text_tokenizer(folder).vocabulary_size
        return f"{size:,} symbols ({config.tokenizer.type})"
    pair = TokenizerPair.load(folder)
    sizes = f"source {pair.source.vocabulary_size:,}, target {pair.target.vocabulary_size:,} pieces"
    return f"{sizes}; {'one for both sides' if pair.joint else 'one a side'}"


def _scores(record: Mapping[str, Any]) -> list[str]:
    if not record:
        return ["none yet"]
    return [f"{name}: {_readable(value)}" for name, value in record.items()]


def _readable(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _last_validation(path: Path) -> dict[str, Any]:
    """The newest whole validation line; the last line of a run that was killed may be cut."""
    last: dict[str, Any] = {}
    if not path.is_file():
        return last
    with reading(path), path.open("rb") as file:
        for line in file:
            if b'"validation"' not in line:
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and record.get("split") == "validation":
                last = record
    return last


def _file_sizes(folder: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for parent, _, names in os.walk(folder):  # which takes it well that a training deletes files
        for path in (Path(parent, name) for name in names):
            with suppress(FileNotFoundError):
                if path.is_file():
                    sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    return dict(sorted(sizes.items()))
