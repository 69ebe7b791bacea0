"""What a translator returns: translations, their hypotheses, and where the model looked.

Shapes: S source pieces, T target pieces, the end of sentence counted in both.
"""

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from seq2seq.errors import UsageError
from seq2seq.tokenizer import SPACE

END = "</s>"
"""How the end of sentence is shown among pieces."""


@dataclass(frozen=True)
class Details:
    """What forced decoding tells of one hypothesis.

    Attributes:
        source: The source pieces that were read `[S]`, the end of sentence last.
        target: The pieces said `[T]`, the end of sentence last unless it was cut off.
        log_probs: Natural logarithm of the probability of each `[T]`.
        attention: Where the model looked `[T, S]` float32, each row adding up to 1; None for a
            model without attention. Details are equal whatever it is.
    """

    source: list[str]
    target: list[str]
    log_probs: list[float]
    attention: np.ndarray | None = field(compare=False)

    @property
    def alignment(self) -> list[tuple[int, int]] | None:
        """(i, j) for each piece j of the translation: the source piece i it looked at most.

        Pieces count from 0 on both sides, the ends of the sentences left out. None for a model
        without attention; empty for a blank source, which has nothing to look at.
        """
        if self.attention is None:
            return None
        if len(self.source) == 1:
            return []
        pieces = sum(piece != END for piece in self.target)
        real = self.attention[:pieces, : len(self.source) - 1]
        return [(int(weights.argmax()), target) for target, weights in enumerate(real)]

    @property
    def word_alignment(self) -> list[tuple[int, int]] | None:
        """`alignment` in words, as spaces divide them: each pair of words once, in order."""
        if self.alignment is None:
            return None
        source, target = words_of(self.source), words_of(self.target)
        return sorted(
            {(source[i], target[j]) for i, j in self.alignment}, key=lambda pair: pair[::-1]
        )


def words_of(pieces: Sequence[str]) -> list[int]:
    """The number of the word that each piece belongs to, from 0."""
    numbers, word = [], 0
    for place, piece in enumerate(pieces):
        word += place > 0 and piece.startswith(SPACE)
        numbers.append(word)
    return numbers


def pharaoh(alignment: Sequence[tuple[int, int]]) -> str:
    """`i-j i-j ...`, source to target, as Moses and fast_align write it."""
    return " ".join(f"{source}-{target}" for source, target in alignment)


@dataclass(frozen=True)
class Hypothesis:
    """One translation of one text.

    Attributes:
        text: Plain text, always one line.
        score: What hypotheses are ranked by: `log_prob`, and the penalties that were asked for; of
            one that was drawn, without the repetition penalty.
        log_prob: Natural logarithm of its probability, end of sentence included.
        pieces: The target pieces, without the end of sentence.
        truncated: It was cut at the greatest length, before the model ended it.
        duplicate: A better hypothesis of the same source has the same text, in other pieces.
        ids: The target ids, end of sentence included unless it was cut.
    """

    text: str
    score: float
    log_prob: float
    pieces: list[str]
    truncated: bool
    duplicate: bool = False
    ids: tuple[int, ...] = ()
    explain: Callable[[], Details] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def details(self) -> Details:
        """Source and target pieces, their log-probabilities, and where the model looked.

        Found by forced decoding when it is first asked for, unless the translator was asked for
        details beforehand.

        Raises:
            UsageError: The hypothesis was made without a model, or has left its process.
        """
        if self.explain is None:
            raise UsageError(
                "details: this hypothesis has no model any more; translate with details=True "
                "before it is sent to another process"
            )
        return self.explain()

    def keep_details(self, details: Details) -> None:
        """Makes these `details`, so that they need not be found."""
        vars(self)["details"] = details  # where `cached_property` looks for it

    def __copy__(self) -> "Hypothesis":
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))  # with the model behind `details`, unlike a pickle
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> "Hypothesis":
        twin = copy(self)
        own = {name: part for name, part in vars(self).items() if name != "explain"}
        vars(twin).update(deepcopy(own, memo))
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """All but the model behind `details`, which cannot be pickled."""
        return {**self.__dict__, "explain": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


@dataclass(frozen=True)
class Translation:
    """The translations found for one text; `text`, `score` and so on are those of the best.

    Attributes:
        source: The text as it was given.
        hypotheses: Best first, at least one.
        source_pieces: How many pieces the text has.
        source_unknown: How many of them stand for characters the vocabulary lacks, or for bytes of
            such.
        source_truncated: Only the first pieces were translated: the text is longer than any the
            model was trained on (`data.max_source_length`).
    """

    source: str
    hypotheses: list[Hypothesis]
    source_pieces: int = 0
    source_unknown: int = 0
    source_truncated: bool = False

    @property
    def text(self) -> str:
        """The best hypothesis's text."""
        return self.hypotheses[0].text

    @property
    def score(self) -> float:
        """The best hypothesis's score."""
        return self.hypotheses[0].score

    @property
    def log_prob(self) -> float:
        """The best hypothesis's log-probability."""
        return self.hypotheses[0].log_prob

    @property
    def pieces(self) -> list[str]:
        """The best hypothesis's pieces."""
        return self.hypotheses[0].pieces

    @property
    def truncated(self) -> bool:
        """Whether the best hypothesis was cut."""
        return self.hypotheses[0].truncated

    @property
    def details(self) -> Details:
        """The best hypothesis's details."""
        return self.hypotheses[0].details

    @property
    def alignment(self) -> list[tuple[int, int]] | None:
        """The best hypothesis's alignment, see `Details.alignment`."""
        return self.hypotheses[0].details.alignment
