import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from cli_fixtures import error_of, output_of

from seq2seq import cli
from seq2seq.cli import main
from seq2seq.errors import (
    StorageError,
)
from seq2seq.streams import LineOutput
from seq2seq.text_tokenizer import load_text_tokenizer
from seq2seq.worker_place import Place

# --- help and wrong usage -------------------------------------------------------------------------


def test_help_lists_the_commands(capsysbinary):
    assert main(["--help"]) == 0
    lines, errors = output_of(capsysbinary)
    listed = [line.split()[0] for line in lines[lines.index("Commands:") + 1 :]]
    assert listed == [
        *(
            "train",
            "translate",
            "attention",
            "score",
            "evaluate",
            "generate",
            "inspect",
            "average",
            "export",
            "demo",
        )
    ]
    assert errors == ""


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("demo", "--output"),
        ("train", "--output --set --resume --overwrite --init --device --workers --worker-index"),
        (
            "translate",
            "-o --output --resume --beam-size --n-best --length-penalty --length-formula "
            "--coverage-penalty "
            "--min-length --max-length --min-length-ratio --max-length-ratio --no-repeat-ngram "
            "--repetition-penalty --ban --prefix --constraints --ensemble "
            "--batch-size --batch-tokens --sample "
            "--temperature --top-k --top-p --seed --format --alignment --on-bad-utf8 "
            "--engine --address --workers",
        ),
        ("generate", "--prime --length --temperature --top-k --top-p --seed --samples"),
        ("attention", "-o --output --target --beam-size"),
        ("score", "--source --target"),
        (
            "evaluate",
            "--source --reference --hypothesis --baseline --lowercase --report --format",
        ),
        ("inspect", ""),
        ("average", "--output --last"),
        ("export", "--version --beam-size --length-penalty --max-length --verify"),
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
        (["translate", "m", "a", "b"], "error: --address, --workers and several inputs: need"),
        (["inspect", "m", "a"], "error: Got unexpected extra argument"),
        (["translate", "m", "--beam-size", "x"], "error: Invalid value for '--beam-size'"),
        (["translate", "m", "--format", "xml"], "error: Invalid value for '--format'"),
        (["score", "m", "--source", "a"], "error: Missing option '--target'"),
        (["evaluate", "--hypothesis", "h"], "error: evaluate: needs --reference, the transl"),
        (["train", "c.toml", "--device", "tpu"], "error: Invalid value for '--device'"),
        (["average", "m"], "error: Missing option '--output'; see seq2seq average --help"),
        (["average", "m", "--output", "d", "--last", "1"], "error: last: got 1, expected a whole"),
        (["evaluate", "--reference", "r", "--source", "s"], "error: evaluate: needs either --hypo"),
        (
            ["attention", "m", "a", "-o", "a.png", "--target", "b", "--beam-size", "2"],
            "error: --beam-size: has no effect with --target; leave out one or the other",
        ),
        (
            [
                "evaluate",
                "--reference",
                "r",
                "--hypothesis",
                "h",
                "--baseline",
                "b",
                "--format",
                "jsonl",
            ],
            "error: --baseline: has no effect with --format jsonl, which has no comparison; add",
        ),
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


@pytest.mark.parametrize("command", ["translate", "inspect"])
def test_a_folder_that_is_no_model_is_exit_code_4(command, tmp_path, capsysbinary):
    assert main([command, str(tmp_path)]) == 4
    assert error_of(capsysbinary).endswith("not a model folder: no config.toml in it")


# --- score ----------------------------------------------------------------------------------------


def test_score_prints_a_number_a_line(loaded, translator, tmp_path, capsysbinary):
    sources, targets = ["a dog", "", "a cat sleeps"], ["a bird", "b", ""]
    for name, lines in (("source", sources), ("target", targets)):
        (tmp_path / name).write_bytes("\n".join(lines).encode() + b"\n")
    files = ["--source", str(tmp_path / "source"), "--target", str(tmp_path / "target")]
    assert main(["score", loaded, *files]) == 0
    lines, errors = output_of(capsysbinary)
    expected = translator.score(sources, targets)
    assert [float(line) for line in lines] == pytest.approx(expected, rel=1e-4)
    assert errors == ""


