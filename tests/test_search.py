"""The searches against enumeration, searches over lists, steps that spell, and sums by hand."""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from search_oracles import (
    BEGIN,
    Found,
    Task,
    beam_by_lists,
    complete_hypotheses,
    count_up_step,
    greedy_by_lists,
    has_all,
    log_prob_of,
    log_softmax,
    nucleus,
    penalised,
    random_table,
    rank_of,
    spelling_step,
    table_step,
)

from seq2seq.constraints import NONE
from seq2seq.errors import UsageError
from seq2seq.search import (
    Hypotheses,
    Limits,
    Start,
    averaged,
    beam_search,
    greedy_search,
    ranking_score,
    sample,
    sample_onwards,
)

SEARCHES = {
    "greedy": greedy_search,
    "sample": lambda *task: sample(*task, seed=3),
    "beam": lambda *task: beam_search(*task, beam_size=3, length_penalty=1.0),
}
every_search = pytest.mark.parametrize("find", SEARCHES.values(), ids=SEARCHES.keys())
repeatably = settings(derandomize=True, deadline=None, database=None, max_examples=20)


def table_start(tables: Sequence[np.ndarray]) -> Start:
    batch = len(tables)
    return Start(tf.fill([batch], BEGIN), tf.fill([batch], -1), {"table": tf.stack(tables)})


def table_limits(tasks: Sequence[Task]) -> Limits:
    """Of tasks that differ in lengths and prefixes of one length only."""
    first = tasks[0]
    prefixes = [task.prefix for task in tasks]
    return Limits(
        first.end_id,
        tf.constant([task.max_length for task in tasks]),
        first.forbidden_ids,
        tf.constant([task.min_length for task in tasks]),
        tf.constant(prefixes) if first.prefix else (),
        first.no_repeat_ngram,
        first.repetition_penalty,
        constraints_of(tasks) if any(task.constraints for task in tasks) else (),
    )


def beams_of(tasks: Sequence[Task], **options: Any) -> Hypotheses:
    """What `beam_search` finds of each."""
    start = table_start([task.table for task in tasks])
    return beam_search(table_step, start, table_limits(tasks), **options)


def constraints_of(tasks: Sequence[Task]) -> tf.Tensor:
    """`[B, X, L]`, filled up."""
    most = max(len(task.constraints) for task in tasks)
    longest = max(len(each) for task in tasks for each in task.constraints)
    filled = np.full((len(tasks), most, longest), NONE, np.int32)
    for row, task in enumerate(tasks):
        for column, each in enumerate(task.constraints):
            filled[row, column, : len(each)] = each
    return tf.constant(filled)


def found_in(hypotheses: Hypotheses) -> list[list[Found]]:
    """The hypotheses that exist, of each sentence."""
    ids, lengths, log_probs, _ = (part.numpy() for part in hypotheses)
    return [
        [
            Found(tuple(ids[b, k, : lengths[b, k]].tolist()), float(log_probs[b, k]))
            for k in range(ids.shape[1])
            if lengths[b, k]
        ]
        for b in range(ids.shape[0])
    ]


def assert_found(found: Sequence[Found], expected: Sequence[Found]) -> None:
    assert [each.ids for each in found] == [each.ids for each in expected]
    log_probs = [each.log_prob for each in expected]
    np.testing.assert_allclose([each.log_prob for each in found], log_probs, rtol=1e-5, atol=1e-5)


def step_of(rows: Sequence[Sequence[float]]) -> Any:
    """A step whose probabilities depend on the last id alone: one row of them for each."""
    log_probs = tf.math.log(tf.constant(rows, tf.float32))
    return lambda ids, state, memory: (tf.gather(log_probs, ids), state)


def test_greedy_search_counts_up_to_the_end() -> None:
    start = Start(tf.constant([5, 2]), ())
    found = greedy_search(count_up_step(10), start, Limits(9, 20))
    np.testing.assert_array_equal(found.ids[:, 0], [[6, 7, 8, 9, 9, 9, 9], [3, 4, 5, 6, 7, 8, 9]])
    np.testing.assert_array_equal(found.lengths, [[4], [7]])


@every_search
def test_one_sentence_ends_while_another_goes_on(find: Any) -> None:
    words = [[3, 0, 0, 0, 0], [1, 2, 3, 4, 0], [4, 4, 0, 0, 0]]
    start = Start(tf.fill([3], BEGIN), tf.zeros([3], tf.int32), tf.constant(words))
    found = find(spelling_step(5), start, Limits(0, 9))
    assert found.ids[:, 0, :5].numpy().tolist() == words
    assert not found.ids[:, 0, 5:].numpy().any()
    assert found.lengths[:, 0].numpy().tolist() == [2, 5, 3]


def test_greedy_log_probs_are_the_sum_with_the_end() -> None:
    # From 0: 1 with 0.5; from 1: 2 with 0.7; from 2: the end, 0, with 0.4.
    step = step_of([[0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.4, 0.3, 0.3]])
    found = greedy_search(step, Start(tf.constant([0]), ()), Limits(0, 9))
    assert_found(found_in(found)[0], [Found((1, 2, 0), math.log(0.5 * 0.7 * 0.4))])


def test_greedy_search_equals_a_search_over_lists() -> None:
    tasks = [Task(random_table(seed, vocabulary=4, depth=4), 3, 1 + seed % 4) for seed in range(24)]
    found = found_in(
        greedy_search(table_step, table_start([task.table for task in tasks]), table_limits(tasks))
    )
    for each, task in zip(found, tasks, strict=True):
        assert_found(each, [greedy_by_lists(task)])


@repeatably
@given(
    seed=st.integers(0, 2**32),
    vocabulary=st.integers(3, 5),
    max_length=st.integers(1, 4),
    length_penalty=st.floats(0.0, 2.0),
    forbidden_ids=st.sets(st.integers(0, 4), max_size=2),
)
def test_a_beam_wide_enough_finds_the_best_of_all(
    seed: int, vocabulary: int, max_length: int, length_penalty: float, forbidden_ids: set[int]
) -> None:
    table = random_table(seed, vocabulary=vocabulary, depth=max_length)
    task = Task(table, vocabulary - 1, max_length, tuple(forbidden_ids - {vocabulary - 1}))
    beam_size = vocabulary * (vocabulary - 1) ** (max_length - 1)
    (found,) = found_in(
        beam_search(
            table_step,
            table_start([table]),
            table_limits([task]),
            beam_size=beam_size,
            length_penalty=length_penalty,
        )
    )
    everything = dict(complete_hypotheses(task))
    assert len({each.ids for each in found}) == len(found) == min(beam_size, len(everything))
    for each in found:
        assert each.log_prob == pytest.approx(everything[each.ids], abs=1e-5)
    # By scores, not by ids: in float32 two hypotheses may change places.
    best = sorted(penalised(Found(*each), length_penalty) for each in everything.items())[::-1]
    scores = [penalised(each, length_penalty) for each in found]
    np.testing.assert_allclose(scores, best[: len(scores)], rtol=1e-5, atol=1e-5)


