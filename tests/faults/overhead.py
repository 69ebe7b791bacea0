"""What checkpoints cost: seconds of saving and loading one of a model with 14 million weights."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from seq2seq.checkpoint import (
    Checkpoint,
    load_best_weights,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
    write_best,
)

WEIGHTS = 14_000_000
ARRAYS = 28
ROUNDS = 7
INTERVAL = 300  # seconds between checkpoints, by default


def overhead() -> str:
    """The medians of `ROUNDS`, and the share of training that saving takes; to the real disk."""
    random = np.random.default_rng(1)
    shape = (WEIGHTS // ARRAYS // 500, 500)
    weights = {f"layer_{n}": random.normal(size=shape).astype(np.float32) for n in range(ARRAYS)}
    moments = ("momentum", "velocity")
    optimizer = {f"{name}_{each}": weights[name] for name in weights for each in moments}
    saving, loading, using = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_best(folder, {"step": 1})
        for step in range(1, ROUNDS + 1):
            checkpoint = Checkpoint(step, weights, optimizer, {"step": step})
            saving.append(_seconds(save_checkpoint, folder, checkpoint))
            loading.append(_seconds(load_checkpoint, folder, step))
            using.append(_seconds(load_best_weights, folder))
            prune_checkpoints(folder, keep=2)  # and the best, which is the first
    share = median(saving) / INTERVAL
    return (
        f"{WEIGHTS:,} weights and their optimizer: saved in {median(saving):.2f} s "
        f"({min(saving):.2f} to {max(saving):.2f}), loaded to go on with in {median(loading):.2f} "
        f"s, weights alone in {median(using):.2f} s; every {INTERVAL} s that is {share:.2%} of "
        "training"
    )


def _seconds(work: Callable[..., object], *arguments: object) -> float:
    begin = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begin
