"""Whether one system is better than another, or was lucky with this test set.

Both tests are sacreBLEU's and use the same sentences for both systems: paired bootstrap resampling
(Koehn 2004) and paired approximate randomisation (Riezler & Maxwell 2005).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sacrebleu.significance import PairedTest

from seq2seq.errors import UsageError
from seq2seq.evaluation import MOST_RESAMPLED, metrics
from seq2seq.lines import check_line_counts


@dataclass(frozen=True)
class Comparison:
    """One score of a system beside that of the baseline.

    Attributes:
        name: `BLEU`, `chrF2` or `TER`.
        baseline: The baseline's score.
        value: The system's score.
        bootstrap: p of paired bootstrap resampling: how probable a larger difference is if the
            systems are equally good; 1 where there is no difference.
        randomization: p of approximate randomisation, likewise.
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
        UsageError: More than `MOST_RESAMPLED` sentences, an unknown tokenizer, or one whose package
            is missing.
    """
    check_line_counts([(hypothesis_name, len(hypotheses)), (baseline_name, len(baseline))])
    check_can_compare(baseline_name, len(baseline))
    systems = [("baseline", list(baseline)), ("system", list(hypotheses))]
    found: dict[str, list[Any]] = {}
    for kind in ("bs", "ar"):
        named = {type(each).__name__: each for each in metrics(tokenizer, lowercase=lowercase)}
        test = PairedTest(systems, named, [list(lines) for lines in references], test_type=kind)
        signatures, scores = test()
        for name, signature in signatures.items():
            found.setdefault(name, []).append((*scores[name], signature.format()))
    return [
        Comparison(
            name=name,
            baseline=float(before.score),
            value=float(after.score),
            bootstrap=_p(before, after),
            randomization=_p(before, swapped),
            signatures=(resampled_signature, swapped_signature),
        )
        for name, (
            (before, after, resampled_signature),
            (_, swapped, swapped_signature),
        ) in found.items()
    ]


def check_can_compare(name: str, sentences: int) -> None:
    """
    Raises:
        UsageError: More than `MOST_RESAMPLED` sentences.
    """
    if sentences > MOST_RESAMPLED:
        raise UsageError(
            f"{name}: {sentences:,} sentences, expected at most {MOST_RESAMPLED:,} to test a "
            "difference with, as all that is drawn is held in memory; compare parts"
        )


def _p(before: Any, after: Any) -> float:
    # sacreBLEU counts draws with a larger difference: of equal systems, none.
    return 1.0 if after.score == before.score else float(after.p_value)
