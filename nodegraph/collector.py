"""Python's garbage collector, held while something large is built of which nothing is garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from nodegraph.ending import in_forked

_holding = False


@contextmanager
def held() -> Iterator[None]:
    """No collections meanwhile.

    Building many small objects makes the collector walk through all objects of the process again and again: for a workflow of
    10,000 nodes that costs more than reading, checking and planning it. Where several threads are inside, the first to leave
    lets it run again.
    """
    global _holding
    if not gc.isenabled():
        yield
        return
    try:
        _holding = True
        gc.disable()  # within: an interrupt that comes right behind it must not leave it so
        yield
    finally:
        gc.enable()
        _holding = False


def _let_run() -> None:
    """In a process that is forked off meanwhile: the thread that would let it run again is not there."""
    global _holding
    if _holding:
        _holding = False
        gc.enable()


in_forked(_let_run)
