"""Python's garbage collector, held while something large is built of which nothing is garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held() -> Iterator[None]:
    """No collections meanwhile.

    Building many small objects makes the collector walk through all objects of the process again and again: for a workflow of
    10,000 nodes that costs more than reading, checking and planning it. Where several threads are inside, the first to leave
    lets it run again.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
