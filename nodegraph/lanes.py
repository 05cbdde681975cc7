"""Lanes: where steps run. One for a device, a pool for CPU nodes, an event loop for async nodes.

The worker that finishes a step takes the next ready one itself: waking a thread for every step would cost more than most steps, and so
would a thread that keeps looking whether it is needed. Another worker is woken when that one is in a call that is known to take a
moment, or may do so; one that is stuck in a call that never did is noticed by the looks of an idle worker, now and then.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from nodegraph.ending import LANES, left, not_when_ending, when_ending

POLL = 0.002
"""Seconds between looks of the one idle worker that watches a lane."""
PATIENCE = 50
"""Looks at an empty lane before the watching worker goes to sleep."""
MOMENT = 0.001
"""Seconds: what is known to take so long, others need not wait for."""
ENDING = 1.0
"""Seconds that a process that ends waits for steps at work: those that have come that far are recorded."""


class Executor(Protocol):
    """What a lane runs: `execute` does one step and returns the next for the same lane, or None. `queued` is for lanes: the steps
    that wait in each, the next one last."""

    queued: dict[Any, list[int]]

    def execute(self, step: int) -> int | None: ...

    async def execute_async(self, step: int) -> None: ...


class _Worker:
    """A thread of a lane. `waited_for`: it is at work and not known to take a moment, so what is ready may wait for it. `taken` counts its
    steps, `seen` those at the last look at it."""

    __slots__ = ("seen", "taken", "thread", "waited_for")

    def __init__(self) -> None:
        self.thread: Any = None
        self.waited_for = False
        self.taken, self.seen = 0, -1


class Lane:
    """A pool of up to `threads` workers over one stack of ready steps (the newest first: depth first)."""

    def __init__(self, name: str, threads: int):
        self.name, self.threads = name, threads
        self._stack: deque[Executor] = deque()  # one entry for each step that waits: no objects that the garbage collector would count
        self._wake = threading.Condition(threading.Lock())
        self._workers: list[_Worker] = []
        self._this = threading.local()
        self._idle = 0
        self._waited_for = 0  # workers
        self._watching = False
        self.closed = False

    def push(self, executor: Executor, steps: list[int]) -> None:
        """Make steps ready. They are taken in the given order."""
        executor.queued.setdefault(self, []).extend(steps[::-1])
        self._stack.extend([executor] * len(steps))
        if not self._watching or not self._waited_for:  # a worker that watches looks up only now and then
            self._call_worker()

    def _call_worker(self) -> None:
        with self._wake:
            if self._idle:
                self._wake.notify()
            elif len(self._workers) < self.threads and not self.closed:
                if not self._workers:
                    when_ending(self._end, LANES)
                worker = _Worker()
                name = f"nodegraph-{self.name}-{len(self._workers)}"
                worker.thread = threading.Thread(target=self._work, args=(worker,), name=name, daemon=True)
                self._workers.append(worker)
                worker.thread.start()

    def _work(self, me: _Worker) -> None:
        stack, self._this.worker = self._stack, me
        while (item := self._next(me)) is not None:
            while item is not None:
                if stack and not self._watching:
                    self._call_worker()  # to watch, in case this step takes long
                executor, step = item
                following: int | None = step
                while following is not None:
                    if not me.waited_for:
                        self._wait_for(me, True)
                    me.taken += 1
                    following = executor.execute(following)
                item = self._pop() if self._waited_for == me.waited_for else None  # if nobody else is waited for
            executor = None  # type: ignore[assignment]  # an idle worker must not keep a finished run alive

    def _wait_for(self, worker: _Worker, yes: bool) -> None:
        with self._wake:
            self._waited_for += yes - worker.waited_for
            worker.waited_for = yes

    @contextmanager
    def occupied(self, seconds: float) -> Iterator[None]:
        """In a worker, while it is in a call that takes about so long as far as is known."""
        if seconds < MOMENT:
            yield
            return
        self._wait_for(self._this.worker, False)
        if self._stack:
            self._call_worker()
        try:
            yield
        finally:
            self._wait_for(self._this.worker, True)

    def _next(self, me: _Worker) -> tuple[Executor, int] | None:
        """The next ready step. A worker takes it when nobody is waited for."""
        self._wait_for(me, False)
        if not self._waited_for and (item := self._pop()):
            return item
        with self._wake:
            self._idle += 1
        try:
            return self._watch(me)
        finally:
            with self._wake:
                self._idle -= 1

    def _watch(self, me: _Worker) -> tuple[Executor, int] | None:
        empty = 0
        while True:
            with self._wake:
                if self.closed:
                    return None
                if not self._waited_for and (item := self._pop()):
                    self._waited_for, me.waited_for = 1, True
                    return item
                if self._watching or (not self._stack and empty >= PATIENCE):
                    self._wake.wait()
                    empty = 0
                    continue
                self._watching = True
                self._wake.wait(POLL)
                self._watching = False
                empty = 0 if self._stack else empty + 1
            if self._stack:
                self._look()

    def _look(self) -> None:
        """Wait no more for workers that have taken no step since the last look: they are stuck in one."""
        for worker in list(self._workers):
            if worker.waited_for and worker.taken == worker.seen:
                self._wait_for(worker, False)
            worker.seen = worker.taken

    def _pop(self) -> tuple[Executor, int] | None:
        try:
            executor = self._stack.pop()
        except IndexError:
            return None
        return executor, executor.queued[self].pop()

    def is_caller(self) -> bool:
        """Whether the thread that asks is one of its workers."""
        return hasattr(self._this, "worker")

    def close(self, seconds: float | None = None) -> None:
        """Let the workers end after the step they are in, and wait until they have, or for so many seconds."""
        with self._wake:
            self.closed = True
            self._wake.notify_all()
        until = None if seconds is None else time.monotonic() + seconds
        for worker in self._workers:
            if worker.thread is not threading.current_thread():
                worker.thread.join(None if until is None else max(0.0, until - time.monotonic()))
        not_when_ending(self._end)

    def _end(self) -> None:
        self.close(left(ENDING))


class LoopLane:
    """An event loop in a thread of its own: async steps overlap in it."""

    name = "async"

    def __init__(self) -> None:
        self._loop: Any = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self.closed = False

    def push(self, executor: Executor, steps: list[int]) -> None:
        import asyncio

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="nodegraph-async", daemon=True)
                self._thread.start()
                when_ending(self._end, LANES)
        for step in steps:
            asyncio.run_coroutine_threadsafe(executor.execute_async(step), self._loop)

    def is_caller(self) -> bool:
        """Whether the thread that asks is that of the loop."""
        return self._thread is threading.current_thread()

    def close(self, seconds: float | None = None) -> None:
        """Let the loop end, and wait until it has, or for so many seconds; what is at work in it is left there."""
        self.closed = True
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # another thread has just closed it
                self._loop.call_soon_threadsafe(self._loop.stop)
            if self._thread is not threading.current_thread():
                self._thread.join(seconds)
                if not self._thread.is_alive():
                    self._loop.close()  # or its descriptors stay open until it is collected
        not_when_ending(self._end)

    def _end(self) -> None:
        import asyncio

        loop, ended = self._loop, threading.Event()
        assert loop is not None

        def look(*_: Any) -> None:
            if tasks := asyncio.all_tasks(loop):
                next(iter(tasks)).add_done_callback(look)
            else:
                ended.set()

        with suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(look)
            ended.wait(left(ENDING))  # not for ever: a step may not let others have their turn
        self.close(left(ENDING))
