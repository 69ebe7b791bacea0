"""Scores of files: of a translator, of given translations, of a language model."""

import json
import os
import shutil
from pathlib import Path

import pytest
from cli_fixtures import SOURCE_LINES, error_of, output_of

from seq2seq.cli import main
from seq2seq.streams import LineOutput
from seq2seq.text_corpus import TextParts, encode_text


def test_given_hypotheses_are_scored_without_a_model(not_loaded, source, tmp_path, capsysbinary):
    other = tmp_path / "other.txt"
    other.write_bytes(b"x\n" * 5)
    files = ["--reference", str(other), "--reference", str(source), "--hypothesis", str(source)]
    outputs = []
    for arguments in ([], [not_loaded], ["--source", str(other)]):
        assert main(["evaluate", *arguments, *files, "--format", "json"]) == 0
        lines, errors = output_of(capsysbinary)
        assert errors == ""
        outputs.append(lines)
    (line,) = outputs[0]
    assert outputs == [[line]] * 3
    record = json.loads(line)
    assert record["sentences"] == 5
    assert record["references"] == 2
    assert record["bleu"]["score"] == pytest.approx(100)
    assert record["bleu"]["signature"].startswith("nrefs:2|case:mixed|eff:no|tok:13a|")


def test_hypotheses_may_come_from_standard_input(source, stdin, capsysbinary):
    # CR LF, a blank line and no last LF in the file; the same lines, otherwise spelled, here.
    stdin.write("".join(f"{line}\n" for line in SOURCE_LINES).encode())
    stdin.close()
    assert main(["evaluate", "--reference", str(source), "--hypothesis", "-"]) == 0
    lines, _ = output_of(capsysbinary)
    assert lines[0].startswith("BLEU  100.00 ± ")
    assert lines[1].startswith("chrF2 100.00 ± ")
    assert lines[2].startswith("TER     0.00 ± ")


def test_the_models_own_translations_are_scored(loaded, translator, source, tmp_path, capsysbinary):
    reference = tmp_path / "reference.txt"
    translations = [translation.text for translation in translator.translate(SOURCE_LINES)]
    reference.write_text("\n".join(translations), encoding="utf-8")
    files = ["--source", str(source), "--reference", str(reference), "--format", "json"]
    assert main(["evaluate", loaded, *files]) == 0
    lines, errors = output_of(capsysbinary)
    assert json.loads(lines[0])["chrf"]["score"] == pytest.approx(100)
    assert errors.startswith("5 lines translated, 1 of them blank; ")


def test_evaluate_checks_line_counts_before_translating(not_loaded, source, tmp_path, capsysbinary):
    reference = tmp_path / "reference.txt"
    reference.write_bytes(b"a\n")
    model = ["evaluate", not_loaded, "--source", str(source), "--reference"]
    assert main([*model, str(reference)]) == 3
    assert error_of(capsysbinary).startswith(f"error: {reference}: 1 lines, but {source} has 5; ")
    assert main([*model, str(source), "--reference", str(reference)]) == 3
    assert error_of(capsysbinary).startswith(f"error: {reference}: 1 lines, but {source} has 5; ")
    given = ["evaluate", "--reference", str(source), "--hypothesis", str(reference)]
    assert main(given) == 3
    assert error_of(capsysbinary).startswith(f"error: {source}: 5 lines, but {reference} has 1; ")


def test_what_other_readers_split_at_does_not_shift_the_scores(tmp_path, stdin, capsysbinary):
    hypothesis, reference = tmp_path / "hypothesis", tmp_path / "reference"
    content = "a\u2028dog\rruns\x85now\r\na cat sleeps here\n".encode()
    hypothesis.write_bytes(content)
    reference.write_bytes(b"a dog runs now\na cat sleeps here\n")
    stdin.write(content)
    stdin.close()
    for name in (str(hypothesis), "-"):
        given = ["evaluate", "--reference", str(reference), "--hypothesis", name]
        assert main([*given, "--format", "json"]) == 0
        record = json.loads(output_of(capsysbinary)[0][0])
        assert record["sentences"] == 2
        assert record["bleu"]["score"] == pytest.approx(100)


def test_a_translator_needs_a_text_to_translate(not_loaded, source, capsysbinary):
    assert main(["evaluate", not_loaded, "--reference", str(source)]) == 2
    assert error_of(capsysbinary).startswith("error: evaluate: needs either --hypothesis, or MODEL")


