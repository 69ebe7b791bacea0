"""The configuration: one TOML file per experiment, checked as a whole before anything is done.

The pydantic models here are the only place where a default lives. `load_config` reports every
unknown key, wrong type and conflict at once, as `file: section.key: got X, expected Y`.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from seq2seq.errors import ModelError, StorageError, UsageError

CONFIG_FILE = "config.toml"


def _file_name(value: object) -> object:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ValueError("the name of a file")
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | Path) else value


TextFile = Annotated[
    Path, BeforeValidator(_file_name), Field(strict=False)
]  # TOML has no paths, so text is one here
TextFiles = Annotated[list[TextFile], BeforeValidator(_as_list), Field(min_length=1)]
Schedule = Literal["constant", "inverse-square-root", "linear", "plateau"]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class _Section(BaseModel):
    # strict: the text "8" is not the number 8; a wrong type is not ours to guess away.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DataConfig(_Section):
    """Where the raw text is: UTF-8, one sentence a line; several files of one side follow on.

    Relative paths count from the working directory. Lengths are in pieces, end of sentence
    included; longer training pairs are left out and counted (validation text never is).
    """

    train_source: TextFiles
    train_target: TextFiles
    validation_source: TextFile
    validation_target: TextFile
    max_source_length: PositiveInt = 128
    max_target_length: PositiveInt = 128
    on_bad_utf8: Literal["error", "skip"] = "error"


class TokenizerConfig(_Section):
    """SentencePiece: trained on the training text, or loaded when `source_model` names a file.

    One model serves both sides if `joint`; loaded models are joint if `target_model` is left out.
    """

    source_model: TextFile | None = None
    target_model: TextFile | None = None
    type: Literal["unigram", "bpe", "char", "word"] = "unigram"
    joint: bool = True
    vocabulary_size: Annotated[int, Field(ge=8)] = 8000
    character_coverage: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    normalization: Literal["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"] = "nmt_nfkc"
    byte_fallback: bool = True
    user_symbols: list[str] = []


class ModelConfig(_Section):
    """Encoder and decoder; `encoder_units` counts one direction, a bidirectional one has two."""

    embedding_size: PositiveInt = 256
    encoder_layers: PositiveInt = 2
    encoder_units: PositiveInt = 256
    bidirectional: bool = True
    decoder_layers: PositiveInt = 2
    decoder_units: PositiveInt = 512
    bridge: Literal["auto", "copy", "dense"] = "auto"
    attention: Literal["none", "luong"] = "luong"
    tied_embeddings: Literal["none", "target", "all"] = "none"
    dropout: Fraction = 0.2


class TrainingConfig(_Section):
    """How the weights are found.

    An update sees `accumulate_batches` batches, each of at most `batch_tokens` tokens a side,
    padding included. The learning rate rises linearly over `warmup_steps`; then it stays
    (constant), falls with 1 / sqrt(step), falls linearly to 0 at the last step, or (plateau) is
    multiplied by `plateau_factor` after `plateau_patience` validations without a better BLEU.
    """

    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: PositiveFloat = 1e-3
    schedule: Schedule = "inverse-square-root"
    warmup_steps: NonNegativeInt = 400
    plateau_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    plateau_patience: PositiveInt = 2
    batch_tokens: PositiveInt = 2048
    accumulate_batches: PositiveInt = 1
    gradient_norm: PositiveFloat = 1.0
    label_smoothing: Fraction = 0.1
    max_epochs: PositiveInt = 20
    max_steps: PositiveInt | None = None
    log_every_steps: PositiveInt = 20
    checkpoint_every_minutes: PositiveFloat = 5.0
    keep_checkpoints: PositiveInt = 2


class ValidationConfig(_Section):
    """Validation: after each epoch unless `every_steps` is set.

    Training stops after `patience` rounds without a better BLEU.
    """

    every_steps: PositiveInt | None = None
    beam_size: PositiveInt = 1
    patience: PositiveInt = 5
    samples: NonNegativeInt = 3
    bleu_tokenizer: Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"] = "13a"


class DecodingConfig(_Section):
    """Defaults of `translate`.

    A translation has at most `max_length_ratio * source pieces + max_length_offset` pieces.
    """

    beam_size: PositiveInt = 5
    length_penalty: NonNegativeFloat = 1.0
    max_length_ratio: NonNegativeFloat = 2.0
    max_length_offset: NonNegativeInt = 10


class Config(_Section):
    """A whole experiment; `seed` decides initial weights, data order and dropout."""

    task: Literal["translation"] = "translation"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    validation: ValidationConfig = ValidationConfig()
    decoding: DecodingConfig = DecodingConfig()


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The checked configuration in the TOML file `path`.

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
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as err:
        raise StorageError(f"{path}: cannot be read: {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise UsageError(f"{path}: not UTF-8 at byte {err.start}; save the file as UTF-8") from err
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise UsageError(f"{path}: not valid TOML: {err}") from err
    except RecursionError as err:
        raise UsageError(f"{path}: not a configuration: brackets nested too deep") from err
    for override in overrides:
        _apply_override(raw, override)
    return _validated(raw, name=str(path))


def load_model_config(folder: Path) -> Config:
    """The configuration a model folder was trained with.

    Raises:
        ModelError: `folder` is no model folder, or its configuration is not one.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ModelError(f"{folder}: not a model folder: no {CONFIG_FILE} in it")
    try:
        return load_config(path)
    except (UsageError, StorageError) as err:
        raise ModelError(str(err)) from err


