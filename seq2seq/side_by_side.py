"""Independent pieces of work at the same time, their results in order.

TensorFlow shares each operation out among the cores, and the steps of a recurrent network are so
small that the cores wait for each other at every one. Whole batches side by side do not.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], *, threads: int
) -> Generator[Result]:
    """`work` of every item, in the order of the items, `threads` of them at a time.

    What `work` raises comes up in the place of its result; items that were not begun by then, or
    when the iterator is closed, never are.

    Args:
        work: Safe to call from several threads.
        items: What to call it with.
        threads: At least 1.
    """
    if min(threads, len(items)) < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="side-by-side") as pool:
        yield from pool.map(work, items)
