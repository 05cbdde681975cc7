"""The graphs of `shapes` by other means: plain Python calls, dask's threaded scheduler, Hamilton.

Each function gets a graph ready and returns what runs it, or None where that means is not installed. Only running counts:
Hamilton builds its driver, and dask its tasks, before the clock starts.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from types import ModuleType
from typing import Any

from shapes import NODES

Run = Callable[[], Any]
FUNCTIONS: dict[str, Any] = {one.__name__: one for one in NODES}
MOST_HAMILTON = 10_000
"""Nodes for which a Hamilton driver is still built: it takes 60 µs a node before anything runs, and grows faster than the graph."""


def _source(link: str) -> str:
    return link.removesuffix(".int")


def plain(workflow: dict[str, Any]) -> Run:
    """One call after another."""
    calls = [(name, FUNCTIONS[one["use"]], one.get("from", {}), one.get("with", {})) for name, one in workflow["nodes"].items()]

    def run() -> Any:
        values: dict[str, int] = {}
        for name, call, links, literals in calls:  # a link ends in ".int"
            linked = {
                port: [values[one[:-4]] for one in link] if isinstance(link, list) else values[link[:-4]] for port, link in links.items()
            }
            values[name] = call(**linked, **literals)
        return values

    return run


def dask(workflow: dict[str, Any]) -> Run | None:
    """dask.threaded.get, with as many threads as it takes by itself."""
    try:
        from dask._task_spec import List, Task, TaskRef
        from dask.threaded import get
    except ImportError:
        return None

    def linked(link: Any) -> Any:
        return List(*map(linked, link)) if isinstance(link, list) else TaskRef(_source(link))

    tasks = {}
    for name, one in workflow["nodes"].items():
        ports = {port: linked(link) for port, link in one.get("from", {}).items()}
        tasks[name] = Task(name, FUNCTIONS[one["use"]], **ports, **one.get("with", {}))
    wanted = [_source(link) for link in workflow["outputs"].values()]
    return lambda: get(tasks, wanted)


def hamilton(workflow: dict[str, Any]) -> Run | None:
    """A Hamilton driver over a module with one function for each node. None also for chains that it cannot walk: it recurses."""
    if len(workflow["nodes"]) > MOST_HAMILTON:
        return None
    try:
        from hamilton import driver
    except ImportError:
        return None
    module = ModuleType("bench_hamilton_graph")
    module.__dict__.update(FUNCTIONS)
    exec("\n".join(_function(name, one) for name, one in workflow["nodes"].items()), module.__dict__)
    for one in FUNCTIONS:
        del module.__dict__[one]
    module.__dict__.update({f"_{name}": one for name, one in FUNCTIONS.items()})
    sys.modules[module.__name__] = module
    built = driver.Builder().with_modules(module).build()
    wanted = [_source(link) for link in workflow["outputs"].values()]

    def run() -> Any:
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                return built.execute(wanted)
        except RecursionError:
            return None

    return run


def _function(name: str, one: dict[str, Any]) -> str:
    """The source of one node as Hamilton wants it: a function named like its result, with parameters named like its sources."""
    names: list[str] = []
    given = []
    for port, link in one.get("from", {}).items():
        found = list(map(_source, link)) if isinstance(link, list) else [_source(link)]
        names += found
        given.append(f"{port}=[{', '.join(found)}]" if isinstance(link, list) else f"{port}={found[0]}")
    given += [f"{port}={value!r}" for port, value in one.get("with", {}).items()]
    parameters = ", ".join(f"{one}: int" for one in dict.fromkeys(names))
    return f"def {name}({parameters}) -> int:\n    return _{one['use']}({', '.join(given)})\n"
