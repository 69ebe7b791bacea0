"""As many lines out as in, whatever is in them, and each the translation of its own line.

Which lines a file has, and what text each is, is worked out here without the reader under test.
"""

import io
import os
import random
import sys
import unicodedata
from typing import ClassVar

import pytest
from model_fixtures import SENTENCES

from seq2seq import streams
from seq2seq.cli import main
from seq2seq.translator import Hypothesis, Translator

MARK = b"\xef\xbb\xbf"
LONGEST = 1 << 20  # bytes of a line that are read
PARTS = [b"\n", b"\n", b"\n", b"\r\n", b"\r", "\x85".encode(), "\u2028".encode(), b"\v", b"\f"]
PARTS += [MARK, b"\n\n", b" ", b"\t", "\u3000".encode(), "ä".encode(), "\U0001f642".encode()]
PARTS += [sentence.encode() for sentence in SENTENCES]
NUL, LONG = b"\0", b"a dog " * (LONGEST // 5)


def random_content(draw):
    """The bytes of a file; one in ten has a NUL, one in 500 a line over 1 MB."""
    parts = draw.choices(PARTS, k=draw.randrange(60))
    for part, share in ((NUL, 0.1), (LONG, 0.002)):
        if draw.random() < share:
            parts.insert(draw.randint(0, len(parts)), part)
    return b"".join(parts)


def expected_texts(content):
    """The text of each line that comes before the first NUL, and whether there is one."""
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()  # the file is empty, or what comes before the last LF is the last line
    texts = []
    for line in lines:
        line = line[:LONGEST]
        if NUL in line:
            return texts, True
        line = line if texts else line.removeprefix(MARK)
        text = line.removesuffix(b"\r").decode("utf-8", "ignore")  # it may be cut in a character
        separators = ("Cc", "Zl", "Zp")
        texts.append("".join(" " if unicodedata.category(c) in separators else c for c in text))
    return texts, False


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"", []),
        (MARK, [""]),
        (MARK + b"\n" + MARK, ["", "\ufeff"]),
        (b"a\r\n\rb\r\n", ["a", " b"]),
        (b"a\0\nb", []),
        (b"x" * LONGEST + b"y", ["x" * LONGEST]),
    ],
)
def test_the_expected_texts_are_those_worked_out_by_hand(content, texts):
    assert expected_texts(content)[0] == texts


class StandIn(Translator):
    """Tells in place of a translation which ids it is of, and of which line."""

    fingerprints: ClassVar[dict[str, str]] = {}

    def _search(self, sentences, options):
        return [[Hypothesis(f"{s.number} {s.ids}", 0.0, 0.0, [], False)] for s in sentences]


@pytest.fixture
def runner(monkeypatch, model_folder, tmp_path):
    """Runs the command on bytes, in one of four ways: exit code and output, None if there is none.

    Ways 0 and 1 read a file, 2 and 3 standard input; 0 and 2 write to standard output.
    """
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power fails here

    def run(content, *, way, batch_size, resume=False):
        output.unlink(missing_ok=True)
        source.write_bytes(content)
        arguments = ["translate", str(model_folder), str(source) if way < 2 else "-"]
        arguments += ["--batch-size", str(batch_size), "--beam-size", "1"]
        arguments += ["-o", str(output)] * (way % 2) + ["--resume"] * resume
        stdout = io.TextIOWrapper(io.BytesIO())
        with source.open("rb") as stdin, monkeypatch.context() as patched:
            patched.setattr(streams, "_STDIN", stdin.fileno())
            patched.setattr(sys, "stdout", stdout)
            patched.setattr(sys, "stderr", io.StringIO())
            code = main(arguments)
        if way % 2 == 0:
            return code, stdout.buffer.getvalue()
        assert stdout.buffer.getvalue() == b""
        return code, output.read_bytes() if output.exists() else None

    return run


def check_parity(seed, runner, translator):
    """Translates one random file; how many lines it has."""
    draw = random.Random(seed)
    content, way, batch_size = random_content(draw), draw.randrange(4), draw.choice([1, 1, 2, 64])
    texts, has_nul = expected_texts(content)
    code, out = runner(content, way=way, batch_size=batch_size)
    if has_nul:
        assert code == 3
    if has_nul and way == 1:  # what is done is kept; the rest comes when the line is corrected
        assert out is None
        content = content.replace(NUL, b"\t")
        texts, _ = expected_texts(content)
        code, out = runner(content, way=way, batch_size=batch_size, resume=True)
        assert code == 0
    elif has_nul and way == 3:
        assert out is None
        return 0
    assert has_nul or code == 0
    lines = out.decode("utf-8").split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(texts)
    for number, (line, text) in enumerate(zip(lines, texts, strict=True), start=1):
        (alone,) = translator.translate_iter([text], first_number=number, beam_size=1)
        assert line == alone.text
    return len(lines)


def test_each_line_comes_out_as_if_alone(runner, translator, monkeypatch):
    monkeypatch.setattr(Translator, "load", lambda folder, ensemble: translator)
    assert sum(check_parity(seed, runner, translator) for seed in range(30)) > 100


@pytest.mark.parametrize("files", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_each_line_goes_to_the_model_as_if_alone(runner, translator, monkeypatch, files):
    stand_in = StandIn(translator.config, translator.tokenizers, model=None)
    monkeypatch.setattr(Translator, "load", lambda folder, ensemble: stand_in)
    lines = sum(check_parity(seed, runner, stand_in) for seed in range(files))
    print(f"{files:,} files, {lines:,} lines in and out")
    assert lines > 5 * files  # some have none
