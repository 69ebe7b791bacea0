"""`seq2seq translate`, most of all where it stops and goes on."""

import io
import json
import os
import re
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from cli_fixtures import SOURCE_LINES, error_of, output_of
from model_fixtures import SENTENCES, STEP

from seq2seq import cli
from seq2seq.checkpoint import Checkpoint, load_best_weights, save_checkpoint, write_best
from seq2seq.cli import main
from seq2seq.errors import NotANumberError
from seq2seq.journal import resumable_output
from seq2seq.pairs import Pair
from seq2seq.search_options import Sampling
from seq2seq.tokenizer import train_tokenizers
from seq2seq.translation import pharaoh
from seq2seq.translator import Translator

pytestmark = pytest.mark.usefixtures("no_lines_of_progress")


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


def test_a_dash_is_standard_output(loaded, source, tmp_path, monkeypatch, capsysbinary):
    monkeypatch.chdir(tmp_path)
    assert main(["translate", loaded, str(source), "--output", "-"]) == 0
    assert len(output_of(capsysbinary)[0]) == 5
    assert not (tmp_path / "-").exists()


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
    prefixes.write_text("\nh\n\ncat\n\n", encoding="utf-8")
    arguments = (
        "--beam-size 3 --length-formula power --coverage-penalty 0.3 --min-length 3 "
        "--min-length-ratio 0.2 --max-length-ratio 1.1 --no-repeat-ngram 2 "
        f"--repetition-penalty 1.5 --ban t --ban o --prefix {prefixes} --batch-tokens 50"
    )
    assert main(["translate", loaded, str(source), *arguments.split()]) == 0
    expected = translator.translate(
        SOURCE_LINES,
        prefixes=["", "h", "", "cat", ""],
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


def test_constraints_are_read_line_by_line(loaded, translator, source, tmp_path, capsysbinary):
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("cat ||| red\ndog\n\na book\n\n", encoding="utf-8")
    arguments = ["--beam-size", "9", "--constraints", str(constraints)]
    assert main(["translate", loaded, str(source), *arguments]) == 0
    lines, _ = output_of(capsysbinary)
    expected = translator.translate(
        SOURCE_LINES, constraints=[["cat", "red"], ["dog"], [], ["a book"], []], beam_size=9
    )
    assert lines == [translation.text for translation in expected]
    assert "cat" in lines[0]
    assert "red" in lines[0]
    assert lines[1] == ""  # of a blank line
    assert "a book" in lines[3]


def test_constraints_need_a_beam(not_loaded, source, capsysbinary):
    arguments = ["--constraints", str(source), "--beam-size", "1"]
    assert main(["translate", not_loaded, str(source), *arguments]) == 2
    assert error_of(capsysbinary).startswith("error: constraints: need a beam")


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


def test_what_a_picture_needs_is_looked_for_before_translating(
    not_loaded, tmp_path, monkeypatch, capsysbinary
):
    assert main(["attention", not_loaded, " ", "-o", str(tmp_path / "a.png")]) == 2
    assert error_of(capsysbinary) == "error: TEXT: is blank; expected a sentence"
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["attention", not_loaded, "a dog", "-o", str(tmp_path / "a.png")]) == 2
    assert error_of(capsysbinary).startswith("error: pictures need matplotlib: pip install")


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


@pytest.mark.parametrize("way", ["file", "stream"])
def test_a_line_that_is_not_utf8_can_be_translated_as_far_as_it_can_be_read(
    loaded, translator, stdin, tmp_path, capsysbinary, way
):
    source, output = tmp_path / "source.txt", tmp_path / "out"
    source.write_bytes(b"a dog\nb\xe4r\na \0cat\n")
    given = [str(source), "-o", str(output)]
    if way == "stream":
        stdin.write(source.read_bytes())
        stdin.close()
        given = ["-", "-o", str(output)]
    assert main(["translate", loaded, *given, "--on-bad-utf8", "replace"]) == 0
    expected = translator.translate(["a dog", "b\ufffdr", "a  cat"])
    assert output.read_text().split("\n")[:-1] == [each.text for each in expected]
    warning = "warning: 2 lines were not UTF-8; what could not be read of them was taken for U+FFFD"
    assert warning in output_of(capsysbinary)[1].splitlines()


