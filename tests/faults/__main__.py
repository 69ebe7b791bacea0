"""Runs the fault-injection tests in full: python tests/faults [F1 F7 ...] [--seed S] [--case N].

Prints for each what was injected, how many of how many faults did no harm, and of every other one
what went wrong and the command that injects it again. Exit code 1 if there is any.
"""

import sys
from pathlib import Path
from typing import Annotated

sys.path.insert(1, str(Path(__file__).parents[1]))  # what these have in common with other tests

import typer


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
    from injection import inject
    from overhead import overhead

    wanted = [name.upper() for name in names or [*CATALOGUE, "OVERHEAD"]]
    harm = 0
    for name in wanted:
        if name == "OVERHEAD":
            print(overhead(), flush=True)
        else:
            fault = CATALOGUE[name]
            count = fault.cases if cases is None else min(cases, fault.cases)
            numbers = range(count) if case is None else [case]
            harm += inject(name, fault, numbers, seed=seed)
    raise typer.Exit(1 if harm else 0)


if __name__ == "__main__":
    typer.run(main)
