"""Batches: every pair once an epoch, within the budget, any step at once; padding."""

import itertools
import threading
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.batches import (
    BatchPlan,
    BatchShape,
    batches_from,
    make_batch,
    padded,
    padded_length,
)
from seq2seq.errors import DataError, UsageError

GRID = [4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256]
PAD_IDS = {"source_pad_id": 7, "target_pad_id": 9}
length_pairs = st.lists(st.tuples(st.integers(1, 200), st.integers(1, 200)), min_size=1)
many_length_pairs = st.builds(
    lambda pairs, times: pairs * times,
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=6),
    st.integers(1, 60),
)
some_lengths = st.one_of(length_pairs, many_length_pairs)
budgets = st.integers(1, 3000)
relaxed = settings(deadline=None)  # other work on the machine is no fault


class Pairs:
    """A corpus in memory: row n has source ids 100 n, 100 n + 1 .. and target ids 100 n + 50 .."""

    def __init__(self, lengths: list[tuple[int, int]], dtype: type = np.int32) -> None:
        self.source_lengths = np.array([source for source, _ in lengths], np.int32)
        self.target_lengths = np.array([target for _, target in lengths], np.int32)
        self.dtype = dtype

    def source(self, row: int) -> np.ndarray:
        return (100 * row + np.arange(self.source_lengths[row])).astype(self.dtype)

    def target(self, row: int) -> np.ndarray:
        return (100 * row + 50 + np.arange(self.target_lengths[row])).astype(self.dtype)


def plan_of(lengths: list[tuple[int, int]], *, batch_tokens: int, seed: int = 1) -> BatchPlan:
    sources, targets = zip(*lengths, strict=True)
    return BatchPlan(
        np.array(sources, np.int32),
        np.array(targets, np.int32),
        batch_tokens=batch_tokens,
        seed=seed,
    )


def rows_of_epoch(plan: BatchPlan, epoch: int) -> list[list[int]]:
    return [plan.rows(epoch, step).tolist() for step in range(plan.steps_per_epoch)]


def shapes_of_epoch(plan: BatchPlan, epoch: int) -> list[BatchShape]:
    return [plan.shape(epoch, step) for step in range(plan.steps_per_epoch)]


def sentence_lengths(pairs: int, *, seed: int) -> list[tuple[int, int]]:
    """Lengths like those of image captions in pieces: 16 on average, 7 to 56."""
    generator = np.random.default_rng(seed)
    sources = 7 + generator.gamma(2.5, 3.6, pairs)
    targets = sources * generator.normal(1.03, 0.17, pairs)
    return list(
        zip(
            np.clip(np.rint(sources), 7, 56).astype(int).tolist(),
            np.clip(np.rint(targets), 7, 56).astype(int).tolist(),
            strict=True,
        )
    )


# ---- the plan


@relaxed
@given(some_lengths, budgets, st.integers(0, 2**70), st.integers(0, 2**40))
def test_every_row_comes_once_an_epoch(lengths, batch_tokens, seed, epoch):
    plan = plan_of(lengths, batch_tokens=batch_tokens, seed=seed)
    rows = list(itertools.chain(*rows_of_epoch(plan, epoch)))
    assert sorted(rows) == list(range(len(lengths)))


@relaxed
@given(some_lengths, budgets)
def test_batches_keep_to_the_budget_or_are_one_pair(lengths, batch_tokens):
    plan = plan_of(lengths, batch_tokens=batch_tokens)
    for sentences, source_length, target_length in shapes_of_epoch(plan, 0):
        longest = max(source_length, target_length)
        assert sentences * longest <= batch_tokens or sentences == 1


@relaxed
@given(some_lengths, budgets, st.integers(0, 5))
def test_a_shape_is_the_smallest_of_the_grid_that_holds_its_rows(lengths, batch_tokens, epoch):
    plan = plan_of(lengths, batch_tokens=batch_tokens)
    for step in range(plan.steps_per_epoch):
        pairs = [lengths[row] for row in plan.rows(epoch, step)]
        longest_source = max(source for source, _ in pairs)
        longest_target = max(target for _, target in pairs)
        assert plan.shape(epoch, step) == (
            len(pairs),
            min(length for length in GRID if length >= longest_source),
            min(length for length in GRID if length >= longest_target),
        )


