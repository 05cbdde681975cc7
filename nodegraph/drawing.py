"""A workflow as an SVG picture: boxes with their ports, links in the colour of their type, state, and small pictures of results.

Inputs of the workflow stand as tags at the ports they feed, outputs as tags at the ports that give them. A workflow that is used
as a node is a box with a double frame; opened, it holds its own graph. Names and texts are escaped; nothing is fetched.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from nodegraph import types
from nodegraph.boxes import HEAD, ROW, STATES, Box, Look, Row, draw_box
from nodegraph.errors import Problem, Problems
from nodegraph.layout import Layout, layered
from nodegraph.show import Edge, edges, use_of
from nodegraph.svg import FONT, INK, MUTED, PAPER, color_of, curve, escaped, fitting, plain_type, short, text_at, text_width
from nodegraph.template import Template
from nodegraph.types import Type
from nodegraph.workflow import Workflow

EDGE_PAD, MAX_TAG = 24.0, 150.0
MAX_NODES = 1500
"""A larger graph is refused: laying it out takes minutes, and nobody can read it."""
_OUTSIDE = object()
"""The value of an input that comes from the graph around."""


def draw(
    workflow: Workflow,
    template: Template,
    looks: Mapping[str, Look] | None = None,
    values: Mapping[str, Any] | None = None,
    *,
    opened: bool = False,
) -> str:
    """The SVG. `looks` by the path of the node; `values` of inputs to show in place of their defaults; `opened`: workflows that
    are used as nodes are drawn with what is in them. Raises Problems for a graph that is too large."""
    if len(workflow.nodes) > MAX_NODES:
        text = f"the workflow has {len(workflow.nodes)} nodes, and up to {MAX_NODES} can be drawn"
        raise Problems([Problem("too-large", "", text, "print it with: nodegraph show, or split it into workflows", workflow.file)])
    drawing = _Drawing(workflow, template, looks or {}, values or {}, "", opened)
    return _document(workflow, drawing)


class _Drawing:
    """One graph, laid out: its boxes and what they and their links look like."""

    def __init__(
        self, workflow: Workflow, template: Template, looks: Mapping[str, Look], values: Mapping[str, Any], prefix: str, opened: bool
    ):
        self.workflow, self.template, self.prefix = workflow, template, prefix
        self.values = {name: values.get(name, one.default) for name, one in workflow.inputs.items()}
        self.given = set(values)
        self.index = {name: index for index, name in enumerate(template.names)}
        self.boxes = {name: self._box(name, looks, opened) for name in workflow.nodes}
        self._tag_outputs()
        self.edges = [(name, edge) for name, node in workflow.nodes.items() for edge in edges(node) if edge.source in self.boxes]
        for box in self.boxes.values():
            box.measure()
        sizes = {name: (box.before + box.width + box.after, box.height) for name, box in self.boxes.items()}
        self.layout: Layout = layered(sizes, [(edge.source, name) for name, edge in self.edges]) if sizes else Layout()
        self.width, self.height = self.layout.width, self.layout.height

    # -- what is in a box ------------------------------------------------------------------------------------------

    def _box(self, name: str, looks: Mapping[str, Look], opened: bool) -> Box:
        node, used = self.workflow.nodes[name], self._used(name)
        path = self.prefix + name
        box = Box(name, use_of(node), look=looks.get(path, Look()), nested=isinstance(used, Template))
        box.doc = node.doc or (used.workflow.doc if isinstance(used, Template) else getattr(used, "doc", ""))
        if isinstance(used, Template):
            box.use = used.workflow.name or box.use
            if opened:
                bound = dict.fromkeys([*node.from_, *node.each], _OUTSIDE)
                box.inner = _Drawing(used.workflow, used, looks, {**node.with_, **bound}, f"{path}/", opened)
        box.left = self._inputs(name)
        outputs = (
            used.output_types if isinstance(used, Template) else {port.name: port.type for port in getattr(used, "outputs", {}).values()}
        )
        box.right = [Row(port, types.list_of(kind) if node.each else kind) for port, kind in outputs.items()]
        return box

    def _used(self, name: str) -> Any:
        index = self.index.get(name)
        return self.template.types[index] if index is not None else None

    def _inputs(self, name: str) -> list[Row]:
        """The ports that are linked, in the order of the node type, and then the values that are written."""
        node = self.workflow.nodes[name]
        rows: dict[str, Row] = {}
        for edge in edges(node):
            row = rows.setdefault(edge.port, Row(edge.port, self._type_of(name, edge.port), mapped=edge.mapped))
            row.linked = row.linked or edge.source in self.workflow.nodes
            if edge.source == "inputs":
                row.tag = self._tag(edge)
        for port, value in [*node.with_.items(), *((port, value) for port, value in node.each.items() if not isinstance(value, str))]:
            rows[port] = Row(port, self._type_of(name, port), short(value), mapped=port in node.each)
        order = list(getattr(self._used(name), "inputs", {}))
        return sorted(rows.values(), key=lambda row: (bool(row.value), order.index(row.port) if row.port in order else len(order)))

    def _type_of(self, name: str, port: str) -> Type:
        declared = getattr(self._used(name), "inputs", {}).get(port)
        return declared.type if declared else types.ANY

    def _tag(self, edge: Edge) -> str:
        declared = self.workflow.inputs.get(edge.output)
        value = self.values.get(edge.output)
        unknown = declared is None or value is _OUTSIDE or (declared.required and edge.output not in self.given)
        shown = "" if unknown else f" = {short(value)}"
        return fitting(f"{edge.output}{shown}", MAX_TAG)

    def _tag_outputs(self) -> None:
        for name, link in self.workflow.outputs.items():
            for reference in link if isinstance(link, list) else [link]:
                node, _, port = reference.partition(".")
                for row in self.boxes[node].right if node in self.boxes else ():
                    if row.port == port:
                        row.tag = fitting(", ".join(part for part in (row.tag, name) if part), MAX_TAG)

    # -- drawing ---------------------------------------------------------------------------------------------------

    def svg(self, x: float, y: float) -> list[str]:
        made = [line for name, edge in self.edges for line in self._link(name, edge, x, y)]
        for name, box in self.boxes.items():
            left, top = self.layout.at[name]
            made += draw_box(box, x + left + box.before, y + top, self.prefix + name)
        return made

    def _link(self, name: str, edge: Edge, x: float, y: float) -> list[str]:
        source, target = self.boxes[edge.source], self.boxes[name]
        start = self._anchor(source, edge.source, source.right, edge.output, source.width)
        end = self._anchor(target, name, target.left, edge.port, 0.0)
        points = [start, *(point for bend in self.layout.bends.get((edge.source, name), ()) for point in bend)]
        # level through the whole column, so that no other box of it is crossed
        points.insert(1, (self.layout.columns[edge.source][1], start[1]))
        points += [(self.layout.columns[name][0], end[1]), end]
        row = next((row for row in source.right if row.port == edge.output), None)
        color = color_of(row.kind if row else types.ANY)
        path = f"M{x + points[0][0]:.1f} {y + points[0][1]:.1f}" + "".join(
            curve((x + a[0], y + a[1]), (x + b[0], y + b[1])) for a, b in itertools.pairwise(points)
        )
        width = 3.6 if edge.mapped else 1.9
        told = f"{edge.reference} → {name}.{edge.port}" + (f": {row.kind}" if row else "")
        return [
            f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{width}" opacity="0.85"><title>{escaped(told)}</title></path>'
        ]

    def _anchor(self, box: Box, name: str, rows: Sequence[Row], port: str, side: float) -> tuple[float, float]:
        left, top = self.layout.at[name]
        number = next((number for number, row in enumerate(rows) if row.port == port), 0)
        return left + box.before + side, top + HEAD + (number + 0.5) * ROW

    def kinds(self) -> list[Type]:
        """The types that links of the picture have, in order of their names."""
        found = {row.kind for box in self.boxes.values() for row in [*box.left, *box.right] if row.linked or row.tag or row in box.right}
        for box in self.boxes.values():
            found.update(box.inner.kinds() if box.inner else ())
        return sorted(found, key=str)

    def states(self) -> set[str]:
        inner = [state for box in self.boxes.values() if box.inner for state in box.inner.states()]
        return {box.look.state for box in self.boxes.values() if box.look.state} | set(inner)


# -- the whole ---------------------------------------------------------------------------------------------------------


def _document(workflow: Workflow, drawing: _Drawing) -> str:
    title = workflow.name or "workflow"
    doc = " ".join(workflow.doc.split())
    top = 62.0 if doc else 46.0
    legend, rows = _legend(drawing, max(drawing.width, 420.0))
    width = max(drawing.width, 420.0, text_width(title, 18) * 1.1) + 2 * EDGE_PAD
    height = top + drawing.height + EDGE_PAD + rows * 20 + 8
    made = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'font-family="{FONT}" role="img" aria-label="{escaped(title)}">',
        f'<rect width="100%" height="100%" rx="10" fill="{PAPER}"/>',
        text_at(EDGE_PAD, 31, title, 18, INK, weight=600),
        text_at(EDGE_PAD, 49, fitting(doc, width - 2 * EDGE_PAD), 12, MUTED) if doc else "",
        *drawing.svg(EDGE_PAD, top + 4),
        *(text_at(EDGE_PAD + x, top + drawing.height + EDGE_PAD + 12 + row * 20, text, 11, MUTED) for x, row, text, _ in legend),
        *(
            f'<circle cx="{EDGE_PAD + x - 10:.1f}" cy="{top + drawing.height + EDGE_PAD + 8 + row * 20:.1f}" r="4.2" fill="{color}"/>'
            for x, row, _, color in legend
        ),
        "</svg>",
    ]
    return "\n".join(line for line in made if line) + "\n"


def _legend(drawing: _Drawing, width: float) -> tuple[list[tuple[float, int, str, str]], int]:
    """(x, row, text, colour) of what the colours mean: the states there are, then the types, each colour's first one or two."""
    entries = [(words, color) for state, (color, words) in STATES.items() if state in drawing.states()]
    by_color: dict[str, list[str]] = {}
    for kind in drawing.kinds():
        word = str(plain_type(kind))
        named = by_color.setdefault(color_of(kind), [])
        if word not in named:
            named.append(word)
    entries += [(", ".join(words[:3]), color) for color, words in by_color.items()]
    placed, x, row = [], 14.0, 0
    for words, color in entries:
        step = text_width(words, 11) + 34
        if x + step > width and x > 14:
            x, row = 14.0, row + 1
        placed.append((x, row, words, color))
        x += step
    return placed, row + 1 if placed else 0


__all__ = ["Look", "draw"]
