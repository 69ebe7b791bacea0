"""The configuration: one TOML file per experiment, checked as a whole before anything is done.

The pydantic models here are the only place where a default lives. `load_config` reports every
unknown key, wrong type and conflict at once, as `file: section.key: got X, expected Y`. The key
`task` decides which of two kinds of experiment a file is: `Config` or `LanguageModelConfig`.
"""

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tomli_w
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from seq2seq.errors import ModelError, StorageError, UsageError, reading
from seq2seq.model_files import CONFIG_FILE, LARGEST_RECORD, check_plain


def _file_name(value: object) -> object:
    if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
        raise ValueError("the name of a file")
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | Path) else value


TextFile = Annotated[
    Path, BeforeValidator(_file_name), Field(strict=False)
]  # TOML has no paths, so text is one here
TextFiles = Annotated[list[TextFile], BeforeValidator(_as_list), Field(min_length=1)]
# As large as int32 and float32 hold them.
PositiveInt = Annotated[int, Field(gt=0, lt=2**31)]
NonNegativeInt = Annotated[int, Field(ge=0, lt=2**31)]
PositiveFloat = Annotated[float, Field(gt=0.0, le=1e38)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, le=1e38)]
Precision = Literal["auto", "float32", "bfloat16"]
Schedule = Literal["constant", "inverse-square-root", "linear", "plateau"]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Layers = Annotated[int, Field(ge=1, le=100)]


