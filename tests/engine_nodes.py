"""Small pure nodes for tests of the engine, and a harness of three lines."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from nodegraph import Engine, Field, File, Graph, Lazy, Need, Rng, Run, Seed, Skip, Workflow, node

T = TypeVar("T")
CALLS: list[str] = []
"""The names of nodes in the order of their calls, where a test needs to know."""


@node
def plus(a: int, b: int = 0) -> int:
    CALLS.append("plus")
    return a + b


@node
def scaled(a: float, factor: Annotated[float, Field(ge=0, le=10)] = 1.0) -> float:
    return a * factor


@node
def parity(a: int) -> int:
    """Different inputs, equal values."""
    CALLS.append("parity")
    return a % 2


@node
def is_even(a: int) -> bool:
    CALLS.append("is_even")
    return a % 2 == 0


@node
def pick(condition: bool, on_true: Lazy[T], on_false: Lazy[T]) -> T:
    CALLS.append("pick")
    return on_true if condition else on_false


@node
def first_there(**options: Lazy[T | None]) -> T:
    for name, option in options.items():
        if not option.ready:
            return Need(name)
        if not option.skipped and option.value is not None:
            return option
    return Skip("nothing is there")


@node
def either(base: int, extra: Lazy[int], wanted: bool = False) -> int:
    """Asks for its second input only when it is wanted."""
    CALLS.append("either")
    if wanted and not extra.ready:
        return Need("extra")
    return base + (extra.value if wanted else 0)


@node
def count_up(n: int) -> list[int]:
    CALLS.append("count_up")
    return list(range(n))


@node
def total(items: list[int]) -> int:
    return sum(items)


@node
def listed(items: list[T]) -> list[T]:
    return list(items)


@node
def only_even(a: int) -> int:
    return a if a % 2 == 0 else Skip(f"{a} is odd")


@node
def fails(a: int, when: int = -1) -> int:
    if a == when or when == -1:
        raise ValueError(f"no {a}")
    return a


@node
def slow(a: int, seconds: float = 1.0) -> int:
    time.sleep(seconds)
    return a


@node
async def slow_async(a: int, seconds: float = 1.0) -> int:
    await asyncio.sleep(seconds)
    return a


class Halves(NamedTuple):
    left: int
    right: int


@node
def halves(a: int) -> Halves:
    return Halves(a // 2, a - a // 2)


@node
def repeat_plus(value: Lazy[int], count: int) -> int:
    """A counted loop, one turn a graph."""
    if count <= 0:
        return value
    graph = Graph()
    turn = graph.add("turn", "plus", a=graph.input("value"), b=1)
    return graph.give(int=graph.add("next", "repeat_plus", value=turn["int"], count=count - 1)["int"])


@node
def use_workflow(value: int, body: Workflow) -> int:
    graph = Graph()
    return graph.give(int=graph.add("body", body, value=graph.input("value"))["value"])


@node(effect=True)
def write_text(text: int, name: str, *, run: Run) -> str:
    CALLS.append("write_text")
    run.output.mkdir(parents=True, exist_ok=True)
    path = run.output / name
    path.write_text(str(text))
    run.saved(path)
    return str(path)


@node(volatile=True)
def ticks() -> int:
    CALLS.append("ticks")
    return VOLATILE["now"]


VOLATILE = {"now": 0}


@node
def file_of(name: str) -> File:
    """A computed file: it stands for something outside."""
    CALLS.append("file_of")
    return File.at(name)


@node
def size_of(file: File) -> int:
    CALLS.append("size_of")
    return len(Path(file).read_bytes())


@node
def seeds_of(seed: Seed) -> int:
    return len(seed) if isinstance(seed, list | Rng) else 1


@node(stateful=True)
def place(a: int, *, run: Run) -> str:
    return run.path


@node
def steps(a: int, count: int = 200, pause: float = 0.01, *, run: Run) -> int:
    for number in range(count):
        run.progress(number + 1, count)
        time.sleep(pause)
    return a


@node
def anything(value: Any) -> Any:
    return value


BARRIER = threading.Barrier(2, timeout=5)


@node
def meets(a: int) -> int:
    """Ends only when two of it run at once."""
    BARRIER.wait()
    return a


NODES = [one for one in list(globals().values()) if hasattr(one, "__node__")]


def make_engine(**options: Any) -> Engine:
    """An engine with these nodes, without a disk tier unless one is asked for."""
    return Engine(nodes=NODES, **{"cache": False, **options})


def flow(nodes: dict[str, Any], outputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A workflow from nodes written as `{"use": …}`."""
    return {"nodegraph": 1, **more, "nodes": nodes, "outputs": outputs}


def traced(engine: Engine, workflow: Any, **inputs: Any) -> tuple[Any, dict[str, list[str]]]:
    """Run to the end: the result, and the paths of nodes by kind of event."""
    job = engine.submit(workflow, inputs)
    seen: dict[str, list[str]] = {}
    for event in job.events():
        seen.setdefault(event.kind, []).append(event.node)
    return job.result(timeout=60), seen
