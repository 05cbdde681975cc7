"""Graphs of trivial nodes, in three shapes and any size. No two graphs share a result."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from nodegraph import node

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


NODES = (bench_add, bench_join, bench_sum)


def chain(size: int) -> dict[str, Any]:
    """One after another."""
    start = next(_distinct) * 1_000_000
    nodes: dict[str, Any] = {"n0": {"use": "bench_add", "with": {"a": start}}}
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