@relaxed
@given(some_lengths, budgets)
def test_batches_of_eight_and_more_are_multiples_of_eight(lengths, batch_tokens):
    for shape in plan_of(lengths, batch_tokens=batch_tokens).shapes:
        assert shape.sentences < 8 or shape.sentences % 8 == 0


@relaxed
@given(some_lengths, budgets, st.integers(0, 9), st.integers(1, 9))
def test_epochs_and_seeds_have_the_same_shapes_equally_often(lengths, batch_tokens, epoch, seed):
    plan = plan_of(lengths, batch_tokens=batch_tokens, seed=0)
    other = plan_of(lengths, batch_tokens=batch_tokens, seed=seed)
    first = Counter(shapes_of_epoch(plan, 0))
    assert Counter(shapes_of_epoch(plan, epoch)) == first
    assert Counter(shapes_of_epoch(other, epoch)) == first
    assert plan.shapes == other.shapes == set(first)
    assert plan.steps_per_epoch == other.steps_per_epoch == first.total()


@relaxed
@given(some_lengths, st.integers(20, 300), st.integers(0, 2**40), st.data())
def test_a_step_has_the_same_rows_whatever_was_asked_before(lengths, batch_tokens, seed, data):
    straight = plan_of(lengths, batch_tokens=batch_tokens, seed=seed)
    expected = {
        (epoch, step): (straight.rows(epoch, step).tolist(), straight.shape(epoch, step))
        for epoch in range(3)
        for step in range(straight.steps_per_epoch)
    }
    asked = data.draw(st.lists(st.sampled_from(sorted(expected)), min_size=1, max_size=12))
    jumping = plan_of(lengths, batch_tokens=batch_tokens, seed=seed)
    for epoch, step in asked:
        found = (jumping.rows(epoch, step).tolist(), jumping.shape(epoch, step))
        assert found == expected[epoch, step]


def test_what_a_caller_does_to_rows_changes_no_later_answer():
    plan = plan_of([(5, 5)] * 40, batch_tokens=64)
    expected = plan.rows(2, 3).tolist()
    plan.rows(2, 3)[:] = 0
    assert plan.rows(2, 3).tolist() == expected


def test_rows_are_int64_and_a_plan_takes_any_integer_lengths():
    for dtype in (np.uint8, np.int32, np.uint32, np.int64):
        lengths = np.array([3, 200, 30], dtype)
        plan = BatchPlan(lengths, lengths[::-1], batch_tokens=32, seed=1)
        assert plan.rows(0, 0).dtype == np.int64
        assert plan.shapes == {(1, 4, 32), (1, 224, 224), (1, 32, 4)}


def test_seeds_and_epochs_have_orders_of_their_own():
    lengths = sentence_lengths(300, seed=1)
    # 2**32 and epoch 0 must not be read as 0 and epoch 1, as digits written in one row would be.
    orders = [
        tuple(map(tuple, rows_of_epoch(plan_of(lengths, batch_tokens=256, seed=seed), epoch)))
        for seed in (0, 1, 2, 2**32, 2**32 + 1, 2**64)
        for epoch in (0, 1, 2, 2**32)
    ]
    assert len(set(orders)) == len(orders)


def test_batches_are_not_taken_by_length():
    plan = plan_of(sentence_lengths(3000, seed=2), batch_tokens=512)
    lengths = [shape.target_length for shape in shapes_of_epoch(plan, 0)]
    # Of n shuffled batches the next is longer about as often as it is shorter.
    rises = sum(one < other for one, other in itertools.pairwise(lengths))
    falls = sum(one > other for one, other in itertools.pairwise(lengths))
    assert rises + falls > 0.5 * len(lengths)
    assert 0.7 < rises / falls < 1.4


