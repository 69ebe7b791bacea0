"""Scores in parts: by the length of the reference, and sentence by sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics import CHRF

from seq2seq.evaluation import bleu_metric

_BOUNDS = (0, 5, 10, 15, 20, 30, 40, 60)
"""Words of the reference at which a group begins."""


@dataclass(frozen=True)
class LengthGroup:
    """The sentences whose first reference has so many words.

    Attributes:
        fewest: Words, separated by spaces.
        most: None in the last group.
        sentences: How many there are.
        bleu: Of all of them together.
        length_ratio: Words of the hypotheses for each of the references, in BLEU's tokens.
    """

    fewest: int
    most: int | None
    sentences: int
    bleu: float
    length_ratio: float


@dataclass(frozen=True)
class SentenceScore:
    """One sentence, and how near its translation is to the references.

    Attributes:
        line: Counted from 1.
        hypothesis: The translation.
        references: One text for each reference.
        bleu: Of the sentence alone, with the n-grams that it is long enough for.
        chrf: Of the sentence alone.
    """

    line: int
    hypothesis: str
    references: tuple[str, ...]
    bleu: float
    chrf: float


def by_length(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: str = "13a",
    lowercase: bool = False,
) -> list[LengthGroup]:
    """The groups that have sentences, from short to long.

    Args:
        hypotheses: N lines.
        references: N lines each.
        tokenizer: What BLEU splits words with.
        lowercase: Whether case is ignored.
    """
    words = [len(line.split()) for line in references[0]]
    ends = (*_BOUNDS[1:], max(words, default=0) + 1)
    groups = []
    for fewest, end in zip(_BOUNDS, ends, strict=True):
        rows = [row for row, count in enumerate(words) if fewest <= count < end]
        if not rows:
            continue
        score = bleu_metric(tokenizer, lowercase=lowercase).corpus_score(
            [hypotheses[row] for row in rows],
            [[lines[row] for row in rows] for lines in references],
        )
        most = None if fewest == _BOUNDS[-1] else end - 1
        ratio = score.sys_len / score.ref_len if score.ref_len else 0.0
        groups.append(LengthGroup(fewest, most, len(rows), float(score.score), ratio))
    return groups


def by_sentence(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: str = "13a",
    lowercase: bool = False,
) -> list[SentenceScore]:
    """Every sentence, in order; arguments as for `by_length`."""
    bleu = bleu_metric(tokenizer, lowercase=lowercase, effective_order=True)
    chrf = CHRF(lowercase=lowercase)
    return [
        SentenceScore(
            line=line,
            hypothesis=hypothesis,
            references=tuple(given),
            bleu=float(bleu.sentence_score(hypothesis, given).score),
            chrf=float(chrf.sentence_score(hypothesis, given).score),
        )
        for line, (hypothesis, *given) in enumerate(
            zip(hypotheses, *references, strict=True), start=1
        )
    ]
