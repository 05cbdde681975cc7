"""Nodes that take long, for tests with several processes: each call adds a line to the file that CALLS names.

python long_nodes.py CACHE NODE INPUTS     runs one of them as a workflow, and prints its output as JSON
"""

from __future__ import annotations

import json
import os
import sys
import time

from nodegraph import Engine, Run, node


def _called(what: str) -> None:
    with open(os.environ["CALLS"], "a", encoding="utf-8") as file:
        file.write(what + "\n")


@node
def slow_number(value: int, seconds: float = 1.0) -> int:
    """A plain node that takes a while."""
    _called(f"slow_number {value}")
    time.sleep(seconds)
    return value + 1


@node
def slow_sum(count: int, seconds: float = 0.05, *, run: Run) -> int:
    """Adds 0, 1, … in steps of which each takes a while; goes on where it was."""
    state = run.resumed() or {"step": 0, "sum": 0}
    _called(f"slow_sum from {state['step']}")
    for step in range(state["step"], count):
        state = {"step": step + 1, "sum": state["sum"] + step}
        time.sleep(seconds)
        run.progress(step + 1, count)
        run.checkpoint(lambda kept=state: dict(kept))
    return state["sum"]


NODES = {"slow_number": slow_number, "slow_sum": slow_sum}


def workflow(name: str, inputs: dict) -> dict:
    """A workflow of one node."""
    return {"nodegraph": 1, "nodes": {"n": {"use": name, "with": inputs}}, "outputs": {"int": "n.int"}}


def main() -> None:
    cache, name, inputs = sys.argv[1:]
    with Engine(nodes=list(NODES.values()), cache=cache) as engine:
        print(json.dumps(engine.run(workflow(name, json.loads(inputs))).outputs))


if __name__ == "__main__":
    main()
