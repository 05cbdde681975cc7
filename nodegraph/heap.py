"""The C library's heap, in which tensors on the host lie, where it is glibc's; elsewhere nothing here does anything.

Left alone it takes large blocks from the system for each use and gives them back at once, whenever the end of the heap happens to have
no room for them: each page of them is then cleared again and again. Where a model's layers ask for a hundred megabytes at a time that
is a fifth of its time. And what is freed elsewhere stays with the process while something above it is in use: after pictures of several
sizes that came to a third of its resident bytes. So large blocks are kept while weights are in use, and everything that is free goes
back when they no longer are.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from nodegraph.ending import in_forked

QUIET = 2.0
"""Seconds without weights in use after which what is free goes back to the system."""
WORK = 30.0
"""Seconds of runs after which it does so in any case: that, and having to ask for it again, takes tenths of seconds."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
"""M_TRIM_THRESHOLD and so on of malloc.h."""
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
_LEFT = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}
"""What glibc itself comes to once a large block has been freed."""


class Heap:
    """The heap of this process: what is kept of it for runs, and what goes back to the system. Thread-safe."""

    def __init__(self) -> None:
        self._renew()
        in_forked(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._seconds = 0.0
        self._users = 0
        self._used = 0.0  # when somebody was the last one
        self._tended = False  # whether a thread waits until nobody uses it

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within, and for a moment after it, large blocks that are freed stay with the process, for those that follow."""
        with self._lock:
            self._users += 1
            if not self._tended and _set(_KEPT):
                with suppress(RuntimeError):  # there can be no more threads
                    threading.Thread(target=self._tend, name="nodegraph-heap", daemon=True).start()
                    self._tended = True
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                self._used = time.monotonic()

    def _tend(self) -> None:
        while True:
            time.sleep(QUIET)
            with self._lock:
                if not self._users and time.monotonic() - self._used >= QUIET:
                    self._tended = False
                    _set(_LEFT)
                    break
        give_back()

    def worked(self, seconds: float) -> None:
        """A run has ended that took so long: its intermediate tensors are free."""
        self._seconds += seconds
        if self._seconds >= WORK:
            self._seconds = 0.0
            with suppress(RuntimeError):  # there can be no more threads
                threading.Thread(target=give_back, name="nodegraph-heap").start()


HEAP = Heap()


def give_back() -> None:
    """Give freed memory back to the system."""
    if trim := _function("malloc_trim"):
        trim(0)


def one_arena() -> None:
    """Let the threads that are started from now on share the first arena of memory.

    Otherwise each takes an arena of its own, and what has become free in one is of no use to the others: a model that is loaded and
    sampled in a lane peaks higher than in the main thread (2 % of 4 GB). It holds for the whole process.
    """
    _set({_ARENA_MAX: 1})


def _set(options: dict[int, int]) -> bool:
    """Set options of malloc. Who has set any from outside is left alone. Returns whether they were set."""
    mallopt = _function("mallopt")
    if not mallopt or _is_set_from_outside():
        return False
    for option, value in options.items():
        mallopt(option, value)
    return True


@functools.cache
def _is_set_from_outside() -> bool:
    return any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")


@functools.cache
def _function(name: str) -> Any:
    """A function of the C library; None where it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