class _Section(BaseModel):
    # strict: the text "8" is not the number 8; a wrong type is not ours to guess away.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DataConfig(_Section):
    """Where the raw text is: UTF-8, one sentence a line; files of one side are read in turn.

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
    """Encoder and decoder; `encoder_units` counts one direction, a bidirectional one has two.

    See `DropoutRates` for what is dropped in training.
    """

    embedding_size: PositiveInt = 256
    encoder_layers: Layers = 2
    encoder_units: PositiveInt = 256
    bidirectional: bool = True
    reverse_source: bool = False
    decoder_layers: Layers = 2
    decoder_units: PositiveInt = 512
    bridge: Literal["auto", "copy", "dense"] = "auto"
    attention: Literal["none", "luong"] = "luong"
    attention_layer: Literal["last", "first"] = "last"
    attention_heads: PositiveInt = 1
    tied_embeddings: Literal["none", "target", "all"] = "none"
    residual: bool = False
    dropout: Fraction = 0.2
    word_dropout: Fraction = 0.0
    recurrent_dropout: Fraction = 0.0
    variational_dropout: bool = False


class CommonTrainingConfig(_Section):
    """How the weights are found, whatever is learned.

    The learning rate rises linearly over `warmup_steps`; then it stays (constant), falls with
    1 / sqrt(step), falls linearly to 0 after the last step, or (plateau) is multiplied by
    `plateau_factor` after `plateau_patience` validations that are no better than the best one.

    With an `ema_decay` above 0, what is validated and saved as the model is a moving average of the
    weights: of each update's, `1 - ema_decay` enters it.
    """

    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: PositiveFloat = 1e-3
    schedule: Schedule = "inverse-square-root"
    warmup_steps: NonNegativeInt = 400
    plateau_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    plateau_patience: PositiveInt = 2
    gradient_norm: PositiveFloat = 1.0
    label_smoothing: Fraction = 0.1
    ema_decay: Fraction = 0.0
    max_epochs: PositiveInt = 20
    max_steps: PositiveInt | None = None
    log_every_steps: PositiveInt = 20
    checkpoint_every_minutes: PositiveFloat = 5.0
    keep_checkpoints: PositiveInt = 2


class TrainingConfig(CommonTrainingConfig):
    """How the weights of a translator are found; "better" is a higher BLEU.

    An update sees `accumulate_batches` batches, each of at most `batch_tokens` tokens a side,
    padding included. With a `subword_sampling` above 0 words are cut into other pieces each time
    they are seen, drawn at random (see `WordSampler`); `batch_tokens` counts those of the most
    probable segmentation. With a `consistency` above 0 each batch is computed twice, with different
    dropout masks, and the two predictions are pulled towards each other (see `cross_entropy`).
    """

    batch_tokens: PositiveInt = 2048
    accumulate_batches: PositiveInt = 1
    subword_sampling: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    consistency: NonNegativeFloat = 0.0


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


class TextDataConfig(_Section):
    """Where the text of a language model is, UTF-8; several files are one text, nothing in between.

    Relative paths count from the working directory. Training, validation and test text lie in
    this order in `text`, cut by position: the shares are of its characters. `validation_share` has
    no effect beside `validation_text`; with neither there is nothing to validate with, and training
    goes to its last step. The test text is what `seq2seq evaluate` scores where it is given none.
    """

    text: TextFiles
    validation_text: TextFile | None = None
    validation_share: Fraction = 0.1
    test_share: Fraction = 0.0


class TextTokenizerConfig(_Section):
    """The symbols that a text is made of: characters, words or SentencePiece's pieces.

    `vocabulary_size` is the greatest number of words, or the exact number of pieces; what stands
    for something else (unknown words, bytes, the end of a line) counts. Left out it is 10,000 words
    or 8,000 pieces. Characters have no limit.
    """

    type: Literal["character", "word", "unigram", "bpe"] = "character"
    vocabulary_size: Annotated[int, Field(ge=2)] | None = None

    @property
    def most_symbols(self) -> int:
        """`vocabulary_size`, or the default of the type."""
        if self.vocabulary_size is not None:
            return self.vocabulary_size
        match self.type:
            case "character":
                return 0x110000 + 1  # no limit: all that Unicode has, and unknown
            case "word":
                return 10_000
            case "unigram" | "bpe":
                return 8_000


class TextModelConfig(_Section):
    """The layers of a language model; of `embedding_size` 0, they see one-hot vectors.

    See `DropoutRates` for what is dropped in training.
    """

    embedding_size: NonNegativeInt = 256
    layers: Layers = 2
    units: PositiveInt = 512
    tied_embeddings: bool = False
    residual: bool = False
    dropout: Fraction = 0.5
    embedding_dropout: Fraction = 0.0
    word_dropout: Fraction = 0.0
    recurrent_dropout: Fraction = 0.0
    variational_dropout: bool = False


class TextTrainingConfig(CommonTrainingConfig):
    """How the weights of a language model are found; "better" is a lower validation loss.

    An update sees `window` symbols of `batch_size` places in the text, which lie evenly apart and
    move on by a window each update: truncated back-propagation through time, the state carried.
    """

    schedule: Schedule = "constant"
    warmup_steps: NonNegativeInt = 0
    gradient_norm: PositiveFloat = 5.0
    label_smoothing: Fraction = 0.0
    batch_size: PositiveInt = 64
    window: PositiveInt = 100


class TextValidationConfig(_Section):
    """Validation: after each epoch unless `every_steps` is set.

    Training stops after `patience` rounds without a lower loss. Each round shows `sample_length`
    symbols that the model writes after `prime`.
    """

    every_steps: PositiveInt | None = None
    patience: PositiveInt = 5
    sample_length: NonNegativeInt = 200
    prime: str = ""


class GenerationConfig(_Section):
    """Defaults of `generate`: `length` symbols, sampled.

    Each symbol is drawn from the `top_k` most likely ones (0: from all), and of these from the
    fewest that together have the share `top_p` of their probability; a `temperature` below 1
    sharpens the probabilities first.
    """

    length: PositiveInt = 500
    temperature: PositiveFloat = 1.0
    top_k: NonNegativeInt = 0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0


class CommonConfig(_Section):
    """What every experiment has; `seed` decides initial weights, data order and dropout."""

    task: str
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    precision: Precision = "auto"


class Config(CommonConfig):
    """A whole experiment with a translator."""

    task: Literal["translation"] = "translation"
    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    validation: ValidationConfig = ValidationConfig()
    decoding: DecodingConfig = DecodingConfig()


class LanguageModelConfig(CommonConfig):
    """A whole experiment with a language model."""

    task: Literal["language-model"] = "language-model"
    data: TextDataConfig
    tokenizer: TextTokenizerConfig = TextTokenizerConfig()
    model: TextModelConfig = TextModelConfig()
    training: TextTrainingConfig = TextTrainingConfig()
    validation: TextValidationConfig = TextValidationConfig()
    generation: GenerationConfig = GenerationConfig()


AnyConfig = Config | LanguageModelConfig
SomeConfig = TypeVar("SomeConfig", bound=CommonConfig)

_KINDS: dict[str, type[Config] | type[LanguageModelConfig]] = {
    "translation": Config,
    "language-model": LanguageModelConfig,
}
_Conflict = tuple[tuple[str, ...], str]  # all keys concerned, the one to report first, and why
_SMALLEST_PIECES = 4 + 256  # special pieces and bytes, which every model of pieces has


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
    if isinstance(value, _Section):
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
    faults += [(keys[0], text) for keys, text in _conflicts(config) if not faulty & set(keys)]
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


def _conflicts(config: AnyConfig) -> Iterator[_Conflict]:
    """Keys fine alone but not together."""
    if isinstance(config, Config):
        return _translation_conflicts(config)
    return _language_model_conflicts(config)


def _translation_conflicts(config: Config) -> Iterator[_Conflict]:
    tokenizer, model = config.tokenizer, config.model
    loaded = tokenizer.source_model is not None
    joint = tokenizer.target_model is None if loaded else tokenizer.joint
    if tokenizer.target_model and not tokenizer.source_model:
        yield (
            ("tokenizer.target_model", "tokenizer.source_model"),
            "needs tokenizer.source_model beside it",
        )
    if model.tied_embeddings == "all" and not joint:
        yield (
            ("model.tied_embeddings", "tokenizer.joint", "tokenizer.target_model"),
            "got 'all', which needs one vocabulary for both sides (tokenizer.joint = true)",
        )
    width = model.encoder_units * (2 if model.bidirectional else 1)
    if model.bridge == "copy" and width != model.decoder_units:
        yield (
            (
                "model.bridge",
                "model.encoder_units",
                "model.bidirectional",
                "model.decoder_units",
            ),
            f"got 'copy', but the encoder's state is {width} wide and decoder_units is "
            f"{model.decoder_units}; make them equal or use 'dense'",
        )
    yield from _attention_conflicts(model, width)
    if config.training.consistency and not (model.dropout or model.word_dropout):
        yield (
            ("training.consistency", "model.dropout", "model.word_dropout"),
            f"got {config.training.consistency}, but without dropout the two passes are the "
            "same; set it to 0, or drop something",
        )
    if config.training.subword_sampling and not loaded and tokenizer.type != "unigram":
        yield (
            ("training.subword_sampling", "tokenizer.type"),
            f"got {config.training.subword_sampling}, which needs tokenizer.type = 'unigram'",
        )
    if model.reverse_source and model.bidirectional:
        yield (
            ("model.reverse_source", "model.bidirectional"),
            "got true, which has no effect where the encoder reads both ways "
            "(model.bidirectional = false)",
        )
    for key in ("max_source_length", "max_target_length"):
        if getattr(config.data, key) < 2:
            yield (f"data.{key}",), "got 1, expected 2 or more: the end counts"


def _attention_conflicts(model: ModelConfig, width: int) -> Iterator[_Conflict]:
    """Of keys that depend on attention, with an encoder `width` wide."""
    if model.attention == "none":
        options = {"attention_heads": 1, "attention_layer": "last"}
        for key, default in options.items():
            if (value := getattr(model, key)) != default:
                yield (
                    (f"model.{key}", "model.attention"),
                    f"got {value!r}, which has no effect without attention; leave it out",
                )
    if model.attention != "none" and model.reverse_source:
        yield (
            ("model.reverse_source", "model.attention"),
            "got true, which is for models without attention (model.attention = 'none')",
        )
    heads = model.attention_heads
    if model.attention != "none" and (model.decoder_units % heads or width % heads):
        yield (
            (
                "model.attention_heads",
                "model.decoder_units",
                "model.encoder_units",
                "model.bidirectional",
            ),
            f"got {heads}, expected a divisor of decoder_units "
            f"({model.decoder_units}) and of the encoder's width ({width})",
        )


def _language_model_conflicts(config: LanguageModelConfig) -> Iterator[_Conflict]:
    data, tokenizer, model = config.data, config.tokenizer, config.model
    validation_share = 0.0 if data.validation_text else data.validation_share
    if validation_share + data.test_share >= 1:
        yield (
            ("data.validation_share", "data.test_share"),
            f"got {validation_share}, and test_share is {data.test_share}, which leaves "
            "nothing to train on; expected a sum below 1",
        )
    size = tokenizer.vocabulary_size
    if size is not None and tokenizer.type == "character":
        yield (
            ("tokenizer.vocabulary_size", "tokenizer.type"),
            f"got {size}, but every character of the training text is a symbol; leave it out, "
            "or set tokenizer.type to 'word', 'unigram' or 'bpe'",
        )
    elif size is not None and tokenizer.type != "word" and size <= _SMALLEST_PIECES:
        yield (
            ("tokenizer.vocabulary_size", "tokenizer.type"),
            f"got {size}, but {_SMALLEST_PIECES} are special pieces and bytes; raise it",
        )
    if config.training.schedule == "plateau" and not (data.validation_text or validation_share):
        yield (
            ("training.schedule", "data.validation_text", "data.validation_share"),
            "got 'plateau', which goes by validations, and there is no text for them",
        )
    if model.tied_embeddings and not model.embedding_size:
        yield (
            ("model.tied_embeddings", "model.embedding_size"),
            "got true, but without embeddings (model.embedding_size = 0) there are none to tie",
        )
