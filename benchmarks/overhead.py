"""What the engine adds to a node: microseconds for each trivial node, fresh and fully cached.

From a loaded Workflow through `Engine.submit` (check, plan, run) to its last event, with one subscriber, the shipped threads and
defaults, Python's default garbage collector, and every literal and result distinct. The disk tier is on, in a folder of its own.

    python benchmarks/overhead.py [--sizes 10 100 1000 10000 100000] [--repeat 3]

The last column is the same work as plain Python calls, in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import count
from typing import Any

from nodegraph import Engine, Workflow, node

_distinct = count(1_000_000, 1_000)


@node
def bench_add(a: int, b: int = 0) -> int:
    """The trivial node."""
    return a + b


@node
def bench_join(a: int, b: int) -> int:
    """Takes two, and stays small."""
    return (31 * a + b) % (1 << 61)


@node
def bench_sum(items: list[int]) -> int:
    """Takes many."""
    return sum(items)


def chain(size: int) -> dict[str, Any]:
    """One after another."""
    start = next(_distinct) * 1_000_000
    nodes = {"n0": {"use": "bench_add", "with": {"a": start}}}
    for number in range(1, size):
        nodes[f"n{number}"] = {"use": "bench_add", "from": {"a": f"n{number - 1}.int"}, "with": {"b": start + number}}
    return _workflow(nodes, [f"n{size - 1}"])


def fan(size: int) -> dict[str, Any]:
    """One feeds all others, and one takes them all."""
    start = next(_distinct) * 1_000_000
    nodes: dict[str, Any] = {"n0": {"use": "bench_add", "with": {"a": start}}}
    middle = [f"n{number}" for number in range(1, size - 1)]
    for number, name in enumerate(middle):
        nodes[name] = {"use": "bench_add", "from": {"a": "n0.int"}, "with": {"b": start + number}}
    nodes["sum"] = {"use": "bench_sum", "from": {"items": [f"{name}.int" for name in middle]}}
    return _workflow(nodes, ["sum"])


def diamonds(size: int) -> dict[str, Any]:
    """Diamond after diamond: a top, two sides, and the side's sum is the next top."""
    start = next(_distinct) * 1_000_000
    nodes: dict[str, Any] = {"n0": {"use": "bench_add", "with": {"a": start}}}
    top = "n0"
    for number in range(1, size):
        place = number % 3
        if place:
            nodes[f"n{number}"] = {"use": "bench_add", "from": {"a": f"{top}.int"}, "with": {"b": start + number}}
        else:
            nodes[f"n{number}"] = {"use": "bench_join", "from": {"a": f"n{number - 2}.int", "b": f"n{number - 1}.int"}}
            top = f"n{number}"
    return _workflow(nodes, [f"n{number}" for number in range(max(0, size - 3), size)])


def _workflow(nodes: dict[str, Any], outputs: list[str]) -> dict[str, Any]:
    return {"nodegraph": 1, "nodes": nodes, "outputs": {f"out_{name}": f"{name}.int" for name in outputs}}


SHAPES: dict[str, Callable[[int], dict[str, Any]]] = {"chain": chain, "fan": fan, "diamonds": diamonds}


def run(engine: Engine, workflow: Workflow) -> float:
    """Seconds from submitting to the last event."""
    begun = time.perf_counter()
    job = engine.submit(workflow)
    for _ in job.events():
        pass
    taken = time.perf_counter() - begun
    if not job.result().ok:
        raise SystemExit(f"the run failed: {job.result().problems}")
    return taken


def plain(workflow: Workflow) -> float:
    """Seconds of the same calls without an engine."""
    functions = {"bench_add": bench_add, "bench_join": bench_join, "bench_sum": bench_sum}
    calls = [(name, functions[str(one.use)], one.from_, one.with_) for name, one in workflow.nodes.items()]
    values: dict[str, int] = {}
    begun = time.perf_counter()
    for name, call, links, literals in calls:
        linked = {port: [values[one[:-4]] for one in link] if isinstance(link, list) else values[link[:-4]] for port, link in links.items()}
        values[name] = call(**linked, **literals)  # a link ends in ".int"
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1_000, 10_000, 100_000])
    parser.add_argument(
        "--repeat", type=int, default=5, help="runs of each; the median counts (one run from 10,000 nodes on takes long enough)"
    )
    options = parser.parse_args()
    print(f"{'shape':10}{'nodes':>9}{'fresh us':>11}{'cached us':>11}{'plain us':>10}")
    medians: dict[tuple[str, int], tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder, Engine(nodes=[bench_add, bench_join, bench_sum], cache=folder) as engine:
        run(engine, Workflow.of(chain(10)))  # threads and imports
        for shape, make in SHAPES.items():
            for size in options.sizes:
                rows = []
                for _ in range(options.repeat if size <= 10_000 else max(1, options.repeat // 2)):
                    workflow = Workflow.of(make(size))
                    rows.append([taken / size * 1e6 for taken in (run(engine, workflow), run(engine, workflow), plain(workflow))])
                fresh, cached, calls = (statistics.median(column) for column in zip(*rows, strict=True))
                medians[shape, size] = fresh, cached
                print(f"{shape:10}{size:>9}{fresh:>11.1f}{cached:>11.1f}{calls:>10.2f}", flush=True)
    small, large = max(size for size in options.sizes if size <= 100), max(options.sizes)
    for shape in SHAPES:
        factors = [medians[shape, large][kind] / medians[shape, small][kind] for kind in (0, 1)]
        print(f"{shape}: {large} nodes against {small}, for each node: fresh x{factors[0]:.2f}, cached x{factors[1]:.2f}")


if __name__ == "__main__":
    main()
