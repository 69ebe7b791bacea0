"""Runs one fault-injection test and tells what came of it."""

import time
from collections import Counter
from collections.abc import Iterable

from catalogue import Fault
from full_disk import NoFileSystem


def inject(name: str, fault: Fault, numbers: Iterable[int], *, seed: int) -> int:
    """Prints a line of the table and what went wrong; how many faults did harm."""
    started, good, harmful, notes = time.monotonic(), 0, [], Counter[str]()
    try:
        for verdict in fault.check(numbers, seed):
            notes[verdict.note] += 1
            good += not verdict.fault
            if verdict.fault:
                harmful.append(verdict)
    except NoFileSystem as reason:
        print(f"| {name} | {fault.what} | skipped: {reason} | |", flush=True)
        return 0
    shown = ", ".join(f"{count} {note}" for note, count in notes.most_common() if note)
    what = f"{fault.what} ({shown})" if shown else fault.what
    seconds = time.monotonic() - started
    print(f"| {name} | {what} | {good}/{good + len(harmful)} | {seconds:,.0f} |", flush=True)
    for verdict in harmful:
        print(f"    {verdict.fault}")
        print(f"    again: python tests/faults {name} --seed {seed} --case {verdict.case}")
    return len(harmful)
