"""`seq2seq translate --resume` as a process that is killed: no line lost, none twice."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest
from model_fixtures import SENTENCES

from seq2seq.cli import main
from seq2seq.translator import Translator

LINES = 3000
MODEL = "import sys; from seq2seq.cli import main; sys.exit(main())"
# In place of a model: starts at once, and says of each line which number it had, and what window
# it was translated in.
STAND_IN = """
import sys, time
from pathlib import Path
from seq2seq.cli import main
from seq2seq.config_file import load_model_config
from seq2seq.tokenizer import TokenizerPair
from seq2seq.translation import END, Details
from seq2seq.translator import Hypothesis, Translation, Translator

NOTHING = Details([END], [], [], None)

class StandIn(Translator):
    fingerprints = {}

    def _translate_window(self, requests, options, *, first_number):
        time.sleep(0.003)
        window = f"{first_number}+{len(requests)}"
        return [
            Translation(text, [Hypothesis(f"{number} of {window}: {text}", 0.0, 0.0, [], False,
                                          explain=lambda: NOTHING)])
            for number, (text, *_) in enumerate(requests, first_number)
        ]

def load(folder, ensemble=()):
    tokenizers = TokenizerPair.load(Path(folder) / "tokenizer")
    return StandIn(load_model_config(Path(folder)), tokenizers, None)

Translator.load = load
sys.exit(main())
"""


@pytest.fixture
def source(tmp_path):
    """A file of 3,000 lines, no two alike."""
    path = tmp_path / "source.txt"
    lines = [f"{SENTENCES[number % 8]} {number * 7919 % 3001}" for number in range(LINES)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def arguments_for(model_folder, source, output, *options):
    return [
        *("translate", str(model_folder), str(source), "-o", str(output), "--resume"),
        *("--batch-size", "2", "--beam-size", "1", "--format", "jsonl", *options),
    ]


def started(code, arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def partial_of(output):
    return output.with_name(f".{output.name}.partial")


def journal_of(output):
    return output.with_name(f".{output.name}.journal")


def lines_kept(output):
    """How many lines the journal says are done."""
    if not partial_of(output).exists():
        return 0
    marks = journal_of(output).read_bytes().split(b"\n")[1:-1]
    return json.loads(marks[-1])["lines"] if marks else 0


def wait_until(condition, process):
    """Returns when the condition holds; fails if the process ends before."""
    while not condition():
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.001)


def wait_for_lines(process, output):
    """Returns when the process has written some, or has ended."""

    def size():
        return partial_of(output).stat().st_size if partial_of(output).exists() else 0

    least = size()
    while process.poll() is None and size() <= least:
        least = min(least, size())  # the file is cut to where the run goes on
        time.sleep(0.001)


def kill_again_and_again(code, arguments, output, *, expected, kills, longest):
    """Kills runs at random moments; whenever one is faster, and at the end, compares its output.

    Args:
        longest: Seconds of translating until a run is killed, at most.
    """
    draw = random.Random(kills)
    kept, finished = [], 0
    while len(kept) < kills:
        process = started(code, arguments)
        if draw.random() < 0.8:  # others are killed while they start
            wait_for_lines(process, output)
        time.sleep(draw.uniform(0, longest))
        process.kill()
        errors = process.communicate()[1].decode()
        if process.returncode:
            assert process.returncode == -signal.SIGKILL, errors
            kept.append(lines_kept(output))
        if output.exists():
            check_finished(output, expected)
            finished += 1
    before = f", {lines_kept(output):,} of them before" if lines_kept(output) else ""
    process = started(code, arguments)
    errors = process.communicate()[1].decode()
    assert process.returncode == 0, errors
    lines = expected.count(b"\n")
    assert f"{lines:,} lines translated{before}, " in errors
    assert not journal_of(output).exists()
    check_finished(output, expected)
    print(f"{kills} kills, {finished + 1} outputs alike; lines kept at each: {kept}")


def check_finished(output, expected):
    """Checks an output and deletes it; a journal without a partial file may be beside it."""
    assert output.read_bytes() == expected
    assert not partial_of(output).exists()
    output.unlink()


@pytest.mark.parametrize("kills", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_however_often_it_is_killed_no_line_is_lost_or_doubled(
    model_folder, source, tmp_path, kills
):
    output = tmp_path / "out.txt"
    arguments = arguments_for(model_folder, source, output)
    errors = started(STAND_IN, arguments).communicate()[1].decode()
    assert output.exists(), errors
    expected = output.read_bytes()
    output.unlink()
    texts = [json.loads(line)["hypotheses"][0]["text"] for line in expected.decode().splitlines()]
    lines = source.read_text(encoding="utf-8").split("\n")
    assert texts == [
        f"{number} of {number - (number - 1) % 32}+{32 if number <= 2976 else 24}: {line}"
        for number, line in enumerate(lines, start=1)
    ]
    kill_again_and_again(STAND_IN, arguments, output, expected=expected, kills=kills, longest=0.3)


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_model_that_is_killed_goes_on_to_the_same_scores(
    model_folder, translator, source, tmp_path, monkeypatch, kills
):
    output = tmp_path / "out.txt"
    source.write_bytes(b"".join(source.read_bytes().splitlines(keepends=True)[:160]))
    arguments = arguments_for(model_folder, source, output)
    with monkeypatch.context() as patched:
        patched.setattr(Translator, "load", lambda folder, ensemble: translator)
        assert main(arguments) == 0
    expected = output.read_bytes()
    output.unlink()
    assert expected.count(b"\n") == 160
    kill_again_and_again(MODEL, arguments, output, expected=expected, kills=kills, longest=0.5)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_keeps_what_is_done_and_says_so(
    model_folder, source, tmp_path, number, code, word
):
    output = tmp_path / "out.txt"
    process = started(STAND_IN, arguments_for(model_folder, source, output))
    wait_until(lambda: lines_kept(output), process)
    process.send_signal(number)
    out, errors = process.communicate()
    assert process.returncode == code
    assert out == b""
    assert errors.decode().splitlines() == [
        word,
        f"{output}: {lines_kept(output):,} lines are translated and kept; --resume goes on there",
    ]


def test_a_signal_before_anything_is_done_leaves_nothing(model_folder, source, tmp_path):
    output = tmp_path / "out.txt"
    slow = STAND_IN.replace("time.sleep(0.003)", "time.sleep(60)")
    process = started(slow, arguments_for(model_folder, source, output))
    wait_until(partial_of(output).exists, process)
    process.terminate()
    _, errors = process.communicate()
    assert (process.returncode, errors) == (143, b"terminated\n")
    assert list(tmp_path.iterdir()) == [source]
