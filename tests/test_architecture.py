"""Which module may import which, read from the source, and what an import costs."""

import ast
import graphlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "seq2seq"
MODULES = {path.stem: ast.parse(path.read_bytes()) for path in PACKAGE.glob("*.py")}
LIGHT = {"__init__", "batches", "cli", "config", "corpus", "demo_corpus", "errors", "evaluation"}
LIGHT |= {"array_folder", "averaging", "fine_tuning", "text_corpus", "text_tokenizer"}
LIGHT |= {"console", "file_translation", "journal", "output_formats", "tokenizer", "translator"}
MODEL = {"attention", "decoder", "encoder", "loss", "lstm", "models"}
TENSORFLOW = {"keras", "tensorflow"}
UNPICKLING = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "h5py"}
NETWORK = {"aiohttp", "ftplib", "http", "requests", "smtplib", "socket", "ssl", "urllib"}
FORKING = {"multiprocessing"}  # TensorFlow does not survive a fork
DANGEROUS = {"allow_pickle", "eval", "exec", "fork", "load_model", "load_weights", "system"}


def nodes_of(node: ast.AST, *, deferred: bool) -> Iterator[ast.AST]:
    """Every node below `node`, inside functions only if `deferred`; not what is for types only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not deferred:
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from nodes_of(child, deferred=deferred)


def imports_of(name: str, *, deferred: bool) -> set[str]:
    """What module `name` imports: its siblings by their short names, others by the first part."""
    found = set()
    for node in nodes_of(MODULES[name], deferred=deferred):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "seq2seq":
            names = [f"seq2seq.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        found |= {name.removeprefix("seq2seq.").split(".")[0] for name in names}
    return found


def reachable_from(name: str, *, deferred: bool) -> set[str]:
    """`imports_of` module `name` and, again and again, of the siblings among those."""
    found: set[str] = set()
    waiting = {name}
    while waiting:
        new = imports_of(waiting.pop(), deferred=deferred) - found
        found |= new
        waiting |= new & MODULES.keys()
    return found


def public_definitions(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
    """Module, classes, functions and methods without a leading underscore, by full name."""
    yield name, node
    kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for child in ast.iter_child_nodes(node):
        if isinstance(child, kinds) and not child.name.startswith("_"):
            if isinstance(child, ast.ClassDef):
                yield from public_definitions(child, f"{name}.{child.name}")
            else:
                yield f"{name}.{child.name}", child


@pytest.mark.parametrize("name", sorted(LIGHT))
def test_light_module_imports_no_tensorflow(name):
    assert not reachable_from(name, deferred=False) & TENSORFLOW


@pytest.mark.parametrize("name", sorted(MODEL))
def test_model_module_knows_ids_and_not_text(name):
    assert not reachable_from(name, deferred=True) & {"corpus", "sentencepiece", "tokenizer"}


def test_the_reading_order_names_every_module_and_marks_those_that_need_tensorflow():
    listed = dict(
        re.findall(r"^    (\w+) +(\*?) *\w", ast.get_docstring(MODULES["__init__"]), re.M)
    )
    listed.pop("from")  # the example
    assert listed.keys() == MODULES.keys() - {"__init__", "__main__"}
    needing = {name for name in listed if reachable_from(name, deferred=False) & TENSORFLOW}
    assert {name for name, mark in listed.items() if mark} == needing
    order = list(listed)
    for place, name in enumerate(order):
        assert not imports_of(name, deferred=True) & set(order[place:]), name


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_is_unpickled_fetched_or_forked(name):
    allowed = {"socket"} if name == "cluster" else set()  # asks whether a cluster answers at all
    assert not imports_of(name, deferred=True) & (UNPICKLING | NETWORK | FORKING) - allowed
    nodes = list(ast.walk(MODULES[name]))
    named = {node.id for node in nodes if isinstance(node, ast.Name)}
    named |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    named |= {node.arg for node in nodes if isinstance(node, ast.keyword)}
    assert not named & DANGEROUS


def test_tests_have_no_network():
    for reach in (socket.create_connection, lambda address: socket.getaddrinfo(*address)):
        with pytest.raises(PermissionError, match=r"no network in tests, and '192\.0\.2\.1' was"):
            reach(("192.0.2.1", 80))  # an address for documentation, nobody's


def test_search_knows_no_model():
    assert not reachable_from("search", deferred=True) & MODEL


def test_no_modules_import_each_other():
    graph = {name: imports_of(name, deferred=True) & MODULES.keys() for name in MODULES}
    graphlib.TopologicalSorter(graph).prepare()  # raises where there is a cycle


@pytest.mark.parametrize("name", sorted(MODULES))
def test_everything_public_has_a_docstring(name):
    definitions = public_definitions(MODULES[name], name)
    assert [where for where, node in definitions if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("statement", ["import seq2seq", "from seq2seq.cli import main"])
def test_import_costs_no_tensorflow(statement):
    loaded = f"import sys; print(sorted({TENSORFLOW} & sys.modules.keys()))"
    command = [sys.executable, "-c", f"{statement}; {loaded}"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "[]\n"


# Says which audited events of an import reach beyond the process; a file that is opened to be
# written has one of these flags.
_IMPORTED = """
import os, sys
before, seen = dict(os.environ), []
writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def hook(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & writes:
        seen.append(arguments[0])
    elif event.startswith(("socket.", "subprocess.", "os.mkdir", "os.rename", "os.remove")):
        seen.append(event)

sys.addaudithook(hook)
import seq2seq, seq2seq.cli
from seq2seq import LanguageModel, Translator
print(seen, os.environ.items() - before.items(), sys.gettrace(), os.listdir("."))
"""


def test_an_import_writes_nothing_and_changes_one_default(tmp_path):
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PACKAGE.parent), "HOME": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-B", "-c", _IMPORTED],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.stderr == ""
    assert done.stdout == "[] {('KERAS_BACKEND', 'tensorflow')} None []\n"


def test_help_costs_no_tensorflow():
    # -X importtime lists on stderr every module that is imported, whatever becomes of the process.
    command = [sys.executable, "-X", "importtime", "-c", "import seq2seq.cli as c; c.main()"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.split("\n")}
    assert "translate" in done.stdout
    assert "seq2seq.cli" in imported
    assert not imported & TENSORFLOW
