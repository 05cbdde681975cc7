"""Topology only: order and cycles, over integer indexes."""

from __future__ import annotations

from collections.abc import Sequence

Sources = Sequence[Sequence[int]]
"""For each node the indexes of the nodes it takes something from."""


def order(sources: Sources) -> list[int] | None:
    """A topological order with ties in index order, or None if index order is one. Raises CycleError."""
    if all(source < index for index, row in enumerate(sources) for source in row):
        return None
    import heapq

    targets: list[list[int]] = [[] for _ in sources]
    missing = [0] * len(sources)
    for index, row in enumerate(sources):
        for source in set(row):
            targets[source].append(index)
            missing[index] += 1
    ready = [index for index, count in enumerate(missing) if not count]
    done = []
    while ready:
        index = heapq.heappop(ready)
        done.append(index)
        for target in targets[index]:
            missing[target] -= 1
            if not missing[target]:
                heapq.heappush(ready, target)
    if len(done) < len(sources):
        raise CycleError(cycle(sources))
    return done


def cycle(sources: Sources) -> list[int]:
    """The nodes of one cycle, from its first in index order, in the direction of the data."""
    import networkx

    graph = networkx.DiGraph()
    graph.add_edges_from((source, index) for index, row in enumerate(sources) for source in row)
    path = [edge[0] for edge in networkx.find_cycle(graph)]
    start = path.index(min(path))
    return path[start:] + path[:start]


def ancestors(sources: Sources, wanted: Sequence[int]) -> set[int]:
    """The wanted nodes and everything they depend on."""
    seen = set(wanted)
    stack = list(seen)
    while stack:
        for source in sources[stack.pop()]:
            if source not in seen:
                seen.add(source)
                stack.append(source)
    return seen


class CycleError(ValueError):
    """The nodes depend on each other in a circle. `path` has their indexes."""

    def __init__(self, path: list[int]):
        super().__init__(f"cycle through {path}")
        self.path = path
