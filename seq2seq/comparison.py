"""Whether one system is better than another, or was lucky with this test set.

Both tests use the same sentences for both systems: paired bootstrap resampling (Koehn 2004) and
paired approximate randomisation (Riezler & Maxwell 2005, fig. 1). Both are two-sided and computed
here, of sacreBLEU's counts of each sentence: its own bootstrap counts one side, which makes p half
as large, and its own randomisation does not count ties, which makes p far too small where few
sentences differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seq2seq.evaluation import (
    RESAMPLES,
    Counts,
    counts_of,
    metrics,
    resampling_seed,
    samples_of,
    score_of,
)
from seq2seq.lines import check_line_counts

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
) -> list[Comparison]:
    """BLEU, chrF and TER of two systems, with the significance of the differences.

    Args:
        hypotheses: Of the system.
        baseline: Of the other.
        references: One sequence of lines for each reference.
        tokenizer: What BLEU splits words with.
        lowercase: Whether case is ignored; TER ignores it always.

    Raises:
        DataError: The line counts differ.
        UsageError: An unknown tokenizer, one whose package is missing, or a SACREBLEU_SEED that is
            none.
    """
    texts = [("hypotheses", hypotheses), ("baseline", baseline)]
    texts += [(f"references {i}", lines) for i, lines in enumerate(references, 1)]
    check_line_counts([(name, len(lines)) for name, lines in texts])
    seed, comparisons = resampling_seed(), []
    for metric in metrics(tokenizer, lowercase=lowercase):
        theirs, ours = (counts_of(metric, each, references) for each in (baseline, hypotheses))
        score = score_of(metric, ours.sum(0))
        comparisons.append(
            Comparison(
                name=score.name,
                baseline=float(score_of(metric, theirs.sum(0)).score),
                value=float(score.score),
                bootstrap=_bootstrap(metric, ours, theirs, seed=seed),
                randomization=_randomization(metric, ours, theirs, seed=seed),
                signatures=(
                    _signature(metric, "bs", RESAMPLES, seed),
                    _signature(metric, "ar", _SWAPS, seed),
                ),
            )
        )
    return comparisons


def _signature(metric: Any, test: str, draws: int, seed: int | None) -> str:
    signature = metric.get_signature()
    signature.update(test, draws)
    signature.update("seed", "none" if seed is None else seed)
    return str(signature.format())


def _bootstrap(metric: Any, ours: Counts, theirs: Counts, *, seed: int | None) -> float:
    """The share of samples whose difference is as far from the mean one as the real one from 0.

    A sample has the same sentences of both systems.
    """
    samples = samples_of(ours, seed=seed)
    differences = np.array([_difference(metric, times @ ours, times @ theirs) for times in samples])
    least = abs(_difference(metric, ours.sum(0), theirs.sum(0))) - _ROUNDING
    as_far = np.abs(differences - differences.mean()) >= least
    return (int(as_far.sum()) + 1) / (RESAMPLES + 1)


def _randomization(metric: Any, ours: Counts, theirs: Counts, *, seed: int | None) -> float:
    """The share of ways to swap the systems' sentences that make a difference as large."""
    gains = (theirs - ours)[(ours != theirs).any(1)]  # [sentences that differ, counts]
    drawn = np.random.default_rng(seed)
    our_sum, their_sum = ours.sum(0), theirs.sum(0)
    least = abs(_difference(metric, our_sum, their_sum)) - _ROUNDING
    swaps = (drawn.integers(2, size=len(gains)) @ gains for _ in range(_SWAPS))
    as_far = (abs(_difference(metric, our_sum + m, their_sum - m)) >= least for m in swaps)
    return (sum(as_far) + 1) / (_SWAPS + 1)


def _difference(metric: Any, ours: Counts, theirs: Counts) -> float:
    return float(score_of(metric, ours).score - score_of(metric, theirs).score)
