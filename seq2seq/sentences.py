"""Texts on their way to the model: checked, as ids, in batches of like length.

Shapes: B sentences of a batch, S longest sequence, X constraints of L ids.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from seq2seq.batches import padded
from seq2seq.errors import DataError, UsageError
from seq2seq.search_options import SearchOptions
from seq2seq.tokenizer import Tokenizer, TokenizerPair

_MISSING = object()  # in the place of a text, where there are more of what goes with it
# `seq2seq.limits.FREE` and `seq2seq.constraints.NONE`, which to import would need TensorFlow.
_FREE = _NONE = -1
_ENCODED_AT_A_TIME = 1 << 18  # characters, whose ids as Python has them take some 10 MB


class Request(NamedTuple):
    """A text, and what its translation begins with and contains."""

    text: str
    prefix: str = ""
    constraints: Sequence[str] = ()


class Sentence(NamedTuple):
    """A text ready for the model.

    Attributes:
        number: Its place in the input, from 1.
        ids: Source ids, end of sentence included.
        kept: Pieces among them; 0 if the text is blank.
        pieces: Pieces of the whole text.
        unknown: Pieces that stand for characters the vocabulary lacks, or for bytes of them.
        prefix: Target ids that the translation begins with.
        constraints: Sequences of target ids that it contains.
    """

    number: int
    ids: list[int]
    kept: int
    pieces: int
    unknown: int
    prefix: list[int]
    constraints: list[list[int]]

    @property
    def given_pieces(self) -> int:
        """Target pieces that are given."""
        return len(self.prefix) + sum(map(len, self.constraints))


def requests_of(
    texts: Iterable[str],
    prefixes: Iterable[str] | None,
    constraints: Iterable[Sequence[str]] | None,
    *,
    first: int = 0,
) -> Iterator[Request]:
    """Each text with what goes with it, checked as it is read.

    Args:
        texts: To be translated.
        prefixes: What their translations begin with.
        constraints: What these contain.
        first: The index of the first text, for messages.

    Raises:
        UsageError: Something is of the wrong type; names its index.
        DataError: A text is not valid Unicode, or there are more of one than of another.
    """
    streams: dict[str, Iterable[Any] | None] = {
        "texts": texts,
        "prefixes": prefixes,
        "constraints": constraints,
    }
    given = {name: each for name, each in streams.items() if each is not None}
    together = itertools.zip_longest(*given.values(), fillvalue=_MISSING)
    for index, values in enumerate(together, start=first):
        of = dict(zip(given, values, strict=True))
        ended = [name for name, each in of.items() if each is _MISSING]
        if ended:
            more = next(name for name in given if name not in ended)
            raise DataError(
                f"{ended[0]}: there are {index}, fewer than {more}; each text needs its own"
            )
        _check_text("texts", index, of["texts"])
        _check_text("prefixes", index, of.get("prefixes", ""))
        _check_constraints(index, of.get("constraints", ()))
        yield Request(of["texts"], of.get("prefixes", ""), of.get("constraints", ()))


def windows(
    requests: Iterable[Request], *, size: int, ready: Callable[[], bool] | None
) -> Iterator[list[Request]]:
    """`requests` in lists of at most `size`; what reading raises comes after those read before."""
    window: list[Request] = []
    items = iter(requests)
    while True:
        try:
            item = next(items)
        except StopIteration:
            if window:
                yield window
            return
        except Exception:
            if window:
                yield window
            raise
        window.append(item)
        if len(window) == size or (ready is not None and not ready()):
            yield window
            window = []


def checked_texts(name: str, texts: Iterable[str]) -> list[str]:
    """`texts`, checked.

    Raises:
        UsageError: They are no iterable of str; names the index of one that is not.
        DataError: One is not valid Unicode.
    """
    check_not_one_text(name, texts)
    checked = list(texts)
    for index, text in enumerate(checked):
        _check_text(name, index, text)
    return checked


def check_not_one_text(name: str, texts: object) -> None:
    """Raises a UsageError if `texts` is a text itself, or nothing to iterate over."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise UsageError(
            f"{name}: got {type(texts).__name__}, expected a list of str; put one text in a list "
            "as well"
        )


