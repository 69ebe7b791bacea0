"""How to search: the options of `translate`, checked as a whole, every default filled in."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypedDict, Unpack

from seq2seq.config import DecodingConfig
from seq2seq.errors import UsageError, check_whole_number

LengthFormula = Literal["gnmt", "power"]

# Texts read ahead, in batches: enough for batches of like lengths, few enough to hold any input.
_WINDOW_BATCHES = 16
# Hypotheses followed at a time where no batch size is asked for: products of fewer rows are slower
# each, and more rows gain nothing.
_ROWS = 320
_SMALLEST, _LARGEST = 1e-37, 1e38  # what float32 holds with all its digits, about
_ROUNDING = 1e-9  # 1.1 times 50 is a little more than 55
_MOST_PIECES = 10_000  # of any translation: room for them is set aside beforehand


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Draw translations from the model instead of searching for the most likely one.

    Attributes:
        temperature: Logits are divided by it; below 1 prefers likely pieces more.
        top_k: Draw among the k most likely pieces only; 0 draws among all.
        top_p: Draw among the most likely of those that together have this share of their
            probability.
        seed: Equal seeds draw equal translations.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature, above_zero=True)
        if not _is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise UsageError(f"top-p: got {self.top_p!r}, expected a number above 0, at most 1")
        check_whole_number("top-k", self.top_k, at_least=0)
        check_whole_number("seed", self.seed, at_least=0)
        if self.seed >= 1 << 63:
            raise UsageError(f"seed: got {self.seed}, expected less than 2 ** 63")
        # As Python has them: TensorFlow takes no fraction, and not every kind of whole number.
        for name, kind in (("temperature", float), ("top_k", int), ("top_p", float), ("seed", int)):
            object.__setattr__(self, name, kind(getattr(self, name)))


class Options(TypedDict, total=False):
    """The options of `Translator.translate`; what is left out or None is as the model's
    configuration says, or off.

    Attributes:
        beam_size: Hypotheses followed at a time; 1 is greedy search.
        n_best: Hypotheses returned for each text, at most `beam_size`.
        length_penalty: Exponent of the length that log-probabilities are divided by; 0 favours
            short translations.
        length_formula: "gnmt", ((5 + length) / 6) ** length_penalty (Wu et al. 2016, sec. 7), or
            "power", length ** length_penalty.
        coverage_penalty: Against leaving parts of the source out (beta there, sec. 7); needs a beam
            and a model with attention.
        min_length: Fewest pieces of a translation, end of sentence included.
        max_length: Most pieces, but there is always room for prefix, constraints and the end. None:
            in proportion to the source, as configured.
        min_length_ratio: Fewest pieces for each piece of the source, but never more than
            `max_length`.
        max_length_ratio: Most pieces for each piece of the source, and `decoding.max_length_offset`
            more, but never fewer than the least length. Beside a `max_length` the smaller one
            holds.
        no_repeat_ngram: No so many pieces in a row occur twice in a translation; 0 allows it.
        repetition_penalty: Above 1 makes pieces less likely that the translation has already
            (Keskar et al. 2019, sec. 4.1).
        banned: Target pieces that are never said.
        sampling: Draw instead of search.
        batch_size: Most sentences of a batch; a matter of speed and memory only, as the next. None:
            as many as have 320 hypotheses in their beams. There are as many batches at a time as
            the machine has cores, at most eight.
        batch_tokens: Most source pieces of a batch, padding included.
        details: Also find the attention and the log-probability of each piece, all texts of a batch
            at once; without it they are found for one hypothesis when they are asked for.
    """

    beam_size: int | None
    n_best: int
    length_penalty: float | None
    length_formula: LengthFormula
    coverage_penalty: float
    min_length: int
    max_length: int | None
    min_length_ratio: float
    max_length_ratio: float | None
    no_repeat_ngram: int
    repetition_penalty: float
    banned: Sequence[str]
    sampling: Sampling | None
    batch_size: int | None
    batch_tokens: int
    details: bool


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """`Options` with every default filled in; made by `search_options`."""

    beam_size: int
    n_best: int = 1
    length_penalty: float
    length_formula: LengthFormula = "gnmt"
    coverage_penalty: float = 0.0
    min_length: int = 0
    max_length: int | None = None
    min_length_ratio: float = 0.0
    max_length_ratio: float | None = None
    max_length_offset: int
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    banned: tuple[str, ...] = ()
    sampling: Sampling | None = None
    batch_size: int
    batch_tokens: int = 8192
    details: bool = False

    @property
    def window_size(self) -> int:
        """Texts read ahead to be put into batches.

        No batch crosses the border of a window, so a translation that is begun anew at a border has
        the same output.
        """
        return self.batch_size * _WINDOW_BATCHES

    def most_pieces(self, source_pieces: int, given_pieces: int = 0) -> int:
        """The greatest length of a translation, end of sentence included.

        There is room for the least length, and for the pieces that are given, of prefix and
        constraints.
        """
        fewest = max(self.fewest_pieces(source_pieces), given_pieces + 1)
        bounds = [] if self.max_length is None else [self.max_length]
        if self.max_length_ratio is not None:
            by_ratio = self.max_length_ratio * source_pieces + self.max_length_offset
            bounds.append(int(min(by_ratio + _ROUNDING, _MOST_PIECES)))
        return max(fewest, min(bounds))

    def fewest_pieces(self, source_pieces: int) -> int:
        """The least length of a translation, end of sentence included; `max_length` at most."""
        by_ratio = min(self.min_length_ratio * source_pieces, _MOST_PIECES)
        fewest = max(self.min_length, math.ceil(by_ratio - _ROUNDING))
        return fewest if self.max_length is None else min(fewest, self.max_length)

    @property
    def way_to_a_beam(self) -> str:
        """What to do where a beam is needed."""
        if self.sampling is None:
            return "give a beam size of 2 or more"
        return "do not sample"

    def check_can_constrain(self) -> None:
        """Raises a UsageError if these options cannot be used with constraints."""
        if self.beam_size == 1:
            raise UsageError(
                "constraints: need a beam; best is one more than they have pieces; "
                f"{self.way_to_a_beam}"
            )

    @property
    def has_least_length(self) -> bool:
        """Whether a translation can be too short."""
        return self.min_length > 1 or self.min_length_ratio > 0


def search_options(decoding: DecodingConfig, **options: Unpack[Options]) -> SearchOptions:
    """`options`, checked, with those of `decoding` and defaults for what is left out or None.

    Raises:
        UsageError: A value out of range, or options that exclude each other.
    """
    beam_size, sampling = options.get("beam_size"), options.get("sampling")
    if not isinstance(sampling, Sampling | None):
        raise UsageError(f"sampling: got {sampling!r}, expected Sampling(...)")
    if sampling is not None and beam_size is not None:
        raise UsageError("sampling has no beam: give a beam size or sample, not both")
    if beam_size is None:
        beam_size = decoding.beam_size if sampling is None else 1
    check_whole_number("beam size", beam_size, at_least=1)
    found: dict[str, Any] = {
        "length_penalty": decoding.length_penalty,
        "max_length_offset": decoding.max_length_offset,
        "batch_size": max(1, _ROWS // beam_size),
    }
    if options.get("max_length") is None:
        found["max_length_ratio"] = decoding.max_length_ratio
    found |= {name: value for name, value in options.items() if value is not None}
    banned = options.get("banned")
    if banned is not None and not isinstance(banned, Iterable):
        raise UsageError(f"banned: got {banned!r}, expected a list of pieces")
    found |= {"beam_size": beam_size, "banned": () if banned is None else tuple(banned)}
    checked = SearchOptions(**found)
    _check_ranges(checked)
    _check_together(checked)
    return checked


def _check_ranges(options: SearchOptions) -> None:
    check_whole_number("n-best", options.n_best, at_least=1)
    check_whole_number("batch size", options.batch_size, at_least=1)
    check_whole_number("batch tokens", options.batch_tokens, at_least=1)
    check_whole_number("min length", options.min_length, at_least=0)
    check_whole_number("no-repeat n-gram", options.no_repeat_ngram, at_least=0)
    if options.max_length is not None:
        check_whole_number("max length", options.max_length, at_least=1)
    for name, length in (("max length", options.max_length), ("min length", options.min_length)):
        if length is not None and length > _MOST_PIECES:
            raise UsageError(f"{name}: got {length}, expected at most {_MOST_PIECES}")
    if options.length_formula not in ("gnmt", "power"):
        raise UsageError(f"length formula: got {options.length_formula!r}, expected gnmt or power")
    for name, value in (
        ("length penalty", options.length_penalty),
        ("coverage penalty", options.coverage_penalty),
        ("min length ratio", options.min_length_ratio),
        ("max length ratio", options.max_length_ratio),
    ):
        if value is not None:
            _check_number(name, value, above_zero=False)
    _check_number("repetition penalty", options.repetition_penalty, above_zero=True)


def _check_together(options: SearchOptions) -> None:
    if options.n_best > options.beam_size:
        found = "a sample is one"
        if options.sampling is None:
            found = f"a beam of {options.beam_size} finds no more than that"
        raise UsageError(f"n-best: got {options.n_best} hypotheses, but {found}")
    if options.coverage_penalty and options.beam_size == 1:
        raise UsageError(
            "coverage penalty: it ranks the hypotheses of a beam, and there is but one; "
            + options.way_to_a_beam
        )
    if options.max_length is not None and options.min_length > options.max_length:
        raise UsageError(
            f"min length: got {options.min_length}, more than the max length {options.max_length}"
        )


def _check_number(name: str, value: float, *, above_zero: bool) -> None:
    """Raises a UsageError if `value` is negative, no number, or not one that float32 can hold.

    0 is allowed unless `above_zero`.
    """
    if not _is_number(value) or not (_SMALLEST if above_zero else 0.0) <= value <= _LARGEST:
        expected = "above 0" if above_zero else "of 0 or more"
        raise UsageError(f"{name}: got {value!r}, expected a number {expected}, at most {_LARGEST}")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
