"""Translations as lines of output: plain text, the n-best format of Moses, JSON lines."""

import json
from collections.abc import Callable
from typing import Any, Literal

from seq2seq.translation import Details, Hypothesis, Translation, pharaoh

OutputFormat = Literal["text", "jsonl"]

Unit = Literal["pieces", "words"]
"""What an alignment counts."""

Renderer = Callable[[int, Translation], str]
"""(number of a line, from 0; its translation) to what is written, the last LF included."""

# Readers of JSON lines that split at more than LF would split inside a string at these.
_JSON_ESCAPES = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def renderer(output_format: OutputFormat, *, n_best: int, alignment: Unit | None) -> Renderer:
    """What makes lines of translations.

    Args:
        output_format: `text` is the best translation, or with `n_best` above 1 all of them as Moses
            writes them, which reranking tools read: `LINE ||| TEXT ||| LogProb= P ||| SCORE`.
            `jsonl` is an object a line with all that is known.
        n_best: Hypotheses of each text.
        alignment: What its pairs count: pieces if left out in `jsonl`, none in `text`, where they
            follow the translation after `|||`.
    """
    if output_format == "jsonl":
        return lambda number, translation: _json_line(translation, alignment or "pieces")
    if n_best > 1:
        return lambda number, translation: _n_best_lines(number, translation, alignment)
    return lambda number, translation: (
        translation.text + _aligned(translation.hypotheses[0], alignment)
    )


def _json_line(translation: Translation, unit: Unit) -> str:
    record = {
        "source": translation.source,
        "source_truncated": translation.source_truncated,
        "source_pieces": translation.details.source[:-1],
        "hypotheses": [_json_object(hypothesis, unit) for hypothesis in translation.hypotheses],
    }
    return json.dumps(record, ensure_ascii=False).translate(_JSON_ESCAPES) + "\n"


def _json_object(hypothesis: Hypothesis, unit: Unit) -> dict[str, Any]:
    """All that is known of a hypothesis; rows of the attention are pieces, then the end."""
    details = hypothesis.details
    attention = details.attention
    return {
        "text": hypothesis.text,
        "score": hypothesis.score,
        "log_prob": hypothesis.log_prob,
        "pieces": hypothesis.pieces,
        "truncated": hypothesis.truncated,
        "duplicate": hypothesis.duplicate,
        "piece_log_probs": [round(each, 6) for each in details.log_probs],
        "alignment": _pairs(details, unit),
        "attention": None if attention is None else attention.astype(float).round(4).tolist(),
    }


def _n_best_lines(number: int, translation: Translation, unit: Unit | None) -> str:
    return "".join(
        f"{number} ||| {each.text} ||| LogProb= {each.log_prob:.6f} ||| {each.score:.6f}"
        + _aligned(each, unit)
        for each in translation.hypotheses
    )


def _aligned(hypothesis: Hypothesis, unit: Unit | None) -> str:
    """What follows a translation on its line."""
    if unit is None:
        return "\n"
    return f" ||| {pharaoh(_pairs(hypothesis.details, unit) or ())}\n"


def _pairs(details: Details, unit: Unit) -> list[tuple[int, int]] | None:
    return details.word_alignment if unit == "words" else details.alignment
