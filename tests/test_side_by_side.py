"""Work side by side: how much at a time, in which order, and what a fault leaves undone."""

import threading

import pytest

from seq2seq.side_by_side import side_by_side

PATIENCE = 30.0  # seconds until a test that hangs fails


def test_results_come_in_the_order_of_the_items_whichever_is_done_first() -> None:
    later_is_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert later_is_done.wait(PATIENCE)
        else:
            later_is_done.set()
        return item * 10

    assert list(side_by_side(work, [0, 1, 2], threads=2)) == [0, 10, 20]


@pytest.mark.parametrize("threads", [2, 3])
def test_as_many_items_as_there_are_threads_are_worked_on_at_a_time(threads: int) -> None:
    together, at_work, most = threading.Barrier(threads), [0], [0]
    lock = threading.Lock()

    def work(item: int) -> int:
        with lock:
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
        together.wait(PATIENCE)  # passes only when so many are here
        with lock:
            at_work[0] -= 1
        return item

    items = range(3 * threads)
    assert list(side_by_side(work, items, threads=threads)) == list(items)
    assert most == [threads]


@pytest.mark.parametrize(("items", "threads"), [("", 2), ("a", 2), ("abc", 1)])
def test_what_cannot_be_side_by_side_is_done_by_the_calling_thread(
    items: str, threads: int
) -> None:
    found = side_by_side(lambda item: (item, threading.current_thread()), items, threads=threads)
    assert list(found) == [(item, threading.current_thread()) for item in items]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_fault_comes_up_in_its_place_and_what_was_not_begun_never_is(threads: int) -> None:
    begun: list[int] = []
    released = threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item == 1:
            raise ValueError("item 1")
        if item > 1:  # as long as the fault may take to be seen
            released.wait(PATIENCE)
        return item

    results = side_by_side(work, range(1000), threads=threads)
    assert next(results) == 0
    release = threading.Timer(0.2, released.set)  # a pool waits for what it is at
    release.start()
    with pytest.raises(ValueError, match="item 1"):
        next(results)
    release.join()
    assert len(begun) <= 2 + threads


def test_what_was_not_begun_when_the_iterator_is_closed_never_is() -> None:
    begun: list[int] = []
    closed = threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item:
            closed.wait(PATIENCE)
        return item

    results = side_by_side(work, range(1000), threads=2)
    assert next(results) == 0
    release = threading.Timer(0.2, closed.set)
    release.start()
    results.close()
    release.join()
    assert len(begun) <= 3