@repeatably
@given(
    seed=st.integers(0, 2**32),
    vocabulary=st.integers(2, 6),
    beam_size=st.integers(1, 5),
    length_penalty=st.floats(0.0, 2.0),
    forbidden_ids=st.sets(st.integers(0, 5), max_size=1),
)
def test_a_narrow_beam_equals_a_beam_of_lists(
    seed: int, vocabulary: int, beam_size: int, length_penalty: float, forbidden_ids: set[int]
) -> None:
    tasks = [
        Task(
            random_table(seed + max_length, vocabulary=vocabulary, depth=4),
            1,
            max_length,
            tuple(forbidden_ids - {1}),
        )
        for max_length in (4, 1, 3, 2)
    ]
    hypotheses = beams_of(tasks, beam_size=beam_size, length_penalty=length_penalty)
    for found, task in zip(found_in(hypotheses), tasks, strict=True):
        expected = beam_by_lists(task, beam_size=beam_size, length_penalty=length_penalty)
        assert_found(found, expected)


class Options(NamedTuple):
    """A combination of options, drawn at random, for tasks that share it."""

    tasks: list[Task]
    beam_size: int
    length_penalty: float
    length_formula: str


def random_options(seed: int) -> Options:
    random = np.random.default_rng(seed)
    vocabulary = int(random.integers(3, 6))
    end_id = int(random.integers(vocabulary))
    prefix_length = int(random.choice([0, 0, 1, 3]))
    shared = {
        "forbidden_ids": tuple({int(random.integers(vocabulary))} - {end_id})[: seed % 2],
        "no_repeat_ngram": int(random.choice([0, 0, 1, 2, 3])),
        "repetition_penalty": float(random.choice([1.0, 1.0, 1.3, 0.8])),
    }
    tasks = [
        Task(
            random_table(seed * 1000 + number, vocabulary=vocabulary, depth=4),
            end_id,
            int(random.integers(1, 5)),
            min_length=int(random.integers(0, 5)),
            prefix=tuple(random.integers(-1, vocabulary, prefix_length).tolist()),
            **shared,
        )
        for number in range(25)
    ]
    formula = str(random.choice(["gnmt", "power"]))
    return Options(tasks, int(random.integers(1, 6)), float(random.uniform(0, 2)), formula)


@pytest.mark.parametrize("seed", range(40))
def test_a_thousand_sentences_with_all_options_equal_a_beam_of_lists(seed: int) -> None:
    tasks, beam_size, length_penalty, formula = random_options(seed)
    task = table_step, table_start([task.table for task in tasks]), table_limits(tasks)
    hypotheses = beam_search(
        *task, beam_size=beam_size, length_penalty=length_penalty, length_formula=formula
    )
    greedy = found_in(greedy_search(*task))
    for number, (found, task) in enumerate(zip(found_in(hypotheses), tasks, strict=True)):
        expected = beam_by_lists(
            task, beam_size=beam_size, length_penalty=length_penalty, formula=formula
        )
        assert_found(found, expected)
        ranks = [rank_of(task, each.ids, length_penalty, formula) for each in expected]
        scores = hypotheses.scores[number, : len(ranks)]
        np.testing.assert_allclose(scores, ranks, rtol=1e-5, atol=1e-5)
        if greedy[number]:  # else all was forbidden at some step
            assert_found(greedy[number], [greedy_by_lists(task)])


def random_constraints(seed: int) -> Options:
    """Beams that look at every id, and up to three constraints of up to three ids."""
    tasks, _, length_penalty, formula = random_options(seed)
    random = np.random.default_rng(seed)
    vocabulary = tasks[0].table.shape[1]
    said = [token for token in range(vocabulary) if token != tasks[0].end_id]
    tasks = [
        task._replace(
            max_length=int(random.integers(2, 5)),
            constraints=tuple(
                tuple(random.choice(said, random.choice([1, 1, 2, 3])).tolist())
                for _ in range(random.choice([0, 1, 1, 2, 3]))
            ),
        )
        for task in tasks
    ]
    return Options(tasks, int(random.integers(vocabulary - 1, 8)), length_penalty, formula)


@pytest.mark.parametrize("seed", range(40))
def test_a_thousand_sentences_with_constraints_equal_a_beam_of_lists(seed: int) -> None:
    tasks, beam_size, length_penalty, formula = random_constraints(seed)
    found = found_in(
        beams_of(tasks, beam_size=beam_size, length_penalty=length_penalty, length_formula=formula)
    )
    for each, task in zip(found, tasks, strict=True):
        expected = beam_by_lists(
            task, beam_size=beam_size, length_penalty=length_penalty, formula=formula
        )
        assert_found(each, expected)
        assert all(has_all(task, hypothesis.ids) for hypothesis in each)


@repeatably
@given(seed=st.integers(0, 2**32), length_penalty=st.floats(0.0, 2.0))
def test_a_beam_wide_enough_finds_the_best_with_all_constraints(
    seed: int, length_penalty: float
) -> None:
    task = Task(random_table(seed, vocabulary=3, depth=4), 2, 4, constraints=((1, 0), (1,)))
    (found,) = found_in(beams_of([task], beam_size=24, length_penalty=length_penalty))
    every = [each for each in complete_hypotheses(task) if has_all(task, each.ids)]
    # 102, x102, 10x2, and all of four letters but 0000 0001 0011 0111 1111.
    assert len(found) == len(every) == 1 + 2 + 2 + 16 - 5
    assert_found(found[:1], sorted(every, key=lambda each: -penalised(each, length_penalty))[:1])


@pytest.mark.parametrize("beam_size", [1, 2, 3])
def test_constraints_are_met_by_any_beam_with_room_for_them(beam_size: int) -> None:
    # Each overlaps the next, itself, or both: 0 1 0 | 0 1 1 | 1 1.
    constraints = ((0, 1, 0), (0, 1, 1), (1, 1))
    tasks = [
        Task(random_table(seed, vocabulary=4, depth=9), 3, 9, constraints=constraints)
        for seed in range(8)
    ]
    found = found_in(beams_of(tasks, beam_size=beam_size, length_penalty=1.0))
    assert all(has_all(tasks[0], each.ids) for hypotheses in found for each in hypotheses)
    assert all(found)


