"""F15: configurations with one thing wrong in them."""

import random
import signal
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w
from commands import started
from rehearsal import Command, run
from verdicts import Verdict, drawing

from seq2seq.errors import UsageError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
SECONDS = 5  # within which a command must answer
EVERY_REAL = 50  # of so many cases one is a process of its own

Tables = dict[str, Any]
Draw = random.Random


class Mutant(NamedTuple):
    """A configuration that cannot be used.

    Attributes:
        text: The file.
        named: What the message must have in it.
    """

    text: str
    named: str


def mutated(cases: Iterable[int], seed: int) -> Iterator[Verdict]:
    """F15: the message must be one line that names the file and the key, the exit code 2.

    Where the file is no TOML any more there is no key: then the line and column are named.
    """
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "mutant.toml"
        for case in cases:
            draw = drawing("configs", seed=seed, case=case)
            mutation = MUTATIONS[case % len(MUTATIONS)]
            mutant = mutation(draw.choice(CONFIGS).read_text(encoding="utf-8"), draw)
            path.write_text(mutant.text, encoding="utf-8")
            arguments = ["train", str(path), "--output", str(Path(name) / "model")]
            ended = _process(arguments) if case % EVERY_REAL == 0 else _in_time(arguments)
            fault = _fault(ended, path, mutant)
            if (Path(name) / "model").exists():
                fault = "the model folder was made"
            yield Verdict(case, fault, mutation.__name__.replace("_", " "))


def _fault(ended: Command, path: Path, mutant: Mutant) -> str:
    if ended.exit_code != UsageError.exit_code:
        return f"exit code {ended.exit_code}: {ended.errors[-500:]}"
    if not ended.errors.startswith(f"error: {path}: ") or ended.errors.count("\n") != 1:
        return f"not one line about the file: {ended.errors[-500:]}"
    return "" if mutant.named in ended.errors else f"no {mutant.named!r} in: {ended.errors[-500:]}"


def _in_time(arguments: list[str]) -> Command:
    def late(*_: object) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        return run(*arguments)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def _process(arguments: list[str]) -> Command:
    process = started(arguments)
    _, errors = process.communicate(timeout=10 * SECONDS)  # imports, on a busy machine, as well
    return Command(process.returncode, errors.decode())


def _changed(text: str, draw: Draw, change: Callable[[Tables, str], Any]) -> Mutant:
    """Gives one key of one section another value."""
    tables = tomllib.loads(text)
    section = draw.choice([name for name, value in tables.items() if isinstance(value, dict)])
    key = draw.choice(sorted(tables[section]))
    tables[section][key] = change(tables[section], key)
    return Mutant(tomli_w.dumps(tables), f"{section}.{key}: got")


def a_wrong_type(text: str, draw: Draw) -> Mutant:
    """A text is a number, a number a text, a switch neither."""

    def other(table: Tables, key: str) -> Any:
        values: list[Any] = [{"a": 1}, [[]], [{"b": 2}]]
        if not isinstance(table[key], bool):
            values.append(draw.choice([True, False]))
        if not isinstance(table[key], str | list):
            values += ["yes", "", "1e-3", str(table[key])]
        if isinstance(table[key], str | list | bool):
            values += [17, -0.5, 0]
        return draw.choice(values)

    return _changed(text, draw, other)


def a_number_out_of_range(text: str, draw: Draw) -> Mutant:
    """No number in a configuration may be negative or without bounds, and no text is one."""
    values = [-1, -(2**40), -0.001, float("nan"), float("inf"), float("-inf")]
    return _changed(text, draw, lambda table, key: draw.choice(values))


def a_misspelt_key(text: str, draw: Draw) -> Mutant:
    """A letter of a key is another one, twice there, or missing."""
    tables = tomllib.loads(text)
    section = draw.choice([name for name, value in tables.items() if isinstance(value, dict)])
    key = draw.choice(sorted(tables[section]))
    at = draw.randrange(len(key))
    letter = draw.choice(["", key[at] * 2, "q", "-", " ", "Ä"])
    misspelt = key[:at] + letter + key[at + 1 :]
    if misspelt in tables[section] or misspelt == key:
        misspelt += "s"
    tables[section][misspelt] = tables[section].pop(key)
    return Mutant(tomli_w.dumps(tables), f"{section}.{misspelt}: unknown key")


def an_unknown_section(text: str, draw: Draw) -> Mutant:
    """A section has another name, or there is one more."""
    tables = tomllib.loads(text)
    sections = [name for name, value in tables.items() if isinstance(value, dict)]
    section = draw.choice(sections)
    renamed = section + draw.choice(["s", "_", "2"])
    tables[renamed] = tables.pop(section) if draw.random() < 0.5 else {"key": 1}
    return Mutant(tomli_w.dumps(tables), f"{renamed}: unknown key")


def a_missing_key(text: str, draw: Draw) -> Mutant:
    """A file of text is not named."""
    tables = tomllib.loads(text)
    required = {"text", "train_source", "train_target", "validation_source", "validation_target"}
    key = draw.choice(sorted(required & tables["data"].keys()))
    del tables["data"][key]
    return Mutant(tomli_w.dumps(tables), f"data.{key}: missing")


def no_section(text: str, draw: Draw) -> Mutant:
    """In place of a section there is a value."""
    tables = tomllib.loads(text)
    section = draw.choice([name for name, value in tables.items() if isinstance(value, dict)])
    tables[section] = draw.choice([1, "text", True, [], [1], 0.5])
    return Mutant(tomli_w.dumps(tables), f"{section}: got {tables[section]!r}")


def a_key_twice(text: str, draw: Draw) -> Mutant:
    """TOML does not allow it."""
    lines = text.split("\n")
    at = draw.choice([number for number, line in enumerate(lines) if _is_key(line)])
    return Mutant("\n".join([*lines[: at + 1], *lines[at:]]), "not valid TOML")


def a_broken_line(text: str, draw: Draw) -> Mutant:
    """A line of TOML is cut, or has something in it that TOML does not know."""
    lines = text.split("\n")
    at = draw.choice([number for number, line in enumerate(lines) if _is_key(line)])
    key = lines[at].partition("=")[0]
    broken = ["{}", "{} =", '{} = "open', "{} = [1", "{} = @", "= 1", "{} = 1 2", "{}: 1", "[{}"]
    lines[at] = draw.choice(broken).format(key)
    return Mutant("\n".join(lines), "not valid TOML")


def a_task_that_is_none(text: str, draw: Draw) -> Mutant:
    """The key that all others are judged by."""
    tables = tomllib.loads(text) | {"task": draw.choice(["translate", "", 1, True, [], {}])}
    return Mutant(tomli_w.dumps(tables), "task: got")


def _is_key(line: str) -> bool:
    return " = " in line and not line.lstrip().startswith("#")


MUTATIONS = [
    *(a_wrong_type, a_number_out_of_range, a_misspelt_key, an_unknown_section, a_missing_key),
    *(no_section, a_key_twice, a_broken_line, a_task_that_is_none),
]
