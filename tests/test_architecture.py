"""Which module may import which, read from the source, and what an import costs."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "seq2seq"
MODULES = {path.stem: ast.parse(path.read_bytes()) for path in PACKAGE.glob("*.py")}
LIGHT = {"__init__", "batches", "cli", "config", "corpus", "demo_corpus", "errors", "evaluation"}
LIGHT |= {"array_folder", "text_corpus", "text_tokenizer"}
LIGHT |= {"console", "file_translation", "journal", "output_formats", "tokenizer", "translator"}
MODEL = {"attention", "decoder", "encoder", "loss", "lstm", "models"}
TENSORFLOW = {"keras", "tensorflow"}


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
    assert listed.keys() == MODULES.keys() - {"__init__"}
    needing = {name for name in listed if reachable_from(name, deferred=False) & TENSORFLOW}
    assert {name for name, mark in listed.items() if mark} == needing


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


def test_help_costs_no_tensorflow():
    # -X importtime lists on stderr every module that is imported, whatever becomes of the process.
    command = [sys.executable, "-X", "importtime", "-c", "import seq2seq.cli as c; c.main()"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.split("\n")}
    assert "translate" in done.stdout
    assert "seq2seq.cli" in imported
    assert not imported & TENSORFLOW
