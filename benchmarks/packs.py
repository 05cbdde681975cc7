"""What packs cost before they are used: commands with many packs installed against the same commands with none.

Each command is a process of its own, by turns with the packs and without, with an index that an earlier start has written. (What
prints every node, such as `nodes` without a name, has that many more to print.) CPU seconds, user and system, are printed beside
wall time: they hardly depend on what else the machine does.

    python benchmarks/packs.py [--packs 200] [--nodes 20] [--repeat 9]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ROOT / "workflows" / "txt2img.json"
HEAD = """from __future__ import annotations

from typing import Annotated

import numpy as np
import torch

from nodegraph import Field, Image, Mask, node
"""
NODE = '''

@node
def bench_{pack}_{node}(
    image: Image,
    amount: Annotated[float, Field(ge=0, le=1), "how much"] = 0.5,
    size: Annotated[int, Field(ge=8, le=4096)] = 512,
    mask: Mask | None = None,
    mode: str = "plain",
) -> Image:
    """Node {node} of pack {pack}."""
    return Image(image.numpy() * amount)
'''
COMMANDS = {
    "check": ["check", str(WORKFLOW)],
    "nodes NAME": ["nodes", "decode_latent"],
    "plan": ["plan", str(WORKFLOW), "--set", "prompt=a red circle"],
    "packs list": ["packs", "list"],
}


def write_packs(folder: Path, packs: int, nodes: int) -> None:
    """Packs that import torch and numpy at module level, as packs do."""
    for pack in range(packs):
        inside = folder / f"bench_{pack}"
        inside.mkdir(parents=True)
        (inside / "pack.toml").write_text(f'name = "bench_{pack}"\nversion = 1\nnumerics = ["torch"]\n')
        (inside / "nodes.py").write_text(HEAD + "".join(NODE.format(pack=pack, node=node) for node in range(nodes)))


def start(command: list[str], packs: Path, cache: Path) -> tuple[float, float]:
    """Seconds on the wall and of the CPU that one process takes."""
    variables = {**os.environ, "NODEGRAPH_CACHE": str(cache), "NODEGRAPH_PACKS": str(packs), "PYTHONPATH": str(ROOT)}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "nodegraph", *command], env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=20, help="nodes of each pack")
    parser.add_argument("--repeat", type=int, default=9, help="starts of each kind; the median counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many, none, cache = folder / "many", folder / "none", folder / "cache"
        none.mkdir()
        write_packs(many, options.packs, options.nodes)
        time.sleep(2.1)  # files that have only just changed are looked at again
        first = {place: start(COMMANDS["check"], place, cache) for place in (none, many)}
        print(f"first check, which reads the sources: {first[none][1]:.2f} s CPU with none, {first[many][1]:.2f} s with {options.packs}")
        time.sleep(2.1)
        print(f"{'':12}{'none':>16}{options.packs:>10} packs{'ratio':>10}   (ms on the wall / of the CPU; ratio of the CPU)")
        for label, command in COMMANDS.items():
            rows: dict[Path, list[tuple[float, float]]] = {none: [], many: []}
            for place in (none, many):
                start(command, place, cache)
            for _ in range(options.repeat):
                for place, row in rows.items():
                    row.append(start(command, place, cache))
            wall, cpu = ({place: statistics.median(one[kind] for one in row) * 1e3 for place, row in rows.items()} for kind in (0, 1))
            shown = [f"{wall[place]:.0f} / {cpu[place]:.0f}" for place in (none, many)]
            print(f"{label:12}{shown[0]:>16}{shown[1]:>16}{cpu[many] / cpu[none]:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
