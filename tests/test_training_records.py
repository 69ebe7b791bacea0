"""Records of updates and validations: sums over the tokens of several updates, worked by hand."""

import math
from typing import Any

import pytest
import tensorflow as tf

from seq2seq.errors import DivergenceError
from seq2seq.experiment import LocatedBatch, Validation
from seq2seq.training_records import RecentUpdates, validation_record
from seq2seq.updates import UpdateSums


def batch_of(epoch: int, where: str = "") -> LocatedBatch:
    return LocatedBatch(epoch, None, lambda: where)


def sums_of(*values: float) -> UpdateSums:
    return UpdateSums(*map(tf.constant, values))


def test_a_record_weighs_every_token_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 102.5])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    recent = RecentUpdates()
    recent.add(4, [batch_of(0)], sums_of(9.0, 1.0, 2.0, 5.0), 0.25)
    recent.add(5, [batch_of(0), batch_of(1)], sums_of(3.0, 5.0, 6.0, 0.5), 0.125)
    assert recent.record(5, 77.0) == {
        "step": 5,
        "epoch": 2,  # counted from 1
        "split": "train",
        "loss": 1.5,  # (9 + 3) nats over 2 + 6 tokens
        "accuracy": 0.75,  # 1 + 5 of 8
        "gradient_norm": 0.5,
        "learning_rate": 0.125,
        "target_tokens_per_second": 3.2,  # 8 in 2.5 s
        "seconds": 77.0,
    }


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_the_update_that_diverged_is_named_with_the_text_of_all_its_batches(norm: float) -> None:
    recent = RecentUpdates()
    recent.add(4, [batch_of(0, "a:1")], sums_of(1.0, 1.0, 1.0, 1.0), 0.25)
    recent.add(5, [batch_of(0, "a:7"), batch_of(0, "a:9")], sums_of(1.0, 1.0, 1.0, norm), 0.5)
    recent.add(6, [batch_of(0, "a:8")], sums_of(1.0, 1.0, 1.0, 1.0), 0.5)
    message = r"step 5: the gradient is not finite \(learning rate 0\.5; a:7; a:9\)"
    with pytest.raises(DivergenceError, match=message):
        recent.record(6, 1.0)


def test_a_validation_is_recorded_with_where_training_stood() -> None:
    trained: dict[str, Any] = {
        "step": 5,
        "epoch": 2,
        "split": "train",
        "loss": 1.5,
        "accuracy": 0.75,
        "gradient_norm": 0.5,
        "learning_rate": 0.125,
        "target_tokens_per_second": 3.2,
        "seconds": 77.0,
    }
    assert validation_record(trained, Validation({"loss": 2.0, "bleu": 30.0}, []), 80.0) == {
        "step": 5,
        "epoch": 2,
        "split": "validation",
        "learning_rate": 0.125,
        "target_tokens_per_second": 3.2,
        "loss": 2.0,
        "bleu": 30.0,
        "seconds": 80.0,
    }
