"""What the engine itself costs: microseconds and bytes of a trivial node, fresh and cached, in graphs of several shapes and sizes.

    python benchmarks/overhead.py [--sizes 10 100 1000 10000 100000] [--repeat 5]

Beside them, in the same run and taking turns, the same work as plain Python calls, by dask's threaded scheduler and by Hamilton
(`pip install .[benchmarks]`; a dash where one is not installed or cannot do it). The engine's time is that from handing over a
read workflow to the last event: it checks, plans, keys, runs, caches and tells; the others only run a graph that is ready.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

from measure import alternating, figure, in_new_process, median, verdict
from rivals import dask, hamilton, plain
from shapes import NODES, SHAPES, chain, diamonds

from nodegraph import Engine, Workflow

RIVALS = {"plain": plain, "dask": dask, "hamilton": hamilton}
CLOCK = time.perf_counter
COLUMNS = ("fresh", "cached", *RIVALS)


def run(engine: Engine, workflow: Workflow) -> float:
    """Seconds from submitting to the last event."""
    begun = CLOCK()
    job = engine.submit(workflow)
    for _ in job.events():
        pass
    taken = CLOCK() - begun
    if not job.result().ok:
        raise SystemExit(f"the run failed: {job.result().problems}")
    return taken


def compare(engine: Engine, shape: str, size: int, repeat: int) -> dict[str, float | None]:
    """Microseconds a node of each way to run graphs of a shape and size, each time another graph."""
    kept: dict[str, Any] = {}

    def fresh() -> float:
        kept["data"] = SHAPES[shape](size)
        kept["workflow"] = Workflow.of(kept["data"])
        return run(engine, kept["workflow"])

    def cached() -> float:
        return run(engine, kept["workflow"])

    def rival(name: str) -> float | None:
        ready = RIVALS[name](kept["data"])
        begun = CLOCK()
        return None if ready is None or ready() is None else CLOCK() - begun

    contenders = {"fresh": fresh, "cached": cached, **{name: lambda name=name: rival(name) for name in RIVALS}}
    fresh()
    taken = alternating(contenders, repeat)
    return {name: None if (middle := median(seconds)) is None else middle / size * 1e6 for name, seconds in taken.items()}


def table(sizes: list[int], repeat: int) -> dict[tuple[str, int], dict[str, float | None]]:
    """Print microseconds a node by shape and size."""
    print(f"{'us a node':10}{'nodes':>9}" + "".join(f"{name:>10}" for name in COLUMNS))
    medians = {}
    with tempfile.TemporaryDirectory() as folder, Engine(nodes=NODES, cache=folder) as engine:
        run(engine, Workflow.of(chain(10)))  # threads and imports
        for shape in SHAPES:
            for size in sizes:
                found = medians[shape, size] = compare(engine, shape, size, repeat if size <= 10_000 else max(1, repeat // 2))
                print(f"{shape:10}{size:>9}" + "".join(f"{figure(found[name]):>10}" for name in COLUMNS), flush=True)
    return medians


def memory(size: int) -> dict[str, float]:
    """Bytes a node beside the loaded file and the events: at the run's peak, while its job is held, and after that."""
    with Engine(nodes=NODES, cache=False) as engine:
        run(engine, Workflow.of(chain(10)))
        workflow = Workflow.of(diamonds(size))
        gc.collect()
        tracemalloc.start()
        begun = tracemalloc.get_traced_memory()[0]
        job = engine.submit(workflow)
        job.result()
        peak = tracemalloc.get_traced_memory()[1] - begun
        held = tracemalloc.get_traced_memory()[0] - begun
        own = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/nodegraph/job.py")])
        events = sum(trace.size for trace in own.traces)
        del job, own
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] - begun
        tracemalloc.stop()
    return {"peak": (peak - events) / size, "held": (held - events) / size, "kept": kept / size, "events": events / size}


def reading(size: int, repeat: int) -> dict[str, float]:
    """Seconds to read, check and plan a file of so many nodes, after imports: the least of several, and the parts of that one."""
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, Engine(nodes=NODES, cache=False) as engine:
        engine.plan(Workflow.of(chain(10)))
        for number in range(repeat):
            path = Path(folder) / f"{number}.json"
            path.write_text(json.dumps(diamonds(size), indent=1))
            begun = CLOCK()
            workflow = Workflow.load(path)
            read = CLOCK()
            if engine.check(workflow):
                raise SystemExit("the file has problems")
            checked = CLOCK()
            engine._plan(workflow, {}, ())  # what `submit` does before it runs; `plan` also asks the cache for each step
            planned = CLOCK()
            found = {"read": read - begun, "check": checked - read, "plan": planned - checked, "all": planned - begun}
            if not best or found["all"] < best["all"]:
                best = found
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1_000, 10_000, 100_000])
    parser.add_argument("--repeat", type=int, default=5, help="rounds; the median counts (fewer of more than 10,000 nodes)")
    parser.add_argument("--cpu", action="store_true", help="count processor seconds of all threads instead: for a machine that is busy")
    parser.add_argument("--part", choices=["memory", "reading"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cpu:
        global CLOCK
        CLOCK = time.process_time
    if options.part:
        print(json.dumps(memory(10_000) if options.part == "memory" else reading(10_000, options.repeat)))
        return
    medians = table(options.sizes, options.repeat)
    small, large = max((size for size in options.sizes if size <= 100), default=min(options.sizes)), max(options.sizes)
    print()
    for name, aim in (("fresh", 15.0), ("cached", 8.0)):
        worst = max(medians[shape, size][name] or 0.0 for shape in SHAPES for size in options.sizes if size >= 100)
        print(verdict(f"us a node, {name}, the worst from 100 nodes on", worst, aim, "{:.1f}"))
        for shape in SHAPES:
            factor = (medians[shape, large][name] or 0.0) / (medians[shape, small][name] or 1.0)
            print(verdict(f"{shape}, {name}: a node of {large:,} against one of {small:,}", factor, 1.5, "{:.2f}"))
    held = in_new_process("overhead.py", "--part", "memory")
    for what, name in (("at the peak of the run", "peak"), ("while the job is held", "held"), ("in the cache", "kept")):
        print(verdict(f"bytes a node beside file and events, {what}", held[name], 1024, "{:.0f}"))
    print(f"{'(bytes of retained events a node)':58} {held['events']:9.0f}")
    seconds = in_new_process("overhead.py", "--part", "reading", "--repeat", str(options.repeat), *(["--cpu"] if options.cpu else []))
    parts = ", ".join(f"{name} {seconds[name]:.3f}" for name in ("read", "check", "plan"))
    print(verdict(f"a file of 10,000 nodes: {parts}", seconds["all"], 0.15))


if __name__ == "__main__":
    main()
