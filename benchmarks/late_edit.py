"""A late edit costs only itself: guidance, then what is done to the decoded picture, then how it is saved.

    python benchmarks/late_edit.py [--rounds 5] [--pictures 4] [--sides 256 512]

A batch is painted by tiny-sd, enlarged and saved; then three edits follow, each later in the graph than the one before. What an edit
costs beside its work hardly grows with the pictures, so several sizes are looked at; 512 is what Stable Diffusion paints. The affected
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

EDITS = {"guidance": "guidance", "the picture's size": "width", "the file's quality": "quality"}
"""What is edited, and the input that does so."""


def workflow(pictures: int, side: int) -> dict[str, Any]:
    """txt2img with the inputs of three late nodes."""
    inputs: dict[str, Any] = {"guidance": 5.0, "width": side, "quality": 90}
    paint = {"prompt": "a large red circle on the left on a white background", "batch": pictures}
    nodes = {
        "paint": {"use": str(ROOT / "workflows" / "txt2img.json"), "from": {"guidance": "inputs.guidance"}, "with": paint},
        "enlarge": {"use": "resize", "from": {"image": "paint.image", "width": "inputs.width"}, "with": {"height": side}},
        "save": {"use": "save_image", "from": {"image": "enlarge.image", "quality": "inputs.quality"}, "with": {"format": "jpeg"}},
    }
    declared = {name: {"type": type(value).__name__, "default": value} for name, value in inputs.items()}
    return {"nodegraph": 1, "name": "late", "inputs": declared, "nodes": nodes, "outputs": {"image": "enlarge.image"}}


def edits(rounds: int, side: int) -> list[tuple[str, dict[str, Any]]]:
    """The edits in the order in which a person makes them, and all inputs after each: in each round other ones."""
    values: dict[str, Any] = {}
    first = {"guidance": 3.0, "width": side * 3 // 2, "quality": 80}
    made = []
    for number in range(rounds):
        for what, name in EDITS.items():
            values = {**values, name: first[name] + number}
            made.append((what, values))
    return made


def warm(file: Path, folder: Path, rounds: int, side: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """The ratios of each edit in one process, and the seconds beside its work."""
    from nodegraph import Engine

    ratios: dict[str, list[float]] = {what: [] for what in EDITS}
    beside: dict[str, list[float]] = {what: [] for what in EDITS}
    with Engine(cache=folder / "warm", output=folder / "output", roots=[ROOT]) as engine:
        engine.run(file)
        for what, values in edits(rounds, side):
            begun = time.perf_counter()
            job = engine.submit(file, values)
            job.result()
            taken = time.perf_counter() - begun
            work = sum(event.data["seconds"] for event in job.events() if event.kind == "finished")
            ratios[what].append(taken / work)
            beside[what].append(taken - work)
    return ratios, beside


def cold(file: Path, folder: Path, rounds: int, side: int) -> tuple[dict[str, list[float]], list[float]]:
    """The ratios of each edit in processes of their own, and the seconds that these took to start."""
    ratios: dict[str, list[float]] = {what: [] for what in EDITS}
    starts = []
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
    for what, values in edits(rounds, side):
        given = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
        begun = time.time()
        _, _, told = command("-m", "nodegraph", *common, *given)
        events = [json.loads(line) for line in told.splitlines()]
        first = next(event["time"] for event in events if event["event"] == "started")
        work = sum(event["seconds"] for event in events if event["event"] == "finished")
        ratios[what].append((events[-1]["time"] - first) / work)
        starts.append(first - begun)
    return ratios, starts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512], help="of the pictures that are enlarged and saved")
    options = parser.parse_args()
    starts: list[float] = []
    for side in options.sides:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            file = folder / "late.json"
            file.write_text(json.dumps(workflow(options.pictures, side)))
            ratios, beside = warm(file, folder, options.rounds, side)
            for what, taken in ratios.items():
                said = f"{side}: warm, {what}, {1000 * statistics.median(beside[what]):.1f} ms beside its work"
                print(verdict(said, statistics.median(taken), 1.05), flush=True)
            ratios, begun = cold(file, folder, options.rounds, side)
            starts += begun
            for what, taken in ratios.items():
                print(verdict(f"{side}: new process, {what}", statistics.median(taken), 1.05), flush=True)
    print(verdict("new process: seconds to the first node, the least", min(starts), 0.5))


if __name__ == "__main__":
    main()
