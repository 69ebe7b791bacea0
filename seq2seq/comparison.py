"""Whether one system is better than another, or was lucky with this test set.

Both tests use the same sentences for both systems: sacreBLEU's paired bootstrap resampling (Koehn
2004), whose p is too small where but a few sentences differ, and paired approximate randomisation
(Riezler & Maxwell 2005, fig. 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.significance import PairedTest

from seq2seq.errors import UsageError
from seq2seq.evaluation import MOST_RESAMPLED, metrics, resampling_seed
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
        bootstrap: p of paired bootstrap resampling: how probable a larger difference is if the
            systems are equally good; 1 where there is no difference.
        randomization: p of approximate randomisation, likewise of a difference as large.
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
    systems = [("baseline", list(baseline)), ("system", list(hypotheses))]
    scored = metrics(tokenizer, lowercase=lowercase)
    named = {type(each).__name__: each for each in scored}
    signatures, found = PairedTest(systems, named, texts, test_type="bs")()
    comparisons = []
    for metric, (name, signature) in zip(scored, signatures.items(), strict=True):
        before, after = found[name]
        swapped_signature = metric.get_signature()
        swapped_signature.update("ar", _SWAPS)
        swapped_signature.update("seed", "none" if seed is None else seed)
        comparisons.append(
            Comparison(
                name=name,
                baseline=float(before.score),
                value=float(after.score),
                # sacreBLEU counts draws with a larger difference: of equal systems, none.
                bootstrap=1.0 if after.score == before.score else float(after.p_value),
                randomization=_randomization(metric, systems, texts, seed=seed),
                signatures=(signature.format(), swapped_signature.format()),
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


def _randomization(
    metric: Any,
    systems: Sequence[tuple[str, list[str]]],
    references: list[list[str]],
    *,
    seed: int | None,
) -> float:
    """The share of ways to swap the systems' sentences that make a difference as large.

    sacreBLEU counts larger ones only, of which there are next to none where few sentences differ:
    there most swaps make the same difference again.
    """
    ours, theirs = (
        np.array(metric._extract_corpus_statistics(lines, references), np.float64)
        for _, lines in systems
    )

    def difference(moved: NDArray[np.float64]) -> float:
        one, other = ours.sum(0) + moved, theirs.sum(0) - moved
        scores = [metric._compute_score_from_stats(each.tolist()).score for each in (one, other)]
        return abs(float(scores[0] - scores[1]))

    gains = (theirs - ours)[(ours != theirs).any(1)]  # [sentences that differ, statistics]
    least = difference(np.zeros(ours.shape[1])) - _ROUNDING
    drawn = np.random.default_rng(seed)
    swaps = (drawn.integers(2, size=len(gains)) @ gains for _ in range(_SWAPS))
    return (sum(difference(moved) >= least for moved in swaps) + 1) / (_SWAPS + 1)
