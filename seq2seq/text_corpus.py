"""The text of a language model: cut into parts, as ids on disk, and laid out in windows.

    text files --split_text--> parts --encode_text--> folder --TextIds--> ids --Windows--> training
                                                                          ids --covering--> scores

Legend of shapes: N rows, texts that are read side by side; M symbols in a window.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from seq2seq.array_folder import (
    ArrayFile,
    dtype_of_ids,
    fingerprint,
    is_undamaged,
    mapped_arrays,
    read_manifest,
    replacing,
    reusable,
    write_manifest,
)
from seq2seq.config import TextDataConfig
from seq2seq.errors import DataError, ModelError, UsageError
from seq2seq.lines import read_text
from seq2seq.pairs import check_rereadable
from seq2seq.text_tokenizer import TextTokenizer

Ids = NDArray[np.integer[Any]]

_FORMAT = 1  # of the folder that `encode_text` writes; another number is encoded anew
_EXAMPLES = 10  # unknown symbols that are kept for messages


class TextParts(NamedTuple):
    """A text in three; validation and test may be empty."""

    training: str
    validation: str
    test: str


@dataclass(frozen=True)
class PartCounts:
    """What one part of a text has.

    Attributes:
        characters: Unicode code points.
        symbols: Ids.
        unknown: Symbols that are not in the vocabulary.
        examples: The first different ones of them, ten at most.
    """

    characters: int
    symbols: int
    unknown: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class TextCounts:
    """What each part of a text has; `reused` if its ids were on the disk already."""

    training: PartCounts
    validation: PartCounts
    test: PartCounts
    reused: bool = False


class Window(NamedTuple):
    """Symbols and what follows each.

    Attributes:
        inputs: `[N, M]` int32.
        targets: `inputs` one place later in the text, `[N, M]` int32.
    """

    inputs: NDArray[np.int32]
    targets: NDArray[np.int32]


class ScoringWindow(NamedTuple):
    """Symbols and what follows each, in rows that may end early.

    Attributes:
        inputs: `[N, M]` int32; 0 past the end of a row.
        targets: `inputs` one place later in the text, `[N, M]` int32; 0 past the end of a row.
        lengths: Real symbols of each row, `[N]` int32; 0 for a row that has ended before.
    """

    inputs: NDArray[np.int32]
    targets: NDArray[np.int32]
    lengths: NDArray[np.int32]


def split_text(data: TextDataConfig) -> TextParts:
    """The text of the files that `data` names, in parts.

    Of `data.text`, the files' text in a row, training has the first characters, validation the
    next and test the last ones. Shares are rounded in favour of what comes later, so that "the
    last 10 %" begins at `int(0.9 * characters)`. With `data.validation_text` that file is the
    validation text, and nothing is cut off for it.

    Raises:
        StorageError: A file cannot be read.
        UsageError: One is a pipe, which could not be read again on resume; or there is nothing in
            the validation text that is asked for.
        DataError: One is not UTF-8 text, or nothing is left to train on.
    """
    text = "".join(_text_of(path) for path in data.text)
    # Decimal, as 1 - 0.3 - 0.3 is a little less than 0.4 in floats, and a character is lost.
    test_share = Decimal(str(data.test_share))
    validation_share = Decimal(str(data.share_to_validate))
    test_start = int(len(text) * (1 - test_share))
    validation_start = int(len(text) * (1 - test_share - validation_share))
    if not validation_start:
        raise DataError(
            f"{data.text[0]}: {len(text)} characters, of which 0 are left to train on; expected a "
            "longer text, or lower data.validation_share and data.test_share"
        )
    validation, test = text[validation_start:test_start], text[test_start:]
    if data.validation_text:
        validation = _text_of(data.validation_text)
    if not validation and (data.validation_text or data.validation_share):
        key = "validation_text" if data.validation_text else "validation_share"
        raise UsageError(
            f"data.{key}: there is nothing to validate with; expected a text, or leave out "
            "validation_text and set validation_share to 0 to train without validation"
        )
    return TextParts(text[:validation_start], validation, test)


def encode_text(
    parts: TextParts,
    tokenizer: TextTokenizer,
    folder: Path,
    *,
    check: Callable[[str], None] = lambda fingerprint: None,
) -> TextCounts:
    """Writes the ids of `parts` to `folder`, for `TextIds` to open.

    Where `folder` already has the ids of the same parts and tokenizer, they stay. Otherwise a
    folder beside it is filled and takes its place at the end, so that `folder` is never half
    written. One call a folder at a time.

    Args:
        parts: What `split_text` gives.
        tokenizer: Made of the training part.
        folder: Made, or replaced if it has nothing but encoded text in it.
        check: Given the fingerprint of new ids before they take their place. If it raises, `folder`
            is as it was.

    Raises:
        StorageError: `folder` cannot be written.
        UsageError: It has other things in it.
    """
    key = {"format": _FORMAT, "tokenizer": tokenizer.fingerprint}
    key |= {name: _sha256(text) for name, text in parts._asdict().items()}
    if (counts := reusable(folder, key, TextParts._fields, _counts_of)) is not None:
        return replace(counts, reused=True)
    found, arrays = {}, {}
    with replacing(folder, TextParts._fields) as temporary:
        for name, text in parts._asdict().items():
            ids = tokenizer.encode(text)
            found[name] = _counted(text, ids, tokenizer)
            with ArrayFile(temporary, name, dtype_of_ids(tokenizer.vocabulary_size)) as array:
                array.append(ids)
                arrays[name] = array.finish()
        counts = TextCounts(found["training"], found["validation"], found["test"])
        manifest = {"key": key, "counts": asdict(counts), "arrays": arrays}
        check(fingerprint(manifest))
        write_manifest(temporary, manifest)
    return counts


class TextIds:
    """The ids of a text, read from the disk as they are used.

    Attributes:
        counts: What each part has.
        training: `[T]` uint16 or int32.
        validation: `[T]`, as `training`; may be empty.
        test: `[T]`, as `training`; may be empty.
        fingerprint: Equal for equal ids.
    """

    def __init__(
        self, counts: TextCounts, *, training: Ids, validation: Ids, test: Ids, fingerprint: str
    ) -> None:
        self.counts = counts
        self.fingerprint = fingerprint
        self.training = training
        self.validation = validation
        self.test = test

    @classmethod
    def open(cls, folder: Path, *, verified: Sequence[str] = ()) -> Self:
        """The ids that `encode_text` wrote to `folder`.

        Args:
            folder: That of them.
            verified: The parts that are read whole, to be compared with their sha256.

        Raises:
            DataError: `folder` has no complete encoded text, or it is damaged.
        """
        try:
            manifest = read_manifest(folder, form=_FORMAT)
            if not is_undamaged(folder, manifest, verified):
                raise ValueError("other bytes than the manifest says")
            arrays = mapped_arrays(folder, manifest, TextParts._fields)
            counts = _counts_of(manifest["counts"])
            return cls(counts, **arrays, fingerprint=fingerprint(manifest))
        except (OSError, ModelError, ValueError, KeyError, TypeError) as err:
            raise DataError(
                f"{folder}: not a complete encoded text ({err}); delete it and train again"
            ) from err


class Windows:
    """A text laid out as `rows` texts side by side, each followed from window to window.

    Of ids 0 to 12, 2 rows and windows of 3 symbols make these inputs; targets are one later:

        window(0)   window(1)
         0 1 2       3 4 5
         6 7 8       9 10 11

    So the state after a window is that before the next one, row by row, as in one pass over each
    row. What is left at the end of the text for an incomplete window is not used.

    Attributes:
        length: M.
        steps: Windows in one pass over the text.
        unread: Symbols at the end of the text that are in no window, neither read nor predicted.

    Args:
        ids: The text, `[T]`.
        rows: N.
        length: M.

    Raises:
        DataError: The text is too short for one window.
    """

    def __init__(self, ids: Ids, rows: int, length: int) -> None:
        needed = rows * length + 1
        if len(ids) < needed:
            raise DataError(
                f"the training text has {len(ids):,} symbols, but {needed:,} are needed for one "
                f"window of {rows} rows of {length}; lower training.batch_size or "
                "training.window, or train on more text"
            )
        self.length = length
        self.steps = (len(ids) - 1) // (rows * length)
        used = rows * self.steps * length
        self.unread = len(ids) - 1 - used
        self._inputs = ids[:used].reshape(rows, -1)  # [N, steps * M]
        self._targets = ids[1 : used + 1].reshape(rows, -1)

    def window(self, step: int) -> Window:
        """The window of a step, the first one is 0.

        Raises:
            UsageError: There is no such step.
        """
        if not 0 <= step < self.steps:
            raise UsageError(f"step: got {step}, expected 0 to {self.steps - 1}")
        columns = slice(step * self.length, (step + 1) * self.length)
        return Window(
            np.ascontiguousarray(self._inputs[:, columns], np.int32),
            np.ascontiguousarray(self._targets[:, columns], np.int32),
        )


def covering(ids: Ids, rows: int, length: int) -> Iterator[ScoringWindow]:
    """Windows in which every symbol of a text but the first is a target exactly once.

    The text is laid out as in `Windows`, with nothing left over: rows are as long as it takes,
    and the last ones may end early. A row starts without what comes before it in the text, so
    more than one row gives slightly higher losses for its first symbols; one row is a single pass
    over the text. All windows have M symbols but the last one, which may have fewer.

    Args:
        ids: The text, `[T]`.
        rows: N, or less for a text that is shorter.
        length: M.

    Raises:
        DataError: The text has no second symbol.
    """
    targets = len(ids) - 1
    if targets < 1:
        raise DataError(
            f"a text of {len(ids)} symbols has none to predict; expected at least 2 of them"
        )
    rows = min(rows, targets)
    span = -(-targets // rows)  # symbols of a row; of the last rows, some are missing
    padded = np.zeros(rows * span + 1, np.int32)
    padded[: len(ids)] = ids
    lengths = np.clip(targets - span * np.arange(rows), 0, span)  # [N]
    return (
        ScoringWindow(
            padded[:-1].reshape(rows, span)[:, start : start + length].copy(),
            padded[1:].reshape(rows, span)[:, start : start + length].copy(),
            np.clip(lengths - start, 0, length).astype(np.int32),
        )
        for start in range(0, span, length)
    )


def _text_of(path: Path) -> str:
    check_rereadable(path)
    return read_text(path)


def _sha256(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _counted(text: str, ids: NDArray[np.int32], tokenizer: TextTokenizer) -> PartCounts:
    is_unknown = ids == tokenizer.unknown_id if tokenizer.unknown_id is not None else ids < 0
    unknown = int(np.count_nonzero(is_unknown))
    return PartCounts(
        characters=len(text),
        symbols=len(ids),
        unknown=unknown,
        examples=tuple(tokenizer.unknown(text)[:_EXAMPLES]) if unknown else (),
    )


def _counts_of(fields: dict[str, Any]) -> TextCounts:
    training, validation, test = (
        PartCounts(**{**fields[name], "examples": tuple(fields[name]["examples"])})
        for name in TextParts._fields
    )
    return TextCounts(training, validation, test)
