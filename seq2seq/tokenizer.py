"""SentencePiece tokenizers: text to ids and back, trained on the raw training text or loaded.

    text --encode: normalised, split into pieces--> ids --decode--> one line of text

A `TokenizerPair` serves the two sides of a translation, with one model or with two.
"""

import hashlib
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from seq2seq.config import Config, TokenizerConfig
from seq2seq.durable_files import write_whole
from seq2seq.errors import (
    DataError,
    ModelError,
    UsageError,
    reading,
    writing,
)
from seq2seq.lines import one_line
from seq2seq.model_files import LARGEST_TOKENIZER, check_plain
from seq2seq.pairs import Pair, training_pairs

PAD, UNK, BOS, EOS = 0, 1, 2, 3  # ids of the models trained here; loaded ones have their own

JOINT_FILE, SOURCE_FILE, TARGET_FILE = "joint.model", "source.model", "target.model"

_SPECIAL_PIECES = ("<pad>", "<unk>", "<s>", "</s>")
SPACE = "\u2581"  # what SentencePiece writes for a space
_RESERVED = "\u2585"  # SentencePiece leaves out a training sentence with this character in it
_SAMPLE_SENTENCES = 200_000  # a model is trained on no more: SentencePiece takes some 2 KB for each
# SentencePiece leaves out sentences over 4192 bytes; 1000 characters are 4000 bytes at most.
_SENTENCE_CHARACTERS = 1000
# Sums of floats depend on how the work is shared out, so this must not follow the machine.
_TRAINING_THREADS = 4
_ONLY_FATAL = 3  # level of messages that SentencePiece may print


