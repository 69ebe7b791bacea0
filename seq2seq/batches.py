"""Batches of sentence pairs: which rows, in which order, padded to which shape.

A `BatchPlan` sorts pairs of like lengths together, cuts them into batches by a budget of tokens,
and deals them anew every epoch; `make_batch` pads the rows of one batch; `batches_from` delivers
batches of any numbers, made ahead by a thread.

    lengths --BatchPlan--> rows of (epoch, step) --make_batch--> Batch --batches_from--> training

Legend of shapes: B sentences, S source length, T target length, N pairs.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from seq2seq.errors import DataError, UsageError, check_whole_number
from seq2seq.read_ahead import read_ahead

_MADE_AHEAD = 4  # batches

Integers = NDArray[np.integer[Any]]


class PairIds(Protocol):
    """What is needed of a corpus: the ids of its sentence pairs, each side ending in its end id."""

    @property
    def source_lengths(self) -> Integers:
        """`[N]`: ids of the source of each row."""

    @property
    def target_lengths(self) -> Integers:
        """`[N]`: ids of the target of each row."""

    def source(self, row: int) -> Integers:
        """The source ids of `row`."""

    def target(self, row: int) -> Integers:
        """The target ids of `row`."""


class BatchShape(NamedTuple):
    """Sizes (B, S, T) of a batch."""

    sentences: int
    source_length: int
    target_length: int


class Batch(NamedTuple):
    """Sentence pairs padded on the right to one length a side.

    Attributes:
        source: Source ids, `[B, S]` int32.
        source_lengths: Real ids of each source, `[B]` int32.
        target: Target ids, `[B, T]` int32.
        target_lengths: Real ids of each target, `[B]` int32.
        rows: Where the pairs are in the corpus, `[B]` int64; for messages.
    """

    source: NDArray[np.int32]
    source_lengths: NDArray[np.int32]
    target: NDArray[np.int32]
    target_lengths: NDArray[np.int32]
    rows: NDArray[np.int64]

    @property
    def tensors(self) -> Sequence[NDArray[np.int32]]:
        """What a model is given."""
        return self[:4]


class NumberedBatch(NamedTuple):
    """A batch and the place it has in training."""

    epoch: int
    step: int
    batch: Batch


class _Cell(NamedTuple):
    """Pairs whose two lengths are padded to the same two lengths."""

    pairs: int
    source_length: int
    target_length: int


class _Deal(NamedTuple):
    """The order of one epoch: `rows` `[N]` cut into batches, which are taken in order `batches`."""

    epoch: int
    rows: Integers
    batches: Integers


class BatchPlan:
    """Which rows make the batch of each (epoch, step): a function of these, the seed and lengths.

    Lengths are rounded up to a grid, and pairs of one grid cell are alike. The cells lie in a row:
    by target length, and within it by source length, rising and falling in turn, so that neighbours
    differ little. Batches are cut from this row greedily. As cells alone decide the cuts, each
    epoch has the same shapes; it differs in which pair of a cell goes where, and in the order of
    the batches. Any step is found without replaying those before it.

    Attributes:
        steps_per_epoch: Batches that hold each pair once.
        shapes: Every shape that occurs; each occurs equally often in every epoch.

    Args:
        source_lengths: Ids of each source, `[N]`, all 1 or more.
        target_lengths: Ids of each target, `[N]`, all 1 or more.
        batch_tokens: `B * max(S, T)` is at most this, padding included; a pair that is over it
            alone is a batch of its own. B is below 8 or a multiple of 8.
        seed: Decides the order, together with the epoch.

    Raises:
        DataError: There are no pairs, or the lengths are not those of sentence pairs.
        UsageError: `batch_tokens` or `seed` is too small.
    """

    def __init__(
        self, source_lengths: Integers, target_lengths: Integers, *, batch_tokens: int, seed: int
    ) -> None:
        check_whole_number("batch_tokens", batch_tokens, at_least=1)
        check_whole_number("seed", seed, at_least=0)
        _check_lengths(source_lengths, target_lengths)
        self._seed = seed
        self._rows, cells = _sorted_into_cells(source_lengths, target_lengths)
        self._cell_starts = _starts([cell.pairs for cell in cells])
        self._shapes = _cut(cells, batch_tokens)
        self._batch_starts = _starts([shape.sentences for shape in self._shapes])
        self._latest: _Deal | None = None
        self.steps_per_epoch = len(self._shapes)
        self.shapes = frozenset(self._shapes)

    def rows(self, epoch: int, step: int) -> NDArray[np.int64]:
        """The rows of a batch, `[B]` int64, neighbours of like lengths.

        Raises:
            UsageError: There is no such epoch or step.
        """
        deal, batch = self._find(epoch, step)
        rows = deal.rows[self._batch_starts[batch] : self._batch_starts[batch + 1]]
        return rows.astype(np.int64)

    def shape(self, epoch: int, step: int) -> BatchShape:
        """The shape of a batch.

        Raises:
            UsageError: There is no such epoch or step.
        """
        return self._shapes[self._find(epoch, step)[1]]

    def _find(self, epoch: int, step: int) -> tuple[_Deal, int]:
        """The order of an epoch, and which batch of the unshuffled ones a step takes."""
        check_whole_number("epoch", epoch, at_least=0)
        if not 0 <= step < self.steps_per_epoch:
            raise UsageError(
                f"step: got {step}, expected 0 to {self.steps_per_epoch - 1}: "
                f"an epoch has {self.steps_per_epoch} steps"
            )
        deal = self._latest
        if deal is None or deal.epoch != epoch:
            # Kept by one assignment of a finished deal: safe with a thread that reads ahead.
            deal = self._latest = self._deal(epoch)
        return deal, int(deal.batches[step])

    def _deal(self, epoch: int) -> _Deal:
        # The raw numbers of a bit generator stay the same in every NumPy, which shuffle() and
        # permutation() do not promise; so a training resumed after an update goes on as before.
        # As spawn_key the epoch cannot run into the digits of a large seed.
        generator = np.random.Philox(np.random.SeedSequence(self._seed, spawn_key=(epoch,)))
        batches = np.argsort(generator.random_raw(self.steps_per_epoch), kind="stable")
        rows = self._rows.copy()
        for start, stop in itertools.pairwise(self._cell_starts):
            order = np.argsort(generator.random_raw(stop - start), kind="stable")
            rows[start:stop] = rows[start:stop][order]
        return _Deal(epoch, rows, batches)


def make_batch(
    corpus: PairIds,
    rows: Integers,
    shape: BatchShape,
    *,
    source_pad_id: int,
    target_pad_id: int,
) -> Batch:
    """The pairs in `rows`, padded.

    Args:
        corpus: Where the pairs are.
        rows: `[B]`; those of a plan's batch, or a part of them.
        shape: Gives the lengths S and T; its number of sentences is not looked at.
        source_pad_id: Fills the sources up to S.
        target_pad_id: Fills the targets up to T.

    Raises:
        DataError: A pair is longer than `shape`.
    """
    places = rows.tolist()
    sources = [corpus.source(row) for row in places]
    targets = [corpus.target(row) for row in places]
    _check_fit("source", sources, places, shape.source_length)
    _check_fit("target", targets, places, shape.target_length)
    return Batch(
        *padded(sources, source_pad_id, shape.source_length),
        *padded(targets, target_pad_id, shape.target_length),
        rows.astype(np.int64),
    )


def batches_from(
    corpus: PairIds,
    plan: BatchPlan,
    numbers: Iterable[int],
    *,
    source_pad_id: int,
    target_pad_id: int,
    change: Callable[[NumberedBatch], NumberedBatch] | None = None,
) -> AbstractContextManager[Iterator[NumberedBatch]]:
    """The batches of some numbers, made ahead by a thread.

    Batches are numbered from 0, epoch after epoch without end; `itertools.count(n)` are all from
    the `n`-th on.

        with batches_from(corpus, plan, itertools.count(17), ...) as batches:
            for epoch, step, batch in batches:

    Args:
        corpus: Where the pairs are.
        plan: Made of the lengths of `corpus`.
        numbers: Of the batches wanted; 0 or more.
        source_pad_id: Fills the sources.
        target_pad_id: Fills the targets.
        change: What becomes of each batch, in the same thread; it stays as it is if left out.
    """

    def numbered() -> Iterator[NumberedBatch]:
        for number in numbers:
            place = divmod(number, plan.steps_per_epoch)
            batch = make_batch(
                corpus,
                plan.rows(*place),
                plan.shape(*place),
                source_pad_id=source_pad_id,
                target_pad_id=target_pad_id,
            )
            numbered_batch = NumberedBatch(*place, batch)
            yield change(numbered_batch) if change else numbered_batch

    return read_ahead(numbered(), _MADE_AHEAD)


def padded_length(length: int) -> int:
    """What a side of a batch is padded to whose longest sentence has `length` ids."""
    grid = _grid(length)
    return int(grid[np.searchsorted(grid, length)])


def padded(
    sequences: Sequence[Integers | Sequence[int]], pad_id: int, width: int | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """B sequences one below the other `[B, width]` and their lengths `[B]`, int32.

    Args:
        sequences: At least one.
        pad_id: What they are filled up with.
        width: At least the longest length, which it is if left out.
    """
    lengths = np.array([len(each) for each in sequences], np.int32)
    width = int(lengths.max()) if width is None else width
    ids = np.full((len(sequences), width), pad_id, np.int32)
    ids[np.arange(width) < lengths[:, None]] = np.concatenate(sequences)
    return ids, lengths


def _check_lengths(source_lengths: Integers, target_lengths: Integers) -> None:
    if len(source_lengths) != len(target_lengths):
        raise DataError(
            f"{len(source_lengths)} source lengths and {len(target_lengths)} target lengths: "
            "expected one of each a sentence pair; encode the corpus again"
        )
    if len(source_lengths) == 0:
        raise DataError("0 sentence pairs: expected at least 1 to make batches of")
    for side, lengths in (("source", source_lengths), ("target", target_lengths)):
        row = int(np.argmin(lengths))
        if lengths[row] < 1:
            raise DataError(
                f"row {row}: {side} length: got {lengths[row]}, expected 1 or more, "
                "as the end id counts; encode the corpus again"
            )


def _grid(longest: int) -> NDArray[np.int64]:
    """The lengths that sides are padded to, rising, up to one of at least `longest`."""
    # From 16 to 256 steps of an eighth to a quarter of the length: about 9 % padding, few shapes.
    steps = (range(4, 32, 4), range(32, 64, 8), range(64, 128, 16), range(128, longest + 32, 32))
    return np.array(list(itertools.chain(*steps)))


def _sorted_into_cells(
    source_lengths: Integers, target_lengths: Integers
) -> tuple[Integers, list[_Cell]]:
    """The rows `[N]` cell by cell, in the order of the cells, and the cells."""
    grid = _grid(int(max(source_lengths.max(), target_lengths.max())))
    sources = np.searchsorted(grid, source_lengths).astype(np.int32)  # [N], places on the grid
    targets = np.searchsorted(grid, target_lengths).astype(np.int32)
    # Targets 4: sources 4 8 12; targets 8: sources 12 8 4; ... : a snake through the grid.
    snake = np.where(targets % 2, -sources, sources)
    rows = np.lexsort((snake, targets))
    sources, targets = sources[rows], targets[rows]
    is_first = np.ones(len(rows), bool)
    is_first[1:] = (np.diff(sources) != 0) | (np.diff(targets) != 0)
    first = np.flatnonzero(is_first)  # [number of cells]
    cells = zip(
        np.diff(first, append=len(rows)).tolist(),
        grid[sources[first]].tolist(),
        grid[targets[first]].tolist(),
        strict=True,
    )
    smallest_type = np.uint32 if len(rows) <= 2**32 else np.int64
    return rows.astype(smallest_type), [_Cell(*cell) for cell in cells]


def _cut(cells: Sequence[_Cell], batch_tokens: int) -> list[BatchShape]:
    """The shapes of the batches that the pairs of `cells` are cut into, in order."""
    shapes: list[BatchShape] = []
    left = deque(cells)
    while left:
        cell = left.popleft()
        size = _largest_size(batch_tokens, cell)
        batches, rest = divmod(cell.pairs, size)
        shapes += [BatchShape(size, cell.source_length, cell.target_length)] * batches
        if rest:
            left.appendleft(cell._replace(pairs=rest))
            shapes.append(_take(left, _mixed_size(left, batch_tokens)))
    return shapes


def _mixed_size(cells: Iterable[_Cell], batch_tokens: int) -> int:
    """How many pairs the next batch takes from the front of `cells`, over their borders."""
    size, widest = 0, _Cell(0, 0, 0)
    for cell in cells:
        widest = _union(widest, cell)
        limit = _largest_size(batch_tokens, widest)
        if size >= limit:  # one pair of this cell more would make all others too long
            return _rounded_size(size)
        size = min(size + cell.pairs, limit)
        if size == limit:
            return size
    # The end of the corpus: one size more is better than several small batches.
    return size // 8 * 8 or size


def _take(cells: deque[_Cell], size: int) -> BatchShape:
    """The shape of a batch of the first `size` pairs of `cells`, which are removed."""
    widest, missing = _Cell(0, 0, 0), size
    while missing:
        cell = cells.popleft()
        widest = _union(widest, cell)
        taken = min(missing, cell.pairs)
        missing -= taken
        if taken < cell.pairs:
            cells.appendleft(cell._replace(pairs=cell.pairs - taken))
    return BatchShape(size, widest.source_length, widest.target_length)


def _union(one: _Cell, other: _Cell) -> _Cell:
    return _Cell(
        one.pairs + other.pairs,
        max(one.source_length, other.source_length),
        max(one.target_length, other.target_length),
    )


def _largest_size(batch_tokens: int, cell: _Cell) -> int:
    return _rounded_size(batch_tokens // max(cell.source_length, cell.target_length))


def _rounded_size(limit: int) -> int:
    """The largest batch size up to `limit`: 1, 2 .. 8, 16, 24 .. 64, 80, 96, 112, 128, 160 .."""
    # Multiples of 8 with three leading bits: few sizes, as some kernels are compiled once for
    # each, and yet at most a fifth below the budget from 32 on.
    if limit < 8:
        return max(limit, 1)
    unit = max(8, 1 << (limit.bit_length() - 3))
    return limit // unit * unit


def _starts(sizes: Sequence[int]) -> list[int]:
    """Where each of the parts begins, and where the last one ends."""
    return [0, *itertools.accumulate(sizes)]


def _check_fit(side: str, sequences: Sequence[Integers], rows: Sequence[int], longest: int) -> None:
    for row, sequence in zip(rows, sequences, strict=True):
        if len(sequence) > longest:
            raise DataError(
                f"row {row}: got {len(sequence)} {side} ids, expected at most {longest} "
                "by the lengths of the corpus; encode it again"
            )