def test_pairs_of_one_cell_are_dealt_anew_each_epoch():
    # 64 pairs alike, 8 batches of 8. Rows 0 and 1 meet with probability 7 / 63 = 1 / 9: in 360
    # epochs 40 times, standard deviation 6. Row 0 is in each of the steps 45 times, deviation 6.3.
    plan = plan_of([(5, 5)] * 64, batch_tokens=64)
    meetings, steps = 0, Counter()
    for epoch in range(360):
        batches = rows_of_epoch(plan, epoch)
        meetings += any({0, 1} <= set(batch) for batch in batches)
        steps.update(step for step, batch in enumerate(batches) if 0 in batch)
    assert 40 - 4 * 6 < meetings < 40 + 4 * 6
    assert sorted(steps) == list(range(8))
    assert max(abs(count - 45) for count in steps.values()) < 4 * 6.3


def test_pairs_are_cut_along_a_snake_through_the_grid():
    # budget 32: 8 pairs of length 4, 4 of length 8.
    #   target 4: source 4 (9 pairs), source 8 (1)  -> 8 of (4, 4); 1 + 1, and on into the next row
    #   target 8: source 8 (1), then source 4 (2)   -> with these: 4 pairs of (8, 8), 1 pair is left
    lengths = [(4, 4)] * 9 + [(5, 3), (2, 5), (8, 8), (1, 7)]
    plan = plan_of(lengths, batch_tokens=32)
    assert Counter(shapes_of_epoch(plan, 0)) == Counter({(8, 4, 4): 1, (4, 8, 8): 1, (1, 4, 8): 1})
    # The row of (5, 3) and that of (8, 8) lie side by side, so they are always in one batch.
    for epoch in range(8):
        batches = [set(batch) for batch in rows_of_epoch(plan, epoch)]
        assert any({9, 11} <= batch and len(batch) == 4 for batch in batches)


def test_a_pair_over_the_budget_is_a_batch_of_its_own():
    plan = plan_of([(4, 4)] * 8 + [(1000, 4), (4, 500)], batch_tokens=40)
    # 1000 on a grid of 32s is 1024, 500 is 512.
    assert plan.shapes == {(8, 4, 4), (1, 1024, 4), (1, 4, 512)}


def test_one_pair_is_one_step():
    plan = plan_of([(3, 6)], batch_tokens=4096)
    assert plan.steps_per_epoch == 1
    assert plan.shapes == {(1, 4, 8)}
    assert plan.rows(5, 0).tolist() == [0]


def test_a_budget_above_the_data_makes_one_batch_and_the_odd_pairs():
    plan = plan_of([(4, 4)] * 93, batch_tokens=10**9)
    assert plan.shapes == {(88, 4, 4), (5, 4, 4)}
    assert plan.steps_per_epoch == 2


@pytest.mark.parametrize("batch_tokens", [2048, 4096])
def test_captions_are_padded_little_in_few_shapes_and_sizes(batch_tokens):
    lengths = sentence_lengths(29_000, seed=3)
    plan = plan_of(lengths, batch_tokens=batch_tokens)
    sizes, sources, targets = np.array(shapes_of_epoch(plan, 0)).T
    real_source, real_target = np.sum(lengths, axis=0)
    assert 1 - real_target / (sizes * targets).sum() < 0.12
    assert 1 - real_source / (sizes * sources).sum() < 0.14
    assert (sizes * np.maximum(sources, targets)).mean() > 0.9 * batch_tokens
    assert len(set(sizes.tolist())) <= 12
    assert len(plan.shapes) <= 60


