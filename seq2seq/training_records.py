"""What happened in a training, as records for `metrics.jsonl`."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from seq2seq.errors import DivergenceError
from seq2seq.experiment import LocatedBatch, Location, Validation
from seq2seq.updates import UpdateSums


class RecentUpdates:
    """The updates since the last record; their sums leave the device only when asked for."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._updates: list[tuple[int, float, list[Location], UpdateSums]] = []
        self._epoch = 0
        self._learning_rate = 0.0

    def add(
        self,
        step: int,
        batches: list[LocatedBatch],
        sums: UpdateSums,
        learning_rate: float,
    ) -> None:
        """Adds the update `step` (from 1), made of `batches`, 1 or more."""
        locations = [batch.location for batch in batches]  # and no more of them: memory is bounded
        self._updates.append((step, learning_rate, locations, sums))
        self._epoch = batches[-1].epoch + 1
        self._learning_rate = learning_rate

    def record(self, step: int, seconds: float) -> dict[str, Any]:
        """The record for `metrics.jsonl`, `seconds` after the start of training.

        Raises:
            DivergenceError: The gradient of an update was not finite.
        """
        for update, rate, locations, sums in self._updates:
            if not np.isfinite(float(sums.gradient_norm)):
                where = "; ".join(location() for location in locations)
                raise DivergenceError(
                    f"step {update}: the gradient is not finite (learning rate {rate:g}; {where}); "
                    "the update was not made. Resume from the last checkpoint with a lower "
                    "training.learning_rate, or mend the text"
                )
        each = [sums for *_, sums in self._updates]
        tokens = sum(float(one.tokens) for one in each)
        elapsed = time.monotonic() - self._started
        return {
            "step": step,
            "epoch": self._epoch,
            "split": "train",
            "loss": sum(float(one.nll) for one in each) / tokens,
            "accuracy": sum(float(one.correct) for one in each) / tokens,
            "gradient_norm": float(each[-1].gradient_norm),
            "learning_rate": self._learning_rate,
            "target_tokens_per_second": tokens / elapsed,
            "seconds": seconds,
        }


def validation_record(
    trained: Mapping[str, Any], validated: Validation, seconds: float
) -> dict[str, Any]:
    """The record of a validation after the updates of the record `trained`."""
    as_trained = ("step", "epoch", "learning_rate", "target_tokens_per_second")
    return {
        **{key: trained[key] for key in as_trained},
        "split": "validation",
        **validated.scores,
        "seconds": seconds,
    }
