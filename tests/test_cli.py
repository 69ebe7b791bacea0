# ruff: noqa: F811 (fixtures are imported)
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from model_fixtures import SENTENCES, model_folder, translator  # noqa: F401

from seq2seq import cli
from seq2seq.checkpoint import Checkpoint, save_checkpoint, write_best
from seq2seq.cli import main
from seq2seq.errors import (
    DataError,
    DivergenceError,
    Interrupted,
    LockedError,
    ModelError,
    StorageError,
    UsageError,
)
from seq2seq.journal import resumable_output
from seq2seq.search_options import Sampling
from seq2seq.translation import pharaoh
from seq2seq.translator import Translator


@pytest.fixture
def loaded(monkeypatch, translator, model_folder):
    """The model folder's name; loading it takes no time."""
    monkeypatch.setattr(Translator, "load", lambda folder, **_: translator)
    return str(model_folder)


@pytest.fixture
def not_loaded(monkeypatch, model_folder):
    """The model folder's name; a test fails that loads it."""

    def load(folder, **_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Translator, "load", load)
    return str(model_folder)


@pytest.fixture
def source(tmp_path):
    """A file of five lines, one blank, that do not end alike."""
    path = tmp_path / "source.txt"
    path.write_bytes(f"{SENTENCES[0]}\r\n\n{SENTENCES[1]}\n{SENTENCES[2]}\n{SENTENCES[3]}".encode())
    return path


SOURCE_LINES = [SENTENCES[0], "", *SENTENCES[1:4]]


@pytest.fixture
def stdin(monkeypatch):
    """The write end of a pipe that commands read as standard input."""
    read_end, write_end = os.pipe()
    monkeypatch.setattr(cli, "_STDIN", read_end)
    stream = os.fdopen(write_end, "wb", buffering=0)
    yield stream
    stream.close()
    os.close(read_end)


def output_of(capsysbinary):
    """Standard output as lines, each of which ended in LF; and standard error as text."""
    captured = capsysbinary.readouterr()
    assert captured.out == b"" or captured.out.endswith(b"\n")
    return captured.out.decode("utf-8").split("\n")[:-1], captured.err.decode("utf-8")


def error_of(capsysbinary):
    """The one line on standard error, where nothing is on standard output."""
    captured = capsysbinary.readouterr()
    assert captured.out == b""
    (line,) = captured.err.decode("utf-8").splitlines()
    return line


# --- help and wrong usage -------------------------------------------------------------------------


