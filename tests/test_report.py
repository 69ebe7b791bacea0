"""Reports: every rendering has the evaluation's numbers."""

import html.parser
import json

import pytest

from seq2seq.comparison import compare
from seq2seq.evaluation import evaluate
from seq2seq.report import Report, render_html, render_json, render_jsonl, render_text

FOX = "the quick brown fox jumps over the lazy dog"
HYPOTHESES, REFERENCES = [FOX, "x@@ <b>y</b>"], [[FOX, "x z"]]
EVALUATION = evaluate(HYPOTHESES, REFERENCES)
REPORT = Report("a & b", EVALUATION, HYPOTHESES, REFERENCES, sources=["der Fuchs", "<i>"])


def with_baseline() -> Report:
    comparisons = compare(HYPOTHESES, [FOX, "x z"], REFERENCES)
    return Report("a", EVALUATION, HYPOTHESES, REFERENCES, comparisons=comparisons)


def test_text_has_each_score_with_its_signature():
    evaluation = evaluate([FOX], [[FOX]])
    lines = render_text(Report("a", evaluation, [FOX], [[FOX]])).split("\n")
    assert lines[0] == f"BLEU  100.00 \u00b1 0.00  {evaluation.bleu.signature}"
    assert lines[1] == f"chrF2 100.00 \u00b1 0.00  {evaluation.chrf.signature}"
    assert lines[2] == f"TER     0.00 \u00b1 0.00  {evaluation.ter.signature}"
    assert lines[3].startswith("BLEU: precisions 100.0/100.0/100.0/100.0, brevity penalty 1.000")
    assert lines[4] == "1 sentences, 1 references each, 0 blank hypotheses, 0 blank references"
    assert lines[5:] == [""]


def test_text_has_the_comparison_as_a_table():
    report = with_baseline()
    ter = report.comparisons[2]
    *_, header, _, _, last, end = render_text(report).split("\n")
    assert header.split()[:3] == ["system", "baseline", "difference"]
    figures = [f"{ter.value:.2f}", "0.00", f"+{ter.value:.2f}"]
    assert last.split() == [
        "TER", *figures, f"{ter.bootstrap:.4f}", f"{ter.randomization:.4f}"
    ]  # fmt: skip
    assert end == ""


def test_json_holds_the_same_numbers_unrounded_on_one_line():
    text = render_json(with_baseline())
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    record = json.loads(text)
    assert record["sentences"] == 2
    for key, score in zip(("bleu", "chrf", "ter"), EVALUATION.scores, strict=True):
        assert record[key]["name"] == score.name
        assert record[key]["score"] == score.value
        assert record[key]["interval"] == score.interval
        assert record[key]["signature"] == score.signature
    assert [each["sentences"] for each in record["by_length"]] == [1, 1]
    assert [each["name"] for each in record["comparison"]] == ["BLEU", "chrF2", "TER"]
    assert record["warnings"] == list(EVALUATION.warnings)
    assert len(record["warnings"]) == 1


def test_jsonl_has_an_object_for_each_sentence():
    first, second = map(json.loads, render_jsonl(REPORT).splitlines())
    assert (first["line"], first["source"], first["hypothesis"]) == (1, "der Fuchs", FOX)
    assert (first["bleu"], first["chrf"]) == pytest.approx((100, 100))
    assert second["references"] == ["x z"]


class Page(html.parser.HTMLParser):
    """The cells of a page, row by row; its tags must match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta",):
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_the_page_has_the_worst_first_and_text_stays_text():
    page = Page(render_html(REPORT))
    assert page.open == []
    at = next(at for at, row in enumerate(page.rows) if row[:2] == ["line", "chrF"])
    assert page.rows[at] == ["line", "chrF", "BLEU", "source", "hypothesis", "reference"]
    assert page.rows[at + 1][0] == "2"
    assert page.rows[at + 1][3:] == ["<i>", "x@@ <b>y</b>", "x z"]
    assert page.rows[at + 2][:2] == ["1", "100.00"]
    bleu = next(row for row in page.rows if row[0] == "BLEU")
    assert bleu[1:] == [
        f"{EVALUATION.bleu.value:.2f}",
        f"\u00b1 {EVALUATION.bleu.interval:.2f}",
        EVALUATION.bleu.signature,
    ]


def test_the_page_needs_nothing_from_elsewhere():
    assert all(each.startswith("#") for each in Page(render_html(REPORT)).addresses)
