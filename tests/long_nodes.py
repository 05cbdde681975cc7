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


@node
def slow_text(number: int, text: str = "", seconds: float = 0.045) -> str:
    """Takes a while, and gives more bytes than are worth the disk for that."""
    time.sleep(seconds)
    _called(f"slow_text {number}")
    return f"{number:08d}" * 1_500_000


@node
def chars_in(texts: list[str]) -> int:
    return sum(map(len, texts))


@node
def quick_number(number: int, seconds: float = 0.01) -> int:
    """Gives a small result in less time than is worth the disk."""
    time.sleep(seconds)
    _called(f"quick_number {number}")
    return number


@node
def sum_up(numbers: list[int]) -> int:
    return sum(numbers)


NODES = {one.__name__: one for one in (slow_number, slow_sum, slow_text, chars_in, quick_number, sum_up)}


def chain(count: int) -> dict:
    """Many nodes of 50 ms one after the other."""
    nodes: dict = {"n0": {"use": "slow_text", "with": {"number": 0}}}
    for number in range(1, count):
        nodes[f"n{number}"] = {"use": "slow_text", "with": {"number": number}, "from": {"text": f"n{number - 1}.text"}}
    nodes["length"] = {"use": "chars_in", "from": {"texts": [f"n{count - 1}.text"]}}
    return {"nodegraph": 1, "nodes": nodes, "outputs": {"int": "length.int"}}


def fan(count: int) -> dict:
    """Many nodes of 10 ms side by side."""
    nodes = {
        "n": {"use": "quick_number", "each": {"number": list(range(count))}},
        "sum": {"use": "sum_up", "from": {"numbers": "n.int"}},
    }
    return {"nodegraph": 1, "nodes": nodes, "outputs": {"int": "sum.int"}}


def workflow(name: str, inputs: dict) -> dict:
    """A chain, a fan, or a workflow of one node."""
    if name in ("chain", "fan"):
        return {"chain": chain, "fan": fan}[name](**inputs)
    return {"nodegraph": 1, "nodes": {"n": {"use": name, "with": inputs}}, "outputs": {"int": "n.int"}}


def main() -> None:
    cache, name, inputs = sys.argv[1:]
    with Engine(nodes=list(NODES.values()), cache=cache) as engine:
        print(json.dumps(engine.run(workflow(name, json.loads(inputs))).outputs))


if __name__ == "__main__":
    main()
