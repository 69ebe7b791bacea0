"""A corpus as ids on disk, of which training reads what it needs, when it needs it.

    text files --lines--> text --pairs--> Pair --encode_corpus--> folder --ParallelIds--> ids

The folder has flat arrays and a manifest. The manifest tells what they were made of, so that they
are used again for as long as that stays the same.
"""

import hashlib
import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from seq2seq.array_folder import (
    ArrayFile,
    dtype_of_ids,
    fingerprint,
    mapped_arrays,
    read_manifest,
    replacing,
    reusable,
    write_manifest,
)
from seq2seq.config import Config, DataConfig
from seq2seq.durable_files import file_sha256
from seq2seq.errors import DataError, ModelError, reading
from seq2seq.lines import LineCounts
from seq2seq.pairs import (
    Pair,
    PairCounts,
    check_rereadable,
    line_numbers,
    no_usable_pairs,
    training_pairs,
)

_CHUNK_PAIRS = 8192
_CHUNK_CHARACTERS = 2_000_000  # a chunk is closed at either limit, so that long lines need no more

_FORMAT = 2  # of the folder that `encode_corpus` writes; another number is encoded anew
_SIDES = ("source", "target")
_ARRAY_NAMES = (
    "lines",
    *(f"{side}_{what}" for side in _SIDES for what in ("ids", "offsets", "lengths")),
)


class TextEncoder(Protocol):
    """What is needed of a tokenizer."""

    @property
    def vocabulary_size(self) -> int:
        """Ids are below this."""

    @property
    def eos_id(self) -> int:
        """The id that ends a sentence."""

    @property
    def fingerprint(self) -> str:
        """Equal for tokenizers that encode alike."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without begin and end of sentence."""


class TextEncoders(Protocol):
    """One tokenizer a side."""

    @property
    def source(self) -> TextEncoder:
        """The tokenizer of the source side."""

    @property
    def target(self) -> TextEncoder:
        """The tokenizer of the target side."""


def encode_corpus(
    config: Config,
    tokenizers: TextEncoders,
    folder: Path,
    *,
    validation: Sequence[Pair] = (),
    check: Callable[[str], None] = lambda fingerprint: None,
) -> PairCounts:
    """Writes the ids of the training pairs to `folder`, for `ParallelIds` to open.

    Pairs over `data.max_source_length` or `data.max_target_length` pieces, end of sentence
    included, are left out and counted. Pairs that repeat others or are validation pairs stay, and
    are counted too. Memory grows by a few bytes a pair. Where `folder` already has the ids of the
    same text, tokenizers and limits, they stay. Otherwise a folder beside it is filled and takes
    its place at the end, so that `folder` is never half written; what a killed call left beside it
    goes. One call a folder at a time.

    Args:
        config: Of it, `data` is used.
        tokenizers: What makes ids of the text.
        folder: Made, or replaced if it has nothing but an encoded corpus in it.
        validation: Pairs to be counted where they are training pairs too.
        check: Given the fingerprint of new ids before they take their place. If it raises, `folder`
            is as it was.

    Raises:
        StorageError: A file cannot be read or `folder` cannot be written.
        UsageError: A file is a pipe; `folder` has other things in it.
        DataError: As for `read_pairs`; no pair is left; a file changed while it was read.
    """
    data = config.data
    paths = [*data.train_source, *data.train_target]
    for path in paths:
        check_rereadable(path)
    stamps = [_stamp(path) for path in paths]
    held_out = {hash((pair.source, pair.target)) for pair in validation}
    key = _key(data, tokenizers, validation)
    if (found := reusable(folder, key, _ARRAY_NAMES, _counts)) is not None:
        return replace(found, reused=True)
    counts = PairCounts()
    with replacing(folder, _ARRAY_NAMES) as temporary:
        hashes = array("q")
        arrays = _write_arrays(data, tokenizers, temporary, counts, hashes)
        _count_repeats(hashes, held_out, counts)
        if not counts.kept:
            raise no_usable_pairs(counts)
        for path, stamp in zip(paths, stamps, strict=True):
            if _stamp(path) != stamp:
                raise DataError(f"{path}: changed while it was read; run again when it is complete")
        manifest = {"key": key, "counts": asdict(counts), "arrays": arrays}
        check(fingerprint(manifest))
        write_manifest(temporary, manifest)
    return counts


