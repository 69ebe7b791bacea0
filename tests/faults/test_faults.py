"""A few of the faults that `python tests/faults` injects, and that it tells harm from none."""

import io
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout

import kills
import pytest
from catalogue import CATALOGUE, Fault
from full_disk import NoFileSystem
from injection import inject
from verdicts import Verdict

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("no_wait_for_the_disk")]


@pytest.mark.parametrize("name", [name for name, fault in CATALOGUE.items() if fault.quick])
def test_faults_do_no_harm(name: str) -> None:
    fault = CATALOGUE[name]
    try:
        verdicts = list(fault.check(fault.quick, 1))
    except NoFileSystem as reason:
        pytest.skip(f"no file system can be mounted: {reason}")
    assert len(verdicts) >= len(fault.quick)
    assert [verdict for verdict in verdicts if verdict.fault] == []


def test_a_training_killed_in_a_save_and_at_a_random_time_ends_with_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kills, "KILLS", 2)
    monkeypatch.setattr(kills, "AIMED", {1})
    monkeypatch.setattr(kills, "STEPS", 60)
    verdicts = list(kills.killed_at_random_times([0], 1))
    assert len(verdicts) == 2
    assert [verdict for verdict in verdicts if verdict.fault] == []


def test_harm_is_told_with_the_command_that_does_it_again() -> None:
    def check(cases: Iterable[int], seed: int) -> Iterator[Verdict]:
        for case in cases:
            yield Verdict(case, "lost" if case == seed else "", "read")

    output = io.StringIO()
    with redirect_stdout(output):
        assert inject("F0", Fault("something", check, 4, ()), range(4), seed=3) == 1
    assert output.getvalue().split("\n") == [
        "| F0 | something (4 read) | 3/4 | 0 |",
        "    lost",
        "    again: python tests/faults F0 --seed 3 --case 3",
        "",
    ]
