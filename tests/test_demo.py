import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

import pytest
import typer

from seq2seq import demo
from seq2seq.cli import app
from seq2seq.config_file import load_config
from seq2seq.demo import DemoResult, demo_config, next_commands, render, run_demo
from seq2seq.demo_corpus import write_corpus
from seq2seq.errors import StorageError, UsageError
from seq2seq.evaluation import Score
from seq2seq.training import train
from seq2seq.translator import Hypothesis, Translation, Translator


@pytest.fixture
def result():
    return DemoResult(
        bleu=Score("BLEU", 97.512, "nrefs:1|case:mixed"),
        sources=["It rains.", "It snows."],
        translations=["Es regnet.", "Es schneit heute."],
        references=["Es regnet.", "Es schneit."],
    )


class Parrot:
    """Translates every test sentence as the corpus does, but for the first: that stays English."""

    def __init__(self, corpus):
        sources = (corpus / "test.en").read_text(encoding="utf-8").split("\n")[:-1]
        targets = (corpus / "test.de").read_text(encoding="utf-8").split("\n")[:-1]
        self.known = dict(zip(sources, targets, strict=True)) | {sources[0]: sources[0]}

    def translate(self, texts):
        return [
            Translation(text, [Hypothesis(self.known[text], 0.0, 0.0, [], False)]) for text in texts
        ]


@pytest.fixture
def untrained(monkeypatch):
    """A demo whose training only takes notes and whose translator knows the test set."""
    trained = []
    monkeypatch.setattr(demo, "_train", lambda config, folder: trained.append((config, folder)))
    monkeypatch.setattr(demo, "write_corpus", partial(write_corpus, train=300))
    monkeypatch.setattr(Translator, "load", lambda folder: Parrot(folder.parent / "corpus"))
    return trained


def test_demo_trains_on_the_corpus_that_it_wrote(untrained, tmp_path):
    run_demo(tmp_path / "demo")
    [(config, folder)] = untrained
    assert folder == tmp_path / "demo" / "model"
    assert config.data.train_source == [tmp_path / "demo" / "corpus" / "train.en"]
    for path in (*config.data.train_target, config.data.validation_source):
        assert path.stat().st_size > 10_000
    assert load_config(tmp_path / "demo" / "demo.toml") == config


def test_demo_scores_the_translations_of_the_test_set(untrained, tmp_path, capsys):
    result = run_demo(tmp_path / "demo")
    # All but one of 500 sentences are right: not 100, yet close to it.
    assert result.exact == len(result.sources) - 1 == 499
    assert 99 < result.bleu.value < 100
    printed = capsys.readouterr()
    assert f"BLEU {result.bleu.value:.2f}  {result.bleu.signature}\n" in printed.out
    assert printed.out == render(result, tmp_path / "demo")


def test_demo_tells_its_progress_on_stderr_only(untrained, tmp_path, capsys):
    run_demo(tmp_path / "demo")
    printed = capsys.readouterr()
    assert f"{tmp_path / 'demo' / 'corpus'}: writing" in printed.err
    assert re.search(r"done in \d+ s\n$", printed.err)
    assert "writing" not in printed.out
    assert "done in" not in printed.out


def test_results_name_score_signature_and_words_of_both(result, tmp_path):
    lines = render(result, tmp_path).split("\n")
    assert lines[:2] == [
        "BLEU 97.51  nrefs:1|case:mixed",
        "1 of 2 held-out sentences translated word for word as expected",
    ]
    assert lines[7:10] == [
        "source       It snows.",
        "translation  Es schneit heute.",
        "reference    Es schneit.",
    ]


def test_five_translations_are_shown_of_many(result, tmp_path):
    many = result._replace(
        sources=[f"Sentence {number}." for number in range(9)],
        translations=["Satz."] * 9,
        references=["Satz."] * 9,
    )
    text = render(many, tmp_path)
    assert text.count("source  ") == text.count("translation  ") == text.count("reference  ") == 5


@pytest.mark.parametrize("found", [None, "/bin/seq2seq"])
def test_an_environment_that_is_not_active_is_made_so_first(result, found, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: found)
    monkeypatch.setattr(sys, "prefix", "/my/.venv")
    _, printed = render(result, tmp_path).split("what to type next:\n")
    first = "  . /my/.venv/bin/activate\n" if found is None else ""
    assert printed == first + "".join(f"  {each}\n" for each in next_commands(tmp_path))


def test_commands_to_type_next_are_commands_of_this_package(tmp_path):
    commands = [each.split(" | ")[-1] for each in next_commands(tmp_path / "my demo")]
    assert [shlex.split(each)[:2] for each in commands] == [
        ["seq2seq", "translate"],
        ["seq2seq", "evaluate"],
        ["seq2seq", "train"],
    ]
    group = typer.main.get_command(app)
    for command in commands:
        _, name, *arguments = shlex.split(command)
        group.commands[name].make_context(name, arguments)  # raises for what it does not know