def test_a_plan_keeps_a_few_bytes_a_pair():
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 100, (2, 100_000), np.int32)
    tracemalloc.start()
    try:
        plan = BatchPlan(*lengths, batch_tokens=8192, seed=1)
        for epoch in range(3):
            plan.rows(epoch, 0)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 12 * 100_000
    assert peak < 60 * 100_000


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (([], []), "^0 sentence pairs: expected at least 1"),
        (([3, 4], [3]), "^2 source lengths and 1 target lengths: expected one of each"),
        (([3, 0], [3, 3]), "^row 1: source length: got 0, expected 1 or more"),
        (([3, 3, 3], [3, 3, -2]), "^row 2: target length: got -2, expected 1 or more"),
    ],
)
def test_lengths_that_are_none_are_refused(lengths, message):
    sources, targets = (np.array(side, np.int32) for side in lengths)
    with pytest.raises(DataError, match=message):
        BatchPlan(sources, targets, batch_tokens=64, seed=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"batch_tokens": 0, "seed": 1},
            "^batch_tokens: got 0, expected a whole number of 1 or more",
        ),
        ({"batch_tokens": 64, "seed": -1}, "^seed: got -1, expected a whole number of 0 or more"),
    ],
)
def test_options_too_small_are_refused(options, message):
    lengths = np.array([3, 4], np.int32)
    with pytest.raises(UsageError, match=message):
        BatchPlan(lengths, lengths, **options)


@pytest.mark.parametrize("ask", [BatchPlan.rows, BatchPlan.shape])
def test_places_outside_of_training_are_refused(ask):
    plan = plan_of([(4, 4)] * 16, batch_tokens=32)
    with pytest.raises(UsageError, match=r"^step: got 2, expected 0 to 1: an epoch has 2 steps"):
        ask(plan, 0, 2)
    with pytest.raises(UsageError, match=r"^step: got -1, expected 0 to 1"):
        ask(plan, 0, -1)
    with pytest.raises(UsageError, match=r"^epoch: got -1, expected a whole number of 0 or more"):
        ask(plan, -1, 0)


# ---- one batch


def test_sequences_are_filled_up_to_the_longest_or_to_a_width():
    for width, fill in ((None, []), (4, [7])):
        ids, lengths = padded([[1, 2, 3], [], np.array([4])], 7, width)
        assert ids.tolist() == [[1, 2, 3, *fill], [7, 7, 7, *fill], [4, 7, 7, *fill]]
        assert lengths.tolist() == [3, 0, 1]
        assert (ids.dtype, lengths.dtype) == (np.int32, np.int32)
    assert padded([[], []], 7)[0].shape == (2, 0)


def test_a_batch_is_padded_on_the_right_with_the_pad_id_of_its_side():
    corpus = Pairs([(2, 3), (1, 1), (3, 2)])
    batch = make_batch(corpus, np.array([2, 0]), BatchShape(2, 4, 4), **PAD_IDS)
    np.testing.assert_array_equal(batch.source, [[200, 201, 202, 7], [0, 1, 7, 7]])
    np.testing.assert_array_equal(batch.target, [[250, 251, 9, 9], [50, 51, 52, 9]])
    np.testing.assert_array_equal(batch.source_lengths, [3, 2])
    np.testing.assert_array_equal(batch.target_lengths, [2, 3])
    np.testing.assert_array_equal(batch.rows, [2, 0])


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
def test_a_batch_is_int32_whatever_the_corpus_is(dtype):
    corpus = Pairs([(2, 3), (1, 1)], dtype)
    batch = make_batch(corpus, np.array([0, 1], np.int32), BatchShape(2, 4, 4), **PAD_IDS)
    assert [part.dtype for part in batch] == [np.dtype(np.int32)] * 4 + [np.dtype(np.int64)]


@relaxed
@given(length_pairs, st.integers(1, 2000))
def test_batches_hold_the_ids_of_their_rows(lengths, batch_tokens):
    corpus, plan = Pairs(lengths), plan_of(lengths, batch_tokens=batch_tokens)
    for step in range(plan.steps_per_epoch):
        rows, shape = plan.rows(0, step), plan.shape(0, step)
        batch = make_batch(corpus, rows, shape, **PAD_IDS)
        assert (*batch.source.shape, batch.target.shape[1]) == shape
        for place, row in enumerate(rows):
            source = corpus.source(row).tolist()
            target = corpus.target(row).tolist()
            assert batch.source[place].tolist() == source + [7] * (shape[1] - len(source))
            assert batch.target[place].tolist() == target + [9] * (shape[2] - len(target))


