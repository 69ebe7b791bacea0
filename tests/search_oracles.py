"""What the searches must find, by plain Python over lists; and steps whose answers are known.

A random step is a table of one row of logits per prefix, numbered as in a heap: the empty prefix is
node 0, and id i after node n leads to node n * V + i + 1. So no two prefixes share their logits,
and a state that is not carried or not reordered gives another result.
"""

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

BEGIN = 0  # what the first step is fed; any id would do


class Found(NamedTuple):
    """One hypothesis: its ids, end id included, and the sum of their log-probabilities."""

    ids: tuple[int, ...]
    log_prob: float


class Task(NamedTuple):
    """One sentence: its table `[nodes, V]` of logits, and where its hypotheses end."""

    table: np.ndarray
    end_id: int
    max_length: int
    forbidden_ids: tuple[int, ...] = ()


def random_table(seed: int, *, vocabulary: int, depth: int) -> np.ndarray:
    """Logits `[nodes, V]` of every prefix of fewer than `depth` ids."""
    nodes = sum(vocabulary**length for length in range(depth))
    return np.random.default_rng(seed).normal(scale=2.0, size=(nodes, vocabulary)).astype("f4")


def table_step(ids: Any, state: Any, memory: Any) -> tuple[Any, Any]:
    """Logits from `memory["table"]` `[N, nodes, V]`; `state` is the node before `ids`, or -1."""
    table = memory["table"]
    node = tf.where(state < 0, 0, state * tf.shape(table)[2] + ids + 1)
    node = tf.minimum(node, tf.shape(table)[1] - 1)  # past the end of a finished sentence
    return tf.gather(table, node, batch_dims=1), node


def count_up_step(vocabulary: int) -> Callable[..., tuple[Any, Any]]:
    """A step by which id + 1 all but certainly follows id."""
    return lambda ids, state, memory: (20.0 * tf.one_hot(ids + 1, vocabulary), state)


def spelling_step(vocabulary: int) -> Callable[..., tuple[Any, Any]]:
    """A step that spells the ids in `memory` `[N, L]`; `state` counts the letters said."""

    def step(ids: Any, state: Any, memory: Any) -> tuple[Any, Any]:
        letter = tf.gather(memory, tf.minimum(state, tf.shape(memory)[1] - 1), batch_dims=1)
        return 20.0 * tf.one_hot(letter, vocabulary), state + 1

    return step


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_prob_of(table: np.ndarray, ids: Sequence[int]) -> float:
    total, node = 0.0, 0
    for token in ids:
        total += float(table[node, token] - np.logaddexp.reduce(table[node].astype("f8")))
        node = node * table.shape[1] + token + 1
    return total


def penalised(found: Found, length_penalty: float) -> float:
    return found.log_prob / ((5 + len(found.ids)) / 6) ** length_penalty


def complete_hypotheses(task: Task) -> Iterator[Found]:
    """Every sequence there is: all that end in the end id, and all cut off at `max_length`."""
    allowed = [i for i in range(task.table.shape[1]) if i not in task.forbidden_ids]
    going_on = [i for i in allowed if i != task.end_id]
    for length in range(1, task.max_length + 1):
        last_ids: Collection[int] = (
            allowed if length == task.max_length else {*allowed} - {*going_on}
        )
        for ids in itertools.product(*[going_on] * (length - 1), last_ids):
            yield Found(ids, log_prob_of(task.table, ids))


def greedy_by_lists(task: Task) -> Found:
    ids: tuple[int, ...] = ()
    while len(ids) < task.max_length and task.end_id not in ids:
        ids = max(continuations(task, [ids]), key=lambda found: found.log_prob).ids
    return Found(ids, log_prob_of(task.table, ids))


def beam_by_lists(task: Task, *, beam_size: int, length_penalty: float) -> list[Found]:
    """Beam search that runs to the limit, unless all best continuations of a step are complete."""
    live: list[tuple[int, ...]] = [()]
    finished: list[Found] = []
    while live:
        best = sorted(continuations(task, live), key=lambda found: -found.log_prob)
        complete = [
            found.ids[-1] == task.end_id or len(found.ids) == task.max_length for found in best
        ]
        leaving = [found for found, is_complete in zip(best, complete, strict=True) if is_complete]
        finished += [found for found in leaving if found in best[:beam_size]]
        if all(complete[:beam_size]):
            break
        staying = [found for found in best if found not in leaving]
        live = [found.ids for found in staying[:beam_size]]
    return sorted(finished, key=lambda found: -penalised(found, length_penalty))[:beam_size]


def continuations(task: Task, prefixes: Sequence[tuple[int, ...]]) -> list[Found]:
    allowed = [i for i in range(task.table.shape[1]) if i not in task.forbidden_ids]
    longer = [(*prefix, token) for prefix in prefixes for token in allowed]
    return [Found(ids, log_prob_of(task.table, ids)) for ids in longer]


def nucleus(probabilities: np.ndarray, *, top_k: int, top_p: float) -> np.ndarray:
    """`probabilities` without those outside the `top_k` and then `top_p`, adding up to 1."""
    kept = np.zeros_like(probabilities)
    order = np.argsort(-probabilities, kind="stable")[: top_k or None]
    share = top_p * probabilities[order].sum()
    for column in order:
        if kept.sum() >= share:
            break
        kept[column] = probabilities[column]
    return kept / kept.sum()
