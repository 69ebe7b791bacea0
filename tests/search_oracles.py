"""What the searches must find, by plain Python over lists; and steps whose answers are known.

A random step is a table of one row of logits per prefix, numbered as in a heap: the empty prefix is
node 0, and id i after node n leads to node n * V + i + 1. So no two prefixes share their logits,
and a state that is not carried or not reordered gives another result.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

BEGIN = 0  # what the first step is fed; any id would do


class Found(NamedTuple):
    """One hypothesis: its ids, end id included, and the sum of their log-probabilities."""

    ids: tuple[int, ...]
    log_prob: float


class Task(NamedTuple):
    """One sentence: its table `[nodes, V]` of logits, and the limits of its hypotheses."""

    table: np.ndarray
    end_id: int
    max_length: int
    forbidden_ids: tuple[int, ...] = ()
    min_length: int = 0
    prefix: tuple[int, ...] = ()  # -1: free
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    constraints: tuple[tuple[int, ...], ...] = ()


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


def may_follow(task: Task, said: tuple[int, ...]) -> list[int]:
    """The ids that may follow those `said`."""
    n = task.no_repeat_ngram
    ngrams = {said[start : start + n] for start in range(len(said) - n + 1)} if n else set()
    tokens = [
        token
        for token in range(task.table.shape[1])
        if token in wanted(task, said)
        or (
            token not in task.forbidden_ids
            and not (token == task.end_id and len(said) + 1 < task.min_length)
            and (*said, token)[-n:] not in ngrams
        )
    ]
    if is_forced(task, len(said)):
        tokens = [task.prefix[len(said)]]
    return [
        token
        for token in tokens
        if not is_complete(task, (*said, token)) or has_all(task, (*said, token))
    ]


def is_forced(task: Task, place: int) -> bool:
    return place < len(task.prefix) and task.prefix[place] >= 0


def is_complete(task: Task, ids: tuple[int, ...]) -> bool:
    return ids[-1] == task.end_id or len(ids) == task.max_length


def has(said: tuple[int, ...], constraint: tuple[int, ...]) -> bool:
    size = len(constraint)
    return any(said[start : start + size] == constraint for start in range(len(said) + 1))


def has_all(task: Task, said: tuple[int, ...]) -> bool:
    return all(has(said, constraint) for constraint in task.constraints)


def begun(said: tuple[int, ...], constraint: tuple[int, ...]) -> int:
    """The most ids that `constraint` begins and `said` ends with."""
    sizes = range(min(len(said), len(constraint)) + 1)
    return max(size for size in sizes if said[len(said) - size :] == constraint[:size])


def wanted(task: Task, said: tuple[int, ...]) -> set[int]:
    """The next id of each constraint that `said` has not."""
    if is_forced(task, len(said)):
        return set()
    return {each[begun(said, each)] for each in task.constraints if not has(said, each)}


def ids_met(task: Task, said: tuple[int, ...]) -> int:
    whole = sum(len(each) for each in task.constraints if has(said, each))
    return whole + max(
        [begun(said, each) for each in task.constraints if not has(said, each)] + [0]
    )


def in_turns(task: Task, found: Sequence[Found]) -> list[Found]:
    """The best of each number of ids met, highest number first, then the second best, ..."""
    turns: Counter[int] = Counter()
    places = []
    for each in sorted(found, key=lambda found: -score_of(task, found.ids)):
        met = ids_met(task, each.ids)
        places.append((turns[met], -met, each))
        turns[met] += 1
    return [each for _, _, each in sorted(places, key=lambda place: place[:2])]


def score_of(task: Task, ids: Sequence[int]) -> float:
    """The log-probability of `ids` where said ids are less likely by the repetition penalty."""
    total, node = 0.0, 0
    for place, token in enumerate(ids):
        logits = task.table[node].astype("f8")
        for said in set(ids[:place]):
            positive = logits[said] > 0
            logits[said] *= task.repetition_penalty ** (-1 if positive else 1)
        free = not is_forced(task, place) and token not in wanted(task, tuple(ids[:place]))
        total += float(log_softmax(logits if free else task.table[node])[token])
        node = node * task.table.shape[1] + token + 1
    return total


def rank_of(task: Task, ids: Sequence[int], length_penalty: float, formula: str = "gnmt") -> float:
    base = (5 + len(ids)) / 6 if formula == "gnmt" else len(ids)
    return score_of(task, ids) / base**length_penalty


def penalised(found: Found, length_penalty: float) -> float:
    return found.log_prob / ((5 + len(found.ids)) / 6) ** length_penalty


def complete_hypotheses(task: Task, said: tuple[int, ...] = ()) -> Iterator[Found]:
    """Every sequence there is: all that end in the end id, and all cut off at `max_length`."""
    for token in may_follow(task, said):
        ids = (*said, token)
        if is_complete(task, ids):
            yield Found(ids, log_prob_of(task.table, ids))
        else:
            yield from complete_hypotheses(task, ids)


def greedy_by_lists(task: Task) -> Found:
    ids: tuple[int, ...] = ()
    while len(ids) < task.max_length and task.end_id not in ids:
        ids = max(continuations(task, [ids]), key=lambda found: score_of(task, found.ids)).ids
    return Found(ids, log_prob_of(task.table, ids))


def beam_by_lists(
    task: Task, *, beam_size: int, length_penalty: float, formula: str = "gnmt"
) -> list[Found]:
    """Beam search that runs to the limit, unless all best continuations of a step are complete."""
    live: list[tuple[int, ...]] = [()]
    finished: list[Found] = []
    while live:
        best = in_turns(task, continuations(task, live))
        complete = [is_complete(task, found.ids) for found in best]
        leaving = [found for found, is_complete in zip(best, complete, strict=True) if is_complete]
        finished += [found for found in leaving if found in best[:beam_size]]
        if all(complete[:beam_size]):
            break
        staying = [found for found in best if found not in leaving]
        live = [found.ids for found in staying[:beam_size]]
    return sorted(finished, key=lambda found: -rank_of(task, found.ids, length_penalty, formula))[
        :beam_size
    ]


def continuations(task: Task, prefixes: Sequence[tuple[int, ...]]) -> list[Found]:
    longer = [(*prefix, token) for prefix in prefixes for token in may_follow(task, prefix)]
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