def test_help_lists_the_commands(capsysbinary):
    assert main(["--help"]) == 0
    lines, errors = output_of(capsysbinary)
    listed = [line.split()[0] for line in lines[lines.index("Commands:") + 1 :]]
    assert listed == ["train", "translate", "attention", "score", "evaluate", "inspect", "demo"]
    assert errors == ""


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("demo", "--output"),
        ("train", "--output --set --resume --overwrite --device"),
        (
            "translate",
            "-o --output --resume --beam-size --n-best --length-penalty --length-formula "
            "--coverage-penalty "
            "--min-length --max-length --min-length-ratio --max-length-ratio --no-repeat-ngram "
            "--repetition-penalty --ban --prefix --ensemble --batch-size --batch-tokens --sample "
            "--temperature --top-k --top-p --seed --format --alignment",
        ),
        ("attention", "-o --output --target --beam-size"),
        ("score", "--source --target"),
        ("evaluate", "--source --reference --hypothesis --format"),
        ("inspect", ""),
    ],
)
def test_help_lists_the_options_in_plain_ascii(command, flags, capsysbinary):
    assert main([command, "--help"]) == 0
    lines, _ = output_of(capsysbinary)
    listed = [word.strip(",") for line in lines for word in line.split()[:2] if line[:3] == "  -"]
    assert {word for word in listed if word.startswith("-")} == {"--help", *flags.split()}
    assert "\n".join(lines).isascii()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: Missing command; see seq2seq --help"),
        (["transalte"], "error: No such command 'transalte'"),
        (["translate"], "error: Missing argument 'MODEL'; see seq2seq translate --help"),
        (["translate", "m", "--bogus"], "error: No such option: --bogus"),
        (["translate", "m", "a", "b"], "error: Got unexpected extra argument"),
        (["translate", "m", "--beam-size", "x"], "error: Invalid value for '--beam-size'"),
        (["translate", "m", "--format", "xml"], "error: Invalid value for '--format'"),
        (["score", "m", "--source", "a"], "error: Missing option '--target'"),
        (["evaluate", "--hypothesis", "h"], "error: Missing option '--reference'"),
        (["train", "c.toml", "--device", "tpu"], "error: Invalid value for '--device'"),
        (["train", "c.toml", "--resume", "--overwrite"], "error: --resume and --overwrite: give"),
        (["evaluate", "m", "--reference", "r"], "error: evaluate: needs either --hypothesis, or"),
        (["evaluate", "--reference", "r", "--source", "s"], "error: evaluate: needs either --hypo"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, message, capsysbinary):
    assert main(arguments) == 2
    assert error_of(capsysbinary).startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--beam-size 0", "beam size: got 0, expected a whole number of 1 or more"),
        ("--n-best 4", "n-best: got 4 hypotheses, but a beam of 3 finds no more"),
        ("--n-best 3 --beam-size 2", "n-best: got 3 hypotheses, but a beam of 2 finds no more"),
        ("--length-penalty -1", "length penalty: got -1.0, expected a number of 0 or more"),
        ("--batch-size 0", "batch size: got 0, expected a whole number of 1 or more"),
        ("--max-length 0", "max length: got 0, expected a whole number of 1 or more"),
        ("--sample --temperature 0", "temperature: got 0.0, expected a number above 0"),
        ("--sample --temperature nan", "temperature: got nan, expected a number above 0"),
        ("--sample --top-k 0", "--top-k: got 0, expected 1 or more"),
        ("--sample --top-p 0", "top-p: got 0.0, expected a number above 0, at most 1"),
        ("--sample --seed -1", "seed: got -1, expected a whole number of 0 or more"),
        ("--sample --beam-size 2", "sampling has no beam: give a beam size or sample, not both"),
        ("--sample --n-best 2", "n-best: got 2 hypotheses, but a sample is one"),
        ("--temperature 1", "--temperature: has no effect without --sample"),
        ("--top-k 1", "--top-k: has no effect without --sample"),
        ("--top-p 1", "--top-p: has no effect without --sample"),
        ("--seed 0", "--seed: has no effect without --sample; add --sample or leave it out"),
    ],
)
def test_values_out_of_range_are_refused_before_the_model_is_loaded(
    not_loaded, options, message, source, capsysbinary
):
    assert main(["translate", not_loaded, str(source), *options.split()]) == 2
    assert error_of(capsysbinary).startswith(f"error: {message}")


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (DataError("x"), 3),
        (ModelError("x"), 4),
        (StorageError("x"), 5),
        (DivergenceError("x"), 6),
        (LockedError("x"), 7),
    ],
)
def test_each_error_is_one_line_with_its_exit_code(error, code, monkeypatch, capsysbinary):
    monkeypatch.setattr("seq2seq.inspection.describe", _raising(error))
    assert main(["inspect", "m"]) == code
    assert error_of(capsysbinary) == "error: x"


def _raising(error):
    def fail(*_):
        raise error

    return fail


def test_an_interruption_that_was_saved_is_no_error(monkeypatch, capsysbinary):
    monkeypatch.setattr("seq2seq.inspection.describe", _raising(Interrupted("saved step 3", 15)))
    assert main(["inspect", "m"]) == 128 + 15
    assert error_of(capsysbinary) == "saved step 3"


def test_an_unexpected_error_is_one_line_that_tells_how_to_see_more(monkeypatch, capsysbinary):
    monkeypatch.setattr("seq2seq.inspection.describe", _raising(KeyError("a\nb\u2028c")))
    assert main(["inspect", "m"]) == 1
    line = error_of(capsysbinary)
    assert line.startswith("error: KeyError: ")
    assert line.endswith("this should not happen: seq2seq --debug COMMAND shows where it did")


def test_debug_shows_the_traceback_and_then_the_line(monkeypatch, capsysbinary):
    monkeypatch.setattr("seq2seq.inspection.describe", _raising(ModelError("x")))
    assert main(["--debug", "inspect", "m"]) == 4
    lines = output_of(capsysbinary)[1].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2:] == ["seq2seq.errors.ModelError: x", "error: x"]


def test_an_interrupt_is_exit_code_130(monkeypatch, capsysbinary):
    monkeypatch.setattr("seq2seq.inspection.describe", _raising(KeyboardInterrupt()))
    assert main(["inspect", "m"]) == 130
    assert error_of(capsysbinary) == "interrupted"


@pytest.mark.parametrize("command", ["translate", "inspect"])
def test_a_folder_that_is_no_model_is_exit_code_4(command, tmp_path, capsysbinary):
    assert main([command, str(tmp_path)]) == 4
    assert error_of(capsysbinary).endswith("not a model folder: no config.toml in it")


# --- translate ------------------------------------------------------------------------------------