def test_commands_to_type_next_name_files_of_the_demo(untrained, tmp_path):
    folder = tmp_path / "my demo"
    run_demo(folder)
    words = {word for each in next_commands(folder) for word in shlex.split(each)}
    for name in ("corpus/test.en", "corpus/test.de", "demo.toml"):
        assert str(folder / name) in words
        assert (folder / name).is_file()
    assert {str(folder / "model"), str(folder / "longer")} <= words


def test_configuration_has_its_paths_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = demo_config(tmp_path.relative_to(tmp_path) / "demo").data
    assert data.train_target == [tmp_path / "demo" / "corpus" / "train.de"]
    assert data.validation_target == tmp_path / "demo" / "corpus" / "validation.de"


def test_demo_configuration_can_be_changed_as_its_last_command_does(untrained, tmp_path):
    run_demo(tmp_path)
    *_, option, override = shlex.split(next_commands(tmp_path)[-1])
    assert option == "--set"
    longer = load_config(tmp_path / "demo.toml", [override])
    raw = tomllib.loads((tmp_path / "demo.toml").read_text(encoding="utf-8"))
    assert longer.training.max_epochs > raw["training"]["max_epochs"]


def test_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "demo").write_text("a file")
    with pytest.raises(StorageError, match="demo/corpus: cannot be written: Not a directory"):
        run_demo(tmp_path / "demo")


def test_what_the_demo_did_not_write_is_not_overwritten(untrained, tmp_path):
    (tmp_path / "demo.toml").mkdir()
    with pytest.raises(StorageError, match=r"demo\.toml: cannot be read: Is a directory"):
        run_demo(tmp_path)
    (tmp_path / "demo.toml").rmdir()
    run_demo(tmp_path)
    run_demo(tmp_path)  # what it did write is no hindrance
    assert len(untrained) == 2
    for name in ("demo.toml", "corpus/train.de"):
        path, before = tmp_path / name, (tmp_path / name).read_bytes()
        other = tmp_path / "corpus" / "validation.en"
        other.unlink(missing_ok=True)
        path.write_bytes(b"mine\n")
        message = rf"{name}: is there already, and not as the demo writes it; rename it, or name an"
        with pytest.raises(UsageError, match=message):
            run_demo(tmp_path)
        assert path.read_bytes() == b"mine\n"
        assert not other.exists()  # found before anything was written
        path.write_bytes(before)
    assert len(untrained) == 2


def typed(command):
    """What `command` prints on stdout, in a shell that finds this installation first."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        shell=True,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PATH": programs},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_demo_translates_held_out_sentences_and_its_commands_work(tmp_path):
    folder = tmp_path / "my demo"
    printed = typed(f"seq2seq demo --output {shlex.quote(str(folder))}")
    score, signature = re.match(r"BLEU (\S+)  (\S+)\n", printed).groups()
    assert float(score) >= 95
    translate, evaluate, train = next_commands(folder)
    # A sentence that the test set need not have.
    assert typed(translate) == "Gestern hat meine Schwester einen roten Hut gekauft.\n"
    assert re.match(r"BLEU +(\S+)  (\S+)\n", typed(evaluate)).groups() == (score, signature)
    assert typed(f"{train} --set training.max_steps=2") == ""
    assert (folder / "longer" / "best.json").is_file()
    # Complete, so not trained again.
    metrics = (folder / "model" / "metrics.jsonl").read_bytes()
    assert typed(f"seq2seq demo --output {shlex.quote(str(folder))}") == printed
    assert (folder / "model" / "metrics.jsonl").read_bytes() == metrics


@pytest.mark.slow
def test_300_steps_on_the_demo_corpus_cost_the_same_loss_in_both_precisions(tmp_path):
    """The mean of three seeds: one run alone is up to 3 % off either way, seeds differ by 40 %."""
    write_corpus(tmp_path / "corpus")
    config = demo_config(tmp_path)
    training = config.training.model_copy(update={"max_steps": 300})
    losses = {"float32": 0.0, "bfloat16": 0.0}
    for precision, seed in itertools.product(losses, (1, 2, 3)):
        folder = tmp_path / f"{precision}-{seed}"
        changes = {"precision": precision, "seed": seed, "training": training}
        train(config.model_copy(update=changes), folder)
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        records = [json.loads(line) for line in lines]
        last = [each["loss"] for each in records if each["split"] == "train"][-3:]
        losses[precision] += sum(last) / len(last)  # nats a token over the last 60 steps
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
