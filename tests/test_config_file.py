"""A configuration as a file: read with overrides, every fault named at once, and written again."""

import os
import re
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, Literal

import pytest
from config_fixtures import BOTH, DATA, TEXT, faults_of
from pydantic import BaseModel

from seq2seq.config import Config, LanguageModelConfig
from seq2seq.config_file import (
    dump_config,
    load_any_model_config,
    load_config,
    load_language_model_config,
    load_model_config,
    with_absolute_paths,
)
from seq2seq.errors import ModelError, StorageError, UsageError


def test_values_are_taken_from_the_file(load):
    config = load(f"seed = 7\n{DATA}\n[training]\nlearning_rate = 1\nmax_steps = 10\n")
    assert (config.seed, config.training.learning_rate, config.training.max_steps) == (7, 1.0, 10)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[training]\nmax_epochs = 0", "training.max_epochs: got 0, expected greater than 0"),
        ("[training]\nmax_epochs = 1.0", "training.max_epochs: got 1.0, expected integer"),
        ("[training]\nmax_epochs = true", "training.max_epochs: got True, expected integer"),
        ('[training]\nmax_epochs = "3"', "training.max_epochs: got '3', expected integer"),
        (
            "[training]\nlearning_rate = nan",
            "training.learning_rate: got nan, expected a finite number",
        ),
        ('[training]\nlearning_rate = "1e-3"', "training.learning_rate: got '1e-3', expected num"),
        ("[model]\ndropout = 1.0", "model.dropout: got 1.0, expected less than 1"),
        ("[model]\nbidirectional = 1", "model.bidirectional: got 1, expected boolean"),
        (
            '[tokenizer]\ntype = "bytes"',
            "tokenizer.type: got 'bytes', expected 'unigram', 'bpe', 'char' or 'word'",
        ),
        ("[tokenizer]\nuser_symbols = [1]", "tokenizer.user_symbols: got 1, expected string"),
        ("[tokenizer]\nvocabulary_size = 7", "tokenizer.vocabulary_size: got 7, expected greater"),
        ("[model]\ndrop_out = 0.1", "model.drop_out: unknown key (did you mean 'dropout'?)"),
        ("[modle]\ndropout = 0.1", "modle: unknown key (did you mean 'model'?)"),
        ("[model]\nxyzzy = 1", "model.xyzzy: unknown key"),
        ("[[model]]\ndropout = 0.1", "model: got [{'dropout': 0.1}], expected a section of keys"),
    ],
)
def test_a_fault_names_the_key_what_it_has_and_what_is_expected(load, text, fault):
    (found,) = faults_of(load, f"{DATA}\n{text}\n")
    assert found.startswith(fault)


def test_three_faults_in_one_file_are_named_in_one_message(load):
    text = f"sed = 1\n{DATA}\n[model]\ndrop_out = 0.1\n[training]\nmax_epochs = -1\n"
    assert sorted(faults_of(load, text)) == [
        "model.drop_out: unknown key (did you mean 'dropout'?)",
        "sed: unknown key (did you mean 'seed'?)",
        "training.max_epochs: got -1, expected greater than 0",
    ]


def test_missing_files_are_all_named(load):
    faults = faults_of(load, '[data]\ntrain_source = "a"\nvalidation_target = "b"\n')
    assert sorted(faults) == [
        "data.train_target: missing, and it has no default",
        "data.validation_source: missing, and it has no default",
    ]
    assert faults_of(load, "") == ["data: missing, and it has no default"]


def test_faults_and_conflicts_are_named_together(load):
    text = f'{DATA}\n[model]\ndropout = 2.0\nbridge = "copy"\nencoder_units = 1\n'
    keys = [fault.partition(":")[0] for fault in faults_of(load, text)]
    assert keys == ["model.dropout", "model.bridge"]


def test_a_conflict_with_a_faulty_key_is_not_named_on_top(load):
    text = f'{DATA}\n[model]\nbridge = "copy"\nencoder_units = 1\ndecoder_units = "wide"\n'
    assert faults_of(load, text) == ["model.decoder_units: got 'wide', expected integer"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.max_epochs=3", 3),
        (" training . max_epochs = 3", 3),
    ],
)
def test_an_override_replaces_a_key(load, override, expected):
    assert load(f"{DATA}\n[training]\nmax_epochs = 9\n", override).training.max_epochs == expected


def test_overrides_are_toml_or_else_plain_text(load):
    config = load(
        DATA,
        "seed=5",
        "training.learning_rate=1e-2",
        "model.bidirectional=false",
        "model.attention=none",
        'model.tied_embeddings="target"',
        "data.validation_source=a file = b.en",
        'data.train_source=["x.en", "y.en"]',
        "training.max_epochs=2",
        "training.max_epochs=4",
    )
    assert config.seed == 5
    assert config.training.learning_rate == 0.01
    assert config.model.bidirectional is False
    assert config.model.attention == "none"
    assert config.model.tied_embeddings == "target"
    assert config.data.validation_source == Path("a file = b.en")
    assert config.data.train_source == [Path("x.en"), Path("y.en")]
    assert config.training.max_epochs == 4  # the last one counts