def test_one_line_in_is_one_line_out_in_order(loaded, translator, source, capsysbinary):
    assert main(["translate", loaded, str(source)]) == 0
    lines, errors = output_of(capsysbinary)
    translations = translator.translate(SOURCE_LINES)
    assert lines == [translation.text for translation in translations]
    assert lines[1] == ""
    cut = sum(translation.truncated for translation in translations)
    # Two of the sentences have more than the 23 pieces the model reads.
    start = f"5 lines translated, 1 of them blank; truncated: 2 lines, {cut} translations; "
    assert errors.startswith(start)
    assert errors.endswith(" sentences/s\n")


def test_options_reach_the_search(loaded, translator, source, capsysbinary):
    arguments = "--beam-size 2 --length-penalty 0.3 --batch-size 2 --max-length 5"
    assert main(["translate", loaded, str(source), *arguments.split()]) == 0
    expected = translator.translate(
        SOURCE_LINES, beam_size=2, length_penalty=0.3, batch_size=2, max_length=5
    )
    assert output_of(capsysbinary)[0] == [translation.text for translation in expected]


def test_sampling_options_reach_the_search(loaded, translator, source, capsysbinary):
    arguments = "--sample --temperature 0.8 --top-k 9 --top-p 0.9 --seed 7"
    assert main(["translate", loaded, str(source), *arguments.split()]) == 0
    sampling = Sampling(temperature=0.8, top_k=9, top_p=0.9, seed=7)
    expected = translator.translate(SOURCE_LINES, sampling=sampling)
    assert output_of(capsysbinary)[0] == [translation.text for translation in expected]


def test_json_lines_carry_all_there_is(loaded, translator, tmp_path, capsysbinary):
    source = tmp_path / "source.txt"
    lines = [SENTENCES[4], "gr\u00f6\u00dfe \u732b", "", SENTENCES[1]]
    source.write_text("\n".join(lines), encoding="utf-8")
    assert main(["translate", loaded, str(source), "--format", "jsonl", "--n-best", "2"]) == 0
    out, _ = output_of(capsysbinary)
    for line, translation in zip(out, translator.translate(lines, n_best=2), strict=True):
        record = json.loads(line)
        assert record["source"] == translation.source
        assert record["source_truncated"] is translation.source_truncated
        assert [set(found) for found in record["hypotheses"]] == (
            [
                {
                    *("text", "score", "log_prob", "pieces", "truncated", "duplicate"),
                    *("piece_log_probs", "alignment", "attention"),
                }
            ]
            * len(translation.hypotheses)
        )
        assert record["source_pieces"] == translation.details.source[:-1]
        for found, hypothesis in zip(record["hypotheses"], translation.hypotheses, strict=True):
            assert found["text"] == hypothesis.text
            assert found["score"] == pytest.approx(hypothesis.score, rel=1e-5)
            assert found["log_prob"] == pytest.approx(hypothesis.log_prob, rel=1e-5)
            assert found["pieces"] == hypothesis.pieces
            assert found["truncated"] is hypothesis.truncated
            details = hypothesis.details
            assert found["piece_log_probs"] == pytest.approx(details.log_probs, abs=1e-4)
            assert found["alignment"] == [list(pair) for pair in details.alignment]
            np.testing.assert_allclose(
                np.reshape(found["attention"], details.attention.shape),
                details.attention,
                atol=1e-3,
            )
    assert "gr\u00f6\u00dfe \u732b" in out[1]
    assert json.loads(out[3])["source_truncated"]


def test_alignment_follows_each_translation(loaded, translator, source, capsysbinary):
    for unit in ("pieces", "words"):
        assert main(["translate", loaded, str(source), "--alignment", unit]) == 0
        lines, _ = output_of(capsysbinary)
        for line, translation in zip(lines, translator.translate(SOURCE_LINES), strict=True):
            details = translation.details
            pairs = details.alignment if unit == "pieces" else details.word_alignment
            assert line == f"{translation.text} ||| {pharaoh(pairs)}"


def test_penalties_and_limits_reach_the_search(loaded, translator, source, tmp_path, capsysbinary):
    prefixes = tmp_path / "prefixes.txt"
    prefixes.write_text("\nx\n\nkatze\n\n", encoding="utf-8")
    arguments = (
        "--beam-size 3 --length-formula power --coverage-penalty 0.3 --min-length 3 "
        "--min-length-ratio 0.2 --max-length-ratio 1.1 --no-repeat-ngram 2 "
        f"--repetition-penalty 1.5 --ban t --ban o --prefix {prefixes} --batch-tokens 50"
    )
    assert main(["translate", loaded, str(source), *arguments.split()]) == 0
    expected = translator.translate(
        SOURCE_LINES,
        prefixes=["", "x", "", "katze", ""],
        beam_size=3,
        length_formula="power",
        coverage_penalty=0.3,
        min_length=3,
        min_length_ratio=0.2,
        max_length_ratio=1.1,
        no_repeat_ngram=2,
        repetition_penalty=1.5,
        banned=["t", "o"],
        batch_tokens=50,
    )
    lines, _ = output_of(capsysbinary)
    assert lines == [translation.text for translation in expected]
    assert lines != [each.text for each in translator.translate(SOURCE_LINES, beam_size=3)]


