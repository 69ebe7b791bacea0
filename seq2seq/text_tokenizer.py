"""Text to ids and back for language models: every character, line ends too, comes back as it was.

    text --encode--> ids --decode--> text

A text is made of symbols: characters, words or SentencePiece's pieces. What a model's folder keeps
of a tokenizer is a JSON file or a SentencePiece model, nothing that has to be unpickled.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, assert_never

import numpy as np
from numpy.typing import NDArray

from seq2seq.config import TextTokenizerConfig, TokenizerConfig
from seq2seq.durable_files import write_whole
from seq2seq.errors import DataError, ModelError, unreadable, writing
from seq2seq.model_files import LARGEST_TOKENIZER, check_plain
from seq2seq.tokenizer import SPACE, Tokenizer, train_exact_tokenizer

CHARACTERS_FILE, WORDS_FILE, PIECES_FILE = "characters.json", "words.json", "pieces.model"

_UNKNOWN = 0  # id of the symbols that are not in the vocabulary
_REPLACEMENT = "\ufffd"  # what an unknown symbol is shown as
_WORD = re.compile(r"\w+| +|[^\w ]")
_CODE_POINTS = 0x110000


class TextTokenizer(Protocol):
    """What a language model needs of a tokenizer."""

    @property
    def vocabulary_size(self) -> int:
        """Ids are below this."""

    @property
    def unknown_id(self) -> int | None:
        """Stands for all symbols that are not in the vocabulary; None if there is no such text."""

    @property
    def newline_id(self) -> int:
        """Stands before a text of which no beginning is given: a line ended there.

        In a vocabulary without the newline it is the most frequent symbol.
        """

    @property
    def textless_ids(self) -> tuple[int, ...]:
        """Ids that stand for no text of their own: never to be generated."""

    @property
    def fingerprint(self) -> str:
        """Equal for tokenizers that encode alike."""

    def encode(self, text: str) -> NDArray[np.int32]:
        """The ids of `text`, `[T]` int32."""

    def decode(self, ids: Sequence[int] | NDArray[np.integer[Any]]) -> str:
        """The text of `ids`; that which was encoded, but for U+FFFD where a symbol was unknown."""

    def unknown(self, text: str) -> list[str]:
        """The symbols of `text` that are not in the vocabulary, each once, in order."""

    def save(self, folder: Path) -> None:
        """Writes the tokenizer to `folder`, for `load_text_tokenizer`; another one there goes.

        Raises:
            StorageError: `folder` cannot be written.
        """


class _SymbolTokenizer:
    """One id a symbol; 0 is all other symbols."""

    file_name: ClassVar[str]

    def __init__(self, symbols: Sequence[str]) -> None:
        """Takes the symbols of ids 1, 2 and so on: different texts, the most frequent one first."""
        self._symbols = [_REPLACEMENT, *symbols]
        self._ids = {symbol: number for number, symbol in enumerate(symbols, start=1)}
        self.vocabulary_size = len(self._symbols)
        self.unknown_id = _UNKNOWN
        self.textless_ids = (_UNKNOWN,)
        self.newline_id = self._ids.get("\n", 1)
        self.fingerprint = hashlib.sha256(self.file_name.encode() + self._json()).hexdigest()

    @classmethod
    def of(cls, text: str, most_symbols: int) -> Self:
        """The tokenizer with the symbols of `text`, of which the most frequent are kept.

        Args:
            text: What the symbols are counted in; of equally frequent ones the one with the
                lower code points comes first.
            most_symbols: The largest vocabulary size, unknown included.
        """
        counts = sorted(Counter(cls.split(text)).items(), key=lambda item: (-item[1], item[0]))
        return cls([symbol for symbol, _ in counts[: most_symbols - 1]])

    @classmethod
    def load(cls, path: Path) -> Self:
        """The tokenizer in a file that `save` wrote.

        Raises:
            StorageError: It cannot be read.
            ModelError: It is damaged.
        """
        try:
            symbols = json.loads(path.read_bytes())
        except OSError as err:
            raise unreadable(path, err) from err
        except (ValueError, RecursionError) as err:
            raise _damaged(path, str(err)) from err
        if not isinstance(symbols, list) or len(symbols) < 2 or symbols[0] is not None:
            raise _damaged(path, "expected null and one symbol or more, in a list")
        for number, symbol in enumerate(symbols[1:], start=1):
            if not isinstance(symbol, str) or not cls.is_symbol(symbol):
                raise _damaged(path, f"id {number} is {symbol!r}, which is no symbol")
        if len(set(symbols)) < len(symbols):
            raise _damaged(path, "a symbol is there twice")
        return cls(symbols[1:])

    @staticmethod
    def split(text: str) -> Iterable[str]:
        """The symbols of `text`, which together are `text`."""
        raise NotImplementedError

    @staticmethod
    def is_symbol(text: str) -> bool:
        """Whether `text` can be one symbol."""
        raise NotImplementedError

    def encode(self, text: str) -> NDArray[np.int32]:
        return np.fromiter(
            (self._ids.get(symbol, _UNKNOWN) for symbol in self.split(text)), np.int32
        )

    def decode(self, ids: Sequence[int] | NDArray[np.integer[Any]]) -> str:
        return "".join([self._symbols[number] for number in np.asarray(ids, np.int64).tolist()])

    def unknown(self, text: str) -> list[str]:
        return [symbol for symbol in dict.fromkeys(self.split(text)) if symbol not in self._ids]

    def save(self, folder: Path) -> None:
        _save(folder, self.file_name, self._json())

    def _json(self) -> bytes:
        # ASCII, so that no editor or normalisation changes a symbol on the way.
        return (json.dumps([None, *self._symbols[1:]], indent=0) + "\n").encode("ascii")


class CharacterTokenizer(_SymbolTokenizer):
    """One id a character (a Unicode code point); 0 is all characters never seen.

    Attributes:
        vocabulary_size: Ids are below this.
        unknown_id: 0.
        textless_ids: 0 alone.
        newline_id: Stands before a text of which no beginning is given.
        fingerprint: Hash of the symbols.
    """

    file_name = CHARACTERS_FILE

    def __init__(self, symbols: Sequence[str]) -> None:
        super().__init__(symbols)
        self._table = np.full(_CODE_POINTS, _UNKNOWN, np.int32)  # the id of each code point
        self._table[[ord(symbol) for symbol in symbols]] = range(1, self.vocabulary_size)

    @staticmethod
    def split(text: str) -> Iterable[str]:
        """The characters of `text`."""
        return text

    @staticmethod
    def is_symbol(text: str) -> bool:
        """Whether `text` is one character."""
        return len(text) == 1

    def encode(self, text: str) -> NDArray[np.int32]:
        """The ids of `text`, `[T]` int32: looked up all at once."""
        # Lone surrogates, which command lines may have, pass: they are unknown characters.
        code_points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        ids: NDArray[np.int32] = self._table[code_points]
        return ids


class WordTokenizer(_SymbolTokenizer):
    r"""One id a word, a run of spaces or any other character; 0 is all that is not known.

    A word is a run of what Python's `\w` matches: letters, digits and the underscore.

    Attributes:
        vocabulary_size: Ids are below this.
        unknown_id: 0.
        textless_ids: 0 alone.
        newline_id: Stands before a text of which no beginning is given.
        fingerprint: Hash of the symbols.
    """

    file_name = WORDS_FILE

    @staticmethod
    def split(text: str) -> Iterator[str]:
        """The words of `text` and what is between them, one by one: memory stays small."""
        return (found[0] for found in _WORD.finditer(text))

    @staticmethod
    def is_symbol(text: str) -> bool:
        """Whether `text` may be a word: what a letter is changes with the version of Unicode."""
        return text != ""


class PieceTokenizer:
    """SentencePiece's pieces of each line; a newline is the end of a sentence. Nothing is unknown.

    What has no piece is written as the bytes of its UTF-8. So is the mark (U+2581), which
    SentencePiece would take for a space, and the space itself in a model of text without any.

    Attributes:
        vocabulary_size: Ids are below this.
        unknown_id: None.
        textless_ids: Padding, unknown, beginning.
        newline_id: The end of a sentence.
        fingerprint: Hash of the model.
    """

    file_name = PIECES_FILE

    def __init__(self, model: Tokenizer, *, name: str = "tokenizer") -> None:
        """Takes a model that `train_exact_tokenizer` made; `name` is for messages.

        Raises:
            ModelError: The model has no bytes.
        """
        self._model = model
        self._bytes = [model.piece_bytes(number) for number in range(model.vocabulary_size)]
        spelled = {
            character: [model.id_of(f"<0x{byte:02X}>") for byte in character.encode()]
            for character in (SPACE, " ")
        }
        self._special = {"\n": [model.eos_id]}
        for character, ids in spelled.items():
            known = [number for number in ids if number is not None]
            if len(known) < len(ids):
                raise ModelError(f"{name}: has no pieces for bytes; expected byte fallback")
            if character == SPACE or model.id_of(SPACE) is None:
                self._special[character] = known
        self._at_special = re.compile(f"([{''.join(self._special)}])")
        self._bytes[model.eos_id] = b"\n"
        self._bytes[model.unk_id] = _REPLACEMENT.encode()
        self.vocabulary_size = model.vocabulary_size
        self.unknown_id = None
        self.textless_ids = (model.pad_id, model.unk_id, model.bos_id)
        self.newline_id = model.eos_id
        self.fingerprint = model.fingerprint

    @classmethod
    def of(cls, text: str, options: TokenizerConfig) -> Self:
        """The tokenizer with pieces of the lines of `text`.

        Raises:
            UsageError: No model with these options can be made of the text.
            DataError: There is no text.
        """
        lines = (line.replace("\0", " ") for line in text.split("\n") if line)
        return cls(train_exact_tokenizer(lines, options))

    @classmethod
    def load(cls, path: Path) -> Self:
        """The tokenizer in a file that `save` wrote.

        Raises:
            StorageError: It cannot be read.
            ModelError: It is damaged.
        """
        return cls(Tokenizer.load(path), name=str(path))

    def encode(self, text: str) -> NDArray[np.int32]:
        """The ids of `text`, `[T]` int32.

        Raises:
            DataError: `text` has a lone surrogate, so it is not Unicode text.
        """
        # "a\nb" is parted into "a", "\n", "b": text at even places, what is special at odd ones.
        parts = self._at_special.split(text)
        encoded: list[Sequence[int]] = [self._special.get(part, ()) for part in parts]
        encoded[::2] = self._model.encode_exactly(parts[::2])
        return np.fromiter((number for ids in encoded for number in ids), np.int32)

    def decode(self, ids: Sequence[int] | NDArray[np.integer[Any]]) -> str:
        """The text of `ids`; U+FFFD where their bytes are no UTF-8."""
        numbers = np.asarray(ids, np.int64).tolist()
        return b"".join([self._bytes[number] for number in numbers]).decode("utf-8", "replace")

    def unknown(self, text: str) -> list[str]:
        """No symbol: every text can be written."""
        del text
        return []

    def save(self, folder: Path) -> None:
        """Writes the model to `folder`, for `load_text_tokenizer`; another one there goes.

        Raises:
            StorageError: `folder` cannot be written.
        """
        _save(folder, self.file_name, self._model.model)


_KINDS: dict[str, type[CharacterTokenizer] | type[WordTokenizer] | type[PieceTokenizer]] = {
    kind.file_name: kind for kind in (CharacterTokenizer, WordTokenizer, PieceTokenizer)
}


def make_text_tokenizer(options: TextTokenizerConfig, text: str) -> TextTokenizer:
    """The tokenizer that `options` ask for, with the symbols of `text`.

    Args:
        options: The `[tokenizer]` section.
        text: The training text, and nothing of what the model will be judged by.

    Raises:
        UsageError: SentencePiece can make no model with these options of the text.
        DataError: There is no text.
    """
    if not text:
        raise DataError("the training text is empty: expected text to make a tokenizer of")
    match options.type:
        case "character":
            return CharacterTokenizer.of(text, options.most_symbols)
        case "word":
            return WordTokenizer.of(text, options.most_symbols)
        case "unigram" | "bpe":
            pieces = TokenizerConfig(
                type=options.type,
                vocabulary_size=options.most_symbols,
                normalization="identity",
            )
            return PieceTokenizer.of(text, pieces)
        case _:
            assert_never(options.type)


def load_text_tokenizer(folder: Path) -> TextTokenizer:
    """The tokenizer in the `tokenizer` folder of a language model.

    Raises:
        StorageError: Its file cannot be read.
        ModelError: There is none, or it is damaged.
    """
    for name, kind in _KINDS.items():
        if (folder / name).is_file():
            check_plain(folder / name, most_bytes=LARGEST_TOKENIZER)
            return kind.load(folder / name)
    raise ModelError(
        f"{folder}: no tokenizer: expected {CHARACTERS_FILE}, {WORDS_FILE} or {PIECES_FILE}"
    )


def _save(folder: Path, name: str, content: bytes) -> None:
    """Writes a tokenizer's file; those of other kinds go."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, content)
        for other in _KINDS.keys() - {name}:
            (folder / other).unlink(missing_ok=True)


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(f"{path}: not a list of symbols, or damaged: {why}")
