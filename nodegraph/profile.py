"""What an engine did when, as a trace for Perfetto or chrome://tracing: nodes by thread and lane, weights that were loaded, hits.

The format is the Trace Event Format of Chrome: complete events `X`, pairs `b` and `e` of what overlaps in one thread, instants `i`,
counters `C`, names `M`; times in microseconds.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from pathlib import Path
from typing import Any


class Profile:
    """Collects what happened on one engine. Thread-safe: appending to a list is."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._events: list[dict[str, Any]] = []
        self._threads: dict[int, str] = {}
        self._numbers = itertools.count()

    def span(self, name: str, category: str, begun: float, seconds: float, **details: Any) -> None:
        """Something that took from `begun` (of time.perf_counter) so many seconds, in this thread."""
        self._add("X", name, category, begun, details, dur=round(seconds * 1e6, 1))

    def overlapping(self, name: str, category: str, begun: float, seconds: float, **details: Any) -> None:
        """A span beside others of the same thread, as those of async nodes are: complete events can only lie inside of each other."""
        ident = next(self._numbers)
        self._add("b", name, category, begun, details, id=ident)
        self._add("e", name, category, begun + seconds, {}, id=ident)

    def instant(self, name: str, category: str, **details: Any) -> None:
        """Something that happened now."""
        self._add("i", name, category, time.perf_counter(), details, s="t")

    def count(self, name: str, **values: float) -> None:
        """Amounts as they are now."""
        self._add("C", name, "memory", time.perf_counter(), values)

    def _add(self, kind: str, name: str, category: str, when: float, details: dict[str, Any], **more: Any) -> None:
        thread = threading.current_thread()
        ident = thread.native_id or thread.ident or 0
        self._threads.setdefault(ident, thread.name.removeprefix("nodegraph-"))
        place = {"name": name, "cat": category, "ph": kind, "ts": round((when - self._begun) * 1e6, 1), "pid": 1, "tid": ident}
        self._events.append({**place, **more, "args": details})

    def write(self, path: Path) -> None:
        """Write the trace. Raises OSError."""
        names = [
            {"name": "thread_name", "ph": "M", "pid": 1, "tid": ident, "args": {"name": name}} for ident, name in self._threads.items()
        ]
        title = {"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "nodegraph"}}
        path.write_text(json.dumps({"displayTimeUnit": "ms", "traceEvents": [title, *names, *self._events]}), encoding="utf-8")