class Tokenizer:
    """One SentencePiece model, which any number of threads may use at once.

    With byte fallback, which models trained here have by default, a character without a piece is
    written as the bytes of its UTF-8: no text has an unknown id, whatever the type of the model.
    Text that looks like a special piece, such as `</s>`, is split like any other.

    Attributes:
        model: The serialized model.
        vocabulary_size: Ids are below this.
        pad_id: For padding; the end id in a model without one, as padding is masked by lengths.
        unk_id: Stands for characters that have no piece, in models without byte fallback.
        unknown_ids: What characters that have no piece become: `unk_id`, and pieces for bytes.
        bos_id: Begins a sentence.
        eos_id: Ends a sentence.
        fingerprint: Hash of the model.
    """

    def __init__(self, model: bytes, *, name: str = "tokenizer") -> None:
        """Takes a serialized SentencePiece model; `name` is for messages.

        Raises:
            ModelError: It is none, or has no piece for begin or end of sentence.
        """
        self._processor = SentencePieceProcessor()
        try:
            if not model:  # SentencePiece takes this for a model without pieces
                raise RuntimeError("empty")
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as err:
            raise ModelError(f"{name}: not a SentencePiece model, or damaged") from err
        self.model = model
        self.fingerprint = hashlib.sha256(model).hexdigest()
        self.vocabulary_size: int = self._processor.vocab_size()
        self.unk_id: int = self._processor.unk_id()
        self.bos_id: int = self._processor.bos_id()
        self.eos_id: int = self._processor.eos_id()
        for piece, number in (("beginning", self.bos_id), ("end", self.eos_id)):
            if number < 0:
                raise ModelError(
                    f"{name}: has no piece for the {piece} of a sentence; expected a model trained "
                    "with both (SentencePiece's default)"
                )
        every = range(self.vocabulary_size)
        self.unknown_ids = frozenset([self.unk_id, *filter(self._processor.is_byte, every)])
        pad = self._processor.pad_id()
        self.pad_id: int = self.eos_id if pad < 0 else pad

    @classmethod
    def load(cls, path: Path) -> Self:
        """The tokenizer in a SentencePiece `.model` file.

        Raises:
            StorageError: The file cannot be read.
            ModelError: It is no SentencePiece model, or has no begin or end of sentence.
        """
        with reading(path):
            model = path.read_bytes()
        return cls(model, name=str(path))

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without begin and end; none if it has nothing but blanks.

        Raises:
            DataError: `text` has a lone surrogate, so it is not Unicode text.
        """
        ids: list[int] = self._encoded(one_line(text))
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, as `encode` gives them.

        Raises:
            DataError: A text has a lone surrogate.
        """
        ids: list[list[int]] = self._encoded([one_line(text) for text in texts])
        return ids

    def unigram_log_probs(self) -> dict[str, tuple[int, float]]:
        """Id and log-probability of every piece of text by its characters, of a unigram model.

        Without `user_symbols`, which are always one piece and have the log-probability 0.

        Raises:
            UsageError: It is a model of another kind.
        """
        processor = self._processor
        try:
            processor.nbest_encode_as_ids("a", 1)  # which other models cannot
        except RuntimeError as err:
            raise UsageError(
                "training.subword_sampling: needs a tokenizer of type 'unigram'; set it to 0, or "
                "name or train such a tokenizer"
            ) from err
        special = (processor.is_control, processor.is_unknown, processor.is_byte)
        return {
            processor.id_to_piece(i): (i, processor.get_score(i))
            for i in range(self.vocabulary_size)
            if not any(is_special(i) for is_special in (*special, processor.is_unused))
            and processor.get_score(i) < 0
        }

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, always one line; padding, begin and end are passed over."""
        text: str = self._processor.decode([int(i) for i in ids])
        # A space may be spelled in bytes, in models of words mostly, and then comes out as a mark.
        return one_line(text.removeprefix(SPACE).replace(SPACE, " "))

    def encode_exactly(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each line with every character in it, tabs and other controls too.

        A mark (U+2581) is a space here as everywhere in SentencePiece.

        Raises:
            DataError: A line has a lone surrogate.
        """
        ids: list[list[int]] = self._encoded(list(lines))
        return ids

    def piece_bytes(self, piece_id: int) -> bytes:
        """The UTF-8, or the part of it, that a piece stands for; nothing for special pieces."""
        if self._processor.is_byte(piece_id):
            return bytes([int(self._processor.id_to_piece(piece_id)[1:-1], 16)])
        if self._processor.is_control(piece_id) or self._processor.is_unknown(piece_id):
            return b""
        piece: str = self._processor.id_to_piece(piece_id)
        return piece.replace(SPACE, " ").encode("utf-8")

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The piece of each id, specials too; a mark (U+2581) stands for a space."""
        pieces: list[str] = self._processor.id_to_piece([int(i) for i in ids])
        return pieces

    def id_of(self, piece: str) -> int | None:
        """The id of a piece; None if there is no such piece."""
        try:
            found: int = self._processor.piece_to_id(piece)
        except TypeError:  # a lone surrogate is in it
            return None
        return found if self._processor.id_to_piece(found) == piece else None

    def _encoded(self, texts: str | list[str]) -> Any:
        try:
            return self._processor.encode(texts)
        except (RuntimeError, TypeError):  # of one text, of a list
            _refuse_surrogates([texts] if isinstance(texts, str) else texts)
            raise


@dataclass(frozen=True)
class TokenizerPair:
    """The tokenizers of both sides: one and the same object if they share a model."""

    source: Tokenizer
    target: Tokenizer

    @property
    def joint(self) -> bool:
        """Whether ids mean the same on both sides."""
        return self.source is self.target

    def same_as(self, other: "TokenizerPair") -> bool:
        """Whether both sides cut text into the same ids."""
        return [self.source.fingerprint, self.target.fingerprint] == [
            other.source.fingerprint,
            other.target.fingerprint,
        ]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The tokenizers in the `tokenizer` folder of a model.

        Raises:
            StorageError: A file cannot be read.
            ModelError: There are none, or one is damaged.
        """
        if (folder / JOINT_FILE).is_file():
            check_plain(folder / JOINT_FILE, most_bytes=LARGEST_TOKENIZER)
            joint = Tokenizer.load(folder / JOINT_FILE)
            return cls(joint, joint)
        for name in (SOURCE_FILE, TARGET_FILE):
            if not (folder / name).is_file():
                raise ModelError(
                    f"{folder}: no tokenizer: expected {JOINT_FILE}, or {SOURCE_FILE} and "
                    f"{TARGET_FILE}, but there is no {name}"
                )
            check_plain(folder / name, most_bytes=LARGEST_TOKENIZER)
        return cls(Tokenizer.load(folder / SOURCE_FILE), Tokenizer.load(folder / TARGET_FILE))

    def save(self, folder: Path) -> None:
        """Writes the models to `folder`, for `load`; other models there go.

        Raises:
            StorageError: `folder` cannot be written.
        """
        models = {SOURCE_FILE: self.source.model, TARGET_FILE: self.target.model}
        if self.joint:
            models = {JOINT_FILE: self.source.model}
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name, model in models.items():
                write_whole(folder / name, model)
            for name in {JOINT_FILE, SOURCE_FILE, TARGET_FILE} - models.keys():
                (folder / name).unlink(missing_ok=True)


