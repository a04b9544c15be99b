"""One of each namespace in turn: whoever may do as they like in one namespace crowds out nobody else's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


def in_turn(items: Iterable[T], namespace_of: Callable[[T], str]) -> Iterator[T]:
    """The first item of each namespace, then the second of each, and so on; the order within them stays."""
    by_namespace: dict[str, deque[T]] = {}
    for item in items:
        by_namespace.setdefault(namespace_of(item), deque()).append(item)
    while by_namespace:
        for namespace, left in list(by_namespace.items()):
            yield left.popleft()
            if not left:
                del by_namespace[namespace]


class InTurn(Generic[T]):
    """Items that wait, `most` of them: beyond that the namespace that has most of them loses its oldest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[str, deque[T]] = {}

    def add(self, namespace: str, item: T) -> None:
        self._waiting.setdefault(namespace, deque()).append(item)
        if len(self) > self._most:
            largest = max(self._waiting, key=lambda of: len(self._waiting[of]))
            self._waiting[largest].popleft()

    def pop(self) -> T:
        """The oldest item of the namespace whose turn it is; its next one comes after those of all others."""
        namespace, items = next(iter(self._waiting.items()))
        item = items.popleft()
        del self._waiting[namespace]
        if items:
            self._waiting[namespace] = items
        return item

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __iter__(self) -> Iterator[T]:
        """The items in the order in which they would be popped."""
        pairs = ((namespace, item) for namespace, items in self._waiting.items() for item in items)
        return (item for _, item in in_turn(pairs, lambda pair: pair[0]))