def test_score_tells_of_sources_that_were_cut(loaded, translator, tmp_path, capsysbinary):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("a dog\n" + "dog " * 30 + "\n")
    target.write_text("a\na\n")
    assert main(["score", loaded, "--source", str(source), "--target", str(target)]) == 0
    lines, errors = output_of(capsysbinary)
    assert len(lines) == 2
    assert errors.startswith(f"warning: {source}: 1 lines are longer than what the model was train")
    assert errors.endswith("and only their first 23 pieces were read\n")


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


def test_evaluate_compares_two_systems_and_writes_a_report(source, tmp_path, capsysbinary):
    page = tmp_path / "report.html"
    hypothesis, baseline = tmp_path / "hypothesis", tmp_path / "baseline"
    lines = source.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    hypothesis.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    baseline.write_text("".join(f"x{line}\n" for line in lines), encoding="utf-8")
    given = ["evaluate", "--reference", str(source), "--hypothesis", str(hypothesis)]
    given += ["--baseline", str(baseline), "--report", str(page), "--format", "json"]
    assert main(given) == 0
    (line,), _ = output_of(capsysbinary)
    compared = json.loads(line)["comparison"]
    assert compared[1]["value"] > compared[1]["baseline"]
    assert "<h2>Beside the baseline</h2>" in page.read_text(encoding="utf-8")
    assert main(given) == 2  # the report is there: nothing is replaced
    assert "report.html: exists already" in output_of(capsysbinary)[1]
    assert main([*given[:5], "--format", "jsonl"]) == 0
    assert len(output_of(capsysbinary)[0]) == len(lines)


def test_what_a_report_needs_is_looked_for_before_translating(
    not_loaded, source, tmp_path, capsysbinary, monkeypatch
):
    given = ["evaluate", not_loaded, "--source", str(source), "--reference", str(source)]
    page = tmp_path / "missing" / "report.html"
    assert main([*given, "--report", str(page)]) == 5
    assert error_of(capsysbinary) == f"error: {page}: cannot be written: {page.parent} is no folder"
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([*given, "--report", str(tmp_path / "report.html")]) == 2
    assert error_of(capsysbinary).startswith("error: pictures need matplotlib: pip install")


def test_scores_are_printed_whatever_becomes_of_the_report(
    source, tmp_path, capsysbinary, monkeypatch
):
    def full(path, content):
        raise StorageError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(cli, "write_new", full)
    page = tmp_path / "report.html"
    given = ["evaluate", "--hypothesis", str(source), "--reference", str(source)]
    assert main([*given, "--report", str(page)]) == 5
    lines, errors = output_of(capsysbinary)
    assert lines[0].startswith("BLEU  100.00")
    assert errors == f"error: {page}: cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04", b"\x89HDF\r\n", b"\x80\x04}", b"\x93NUMPY", b"[data]\n"]
)
@pytest.mark.parametrize("command", ["translate", "generate", "inspect"])
def test_a_file_is_no_model_whatever_is_in_it(command, content, tmp_path, capsysbinary):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    assert main([command, str(path)]) == 4
    line = error_of(capsysbinary)
    assert line == f"error: {path}: not a model folder: no config.toml in it"


def test_marked_hypotheses_are_warned_about_on_stderr(source, tmp_path, capsysbinary):
    hypothesis = tmp_path / "hypothesis"
    hypothesis.write_text("a do@@ g\nb\nc\nd\ne\n", encoding="utf-8")
    given = ["evaluate", "--reference", str(source), "--hypothesis", str(hypothesis)]
    assert main(given) == 0
    lines, errors = output_of(capsysbinary)
    assert len(lines) == 5
    assert errors.startswith(f"warning: {hypothesis}: 1 of 5 lines have subword marks")


# --- language models ------------------------------------------------------------------------------


