"""What an author waits for: from a save to the picture in `nodegraph watch`, and for `check` of a workflow of 10,000 lines.

    python benchmarks/watch.py [--repeat 20] [--lines 10000]

Save to picture: the workflow is saved with another value, as editors do (written aside and renamed), until the file of its output
has been replaced; what the nodes themselves took is left out. A saved pack is timed in the same way, up to its new picture. `check`
is timed as a process of its own, as a person waits for it, and inside of one beside reading the file by `json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from measure import median, paired_ratio, verdict

from nodegraph import Engine, Workflow
from nodegraph.live import Live

CLOCK = time.perf_counter
PACK = '''\
from nodegraph import Image, node


@node
def grey(level: float = 0.5, size: int = 64) -> Image:
    """A grey picture."""
    import numpy

    return Image(numpy.full((1, 3, size, size), level, dtype=numpy.float32))


@node
def darker(image: Image, amount: float = 0.5) -> Image:
    """A darker picture."""
    return Image(image.numpy() * (1 - amount))
'''
FLOW: dict[str, Any] = {
    "name": "bench",
    "nodes": {
        "grey": {"use": "grey", "with": {"level": 0.9}},
        "dark": {"use": "darker", "from": {"image": "grey.image"}, "with": {"amount": 0.0}},
    },
    "outputs": {"image": "dark.image"},
}


class Waiter:
    """A view that says when a round has ended, and how long its nodes took."""

    def __init__(self) -> None:
        self.ended = threading.Semaphore(0)
        self.nodes = 0.0
        self.at = 0.0

    def begin(self, this: Any) -> None:
        self.nodes = 0.0

    def event(self, this: Any, event: Any) -> None:
        if event.kind == "finished":
            self.nodes += event.data["seconds"]

    def end(self, this: Any, result: Any, files: Any, seconds: float) -> None:
        self.at = CLOCK()
        if not result.ok:
            raise SystemExit(f"the run failed: {result.problems}")
        self.ended.release()

    def wrong(self, problems: Any, kept: bool) -> None:
        raise SystemExit(str(problems))


def save(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.aside")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def latencies(folder: Path, repeat: int, page: bool) -> tuple[list[float], list[float]]:
    """Milliseconds from a save of the workflow, and of the pack, to the new picture beyond the nodes' own time."""
    pack, flow = folder / "packs" / "bench", folder / "bench.json"
    pack.mkdir(parents=True, exist_ok=True)
    (pack / "pack.toml").write_text('name = "bench"\nversion = 1\n')
    module = pack / "nodes.py"
    save(module, PACK)
    save(flow, json.dumps(FLOW))
    waiter, found = Waiter(), ([], [])
    with Engine(packs=[folder / "packs"], cache=folder / "cache", roots=[folder]) as engine:
        views: list[Any] = [waiter]
        if page:
            from nodegraph.cli.page import Page

            views.append(Page(engine))
        live = Live(engine, flow, lambda workflow: (workflow, {}, {}, {}, []), views, folder / "out")
        thread = threading.Thread(target=live.forever, daemon=True)
        thread.start()
        waiter.ended.acquire()
        for number in range(1, repeat + 1):
            FLOW["nodes"]["dark"]["with"]["amount"] = number / (repeat + 1)
            for times, path, text in (
                (found[0], flow, json.dumps(FLOW)),
                (found[1], module, PACK.replace("(1 - amount)", f"(1 - amount - {number} * 1e-6)")),
            ):
                time.sleep(0.3)  # nothing is left of the save before
                begun = CLOCK()
                save(path, text)
                waiter.ended.acquire()
                times.append(1000 * (waiter.at - begun - waiter.nodes))
        live.close()
        thread.join()
        for view in views[1:]:
            view.close()
    return found


def long_workflow(lines: int) -> str:
    """JSON of about so many lines: layers of pictures that are painted, blended and adjusted."""
    nodes: dict[str, Any] = {"start": {"use": "solid_image", "with": {"width": 8, "height": 8}}}
    last, number = "start.image", 0
    while 11 * number < lines:
        number += 1
        nodes[f"blend_{number}"] = {
            "use": "blend",
            "from": {"background": last, "image": "start.image"},
            "with": {"opacity": 0.5, "mode": "multiply"},
        }
        last = f"blend_{number}.image"
    return json.dumps({"nodegraph": 1, "nodes": nodes, "outputs": {"image": last}}, indent=2)


def checking(folder: Path, lines: int, repeat: int) -> None:
    path = folder / "long.json"
    path.write_text(long_workflow(lines), encoding="utf-8")
    count = len(path.read_text(encoding="utf-8").splitlines())
    command = [sys.executable, "-m", "nodegraph", "check", str(path), "-q"]
    whole, busy, inside, parsing = [], [], [], []
    for _ in range(repeat):
        begun, before = CLOCK(), os.times()
        subprocess.run(command, check=True)
        whole.append(CLOCK() - begun)
        after = os.times()
        busy.append(after.children_user + after.children_system - before.children_user - before.children_system)
        with Engine(cache=False) as engine:
            begun = CLOCK()
            if engine.check(Workflow.load(path)):
                raise SystemExit("the long workflow has mistakes")
            inside.append(CLOCK() - begun)
        begun = CLOCK()
        json.loads(path.read_text(encoding="utf-8"))
        parsing.append(CLOCK() - begun)
    print(verdict(f"s to check {count} lines, as a process", median(whole), 0.6))
    print(verdict("s of a processor in that", median(busy), 0.6))
    print(verdict("s inside of a process, packs read", median(inside), 0.6))
    print(verdict("of that, as a share of reading the file by json", paired_ratio(inside, parsing), 100, "{:.0f}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--lines", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for page in (False, True):
            flow, pack = latencies(folder, given.repeat, page)
            for what, times in (("workflow", flow), ("pack", pack)):
                shown = f"ms from a saved {what} to the picture{', with the page' if page else ''}"
                print(verdict(shown, median(times), 300, "{:.0f}"), f"(slowest {max(times):.0f})")
        checking(folder, given.lines, max(3, given.repeat // 4))


if __name__ == "__main__":
    main()