def test_overrides_are_checked_like_the_file(load):
    overrides = ("model.drop_out=0.1", "training.max_epochs=many")
    assert sorted(faults_of(load, DATA, *overrides)) == [
        "model.drop_out: unknown key (did you mean 'dropout'?)",
        "training.max_epochs: got 'many', expected integer",
    ]


@pytest.mark.parametrize("override", ["max_epochs", "=3", ".=3", "training.=3", "a..b=3"])
def test_an_override_of_another_form_is_refused(load, override):
    message = rf"^--set {re.escape(override)}: expected section\.key=value$"
    with pytest.raises(UsageError, match=message):
        load(DATA, override)


def test_an_override_below_a_value_is_refused(load):
    with pytest.raises(UsageError, match=r"^--set seed\.x=1: seed is a value, not a section$"):
        load(f"seed = 1\n{DATA}", "seed.x=1")


def test_a_file_that_cannot_be_read_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match=r"none\.toml: cannot be read: No such file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(StorageError, match=rf"{tmp_path.name}: cannot be read: Is a directory"):
        load_config(tmp_path)


def test_a_file_that_is_not_toml_is_refused_with_the_line(load):
    with pytest.raises(UsageError, match=r"c\.toml: not valid TOML: .*line 2"):
        load("seed = 1\nseed = 2\n")


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(b'x = "caf\xe9"\n')
    with pytest.raises(UsageError, match=r"c\.toml: not UTF-8 at byte \d+; save the file as UTF-8"):
        load_config(path)