def test_a_translation_that_bad_utf8_stopped_can_go_on_with_it_replaced(
    loaded, long_source, tmp_path, capsysbinary
):
    lines = long_source.read_bytes().splitlines(keepends=True)
    long_source.write_bytes(b"".join([*lines[:37], b"b\xe4r\n", *lines[38:]]))
    whole, output = tmp_path / "whole.txt", tmp_path / "out.txt"
    replacing = ["--on-bad-utf8", "replace"]
    assert main(resumable(loaded, long_source, whole, *replacing)) == 0
    assert main(resumable(loaded, long_source, output)) == 3
    assert main(resumable(loaded, long_source, output, *replacing, "--resume")) == 0
    assert output.read_bytes() == whole.read_bytes()
    assert "warning: 1 lines were not UTF-8" in output_of(capsysbinary)[1]


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
    for option in ("--prefix", "--constraints"):
        assert main(["translate", not_loaded, str(source), option, str(missing)]) == 5
        assert error_of(capsysbinary).startswith(f"error: {missing}: cannot be read: No such file")
    output = missing / "out.txt"
    assert main(["translate", not_loaded, str(source), "-o", str(output)]) == 5
    assert error_of(capsysbinary).startswith(f"error: {output}: cannot be written: No such file")


def test_files_that_go_with_the_source_must_have_its_line_count(
    not_loaded, source, tmp_path, capsysbinary
):
    short = tmp_path / "short.txt"
    short.write_text("a\nb\nc\nd\n")
    for option in ("--prefix", "--constraints"):
        assert main(["translate", not_loaded, str(source), option, str(short)]) == 3
        message = f"error: {short}: 4 lines, but {source} has 5; line i of each file must belong to"
        assert error_of(capsysbinary).startswith(message)
    assert main(["translate", not_loaded, str(source), "--prefix", str(source), "-o", str(short)])
    assert (
        error_of(capsysbinary) == f"error: {short}: exists already; delete it or choose another "
        "name"
    )
    output = ["-o", str(short)]
    assert main(["translate", not_loaded, str(source), "--prefix", str(short), *output]) == 2
    assert "is the input itself; choose another name" in error_of(capsysbinary)


def test_prefixes_may_come_from_a_pipe(loaded, translator, source, tmp_path, capsysbinary):
    fifo, output = tmp_path / "fifo", tmp_path / "out.txt"
    os.mkfifo(fifo)
    prefixes = ["", "h", "", "cat", ""]
    content = "".join(f"{prefix}\n" for prefix in prefixes)
    writer = threading.Thread(target=fifo.write_text, args=[content])
    writer.start()
    command = ["translate", loaded, str(source), "--prefix", str(fifo), "-o", str(output)]
    assert main(command) == 0
    writer.join()
    expected = translator.translate(SOURCE_LINES, prefixes=prefixes)
    assert output.read_text().splitlines() == [translation.text for translation in expected]


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
        ["--prefix", "PREFIXES"],
        ["--constraints", "PREFIXES", "--beam-size", "3", "--length-penalty", "0"],
    ],
    ids=" ".join,
)
def test_a_resumed_translation_is_what_an_unbroken_one_is(
    loaded, long_source, tmp_path, tmp_path_factory, stopping, options, capsysbinary
):
    prefixes = tmp_path_factory.mktemp("prefixes") / "prefixes.txt"
    prefixes.write_text("".join(f"{'abcdeghi'[number % 8]}\n" for number in range(50)))
    options = [str(prefixes) if option == "PREFIXES" else option for option in options]
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
    assert main(resumable(loaded, long_source, output, *options)) == 4
    assert error_of(capsysbinary) == (
        f"error: {output}: 16 lines are translated with other settings: beam_size was 3, is 1; "
        f"format was text, is jsonl; give the same, {again}"
    )
    long_source.write_bytes(b"another\n" * 50)
    assert main(resumable(loaded, long_source, output, "--resume")) == 4
    assert error_of(capsysbinary) == (
        f"error: {output}: the first 16 lines of the input are not those that were translated; "
        f"give the same input, {again}"
    )


@pytest.mark.parametrize("part", ["configuration", "tokenizer", "weights"])
def test_another_model_does_not_go_on(
    loaded, translator, long_source, tmp_path, stopping, part, monkeypatch, capsysbinary
):
    output = tmp_path / "out.txt"
    stopping(20, KeyboardInterrupt())
    assert main(resumable(loaded, long_source, output)) == 130
    capsysbinary.readouterr()
    config, tokenizers, model = translator.config, translator.tokenizers, translator.models[0]
    if part == "configuration":
        config = config.model_copy(update={"seed": 2})
    elif part == "tokenizer":
        options = config.tokenizer.model_copy(update={"vocabulary_size": 30})
        tokenizers = train_tokenizers([Pair(1, "a dog", "a cat")], options)
    else:
        (weight,) = [each for name, each in model.named_weights().items() if "bias" in name][:1]
        monkeypatch.setattr(model, "named_weights", lambda: {"another": weight})
    other = Translator(config, tokenizers, model)
    monkeypatch.setattr(Translator, "load", lambda folder, **_: other)
    assert main(resumable(loaded, long_source, output, "--resume")) == 4
    assert re.fullmatch(
        f"error: {output}: 16 lines are translated with other settings: "
        f"{part} was [0-9a-f]{{16}}, is [0-9a-f]{{16}}; give the same, or delete .* to start again",
        error_of(capsysbinary),
    )


