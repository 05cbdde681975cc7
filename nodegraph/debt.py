"""The finished work that a run would lose if it were killed now, and when that is written to disk.

Only results that are worth it are written when they are made (see `store`); many that each are not can add up. A run therefore adds
up the seconds of what it has not written. When they pass a bound it writes what steps still wait for: what lies behind that will not
be asked for again.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from nodegraph.entries import CHEAP, PINNED, Entry
from nodegraph.store import Store

if TYPE_CHECKING:
    from nodegraph.execution import Execution

OWED = 0.5
"""Seconds of work that a run owes at most; with what the writer has in hand, less than a second is lost."""
PACE = 500e6
"""Bytes that may be written for each second owed. Beyond that, writing would take longer than doing the work again."""


class Debt:
    """What one run owes the disk. Thread-safe."""

    def __init__(self, run: Execution):
        self._run = run
        self._owed: list[Any] = []  # step, entry, step, entry, …
        self._lock = threading.Lock()
        self._due = OWED
        self.seconds = 0.0

    def add(self, step: int, entry: Entry) -> None:
        """A result was recorded. May wait for the disk's writer."""
        if entry.key is None or entry.seconds < CHEAP or Store.worth(entry.seconds, entry.nbytes):
            return
        with self._lock:
            self._owed += (step, entry)
            self.seconds += entry.seconds
            paid = self._paid() if self.seconds > self._due else []
        run = self._run
        for one, result in paid:
            run.shared.cache.keep(result, run.plan.keys[one], run.outside.get(one, ()))

    def _paid(self) -> list[tuple[int, Entry]]:
        """What is to be written now: the smallest results first, as many as the seconds are worth; the others are owed further."""
        pairs = iter(self._owed)
        live = [(step, entry) for step, entry in zip(pairs, pairs, strict=True) if _is_lost(entry)]
        live.sort(key=lambda pair: pair[1].nbytes)
        room, paid = self.seconds * PACE, 0
        while paid < len(live) and live[paid][1].nbytes <= room:
            room -= live[paid][1].nbytes
            paid += 1
        left = live[paid:]
        self._owed = [part for pair in left for part in pair]
        self.seconds = self.seconds - sum(entry.seconds for _, entry in live[:paid]) if left else 0.0
        self._due = max(OWED, sum(entry.nbytes for _, entry in left) / PACE)
        return live[:paid]


def _is_lost(entry: Entry) -> bool:
    """Whether a result would have to be computed again: nothing is on disk, and, as far as is known, a step waits for it."""
    return not entry.stored and entry.values is not None and (entry.pins > 0 or entry.nbytes <= PINNED)