def another_value(annotation: Any, value: object) -> object:
    """A value that is allowed, but not `value`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return next((choice for choice in arguments if choice != value), value)
    if origin in (types.UnionType, typing.Union) or hasattr(annotation, "__metadata__"):
        return another_value(arguments[0], value)
    if origin is list:
        return ["<é>", 'with "quotes" and \\']
    if annotation is Path:
        return "folder with space/ünï.txt"
    if annotation is bool:
        return not value
    if annotation is float:
        return (value or 0.5) / 2
    if annotation is str:
        return f"{value}\n  x"
    return (value or 6) + 1


def filled(section: type[BaseModel]) -> dict[str, Any]:
    """Values of `section`, none of which is a default, but where there is only one choice."""
    return {
        name: filled(field.annotation)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        else another_value(field.annotation, None if field.is_required() else field.default)
        for name, field in section.model_fields.items()
    }


@pytest.mark.parametrize("kind", [Config, LanguageModelConfig])
def test_what_is_dumped_loads_as_the_same(load, kind):
    values = filled(kind)
    if kind is Config:
        values["model"]["bridge"] = "dense"  # "copy" would ask for equal widths
        # .. and without attention there are none of these.
        kept = {"attention_layer": "last", "attention_heads": 1}
        values["model"] |= kept
    config = kind.model_validate(values)
    assert load(dump_config(config)) == config
    defaults = load(DATA if kind is Config else TEXT).model_dump()
    same = [
        f"{section}.{key}"
        for section, keys in config.model_dump().items()
        if isinstance(keys, dict)
        for key, value in keys.items()
        if value == defaults[section][key]
    ]
    # else the round trip would show nothing
    assert same == ([f"model.{key}" for key in kept] if kind is Config else [])


@BOTH
def test_a_dump_of_defaults_has_every_key_that_has_a_value(load, minimal):
    config = load(minimal)
    dumped = tomllib.loads(dump_config(config))
    for section, keys in config.model_dump(mode="json").items():
        if isinstance(keys, dict):
            assert set(dumped[section]) == {key for key, value in keys.items() if value is not None}
        else:
            assert dumped[section] == keys
    assert load(dump_config(config)) == config


def test_a_name_that_is_not_utf8_is_refused(load):
    config = load(DATA)
    name = Path(os.fsdecode(b"/corpus/b\xe4r.en"))
    data = config.data.model_copy(update={"validation_source": name})
    message = r"^'/corpus/b\\udce4r\.en': a name that is not UTF-8; expected names that a config"
    with pytest.raises(UsageError, match=message):
        with_absolute_paths(config.model_copy(update={"data": data}))


def test_absolute_paths_mean_the_same_elsewhere(load, tmp_path, monkeypatch):
    config = load(f'{DATA}\n[tokenizer]\nsource_model = "s.model"\n')
    monkeypatch.chdir(tmp_path)
    absolute = with_absolute_paths(config)
    assert absolute.data.train_target == [tmp_path / "a.de", tmp_path / "b.de"]
    assert absolute.data.validation_source == tmp_path / "val.en"
    assert absolute.tokenizer.source_model == tmp_path / "s.model"
    assert absolute.tokenizer.target_model is None
    assert absolute.training == config.training
    monkeypatch.chdir("/")
    assert with_absolute_paths(absolute) == absolute


def test_a_model_folder_has_its_configuration(load, tmp_path):
    config = load(DATA, "seed=9")
    (tmp_path / "config.toml").write_text(dump_config(config), encoding="utf-8")
    assert load_model_config(tmp_path) == config


def test_a_folder_without_configuration_is_no_model(tmp_path):
    with pytest.raises(ModelError, match=r": not a model folder: no config\.toml in it"):
        load_model_config(tmp_path)


def test_a_model_with_a_faulty_configuration_is_a_model_error(tmp_path):
    (tmp_path / "config.toml").write_text("seed = -1\n")
    with pytest.raises(ModelError, match=r"config\.toml: seed: got -1, expected greater than or"):
        load_model_config(tmp_path)


def test_a_byte_order_mark_before_the_text_is_no_fault(tmp_path):
    path = tmp_path / "marked.toml"
    path.write_bytes(b"\xef\xbb\xbf" + f"seed = 7\n{DATA}".encode())
    assert load_config(path).seed == 7


def test_brackets_nested_too_deep_are_one_line(tmp_path):
    path = tmp_path / "deep.toml"
    path.write_text("a = " + "[" * 100_000, encoding="utf-8")
    with pytest.raises(UsageError, match=r"deep\.toml: not a configuration: brackets nested too"):
        load_config(path)


def test_the_task_decides_which_keys_there_are(load):
    assert isinstance(load(DATA), Config)
    assert isinstance(load(f'task = "translation"\n{DATA}'), Config)
    config = load(TEXT)
    assert isinstance(config, LanguageModelConfig)
    assert config.data.text == [Path("a.txt"), Path("b.txt")]
    assert load(DATA, "task=language-model", 'data={text = "a.txt"}').task == "language-model"


@pytest.mark.parametrize("task", ["translate", "", 1, ["translation"]])
def test_an_unknown_task_is_named_with_both_known_ones(load, task):
    fault = f"task: got {task!r}, expected 'translation' or 'language-model'"
    assert faults_of(load, DATA, f"task={task!r}") == [fault]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[model]\nunit = 8", "model.unit: unknown key (did you mean 'units'?)"),
        ("[model]\nembedding_size = -1", "model.embedding_size: got -1, expected greater than or"),
        ("[training]\nwindow = 0", "training.window: got 0, expected greater than 0"),
        ("[generation]\ntop_p = 0.0", "generation.top_p: got 0.0, expected greater than 0"),
        ("[generation]\ntop_p = 1.5", "generation.top_p: got 1.5, expected less than or equal"),
        ("[validation]\nprime = 1", "validation.prime: got 1, expected string"),
        (
            "[tokenizer]\ntype = 'char'",
            "tokenizer.type: got 'char', expected 'character', 'word', 'unigram' or 'bpe'",
        ),
        (
            "[training]\nbatch_tokens = 8",
            "training.batch_tokens: unknown key (it is one of task = 'translation')",
        ),
        ("[decoding]\nbeam_size = 2", "decoding: unknown key (it is one of task = 'translation')"),
    ],
)
def test_a_fault_in_a_language_model_is_named(load, text, fault):
    (found,) = faults_of(load, f"{TEXT}\n{text}\n")
    assert found.startswith(fault)


def test_a_forgotten_task_is_hinted_at(load):
    faults = faults_of(load, '[data]\ntext = "a.txt"\n[training]\nwindow = 9\n')
    assert "data.text: unknown key (it is one of task = 'language-model')" in faults
    assert "training.window: unknown key (it is one of task = 'language-model')" in faults


def test_faults_and_conflicts_of_a_language_model_are_named_together(load):
    overrides = ["model.dropout=2.0", "tokenizer.vocabulary_size=9", "data.text=[]"]
    keys = [fault.partition(":")[0] for fault in faults_of(load, TEXT, *overrides)]
    assert keys == ["data.text", "model.dropout", "tokenizer.vocabulary_size"]


def test_absolute_paths_of_a_language_model(load, tmp_path, monkeypatch):
    config = load(TEXT, "data.validation_text=v.txt")
    monkeypatch.chdir(tmp_path)
    absolute = with_absolute_paths(config)
    assert absolute.data.text == [tmp_path / "a.txt", tmp_path / "b.txt"]
    assert absolute.data.validation_text == tmp_path / "v.txt"
    assert absolute.training == config.training


def test_a_model_folder_tells_which_task_it_is_for(load, tmp_path):
    for name, text in (("translator", DATA), ("language", TEXT)):
        (tmp_path / name).mkdir()
        content = dump_config(load(text))
        (tmp_path / name / "config.toml").write_text(content, encoding="utf-8")
        assert load_any_model_config(tmp_path / name) == load(text)
    assert load_language_model_config(tmp_path / "language") == load(TEXT)
    with pytest.raises(
        ModelError,
        match=r"/language: is a language model; generate and evaluate take it, this needs a trans",
    ):
        load_model_config(tmp_path / "language")
    with pytest.raises(ModelError, match=r"/translator: is a translator; translate, score and eva"):
        load_language_model_config(tmp_path / "translator")


@pytest.mark.parametrize("value", ["[" * 5000, "9" * 5000])
def test_a_value_that_is_no_toml_is_a_text(load, value):
    (fault,) = faults_of(load, DATA, f"training.max_steps={value}")
    assert fault.startswith(f"training.max_steps: got '{value[:50]}")
