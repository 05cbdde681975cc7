"""A late edit costs only itself: guidance, then what is done to the decoded picture, then how it is saved.

    python benchmarks/late_edit.py [--rounds 5] [--pictures 4]

A batch is painted by tiny-sd, enlarged and saved; then three edits follow, each later in the graph than the one before. The affected
work is what the nodes that must run again take by themselves, as their `finished` events say (in a new process with the import of
torch and the loading of weights, where a node needs them). The ratio is the time from the first node's start to the result over that;
in a warm process from handing the workflow over. In a new process, the start is the time from launching the command to its first
node: interpreter, packs, check, plan and the look into the cache. Medians of several rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import ROOT, command, verdict

EDITS = {"guidance": ("guidance", 3.0), "the picture's size": ("width", 384), "the file's quality": ("quality", 80)}
"""What is edited, and the input and value that do so; each round adds its number to the value."""


def workflow(pictures: int) -> dict[str, Any]:
    """txt2img with the inputs of three late nodes."""
    inputs: dict[str, Any] = {"guidance": 5.0, "width": 256, "quality": 90}
    paint = {"prompt": "a large red circle on the left on a white background", "batch": pictures}
    nodes = {
        "paint": {"use": str(ROOT / "workflows" / "txt2img.json"), "from": {"guidance": "inputs.guidance"}, "with": paint},
        "enlarge": {"use": "resize", "from": {"image": "paint.image", "width": "inputs.width"}, "with": {"height": 256}},
        "save": {"use": "save_image", "from": {"image": "enlarge.image", "quality": "inputs.quality"}, "with": {"format": "jpeg"}},
    }
    declared = {name: {"type": type(value).__name__, "default": value} for name, value in inputs.items()}
    return {"nodegraph": 1, "name": "late", "inputs": declared, "nodes": nodes, "outputs": {"image": "enlarge.image"}}


def edits(rounds: int) -> list[tuple[str, dict[str, Any]]]:
    """The edits in the order in which a person makes them, and all inputs after each."""
    values: dict[str, Any] = {}
    made = []
    for number in range(rounds):
        for what, (name, value) in EDITS.items():
            values = {**values, name: value + number}
            made.append((what, values))
    return made


def warm(file: Path, folder: Path, rounds: int) -> dict[str, list[float]]:
    """The ratios of each edit in one process."""
    from nodegraph import Engine

    ratios: dict[str, list[float]] = {what: [] for what in EDITS}
    with Engine(cache=folder / "warm", output=folder / "output", roots=[ROOT]) as engine:
        engine.run(file)
        for what, values in edits(rounds):
            begun = time.perf_counter()
            job = engine.submit(file, values)
            job.result()
            taken = time.perf_counter() - begun
            ratios[what].append(taken / sum(event.data["seconds"] for event in job.events() if event.kind == "finished"))
    return ratios


def cold(file: Path, folder: Path, rounds: int) -> tuple[dict[str, list[float]], list[float], list[float]]:
    """The ratios of each edit in processes of their own, and how long these took to start, on the wall and on the processor."""
    ratios: dict[str, list[float]] = {what: [] for what in EDITS}
    starts, busy = [], []
    common = (
        "run",
        str(file),
        "--cache",
        str(folder / "cold"),
        "--output",
        str(folder / "output"),
        "--root",
        str(ROOT),
        "--events",
        "jsonl",
    )
    command("-m", "nodegraph", *common)
    for what, values in edits(rounds):
        given = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
        begun = time.time()
        _, processor, told = command("-m", "nodegraph", *common, *given)
        events = [json.loads(line) for line in told.splitlines()]
        first = next(event["time"] for event in events if event["event"] == "started")
        work = sum(event["seconds"] for event in events if event["event"] == "finished")
        ratios[what].append((events[-1]["time"] - first) / work)
        starts.append(first - begun)
        busy.append(processor - work)
    return ratios, starts, busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "late.json"
        file.write_text(json.dumps(workflow(options.pictures)))
        for what, taken in warm(file, folder, options.rounds).items():
            print(verdict(f"warm process, {what}: time over the affected work's", statistics.median(taken), 1.05), flush=True)
        ratios, starts, _ = cold(file, folder, options.rounds)
        for what, taken in ratios.items():
            print(verdict(f"new process, {what}: time over the affected work's", statistics.median(taken), 1.05))
        print(verdict("new process: seconds to the first node, the least", min(starts), 0.5))


if __name__ == "__main__":
    main()
