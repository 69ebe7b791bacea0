"""Every experiment in `configs/` is complete, valid and explained key by key."""

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from seq2seq.config import Config, LanguageModelConfig
from seq2seq.config_file import flat_config, load_config

FOLDER = Path(__file__).parent.parent / "configs"
FILES = sorted(FOLDER.glob("*.toml"))
KEY_LINE = re.compile(r"(?P<disabled># )?(?P<key>[a-z0-9_]+) = \S")


def keys_of(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Every `section.key`, and whether it may be without a value."""
    for name, field in section.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from keys_of(annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", types.NoneType in get_args(annotation)


def explained_keys(text: str) -> tuple[dict[str, bool], list[str]]:
    """Each `section.key` and whether it is disabled; the keys without a comment above them."""
    found: dict[str, bool] = {}
    unexplained = []
    prefix = above = ""
    for line in text.split("\n"):
        if header := re.fullmatch(r"\[([a-z_]+)\]", line):
            prefix = f"{header[1]}."
        elif key := KEY_LINE.match(line):
            found[f"{prefix}{key['key']}"] = key["disabled"] is not None
            if not above.startswith("# ") or KEY_LINE.match(above):
                unexplained.append(f"{prefix}{key['key']}")
        above = line
    return found, unexplained


def test_there_are_experiments():
    names = {path.name for path in FILES}
    assert {"multi30k_en_de.toml", "multi30k_en_fr.toml"} <= names
    assert {"anna_char_lm.toml", "anna_char_lm_best.toml", "anna_word_lm.toml"} <= names
    assert {"tinyshakespeare_char_lm.toml", "style_char_lm.toml"} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_experiment_is_valid_and_of_the_task_in_its_name(path):
    kind = LanguageModelConfig if "_lm" in path.stem else Config
    assert isinstance(load_config(path), kind)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_experiment_names_every_key_and_explains_it(path):
    found, unexplained = explained_keys(path.read_text(encoding="utf-8"))
    expected = dict(keys_of(type(load_config(path))))
    assert list(found) == list(expected)  # the order too, so that `diff` compares key by key
    assert unexplained == []
    without_value = {key for key, disabled in found.items() if disabled}
    assert without_value <= {key for key, optional in expected.items() if optional}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*_lm*.toml")), ids=lambda path: path.name)
def test_the_text_of_a_language_model_is_one_that_a_data_script_writes(path):
    folder, name = load_config(path).data.text[0].parts[1:]
    (script,) = re.findall(r"python (data_scripts/\w+\.py)", path.read_text(encoding="utf-8"))
    written = (FOLDER.parent / script).read_text(encoding="utf-8")
    assert f'output="data/{folder}"' in written
    assert f'"{name}"' in written


def test_the_published_run_has_its_settings_and_its_number_of_updates():
    config = load_config(FOLDER / "anna_char_lm.toml")
    training, model = config.training, config.model
    # Its hyperparameters as printed, and its log, which ends with step 990 of epoch 5.
    assert (model.layers, model.units, model.dropout, model.embedding_size) == (2, 512, 0.5, 0)
    assert (training.batch_size, training.window, training.max_epochs) == (100, 100, 5)
    assert (training.optimizer, training.learning_rate, training.gradient_norm) == ("adam", 1e-3, 5)
    assert (training.schedule, training.warmup_steps, training.label_smoothing) == (
        "constant",
        0,
        0,
    )
    assert config.data.validation_share == config.data.test_share == 0
    characters = 1_985_223  # of all.txt, says data_scripts/anna_karenina.py
    assert (characters - 1) // (100 * 100) * training.max_epochs == 990


# What a plain model is trained with otherwise: it learns more slowly, and knows more by heart.
OF_PLAIN_MODELS = {
    "model.attention",
    "model.attention_heads",
    "model.bridge",
    "model.dropout",
    "training.consistency",
    "training.ema_decay",
    "training.learning_rate",
    "training.max_epochs",
    "training.subword_sampling",
    "validation.patience",
}


def test_a_plain_experiment_differs_from_its_twin_in_attention_and_how_long_and_hard_it_learns():
    for path in FOLDER.glob("*_plain.toml"):
        plain, twin = load_config(path), load_config(FOLDER / path.name.replace("_plain", ""))
        assert (plain.model.attention, twin.model.attention) == ("none", "luong")
        values, others = flat_config(plain), flat_config(twin)
        assert {key for key in values if values[key] != others[key]} <= OF_PLAIN_MODELS


def test_a_missing_key_and_a_missing_comment_are_found():
    found, unexplained = explained_keys(
        "# why\nseed = 1\n[data]\na = 1\n# Key.\n# b = 2\n# c = 3\n"
    )
    assert found == {"seed": False, "data.a": False, "data.b": True, "data.c": True}
    assert unexplained == ["data.a", "data.c"]
