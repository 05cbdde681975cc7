"""Which results leave a tier first: those that save the least time for their bytes.

GreedyDual-Size-Frequency (Cherkasova, HP Labs report HPL-98-69, 1998): a result is worth the tier's age when it was last used,
plus its uses × the seconds that it saves ÷ its bytes; the age rises to the worth of whatever leaves. What is used often, was costly
or is small stays long, and nothing stays for ever. A result that the next tier holds as well saves only the time of reading it
there. `benchmarks/cache_traces.py` plays editing sessions against this very code, beside LRU, LFU and others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

OPEN = 0.001
"""Seconds to find a result on disk."""
READ = 1e9
"""Bytes a second from the disk."""


class Item(Protocol):
    """What is weighed. `age` and `uses` belong to the policy; `stored` says that the next tier holds it as well."""

    seconds: float
    nbytes: int
    stored: bool
    age: float
    uses: int


Kept = TypeVar("Kept", bound=Item)


class Eviction:
    """The order in which the results of one tier leave it."""

    __slots__ = ("age",)

    def __init__(self) -> None:
        self.age = 0.0

    def admitted(self, item: Item) -> None:
        """It has come into the tier."""
        item.uses, item.age = 1, self.age

    def used(self, item: Item) -> None:
        """It was asked for, and was there."""
        item.uses += 1
        item.age = self.age

    def worth(self, item: Item) -> float:
        """What it is worth now: more for every use, every second and every byte less."""
        return item.age + item.uses * saved(item) / item.nbytes

    def leaving(self, items: Iterable[Kept]) -> Iterator[Kept]:
        """The results that may leave, the least worthy first. Whatever is taken from the iterator has left."""
        for worth, _, item in sorted((self.worth(item), number, item) for number, item in enumerate(items)):
            self.age = max(self.age, worth)
            yield item


def saved(item: Item) -> float:
    """The seconds that a result in this tier saves each time it is asked for."""
    return min(item.seconds, OPEN + item.nbytes / READ) if item.stored else item.seconds