def test_a_part_of_the_rows_makes_that_part_of_the_batch():
    lengths = sentence_lengths(64, seed=4)
    corpus, plan = Pairs(lengths), plan_of(lengths, batch_tokens=256)
    rows, shape = plan.rows(0, 1), plan.shape(0, 1)
    whole = make_batch(corpus, rows, shape, **PAD_IDS)
    part = make_batch(corpus, rows[1::2], shape, **PAD_IDS)
    for one, other in zip(part, whole, strict=True):
        np.testing.assert_array_equal(one, other[1::2])


def test_a_pair_longer_than_the_shape_is_an_error():
    corpus = Pairs([(2, 2), (5, 2), (2, 6)])
    with pytest.raises(DataError, match=r"^row 1: got 5 source ids, expected at most 4 .*again$"):
        make_batch(corpus, np.array([0, 1]), BatchShape(2, 4, 4), **PAD_IDS)
    with pytest.raises(DataError, match=r"^row 2: got 6 target ids, expected at most 4"):
        make_batch(corpus, np.array([0, 2]), BatchShape(2, 4, 4), **PAD_IDS)


# ---- batches from a step on


@pytest.mark.parametrize(("epoch", "step"), [(0, 0), (0, 3), (4, 1), (2, -1)])
def test_batches_from_a_step_are_those_of_the_plan(epoch, step):
    lengths = sentence_lengths(60, seed=5)
    corpus, plan = Pairs(lengths), plan_of(lengths, batch_tokens=200)
    step %= plan.steps_per_epoch  # -1: the last one
    places = list(itertools.product(range(epoch, epoch + 3), range(plan.steps_per_epoch)))[step:]
    numbers = itertools.count(epoch * plan.steps_per_epoch + step)
    with batches_from(corpus, plan, numbers, **PAD_IDS) as batches:
        for place, (found_epoch, found_step, batch) in zip(places, batches, strict=False):
            assert (found_epoch, found_step) == place
            expected = make_batch(corpus, plan.rows(*place), plan.shape(*place), **PAD_IDS)
            for one, other in zip(batch, expected, strict=True):
                np.testing.assert_array_equal(one, other)


def test_batches_of_some_numbers_are_those_and_no_others():
    lengths = sentence_lengths(60, seed=5)
    corpus, plan = Pairs(lengths), plan_of(lengths, batch_tokens=200)
    steps = plan.steps_per_epoch
    with batches_from(corpus, plan, [1, 4 * steps, 4 * steps + 2], **PAD_IDS) as batches:
        assert [(each.epoch, each.step) for each in batches] == [(0, 1), (4, 0), (4, 2)]


def test_a_change_is_made_to_each_batch_before_it_is_delivered():
    lengths = sentence_lengths(60, seed=5)
    corpus, plan = Pairs(lengths), plan_of(lengths, batch_tokens=200)
    threads = set()

    def moved(numbered):
        threads.add(threading.current_thread().name)
        return numbered._replace(step=-numbered.step)

    with batches_from(corpus, plan, range(1, 4), change=moved, **PAD_IDS) as batches:
        assert [each.step for each in batches] == [-1, -2, -3]
    assert threads == {"read-ahead"}


def test_the_padded_length_is_that_of_the_plan():
    for length in (1, 4, 5, 29, 63, 200):
        plan = plan_of([(length, 1)], batch_tokens=1000)
        assert plan.shape(0, 0).source_length == padded_length(length)


def test_a_fault_of_the_corpus_is_raised_where_the_batches_are_used():
    lengths = [(4, 4)] * 16
    corpus, plan = Pairs(lengths), plan_of(lengths, batch_tokens=32)
    bad_row = plan.rows(0, 1)[0]
    corpus.source_lengths[bad_row] = 5
    with batches_from(corpus, plan, itertools.count(), **PAD_IDS) as batches:
        assert next(batches).step == 0
        with pytest.raises(DataError, match=rf"^row {bad_row}: got 5 source ids"):
            next(batches)
