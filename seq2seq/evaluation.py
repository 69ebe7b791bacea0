"""BLEU, chrF and TER of plain-text translations, each with its sacreBLEU signature.

A score without the signature cannot be compared: it tells the tokenizer, the casing, the smoothing
and the version that made the number. Line counts are checked here, because sacreBLEU's functions
score as many lines as the shorter side has and say nothing.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import BLEU, CHRF, TER

from seq2seq.config import BleuTokenizer
from seq2seq.errors import DataError, UsageError
from seq2seq.lines import check_line_counts

BLEU_TOKENIZERS = get_args(BleuTokenizer)

RESAMPLES = 1000
"""Texts drawn for a confidence interval."""

Counts = NDArray[np.float64]
"""What a metric counts: of each sentence `[sentences, counts]`, of a text their sum `[counts]`."""

_OPTIONAL_PACKAGES = {"ja-mecab": "sacrebleu[ja]", "ko-mecab": "sacrebleu[ko]"}
# Share of lines that end in " ." from which a text counts as tokenised: some plain text has a few.
_TOKENISED_SHARE = 0.1
_GREATEST_LOSS = 700.0  # exp of little more is infinite, which JSON has no number for


@dataclass(frozen=True)
class Score:
    """One number for a whole text.

    Attributes:
        name: `BLEU`, `chrF2` or `TER`.
        value: From 0 to 100 (TER may exceed it); higher is better, but for TER lower is.
        signature: How the number was made, in sacreBLEU's words.
        detail: For BLEU: n-gram precisions, brevity penalty and lengths; else empty.
        interval: Half the width of the 95 % confidence interval, from scores of `RESAMPLES` texts
            of as many sentences drawn from this one (Koehn 2004); None where none were drawn.
    """

    name: str
    value: float
    signature: str
    detail: str = ""
    interval: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """The scores of one text and what was noticed on the way.

    Attributes:
        sentences: Lines scored.
        references: References per line.
        blank_hypotheses: Hypotheses without any text.
        blank_references: References without any text, all reference files together.
        warnings: What may make the scores meaningless, a line each.
    """

    sentences: int
    references: int
    blank_hypotheses: int
    blank_references: int
    bleu: Score
    chrf: Score
    ter: Score
    warnings: tuple[str, ...] = ()

    @property
    def scores(self) -> tuple[Score, Score, Score]:
        """BLEU, chrF and TER."""
        return self.bleu, self.chrf, self.ter


def bleu(hypotheses: Sequence[str], references: Sequence[str], tokenizer: str = "13a") -> Score:
    """BLEU of `hypotheses`, cased, against one reference each.

    Raises:
        DataError: No lines, or not as many references as hypotheses.
        UsageError: An unknown tokenizer, or one whose package is missing.
    """
    _check_scorable([("hypotheses", len(hypotheses)), ("references", len(references))])
    metric = bleu_metric(tokenizer)
    return _score(metric, counts_of(metric, hypotheses, [references]))


def evaluate(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: str = "13a",
    lowercase: bool = False,
    hypothesis_name: str = "hypotheses",
    reference_names: Sequence[str] = (),
) -> Evaluation:
    """All scores of `hypotheses`, line by line against one or more references.

    Args:
        hypotheses: Plain text: detokenised, no subword marks.
        references: One sequence of lines for each reference; a hypothesis is compared with all.
        tokenizer: What BLEU splits words with; one of `BLEU_TOKENIZERS`.
        lowercase: Whether case is ignored; TER ignores it always.
        hypothesis_name: The file of the hypotheses, for messages.
        reference_names: The files of the references, for messages.

    Raises:
        DataError: No lines, or files of different line counts.
        UsageError: No reference, an unknown tokenizer, one whose package is missing, or a
            SACREBLEU_SEED that is none.
    """
    if not references:
        raise UsageError("no reference: at least one is needed to evaluate")
    names = reference_names or [f"references {i}" for i in range(1, len(references) + 1)]
    lengths = [(hypothesis_name, len(hypotheses))]
    lengths += [(name, len(lines)) for name, lines in zip(names, references, strict=True)]
    _check_scorable(lengths)
    seed, found = resampling_seed(), []
    for metric in metrics(tokenizer, lowercase=lowercase):
        counts = counts_of(metric, hypotheses, references)
        interval = _interval(metric, counts, seed=seed)
        found.append(replace(_score(metric, counts), interval=interval))
    return Evaluation(
        sentences=len(hypotheses),
        references=len(references),
        blank_hypotheses=sum(not line.strip() for line in hypotheses),
        blank_references=sum(not line.strip() for lines in references for line in lines),
        bleu=found[0],
        chrf=found[1],
        ter=found[2],
        warnings=_warnings(hypotheses, name=hypothesis_name),
    )


def check_can_score(tokenizer: str) -> None:
    """Checks, before what is to be scored is translated, that it can be scored.

    Raises:
        UsageError: An unknown tokenizer, one whose package is missing, or a SACREBLEU_SEED that is
            none.
    """
    bleu_metric(tokenizer)
    resampling_seed()


def _check_scorable(lengths: Sequence[tuple[str, int]]) -> None:
    check_line_counts(lengths)
    name, length = lengths[0]
    if not length:
        raise DataError(f"{name}: 0 lines; there is nothing to score")


def resampling_seed() -> int | None:
    """The seed of all that is drawn to test scores, by SACREBLEU_SEED; None is a new one each time.

    Raises:
        UsageError: It is no seed.
    """
    seed = os.environ.get("SACREBLEU_SEED", "12345")  # the default is sacreBLEU's
    if seed.lower() == "none":
        return None
    if not seed.isdecimal() or int(seed) == 0:  # which sacreBLEU sometimes takes for none
        raise UsageError(
            f"SACREBLEU_SEED: got {seed!r}, expected a whole number of 1 or more, or none"
        )
    return int(seed)


def metrics(tokenizer: str, *, lowercase: bool) -> tuple[Any, Any, Any]:
    """sacreBLEU's BLEU, chrF and TER.

    Raises:
        UsageError: An unknown tokenizer, or one whose package is missing.
    """
    return bleu_metric(tokenizer, lowercase=lowercase), CHRF(lowercase=lowercase), TER()


def bleu_metric(tokenizer: str, **options: bool) -> Any:
    """sacreBLEU's BLEU.

    Args:
        tokenizer: One of `BLEU_TOKENIZERS`.
        **options: Of sacreBLEU.

    Raises:
        UsageError: An unknown tokenizer, or one whose package is missing.
    """
    if tokenizer not in BLEU_TOKENIZERS:
        raise UsageError(
            f"BLEU tokenizer: got {tokenizer!r}, expected one of {', '.join(BLEU_TOKENIZERS)}"
        )
    try:
        # force: the warning about tokenised text is ours, see `_warnings`
        return BLEU(tokenize=tokenizer, force=True, **options)
    except RuntimeError as err:  # what sacreBLEU raises where an optional package is missing
        package = _OPTIONAL_PACKAGES.get(tokenizer, "sacrebleu")
        raise UsageError(
            f"BLEU tokenizer {tokenizer}: its package is missing; pip install '{package}'"
        ) from err


def counts_of(
    metric: Any, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> Counts:
    """What one of `metrics` counts in each sentence."""
    texts = [list(lines) for lines in references]
    return np.array(metric._extract_corpus_statistics(list(hypotheses), texts), np.float64)


def score_of(metric: Any, counts: Counts) -> Any:
    """sacreBLEU's score of a text that has these counts `[counts]`."""
    return metric._compute_score_from_stats(counts.tolist())


