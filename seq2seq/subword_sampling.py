"""Subword regularisation: in each epoch words of the training text are cut into other pieces.

    Batch --words--> their characters --one way through all pieces that fit--> Batch

A model that has seen a word in many pieces is better at words that it has not seen (Kudo 2018).
What is drawn is a function of (seed, epoch, step), so that a resumed training repeats it;
SentencePiece's own sampling gives other pieces in every process, whatever its seed.
"""

import functools
import itertools
import math
from bisect import bisect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seq2seq.batches import Batch, NumberedBatch, padded, padded_length
from seq2seq.config import DataConfig
from seq2seq.tokenizer import SPACE, Tokenizer, TokenizerPair

# Of each tokenizer; some 2 KB each, so 100 MB. Where there are no spaces a "word" is a sentence,
# which takes more and is hardly met again.
_WORDS_REMEMBERED = 50_000
_LONGEST_REMEMBERED = 16  # pieces


class SubwordSampler:
    """Gives batches with the pieces of their sentences drawn anew."""

    def __init__(
        self, tokenizers: TokenizerPair, data: DataConfig, *, alpha: float, seed: int
    ) -> None:
        """
        Args:
            tokenizers: Those that made the ids.
            data: Its limits hold for what is drawn too.
            alpha: See `WordSampler`.
            seed: Decides what is drawn, together with the place of a batch in training.

        Raises:
            UsageError: A tokenizer is no unigram model.
        """
        source = WordSampler(tokenizers.source, alpha=alpha)
        target = source if tokenizers.joint else WordSampler(tokenizers.target, alpha=alpha)
        self._sides = ((source, data.max_source_length), (target, data.max_target_length))
        self._seed = seed

    def __call__(self, numbered: NumberedBatch) -> NumberedBatch:
        """The same sentences in the same order, padded to lengths on the grid of all batches."""
        batch = numbered.batch
        random = _uniform(self._seed, numbered.epoch, numbered.step)
        source_side, target_side = self._sides
        source = _drawn(*source_side, batch.source, batch.source_lengths, random)
        target = _drawn(*target_side, batch.target, batch.target_lengths, random)
        return numbered._replace(batch=Batch(*source, *target, batch.rows))


class WordSampler:
    """Cuts words into pieces at random (Kudo 2018, sec. 3.2, with all ways instead of the best)."""

    def __init__(self, tokenizer: Tokenizer, *, alpha: float) -> None:
        """
        Args:
            tokenizer: A unigram model.
            alpha: The probability of a way to cut a word is raised to this power: 1 mostly gives
                the best way; near 0 all are as likely.

        Raises:
            UsageError: It is no unigram model.
        """
        self.tokenizer = tokenizer
        self._alpha = alpha
        self._log_probs = tokenizer.unigram_log_probs()
        self._longest = max(map(len, self._log_probs), default=0)
        pieces = tokenizer.pieces(range(tokenizer.vocabulary_size))
        self._begins = [piece.startswith(SPACE) for piece in pieces]
        self._ways = functools.lru_cache(_WORDS_REMEMBERED)(self._find_ways)

    def sample(self, ids: Sequence[int], random: Iterator[float]) -> list[int]:
        """Other ids of a sentence without its end.

        Args:
            ids: Those of any way to cut it.
            random: Numbers from 0 to 1.
        """
        starts = [place for place, each in enumerate(ids) if place == 0 or self._begins[each]]
        found: list[int] = []
        for start, stop in itertools.pairwise([*starts, len(ids)]):
            found += self._cut(tuple(ids[start:stop]), random)
        return found

    def _cut(self, word: tuple[int, ...], random: Iterator[float]) -> Sequence[int]:
        ways = (self._ways if len(word) <= _LONGEST_REMEMBERED else self._find_ways)(word)
        if not ways:
            return word
        end, backwards = len(ways) - 1, []
        while end:
            piece = ways[end]
            chosen = min(bisect(piece.cumulative, next(random)), len(piece.ids) - 1)
            backwards.append(piece.ids[chosen])
            end = piece.starts[chosen]
        return backwards[::-1]

    def _find_ways(self, word: tuple[int, ...]) -> "list[_LastPieces]":
        """For each place in a word the pieces that may end there; none if it can only stay.

        A word with a piece that stands for no characters, or always for itself, stays: bytes,
        unknown ones, user symbols.
        """
        pieces = self.tokenizer.pieces(word)
        if any(piece not in self._log_probs for piece in pieces):
            return []
        text = "".join(pieces)
        ways, totals = [_LastPieces([], [], [])], [0.0]  # log-probability of all ways to a place
        for end in range(1, len(text) + 1):
            starts = [
                start
                for start in range(max(end - self._longest, 0), end)
                if totals[start] > -math.inf and text[start:end] in self._log_probs
            ]
            known = [self._log_probs[text[start:end]] for start in starts]
            logs = [
                totals[start] + self._alpha * log_prob
                for start, (_, log_prob) in zip(starts, known, strict=True)
            ]
            total = _log_sum(logs)
            cumulative = list(itertools.accumulate(math.exp(each - total) for each in logs))
            ways.append(_LastPieces(starts, [piece_id for piece_id, _ in known], cumulative))
            totals.append(total)
        return ways


class _LastPieces(NamedTuple):
    """The pieces that may be the last ones of the text up to a place.

    Attributes:
        starts: Where each begins.
        ids: Of each.
        cumulative: The probability that it is one of those up to it.
    """

    starts: list[int]
    ids: list[int]
    cumulative: list[float]


def _drawn(
    sampler: WordSampler,
    most: int,
    rows: NDArray[Any],
    lengths: NDArray[Any],
    random: Iterator[float],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Other ids of sentences `rows` `[B, length]`, their ends kept; padded, and lengths `[B]`."""
    found = []
    for row, length in zip(rows.tolist(), lengths.tolist(), strict=True):
        ids = [*sampler.sample(row[: length - 1], random), row[length - 1]]
        found.append(np.array(ids if len(ids) <= most else row[:length], np.int32))
    width = padded_length(max(map(len, found)))
    return padded(found, sampler.tokenizer.pad_id, width)


def _uniform(seed: int, epoch: int, step: int) -> Iterator[float]:
    """Numbers from 0 to 1, for ever; raw ones of a bit generator, as in `BatchPlan`."""
    generator = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(epoch, step)))
    while True:
        yield from (generator.random_raw(1024) / 2.0**64).tolist()


def _log_sum(logs: Sequence[float]) -> float:
    """log of the sum of exp of each."""
    highest = max(logs, default=-math.inf)
    if highest == -math.inf:
        return highest
    return highest + math.log(sum(math.exp(each - highest) for each in logs))