def test_generate_writes_the_beginning_and_what_follows(writing, language_model, capsysbinary):
    options = ["--length", "30", "--temperature", "0.8", "--top-k", "5", "--seed", "3"]
    assert main(["generate", writing, "--prime", "a dog", *options]) == 0
    captured = capsysbinary.readouterr()
    (expected,) = language_model.generate("a dog", length=30, temperature=0.8, top_k=5, seed=3)
    assert captured.out.decode() == f"a dog{expected}\n"
    assert captured.err == b""


def test_generate_writes_as_it_draws(writing, monkeypatch):
    written = []
    monkeypatch.setattr(LineOutput, "write", lambda self, text: written.append(text))
    assert main(["generate", writing, "--length", "40"]) == 0
    assert len(written) > 4


def test_samples_are_parted_by_a_line_of_dashes(writing, language_model, capsysbinary):
    assert main(["generate", writing, "--length", "9", "--samples", "3", "--top-p", "0.9"]) == 0
    texts = language_model.generate("", length=9, samples=3, top_p=0.9)
    expected = ("\n" + "-" * 20 + "\n").join(texts) + "\n"
    assert capsysbinary.readouterr().out.decode() == expected


def test_unknown_characters_of_a_beginning_are_warned_about(writing, capsysbinary):
    assert main(["generate", writing, "--prime", "aЖ♥Ж", "--length", "3"]) == 0
    assert capsysbinary.readouterr().err.decode() == (
        "warning: --prime: the model does not know 'Ж' '♥', and reads them as unknown\n"
    )


def test_generate_refuses_what_is_out_of_range(writing, capsysbinary):
    assert main(["generate", writing, "--length", "0"]) == 2
    assert error_of(capsysbinary) == "error: length: got 0, expected a whole number of 1 or more"


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("evaluate LM --source s --reference r", 2, "is a language model: takes --source and --f"),
        ("translate LM", 4, "is a language model; generate and evaluate take it, this needs a"),
        ("score LM --source s --target t", 4, "is a language model; generate and evaluate"),
        ("generate TRANSLATOR", 4, "is a translator; translate, score and evaluate take it"),
    ],
)
def test_each_command_says_which_kind_of_model_it_needs(
    language_model_folder, model_folder, command, code, message, capsysbinary
):
    folders = {"LM": str(language_model_folder), "TRANSLATOR": str(model_folder)}
    assert main([folders.get(word, word) for word in command.split()]) == code
    assert message in error_of(capsysbinary)


def test_inspect_describes_a_language_model(language_model_folder, capsysbinary):
    assert main(["inspect", str(language_model_folder)]) == 0
    lines, _ = output_of(capsysbinary)
    size = load_text_tokenizer(language_model_folder / "tokenizer").vocabulary_size
    assert f"  {size} symbols (character)" in lines


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

    def train(config, folder, *, resume, overwrite, init, place):
        calls.append((config, folder, resume, overwrite, init, place))
        best = {"step": 1200, "bleu": 31.25, "signature": "nrefs:1|tok:13a"}
        return SimpleNamespace(
            folder=folder, steps=1500, seconds=61.2, best=best, headline="BLEU 31.25"
        )

    training = ModuleType("seq2seq.training")
    training.train = train
    monkeypatch.setitem(sys.modules, "seq2seq.training", training)

    def start_tensorflow(device, *, shards):
        assert shards == 2
        calls.append(device)

    monkeypatch.setattr("seq2seq.runtime.start_tensorflow", start_tensorflow)
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
    assert call == [folder, True, False, None, None]
    lines, errors = output_of(capsysbinary)
    assert lines == []
    assert errors == (
        f"{folder}: 1,500 steps in 61 s; best: BLEU 31.25 at step 1,200 (nrefs:1|tok:13a)\n"
    )