def samples_of(counts: Counts, *, seed: int | None) -> Iterator[NDArray[np.int64]]:
    """`RESAMPLES` texts of as many sentences, drawn with replacement: how often each is in one."""
    drawn, sentences = np.random.default_rng(seed), len(counts)
    chances = np.full(sentences, 1 / sentences)
    return (drawn.multinomial(sentences, chances) for _ in range(RESAMPLES))


def _score(metric: Any, counts: Counts) -> Score:
    score = score_of(metric, counts.sum(0))
    detail = ""
    if isinstance(metric, BLEU):
        precisions = "/".join(f"{precision:.1f}" for precision in score.precisions)
        detail = (
            f"precisions {precisions}, brevity penalty {score.bp:.3f}, "
            f"{score.sys_len:.0f} words for {score.ref_len:.0f} in the reference"
        )
    return Score(score.name, float(score.score), metric.get_signature().format(), detail)


def _interval(metric: Any, counts: Counts, *, seed: int | None) -> float:
    """Half the width of the 95 % confidence interval of a score."""
    samples = samples_of(counts, seed=seed)
    scores = sorted(float(score_of(metric, times @ counts).score) for times in samples)
    outside = RESAMPLES // 40  # on either side
    return (scores[-outside - 1] - scores[outside]) / 2


def _warnings(hypotheses: Sequence[str], *, name: str) -> tuple[str, ...]:
    found = []
    count = len(hypotheses)
    marked = sum(_has_subword_marks(line) for line in hypotheses)
    if marked:
        found.append(
            f"{name}: {marked} of {count} lines have subword marks (@@ or \u2581); score "
            "detokenised text, or the numbers compare with nothing"
        )
    tokenised = sum(line.endswith(" .") for line in hypotheses)
    if tokenised > _TOKENISED_SHARE * count:
        found.append(
            f"{name}: {tokenised} of {count} lines end in a tokenised full stop (' .'); score "
            "detokenised text, or the numbers compare with nothing"
        )
    return tuple(found)


def _has_subword_marks(line: str) -> bool:
    return "\u2581" in line or "@@ " in line or line.endswith("@@")


def perplexity(loss: float) -> float:
    """exp of a mean negative log-probability in nats, or of 700 where that would be too large."""
    return math.exp(min(loss, _GREATEST_LOSS))
