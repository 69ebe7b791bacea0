"""The items of an iterator, made by a thread before they are asked for."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Generic, Self, TypeVar

from seq2seq.errors import UsageError

Item = TypeVar("Item")


class ReadAhead(Iterator[Item], Generic[Item]):
    """The items of an iterator, taken from it by a thread before they are asked for.

    What the iterator raises is raised here, in its turn. The thread ends with the iterator, and
    when this object is closed (by `close` or by leaving `with`) or no longer used by anyone.

    Args:
        items: Used by the thread only.
        limit: Items that wait at most, the one in the making included.

    Raises:
        UsageError: `limit` is below 1.
    """

    def __init__(self, items: Iterator[Item], limit: int) -> None:
        if limit < 1:
            raise UsageError(f"read_ahead: got {limit}, expected 1 or more")
        self._closed = False
        self._made: SimpleQueue[Item | _End] = SimpleQueue()
        # One True for each item the thread may still make; False tells it to stop. Queues of this
        # kind are safe in a finalizer, which may run anywhere, even in the thread itself.
        self._permits: SimpleQueue[bool] = SimpleQueue()
        for _ in range(limit):
            self._permits.put(True)
        # The thread must not know this object, or nobody could ever drop it.
        self._thread = threading.Thread(
            target=_produce,
            args=(items, self._permits, self._made),
            name="read-ahead",
            daemon=True,
        )
        self._stop = weakref.finalize(self, _stop, self._permits)
        self._thread.start()

    def __next__(self) -> Item:
        """The next item; waits for it."""
        if self._closed:
            raise StopIteration
        item = self._made.get()
        if not isinstance(item, _End):
            self._permits.put(True)
            return item
        self._made.put(_End(None))  # for the next call, and for others that wait by now
        if item.error is not None:
            raise item.error
        raise StopIteration

    def close(self) -> None:
        """Ends the iteration and its thread; items already made are dropped."""
        self._closed = True
        self._stop()
        self._thread.join()
        self._made.put(_End(None))  # for a consumer that waits in another thread

    def __enter__(self) -> Self:
        """This object; leaving the block closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes."""
        self.close()


@dataclass(frozen=True)
class _End:
    """Stands after the last item; `error` is why there are no more, if not because all are out."""

    error: BaseException | None


def _produce(
    items: Iterator[Item], permits: SimpleQueue[bool], made: "SimpleQueue[Item | _End]"
) -> None:
    try:
        while permits.get():
            made.put(next(items))
    except StopIteration:
        made.put(_End(None))
    except BaseException as err:  # whatever it is: unreported, it would leave the consumer waiting
        made.put(_End(err))


def _stop(permits: SimpleQueue[bool]) -> None:
    with suppress(Empty):
        while True:
            permits.get_nowait()
    permits.put(False)