@pytest.mark.parametrize("find", [SEARCHES["greedy"], SEARCHES["sample"]], ids=["greedy", "sample"])
def test_searches_without_a_beam_refuse_constraints(find: Any) -> None:
    limits = Limits(3, 4, constraints=tf.constant([[[1]]]))
    start = table_start([random_table(0, vocabulary=4, depth=4)])
    with pytest.raises(UsageError, match="constraints: need beam_search"):
        find(table_step, start, limits)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_a_beam_of_one_is_greedy_search(length_penalty: float) -> None:
    tables = [random_table(seed, vocabulary=4, depth=5) for seed in range(40)]
    task = table_step, table_start(tables), Limits(2, 5)
    greedy = greedy_search(*task)
    beam = beam_search(*task, beam_size=1, length_penalty=length_penalty)
    np.testing.assert_array_equal(beam.ids, greedy.ids)
    np.testing.assert_array_equal(beam.lengths, greedy.lengths)
    np.testing.assert_array_equal(beam.log_probs, greedy.log_probs)
    assert len(set(greedy.lengths.numpy().ravel())) > 3  # ends early and late, and not at all


def test_the_best_beginning_need_not_lead_to_the_best_whole() -> None:
    # 1 is likelier than 2 at first, but 2 then surely ends (id 0), and 1 goes on evenly.
    step = step_of([[0.0, 0.6, 0.4], [0.34, 0.33, 0.33], [1.0, 0.0, 0.0]])
    task = step, Start(tf.constant([0]), ()), Limits(0, 2)
    assert found_in(greedy_search(*task))[0][0].ids == (1, 0)
    (found,) = found_in(beam_search(*task, beam_size=2, length_penalty=0.0))
    assert_found(found, [Found((2, 0), math.log(0.4)), Found((1, 0), math.log(0.6 * 0.34))])


def test_a_hypothesis_that_ends_early_keeps_its_score() -> None:
    # Ends at once with 0.45, or says 1 with 0.55 and then surely goes on to the limit.
    step = step_of([[0.45, 0.55], [0.0, 1.0]])
    task = step, Start(tf.constant([0]), ()), Limits(0, 7)
    early, late = Found((0,), math.log(0.45)), Found((1,) * 7, math.log(0.55))
    (found,) = found_in(beam_search(*task, beam_size=2, length_penalty=0.0))
    assert_found(found, [late, early])


def test_length_penalty_favours_the_longer() -> None:
    # Ends at once with 0.5, penalty (6 / 6) ** alpha; or says 1 six times and ends, with 0.4 and
    # penalty (12 / 6) ** alpha: log 0.4 / 2 ** alpha is above log 0.5 if alpha is above 0.403.
    step = step_of([[0.5, 0.4, 0.1], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])

    def counting_step(ids: Any, state: Any, memory: Any) -> tuple[Any, Any]:
        logits, _ = step(tf.where(state == 6, 2, ids), (), ())
        return logits, state + 1

    task = counting_step, Start(tf.constant([0]), tf.constant([0])), Limits(0, 9)
    short = Found((0,), math.log(0.5))
    long = Found((1, 1, 1, 1, 1, 1, 0), math.log(0.4))
    for length_penalty in (0.0, 0.4):
        (found,) = found_in(beam_search(*task, beam_size=2, length_penalty=length_penalty))
        assert_found(found, [short, long])
    for length_penalty in (0.41, 1.0):
        (found,) = found_in(beam_search(*task, beam_size=2, length_penalty=length_penalty))
        assert_found(found, [long, short])


@every_search
def test_nothing_ends_before_the_limit(find: Any) -> None:
    # 0.001 to end; the limits of 3 and 5 come first, and differ by sentence.
    step = step_of([[0.001, 0.999], [0.001, 0.999]])
    found = find(step, Start(tf.constant([1, 1]), ()), Limits(0, tf.constant([3, 5])))
    assert found.lengths[:, 0].numpy().tolist() == [3, 5]
    assert found.ids[:, 0].numpy().tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    np.testing.assert_allclose(
        found.log_probs[:, 0], [3 * math.log(0.999), 5 * math.log(0.999)], rtol=1e-4
    )


def test_fewer_hypotheses_than_beams_leave_empty_slots() -> None:
    step = step_of([[0.3, 0.6, 0.1]] * 3)
    found = beam_search(
        step, Start(tf.constant([0]), ()), Limits(0, 1), beam_size=5, length_penalty=1.0
    )
    assert found.ids[0, :, 0].numpy().tolist() == [1, 0, 2, 0, 0]
    assert found.lengths.numpy().tolist() == [[1, 1, 1, 0, 0]]
    np.testing.assert_allclose(
        found.log_probs, [[*np.log([0.6, 0.3, 0.1]), -np.inf, -np.inf]], rtol=1e-5
    )


@every_search
def test_a_limit_of_no_ids_leaves_the_empty_hypothesis(find: Any) -> None:
    start = Start(tf.constant([5, 2]), ())
    found = find(count_up_step(10), start, Limits(9, tf.constant([0, 2])))
    assert found.lengths[:, 0].numpy().tolist() == [0, 2]
    assert found.log_probs[0, 0] == 0.0
    assert found.ids[:, 0].numpy().tolist() == [[9, 9], [3, 4]]


@every_search
def test_no_sentences_give_no_hypotheses(find: Any) -> None:
    found = find(count_up_step(10), Start(tf.zeros([0], tf.int32), ()), Limits(9, 20))
    assert found.ids.shape[0] == found.ids.shape[2] == found.log_probs.shape[0] == 0


def test_equal_scores_are_ordered_by_id_and_beam() -> None:
    # All three ids are equally likely, and 2 ends. First step: 0 and 1 are the best two, so the end
    # is not. Second: of the six equal continuations, the lower ids of the first beam.
    step = step_of([[1 / 3] * 3] * 3)
    found = beam_search(
        step, Start(tf.constant([0]), ()), Limits(2, 2), beam_size=2, length_penalty=1.0
    )
    assert found.ids.numpy().tolist() == [[[0, 0], [0, 1]]]


