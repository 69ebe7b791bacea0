"""The configuration as a file: one TOML file per experiment, checked before anything is done.

`load_config` reports every unknown key, wrong type and conflict at once, as
`file: section.key: got X, expected Y`.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError

from seq2seq.config import AnyConfig, CommonConfig, Config, LanguageModelConfig, SomeConfig
from seq2seq.errors import ModelError, StorageError, UsageError, reading
from seq2seq.model_files import CONFIG_FILE, LARGEST_RECORD, check_plain

_KINDS: dict[str, type[Config] | type[LanguageModelConfig]] = {
    "translation": Config,
    "language-model": LanguageModelConfig,
}


def load_config(path: Path, overrides: Sequence[str] = ()) -> AnyConfig:
    """The checked configuration in the TOML file `path`, of the kind that its `task` names.

    Args:
        path: A TOML file.
        overrides: `section.key=value` texts that replace or add single keys; the value is read as
            TOML, and as plain text where it is not TOML.

    Raises:
        StorageError: The file cannot be read.
        UsageError: It is not TOML, or any key is unknown, missing, of a wrong type or in conflict
            with another; the message names all of them.
    """
    try:
        with reading(path):
            text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise UsageError(f"{path}: not UTF-8 at byte {err.start}; save the file as UTF-8") from err
    try:
        raw = tomllib.loads(text)
    except ValueError as err:  # no TOML, or a number of thousands of digits
        raise UsageError(f"{path}: not valid TOML: {err}") from err
    except RecursionError as err:
        raise UsageError(f"{path}: not a configuration: brackets nested too deep") from err
    for override in overrides:
        _apply_override(raw, override)
    return _validated(raw, name=str(path))


def load_model_config(folder: Path) -> Config:
    """The configuration that the translator in a model folder was trained with.

    Raises:
        ModelError: `folder` is no model folder, its configuration is not one, or it is a language
            model.
    """
    config = load_any_model_config(folder)
    if not isinstance(config, Config):
        raise ModelError(
            f"{folder}: is a language model; generate and evaluate take it, this needs a translator"
        )
    return config


def load_language_model_config(folder: Path) -> LanguageModelConfig:
    """The configuration that the language model in a model folder was trained with.

    Raises:
        ModelError: `folder` is no model folder, its configuration is not one, or it is a
            translator.
    """
    config = load_any_model_config(folder)
    if not isinstance(config, LanguageModelConfig):
        raise ModelError(
            f"{folder}: is a translator; translate, score and evaluate take it, this needs a "
            "language model"
        )
    return config


def load_any_model_config(folder: Path) -> AnyConfig:
    """The configuration that the model in a model folder was trained with, of either kind.

    Raises:
        ModelError: `folder` is no model folder, or its configuration is not one.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ModelError(f"{folder}: not a model folder: no {CONFIG_FILE} in it")
    check_plain(path, most_bytes=LARGEST_RECORD)
    try:
        return load_config(path)
    except (UsageError, StorageError) as err:
        raise ModelError(str(err)) from err


def with_absolute_paths(config: SomeConfig) -> SomeConfig:
    """`config` with paths that mean the same from any working directory.

    Raises:
        UsageError: The name of a file or of its folder is not UTF-8, which TOML has to be.
    """
    return config.model_copy(update={name: _absolute(value) for name, value in config})


def _absolute(value: Any) -> Any:
    """`value` with every path in it made absolute."""
    if isinstance(value, Path):
        return _in_utf8(value.absolute())
    if isinstance(value, list):
        return [_absolute(item) for item in value]
    if isinstance(value, BaseModel):
        return value.model_copy(update={name: _absolute(item) for name, item in value})
    return value


def _in_utf8(path: Path) -> Path:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as err:
        raise UsageError(
            f"{str(path)!a}: a name that is not UTF-8; expected names that a configuration can "
            "hold: rename the file or its folder"
        ) from err
    return path