def test_alignment_needs_attention(not_loaded, source, monkeypatch, capsysbinary):
    config = cli.load_model_config(Path(not_loaded))
    plain = config.model_copy(
        update={"model": config.model.model_copy(update={"attention": "none"})}
    )
    monkeypatch.setattr(cli, "load_model_config", lambda _: plain)
    assert main(["translate", not_loaded, str(source), "--alignment", "words"]) == 2
    assert error_of(capsysbinary) == (
        f"error: --alignment: {not_loaded} has no attention (model.attention)"
    )


def test_attention_is_drawn(loaded, translator, tmp_path, capsysbinary):
    picture = tmp_path / "attention.png"
    assert main(["attention", loaded, "a dog", "-o", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    (translation,) = translator.translate(["a dog"])
    details = translation.details
    expected = [" ".join(details.source), " ".join(details.target)]
    assert output_of(capsysbinary)[0] == expected
    assert main(["attention", loaded, "a dog", "-o", str(picture)]) == 2
    assert f"error: {picture}: exists already" in error_of(capsysbinary)


def test_attention_of_a_given_translation_is_drawn(loaded, translator, tmp_path, capsysbinary):
    picture = tmp_path / "attention.svg"
    assert main(["attention", loaded, "a dog", "-o", str(picture), "--target", "katze"]) == 0
    (details,) = translator.explain(["a dog"], ["katze"])
    assert output_of(capsysbinary)[0][1] == " ".join(details.target)
    assert b"<svg" in picture.read_bytes()


def test_there_must_be_something_to_draw(not_loaded, tmp_path, capsysbinary):
    assert main(["attention", not_loaded, " ", "-o", str(tmp_path / "a.png")]) == 2
    assert error_of(capsysbinary) == "error: TEXT: is blank; expected a sentence"


def test_an_ensemble_is_loaded_whole(not_loaded, source, monkeypatch, translator, capsysbinary):
    given = []

    def load(folder, *, ensemble):
        given.append((str(folder), [str(each) for each in ensemble]))
        return translator

    monkeypatch.setattr(Translator, "load", load)
    arguments = ["--ensemble", "one", "--ensemble", "two"]
    assert main(["translate", not_loaded, str(source), *arguments]) == 0
    assert given == [(not_loaded, ["one", "two"])]


def test_n_best_text_is_in_the_format_of_moses(loaded, translator, source, capsysbinary):
    assert main(["translate", loaded, str(source), "--n-best", "3"]) == 0
    lines, _ = output_of(capsysbinary)
    expected = [
        (number, hypothesis)
        for number, translation in enumerate(translator.translate(SOURCE_LINES, n_best=3))
        for hypothesis in translation.hypotheses
    ]
    assert len(lines) == len(expected) == 4 * 3 + 1
    for line, (number, hypothesis) in zip(lines, expected, strict=True):
        index, text, log_prob, score = line.split(" ||| ")
        assert (int(index), text) == (number, hypothesis.text)
        assert float(log_prob.removeprefix("LogProb= ")) == pytest.approx(hypothesis.log_prob)
        assert float(score) == pytest.approx(hypothesis.score)


def test_standard_input_is_read_where_no_file_is_named(loaded, translator, stdin, capsysbinary):
    stdin.write("a dog\n\nb\u00e4r".encode())
    stdin.close()
    assert main(["translate", loaded]) == 0
    expected = [translation.text for translation in translator.translate(["a dog", "", "b\u00e4r"])]
    assert output_of(capsysbinary)[0] == expected


def test_no_lines_in_are_no_lines_out(loaded, stdin, capsysbinary):
    stdin.close()
    assert main(["translate", loaded, "-"]) == 0
    lines, errors = output_of(capsysbinary)
    assert lines == []
    assert errors.startswith("0 lines translated, 0 of them blank; ")


def test_each_line_is_answered_before_the_next_arrives(loaded, translator, stdin, monkeypatch):
    read_end, write_end = os.pipe()
    answers = os.fdopen(read_end, "rb")
    with io.TextIOWrapper(os.fdopen(write_end, "wb")) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        codes = []
        thread = threading.Thread(target=lambda: codes.append(main(["translate", loaded])))
        thread.start()
        for text in ("a dog", "", "two birds sing"):
            stdin.write(f"{text}\n".encode())
            (expected,) = translator.translate([text])
            assert answers.readline().decode() == expected.text + "\n"
        stdin.close()
        thread.join()
        assert codes == [0]
    assert answers.read() == b""
    answers.close()


def test_lines_before_one_that_is_not_utf8_are_translated(
    loaded, translator, tmp_path, capsysbinary
):
    source = tmp_path / "source.txt"
    source.write_bytes(b"a dog\nb\xe4r\na cat\n")
    assert main(["translate", loaded, str(source)]) == 3
    captured = capsysbinary.readouterr()
    assert captured.out.decode() == translator.translate(["a dog"])[0].text + "\n"
    assert captured.err.decode().startswith(f"error: {source}:2: ")


def test_an_output_file_is_written_whole(loaded, translator, source, tmp_path, capsysbinary):
    output = tmp_path / "out.txt"
    assert main(["translate", loaded, str(source), "-o", str(output)]) == 0
    expected = "".join(f"{each.text}\n" for each in translator.translate(SOURCE_LINES))
    assert output.read_bytes() == expected.encode()
    assert output_of(capsysbinary)[0] == []
    assert sorted(tmp_path.iterdir()) == [output, source]


def test_after_a_failure_there_is_no_output_file(loaded, tmp_path, capsysbinary):
    source = tmp_path / "source.txt"
    source.write_bytes(b"a dog\nb\xe4r\n")
    assert main(["translate", loaded, str(source), "--output", str(tmp_path / "out.txt")]) == 3
    assert list(tmp_path.iterdir()) == [source]
    assert error_of(capsysbinary).startswith(f"error: {source}:2: ")


def test_nothing_that_exists_is_written_over(not_loaded, source, tmp_path, capsysbinary):
    before = source.read_bytes()
    link = tmp_path / "link.txt"
    link.hardlink_to(source)
    for output, message in (
        (source, "is the input itself; choose another name for the output"),
        (link, "is the input itself; choose another name for the output"),
        (tmp_path, "is a folder; expected the name of a file to write"),
        (not_loaded, "is a folder; expected the name of a file to write"),
        (f"{not_loaded}/config.toml", "exists already; delete it or choose another name"),
    ):
        assert main(["translate", not_loaded, str(source), "-o", str(output)]) == 2
        assert error_of(capsysbinary) == f"error: {output}: {message}"
    assert source.read_bytes() == before


def test_files_that_cannot_be_read_or_written_are_found_first(
    not_loaded, source, tmp_path, capsysbinary
):
    missing = tmp_path / "missing"
    assert main(["translate", not_loaded, str(missing)]) == 5
    assert error_of(capsysbinary) == f"error: {missing}: cannot be read: No such file or directory"
    assert main(["translate", not_loaded, str(tmp_path)]) == 5
    assert error_of(capsysbinary) == f"error: {tmp_path}: cannot be read: Is a directory"
    output = missing / "out.txt"
    assert main(["translate", not_loaded, str(source), "-o", str(output)]) == 5
    assert error_of(capsysbinary).startswith(f"error: {output}: cannot be written: No such file")


def test_a_full_disk_is_exit_code_5(loaded, source, capsysbinary, monkeypatch):
    assert main(["translate", loaded, str(source), "-o", "/dev/full"]) == 5
    message = "cannot be written: No space left on device"
    assert error_of(capsysbinary) == f"error: /dev/full: {message}"
    with open("/dev/full", "w") as full:  # noqa: PTH123 (a stream, as Python makes stdout)
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["translate", loaded, str(source)]) == 5
    assert capsysbinary.readouterr().err.decode() == f"error: standard output: {message}\n"


# --- translate --resume ---------------------------------------------------------------------------


@pytest.fixture
def long_source(tmp_path):
    """A file of 50 lines, some blank; at a batch size of 1 a window is 16 of them."""
    path = tmp_path / "long.txt"
    lines = [*SENTENCES, "", "two dogs"] * 5
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


@pytest.fixture
def stopping(monkeypatch, translator):
    """Sets the sentence at which translating raises what is given, or no longer does."""
    stops = {}
    search = translator._search

    def search_or_stop(sentences, options):
        for sentence in sentences:
            if sentence.number in stops:
                raise stops[sentence.number]
        return search(sentences, options)

    monkeypatch.setattr(translator, "_search", search_or_stop)

    def set_stop(number, error):
        stops.clear()
        if error is not None:
            stops[number] = error

    return set_stop


def resumable(model, source, output, *options):
    return ["translate", model, str(source), "-o", str(output), "--batch-size", "1", *options]


def errors_of(capsysbinary):
    """The lines on standard error, where nothing is on standard output."""
    captured = capsysbinary.readouterr()
    assert captured.out == b""
    return captured.err.decode("utf-8").splitlines()


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--format", "jsonl"],
        ["--n-best", "2"],
        ["--sample", "--seed", "3", "--format", "jsonl"],
    ],
    ids=" ".join,
)
def test_a_resumed_translation_is_what_an_unbroken_one_is(
    loaded, long_source, tmp_path, stopping, options, capsysbinary
):
    whole, output = tmp_path / "whole.txt", tmp_path / "out.txt"
    assert main(resumable(loaded, long_source, whole, *options)) == 0
    (expected,) = errors_of(capsysbinary)
    for number, kept in ((20, 16), (40, 32)):
        stopping(number, KeyboardInterrupt())
        assert main(resumable(loaded, long_source, output, *options, "--resume")) == 130
        assert errors_of(capsysbinary) == [
            "interrupted",
            f"{output}: {kept} lines are translated and kept; --resume goes on there",
        ]
    stopping(0, None)
    assert main(resumable(loaded, long_source, output, *options, "--resume")) == 0
    assert output.read_bytes() == whole.read_bytes()
    (summary,) = errors_of(capsysbinary)
    totals, speed = summary.rsplit("; ", 1)
    assert totals.replace(", 32 of them before", "", 1) == expected.rsplit("; ", 1)[0]
    assert totals.startswith("50 lines translated, 32 of them before, 5 of them blank; truncated: ")
    assert speed.endswith(" sentences/s")
    assert sorted(tmp_path.iterdir()) == [long_source, output, whole]