def test_of_equal_scores_the_earlier_end_comes_first() -> None:
    # 0 ends at once with a quarter, and after 1 with half of a half.
    step = step_of([[0.25, 0.5, 0.25], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    found = beam_search(
        step, Start(tf.constant([0]), ()), Limits(0, 9), beam_size=2, length_penalty=0.0
    )
    assert found.log_probs[0, 0] == found.log_probs[0, 1]
    assert found.ids.numpy().tolist() == [[[0, 0], [1, 0]]]


@every_search
def test_a_search_stops_as_soon_as_all_sentences_are_done(find: Any) -> None:
    step = CountedStep(spelling_step(9))
    words = tf.constant([[1, 2, 3, 4, 0], [4, 0, 0, 0, 0]])
    find(step, Start(tf.fill([2], BEGIN), tf.zeros([2], tf.int32), words), Limits(0, 1000))
    # The longest word has 5 ids. The two other hypotheses that a beam still wants go on for some
    # steps, but each that is not as spelled costs them 20.
    assert step.calls <= (12 if find is SEARCHES["beam"] else 5)


class CountedStep:
    """A step that counts its calls, which outside of a graph are the steps taken."""

    def __init__(self, step: Any) -> None:
        self.step = step
        self.calls = 0

    def __call__(self, ids: Any, state: Any, memory: Any) -> Any:
        self.calls += 1
        return self.step(ids, state, memory)


@pytest.mark.parametrize(
    ("max_length", "length_penalty", "calls"),
    # At once 0.6 ends and 0.4 goes on, surely and to the limit. log 0.6 = -0.511 is beaten by
    # log 0.4 / ((5 + 6) / 6) = -0.500, but not by log 0.4 / ((5 + 5) / 6) = -0.550.
    [(6, 1.0, 6), (5, 1.0, 1), (1000, 0.0, 1)],
)
def test_a_sentence_is_done_when_its_best_cannot_be_beaten(
    max_length: int, length_penalty: float, calls: int
) -> None:
    step = CountedStep(step_of([[0.6, 0.4], [0.0, 1.0]]))
    options = {"beam_size": 2, "length_penalty": length_penalty, "n_best": 1}
    (found,) = found_in(
        beam_search(step, Start(tf.constant([0]), ()), Limits(0, max_length), **options)
    )
    assert step.calls == calls
    assert found[0].ids == ((0,) if calls == 1 else (1,) * 6)


def test_fewer_wanted_are_the_first_of_all() -> None:
    tables = [random_table(seed, vocabulary=5, depth=5) for seed in range(8)]

    def found(n_best: int) -> list[list[Found]]:
        options = {"beam_size": 4, "length_penalty": 0.0, "n_best": n_best}
        return found_in(beam_search(table_step, table_start(tables), Limits(0, 5), **options))

    everything = found(4)
    for n_best in (1, 2, 3):
        for some, whole in zip(found(n_best), everything, strict=True):
            assert_found(some, whole[:n_best])


def test_every_beam_size_gives_distinct_hypotheses_best_first() -> None:
    tables = [random_table(seed, vocabulary=4, depth=5) for seed in range(20)]
    for beam_size in (2, 3, 6):
        hypotheses = beam_search(
            table_step,
            table_start(tables),
            Limits(0, 5),
            beam_size=beam_size,
            length_penalty=0.7,
        )
        for found, table in zip(found_in(hypotheses), tables, strict=True):
            assert len({each.ids for each in found}) == beam_size
            scores = [penalised(each, 0.7) for each in found]
            assert scores == sorted(scores, reverse=True)
            for each in found:
                assert each.log_prob == pytest.approx(log_prob_of(table, each.ids), abs=1e-5)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_batch_equals_its_sentences_alone(name: str) -> None:
    tables = [random_table(seed, vocabulary=5, depth=5) for seed in range(6)]
    max_length = [5, 2, 1, 4, 5, 3]

    def found(rows: list[int]) -> list[list[Found]]:
        task = (
            table_step,
            table_start([tables[row] for row in rows]),
            Limits(0, tf.constant([max_length[row] for row in rows])),
        )
        if name == "sample":
            return found_in(sample(*task, seed=5, temperature=2.0, top_p=0.9, rows=rows))
        return found_in(SEARCHES[name](*task))

    alone = [found([row])[0] for row in range(6)]
    for rows in ([0, 1, 2, 3, 4, 5], [4, 2, 5]):
        for together, row in zip(found(rows), rows, strict=True):
            assert_found(together, alone[row])


class Cell(NamedTuple):
    """A state with leaves of several ranks and types."""

    node: Any
    extra: dict[str, Any]


@every_search
def test_every_leaf_of_the_state_follows_its_hypothesis(find: Any) -> None:
    tables = [random_table(seed, vocabulary=5, depth=4) for seed in range(8)]

    def step(ids: Any, state: Cell, memory: Any) -> tuple[Any, Cell]:
        logits, node = table_step(ids, state.node, memory)
        # The same node thrice, in other types and ranks; they must never be of another beam.
        alike = (state.extra["float"][:, 0, 0] == tf.cast(state.node, tf.float32)) & (
            state.extra["deep"][0][:, 1] == tf.cast(state.node, tf.int64)
        )
        logits = tf.where(alike[:, None], logits, math.nan)
        return logits, state_of(node)

    def state_of(node: Any) -> Cell:
        return Cell(
            node,
            {
                "float": tf.cast(node, tf.float32)[:, None, None],
                "deep": (tf.cast(tf.stack([node, node], axis=1), tf.int64),),
            },
        )

    start = table_start(tables)
    limits = Limits(0, 4)
    plain = find(table_step, start, limits)
    carried = find(step, start._replace(state=state_of(start.state)), limits)
    np.testing.assert_array_equal(carried.log_probs, plain.log_probs)
    np.testing.assert_array_equal(carried.ids, plain.ids)


def test_the_state_is_carried_from_step_to_step() -> None:
    # What is said is how often the step has been called, by a state of its own in each row.
    def step(ids: Any, state: Any, memory: Any) -> tuple[Any, Any]:
        return 9.0 * tf.one_hot(state, 12), state + 1

    start = Start(tf.constant([0, 0]), tf.constant([3, 6]))
    for find in SEARCHES.values():
        found = find(step, start, Limits(11, 4))
        assert found.ids[:, 0].numpy().tolist() == [[3, 4, 5, 6], [6, 7, 8, 9]]


@every_search
def test_forbidden_ids_are_never_said_and_cost_nothing(find: Any) -> None:
    tables = [random_table(seed, vocabulary=6, depth=4) for seed in range(8)]
    found = find(table_step, table_start(tables), Limits(0, 4, (1, 4, 1)))
    for each, table in zip(found_in(found), tables, strict=True):
        assert not {1, 4} & {token for one in each for token in one.ids}
        for one in each:
            # Of the whole vocabulary: what is forbidden keeps its share.
            assert one.log_prob == pytest.approx(log_prob_of(table, one.ids), abs=1e-5)


@every_search
def test_a_forbidden_end_gives_full_length(find: Any) -> None:
    tables = [random_table(seed, vocabulary=3, depth=4) for seed in range(8)]
    found = find(table_step, table_start(tables), Limits(0, 4, (0,)))
    assert (found.lengths.numpy() == 4).all()
    assert (found.ids.numpy() != 0).all()


@every_search
def test_where_all_is_forbidden_nothing_is_found(find: Any) -> None:
    found = find(
        table_step, table_start([random_table(0, vocabulary=3, depth=4)]), Limits(0, 4, (0, 1, 2))
    )
    assert (found.log_probs.numpy() == -np.inf).all()
    assert (found.lengths.numpy() == 0).all()


@every_search
@pytest.mark.parametrize("vocabulary", [5, 1500])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_distribution_are_marked(find: Any, vocabulary: int, bad: float) -> None:
    good = count_up_step(vocabulary)

    def step(ids: Any, state: Any, memory: Any) -> tuple[Any, Any]:
        logits, _ = good(ids, (), ())
        spoil = (state == 1)[:, None] & memory[:, None] & (tf.range(vocabulary) == 3)
        return tf.where(spoil, bad, logits), state + 1

    start = Start(tf.constant([0, 0]), tf.constant([0, 0]), tf.constant([True, False]))
    found = find(step, start, Limits(4, 9))
    assert np.isnan(found.log_probs[0]).all()
    assert (found.lengths[0].numpy() == 0).all()
    assert found.ids[1, 0, :4].numpy().tolist() == [1, 2, 3, 4]
    assert found.log_probs[1, 0].numpy() == pytest.approx(0.0, abs=1e-4)


@every_search
def test_nothing_but_minus_infinity_is_marked_at_once(find: Any) -> None:
    step = CountedStep(lambda ids, state, memory: (tf.fill([len(ids), 4], -math.inf), state))
    found = find(step, Start(tf.constant([1]), ()), Limits(0, 50))
    assert np.isnan(found.log_probs).all()
    assert step.calls == 1


@every_search
def test_what_follows_an_end_is_never_looked_at(find: Any) -> None:
    # One id goes on and one ends, so that of three beams two have nothing but ends to go on from.
    tables = [random_table(seed, vocabulary=2, depth=5) for seed in range(4)]

    def step(ids: Any, state: Any, memory: Any) -> tuple[Any, Any]:
        logits, state = table_step(ids, state, memory)
        return tf.where((ids == 1)[:, None], math.nan, logits), state

    task = table_start(tables), Limits(1, 5)
    found, expected = find(step, *task), find(table_step, *task)
    np.testing.assert_array_equal(found.log_probs, expected.log_probs)
    assert np.isfinite(found.log_probs).all()


@every_search
def test_a_done_sentence_never_changes(find: Any) -> None:
    # The first is done after 2 steps; from the fourth on all its logits are NaN, then certain ends.
    def step(ids: Any, state: Any, memory: Any) -> tuple[Any, Any]:
        logits, after = spelling_step(7)(ids, state, memory)
        dead = (state >= 3)[:, None] & (memory[:, 1:2] == 0)
        wrong = tf.where((state >= 6)[:, None], 20.0 * tf.one_hot(0, 7), math.nan)
        return tf.where(dead, wrong, logits), after

    words = tf.constant([[3, 0, 0, 0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 1, 2, 0]])
    start = Start(tf.fill([2], BEGIN), tf.zeros([2], tf.int32), words)
    options = {"beam_size": 2, "length_penalty": 0.0, "n_best": 1}
    if find is SEARCHES["beam"]:
        found = beam_search(step, start, Limits(0, 12), **options)
    else:
        found = find(step, start, Limits(0, 12))
    assert found.ids[:, 0].numpy().tolist() == words.numpy().tolist()
    assert found.lengths[:, 0].numpy().tolist() == [2, 9]
    assert np.isfinite(found.log_probs).all()


@every_search
def test_a_graph_of_any_batch_size_gives_what_eager_search_does(find: Any) -> None:
    tables = tf.stack([random_table(seed, vocabulary=4, depth=4) for seed in range(5)])
    traces = []

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None]), tf.TensorSpec([None], tf.int32)]
    )
    def graph(tables: Any, max_length: Any) -> Hypotheses:
        traces.append(tables)
        batch = tf.shape(tables)[0]
        start = Start(tf.fill([batch], BEGIN), tf.fill([batch], -1), {"table": tables})
        return find(table_step, start, Limits(0, max_length, (2,)))

    for batch in (5, 2, 0):
        max_length = tf.constant([4, 2, 3, 1, 4][:batch], tf.int32)
        limits = Limits(0, max_length, (2,))
        eager = find(table_step, table_start(tables[:batch].numpy()), limits) if batch else None
        found = graph(tables[:batch], max_length)
        assert found.ids.shape[0] == batch
        if eager:
            np.testing.assert_array_equal(found.ids, eager.ids)
            np.testing.assert_array_equal(found.lengths, eager.lengths)
            np.testing.assert_allclose(found.log_probs, eager.log_probs, rtol=1e-6)
    assert len(traces) == 1


