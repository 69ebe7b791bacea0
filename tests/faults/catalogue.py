"""Which faults are injected, and how often."""

from typing import NamedTuple

from kills import killed_at_random_times
from verdicts import Check


class Fault(NamedTuple):
    """One row of the table.

    Attributes:
        what: What is done.
        check: Does it.
        cases: How many there are, or, of those that run until nothing is left, at most.
        quick: Numbers of those that every run of the tests has.
    """

    what: str
    check: Check
    cases: int
    quick: tuple[int, ...]


EVERY = 10_000

CATALOGUE = {
    "F1": Fault("kill -9 at random times of a training", killed_at_random_times, 10, ()),
}