def test_a_line_that_is_corrected_can_be_gone_on_with(loaded, long_source, tmp_path, capsysbinary):
    whole, output = tmp_path / "whole.txt", tmp_path / "out.txt"
    assert main(resumable(loaded, long_source, whole)) == 0
    good = long_source.read_bytes()
    lines = good.splitlines(keepends=True)
    long_source.write_bytes(b"".join([*lines[:37], b"b\xe4r\n", *lines[38:]]))
    capsysbinary.readouterr()
    assert main(resumable(loaded, long_source, output)) == 3
    error, kept = errors_of(capsysbinary)
    assert error.startswith(f"error: {long_source}:38: invalid UTF-8 at byte 2")
    assert kept == f"{output}: 32 lines are translated and kept; --resume goes on there"
    assert not output.exists()
    long_source.write_bytes(good)
    assert main(resumable(loaded, long_source, output, "--resume")) == 0
    assert output.read_bytes() == whole.read_bytes()


def test_what_is_half_translated_is_not_begun_again_by_mistake(
    loaded, long_source, tmp_path, stopping, capsysbinary
):
    output, journal = tmp_path / "out.txt", tmp_path / ".out.txt.journal"
    stopping(20, KeyboardInterrupt())
    assert main(resumable(loaded, long_source, output)) == 130
    capsysbinary.readouterr()
    assert main(resumable(loaded, long_source, output)) == 2
    again = f"or delete {journal} to start again"
    assert error_of(capsysbinary) == (
        f"error: {output}: 16 lines are translated already; go on with --resume, {again}"
    )
    options = ["--resume", "--beam-size", "1", "--format", "jsonl"]
    assert main(resumable(loaded, long_source, output, *options)) == 2
    assert error_of(capsysbinary) == (
        f"error: {output}: 16 lines are translated with other settings: beam_size was 3, is 1; "
        f"format was text, is jsonl; give the same, {again}"
    )
    long_source.write_bytes(b"another\n" * 50)
    assert main(resumable(loaded, long_source, output, "--resume")) == 2
    assert error_of(capsysbinary) == (
        f"error: {output}: the first 16 lines of the input are not those that were translated; "
        f"give the same input, {again}"
    )