@every_search
def test_half_precision_logits_are_searched_in_full_precision(find: Any) -> None:
    table = tf.cast(random_table(1, vocabulary=40, depth=2), tf.bfloat16)

    def step(ids: Any, state: Any, memory: Any) -> tuple[Any, Any]:
        return tf.gather(table, ids), state

    def full_step(ids: Any, state: Any, memory: Any) -> tuple[Any, Any]:
        return tf.cast(tf.gather(table, ids), tf.float32), state

    task = Start(tf.constant([1, 2]), ()), Limits(0, 6)
    half, full = find(step, *task), find(full_step, *task)
    assert half.log_probs.dtype == tf.float32
    np.testing.assert_array_equal(half.log_probs, full.log_probs)
    np.testing.assert_array_equal(half.ids, full.ids)


def test_large_vocabularies_are_searched_as_small_ones() -> None:
    # 1,100 ids are searched in blocks; the beam over lists knows none.
    table = np.random.default_rng(2).normal(size=(2, 1100)).astype("f4")
    table[:, 700] = 9.0, 3.0
    task = Task(table, 1, 1)
    (found,) = found_in(
        beam_search(
            table_step, table_start([table]), table_limits([task]), beam_size=7, length_penalty=1.0
        )
    )
    assert_found(found, beam_by_lists(task, beam_size=7, length_penalty=1.0))


def test_small_probabilities_are_not_lost() -> None:
    # exp(-200) is 0 in float32, its logarithm is not.
    step = step_of([[1.0, 1.0], [1.0, 1.0]])

    def steep(ids: Any, state: Any, memory: Any) -> tuple[Any, Any]:
        logits, _ = step(ids, (), ())
        return logits + tf.constant([0.0, -200.0]), state

    found = beam_search(
        steep, Start(tf.constant([0]), ()), Limits(0, 1), beam_size=2, length_penalty=0.0
    )
    np.testing.assert_allclose(found.log_probs, [[0.0, -200.0]], atol=1e-4)


