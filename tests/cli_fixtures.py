"""What tests of commands have in common: a model that is there at once, input, output."""

import os

import pytest
from model_fixtures import SENTENCES

from seq2seq import streams
from seq2seq.generator import LanguageModel
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
def writing(monkeypatch, language_model, language_model_folder):
    """The folder's name of a language model; loading it takes no time."""
    monkeypatch.setattr(LanguageModel, "load", lambda folder: language_model)
    return str(language_model_folder)


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
    monkeypatch.setattr(streams, "_STDIN", read_end)
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
