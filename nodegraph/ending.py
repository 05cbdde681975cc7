"""What is done when the process ends, so that a program that has closed no engine loses no result for it, and when it is forked."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

RUNS, LANES, STORES = range(3)
"""What ends first, and what is still needed for that."""
_calls: dict[Callable[[], None], tuple[int, int]] = {}  # with the process that asked: one that is forked off has none of its threads
_begun = 0.0  # when the end has
_process = 0  # the one that was last looked at
log = logging.getLogger("nodegraph")


def when_ending(call: Callable[[], None], part: int) -> None:
    """Have a part called when the process ends."""
    global _process
    _calls[call] = part, os.getpid()
    if _process != os.getpid():
        _process = os.getpid()
        multiprocessing: Any = sys.modules.get("multiprocessing")
        if multiprocessing and multiprocessing.parent_process():  # one of its processes, which end by `os._exit`: that asks nobody
            from multiprocessing.util import Finalize

            Finalize(None, _end_last, exitpriority=0)


def not_when_ending(call: Callable[[], None]) -> None:
    """It has been done by now."""
    _calls.pop(call, None)


def in_forked(call: Callable[[], None]) -> None:
    """Have this called in processes that are forked off, which have none of the threads: a lock that one holds stays held."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)


class ForkSafeLock:
    """A reentrant lock that is free in a process that is forked off while another thread holds it.

    `wait`: the seconds that forking waits until none does, where what is changed meanwhile would stay so in the other process.
    """

    def __init__(self, wait: float = 0.0) -> None:
        self._wait = wait
        self._renew()
        in_forked(self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def _forked(self) -> None:
        with suppress(RuntimeError):  # it was waited for in vain
            self._lock.release()

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:  # the same is let go again in a process that is forked off meanwhile
            if self._wait:
                self._be_waited_for()
            yield

    def _be_waited_for(self) -> None:
        wait, self._wait = self._wait, 0.0
        if hasattr(os, "register_at_fork"):
            # forking takes locks in the order opposite to this: that of the pools of threads, which who has this one may start, after it
            import_module("concurrent.futures.thread")
            os.register_at_fork(before=lambda: self._lock.acquire(timeout=wait), after_in_parent=self._forked)


def _end_last() -> None:
    """Have the parts called when other threads have ended: multiprocessing asks before it waits for them, and they may be at work."""
    try:
        threading.Thread(target=_end_behind_others, name="nodegraph-end").start()  # which it waits for, too
    except RuntimeError:  # there can be no more threads
        _end()


def _end_behind_others() -> None:
    mine = threading.main_thread(), threading.current_thread()
    while others := [one for one in threading.enumerate() if not one.daemon and one not in mine]:
        for one in others:
            one.join()
    _end()


def left(seconds: float) -> float:
    """What is left of so many seconds since the process began to end: all parts wait at the same time."""
    return max(0.0, _begun + seconds - time.monotonic())


@atexit.register
def _end() -> None:
    global _begun
    _begun = time.monotonic()
    for call, (_, process) in sorted(_calls.items(), key=lambda item: item[1]):
        if process == os.getpid():
            try:
                call()
            except Exception:  # the others must be called too
                log.exception("a part of an engine could not be closed")
