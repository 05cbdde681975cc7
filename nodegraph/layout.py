"""A layered layout of boxes and the edges between them, left to right, by grandalf (Sugiyama's method).

grandalf draws from top to bottom; x and y are exchanged on the way in and on the way out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nodegraph.errors import Problem, Problems

LAYER_GAP = 56.0
"""Pixels between one column of boxes and the next: room for curves."""
BOX_GAP = 22.0
"""Pixels between boxes of one column, and between parts that nothing connects."""
LANE = 10.0
"""Pixels that an edge takes which passes a column."""
ROUNDS = 4
"""Sweeps that reduce crossings."""

Size = tuple[float, float]
Point = tuple[float, float]


@dataclass(slots=True)
class Layout:
    """Upper left corners by name, the bends of edges that pass columns, by (source, target), left and right end of the column that a
    box is in, and the size of it all."""

    at: dict[str, Point] = field(default_factory=dict)
    bends: dict[tuple[str, str], list[tuple[Point, Point]]] = field(default_factory=dict)
    columns: dict[str, Point] = field(default_factory=dict)
    width: float = 0.0
    height: float = 0.0


def layered(sizes: Mapping[str, Size], edges: Sequence[tuple[str, str]]) -> Layout:
    """Place boxes of (width, height) so that edges run to the right. An edge of a circle runs back.

    A bend is the stretch, from its left to its right end, on which an edge passes through a column of boxes. Raises Problems when
    grandalf is not installed.
    """
    try:
        from grandalf.graphs import Edge, Graph, Vertex
    except ImportError:
        fix = 'pip install "nodegraph[draw]", or print the graph: nodegraph show --mermaid'
        raise Problems([Problem("not-installed", "", "drawing a graph needs grandalf, which is not installed", fix)]) from None

    vertices = {name: Vertex(name) for name in sizes}
    for name, vertex in vertices.items():
        width, height = sizes[name]
        vertex.view = _View(height + BOX_GAP, width)
    unique = [pair for pair in dict.fromkeys(edges) if pair[0] != pair[1] and pair[0] in vertices and pair[1] in vertices]
    graph = Graph(list(vertices.values()), [Edge(vertices[source], vertices[target]) for source, target in unique])
    whole = Layout()
    order = {name: index for index, name in enumerate(sizes)}
    for part in sorted(graph.C, key=lambda one: min(order[vertex.data] for vertex in one.sV)):
        _place(part, sizes, whole)
    return whole


class _View:
    """What grandalf asks of a vertex: its size, and where it is put (its middle)."""

    def __init__(self, width: float, height: float):
        self.w, self.h = width, height
        self.xy = (0.0, 0.0)


def _place(part: Any, sizes: Mapping[str, Size], whole: Layout) -> None:
    """Lay out one connected part, and put it below what there is."""
    from grandalf.layouts import SugiyamaLayout

    sugiyama = SugiyamaLayout(part)
    sugiyama.xspace, sugiyama.yspace, sugiyama.dw, sugiyama.dh = 0, LAYER_GAP, LANE, LANE
    sugiyama.init_all(optimize=True)
    sugiyama.draw(ROUNDS)
    columns = _columns(sugiyama, sizes)
    middles = _apart(sugiyama, sizes)
    found = {one.data: y for one, y in middles.items() if hasattr(one, "data")}
    lanes = {one: y for one, y in middles.items() if not hasattr(one, "data")}
    top = min([*(y - sizes[name][1] / 2 for name, y in found.items()), *(y - LANE / 2 for y in lanes.values())])
    start = whole.height + (BOX_GAP if whole.height else 0)
    for vertex in part.sV:
        width, height = sizes[vertex.data]
        left, right = whole.columns[vertex.data] = columns[sugiyama.grx[vertex].rank]
        whole.at[vertex.data] = (left + (right - left - width) / 2, start + found[vertex.data] - height / 2 - top)
        whole.height = max(whole.height, whole.at[vertex.data][1] + height)
    for edge, ctrl in sugiyama.ctrls.items():
        passed = [(sugiyama.grx[one].rank, start + lanes[one] - top) for one in ctrl.values() if one in lanes]
        if passed:
            bends = [((columns[rank][0], y), (columns[rank][1], y)) for rank, y in sorted(passed)]
            whole.bends[edge.v[0].data, edge.v[1].data] = bends
            whole.height = max(whole.height, *(y + LANE for _, y in passed))
    whole.width = max(whole.width, *(right for _, right in columns))


def _apart(sugiyama: Any, sizes: Mapping[str, Size]) -> dict[Any, float]:
    """The middle of every box and lane; where grandalf lets some of a column overlap, the lower ones are moved down."""
    placed = {}
    for layer in sugiyama.layers:
        floor = -math.inf
        for one in sorted(layer, key=lambda one: float(_view(sugiyama, one).xy[0])):
            height = sizes[one.data][1] if hasattr(one, "data") else LANE
            middle = max(float(_view(sugiyama, one).xy[0]), floor + height / 2)
            placed[one] = middle
            floor = middle + height / 2 + (BOX_GAP if hasattr(one, "data") else 0.0)
    return placed


def _view(sugiyama: Any, one: Any) -> Any:
    return one.view if hasattr(one, "data") else sugiyama.grx[one].view


def _columns(sugiyama: Any, sizes: Mapping[str, Size]) -> list[Point]:
    """Left and right end of each layer, as wide as its widest box."""
    columns, x = [], 0.0
    for layer in sugiyama.layers:
        width = max((sizes[one.data][0] for one in layer if getattr(one, "data", None) in sizes), default=0.0)
        columns.append((x, x + width))
        x += width + LAYER_GAP
    return columns


__all__ = ["Layout", "layered"]