@pytest.mark.parametrize("part", ["config.toml", "tokenizer", "weights"])
def test_another_model_does_not_go_on(
    loaded, model_folder, long_source, tmp_path, stopping, part, capsysbinary
):
    model, output = tmp_path / "model", tmp_path / "out.txt"
    shutil.copytree(model_folder, model)
    stopping(20, KeyboardInterrupt())
    assert main(resumable(str(model), long_source, output)) == 130
    capsysbinary.readouterr()
    if part == "config.toml":
        with (model / part).open("a", encoding="utf-8") as file:
            file.write("# another\n")
    elif part == "tokenizer":
        (model / part / "another").write_bytes(b"x")
    else:
        save_checkpoint(model, Checkpoint(8, {"kernel": np.zeros(3)}, optimizer={}, state={}))
        write_best(model, {"step": 8})
    assert main(resumable(str(model), long_source, output, "--resume")) == 2
    name = {"config.toml": "configuration"}.get(part, part)
    assert re.fullmatch(
        f"error: {output}: 16 lines are translated with other settings: "
        f"{name} was [0-9a-f]{{16}}, is [0-9a-f]{{16}}; give the same, or delete .* to start again",
        error_of(capsysbinary),
    )


def test_an_output_that_is_being_written_is_exit_code_7(
    not_loaded, long_source, tmp_path, capsysbinary
):
    output = tmp_path / "out.txt"
    with resumable_output(output, [], settings={}, resume=False):
        assert main(resumable(not_loaded, long_source, output, "--resume")) == 7
    assert error_of(capsysbinary) == (
        f"error: {output}: another process is writing it; wait for it or stop it"
    )