def test_other_products_do_not_go_on(
    loaded, translator, long_source, tmp_path, stopping, monkeypatch, capsysbinary
):
    """As on a machine that multiplies bfloat16, and `precision` is "auto"."""
    output = tmp_path / "out.txt"
    stopping(20, KeyboardInterrupt())
    assert main(resumable(loaded, long_source, output)) == 130
    capsysbinary.readouterr()
    elsewhere = {**translator.fingerprints, "precision": "bfloat16"}
    monkeypatch.setattr(Translator, "fingerprints", elsewhere)
    assert main(resumable(loaded, long_source, output, "--resume")) == 4
    assert "with other settings: precision was float32, is bfloat16; give" in error_of(capsysbinary)


def test_a_model_that_gets_better_while_it_is_loaded_is_known_by_what_was_loaded(
    model_folder, long_source, tmp_path, monkeypatch, capsysbinary
):
    model, output = tmp_path / "model", tmp_path / "out.txt"
    shutil.copytree(model_folder, model)
    load, search = Translator.load, Translator._search

    def load_and_train_on(folder, **options):
        found = load(folder, **options)
        weights = load_best_weights(model)
        weights["decoder/output_bias"] += 1.0
        save_checkpoint(model, Checkpoint(8, weights, optimizer={}, state={}))
        write_best(model, {"step": 8})
        return found

    def search_and_stop(translator, sentences, options):
        if sentences[0].number == 20:
            raise KeyboardInterrupt
        return search(translator, sentences, options)

    with monkeypatch.context() as patched:
        patched.setattr(Translator, "load", load_and_train_on)
        patched.setattr(Translator, "_search", search_and_stop)
        assert main(resumable(str(model), long_source, output)) == 130
    capsysbinary.readouterr()
    assert main(resumable(str(model), long_source, output, "--resume")) == 4
    assert "16 lines are translated with other settings: weights was " in error_of(capsysbinary)
    write_best(model, {"step": STEP})
    assert main(resumable(str(model), long_source, output, "--resume")) == 0
    whole = tmp_path / "whole.txt"
    assert main(resumable(str(model), long_source, whole)) == 0
    assert output.read_bytes() == whole.read_bytes()


def test_an_output_that_is_being_written_is_exit_code_7(
    not_loaded, long_source, tmp_path, capsysbinary
):
    output = tmp_path / "out.txt"
    with resumable_output(output, [], settings=dict, resume=False):
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
        ([str(long_source)], "needs --output: standard output cannot be resumed"),
        ([], "needs --output: standard output cannot be resumed"),
        (["-", "-o", output], "standard input cannot be read from the start again; name a file"),
        (
            [str(fifo), "-o", output],
            f"{fifo} is no regular file and cannot be read from the start again; name a file",
        ),
        (
            [str(long_source), "-o", output, "--prefix", str(fifo)],
            f"{fifo} is no regular file and cannot be read from the start again; name a file",
        ),
        (
            [str(long_source), "-o", "/dev/null"],
            "/dev/null is no regular file and cannot be resumed",
        ),
        (
            [str(long_source), "-o", str(fifo)],
            f"{fifo} is no regular file and cannot be resumed",
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


def test_output_that_is_not_a_number_ends_it_at_that_line(
    loaded, translator, source, monkeypatch, capsysbinary
):
    search = translator._search

    def search_or_fail(sentences, options):
        if any(sentence.number == 3 for sentence in sentences):
            raise NotANumberError("sentence 3: the model's output is not a number")
        return search(sentences, options)

    monkeypatch.setattr(translator, "_search", search_or_fail)
    assert main(["translate", loaded, str(source), "--batch-size", "1"]) == 4
    assert error_of(capsysbinary) == "error: sentence 3: the model's output is not a number"


def test_foreign_text_is_warned_about(loaded, tmp_path, capsysbinary):
    source = tmp_path / "source.txt"
    source.write_text("\u732b\u304c\u3044\u308b\n", encoding="utf-8")
    assert main(["translate", loaded, str(source)]) == 0
    warning = output_of(capsysbinary)[1].splitlines()[1]
    assert warning.startswith("warning: the model does not know ")
    assert warning.endswith("is the input in the language it was trained on?")
