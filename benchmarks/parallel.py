"""What overlaps: independent branches on the CPU pool, the stages of a batch, and many runs on one engine.

    python benchmarks/parallel.py [--pictures 32] [--runs 1000]

Stages: each picture of a batch is encoded (CPU pool), worked on (device lane) and saved (CPU pool); the lane's share of busy time is what
its nodes took, over the time from the start of the first to the end of the last. It is measured with nodes that wait, as a GPU and a
disk let the processor wait, and with tiny-sd, whose device is the processor itself.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import ROOT, verdict

from nodegraph import Engine, node

ENCODE, DEVICE, SAVE = 0.008, 0.02, 0.008
"""Seconds of the stages that wait."""


@node
def wait_branch(number: int, seconds: float) -> int:
    """A branch of its own."""
    time.sleep(seconds)
    return number


@node
def add_all(items: list[int]) -> int:
    return sum(items)


@node
def wait_encode(number: int) -> int:
    time.sleep(ENCODE)
    return number


@node(lane="device")
def wait_device(number: int) -> int:
    time.sleep(DEVICE)
    return number + 1


@node
def wait_save(number: int) -> int:
    time.sleep(SAVE)
    return number


NODES = (wait_branch, add_all, wait_encode, wait_device, wait_save)


def busy(job: Any, names: tuple[str, ...]) -> float:
    """The share of the time from the first to the last of some nodes during which one of them was at work."""
    ends = [
        (event.time, event.data["seconds"])
        for event in job.events()
        if event.kind == "finished" and event.node.rpartition("/")[2].startswith(names)
    ]
    begun = min(end - seconds for end, seconds in ends)
    return sum(seconds for _, seconds in ends) / (max(end for end, _ in ends) - begun)


def branches(engine: Engine, count: int, seconds: float) -> float:
    """The time of independent branches over that of one."""
    nodes: dict[str, Any] = {f"b{n}": {"use": "wait_branch", "with": {"number": n, "seconds": seconds}} for n in range(count)}
    nodes["sum"] = {"use": "add_all", "from": {"items": [f"{name}.int" for name in nodes]}}
    begun = time.perf_counter()
    engine.run({"nodegraph": 1, "nodes": nodes, "outputs": {"sum": "sum.int"}})
    return (time.perf_counter() - begun) / seconds


def stages(engine: Engine, pictures: int) -> float:
    nodes = {
        "encode": {"use": "wait_encode", "each": {"number": list(range(pictures))}},
        "device": {"use": "wait_device", "each": {"number": "encode.int"}},
        "save": {"use": "wait_save", "each": {"number": "device.int"}},
    }
    job = engine.submit({"nodegraph": 1, "nodes": nodes, "outputs": {"saved": "save.int"}})
    job.result()
    return busy(job, ("device",))


def painted(folder: Path, pictures: int) -> float:
    """The lane's share with tiny-sd: each seed sampled, decoded, enlarged and saved."""
    one = {
        "nodegraph": 1,
        "inputs": {"seed": {"type": "int"}},
        "nodes": {
            "paint": {"use": str(ROOT / "workflows" / "txt2img.json"), "from": {"seed": "inputs.seed"}, "with": {"prompt": "a red circle"}},
            "enlarge": {"use": "resize", "from": {"image": "paint.image"}, "with": {"width": 256, "height": 256}},
            "save": {"use": "save_image", "from": {"image": "enlarge.image"}},
        },
        "outputs": {"image": "enlarge.image"},
    }
    (folder / "one.json").write_text(json.dumps(one))
    batch = {
        "nodegraph": 1,
        "nodes": {"all": {"use": "./one.json", "each": {"seed": list(range(1, pictures + 1))}}},
        "outputs": {"images": "all.image"},
    }
    (folder / "batch.json").write_text(json.dumps(batch))
    with Engine(cache=False, output=folder / "out", roots=[ROOT]) as engine:
        engine.run(folder / "one.json", seed=0)
        job = engine.submit(folder / "batch.json")
        job.result()
        return busy(job, ("sample", "decode"))


def at_once(engine: Engine, runs: int) -> tuple[float, int]:
    """Many runs of one workflow submitted at once: their seconds together, and how often its twelve nodes were called."""
    nodes: dict[str, Any] = {"n0": {"use": "wait_branch", "with": {"number": 1_000_000, "seconds": 0.01}}}
    for number in range(1, 12):
        nodes[f"n{number}"] = {"use": "wait_branch", "from": {"number": f"n{number - 1}.int"}, "with": {"seconds": 0.01 + number / 1e6}}
    workflow = {"nodegraph": 1, "nodes": nodes, "outputs": {"last": "n11.int"}}
    begun = time.perf_counter()
    jobs = [engine.submit(workflow) for _ in range(runs)]
    calls = 0
    for job in jobs:
        job.result()
        calls += sum(event.kind == "finished" for event in job.events())
    return time.perf_counter() - begun, calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--runs", type=int, default=1000)
    options = parser.parse_args()
    with Engine(nodes=NODES, cache=False, threads=8) as engine:
        branches(engine, 2, 0.01)
        print(verdict("8 branches on 8 threads, over the time of one", branches(engine, 8, 0.25), 1.1, "{:.2f}"))
        print(verdict("share of a batch with the device lane busy, waiting", stages(engine, options.pictures), 0.95, at_least=True))
        seconds, calls = at_once(engine, options.runs)
        print(verdict(f"calls in {options.runs} runs at once of 12 nodes", calls, 12, "{:.0f}"))
        print(f"{'    seconds of all of them':58} {seconds:9.2f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(verdict("share of a batch with the device lane busy, tiny-sd", painted(Path(folder), options.pictures), 0.95, at_least=True))


if __name__ == "__main__":
    main()
