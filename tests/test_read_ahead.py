"""Items made ahead by a thread: in order, no more than allowed, errors in turn, no thread left."""

import gc
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import pytest

from seq2seq.errors import UsageError
from seq2seq.read_ahead import ReadAhead


def read_ahead_threads() -> list[threading.Thread]:
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
    with ReadAhead(iter("abc"), 2) as items:
        assert list(items) == ["a", "b", "c"]
        assert list(items) == []
    assert list(ReadAhead(iter(""), 1)) == []


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_than_the_limit_is_made_ahead(limit):
    source = Counting()
    with ReadAhead(source, limit) as items:
        for taken in range(4):
            expected = limit + taken
            wait_until(lambda expected=expected: source.made >= expected)
            time.sleep(0.02)  # time enough to make more, were it allowed
            assert source.made == expected
            assert next(items) == taken


@pytest.mark.parametrize("error", [ValueError("no"), MemoryError("no"), SystemExit(3)])
def test_errors_are_raised_in_their_turn_once(error):
    items = ReadAhead(failing_after(["a", "b"], error), 5)
    wait_until(lambda: read_ahead_threads() == [])  # it has failed; the items are still there
    assert next(items) == "a"
    assert next(items) == "b"
    with pytest.raises(type(error)) as caught:
        next(items)
    assert caught.value is error
    assert list(items) == []


def test_closing_ends_the_thread_and_the_iteration():
    items = ReadAhead(Counting(), 3)
    assert next(items) == 0
    items.close()
    assert read_ahead_threads() == []
    assert list(items) == []
    items.close()


def fail_within_the_block() -> None:
    with ReadAhead(Counting(), 3) as items:
        next(items)
        raise KeyError("mine")


def test_leaving_the_block_by_an_error_ends_the_thread():
    with pytest.raises(KeyError, match="mine"):
        fail_within_the_block()
    assert read_ahead_threads() == []


def test_dropping_the_iterator_ends_the_thread():
    items = ReadAhead(Counting(), 3)
    next(items)
    assert len(read_ahead_threads()) == 1
    del items
    gc.collect()
    wait_until(lambda: read_ahead_threads() == [])


def test_closing_waits_for_the_item_in_the_making_and_makes_no_more():
    gate, made = threading.Semaphore(0), []

    def gated() -> Iterator[int]:
        for number in itertools.count():
            gate.acquire(timeout=10)
            made.append(number)
            yield number

    items = ReadAhead(gated(), 100)
    closer = threading.Thread(target=items.close)
    closer.start()
    time.sleep(0.02)
    assert closer.is_alive()
    while closer.is_alive():
        gate.release()
        time.sleep(0.01)
    assert read_ahead_threads() == []
    assert 1 <= len(made) < 100


def test_closing_ends_consumers_in_other_threads():
    never, found = SimpleQueue(), []
    items = ReadAhead(iter(never.get, None), 2)
    consumers = [threading.Thread(target=lambda: found.extend(items)) for _ in range(3)]
    closer = threading.Thread(target=items.close)
    for thread in [*consumers, closer]:
        thread.daemon = True  # if they hang, this test fails and the others go on
        thread.start()
    never.put("last")  # close waits for the item in the making
    for thread in [*consumers, closer]:
        thread.join(10)
        assert not thread.is_alive()
    assert set(found) <= {"last"}


def test_a_program_ends_though_nobody_closes():
    program = """
import itertools
from seq2seq.read_ahead import ReadAhead
items = ReadAhead(itertools.count(), 3)
print(next(items))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 0)


def test_a_limit_below_1_is_an_error_before_any_thread_runs():
    with pytest.raises(UsageError, match=r"^read_ahead: got 0, expected 1 or more"):
        ReadAhead(iter("abc"), 0)
    assert read_ahead_threads() == []
