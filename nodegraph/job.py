"""A submitted run as its caller sees it: events while it runs, a result when it is done."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.errors import Problem
from nodegraph.events import Event, Kind

if TYPE_CHECKING:
    import asyncio

COALESCE = 0.004
"""Seconds that a waiting reader lets events gather, so that it is not woken for each."""
READ_AT_ONCE = 1000
"""Records that a reader copies at once."""


@dataclass(slots=True)
class Result:
    """What a run gave. `outputs` has every output that finished, also when others failed.

    `skipped` maps outputs to reasons; `partial` maps list outputs with failed items to their finished items by index; `keys`
    maps outputs to the hex digest of what they are; `files` lists what was written; `smaller` maps outputs to the nodes behind them
    that ran as a smaller variant, as memory was short, and which.
    """

    run: str
    status: str
    outputs: dict[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    partial: dict[str, dict[int, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    seconds: float = 0.0
    provenance: Callable[[], dict[str, Any]] = field(default=dict, repr=False)
    smaller: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies, and what is sent to another process, have the record of the making itself, not what makes it when it is asked for."""
        held = [getattr(self, name) for name in self.__slots__]
        held[self.__slots__.index("provenance")] = partial(dict, self.provenance())
        return type(self), tuple(held)

    def metadata(self, output: str) -> dict[str, Any]:
        """What a file made from an output tells of its making: no time, no host."""
        told = {**self.provenance(), "output": output, "key": self.keys.get(output, "")}
        return {**told, "smaller": self.smaller[output]} if output in self.smaller else told


class EventLog:
    """Everything that happened in a run, in order. Appending is cheap: records become Events when they are read.

    A progress record replaces the one before it of the same step while no reader has seen that: a slow reader drops
    progress, never anything else.
    """

    def __init__(self, run: str, paths: Callable[[Iterable[int]], list[str]]):
        self.run, self._paths = run, paths
        self._epoch = time.time() - time.perf_counter()  # when the clock of records was zero
        self._records: list[Any] = []  # kind, step, time, data, kind, …: flat, as millions of tuples would burden the garbage collector
        self._read = 0
        self._waiting = 0
        self._wake = threading.Condition(threading.Lock())
        self._over = False

    def add(self, kind: Kind, step: int, data: Any = None) -> None:
        self.add_at(time.perf_counter(), kind, step, data)

    def add_at(self, when: float, kind: Kind, step: int, data: Any = None) -> None:
        """Add what happened at a reading of `time.perf_counter`."""
        self._records += (kind, step, when, data)
        if self._waiting:
            self._notify()

    def progress(self, step: int, data: dict[str, Any]) -> None:
        if self._over:  # said by a thread that a node has left at work
            return
        records = self._records
        last = len(records) - 4
        if last >= self._read and records[last] == "progress" and records[last + 1] == step:
            if "preview" in records[last + 3]:
                data.setdefault("preview", records[last + 3]["preview"])  # not each has one
            records[last + 2], records[last + 3] = time.perf_counter(), data
        else:
            self.add("progress", step, data)

    def close(self, data: dict[str, Any]) -> None:
        self._records += ("done", -1, time.perf_counter(), data)
        self._over = True
        self._notify()

    def _notify(self) -> None:
        with self._wake:
            self._waiting = 0
            self._wake.notify_all()

    def __iter__(self) -> Iterator[Event]:
        """Events from the first on, until the run is done."""
        seen, over, make = 0, False, tuple.__new__
        while not over:
            at = 4 * seen
            self._gather(at)
            fresh = self._records[at : at + 4 * READ_AT_ONCE]
            self._read = max(self._read, at + len(fresh))
            kinds, data = fresh[::4], fresh[3::4]
            if over := "done" in kinds:
                del kinds[kinds.index("done") + 1 :]  # what a node's own thread has said while the run ended
            times = [self._epoch + when for when in fresh[2::4]]
            paths = self._paths(fresh[1::4])
            told = [{"seconds": one} if one.__class__ is float else one for one in data]
            numbers = range(seen + 1, seen + len(kinds) + 1)
            # what Event._make does, of all at once
            yield from map(make, repeat(Event), zip(kinds, repeat(self.run), numbers, times, paths, told, strict=False))
            seen += len(kinds)

    def _gather(self, at: int) -> None:
        """Wait until there are records from a place on, and then a moment for those that follow them, if any may."""
        records = self._records
        if self._over or len(records) - at >= 4 * READ_AT_ONCE:
            return
        with self._wake:
            while at >= len(records):
                self._waiting = 1  # before looking, so that what is added after the look wakes
                if at >= len(records):
                    self._wake.wait(0.5)
            if not self._over:
                self._wake.wait(COALESCE)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _nothing() -> None:
    """There is nothing to cancel any more."""


class Job:
    """A run that was submitted. Thread-safe; also awaitable. In a process that was forked off it tells what it knew by then; waiting for
    more, and `cancel`, raise RuntimeError there."""

    def __init__(self, run: str, log: EventLog, cancel: Callable[[], None]):
        self.id = run
        self._log, self._cancel = log, cancel
        self._result: Result | None = None
        self._then: dict[asyncio.Future[None], Callable[[], None]] = {}  # who awaits it
        self._done = threading.Condition(threading.Lock())
        self._process = os.getpid()

    def events(self) -> Iterator[Event]:
        """Every event from the first on, waiting for those to come, until `done`."""
        self._refuse_forked()
        return iter(self._log)

    @property
    def done(self) -> bool:
        return self._result is not None

    def result(self, timeout: float | None = None) -> Result:
        """The result, when it is there. Raises TimeoutError."""
        self._refuse_forked()
        if self._result is not None:
            return self._result
        with self._done:
            result = self._done.wait_for(lambda: self._result, timeout)
        if result is None:
            raise TimeoutError(f"the run {self.id} is not done after {timeout} s")
        return result

    def cancel(self) -> None:
        """Stop as soon as the nodes at work allow, at the latest after their next step. Returns at once."""
        self._refuse_forked()
        self._cancel()

    def finish(self, result: Result) -> None:
        """Called by the engine, once."""
        with self._done:
            self._result, self._cancel = result, _nothing
            self._done.notify_all()
            waiting, self._then = self._then, {}
        for call in list(waiting.values()):
            with suppress(RuntimeError):  # the loop that waited is closed
                call()

    def _refuse_forked(self) -> None:
        """Raise RuntimeError in a process that was forked off amid the run: nobody there would end it, or let go of its locks."""
        if self._result is None and self._process != os.getpid():
            raise RuntimeError("the run is at work in the process that this one was forked off from: wait for it there")

    def __await__(self) -> Generator[Any, None, Result]:
        import asyncio

        self._refuse_forked()
        if self._result is not None:
            return self._result
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            loop.call_soon_threadsafe(_settle, future)

        with self._done:
            if self._result is None:
                self._then[future] = wake
            else:
                future.set_result(None)
        try:
            yield from future.__await__()
        finally:  # without the lock: the collector may end one that was forgotten, in any thread
            self._then.pop(future, None)
        return self.result()
