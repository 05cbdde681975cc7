"""What is done when the process ends: a program that has closed no engine loses no result for it."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

RUNS, LANES, STORES = range(3)
"""What ends first, and what is still needed for that."""
_calls: dict[Callable[[], None], tuple[int, int]] = {}  # with the process that asked: one that is forked off has none of its threads
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

            Finalize(None, _end, exitpriority=0)


def not_when_ending(call: Callable[[], None]) -> None:
    """It has been done by now."""
    _calls.pop(call, None)


@atexit.register
def _end() -> None:
    for call, (_, process) in sorted(_calls.items(), key=lambda item: item[1]):
        if process == os.getpid():
            try:
                call()
            except Exception:  # the others must be called too
                log.exception("a part of an engine could not be closed")
