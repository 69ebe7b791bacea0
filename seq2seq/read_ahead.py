"""The items of an iterator, made by a thread before they are asked for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class _End:
    """Stands after the last item; `error` is why there are no more, if not because all are out."""

    error: BaseException | None


@contextmanager
def read_ahead(items: Iterator[Item], limit: int) -> Iterator[Iterator[Item]]:
    """The same items, taken from `items` by a thread before they are asked for.

    What `items` raises is raised here, in its turn. The thread ends with `items`, or with the
    block; then there are no more.

    Args:
        items: Used by the thread only.
        limit: Items that wait at most, the one in the making included; 1 or more.
    """
    made: SimpleQueue[Item | _End] = SimpleQueue()
    permits, closed = threading.Semaphore(limit), threading.Event()

    def produce() -> None:
        try:
            while permits.acquire() and not closed.is_set():
                made.put(next(items))
        except StopIteration:
            made.put(_End(None))
        except BaseException as err:  # unreported, it would leave the consumer waiting
            made.put(_End(err))

    def taken() -> Iterator[Item]:
        while not closed.is_set():
            item = made.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            permits.release()
            yield item

    thread = threading.Thread(target=produce, name="read-ahead", daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        closed.set()
        permits.release()
        thread.join()
