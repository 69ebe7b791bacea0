"""An evaluation as text, JSON, or an HTML page with the worst translations."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from seq2seq.breakdown import LengthGroup, SentenceScore, by_length, by_sentence
from seq2seq.comparison import Comparison
from seq2seq.evaluation import Evaluation, Score
from seq2seq.figures import new_figure, rendered

_WORST = 25
_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0}"
    "th,td{border-bottom:1px solid #ccc;padding:.3em .7em;text-align:left;vertical-align:top}"
    "td.number{text-align:right;font-variant-numeric:tabular-nums}"
    "svg{max-width:100%;height:auto}"
)


@dataclass(frozen=True)
class Report:
    """An evaluation, and what it was made of.

    Attributes:
        title: What was evaluated.
        evaluation: The scores.
        hypotheses: The translations.
        references: One sequence of lines for each reference.
        tokenizer: What BLEU splits words with.
        lowercase: Whether case was ignored.
        sources: What was translated, a line a sentence; empty if unknown.
        comparisons: With a baseline; empty if there is none.
    """

    title: str
    evaluation: Evaluation
    hypotheses: Sequence[str]
    references: Sequence[Sequence[str]]
    tokenizer: str = "13a"
    lowercase: bool = False
    sources: Sequence[str] = ()
    comparisons: Sequence[Comparison] = ()

    def groups(self) -> list[LengthGroup]:
        """The scores by length."""
        return by_length(
            self.hypotheses,
            self.references,
            tokenizer=self.tokenizer,
            lowercase=self.lowercase,
        )

    def sentences(self) -> list[SentenceScore]:
        """The scores of each sentence, in order."""
        return by_sentence(
            self.hypotheses,
            self.references,
            tokenizer=self.tokenizer,
            lowercase=self.lowercase,
        )


def render_text(report: Report) -> str:
    """The scores as lines of text for people, the last one with its line feed."""
    evaluation = report.evaluation
    lines = [
        f"{score.name:<5} {score.value:6.2f} {_interval(score)}  {score.signature}"
        for score in evaluation.scores
    ]
    lines += [
        f"{evaluation.bleu.name}: {evaluation.bleu.detail}",
        f"{evaluation.sentences} sentences, {evaluation.references} references each, "
        f"{evaluation.blank_hypotheses} blank hypotheses, "
        f"{evaluation.blank_references} blank references",
    ]
    if report.comparisons:
        lines += ["", "       system  baseline  difference  p (bootstrap)  p (randomisation)"]
    lines += [
        f"{each.name:<5} {each.value:7.2f} {each.baseline:9.2f} "
        f"{each.value - each.baseline:+11.2f} {each.bootstrap:14.4f} {each.randomization:18.4f}"
        for each in report.comparisons
    ]
    return "\n".join(lines) + "\n"


def render_json(report: Report) -> str:
    """The scores as one JSON object on one line, unrounded."""
    evaluation = report.evaluation
    found: dict[str, Any] = {
        "sentences": evaluation.sentences,
        "references": evaluation.references,
        "blank_hypotheses": evaluation.blank_hypotheses,
        "blank_references": evaluation.blank_references,
    }
    for key, score in zip(("bleu", "chrf", "ter"), evaluation.scores, strict=True):
        found[key] = {
            "name": score.name,
            "score": score.value,
            "interval": score.interval,
            "signature": score.signature,
        }
        if score.detail:
            found[key]["detail"] = score.detail
    found["by_length"] = [asdict(each) for each in report.groups()]
    if report.comparisons:
        found["comparison"] = [asdict(each) for each in report.comparisons]
    found["warnings"] = list(evaluation.warnings)
    return json.dumps(found, ensure_ascii=False) + "\n"


def render_jsonl(report: Report) -> str:
    """Every sentence with its scores, a JSON object a line."""
    sentences = report.sentences()
    sources = [{"source": each} for each in report.sources] or [{} for _ in sentences]
    return "".join(
        json.dumps({**asdict(sentence), **source}, ensure_ascii=False) + "\n"
        for sentence, source in zip(sentences, sources, strict=True)
    )


def render_html(report: Report) -> str:
    """A page with scores, BLEU by length and the worst sentences; it loads nothing from elsewhere.

    Raises:
        UsageError: matplotlib, which draws the plot, is not installed.
    """
    evaluation, title = report.evaluation, escape(report.title)
    rows = [(each.name, each.value, _interval(each), each.signature) for each in evaluation.scores]
    parts = [
        f"<h1>{title}</h1>",
        _table(("score", "", "95 % interval", "signature"), rows),
        f"<p>{evaluation.sentences:,} sentences. BLEU: {escape(evaluation.bleu.detail)}.</p>",
        *(f"<p><strong>{escape(each)}</strong></p>" for each in evaluation.warnings),
    ]
    if report.comparisons:
        parts += ["<h2>Beside the baseline</h2>", _comparison_table(report.comparisons)]
    parts += ["<h2>By length of the reference</h2>"]
    groups = report.groups()
    parts += [_plot(groups), _length_table(groups)]
    worst = sorted(report.sentences(), key=lambda each: (each.chrf, each.line))[:_WORST]
    parts += [f"<h2>The {len(worst)} lowest by chrF</h2>", _sentence_table(worst, report.sources)]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _interval(score: Score) -> str:
    return "" if score.interval is None else f"\u00b1 {score.interval:.2f}"


def _comparison_table(comparisons: Sequence[Comparison]) -> str:
    return _table(
        ("score", "system", "baseline", "difference", "p, bootstrap", "p, randomisation"),
        [
            (
                each.name,
                each.value,
                each.baseline,
                f"{each.value - each.baseline:+.2f}",
                f"{each.bootstrap:.4f}",
                f"{each.randomization:.4f}",
            )
            for each in comparisons
        ],
    )


def _length_table(groups: Sequence[LengthGroup]) -> str:
    rows = [(_words(each), each.sentences, each.bleu, each.length_ratio) for each in groups]
    return _table(("words", "sentences", "BLEU", "length ratio"), rows)


def _sentence_table(sentences: Sequence[SentenceScore], sources: Sequence[str]) -> str:
    rows = []
    for each in sentences:
        texts = [sources[each.line - 1]] if sources else []
        texts += [each.hypothesis, *each.references]
        rows.append((each.line, each.chrf, each.bleu, *texts))
    references = len(sentences[0].references)
    names = ["reference"] if references == 1 else [f"reference {i + 1}" for i in range(references)]
    return _table(
        ("line", "chrF", "BLEU", *(["source"] if sources else []), "hypothesis", *names), rows
    )


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in header)
    body = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"


def _cell(value: Any) -> str:
    match value:
        case float():
            return f'<td class="number">{value:.2f}</td>'
        case int():
            return f'<td class="number">{value:,}</td>'
        case _:
            return f"<td>{escape(value)}</td>"


def _words(group: LengthGroup) -> str:
    most = "" if group.most is None else f" to {group.most}"
    return f"{group.fewest}{most or ' or more'}"


def _plot(groups: Sequence[LengthGroup]) -> str:
    """BLEU by length, as SVG; the widths of bars say nothing."""
    figure = new_figure(8.0, 3.2)
    axes = figure.add_subplot()
    names = [f"{_words(each)}\n({each.sentences:,})" for each in groups]
    axes.bar(names, [each.bleu for each in groups], color="#4477aa")
    axes.set_ylabel("BLEU")
    axes.set_xlabel("words of the reference (sentences)")
    svg = rendered(figure, "svg").decode()
    return svg[svg.index("<svg") :]