def test_evaluating_no_lines_is_an_error(not_loaded, tmp_path, capsysbinary):
    empty = tmp_path / "empty"
    empty.touch()
    given = ["evaluate", "--reference", str(empty), "--hypothesis", str(empty)]
    assert main(given) == 3
    assert error_of(capsysbinary) == f"error: {empty}: 0 lines; there is nothing to score"


def test_evaluate_tells_how_likely_a_text_is(writing, language_model, tmp_path, capsysbinary):
    source = tmp_path / "text.txt"
    source.write_bytes("a dog\nЖ\tä".encode())
    assert main(["evaluate", writing, "--source", str(source), "--format", "json"]) == 0
    captured = capsysbinary.readouterr()
    score = language_model.score("a dog\nЖ\tä")
    assert json.loads(captured.out) == score.record
    assert captured.err.decode() == (
        f"warning: {source}: 1 symbols are scored as unknown to the model\n"
    )
    assert main(["evaluate", writing, "--source", str(source)]) == 0
    lines, _ = output_of(capsysbinary)
    assert lines[0].split() == ["loss", f"{score.loss:.4f}"]
    assert [line.split()[0] for line in lines] == list(score.record)


def test_evaluating_a_text_without_anything_in_it_is_an_error(writing, tmp_path, capsysbinary):
    source = tmp_path / "text.txt"
    source.touch()
    assert main(["evaluate", writing, "--source", str(source)]) == 3
    assert error_of(capsysbinary) == f"error: {source}: is empty; there is nothing to score"


def test_without_a_text_a_language_model_is_scored_on_what_was_held_back(
    writing, language_model, tmp_path, capsysbinary
):
    folder, text = tmp_path / "model", "a dog\nЖ\tä"
    shutil.copytree(writing, folder)
    encode_text(TextParts("a cat", "a", text), language_model.tokenizer, folder / "encoded")
    assert main(["evaluate", str(folder), "--format", "json"]) == 0
    captured = capsysbinary.readouterr()
    assert json.loads(captured.out) == language_model.score(text).record
    assert captured.err.decode() == (
        f"warning: {folder}, test text: 1 symbols are scored as unknown to the model\n"
    )


def test_a_held_back_text_that_is_damaged_is_not_scored(
    writing, language_model, tmp_path, capsysbinary
):
    folder = tmp_path / "model"
    shutil.copytree(writing, folder)
    encode_text(TextParts("a cat", "a", "a dog"), language_model.tokenizer, folder / "encoded")
    path = folder / "encoded" / "test.bin"
    path.write_bytes(path.read_bytes()[::-1])
    assert main(["evaluate", str(folder)]) == 3
    assert "encoded: not a complete encoded text (other bytes than" in error_of(capsysbinary)


@pytest.mark.parametrize("parts", [None, TextParts("a cat", "a", "")])
def test_a_language_model_without_a_test_text_needs_one(
    writing, language_model, parts, tmp_path, capsysbinary
):
    folder = tmp_path / "model"
    shutil.copytree(writing, folder)
    if parts:
        encode_text(parts, language_model.tokenizer, folder / "encoded")
    assert main(["evaluate", str(folder)]) == 2
    assert error_of(capsysbinary) == (
        f"error: {folder}: has no test text (data.test_share), or not any more (encoded/); name a "
        "text with --source"
    )


def test_a_report_is_written_even_if_nobody_reads_the_scores(source, tmp_path, monkeypatch):
    def gone(self, text):
        raise BrokenPipeError

    monkeypatch.setattr(LineOutput, "write", gone)
    page = tmp_path / "report.html"
    given = ["evaluate", "--hypothesis", str(source), "--reference", str(source)]
    assert main([*given, "--report", str(page)]) == 141
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_report_on_a_file_whose_name_is_not_utf8(source, tmp_path, capsysbinary):
    hypothesis = Path(os.fsdecode(os.fsencode(tmp_path) + b"/h\xff"))
    hypothesis.write_bytes(source.read_bytes())
    page = tmp_path / "report.html"
    given = ["evaluate", "--hypothesis", str(hypothesis), "--reference", str(source)]
    assert main([*given, "--report", str(page)]) == 0
    assert "/h?" in page.read_text(encoding="utf-8")


def test_what_cannot_be_scored_is_not_translated(not_loaded, source, capsysbinary, monkeypatch):
    monkeypatch.setenv("SACREBLEU_SEED", "abc")
    given = ["evaluate", not_loaded, "--source", str(source), "--reference", str(source)]
    assert main(given) == 2
    assert error_of(capsysbinary).startswith("error: SACREBLEU_SEED: got 'abc', expected a whole")