def prepare_tokenizers(config: Config) -> TokenizerPair:
    """The tokenizers that `config` names, or else new ones, trained on its training text.

    Raises:
        StorageError: A file cannot be read.
        ModelError: A named file is no usable SentencePiece model.
        UsageError: No model with the wanted settings can be made of the text.
        DataError: The training text is faulty, or has no usable pair.
    """
    options = config.tokenizer
    if options.source_model is None:
        return train_tokenizers(training_pairs(config.data), options)
    source = Tokenizer.load(options.source_model)
    if options.target_model is None:
        return TokenizerPair(source, source)
    return TokenizerPair(source, Tokenizer.load(options.target_model))


def train_tokenizers(pairs: Iterable[Pair], options: TokenizerConfig) -> TokenizerPair:
    """New tokenizers for the two sides of `pairs`: one model of both if `options.joint`.

    Equal pairs and options give equal models. `pairs` is read once, to its end, and no more of it
    than a sample of 200,000 sentences a model is held.

    Raises:
        UsageError: No model with these options can be made of the text.
        DataError: There is no text in `pairs`.
    """
    source_sample = _Sample(_SAMPLE_SENTENCES)
    target_sample = source_sample if options.joint else _Sample(_SAMPLE_SENTENCES)
    for pair in pairs:
        source_sample.add(pair.source)
        target_sample.add(pair.target)
    if options.joint:
        joint = train_tokenizer(source_sample.sentences, options)
        return TokenizerPair(joint, joint)
    return TokenizerPair(
        train_tokenizer(source_sample.sentences, options, name="source text"),
        train_tokenizer(target_sample.sentences, options, name="target text"),
    )


def train_tokenizer(
    sentences: Iterable[str], options: TokenizerConfig, *, name: str = "training text"
) -> Tokenizer:
    """A new SentencePiece model of `sentences`, the same for the same ones.

    `options.vocabulary_size` counts special pieces and, with byte fallback, 256 bytes. A model of
    characters has fewer pieces if the text has fewer characters. `name` is for messages.

    Raises:
        UsageError: No model with these options can be made of the text.
        DataError: There is no text in `sentences`.
    """
    _check_user_symbols(options.user_symbols)
    texts = (one_line(text[:_SENTENCE_CHARACTERS]) for text in sentences)
    try:
        return _trained(texts, options, adjust_spaces=True)
    except RuntimeError as err:
        raise _training_error(str(err), options, name=name) from err


def train_exact_tokenizer(lines: Iterable[str], options: TokenizerConfig) -> Tokenizer:
    """A new SentencePiece model that leaves every character and space of a line where it is.

    As `train_tokenizer`, but that all of a long line is learned from, and no space is added or
    taken away. Of `options`, `normalization` has to be identity for text to come back as it was.

    Raises:
        UsageError: No model with these options can be made of the text.
        DataError: There is no text in `lines`.
    """
    size = _SENTENCE_CHARACTERS
    texts = (line[i : i + size] for line in lines for i in range(0, len(line), size))
    try:
        return _trained(texts, options, adjust_spaces=False)
    except RuntimeError as err:
        raise _training_error(str(err), options, name="training text", advice="raise it") from err


