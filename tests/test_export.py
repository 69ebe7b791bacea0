"""Versions that servers can take up: whole, verified, never replaced."""

import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_fixtures import error_of, output_of
from model_fixtures import SENTENCES

from seq2seq import export as export_module
from seq2seq.cli import main
from seq2seq.durable_files import locked
from seq2seq.errors import LockedError, ModelError, StorageError, UsageError
from seq2seq.export import export
from seq2seq.search_options import search_options
from seq2seq.translation_graph import TranslationGraph
from seq2seq.translator import Translator

# What a user's script has: TensorFlow and tensorflow-text. `None` makes an import fail.
USE = """
import json, sys
sys.modules["seq2seq"] = sys.modules["sentencepiece"] = None
import tensorflow as tf
import tensorflow_text

model = tf.saved_model.load(sys.argv[1])
texts = tf.constant(json.load(sys.stdin))
json.dump(
    {
        name: [text.decode() for text in signature(texts=texts)["text"].numpy()]
        for name, signature in model.signatures.items()
    },
    sys.stdout,
)
"""
KILLED_WHEN_READY = """
import os, signal, sys
from pathlib import Path
from seq2seq import export

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

export.publish_folder = kill
export.export(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def exported(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with version 1."""
    folder = tmp_path_factory.mktemp("exported") / "models" / "tiny"
    assert export(model_folder, folder).path == folder / "1"
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, translator: Translator, exported: Path) -> None:
    """Exports copy the version that is there: what they do around the graph takes no time."""
    monkeypatch.setattr(Translator, "load", lambda folder, **_: translator)
    monkeypatch.setattr(export_module, "_graph_maker", lambda: lambda *_: None)

    def copy(graph: None, path: Path) -> list[str]:
        shutil.copytree(exported / "1", path)
        return ["Foreign"]

    monkeypatch.setattr(export_module, "_save", copy)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_process_without_this_package_translates_as_the_translator(exported, translator):
    texts = [*SENTENCES, "", "a\tdog"]
    command = [sys.executable, "-c", USE, str(exported / "1")]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    greedy, beam = (
        [each.text for each in translator.translate(texts, beam_size=size)] for size in (1, 3)
    )
    assert json.loads(done.stdout) == {"greedy": greedy, "beam": beam, "serving_default": beam}


def test_the_operations_that_tensorflow_does_not_have_are_listed(translator, tmp_path):
    options = search_options(translator.config.decoding, beam_size=1)
    graph = TranslationGraph(translator, {"greedy": options})
    assert export_module._save(graph, tmp_path) == [
        "SentencepieceDetokenizeOp",
        "SentencepieceOp",
        "SentencepieceTokenizeOp",
    ]


@pytest.mark.usefixtures("quick")
def test_the_next_version_is_one_above_the_highest(model_folder, tmp_path):
    for name in ("3", "11", "notes", "9x"):
        (tmp_path / name).mkdir()
    assert export(model_folder, tmp_path).path == tmp_path / "12"
    assert export(model_folder, tmp_path, version=20).path == tmp_path / "20"
    assert names(tmp_path) == [".lock", "11", "12", "20", "3", "9x", "notes"]


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (5, r"5: exists already; leave the version out for 6"),
        (4, r"version: got 4, lower than 5, which is in .* go on with; leave it out for 6"),
        (0, r"version: got 0, expected a whole number of 1 or more"),
    ],
)
def test_a_version_that_servers_would_not_take_up_is_refused(
    model_folder, tmp_path, version, message
):
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "saved_model.pb").write_bytes(b"as it was")
    with pytest.raises(UsageError, match=message):
        export(model_folder, tmp_path, version=version)
    assert names(tmp_path) == [".lock", "5"]
    assert (tmp_path / "5" / "saved_model.pb").read_bytes() == b"as it was"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("folder_exists", [True, False])
