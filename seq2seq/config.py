"""What an experiment is: the sections of its configuration, their keys and defaults.

The pydantic models here are the only place where an experiment's defaults live. The key `task`
decides which of two kinds of experiment a configuration is: `Config` or `LanguageModelConfig`. What
a key must be alone, its type says; what keys must be together, the `conflicts` of their section.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


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
OnBadPair = Literal["error", "skip"]
BleuTokenizer = Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Layers = Annotated[int, Field(ge=1, le=100)]
Length = Annotated[int, Field(ge=2, lt=2**31)]  # one piece and the end
_SMALLEST_PIECES = 4 + 256  # special pieces and bytes, which every model of pieces has


class Conflict(NamedTuple):
    """Keys that are fine alone but not together.

    Attributes:
        keys: All that are concerned; the first is the one to report.
        text: What is wrong with it, as "got X, ...".
    """

    keys: tuple[str, ...]
    text: str


class _Section(BaseModel):
    # strict: the text "8" is not the number 8; a wrong type is not ours to guess away.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def conflicts(self) -> Iterator[Conflict]:
        """Keys of the section that contradict each other."""
        yield from ()


class DataConfig(_Section):
    """Where the raw text is: UTF-8, one sentence a line; files of one side are read in turn.

    Relative paths count from the working directory. Lengths are in pieces, end of sentence
    included; longer training pairs are left out and counted (validation text never is).
    """

    train_source: TextFiles
    train_target: TextFiles
    validation_source: TextFile
    validation_target: TextFile
    max_source_length: Length = 128
    max_target_length: Length = 128
    on_bad_utf8: OnBadPair = "error"


class TokenizerConfig(_Section):
    """SentencePiece: trained on the training text, or loaded when `source_model` names a file.

    One model serves both sides if `joint`; loaded models are joint if `target_model` is left out.
    """

    source_model: TextFile | None = None
    target_model: TextFile | None = None
    type: Literal["unigram", "bpe", "char", "word"] = "unigram"
    joint: bool = True
    vocabulary_size: Annotated[int, Field(ge=8, lt=2**31)] = 8000
    character_coverage: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    normalization: Literal["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"] = "nmt_nfkc"
    byte_fallback: bool = True
    user_symbols: list[str] = []

    @property
    def shared(self) -> bool:
        """Whether one model serves both sides."""
        return self.joint if self.source_model is None else self.target_model is None

    def conflicts(self) -> Iterator[Conflict]:
        """See `Conflict`."""
        if self.target_model and not self.source_model:
            yield Conflict(
                ("target_model", "source_model"), "needs tokenizer.source_model beside it"
            )


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

    @property
    def encoder_width(self) -> int:
        """Numbers that the encoder has at a position, of all its directions."""
        return self.encoder_units * (2 if self.bidirectional else 1)

    def conflicts(self) -> Iterator[Conflict]:
        """See `Conflict`."""
        if self.variational_dropout and not self.dropout:
            yield Conflict(
                ("variational_dropout", "dropout"),
                "got true, which has no effect without model.dropout; leave it out",
            )
        if self.bridge == "copy" and self.encoder_width != self.decoder_units:
            yield Conflict(
                ("bridge", "encoder_units", "bidirectional", "decoder_units"),
                f"got 'copy', but the encoder's state is {self.encoder_width} wide and "
                f"decoder_units is {self.decoder_units}; make them equal or use 'dense'",
            )
        yield from self._without_attention() if self.attention == "none" else self._with_attention()
        if self.reverse_source and self.bidirectional:
            yield Conflict(
                ("reverse_source", "bidirectional"),
                "got true, which has no effect where the encoder reads both ways "
                "(model.bidirectional = false)",
            )

    def _without_attention(self) -> Iterator[Conflict]:
        for key in ("attention_heads", "attention_layer"):
            value = getattr(self, key)
            if value != type(self).model_fields[key].default:
                yield Conflict(
                    (key, "attention"),
                    f"got {value!r}, which has no effect without attention; leave it out",
                )

    def _with_attention(self) -> Iterator[Conflict]:
        if self.reverse_source:
            yield Conflict(
                ("reverse_source", "attention"),
                "got true, which is for models without attention (model.attention = 'none')",
            )
        heads = self.attention_heads
        if self.decoder_units % heads or self.encoder_width % heads:
            yield Conflict(
                ("attention_heads", "decoder_units", "encoder_units", "bidirectional"),
                f"got {heads}, expected a divisor of decoder_units ({self.decoder_units}) and of "
                f"the encoder's width ({self.encoder_width})",
            )


class CommonTrainingConfig(_Section):
    """How the weights are found, whatever is learned.

    The learning rate rises linearly over `warmup_steps`; then it stays (constant), falls with
    1 / sqrt(step), falls linearly to 0 after the last step, or (plateau) is multiplied by
    `plateau_factor` after `plateau_patience` validations that are no better than the best one.

    With an `ema_decay` above 0, what is validated and saved as the model is a moving average: after
    each update ema_decay * average + (1 - ema_decay) * weights, the decay lower at first.
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
    """How the weights of a translator are found; "better" is a higher BLEU (less loss at the same).

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
    bleu_tokenizer: BleuTokenizer = "13a"


class DecodingConfig(_Section):
    """How the model translates where nothing else is asked for; validation has its own beam size.

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

    @property
    def share_to_validate(self) -> float:
        """Of `text`: none beside a `validation_text`."""
        return 0.0 if self.validation_text else self.validation_share

    def conflicts(self) -> Iterator[Conflict]:
        """See `Conflict`."""
        if self.share_to_validate + self.test_share >= 1:
            yield Conflict(
                ("validation_share", "test_share"),
                f"got {self.share_to_validate}, and test_share is {self.test_share}, which leaves "
                "nothing to train on; expected a sum below 1",
            )