def _trained(texts: Iterable[str], options: TokenizerConfig, *, adjust_spaces: bool) -> Tokenizer:
    model = BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=(text.replace(_RESERVED, " ") for text in texts),
        model_writer=model,
        model_type=options.type,
        vocab_size=options.vocabulary_size,
        character_coverage=options.character_coverage,
        normalization_rule_name=options.normalization,
        byte_fallback=options.byte_fallback,
        user_defined_symbols=options.user_symbols,
        pad_id=PAD,
        unk_id=UNK,
        bos_id=BOS,
        eos_id=EOS,
        num_threads=_TRAINING_THREADS,
        minloglevel=_ONLY_FATAL,
        add_dummy_prefix=adjust_spaces,
        remove_extra_whitespaces=adjust_spaces,
    )
    return Tokenizer(model.getvalue())


class _Sample:
    """A sample of sentences in which each of those added has the same chance to be."""

    def __init__(self, size: int) -> None:
        self.sentences: list[str] = []
        self._size = size
        self._added = 0
        self._random = random.Random(0)

    def add(self, text: str) -> None:
        """Takes `text` up, or not: Vitter 1985, algorithm R."""
        self._added += 1
        if len(self.sentences) < self._size:
            self.sentences.append(text[:_SENTENCE_CHARACTERS])
        elif (place := int(self._random.random() * self._added)) < self._size:
            self.sentences[place] = text[:_SENTENCE_CHARACTERS]


def _check_user_symbols(symbols: Sequence[str]) -> None:
    """Refuses symbols that would change what text means, or could never be found in one."""
    for symbol in symbols:
        if symbol in _SPECIAL_PIECES or re.fullmatch("<0x[0-9A-F]{2}>", symbol):
            why = "it is a special piece: text with it would be taken for one"
        elif not symbol or re.search(rf"\s|{SPACE}", one_line(symbol)):
            why = "expected characters, and no spaces among them"
        elif symbols.count(symbol) > 1:
            why = "it is there twice"
        else:
            continue
        raise UsageError(f"tokenizer.user_symbols: got {symbol!r}; {why}")


def _training_error(
    message: str,
    options: TokenizerConfig,
    *,
    name: str,
    advice: str = "raise it or lower tokenizer.character_coverage",
) -> UsageError | DataError:
    """The error for what SentencePiece says about training."""
    got = f"tokenizer.vocabulary_size: got {options.vocabulary_size}"
    if found := re.search(r"Vocabulary size too high .* <= (\d+)", message):
        return UsageError(
            f"{got}, but {found[1]} is the largest possible with the {name}; "
            f"set it to {found[1]} or less"
        )
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return UsageError(
            f"{got}, but {found[1]} is the smallest possible with the {name}, as each of its "
            f"characters needs a piece; {advice}"
        )
    if "(vocab_size) >= (0)" in message:
        # A model of words has every user symbol twice: within a word and at its beginning.
        symbols = len(options.user_symbols) * (2 if options.type == "word" else 1)
        smallest = len(_SPECIAL_PIECES) + 256 * options.byte_fallback + symbols
        return UsageError(
            f"{got}, but {smallest} is the smallest possible, with special pieces, bytes and user "
            "symbols counted"
        )
    if "!sentences_.empty()" in message or "(all_chars_count) > (0)" in message:
        return DataError(f"the {name} has no characters to make a tokenizer of")
    reason = " ".join(message.split()).removeprefix("INTERNAL: ")
    return UsageError(f"tokenizer: SentencePiece cannot train with these settings: {reason}")


def _refuse_surrogates(texts: Sequence[str]) -> None:
    for number, text in enumerate(texts, start=1):
        if found := re.search("[\ud800-\udfff]", text):
            raise DataError(
                f"text {number}: lone surrogate U+{ord(found[0]):04X} at character "
                f"{found.start() + 1}; expected Unicode text: decode it as UTF-8"
            )
