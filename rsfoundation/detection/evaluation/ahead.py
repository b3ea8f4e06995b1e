"""Results that are worked out while earlier ones are used."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import torch

Result = TypeVar("Result", covariant=True)
More = TypeVar("More")


class Ahead(Iterable[Result], Generic[Result]):
    """What ``work`` makes of each item, in the order of the items.

    As many are worked on at a time as torch has threads, and no more than that wait to be taken, however
    many items there are. What is done next with each result joins the same work: see :meth:`then`.

    Args:
        work: Makes a result of an item, in any thread.
        items: Taken one by one as results are.
    """

    def __init__(self, work: Callable[[Any], Result], items: Iterable[Any]) -> None:
        self._work, self._items = work, items

    def then(self, more: Callable[[Result], More]) -> "Ahead[More]":
        """Return what ``more`` makes of the results: in one piece of work with them, for threads that hand
        small pieces to each other wait for Python's lock longer than they work."""
        work = self._work
        return Ahead(lambda item: more(work(item)), self._items)

    def __iter__(self) -> Iterator[Result]:
        threads = max(1, torch.get_num_threads())
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[Result]] = deque()
            for item in self._items:
                waiting.append(pool.submit(self._work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def ahead_of(items: Iterable[More]) -> Ahead[More]:
    """Return the items as they are, for work on them that goes ahead."""
    return items if isinstance(items, Ahead) else Ahead(lambda item: item, items)
