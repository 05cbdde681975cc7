"""The C library's heap, in which tensors on the host lie, where it is glibc's; elsewhere nothing here does anything.

What is freed stays with the process while something above it in the heap is in use: after pictures of several sizes that came to a
third of its resident bytes.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from contextlib import suppress
from typing import Any

WORK = 5.0
"""Seconds of runs until freed memory goes back to the system: doing so, and having to ask for it again, takes tens of milliseconds."""
_ARENA_MAX = -8
"""M_ARENA_MAX of malloc.h."""


class Heap:
    """Gives freed memory back to the system now and then, in a thread of its own: nobody waits for that but the end of the process."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def worked(self, seconds: float) -> None:
        """A run has ended that took so long: its intermediate tensors are free."""
        self._seconds += seconds
        if self._seconds >= WORK:
            self._seconds = 0.0
            with suppress(RuntimeError):  # there can be no more threads
                threading.Thread(target=give_back, name="nodegraph-heap").start()


def give_back() -> None:
    """Give freed memory back to the system."""
    if trim := _function("malloc_trim"):
        trim(0)


def one_arena() -> None:
    """Let the threads that are started from now on share the first arena of memory.

    Otherwise each takes an arena of its own, and what has become free in one is of no use to the others: a model that is loaded and
    sampled in a lane peaks higher than in the main thread (2 % of 4 GB). It holds for the whole process; who has set arenas from
    outside is left alone.
    """
    if not {"MALLOC_ARENA_MAX", "GLIBC_TUNABLES"} & os.environ.keys() and (mallopt := _function("mallopt")):
        mallopt(_ARENA_MAX, 1)


@functools.cache
def _function(name: str) -> Any:
    """A function of the C library; None where it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
