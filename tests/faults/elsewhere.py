"""F24: commands in other surroundings than usual."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from commands import difference, language_model, started, translation
from full_disk import file_system
from model_fixtures import tiny_config, write_model_folder
from verdicts import Verdict, two_at_a_time

STEPS = 6
ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SURROUNDINGS = ["ASCII locale", "other time zone", "read-only folder", "odd names", "no home"]
COMMANDS = ["train", "translate", "score", "evaluate", "inspect", "generate"]


class Output(NamedTuple):
    """What a command did."""

    exit_code: int
    stdout: str
    errors: str


def done_elsewhere(cases: Iterable[int], seed: int) -> Iterator[Verdict]:
    """F24: case n runs command n % 6 in the surroundings n // 6, all in all 30.

    Its output must be what it is in those of the tests; of `train`, losses and weights. The working
    folder is a file system mounted for reading only, since root may write to any other folder.
    """
    del seed
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        usual = Path(name) / "usual"
        cases = [case for case in cases if case < len(SURROUNDINGS) * len(COMMANDS)]
        needed = sorted({case % len(COMMANDS) for case in cases})
        _prepare(usual, writes=COMMANDS.index("generate") in needed)
        read_only = usual
        if any(SURROUNDINGS[case // len(COMMANDS)] == "read-only folder" for case in cases):
            read_only = stack.enter_context(file_system())
            subprocess.run(["mount", "-o", "remount,ro", read_only], check=True)

        def expected(command: int) -> list[Output]:
            return [_run(COMMANDS[command], usual, dict(os.environ), usual)]

        outputs = dict(zip(needed, two_at_a_time(expected, needed), strict=True))
        shutil.copytree(usual, odd := Path(name) / "a model, ü 模型 \U0001f600")

        def found(case: int) -> list[Verdict]:
            where, command = SURROUNDINGS[case // len(COMMANDS)], case % len(COMMANDS)
            folder = odd if where == "odd names" else usual
            output = _run(
                COMMANDS[command],
                folder,
                _environment(where),
                read_only if where == "read-only folder" else folder,
                trained=f"trained-{case}",
            )
            fault = _fault(output, outputs[command], folder, usual)
            if COMMANDS[command] == "train" and not fault:
                fault = difference(folder / f"trained-{case}", usual / "trained")
            return [Verdict(case, fault and f"{COMMANDS[command]}: {fault}", where)]

        yield from two_at_a_time(found, cases)


def _fault(output: Output, expected: Output, folder: Path, usual: Path) -> str:
    if output.exit_code or expected.exit_code:
        return f"exit code {output.exit_code or expected.exit_code}: {output.errors[-300:]}"
    if output.stdout.replace(str(folder), str(usual)) != expected.stdout:
        return f"says {output.stdout[-300:]!r}, and else {expected.stdout[-300:]!r}"
    return ""


def _prepare(folder: Path, *, writes: bool) -> None:
    folder.mkdir()
    config = tiny_config(folder)
    write_model_folder(folder / "model", config)
    text = config.data.validation_source
    (folder / "hypotheses").write_text(text.read_text(encoding="utf-8").replace("dog", "hünd"))
    translation(folder, steps=STEPS)
    if not writes:
        return
    writer = language_model(folder, steps=STEPS)
    process = started(writer.training(folder / "writer"))
    errors = process.communicate()[1].decode()
    assert process.returncode == 0, errors


def _environment(where: str) -> dict[str, str]:
    environment = dict(os.environ)
    if where == "ASCII locale":
        environment |= ASCII
    elif where == "other time zone":
        environment["TZ"] = "Pacific/Kiritimati"
    elif where == "no home":
        for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            environment.pop(name, None)
    return environment


def _run(
    command: str, folder: Path, environment: dict[str, str], cwd: Path, trained: str = "trained"
) -> Output:
    text, model = str(folder / "sentences.txt"), str(folder / "model")
    arguments = {
        "train": ["train", str(folder / "translation.toml"), "--output", str(folder / trained)],
        "translate": ["translate", model, text, "--format", "jsonl"],
        "score": ["score", model, "--source", text, "--target", str(folder / "hypotheses")],
        "evaluate": [
            *("evaluate", "--hypothesis", str(folder / "hypotheses"), "--reference", text),
            *("--format", "json"),
        ],
        "inspect": ["inspect", model],
        "generate": ["generate", str(folder / "writer"), "--prime", "ä ", "--length", "30"],
    }[command]
    process = started(arguments, environment=environment, cwd=cwd)
    out, errors = process.communicate()
    return Output(process.returncode, out.decode(), errors.decode())