def test_top_1_samples_are_greedy() -> None:
    tables = [random_table(seed, vocabulary=5, depth=5) for seed in range(30)]
    task = table_step, table_start(tables), Limits(0, 5)
    greedy = greedy_search(*task)
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"top_k": 3, "top_p": 1e-6}):
        found = sample(*task, seed=1, temperature=3.0, **options)
        np.testing.assert_array_equal(found.ids, greedy.ids)
        np.testing.assert_allclose(found.log_probs, greedy.log_probs, rtol=1e-5, atol=1e-6)


def test_of_equal_ids_the_lower_is_in_the_nucleus() -> None:
    step = step_of([[0.2, 0.4, 0.4]])
    found = sample(step, Start(tf.zeros([100], tf.int32), ()), Limits(0, 1), seed=1, top_p=0.3)
    assert (found.ids.numpy() == 1).all()


def test_equal_seeds_give_equal_samples_and_others_do_not() -> None:
    step = step_of([[0.1] * 10] * 10)
    task = step, Start(tf.zeros([50], tf.int32), ()), Limits(0, 10, (0,))
    first, again, other = (sample(*task, seed=seed).ids.numpy() for seed in (1, 1, 2))
    tensor = sample(*task, seed=tf.constant(1)).ids.numpy()
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, tensor)
    # Of 500 ids drawn from 9, about a ninth agree by chance.
    assert (first != other).mean() > 0.8
    assert (first[:-1] != first[1:]).mean() > 0.8
    assert (first[..., :-1] != first[..., 1:]).mean() > 0.8


def test_options_may_be_tensors() -> None:
    # As in a graph that serves all values of them.
    task = table_step, table_start([random_table(1, vocabulary=5, depth=5)] * 9), Limits(0, 5)
    for temperature, top_p in ((2.0, 0.8), (0.5, 1.0)):
        numbers = sample(*task, seed=7, temperature=temperature, top_p=top_p)
        tensors = sample(
            *task,
            seed=tf.constant(7, tf.int64),
            temperature=tf.constant(temperature),
            top_p=tf.constant(top_p),
        )
        np.testing.assert_array_equal(numbers.ids, tensors.ids)
    number = beam_search(*task, beam_size=3, length_penalty=0.5)
    tensor = beam_search(*task, beam_size=3, length_penalty=tf.constant(0.5))
    np.testing.assert_array_equal(number.ids, tensor.ids)


ROWS = 20_000
# The 0.999 quantile of chi-square for 1, 2, ... degrees of freedom (Abramowitz & Stegun, 26.8).
CHI_SQUARE = [10.828, 13.816, 16.266, 18.467, 20.515, 22.458, 24.322, 26.124, 27.877]


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> float:
    possible = probabilities > 0
    assert not counts[~possible].any()
    expected = counts.sum() * probabilities[possible]
    return float(((counts[possible] - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("vocabulary", [6, 1500])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 2.0},
        {"temperature": 0.5, "top_k": 3},
        {"top_p": 0.8},
        {"top_k": 4, "top_p": 0.7, "temperature": 1.5},
    ],
    ids=str,
)
def test_samples_follow_the_distribution(vocabulary: int, options: dict[str, Any]) -> None:
    # Six likely ids; in a large vocabulary, some in one block and some far apart.
    likely = np.array([0, 1, 2, 3, 4, 5] if vocabulary == 6 else [0, 1, 40, 700, 701, 1499])
    logits = np.full(vocabulary, -30.0, "f4")
    logits[likely] = [1.0, 2.0, 0.5, 1.5, 0.3, 0.0]

    def step(ids: Any, state: Any, memory: Any) -> tuple[Any, Any]:
        return tf.tile(logits[None], [len(ids), 1]), state

    rows = ROWS if vocabulary < 100 else ROWS // 20
    task = step, Start(tf.zeros([rows], tf.int32), ()), Limits(0, 1)
    found = sample(*task, seed=11, **options)
    tempered = np.exp(log_softmax(logits / options.get("temperature", 1.0)))
    expected = nucleus(tempered, top_k=options.get("top_k", 0), top_p=options.get("top_p", 1.0))
    counts = np.bincount(found.ids.numpy().ravel(), minlength=vocabulary)
    assert counts[likely].sum() == rows
    kept = expected[likely][expected[likely] > 0]
    assert chi_square(counts[likely], expected[likely] / kept.sum()) < CHI_SQUARE[len(kept) - 2]
    # What was drawn is tempered and cut; what it is worth to the model is not.
    worth = log_softmax(logits)[found.ids.numpy().ravel()]
    np.testing.assert_allclose(found.log_probs.numpy().ravel(), worth, rtol=1e-5)


def test_draws_at_two_positions_are_independent() -> None:
    step = step_of([[0.0, 1 / 3, 1 / 3, 1 / 3]] * 4)
    ids = sample(step, Start(tf.zeros([ROWS], tf.int32), ()), Limits(0, 2), seed=4).ids.numpy()
    counts = np.bincount((ids[:, 0, 0] - 1) * 3 + ids[:, 0, 1] - 1, minlength=9)
    assert chi_square(counts, np.full(9, 1 / 9)) < CHI_SQUARE[8 - 1]


def test_ranking_score_is_the_papers() -> None:
    # (5 + 7) / 6 = 2, (5 + 1) / 6 = 1, (5 + 13) / 6 = 3.
    log_probs, lengths = tf.constant([-6.0, -6.0, -6.0]), tf.constant([7, 1, 13])
    np.testing.assert_allclose(ranking_score(log_probs, lengths, 1.0), [-3.0, -6.0, -2.0])
    np.testing.assert_allclose(ranking_score(log_probs, lengths, 2.0), [-1.5, -6.0, -6 / 9])
    np.testing.assert_allclose(ranking_score(log_probs, lengths, 0.0), [-6.0, -6.0, -6.0])


