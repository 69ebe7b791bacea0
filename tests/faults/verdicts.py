"""What a fault-injection test finds out, case by case.

A case is a function of its number and a seed, so that it can be replayed alone.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

_Result = TypeVar("_Result")


class Verdict(NamedTuple):
    """On one fault that was injected.

    Attributes:
        case: Number of the case it belongs to.
        fault: What went wrong; empty if nothing did.
        note: What is counted and shown beside the result, such as where a kill struck.
    """

    case: int
    fault: str = ""
    note: str = ""


Check = Callable[[Iterable[int], int], Iterator[Verdict]]
"""A fault-injection test: runs the cases of these numbers, with this seed."""


def drawing(check: str, *, seed: int, case: int) -> random.Random:
    """The random numbers of a case."""
    return random.Random(f"{check} {seed} {case}")


def two_at_a_time(
    function: Callable[[int], Iterable[_Result]], cases: Iterable[int]
) -> Iterator[_Result]:
    """What `function` gives for each case, one after the other; two run at a time."""
    with ThreadPoolExecutor(2) as pool:
        for results in pool.map(function, cases):
            yield from results
