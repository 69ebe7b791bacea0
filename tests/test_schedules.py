"""Learning rate schedules: values worked by hand."""

import pytest

from seq2seq.config import TrainingConfig
from seq2seq.schedules import learning_rate


def rates(
    steps: list[int], *, total_steps: int, plateaus: int = 0, **options: object
) -> list[float]:
    config = TrainingConfig.model_validate({"learning_rate": 0.8, "warmup_steps": 4, **options})
    return [
        learning_rate(config, step, total_steps=total_steps, plateaus=plateaus) for step in steps
    ]


@pytest.mark.parametrize("schedule", ["constant", "inverse-square-root", "linear", "plateau"])
def test_every_schedule_rises_in_equal_steps_to_the_peak(schedule: str) -> None:
    # 0.8 * 1/4, 2/4, 3/4, 4/4
    found = rates([1, 2, 3, 4], total_steps=12, schedule=schedule)
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8])


@pytest.mark.parametrize("schedule", ["constant", "inverse-square-root", "linear", "plateau"])
@pytest.mark.parametrize("warmup", [0, 1])
def test_without_warm_up_the_first_update_is_at_the_peak(schedule: str, warmup: int) -> None:
    for total in (1, 10):
        found = rates([1], total_steps=total, schedule=schedule, warmup_steps=warmup)
        assert found == pytest.approx([0.8])


def test_constant_stays_at_the_peak() -> None:
    assert rates([5, 12, 10_000], total_steps=10_000, schedule="constant") == [0.8, 0.8, 0.8]


def test_inverse_square_root_halves_when_the_step_is_fourfold() -> None:
    # 0.8 * sqrt(4 / step): 4 -> 0.8, 9 -> 0.8 * 2/3, 16 -> 0.4, 64 -> 0.2
    found = rates([4, 9, 16, 64], total_steps=64, schedule="inverse-square-root")
    assert found == pytest.approx([0.8, 1.6 / 3, 0.4, 0.2])
    # Without warm-up 0.8 / sqrt(step).
    found = rates([1, 4, 100], total_steps=100, schedule="inverse-square-root", warmup_steps=0)
    assert found == pytest.approx([0.8, 0.4, 0.08])


def test_linear_falls_in_equal_steps_and_the_last_update_still_moves() -> None:
    # From the peak at step 4 by 0.8 / 8 a step, to 0 at step 12, one after the last.
    found = rates(list(range(4, 12)), total_steps=11, schedule="linear")
    assert found == pytest.approx([0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    # Without warm-up from step 1: 4/4, 3/4, 2/4, 1/4 of the peak.
    found = rates([1, 2, 3, 4], total_steps=4, schedule="linear", warmup_steps=0)
    assert found == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_linear_that_ends_while_it_rises_never_falls() -> None:
    assert rates([1, 2, 3], total_steps=3, schedule="linear") == pytest.approx([0.2, 0.4, 0.6])
    assert rates([4], total_steps=4, schedule="linear") == pytest.approx([0.8])


def test_plateau_is_lowered_once_for_every_plateau() -> None:
    options = {"schedule": "plateau", "plateau_factor": 0.5, "total_steps": 100}
    assert rates([4, 50, 100], plateaus=0, **options) == pytest.approx([0.8, 0.8, 0.8])
    assert rates([50], plateaus=1, **options) == pytest.approx([0.4])
    assert rates([50], plateaus=3, **options) == pytest.approx([0.1])


@pytest.mark.parametrize("schedule", ["constant", "inverse-square-root", "linear"])
def test_plateaus_matter_to_the_plateau_schedule_only(schedule: str) -> None:
    steps = [1, 4, 9]
    assert rates(steps, total_steps=10, schedule=schedule, plateaus=5) == rates(
        steps, total_steps=10, schedule=schedule
    )
