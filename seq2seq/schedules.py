"""Learning rate schedules: pure functions of the step."""

import math

from seq2seq.config import CommonTrainingConfig


def learning_rate(
    config: CommonTrainingConfig, step: int, *, total_steps: int, plateaus: int = 0
) -> float:
    """The learning rate of update `step`, counted from 1.

    Args:
        config: The `[training]` section.
        step: The update.
        total_steps: The last update, where the linear schedule has come down to its end.
        plateaus: How often validation has stalled (plateau schedule).
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    if step < warmup:
        return peak * step / warmup
    match config.schedule:
        case "constant":
            return peak
        case "inverse-square-root":  # Vaswani et al. 2017, sec. 5.3, scaled to reach `peak`
            return peak * math.sqrt(max(warmup, 1) / step)
        case "linear":  # from `peak`, by equal steps; the last update still moves
            return peak * (total_steps - step + 1) / (total_steps - max(warmup, 1) + 1)
        case "plateau":
            return peak * math.pow(config.plateau_factor, plateaus)