def test_an_enormous_length_penalty_ranks_and_marks_empty_slots() -> None:
    # 3 ** 100 is more than a float32 can be; an empty slot has a score of -inf, not of NaN.
    scores = ranking_score(tf.constant([-6.0, -7.0, -math.inf]), tf.constant([13] * 3), 100.0)
    assert scores[1] < scores[0] < 0.0
    assert scores[2] == -math.inf


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, r"^beam_size: got 0, expected 1 or more$"),
        ({"n_best": 0}, r"^n_best: got 0, expected 1 to 3 \(beam_size\)$"),
        ({"n_best": 4}, r"^n_best: got 4, expected 1 to 3 \(beam_size\)$"),
        ({"length_penalty": -0.1}, r"^length_penalty: got -0.1, expected 0 or more$"),
        ({"length_penalty": math.nan}, r"^length_penalty: got nan, expected 0 or more$"),
    ],
)
def test_beam_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    options = {"beam_size": 3, "length_penalty": 1.0, **options}
    with pytest.raises(UsageError, match=message):
        beam_search(count_up_step(5), Start(tf.constant([0]), ()), Limits(4, 9), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, r"^temperature: got 0.0, expected a finite number above 0$"),
        ({"temperature": -1.0}, r"^temperature: got -1.0, expected a finite number above 0$"),
        ({"temperature": math.inf}, r"^temperature: got inf, expected a finite number above 0$"),
        ({"top_k": -1}, r"^top_k: got -1, expected 0 \(all ids\) or more$"),
        ({"top_p": 0.0}, r"^top_p: got 0.0, expected a number above 0 and at most 1$"),
        ({"top_p": 1.5}, r"^top_p: got 1.5, expected a number above 0 and at most 1$"),
    ],
)
def test_sampling_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sample(count_up_step(5), Start(tf.constant([0]), ()), Limits(4, 9), seed=1, **options)


# --- what is added to scores, ensembles, memory, sentences that leave -----------------------------


def test_a_completion_score_ranks_complete_hypotheses() -> None:
    tables = [random_table(seed, vocabulary=4, depth=3) for seed in range(20)]
    visits = [node % 7 / 3.0 for node in range(200)]  # any function of the state

    def lost(state: Any, memory: Any) -> tf.Tensor:
        return -tf.gather(tf.constant(visits), state)

    hypotheses = beam_search(
        table_step,
        table_start(tables),
        Limits(1, 3),
        beam_size=4 * 3**2,
        length_penalty=0.7,
        completion_score=lost,
    )
    for number, (table, found) in enumerate(zip(tables, found_in(hypotheses), strict=True)):
        expected = []
        for each in complete_hypotheses(Task(table, 1, 3)):
            node = 0  # the state when the last id was said: what precedes it was read
            for token in each.ids[:-1]:
                node = node * 4 + token + 1
            expected.append(penalised(each, 0.7) - visits[node])
        expected.sort(reverse=True)
        scores = hypotheses.scores[number].numpy()[: len(found)]
        np.testing.assert_allclose(scores, expected[: len(found)], rtol=1e-5, atol=1e-5)


def test_an_ensemble_searches_the_mean_of_the_probabilities() -> None:
    tables = [[random_table(10 * s + m, vocabulary=4, depth=3) for m in (0, 1)] for s in range(9)]
    first, second = (
        table_start([of_sentence[model] for of_sentence in tables]) for model in (0, 1)
    )
    both = Start(first.ids, (first.state, second.state), (first.memory, second.memory))
    step = averaged([table_step, table_step])
    hypotheses = beam_search(step, both, Limits(1, 3), beam_size=3, length_penalty=1.0)
    for found, (one, other) in zip(found_in(hypotheses), tables, strict=True):
        mean = np.log((np.exp(log_softmax(one)) + np.exp(log_softmax(other))) / 2)
        expected = beam_by_lists(Task(mean, 1, 3), beam_size=3, length_penalty=1.0)
        assert_found(found, expected)


@pytest.mark.parametrize("penalty", [0.5, 1.5, 3.0])
def test_equal_models_repeat_themselves_as_little_as_one_of_them(penalty: float) -> None:
    logits = tf.constant([[0.0, 1.0, 7.5, 2.0, 10.0]])

    def step(ids: Any, state: Any, memory: Any) -> Any:
        return tf.repeat(logits, tf.size(ids), axis=0), state

    limits = Limits(2, 6, repetition_penalty=penalty)
    one = greedy_search(step, Start(tf.constant([0]), (), ()), limits)
    start = Start(tf.constant([0]), ((), (), ()), ((), (), ()))
    three = greedy_search(averaged([step, step, step]), start, limits)
    assert three.ids.numpy().tolist() == one.ids.numpy().tolist()
    np.testing.assert_allclose(three.log_probs, one.log_probs, rtol=1e-5)


def test_a_memory_need_not_be_repeated_for_every_beam() -> None:
    tables = [random_table(seed, vocabulary=5, depth=4) for seed in range(12)]

    def step(ids: Any, state: Any, memory: Any) -> Any:
        times = tf.size(ids) // tf.shape(memory["table"])[0]
        return table_step(ids, state, {"table": tf.repeat(memory["table"], times, axis=0)})

    start, limits = table_start(tables), Limits(1, tf.constant([4, 3, 2, 1] * 3))
    options = {"beam_size": 3, "length_penalty": 0.5}
    found = beam_search(step, start, limits, repeat_memory=False, **options)
    expected = beam_search(table_step, start, limits, **options)
    assert found_in(found) == found_in(expected)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_sentences_that_are_done_leave_the_batch(beam_size: int) -> None:
    lengths = [1] * 20 + [2] * 20 + [6] * 3
    rows = []

    def step(ids: Any, state: Any, memory: Any) -> Any:
        rows.append(int(tf.size(ids)))
        return spelling_step(9)(ids, state, memory)

    letters = tf.constant([[5] * (length - 1) + [0] * (7 - length) for length in lengths])
    start = Start(tf.zeros([43], tf.int32), tf.zeros([43], tf.int32), letters)
    found = beam_search(
        step, start, Limits(0, 7), beam_size=beam_size, length_penalty=0.0, n_best=1
    )
    assert found.lengths[:, 0].numpy().tolist() == lengths
    # Of 43 sentences the first step leaves 23, the second 3: they fill up 24 and 8 places.
    assert rows == [43, *(places * beam_size for places in (24, 8, 8, 8, 8))]


@every_search
def test_the_order_of_sentences_changes_nothing(find: Any) -> None:
    if find is SEARCHES["sample"]:
        numbers = iter([tf.range(30), tf.constant(np.random.default_rng(0).permutation(30))])
        find = lambda *task: sample(*task, seed=3, rows=next(numbers))  # noqa: E731
    tables = [random_table(seed, vocabulary=6, depth=4) for seed in range(30)]
    limits = [1 + seed % 4 for seed in range(30)]
    order = np.random.default_rng(0).permutation(30)
    found = found_in(find(table_step, table_start(tables), Limits(1, tf.constant(limits))))
    moved = table_start([tables[place] for place in order])
    again = found_in(
        find(table_step, moved, Limits(1, tf.constant([limits[place] for place in order])))
    )
    for each, place in zip(again, order, strict=True):
        assert_found(each, found[place])