class ParallelIds:
    """The ids of sentence pairs, read from the disk as they are asked for.

    Legend of shapes: N pairs, S source length, T target length.

    Attributes:
        counts: What became of the pairs of the corpus.
        source_lengths: Ids of each source, end of sentence included, `[N]` int32.
        target_lengths: Ids of each target, end of sentence included, `[N]` int32.
        lines: Line number of each pair in the corpus, `[N]` int64.
        fingerprint: Equal for equal ids.
    """

    def __init__(
        self, counts: PairCounts, arrays: Mapping[str, NDArray[Any]], *, fingerprint: str
    ) -> None:
        self.counts = counts
        self.fingerprint = fingerprint
        self.source_lengths: NDArray[np.int32] = arrays["source_lengths"]
        self.target_lengths: NDArray[np.int32] = arrays["target_lengths"]
        self.lines: NDArray[np.int64] = arrays["lines"]
        self._arrays = arrays

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The ids that `encode_corpus` wrote to `folder`.

        Raises:
            DataError: `folder` has no complete encoded corpus.
        """
        try:
            manifest = read_manifest(folder, form=_FORMAT)
            arrays = mapped_arrays(folder, manifest, _ARRAY_NAMES)
            return cls(_counts(manifest["counts"]), arrays, fingerprint=fingerprint(manifest))
        except (OSError, ModelError, ValueError, KeyError, TypeError) as err:
            raise DataError(
                f"{folder}: not a complete encoded corpus ({err}); delete it and train again"
            ) from err

    def __len__(self) -> int:
        return len(self.lines)

    def source(self, row: int) -> NDArray[np.int32]:
        """The source ids of a pair, the last one ends the sentence: `[S]` int32."""
        return self._ids("source", row)

    def target(self, row: int) -> NDArray[np.int32]:
        """The target ids of a pair, the last one ends the sentence: `[T]` int32."""
        return self._ids("target", row)

    def location(self, rows: Iterable[int]) -> str:
        """Where the sources of pairs are, as `a.en: lines 3, 8; b.en: line 1`, for messages."""
        places, first = [], 0
        lines = sorted(int(self.lines[row]) for row in rows)
        for file in self.counts.source_files:
            here = [line - first for line in lines if first < line <= first + file.lines]
            if here:
                places.append(f"{file.name}: {line_numbers(here)}")
            first += file.lines
        return "; ".join(places)

    def _ids(self, side: str, row: int) -> NDArray[np.int32]:
        start, end = self._arrays[f"{side}_offsets"][row : row + 2]
        ids: NDArray[np.int32] = self._arrays[f"{side}_ids"][start:end].astype(np.int32)
        return ids


def _write_arrays(
    data: DataConfig,
    tokenizers: TextEncoders,
    folder: Path,
    counts: PairCounts,
    hashes: "array[int]",
) -> dict[str, dict[str, Any]]:
    """Writes the arrays; what the manifest says about each. Hashes of pairs go to `hashes`."""
    with ExitStack() as stack:
        arrays = {
            name: stack.enter_context(ArrayFile(folder, name, dtype))
            for name, dtype in _dtypes(tokenizers).items()
        }
        ends = {"source": 0, "target": 0}
        for side in ends:
            arrays[f"{side}_offsets"].append([0])
        for chunk in _chunks(training_pairs(data, counts)):
            kept = _encoded(chunk, data, tokenizers, counts, hashes)
            arrays["lines"].append(kept["lines"])
            for side in ends:
                lengths = [len(ids) for ids in kept[side]]
                offsets = ends[side] + np.cumsum(lengths, dtype=np.int64)
                ends[side] += sum(lengths)
                arrays[f"{side}_lengths"].append(lengths)
                arrays[f"{side}_offsets"].append(offsets)
                arrays[f"{side}_ids"].append(itertools.chain.from_iterable(kept[side]))
        return {name: each.finish() for name, each in arrays.items()}


def _count_repeats(hashes: "array[int]", held_out: set[int], counts: PairCounts) -> None:
    """Counts pairs that are there twice, by their hashes: two that are alike by chance are rare."""
    distinct = np.unique(np.frombuffer(hashes, np.int64))
    counts.repeated = len(hashes) - len(distinct)
    counts.leaked = int(np.isin(distinct, np.fromiter(held_out, np.int64)).sum())


def _chunks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    chunk: list[Pair] = []
    characters = 0
    for pair in pairs:
        chunk.append(pair)
        characters += len(pair.source) + len(pair.target)
        if len(chunk) == _CHUNK_PAIRS or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _encoded(
    chunk: Sequence[Pair],
    data: DataConfig,
    tokenizers: TextEncoders,
    counts: PairCounts,
    hashes: "array[int]",
) -> dict[str, list[Any]]:
    """The line numbers and ids, ended, of the pairs that are kept."""
    kept: dict[str, list[Any]] = {"lines": [], "source": [], "target": []}
    sources = tokenizers.source.encode_batch([pair.source for pair in chunk])
    targets = tokenizers.target.encode_batch([pair.target for pair in chunk])
    for pair, source, target in zip(chunk, sources, targets, strict=True):
        if not source or not target:  # zero-width spaces, say: nothing once normalised
            counts.drop("blank", pair.line)
        elif len(source) >= data.max_source_length or len(target) >= data.max_target_length:
            counts.drop("too_long", pair.line)
        else:
            counts.kept += 1
            counts.identical += pair.source == pair.target
            hashes.append(hash((pair.source, pair.target)))
            kept["lines"].append(pair.line)
            kept["source"].append([*source, tokenizers.source.eos_id])
            kept["target"].append([*target, tokenizers.target.eos_id])
    return kept


def _dtypes(tokenizers: TextEncoders) -> dict[str, str]:
    """The type of each array in the folder, by name."""
    dtypes = {"lines": "<i8"}
    for side, tokenizer in (("source", tokenizers.source), ("target", tokenizers.target)):
        dtypes[f"{side}_ids"] = dtype_of_ids(tokenizer.vocabulary_size)
        dtypes[f"{side}_offsets"] = "<i8"
        dtypes[f"{side}_lengths"] = "<i4"
    return dtypes


def _key(data: DataConfig, tokenizers: TextEncoders, validation: Sequence[Pair]) -> dict[str, Any]:
    """All that decides ids and counts; equal keys, equal folders."""
    return {
        "format": _FORMAT,
        "sources": [file_sha256(path) for path in data.train_source],
        "targets": [file_sha256(path) for path in data.train_target],
        "validation": hashlib.sha256(repr([pair[1:] for pair in validation]).encode()).hexdigest(),
        "source_tokenizer": tokenizers.source.fingerprint,
        "target_tokenizer": tokenizers.target.fingerprint,
        "max_source_length": data.max_source_length,
        "max_target_length": data.max_target_length,
        "on_bad_utf8": data.on_bad_utf8,
    }


def _stamp(path: Path) -> tuple[int, int]:
    with reading(path):
        status = path.stat()
    return status.st_size, status.st_mtime_ns


def _counts(fields: Mapping[str, Any]) -> PairCounts:
    files = {
        side: [LineCounts(**file) for file in fields[side]]
        for side in ("source_files", "target_files")
    }
    return PairCounts(**{**fields, **files})