def test_resuming_needs_files_that_can_be_gone_on_with(
    not_loaded, long_source, tmp_path, capsysbinary
):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    output = str(tmp_path / "out.txt")
    for arguments, message in (
        ([str(long_source)], "needs --output: standard output cannot be gone on with"),
        ([], "needs --output: standard output cannot be gone on with"),
        (["-", "-o", output], "standard input cannot be read from the start again; name a file"),
        (
            [str(fifo), "-o", output],
            f"{fifo} is no regular file and cannot be read from the start again; name a file",
        ),
        (
            [str(long_source), "-o", "/dev/null"],
            "/dev/null is no regular file and cannot be gone on with",
        ),
        (
            [str(long_source), "-o", str(fifo)],
            f"{fifo} is no regular file and cannot be gone on with",
        ),
    ):
        assert main(["translate", not_loaded, *arguments, "--resume"]) == 2
        assert error_of(capsysbinary) == f"error: --resume: {message}"
    assert sorted(tmp_path.iterdir()) == [fifo, long_source]


def test_standard_input_is_written_to_a_file_whole_or_not_at_all(
    loaded, translator, stdin, tmp_path, capsysbinary
):
    output = tmp_path / "out.txt"
    stdin.write(b"a dog\nb\xe4r\n")
    stdin.close()
    assert main(["translate", loaded, "-", "-o", str(output)]) == 3
    assert error_of(capsysbinary).startswith("error: standard input:2: ")
    assert list(tmp_path.iterdir()) == []


# --- translate: what may be wrong with the input --------------------------------------------------


def test_foreign_text_is_warned_about(loaded, tmp_path, capsysbinary):
    source = tmp_path / "source.txt"
    source.write_text("\u732b\u304c\u3044\u308b\n", encoding="utf-8")
    assert main(["translate", loaded, str(source)]) == 0
    warning = output_of(capsysbinary)[1].splitlines()[1]
    assert warning.startswith("warning: the model does not know ")
    assert warning.endswith("is the input in the language it was trained on?")


# --- score ----------------------------------------------------------------------------------------


def test_score_prints_a_number_a_line(loaded, translator, tmp_path, capsysbinary, monkeypatch):
    monkeypatch.setattr(cli, "_SCORED_AT_A_TIME", 2)
    sources, targets = ["a dog", "", "a cat sleeps"], ["a bird", "b", ""]
    for name, lines in (("source", sources), ("target", targets)):
        (tmp_path / name).write_bytes("\n".join(lines).encode() + b"\n")
    files = ["--source", str(tmp_path / "source"), "--target", str(tmp_path / "target")]
    assert main(["score", loaded, *files]) == 0
    lines, errors = output_of(capsysbinary)
    expected = translator.score(sources, targets)
    assert [float(line) for line in lines] == pytest.approx(expected, rel=1e-4)
    assert errors == ""


def test_score_checks_line_counts_before_anything_else(not_loaded, source, tmp_path, capsysbinary):
    target = tmp_path / "target"
    target.write_bytes(b"a\nb\nc\nd\n")
    for pair in ((source, target), (target, source)):
        files = ["--source", str(pair[0]), "--target", str(pair[1])]
        assert main(["score", not_loaded, *files]) == 3
        line = error_of(capsysbinary)
        assert f"{source}: 5" in line
        assert f"{target}: 4" in line


# --- evaluate -------------------------------------------------------------------------------------


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
    assert lines[0].startswith("BLEU  100.00  nrefs:1|")
    assert lines[1].startswith("chrF2 100.00  nrefs:1|")
    assert lines[2].startswith("TER     0.00  nrefs:1|")


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


def test_evaluating_no_lines_is_an_error(not_loaded, tmp_path, capsysbinary):
    empty = tmp_path / "empty"
    empty.touch()
    given = ["evaluate", "--reference", str(empty), "--hypothesis", str(empty)]
    assert main(given) == 3
    assert error_of(capsysbinary) == f"error: {empty}: 0 lines; there is nothing to score"


