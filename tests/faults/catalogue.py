"""Which faults are injected, and how often."""

from typing import NamedTuple

from corruption import corrupted
from disk_calls import failed_at_every_call
from divergence import poisoned
from elsewhere import done_elsewhere
from full_disk import filled
from kills import killed_at_random_times, terminated_at_random_times
from malicious import refused
from mutated_configs import mutated
from other_suites import slow_tests
from power import cut_at_every_call
from races import raced
from resumes import resumed_at_every_step, trained_again
from verdicts import Check
from vocabularies import PLANES, round_trips


class Fault(NamedTuple):
    """One row of the table.

    Attributes:
        what: What is done.
        check: Does it.
        cases: How many there are, or, of those that run until nothing is left, at most.
        quick: Numbers of those that every run of the tests has. Where there are none, each takes
            long, and the tests of training and checkpoints have single ones.
    """

    what: str
    check: Check
    cases: int
    quick: tuple[int, ...]


EVERY = 10_000  # more than there are

CATALOGUE = {
    "F1": Fault("training killed by SIGKILL at random times", killed_at_random_times, 10, ()),
    "F2": Fault("trained again in another process", trained_again, 6, ()),
    "F3": Fault("resumed at every step", resumed_at_every_step, 24, ()),
    "F4": Fault("training ended by SIGTERM at random times", terminated_at_random_times, 5, ()),
    "F5": Fault("a call to the disk fails", failed_at_every_call, EVERY, tuple(range(3, 260, 16))),
    "F6": Fault("disk full", filled, 40, tuple(range(6))),
    "F7": Fault("checkpoints corrupted", corrupted, 200, tuple(range(18))),
    "F8": Fault("power cut at a call to the disk", cut_at_every_call, EVERY, (61, 130, 180, 251)),
    "F9": Fault("trainers race for a folder", raced, 20, ()),
    "F10": Fault("a gradient that is no number", poisoned, 12, ()),
    "F11": Fault("slow tests of test_resume.py", slow_tests("test_resume.py"), 1, ()),
    "F12": Fault("slow tests of test_line_parity.py", slow_tests("test_line_parity.py"), 1, ()),
    "F15": Fault("configurations mutated", mutated, 500, tuple(range(1, 46))),
    "F16": Fault("planes of Unicode in a vocabulary", round_trips, PLANES, (0,)),
    "F17": Fault("malicious model folders", refused, EVERY, (0, 11, 17, 27)),
    "F24": Fault("commands elsewhere", done_elsewhere, 30, (3, 15)),
}