def encoded(
    requests: Sequence[Request], tokenizers: TokenizerPair, *, most_pieces: int, first_number: int
) -> list[Sentence]:
    """The requests as ids, sources cut to `most_pieces`.

    Raises:
        DataError: The target vocabulary cannot write a prefix or a constraint.
    """
    source, target = tokenizers.source, tokenizers.target
    sentences: list[Sentence] = []
    for part in _parts(requests):
        source_ids = source.encode_batch([request.text for request in part])
        prefixes = target.encode_batch([request.prefix for request in part])
        for request, ids, prefix in zip(part, source_ids, prefixes, strict=True):
            number = first_number + len(sentences)
            if not request.text.strip():
                ids = []
            _check_writable(request.prefix, prefix, target, name=f"prefix of sentence {number}")
            kept = ids[:most_pieces]
            sentences.append(
                Sentence(
                    number=number,
                    ids=[*kept, source.eos_id],
                    kept=len(kept),
                    pieces=len(ids),
                    unknown=sum(each in source.unknown_ids for each in ids),
                    prefix=prefix,
                    constraints=_constraint_ids(request.constraints, target, number),
                )
            )
    return sentences


def _parts(requests: Sequence[Request]) -> Iterator[list[Request]]:
    """The requests, so few at a time that their ids, uncut, take little memory."""
    part: list[Request] = []
    characters = 0
    for request in requests:
        part.append(request)
        characters += len(request.text)
        if characters >= _ENCODED_AT_A_TIME:
            yield part
            part, characters = [], 0
    if part:
        yield part


def batches_of(sentences: Sequence[Sentence], options: SearchOptions) -> Iterator[list[int]]:
    """The rows of each batch, blank sentences left out.

    Longest first: the batch that needs most memory is met at once, not at the end.
    """
    lengths = {row: len(sentence.ids) for row, sentence in enumerate(sentences) if sentence.kept}
    return longest_first(lengths, batch_size=options.batch_size, batch_tokens=options.batch_tokens)


def longest_first(
    lengths: Mapping[int, int], *, batch_size: int, batch_tokens: int
) -> Iterator[list[int]]:
    """The rows of each batch, of at most `batch_size` and `batch_tokens`, padding included.

    The longest rows come first; a row with more tokens than that is alone.
    """
    rows = sorted(lengths, key=lambda row: -lengths[row])
    while rows:
        size = max(1, min(batch_size, batch_tokens // lengths[rows[0]]))
        yield rows[:size]
        rows = rows[size:]


def batch_of(
    sentences: Sequence[Sentence], options: SearchOptions, *, end_id: int
) -> dict[str, np.ndarray]:
    """What a search is given of the sentences of a batch; see `SearchInputs`."""
    source, source_lengths = padded([each.ids for each in sentences], end_id)
    most = [options.most_pieces(each.kept, each.given_pieces) for each in sentences]
    fewest = [options.fewest_pieces(each.kept) for each in sentences]
    return {
        "source": source,
        "source_lengths": source_lengths,
        "max_lengths": np.array(most, np.int32),
        "min_lengths": np.array(fewest, np.int32),
        "prefixes": padded([each.prefix for each in sentences], _FREE)[0],
        "constraints": _padded_constraints(sentences),
        "numbers": np.array([each.number for each in sentences], np.int64),
    }


def _padded_constraints(sentences: Sequence[Sentence]) -> np.ndarray:
    """`[B, X, L]` int32; X and L are 1 or more."""
    most = max([1, *(len(each.constraints) for each in sentences)])
    longest = max([1, *(len(ids) for each in sentences for ids in each.constraints)])
    filled = np.full((len(sentences), most, longest), _NONE, np.int32)
    for row, sentence in enumerate(sentences):
        for place, ids in enumerate(sentence.constraints):
            filled[row, place, : len(ids)] = ids
    return filled


def _constraint_ids(constraints: Sequence[str], target: Tokenizer, number: int) -> list[list[int]]:
    found = target.encode_batch(constraints) if constraints else []
    for text, ids in zip(constraints, found, strict=True):
        _check_writable(text, ids, target, name=f"constraints of sentence {number}")
    return [ids for ids in found if ids]


def _check_writable(text: str, ids: Sequence[int], target: Tokenizer, *, name: str) -> None:
    if target.unk_id in ids:
        raise DataError(
            f"{name}: {text!r} has characters that the target vocabulary cannot write; correct or "
            "remove it"
        )


def _check_constraints(index: int, constraints: object) -> None:
    if isinstance(constraints, str) or not isinstance(constraints, Sequence):
        raise UsageError(
            f"constraints[{index}]: got {type(constraints).__name__}, expected a list of str; put "
            "one constraint in a list as well"
        )
    for place, text in enumerate(constraints):
        _check_text(f"constraints[{index}]", place, text)


def _check_text(name: str, index: int, text: object) -> None:
    if not isinstance(text, str):
        raise UsageError(f"{name}[{index}]: got {type(text).__name__}, expected str")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as err:
        raise DataError(
            f"{name}[{index}]: not valid Unicode: a lone surrogate at character {err.start}"
        ) from err