class TextTokenizerConfig(_Section):
    """The symbols that a text is made of: characters, words or SentencePiece's pieces.

    `vocabulary_size` is the greatest number of words, or the exact number of pieces,
    unknown words, bytes and the end of a line counted. Left out it is 10,000 words or 8,000 pieces.
    Characters have no limit.
    """

    type: Literal["character", "word", "unigram", "bpe"] = "character"
    vocabulary_size: Annotated[int, Field(ge=2, lt=2**31)] | None = None

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

    def conflicts(self) -> Iterator[Conflict]:
        """See `Conflict`."""
        keys, size = ("vocabulary_size", "type"), self.vocabulary_size
        if size is not None and self.type == "character":
            yield Conflict(
                keys,
                f"got {size}, but every character of the training text is a symbol; leave it out, "
                "or set tokenizer.type to 'word', 'unigram' or 'bpe'",
            )
        elif size is not None and self.type != "word" and size <= _SMALLEST_PIECES:
            yield Conflict(
                keys, f"got {size}, but {_SMALLEST_PIECES} are special pieces and bytes; raise it"
            )


class TextModelConfig(_Section):
    """The layers of a language model; with `embedding_size = 0` it reads one-hot vectors.

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

    def conflicts(self) -> Iterator[Conflict]:
        """See `Conflict`."""
        if self.variational_dropout and not (self.dropout or self.embedding_dropout):
            yield Conflict(
                ("variational_dropout", "dropout", "embedding_dropout"),
                "got true, which has no effect without dropout; leave it out",
            )
        if self.tied_embeddings and not self.embedding_size:
            yield Conflict(
                ("tied_embeddings", "embedding_size"),
                "got true, but without embeddings (model.embedding_size = 0) there are none to tie",
            )


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

    def conflicts(self) -> Iterator[Conflict]:
        """Those of all sections, and of keys of different ones, as `section.key`."""
        for name, section in self:
            if isinstance(section, _Section):
                for keys, text in section.conflicts():
                    yield Conflict(tuple(f"{name}.{key}" for key in keys), text)


def _plateau_conflicts(training: CommonTrainingConfig, patience: int) -> Iterator[Conflict]:
    """Of the plateau schedule and the `patience` of validation."""
    if training.schedule == "plateau" and training.plateau_patience >= patience:
        yield Conflict(
            ("training.plateau_patience", "validation.patience"),
            f"got {training.plateau_patience}, but training ends after validation.patience = "
            f"{patience} rounds without a better score, before the rate ever falls; make it "
            "smaller",
        )


class Config(CommonConfig):
    """A whole experiment with a translator."""

    task: Literal["translation"] = "translation"
    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    validation: ValidationConfig = ValidationConfig()
    decoding: DecodingConfig = DecodingConfig()

    def conflicts(self) -> Iterator[Conflict]:
        """See `CommonConfig.conflicts`."""
        yield from super().conflicts()
        training = self.training
        yield from _plateau_conflicts(training, self.validation.patience)
        if self.model.tied_embeddings == "all" and not self.tokenizer.shared:
            yield Conflict(
                ("model.tied_embeddings", "tokenizer.joint", "tokenizer.target_model"),
                "got 'all', which needs one vocabulary for both sides (tokenizer.joint = true)",
            )
        consistency, subword_sampling = training.consistency, training.subword_sampling
        if consistency and not (self.model.dropout or self.model.word_dropout):
            yield Conflict(
                ("training.consistency", "model.dropout", "model.word_dropout"),
                f"got {consistency}, but without dropout the two passes are the same; set it to 0, "
                "or drop something",
            )
        is_trained = self.tokenizer.source_model is None
        if subword_sampling and is_trained and self.tokenizer.type != "unigram":
            yield Conflict(
                ("training.subword_sampling", "tokenizer.type"),
                f"got {subword_sampling}, which needs tokenizer.type = 'unigram'",
            )


class LanguageModelConfig(CommonConfig):
    """A whole experiment with a language model."""

    task: Literal["language-model"] = "language-model"
    data: TextDataConfig
    tokenizer: TextTokenizerConfig = TextTokenizerConfig()
    model: TextModelConfig = TextModelConfig()
    training: TextTrainingConfig = TextTrainingConfig()
    validation: TextValidationConfig = TextValidationConfig()
    generation: GenerationConfig = GenerationConfig()

    def conflicts(self) -> Iterator[Conflict]:
        """See `CommonConfig.conflicts`."""
        yield from super().conflicts()
        yield from _plateau_conflicts(self.training, self.validation.patience)
        has_validation = self.data.validation_text or self.data.share_to_validate
        if self.training.schedule == "plateau" and not has_validation:
            yield Conflict(
                ("training.schedule", "data.validation_text", "data.validation_share"),
                "got 'plateau', which goes by validations, and there is no text for them",
            )


AnyConfig = Config | LanguageModelConfig
SomeConfig = TypeVar("SomeConfig", bound=CommonConfig)
