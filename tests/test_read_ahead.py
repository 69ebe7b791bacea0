"""Items made ahead by a thread: in order, no more than allowed, errors in turn, no thread left."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from seq2seq.read_ahead import read_ahead


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline, "waited 10 s in vain"
        time.sleep(0.001)


class Counting:
    """0, 1, 2 .. without end; `made` is how many were taken."""

    def __init__(self) -> None:
        self.made = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self.made += 1
        return self.made - 1


def failing_after(items: list[str], error: BaseException) -> Iterator[str]:
    yield from items
    raise error


def test_items_come_in_order_and_end_with_the_iterator():
    with read_ahead(iter("abc"), 2) as items:
        assert list(items) == ["a", "b", "c"]
        assert list(items) == []
    with read_ahead(iter(""), 1) as items:
        assert list(items) == []


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_than_the_limit_is_made_ahead(limit):
    source = Counting()
    with read_ahead(source, limit) as items:
        for taken in range(4):
            expected = limit + taken
            wait_until(lambda expected=expected: source.made >= expected)
            time.sleep(0.02)  # time enough to make more, were it allowed
            assert source.made == expected
            assert next(items) == taken


@pytest.mark.parametrize("error", [ValueError("no"), MemoryError("no"), SystemExit(3)])
def test_errors_are_raised_in_their_turn_once(error):
    with read_ahead(failing_after(["a", "b"], error), 5) as items:
        wait_until(lambda: threads() == [])  # it has failed; the items are still there
        assert next(items) == "a"
        assert next(items) == "b"
        with pytest.raises(type(error)) as caught:
            next(items)
        assert caught.value is error
        assert list(items) == []


def test_leaving_the_block_ends_the_thread_and_the_iteration():
    with read_ahead(Counting(), 3) as items:
        assert next(items) == 0
    assert threads() == []
    assert list(items) == []


def fail_within_the_block() -> None:
    with read_ahead(Counting(), 3) as items:
        next(items)
        raise KeyError("mine")


def test_leaving_the_block_by_an_error_ends_the_thread():
    with pytest.raises(KeyError, match="mine"):
        fail_within_the_block()
    assert threads() == []


def test_leaving_waits_for_the_item_in_the_making_and_makes_no_more():
    gate, made = threading.Semaphore(0), []

    def gated() -> Iterator[int]:
        for number in itertools.count():
            gate.acquire(timeout=10)
            made.append(number)
            yield number

    def enter_and_leave() -> None:
        with read_ahead(gated(), 100):
            pass

    leaving = threading.Thread(target=enter_and_leave)
    leaving.start()
    time.sleep(0.02)
    assert leaving.is_alive()
    while leaving.is_alive():
        gate.release()
        time.sleep(0.01)
    assert threads() == []
    assert 1 <= len(made) < 100