def test_marked_hypotheses_are_warned_about_on_stderr(source, tmp_path, capsysbinary):
    hypothesis = tmp_path / "hypothesis"
    hypothesis.write_text("a do@@ g\nb\nc\nd\ne\n", encoding="utf-8")
    given = ["evaluate", "--reference", str(source), "--hypothesis", str(hypothesis)]
    assert main(given) == 0
    lines, errors = output_of(capsysbinary)
    assert len(lines) == 5
    assert errors.startswith(f"warning: {hypothesis}: 1 of 5 lines have subword marks")


# --- inspect, train, demo -------------------------------------------------------------------------


def test_inspect_prints_the_description(model_folder, capsysbinary):
    assert main(["inspect", str(model_folder)]) == 0
    lines, errors = output_of(capsysbinary)
    assert lines[:2] == ["model", f"  {model_folder}"]
    assert "  step: 7" in lines
    assert errors == ""


@pytest.fixture
def trained(monkeypatch):
    """What `train` is called with; nothing is trained and TensorFlow not started."""
    calls = []

    def train(config, folder, *, resume, overwrite):
        calls.append((config, folder, resume, overwrite))
        best = {"step": 1200, "bleu": 31.25, "signature": "nrefs:1|tok:13a"}
        return SimpleNamespace(folder=folder, steps=1500, seconds=61.2, best=best)

    training = ModuleType("seq2seq.training")
    training.train = train
    monkeypatch.setitem(sys.modules, "seq2seq.training", training)
    monkeypatch.setattr("seq2seq.runtime.start_tensorflow", lambda device: calls.append(device))
    return calls


@pytest.fixture
def config_file(tmp_path):
    names = ["train_source", "train_target", "validation_source", "validation_target"]
    path = tmp_path / "toy.toml"
    path.write_text("[data]\n" + "".join(f'{name} = "{name}.txt"\n' for name in names))
    return path


def test_train_passes_its_options_on(trained, config_file, tmp_path, capsysbinary):
    folder = tmp_path / "model"
    options = ["--output", str(folder), "--set", "seed=5", "--set", "model.dropout=0.0"]
    assert main(["train", str(config_file), *options, "--resume", "--device", "cpu"]) == 0
    device, (config, *call) = trained
    assert device == "cpu"
    assert (config.seed, config.model.dropout) == (5, 0.0)
    assert call == [folder, True, False]
    lines, errors = output_of(capsysbinary)
    assert lines == []
    assert errors == (
        f"{folder}: 1,500 steps in 61 s; best: BLEU 31.25 at step 1,200 (nrefs:1|tok:13a)\n"
    )


def test_train_writes_to_runs_unless_told_otherwise(trained, config_file):
    assert main(["train", str(config_file), "--overwrite"]) == 0
    assert trained[0] == "auto"
    assert trained[1][1:] == (cli.Path("runs/toy"), False, True)


def test_a_faulty_configuration_ends_before_tensorflow_starts(trained, config_file, capsysbinary):
    assert main(["train", str(config_file), "--set", "model.drop=0.1"]) == 2
    assert error_of(capsysbinary).startswith(f"error: {config_file}: model.drop: unknown key")
    assert main(["train", str(config_file) + "x"]) == 5
    assert error_of(capsysbinary).startswith(f"error: {config_file}x: cannot be read: No such file")
    assert trained == []


def test_demo_runs_in_the_folder_given(monkeypatch):
    folders = []
    demo = ModuleType("seq2seq.demo")
    demo.run_demo = folders.append
    monkeypatch.setitem(sys.modules, "seq2seq.demo", demo)
    assert main(["demo"]) == 0
    assert main(["demo", "--output", "elsewhere"]) == 0
    assert folders == [cli.Path("demo"), cli.Path("elsewhere")]


# --- as a process ---------------------------------------------------------------------------------


def process(arguments, **options):
    code = "import sys; from seq2seq.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, **options
    )


def test_a_reader_that_left_is_exit_code_141_without_a_word(source):
    arguments = ["evaluate", "--reference", str(source), "--hypothesis", "-"]
    with process(arguments) as evaluating:
        evaluating.stdout.close()  # before there is anything to write: the input is still open
        evaluating.stdin.write(source.read_bytes())
        evaluating.stdin.close()
        assert evaluating.wait() == 141
        assert evaluating.stderr.read() == b""


def test_a_plain_locale_changes_nothing(model_folder):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with process(["translate", str(model_folder), "--format", "jsonl"], env=environment) as running:
        out, errors = running.communicate("b\u00e4r\r\n\u732b\n".encode())
    assert running.returncode == 0
    records = [json.loads(line) for line in out.decode("utf-8").split("\n")[:-1]]
    assert [record["source"] for record in records] == ["b\u00e4r", "\u732b"]
    # TensorFlow starts without a word.
    summary, warning = errors.decode("ascii").splitlines()
    assert summary.startswith("2 lines translated, 0 of them blank; ")
    assert warning.startswith("warning: the model does not know ")