# --- texts that go on -----------------------------------------------------------------------------


def chain_start(rows: int, state: int = 0) -> Start:
    return Start(tf.fill([rows], BEGIN), tf.fill([rows], state), ())


def chain_step(ids: Any, state: Any, memory: Any) -> Any:
    """Logits that depend on the last id and on how many were read."""
    position = tf.cast(state[:, None], tf.float32)
    return tf.sin(tf.range(7.0) * (1.3 + tf.cast(ids[:, None], tf.float32)) + position), state + 1


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_k": 4}, {"top_p": 0.8}])
@pytest.mark.parametrize("lengths", [[1] * 12, [5, 7], [12, 0]])
def test_a_text_is_the_same_in_whatever_lengths_it_is_drawn(
    lengths: list[int], options: dict[str, Any]
) -> None:
    whole, _ = sample_onwards(chain_step, chain_start(4), 12, seed=3, **options)
    drawn, start, position = [], chain_start(4), 0
    for length in lengths:
        ids, start = sample_onwards(chain_step, start, length, seed=3, position=position, **options)
        drawn.append(ids.numpy())
        position += length
    np.testing.assert_array_equal(np.concatenate(drawn, axis=1), whole)
    assert start.state.numpy().tolist() == [12] * 4
    assert (start.ids == whole[:, -1]).numpy().all()


def test_texts_that_go_on_are_samples_without_an_end() -> None:
    ids, _ = sample_onwards(chain_step, chain_start(5), 9, seed=8, forbidden_ids=(2,))
    expected = sample(chain_step, chain_start(5), Limits(2, 9, (2,)), seed=8)
    np.testing.assert_array_equal(ids, expected.ids[:, 0])
    assert len({tuple(row) for row in ids.numpy().tolist()}) == 5


def test_a_text_stops_where_there_is_no_distribution() -> None:
    def step(ids: Any, state: Any, memory: Any) -> Any:
        logits, after = chain_step(ids, state, memory)
        return tf.where(state[:, None] == 2, math.nan, logits), after

    ids, _ = sample_onwards(step, chain_start(1), 4, seed=1)
    assert ids.shape == (1, 4)
    assert (ids[0, 2:] == -1).numpy().all()


def test_a_text_that_stopped_stops_no_other_one() -> None:
    embeddings = tf.random.stateless_normal([5, 5], [1, 2])

    def step(ids: Any, state: Any, memory: Any) -> Any:
        logits = tf.gather(embeddings, ids)  # which knows no id of -1
        return tf.where(state[:, None] >= 2, math.nan, logits), state + memory

    start = Start(tf.constant([1, 1]), tf.zeros([2], tf.int32), tf.constant([1, 0]))
    ids, after = sample_onwards(step, start, 5, seed=1)
    assert ids[0].numpy().tolist()[2:] == [-1, -1, -1]
    assert (ids[1] >= 0).numpy().all()
    assert (after.ids >= 0).numpy().all()


# What callers may give


TABLE = np.random.default_rng(2).normal(size=(7, 7)).astype(np.float32)
THREE = Start(tf.zeros([3], tf.int32), ())


def next_of(ids: tf.Tensor, state: Any, memory: Any) -> tuple[tf.Tensor, Any]:
    return tf.gather(TABLE, ids), state


@pytest.mark.parametrize("number", [0.5, np.float64(0.5), np.float32(0.5), Fraction(1, 2)])
def test_numbers_of_any_kind_are_numbers(number: Any) -> None:
    limits = Limits(3, 5)
    expected = sample(next_of, THREE, limits, seed=1, temperature=0.5, top_p=0.5)
    found = sample(next_of, THREE, limits, seed=1, temperature=number, top_p=number)
    np.testing.assert_array_equal(found.ids, expected.ids)
    beams = [
        beam_search(next_of, THREE, limits, beam_size=2, length_penalty=each)
        for each in (0.5, number)
    ]
    np.testing.assert_array_equal(beams[0].scores, beams[1].scores)


@pytest.mark.parametrize("number", [1, 2, tf.constant(2.0, tf.float64), np.int64(2)])
def test_whole_numbers_and_wide_ones_are_temperatures_too(number: Any) -> None:
    found = sample(next_of, THREE, Limits(3, 5), seed=1, temperature=number)
    expected = sample(next_of, THREE, Limits(3, 5), seed=1, temperature=float(number))
    np.testing.assert_array_equal(found.ids, expected.ids)


@every_search
@pytest.mark.parametrize(
    "prefix",
    [[[5], [5], [6]], np.array([[5], [5], [6]]), tf.constant([[5], [5], [6]], tf.int64)],
    ids=["list", "array", "int64"],
)
def test_a_prefix_may_be_anything_like_a_tensor(find: Any, prefix: Any) -> None:
    found = find(next_of, THREE, Limits(3, 5, prefix=prefix))
    assert found.ids.numpy()[:, 0, 0].tolist() == [5, 5, 6]


@every_search
@pytest.mark.parametrize("least", [(4, 4, 5), [4, 4, 5], np.array([4, 4, 5])])
def test_a_least_length_may_be_a_tuple(find: Any, least: Any) -> None:
    found = find(next_of, THREE, Limits(3, 5, min_length=least))
    assert (found.lengths.numpy()[:, 0] >= [4, 4, 5]).all()


def test_constraints_may_be_a_list() -> None:
    limits = Limits(3, 6, constraints=[[[5, 6]]] * 3)
    found = beam_search(next_of, THREE, limits, beam_size=3, length_penalty=0.0)
    for row in found.ids.numpy()[:, 0].tolist():
        assert (5, 6) in itertools.pairwise(row)


@pytest.mark.parametrize("find", [SEARCHES["greedy"], SEARCHES["sample"]], ids=["greedy", "sample"])
def test_texts_without_an_end_may_have_lengths_and_penalties_of_their_own(find: Any) -> None:
    limits = Limits(end_id=-1, max_length=[2, 3, 4], repetition_penalty=1.5)
    assert find(next_of, THREE, limits).lengths.numpy()[:, 0].tolist() == [2, 3, 4]


@pytest.mark.parametrize("ngram", [6, 1_000, 10**9])
def test_runs_longer_than_a_hypothesis_are_never_repeated(ngram: int) -> None:
    plain = greedy_search(next_of, THREE, Limits(3, 5))
    found = greedy_search(next_of, THREE, Limits(3, 5, no_repeat_ngram=ngram))
    np.testing.assert_array_equal(found.ids, plain.ids)


def test_a_length_formula_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^length_formula: got 'foo', expected gnmt or power"):
        ranking_score(tf.constant([-1.0]), tf.constant([3]), 1.0, "foo")
