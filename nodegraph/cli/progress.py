"""What a person sees while a run is at work: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from nodegraph.cli.common import counted, human_seconds
from nodegraph.cli.printing import tell, visible
from nodegraph.events import Event

PATIENCE = 5.0
"""Seconds between two plain lines about the same node."""


BRIEF = 0.1
"""Seconds under which a step gets no line of its own."""
REDRAW = 0.1
"""Seconds between two updates of a bar."""


class Progress(Protocol):
    """Shows events of one run after another."""

    def begin(self, label: str) -> None:
        """A run begins; the label tells several apart, and is empty for a single one."""

    def show(self, event: Event) -> None: ...

    def close(self) -> None: ...


def progress(quiet: bool) -> Progress:
    """Bars when a person looks on, plain lines otherwise."""
    if quiet:
        return Silent()
    return Bars() if sys.stderr.isatty() else Lines()


class Silent:
    """Shows nothing."""

    def begin(self, label: str) -> None:
        pass

    def show(self, event: Event) -> None:
        pass

    def close(self) -> None:
        pass


class Counter:
    """How far a run is: steps settled of those planned. Plans may grow while they run, and what is behind a cached result is left out."""

    def __init__(self) -> None:
        self.total = self.ran = self.cached = 0
        self._settled: set[str] = set()

    def count(self, event: Event) -> None:
        if event.kind == "planned":
            self.total = int((event.data or {}).get("total", 0))
        elif event.kind in ("finished", "failed", "skipped", "cached"):
            self.ran += event.kind == "finished"
            self.cached += event.kind == "cached"
            self._settled.add(event.node)
        self.total = max(self.total, self.done)

    @property
    def done(self) -> int:
        return len(self._settled)

    @property
    def summary(self) -> str:
        return f"{counted(self.ran, 'step')} run, {self.cached} from the cache"


class Lines:
    """One line a finished step that took a while, and now and then one about a step at work."""

    def __init__(self, write: Callable[[str], Any] | None = None, clock: Callable[[], float] = time.monotonic):
        self._write = write or (lambda text: tell(text, sys.stderr))
        self._clock = clock
        self._said: dict[str, float] = {}
        self._counter = Counter()

    def begin(self, label: str) -> None:
        self._said.clear()
        self._counter = Counter()
        if label:
            self._write(label)

    def show(self, event: Event) -> None:
        self._counter.count(event)
        data = event.data or {}
        if event.kind == "started":
            self._said[event.node] = self._clock()
        elif event.kind == "progress" and self._clock() - self._said.get(event.node, 0.0) >= PATIENCE:
            self._said[event.node] = self._clock()
            self._write(f"{event.node}: {_steps(data)}")
        elif event.kind == "finished" and data.get("seconds", 0.0) >= BRIEF:
            self._write(f"[{self._counter.done}/{self._counter.total}] {event.node}{_took(data)}")
        elif event.kind in ("failed", "skipped"):
            self._write(f"[{self._counter.done}/{self._counter.total}] {event.node} {event.kind}")
        elif event.kind == "done":
            self._write(f"{data.get('status', 'done')}: {self._counter.summary}")

    def close(self) -> None:
        pass


class Bars:
    """A bar for the run, and one for each node at work that tells how far it is."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Rich

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        self._bars = Rich(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
        self._bars.start()
        self._run: Any = None
        self._label = ""
        self._nodes: dict[str, Any] = {}
        self._drawn = 0.0
        self._counter = Counter()

    def begin(self, label: str) -> None:
        self._label, self._counter = visible(label), Counter()
        self._run = self._bars.add_task(self._label or "run", total=None, note="")

    def show(self, event: Event) -> None:
        self._counter.count(event)
        data = event.data or {}
        if event.kind == "progress":
            task = self._nodes.get(event.node)
            if task is None:
                task = self._nodes[event.node] = self._bars.add_task(visible(f"  {event.node}"), total=None, note="")
            self._bars.update(task, completed=data.get("step", 0), total=data.get("total") or None, note=visible(str(data.get("text", ""))))
        elif event.kind in ("finished", "failed", "skipped") and event.node in self._nodes:
            self._bars.remove_task(self._nodes.pop(event.node))
        elif event.kind == "done":
            self._finish(str(data.get("status", "done")))
        self._draw()

    def _draw(self) -> None:
        """Bring the run's bar up to date, but not for each of many short steps."""
        if self._run is None or time.monotonic() - self._drawn < REDRAW:
            return
        self._drawn = time.monotonic()
        self._bars.update(
            self._run,
            completed=self._counter.done,
            total=self._counter.total or None,
            note=f"{self._counter.cached} cached" if self._counter.cached else "",
        )

    def _finish(self, status: str) -> None:
        """Take this run's bars away, and leave one line."""
        for task in (*self._nodes.values(), self._run):
            self._bars.remove_task(task)
        self._nodes.clear()
        self._run = None
        self._bars.refresh()  # nothing is left of the bars where results are about to be printed
        self._bars.console.print(f"{self._label}: {status}: {self._counter.summary}".removeprefix(": "), highlight=False, markup=False)

    def close(self) -> None:
        self._bars.stop()


def _steps(data: dict[str, Any]) -> str:
    return " ".join(str(part) for part in (f"{data.get('step', 0)}/{data.get('total', '?')}", data.get("text")) if part)


def _took(data: dict[str, Any]) -> str:
    return f" ({human_seconds(data['seconds'])})" if "seconds" in data else ""
