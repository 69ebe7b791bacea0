"""Runs one fault-injection test and tells what came of it."""

import io
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import redirect_stderr

from catalogue import Fault
from full_disk import NoFileSystem
from verdicts import Verdict


def inject(name: str, fault: Fault, numbers: Iterable[int], *, seed: int) -> int:
    """Prints a line of the table and what went wrong; how many faults did harm."""
    started, good, harmful, notes = time.monotonic(), 0, [], Counter[str]()
    try:
        with redirect_stderr(io.StringIO()):  # what trainings in this process tell
            for verdict in fault.check(numbers, seed):
                notes[verdict.note] += 1
                good += not verdict.fault
                if verdict.fault:
                    harmful.append(verdict)
    except NoFileSystem as reason:
        print(f"| {name} | {fault.what} | skipped: {reason} | |", flush=True)
        return 0
    except Exception as err:  # the others are to be injected all the same
        harmful.append(Verdict(0, f"the test itself failed: {type(err).__name__}: {err}"))
    shown = ", ".join(f"{count} {note}" for note, count in notes.most_common() if note)
    what = f"{fault.what} ({shown})" if shown else fault.what
    seconds = time.monotonic() - started
    print(f"| {name} | {what} | {good}/{good + len(harmful)} | {seconds:,.0f} |", flush=True)
    for verdict in harmful:
        print(f"    {verdict.fault}")
        print(f"    again: python tests/faults {name} --seed {seed} --case {verdict.case}")
    return len(harmful)