def test_nothing_is_published_if_a_translation_differs(
    monkeypatch, model_folder, translator, tmp_path, folder_exists
):
    folder = tmp_path / "new"
    if folder_exists:
        folder.mkdir()
    (tmp_path / "own.txt").write_bytes(b"a dog runs\na cat sleeps\n")

    def translations(translator, texts, options):
        found = translator.translate(texts, beam_size=options.beam_size)
        place = texts.index("a cat sleeps")
        found[place].hypotheses[0] = translator.translate(["two birds sing"])[0].hypotheses[0]
        return found

    monkeypatch.setattr(export_module, "_translations", translations)
    message = r"differ on 1 of \d+ texts \(signature greedy\), such as 'a cat sleeps': '.+', exp"
    with pytest.raises(ModelError, match=message) as caught:
        export(model_folder, folder, verify=tmp_path / "own.txt")
    assert caught.value.exit_code == 4
    assert folder.exists() == folder_exists
    if folder_exists:
        assert names(folder) == [".lock"]


@pytest.mark.usefixtures("quick")
def test_a_score_that_differs_is_found(monkeypatch, model_folder, tmp_path):
    monkeypatch.setattr(export_module, "_close", lambda score, expected: score > -1.0)
    with pytest.raises(ModelError, match="differ on"):
        export(model_folder, tmp_path)


@pytest.mark.usefixtures("quick")
def test_what_a_killed_export_left_goes(model_folder, tmp_path):
    (tmp_path / ".tmp-1").mkdir()
    (tmp_path / ".tmp-1" / "saved_model.pb").write_bytes(b"half of it")
    export(model_folder, tmp_path)
    assert names(tmp_path) == [".lock", "1"]


@pytest.mark.slow
def test_a_killed_export_leaves_nothing_that_a_server_takes_up(model_folder, tmp_path):
    command = [sys.executable, "-c", KILLED_WHEN_READY, str(model_folder), str(tmp_path)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert names(tmp_path) == [".lock", ".tmp-1"]
    assert export(model_folder, tmp_path).path == tmp_path / "1"


def test_two_exports_to_one_folder_exclude_each_other(model_folder, tmp_path):
    with locked(tmp_path), pytest.raises(LockedError, match="another process is writing here"):
        export(model_folder, tmp_path)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file grows over 1,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_a_storage_error_and_leaves_nothing(
    monkeypatch, model_folder, translator, tmp_path
):
    monkeypatch.setattr(Translator, "load", lambda folder, **_: translator)
    with pytest.raises(StorageError, match=r"1: cannot be written: .+"):
        export(model_folder, tmp_path / "new", beam_size=1)
    assert names(tmp_path) == []


def test_without_tensorflow_text_the_message_says_how_to_install_it(
    monkeypatch, model_folder, tmp_path
):
    monkeypatch.delitem(sys.modules, "seq2seq.translation_graph", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)
    message = r"needs tensorflow-text 2\.\d+, .*: pip install 'tensorflow-text==2\.\d+\.\*' \(Linux"
    with pytest.raises(UsageError, match=message):
        export(model_folder, tmp_path / "new")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "beam size: got 0"),
        ({"length_penalty": -1.0}, "length penalty: got -1.0"),
        ({"max_length": 0}, "max length: got 0"),
        ({"beam_size": 41}, "beam size: got 41, more than the"),
    ],
)
def test_options_of_the_search_are_checked(model_folder, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        export(model_folder, tmp_path / "new", **options)
    assert names(tmp_path) == []


def test_a_language_model_is_refused(language_model_folder, tmp_path):
    with pytest.raises(ModelError, match="is a language model"):
        export(language_model_folder, tmp_path / "new")
    assert names(tmp_path) == []


@pytest.mark.usefixtures("quick")
def test_the_command_tells_what_was_published_on_stderr(model_folder, tmp_path, capsysbinary):
    assert main(["export", str(model_folder), str(tmp_path)]) == 0
    lines, told = output_of(capsysbinary)
    assert lines == []
    size = sum(path.stat().st_size for path in (tmp_path / "1").rglob("*") if path.is_file())
    assert f"{tmp_path}/1: {size / 1e6:.1f} MB; " in told
    assert "signatures greedy, beam, serving_default; 111 of 111 texts" in told
    assert "operations of tensorflow-text in it: Foreign" in told
    assert main(["export", str(model_folder), str(tmp_path), "--version", "1"]) == 2
    assert "exists already" in error_of(capsysbinary)


@pytest.mark.usefixtures("quick")
def test_a_beam_of_one_is_greedy_search_alone(model_folder, tmp_path):
    assert export(model_folder, tmp_path, beam_size=1).signatures == ["greedy", "serving_default"]
