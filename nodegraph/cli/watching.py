"""`nodegraph watch`: run again on every save, show the tree of nodes as it runs, and a page of it if asked."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.cli import DONE, common
from nodegraph.cli.given import runs
from nodegraph.cli.memory_limit import MemoryLimit
from nodegraph.cli.printing import tell, visible
from nodegraph.cli.signals import on_signal
from nodegraph.errors import Problem, WorkflowInvalid, render
from nodegraph.events import Event
from nodegraph.workflow import Workflow

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.job import Result
    from nodegraph.live import Given, Round, View

REDRAW = 0.08
"""Seconds between two drawings of the tree."""
MAX_ROWS = 200
"""The most nodes of a tree that are shown."""


def watch(arguments: Namespace) -> int:
    """The command: until Ctrl-C or SIGTERM."""
    from nodegraph.live import Live

    logging.getLogger("watchdog").setLevel(logging.CRITICAL)  # it calls it an error that a file changes while watching ends
    path = common.find_workflow(arguments.workflow)
    with ExitStack() as stack:
        engine = stack.enter_context(common.engine(arguments))
        terminal = _Terminal(engine) if sys.stdout.isatty() and not arguments.quiet else _Lines()
        views: list[View] = [terminal]
        stack.callback(terminal.close)
        if arguments.open or arguments.port is not None:
            from nodegraph.cli.page import Page

            try:
                page = Page(engine, arguments.port or 0)
            except (OSError, OverflowError) as error:
                text = f"the page cannot be served at port {arguments.port}: {error}"
                raise WorkflowInvalid(
                    [Problem("bad-value", "--port", text, "take another, up to 65535; 0 takes any that is free")]
                ) from None
            stack.callback(page.close)
            views.append(page)
            print(f"page: {page.url}", flush=True)
        limit = stack.enter_context(MemoryLimit(engine.device))
        live = Live(engine, path, _Reader(arguments, engine, limit), views, engine.settings.output, arguments.only)
        stack.callback(live.close)
        if arguments.open:
            import webbrowser

            threading.Thread(target=webbrowser.open, args=(page.url,), daemon=True).start()
        with on_signal(live.close):
            live.forever()
    return DONE


class _Reader:
    """Reads what flags give, anew for each run: files may have changed. A drawn seed stays, so that runs can be compared."""

    def __init__(self, arguments: Namespace, engine: Engine, limit: MemoryLimit):
        self.arguments, self.engine, self.limit = arguments, engine, limit

    def __call__(self, workflow: Workflow) -> Given:
        from nodegraph.engine import with_literals

        self.limit.renew()

        [given] = runs(self.arguments, workflow, self.engine.registry)
        for number, text in enumerate(self.arguments.sets):
            name, _, value = text.partition("=")
            if value == "random" and type(given.shown.get(name)) is int:
                self.arguments.sets[number] = f"{name}={given.shown[name]}"
                tell(f"{name} = {given.shown[name]}", sys.stderr)
        files = given.files
        files += [Path(value) for value in given.inputs.values() if isinstance(value, str) and _is_file(value)]
        files += [Path(self.arguments.inputs)] if self.arguments.inputs else []
        named = [Path(os.path.expanduser(text.partition("=@")[2])) for text in self.arguments.sets if "=@" in text]
        files += [path for path in named if _is_file(path)]
        return with_literals(workflow, given.overrides), given.inputs, given.shown, given.origins, files


def _is_file(text: str | Path) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


# -- plain lines -------------------------------------------------------------------------------------------------------


class _Lines:
    """A line for what was saved, and a line for what came of it."""

    def __init__(self) -> None:
        self.ran = self.cached = 0

    def begin(self, this: Round) -> None:
        self.ran = self.cached = 0
        if this.changed:
            self._say(f"saved: {', '.join(common.shown_path(path) for path in this.changed)}")

    def event(self, this: Round, event: Event) -> None:
        self.ran += event.kind == "finished"
        self.cached += event.kind == "cached"

    def end(self, this: Round, result: Result, files: Mapping[str, list[Path]], seconds: float) -> None:
        if result.problems:
            self._say(render(result.problems))
        self._say(f"{result.status} in {seconds:.2f} s: {common.counted(self.ran, 'step')} run, {self.cached} from the cache")
        for line in result_lines(result, files):
            self._say(f"  {line}")

    def wrong(self, problems: list[Problem], kept: bool) -> None:
        self._say(render(problems))
        self._say("the last good version stays in use" if kept else "waiting for a save")

    def close(self) -> None:
        pass

    def _say(self, text: str) -> None:
        tell(text)


def result_lines(result: Result, files: Mapping[str, list[Path]]) -> Iterable[str]:
    """Each output: the paths of its files, or its value; then what nodes saved."""
    for name, value in result.outputs.items():
        yield f"{name}: {', '.join(map(common.shown_path, files[name])) if name in files else _short(value)}"
    yield from (common.shown_path(path) for path in result.files)


def _short(value: Any) -> str:
    text = common.line(value)
    return text if len(text) <= 100 else f"{text[:99]}…"


# -- the tree ----------------------------------------------------------------------------------------------------------

_MARKS = {
    "cached": ("●", "green"),
    "done": ("✓", "green"),
    "running": ("▶", "cyan"),
    "failed": ("✗", "red"),
    "skipped": ("–", "dim"),
    "waiting": ("○", "dim"),
}


@dataclass(slots=True)
class _Row:
    state: str = "waiting"
    note: str = ""
    size: str = ""


@dataclass(slots=True)
class _Board:
    """What the tree shows of one round."""

    title: str
    rows: dict[str, _Row] = field(default_factory=dict)
    foot: list[str] = field(default_factory=list)


class _Terminal:
    """A tree of nodes that is drawn over itself."""

    def __init__(self, engine: Engine) -> None:
        from rich.console import Console
        from rich.live import Live

        self.engine = engine
        self.console = Console()
        self.screen = Live(console=self.console, auto_refresh=False, transient=False, vertical_overflow="crop")
        self.screen.start()
        self.board = _Board("")
        self._drawn = 0.0

    def begin(self, this: Round) -> None:
        saved = ", ".join(common.shown_path(path) for path in this.changed)
        self.board = _Board(f"{this.workflow.name or Path(this.workflow.file).stem}" + (f"  ({saved} saved)" if saved else ""))
        self.board.rows = {name: _Row() for name in this.workflow.nodes}
        self._draw(now=True)

    def event(self, this: Round, event: Event) -> None:
        if not event.node:
            return
        row = self.board.rows.setdefault(event.node, _Row())
        data = event.data or {}
        if event.kind == "started":
            row.state = "running"
        elif event.kind == "progress":
            count = f"{data.get('step', 0)}/{data.get('total', '?')}"
            text = str(data.get("text", ""))
            row.note = text if count in text else f"{count} {text}".rstrip()
        elif event.kind == "finished":
            row.state, row.note = "done", common.human_seconds(data.get("seconds", 0.0))
        elif event.kind in ("cached", "failed", "skipped"):
            row.state, row.note = event.kind, {"cached": "cached", "skipped": str(data.get("reason", ""))}.get(event.kind, "")
        self._draw()

    def end(self, this: Round, result: Result, files: Mapping[str, list[Path]], seconds: float) -> None:
        self._add_sizes(this)
        states = [row.state for row in self.board.rows.values()]
        counts = f"{common.counted(states.count('done'), 'step')} run, {states.count('cached')} from the cache"
        self.board.foot = [*result_lines(result, files), f"{result.status} in {seconds:.2f} s: {counts}"]
        if result.problems:
            self.board.foot = [*render(result.problems).splitlines(), *self.board.foot]
        self._draw(now=True)

    def _add_sizes(self, this: Round) -> None:
        from nodegraph.errors import Problems
        from nodegraph.glance import glance

        try:
            for one in glance(self.engine, this.workflow, this.inputs, pictures=False):
                if one.nbytes and one.path in self.board.rows:
                    self.board.rows[one.path].size = common.human_bytes(one.nbytes)
        except Problems:  # what is there no longer has no sizes
            return

    def wrong(self, problems: list[Problem], kept: bool) -> None:
        self.board.foot = [*render(problems).splitlines(), "the last good version stays in use" if kept else "waiting for a save …"]
        self._draw(now=True)

    def close(self) -> None:
        self._draw(now=True)
        self.screen.stop()

    def _draw(self, now: bool = False) -> None:
        if now or time.monotonic() - self._drawn >= REDRAW:
            self._drawn = time.monotonic()
            self.screen.update(tree_of(self.board.title, self.board.rows, self.board.foot), refresh=True)


def tree_of(title: str, rows: Mapping[str, Any], foot: Iterable[str]) -> Any:
    """The tree as rich draws it: inner nodes (`paint/sample`) stand below those they are in."""
    from rich.console import Group
    from rich.text import Text
    from rich.tree import Tree

    root = Tree(Text(visible(title), style="bold"))
    branches = {"": root}
    for number, (path, row) in enumerate(sorted(rows.items(), key=lambda item: _order(item[0], list(rows)))):
        if number == MAX_ROWS:
            root.add(Text(f"… and {len(rows) - MAX_ROWS} more", style="dim"))
            break
        parent = path.rpartition("/")[0]
        while parent not in branches:
            parent = parent.rpartition("/")[0]
        mark, style = _MARKS[row.state]
        name = path.removeprefix(f"{parent}/") if parent else path
        label = Text.assemble((f"{mark} ", style), (visible(name), "bold" if row.state == "running" else ""))
        label.append(visible(f"  {row.note}") if row.note else "", style="dim")
        label.append(f"  {row.size}" if row.size else "", style="dim")
        branches[path] = branches[parent].add(label)
    return Group(root, *(Text(visible(line)) for line in foot))


def _order(path: str, names: list[str]) -> tuple[int, str]:
    """Nodes in the order of the file, and what is in them behind them."""
    top = path.partition("/")[0].partition("[")[0]
    return (names.index(top) if top in names else len(names), path if path != top else "")


__all__ = ["result_lines", "tree_of", "watch"]
