"""Whether one system is better than another, or was lucky with this test set.

Both tests use the same sentences for both systems: paired bootstrap resampling (Koehn 2004) and
paired approximate randomisation (Riezler & Maxwell 2005, fig. 1). Both are two-sided and computed
here, of sacreBLEU's counts of each sentence: its own bootstrap counts one side, which makes p half
as large, and its own randomisation no ties, which makes p far too small where few sentences differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seq2seq.errors import UsageError
from seq2seq.evaluation import MOST_RESAMPLED, metrics, resampling_seed
from seq2seq.lines import check_line_counts

_SAMPLES = 1_000
_SWAPS = 10_000
_ROUNDING = 1e-9  # of scores, which are up to 100


@dataclass(frozen=True)
class Comparison:
    """One score of a system beside that of the baseline.

    Attributes:
        name: `BLEU`, `chrF2` or `TER`.
        baseline: The baseline's score.
        value: The system's score.
        bootstrap: p of paired bootstrap resampling: how probable a difference as large, in either
            direction, is if the systems are equally good.
        randomization: p of approximate randomisation, of the same.
        signatures: How the two tests were made, in sacreBLEU's words.
    """

    name: str
    baseline: float
    value: float
    bootstrap: float
    randomization: float
    signatures: tuple[str, str]


def compare(
    hypotheses: Sequence[str],
    baseline: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: str = "13a",
    lowercase: bool = False,
    hypothesis_name: str = "hypotheses",
    baseline_name: str = "baseline",
) -> list[Comparison]:
    """BLEU, chrF and TER of two systems, with the significance of the differences.

    Args:
        hypotheses: Of the system.
        baseline: Of the other.
        references: One sequence of lines for each reference.
        tokenizer: What BLEU splits words with.
        lowercase: Whether case is ignored; TER ignores it always.
        hypothesis_name: For messages.
        baseline_name: For messages.

    Raises:
        DataError: The line counts differ.
        UsageError: More than `MOST_RESAMPLED` sentences, an unknown tokenizer, one whose package is
            missing, or a SACREBLEU_SEED that is none.
    """
    check_line_counts([(hypothesis_name, len(hypotheses)), (baseline_name, len(baseline))])
    check_can_compare(baseline_name, len(baseline))
    seed = resampling_seed()
    texts = [list(lines) for lines in references]
    comparisons = []
    for metric in metrics(tokenizer, lowercase=lowercase):
        theirs, ours = (_counts(metric, each, texts) for each in (baseline, hypotheses))
        score = _score_of(metric)
        comparisons.append(
            Comparison(
                name=metric._compute_score_from_stats(ours.sum(0).tolist()).name,
                baseline=score(theirs.sum(0)),
                value=score(ours.sum(0)),
                bootstrap=_bootstrap(score, ours, theirs, seed=seed),
                randomization=_randomization(score, ours, theirs, seed=seed),
                signatures=(
                    _signature(metric, "bs", _SAMPLES, seed),
                    _signature(metric, "ar", _SWAPS, seed),
                ),
            )
        )
    return comparisons


def check_can_compare(name: str, sentences: int) -> None:
    """Checks that so many sentences can be compared, before they are translated.

    Raises:
        UsageError: More than `MOST_RESAMPLED` sentences.
    """
    if sentences > MOST_RESAMPLED:
        raise UsageError(
            f"{name}: {sentences:,} sentences, expected at most {MOST_RESAMPLED:,} to test a "
            "difference with, as all that is drawn is held in memory; compare parts"
        )


_Counts = NDArray[np.float64]  # of each sentence, or of a text: [sentences, counts] or [counts]


def _counts(metric: Any, lines: Sequence[str], references: list[list[str]]) -> _Counts:
    return np.array(metric._extract_corpus_statistics(list(lines), references), np.float64)


def _score_of(metric: Any) -> Callable[[_Counts], float]:
    """The score of a text that the counts of a metric are of."""
    return lambda counts: float(metric._compute_score_from_stats(counts.tolist()).score)


def _signature(metric: Any, test: str, draws: int, seed: int | None) -> str:
    signature = metric.get_signature()
    signature.update(test, draws)
    signature.update("seed", "none" if seed is None else seed)
    return str(signature.format())


def _bootstrap(
    score: Callable[[_Counts], float], ours: _Counts, theirs: _Counts, *, seed: int | None
) -> float:
    """The share of samples whose difference is as far from the mean one as the real one from 0.

    A sample is as many sentences, drawn with replacement, the same of both systems.
    """
    drawn, sentences = np.random.default_rng(seed), len(ours)
    chances = np.full(sentences, 1 / sentences)
    samples = (drawn.multinomial(sentences, chances) for _ in range(_SAMPLES))
    differences = np.array([score(times @ ours) - score(times @ theirs) for times in samples])
    least = abs(score(ours.sum(0)) - score(theirs.sum(0))) - _ROUNDING
    as_far = np.abs(differences - differences.mean()) >= least
    return (int(as_far.sum()) + 1) / (_SAMPLES + 1)


def _randomization(
    score: Callable[[_Counts], float], ours: _Counts, theirs: _Counts, *, seed: int | None
) -> float:
    """The share of ways to swap the systems' sentences that make a difference as large."""

    def difference(moved: _Counts) -> float:
        return abs(score(ours.sum(0) + moved) - score(theirs.sum(0) - moved))

    gains = (theirs - ours)[(ours != theirs).any(1)]  # [sentences that differ, counts]
    least = difference(np.zeros(ours.shape[1])) - _ROUNDING
    drawn = np.random.default_rng(seed)
    swaps = (drawn.integers(2, size=len(gains)) @ gains for _ in range(_SWAPS))
    return (sum(difference(moved) >= least for moved in swaps) + 1) / (_SWAPS + 1)