def with_absolute_paths(config: Config) -> Config:
    """`config` with paths that mean the same from any working directory."""
    data, tokenizer = config.data, config.tokenizer
    data_paths = {
        "train_source": [path.absolute() for path in data.train_source],
        "train_target": [path.absolute() for path in data.train_target],
        "validation_source": data.validation_source.absolute(),
        "validation_target": data.validation_target.absolute(),
    }
    models = {
        key: path and path.absolute()
        for key, path in (
            ("source_model", tokenizer.source_model),
            ("target_model", tokenizer.target_model),
        )
    }
    return config.model_copy(
        update={
            "data": data.model_copy(update=data_paths),
            "tokenizer": tokenizer.model_copy(update=models),
        }
    )


def dump_config(config: Config) -> str:
    """`config` as TOML text, every default written out; keys without a value are left out."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def _apply_override(raw: dict[str, Any], override: str) -> None:
    name, separator, text = override.partition("=")
    keys = [key.strip() for key in name.split(".")]
    if not separator or not all(keys):
        raise UsageError(f"--set {override}: expected section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = raw
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise UsageError(f"--set {override}: {key} is a value, not a section")
    table[keys[-1]] = value


def _validated(raw: dict[str, Any], *, name: str) -> Config:
    try:
        config, faults = Config.model_validate(raw), []
    except ValidationError as err:
        errors = err.errors()
        faults = [(".".join(_keys(error)), _fault(error)) for error in errors]
        config = _without_faults(raw, [_keys(error) for error in errors])
    faulty = {key for key, _ in faults}
    # A conflict with a key that is itself faulty would only repeat that fault.
    faults += [(keys[0], text) for keys, text in _conflicts(config) if not faulty & set(keys)]
    if not faults:
        return config
    raise UsageError("; ".join(f"{name}: {key}: {text}" for key, text in faults))


def _without_faults(raw: dict[str, Any], faulty: Iterable[Sequence[str]]) -> Config:
    """Defaults in place of the faulty keys, so that conflicts can be looked for all the same."""
    placeholder = {"train_source": "-", "train_target": "-"}
    placeholder |= {"validation_source": "-", "validation_target": "-"}
    kept = {key: dict(value) if isinstance(value, Mapping) else value for key, value in raw.items()}
    for keys in faulty:
        if len(keys) == 1:
            kept.pop(keys[0], None)
        elif isinstance(table := kept.get(keys[0]), dict):
            table.pop(keys[1], None)
    data = kept.get("data")
    kept["data"] = placeholder | (data if isinstance(data, dict) else {})
    return Config.model_validate(kept)


def _keys(error: Mapping[str, Any]) -> list[str]:
    """The path of the faulty key: `section`, `key`; list positions and union branches dropped."""
    return [str(part) for part in error["loc"][:2]]


def _fault(error: Mapping[str, Any]) -> str:
    """What is wrong with one key, in the words `got X, expected Y`."""
    value = error["input"]
    match error["type"]:
        case "extra_forbidden":
            return "unknown key" + _suggestion(_keys(error))
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


def _suggestion(keys: Sequence[str]) -> str:
    section: type[BaseModel] = Config
    for key in keys[:-1]:
        annotation = section.model_fields[key].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ""
        section = annotation
    close = difflib.get_close_matches(keys[-1], section.model_fields, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _conflicts(config: Config) -> list[tuple[tuple[str, ...], str]]:
    """Keys fine alone but not together: all concerned, the one to report first, and why."""
    found: list[tuple[tuple[str, ...], str]] = []
    tokenizer, model = config.tokenizer, config.model
    joint = tokenizer.target_model is None if tokenizer.source_model else tokenizer.joint
    if tokenizer.target_model and not tokenizer.source_model:
        found.append(
            (
                ("tokenizer.target_model", "tokenizer.source_model"),
                "needs tokenizer.source_model beside it",
            )
        )
    if model.tied_embeddings == "all" and not joint:
        found.append(
            (
                ("model.tied_embeddings", "tokenizer.joint", "tokenizer.target_model"),
                "got 'all', which needs one vocabulary for both sides (tokenizer.joint = true)",
            )
        )
    width = model.encoder_units * (2 if model.bidirectional else 1)
    if model.bridge == "copy" and width != model.decoder_units:
        found.append(
            (
                (
                    "model.bridge",
                    "model.encoder_units",
                    "model.bidirectional",
                    "model.decoder_units",
                ),
                f"got 'copy', but the encoder's state is {width} wide and decoder_units is "
                f"{model.decoder_units}; make them equal or use 'dense'",
            )
        )
    if config.data.max_target_length < 2:
        found.append((("data.max_target_length",), "got 1, expected 2 or more: the end counts"))
    return found