def dump_config(config: CommonConfig) -> str:
    """`config` as TOML text, every default written out; keys without a value are left out."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def flat_config(config: CommonConfig) -> dict[str, Any]:
    """The value of each `section.key`, as JSON has it."""
    flat: dict[str, Any] = {}
    for name, section in config.model_dump(mode="json").items():
        if isinstance(section, dict):
            flat |= {f"{name}.{key}": value for key, value in section.items()}
        else:
            flat[name] = section
    return flat


def _apply_override(raw: dict[str, Any], override: str) -> None:
    name, separator, text = override.partition("=")
    keys = [key.strip() for key in name.split(".")]
    if not separator or not all(keys):
        raise UsageError(f"--set {override}: expected section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text
    table = raw
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise UsageError(f"--set {override}: {key} is a value, not a section")
    table[keys[-1]] = value


def _validated(raw: dict[str, Any], *, name: str) -> AnyConfig:
    kind = _kind(raw, name=name)
    try:
        config, faults = kind.model_validate(raw), []
    except ValidationError as err:
        errors = err.errors()
        faults = [(".".join(_keys(error)), _fault(error, kind)) for error in errors]
        config = _without_faults(raw, [_keys(error) for error in errors], kind)
    faulty = {key for key, _ in faults}
    # A conflict with a key that is itself faulty would only repeat that fault.
    faults += [(keys[0], text) for keys, text in config.conflicts() if not faulty & set(keys)]
    if not faults:
        return config
    raise UsageError("; ".join(f"{name}: {key}: {text}" for key, text in faults))


def _kind(raw: Mapping[str, Any], *, name: str) -> type[Config] | type[LanguageModelConfig]:
    """The kind of experiment that `task` names, which all other keys are judged by."""
    task = raw.get("task", "translation")
    if isinstance(task, str) and task in _KINDS:
        return _KINDS[task]
    expected = " or ".join(repr(known) for known in _KINDS)
    raise UsageError(f"{name}: task: got {task!r}, expected {expected}")


def _without_faults(
    raw: dict[str, Any],
    faulty: Iterable[Sequence[str]],
    kind: type[Config] | type[LanguageModelConfig],
) -> AnyConfig:
    """Defaults in place of the faulty keys, so that conflicts can be looked for all the same."""
    files = _section_of(kind, "data").model_fields
    placeholder = {key: "-" for key, field in files.items() if field.is_required()}
    kept = {key: dict(value) if isinstance(value, Mapping) else value for key, value in raw.items()}
    for keys in faulty:
        if len(keys) == 1:
            kept.pop(keys[0], None)
        elif isinstance(table := kept.get(keys[0]), dict):
            table.pop(keys[1], None)
    data = kept.get("data")
    kept["data"] = placeholder | (data if isinstance(data, dict) else {})
    return kind.model_validate(kept)


def _section_of(section: type[BaseModel], key: str) -> type[BaseModel]:
    """The section that `key` is in `section`; one without keys if it is none."""
    field = section.model_fields.get(key)
    annotation = field and field.annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return BaseModel


def _keys(error: Mapping[str, Any]) -> list[str]:
    """The path of the faulty key: `section`, `key`; list positions and union branches dropped."""
    return [str(part) for part in error["loc"][:2]]


def _fault(error: Mapping[str, Any], kind: type[CommonConfig]) -> str:
    """What is wrong with one key, in the words `got X, expected Y`."""
    value = error["input"]
    match error["type"]:
        case "extra_forbidden":
            return "unknown key" + _suggestion(_keys(error), kind)
        case "missing":
            return "missing, and it has no default"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"got {value!r}, expected a section of keys"
        case "too_short":
            return f"got {value!r}, expected at least one"
        case "value_error":
            return f"got {value!r}, expected {error['ctx']['error']}"
        case _:
            expected = error["msg"].removeprefix("Input should be ")
            return f"got {value!r}, expected {expected.removeprefix('a valid ')}"


def _suggestion(keys: Sequence[str], kind: type[CommonConfig]) -> str:
    """What may have been meant: a key of another task, or one that is spelt like it."""
    for task, other in _KINDS.items():
        if keys[-1] in _fields(other, keys[:-1]):
            return f" (it is one of task = '{task}')"
    close = difflib.get_close_matches(keys[-1], _fields(kind, keys[:-1]), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _fields(kind: type[CommonConfig], sections: Sequence[str]) -> list[str]:
    """The keys of a section of one kind of experiment; none if it has no such section."""
    found: type[BaseModel] = kind
    for key in sections:
        found = _section_of(found, key)
    return list(found.model_fields)