@pytest.mark.parametrize(
    ("best", "told"),
    [
        ({"step": 9}, "the newest weights are the model, as nothing was validated"),
        ({}, "the model is where the first worker writes it"),
    ],
)
def test_train_tells_what_the_model_is_where_nothing_was_validated(
    trained, config_file, monkeypatch, capsysbinary, best, told
):
    result = SimpleNamespace(folder=Path("m"), steps=9, seconds=2.0, best=best, headline="")
    monkeypatch.setattr(sys.modules["seq2seq.training"], "train", lambda *_, **__: result)
    assert main(["train", str(config_file)]) == 0
    assert output_of(capsysbinary)[1] == f"m: 9 steps in 2 s; {told}\n"


def test_train_writes_to_runs_unless_told_otherwise(trained, config_file):
    assert main(["train", str(config_file), "--overwrite"]) == 0
    assert trained[0] == "auto"
    assert trained[1][1:] == (cli.Path("runs/toy"), False, True, None, None)


def test_train_is_told_which_worker_it_is(trained, config_file):
    workers = ["--workers", "a:1,b:2", "--worker-index", "1"]
    assert main(["train", str(config_file), *workers]) == 0
    assert trained[1][-1] == Place(("a:1", "b:2"), 1)


def test_train_begins_with_another_model(trained, model_folder, tmp_path):
    config = str(model_folder / "config.toml")
    options = ["--init", str(model_folder), "--set", "model.dropout=0.5", "--overwrite"]
    assert main(["train", config, "--output", str(tmp_path / "new"), *options]) == 0
    assert trained[1][1:] == (tmp_path / "new", False, True, model_folder, None)


def test_a_model_of_no_use_to_begin_with_is_told_of_before_tensorflow_starts(
    trained, config_file, model_folder, language_model_folder, tmp_path, capsysbinary
):
    command, own = ["train", str(config_file), "--init"], str(model_folder / "config.toml")
    assert main([*command, str(tmp_path)]) == 4
    assert "not a model folder: no config.toml in it" in error_of(capsysbinary)
    assert main([*command, str(language_model_folder)]) == 2
    assert error_of(capsysbinary) == (
        f"error: --init {language_model_folder}: is of task 'language-model', and task is "
        "'translation' in the configuration; weights of one are of no use for the other"
    )
    assert main([*command, str(model_folder), "--resume"]) == 2
    assert error_of(capsysbinary) == (
        "error: --resume and --init: give one of them: --resume goes on from what is in the "
        f"folder, which needs {model_folder} no more"
    )
    changes = ["--set", "model.decoder_units=16", "--set", "model.attention=none"]
    assert main(["train", own, "--init", str(model_folder), *changes]) == 2
    assert error_of(capsysbinary) == (
        f"error: --init {model_folder}: its weights are of another model: model.decoder_units is "
        "16, and 12 there; model.attention is 'none', and 'luong' there; set them as they are there"
    )
    named = ["--set", "tokenizer.source_model=s", "--set", "tokenizer.target_model=t"]
    assert main(["train", own, "--init", str(model_folder), *named]) == 2
    assert error_of(capsysbinary) == (
        "error: tokenizer.source_model and tokenizer.target_model: cannot be used with --init, "
        f"which takes the tokenizer of {model_folder}; leave out one or the other"
    )
    assert trained == []


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
    command = [sys.executable, "-m", "seq2seq", *arguments]
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


def test_translating_for_a_reader_that_left_is_exit_code_141_without_a_word(model_folder, source):
    with process(["translate", str(model_folder), str(source), "--beam-size", "1"]) as translating:
        translating.stdout.close()
        assert translating.wait() == 141
        assert translating.stderr.read() == b""


def test_a_plain_locale_changes_nothing(model_folder):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = ["translate", str(model_folder), "--format", "jsonl", "--beam-size", "1"]
    with process(command, env=environment) as running:
        out, errors = running.communicate("b\u00e4r\r\n\u732b\n".encode())
    assert running.returncode == 0
    records = [json.loads(line) for line in out.decode("utf-8").split("\n")[:-1]]
    assert [record["source"] for record in records] == ["b\u00e4r", "\u732b"]
    # TensorFlow starts without a word.
    summary, warning = errors.decode("ascii").splitlines()
    assert summary.startswith("2 lines translated, 0 of them blank; ")
    assert warning.startswith("warning: the model does not know ")
