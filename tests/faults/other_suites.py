"""F11 and F12, which are slow tests of the modules they are about."""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from verdicts import Check, Verdict

ROOT = Path(__file__).parents[2]


def slow_tests(file: str) -> Check:
    """A check that runs the slow tests of a file: one verdict on all of them."""
    return partial(_run, file)


def _run(file: str, cases: Iterable[int], seed: int) -> Iterator[Verdict]:
    del cases, seed
    arguments = ["-m", "pytest", "-n", "0", "-q", "-m", "slow", f"tests/{file}"]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    yield Verdict(0, done.stdout[-1000:] if done.returncode else "")
