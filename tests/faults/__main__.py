"""Runs the fault-injection tests in full: python tests/faults [F1 F7 ...] [--seed S] [--case N].

Prints for each what was injected, how many of how many faults did no harm, and of every other one
what went wrong and the command that injects it again. Exit code 1 if there is any.
"""

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

sys.path.insert(1, str(Path(__file__).parents[1]))  # what these have in common with other tests

import typer

if TYPE_CHECKING:
    from catalogue import Fault


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Such as F7; all if none.")] = None,
    seed: Annotated[int, typer.Option(help="Other seeds make other faults.")] = 1,
    case: Annotated[int | None, typer.Option(help="Only this one.")] = None,
    cases: Annotated[int | None, typer.Option(help="So many of each, not its full count.")] = None,
) -> None:
    """Inject faults, and tell which did harm."""
    from seq2seq.runtime import start_tensorflow

    start_tensorflow("cpu")  # before anything else imports it, and quietly
    from catalogue import CATALOGUE
    from overhead import overhead

    wanted = [name.upper() for name in names or [*CATALOGUE, "OVERHEAD"]]
    harm = 0
    for name in wanted:
        if name == "OVERHEAD":
            print(overhead(), flush=True)
        else:
            fault = CATALOGUE[name]
            numbers = range(fault.cases if cases is None else cases) if case is None else [case]
            harm += _inject(name, fault, numbers, seed)
    raise typer.Exit(1 if harm else 0)


def _inject(name: str, fault: "Fault", numbers: "range | list[int]", seed: int) -> int:
    """Prints a line of the table and what went wrong; how many faults did harm."""
    from full_disk import NoFileSystem

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


if __name__ == "__main__":
    typer.run(main)
