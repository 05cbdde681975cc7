"""A workflow as an SVG picture: boxes with their ports, links in the colour of their type, state, and small pictures of results.

Inputs of the workflow stand as tags at the ports they feed, outputs as tags at the ports that give them. A workflow that is used
as a node is a box with a double frame; opened, it holds its own graph. Names and texts are escaped; nothing is fetched.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from nodegraph import types
from nodegraph.errors import Problem, Problems
from nodegraph.layout import Layout, layered
from nodegraph.show import Edge, edges, use_of
from nodegraph.template import Template
from nodegraph.types import Type
from nodegraph.workflow import Workflow

FONT = "Aileron, Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
HEAD, ROW, PAD, RADIUS, EDGE_PAD = 44.0, 22.0, 12.0, 8.0, 24.0
MIN_WIDTH, MAX_TEXT, MAX_TAG = 132.0, 190.0, 150.0
PICTURE = 120.0
"""The most pixels of a side of a small picture in a node."""
INK, MUTED, FRAME, CARD, PAPER, BOX = "#1f2328", "#656d76", "#d0d7de", "#ffffff", "#f6f8fa", "#eef1f4"

COLORS = {
    "image": "#bf3989", "mask": "#6e7781", "video": "#a40e26", "audio": "#bc4c00", "latent": "#8250df", "conditioning": "#bf8700",
    "embedding": "#7d4e00", "text": "#1a7f37", "int": "#1b7c83", "float": "#1b7c83", "bool": "#57606a", "seed": "#cf222e", "rng": "#cf222e",
    "model": "#0550ae", "denoiser": "#0969da", "vae": "#218bff", "text_encoder": "#0a3069", "image_encoder": "#0a3069",
    "upscaler": "#0969da", "file": "#953800", "secret": "#24292f", "json": "#57606a",
}  # fmt: skip
OTHERS = ("#3d5a80", "#5f0f40", "#386641", "#9a031e", "#4a4e69", "#7f5539")
"""Colours of types that packs bring, by their names."""
STATES = {
    "cached": ("#1a7f37", "cached"),
    "run": ("#d29922", "would run"),
    "effect": ("#8250df", "effect, runs each time"),
    "running": ("#0969da", "running"),
    "done": ("#1a7f37", "done now"),
    "failed": ("#cf222e", "failed"),
    "skipped": ("#8c959f", "skipped"),
    "idle": ("#d0d7de", "not needed"),
}
"""State of a node → its colour, and what the legend says."""


MAX_NODES = 1500
"""A larger graph is refused: laying it out takes minutes, and nobody can read it."""
_OUTSIDE = object()
"""The value of an input that comes from the graph around."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a node beside the file: its state, a line of text, a small picture (PNG as a data URL, width, height)."""

    state: str = ""
    note: str = ""
    picture: tuple[str, int, int] | None = None


@dataclass(slots=True)
class _Row:
    """One line of a box: a port on the left or on the right, perhaps with a value or with a tag beside the box."""

    port: str
    kind: Type
    value: str = ""
    tag: str = ""
    linked: bool = False
    mapped: bool = False
    doc: str = ""


@dataclass(slots=True)
class _Box:
    name: str
    use: str
    left: list[_Row] = field(default_factory=list)
    right: list[_Row] = field(default_factory=list)
    look: Look = field(default_factory=Look)
    doc: str = ""
    inner: _Drawing | None = None
    nested: bool = False
    before: float = 0.0  # room for tags on the left
    width: float = 0.0
    after: float = 0.0
    picture: tuple[float, float] = (0.0, 0.0)

    @property
    def rows(self) -> int:
        return max(len(self.left), len(self.right))

    @property
    def body(self) -> float:
        """Where the rows end and pictures begin."""
        return HEAD + self.rows * ROW + (6 if self.rows else 0)

    @property
    def height(self) -> float:
        inner = self.inner.height + 2 * PAD if self.inner else 0
        return self.body + (self.picture[1] + PAD if self.picture[1] else 0) + inner

    def measure(self) -> None:
        left = max((min(_width(f"{row.port}  {row.value}"), MAX_TEXT) + 8 for row in self.left), default=0.0)
        right = max((_width(row.port) for row in self.right), default=0.0)
        head = max(_width(self.name, 13) * 1.08, _width(f"{self.use}  {self.look.note}", 11)) + 2 * PAD + 10
        if self.look.picture:
            _, width, height = self.look.picture
            scale = min(PICTURE / width, PICTURE / height)
            self.picture = (width * scale, height * scale)
        inner = self.inner.width + 2 * PAD if self.inner else 0
        self.width = max(MIN_WIDTH, left + right + 2 * PAD + 28, head, self.picture[0] + 2 * PAD, inner)
        self.before = max((_tag_width(row.tag) + 14 for row in self.left if row.tag), default=0.0)
        self.after = max((_tag_width(row.tag) + 14 for row in self.right if row.tag), default=0.0)


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

    def _box(self, name: str, looks: Mapping[str, Look], opened: bool) -> _Box:
        node, used = self.workflow.nodes[name], self._used(name)
        path = self.prefix + name
        box = _Box(name, use_of(node), look=looks.get(path, Look()), nested=isinstance(used, Template))
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
        box.right = [_Row(port, types.list_of(kind) if node.each else kind) for port, kind in outputs.items()]
        return box

    def _used(self, name: str) -> Any:
        index = self.index.get(name)
        return self.template.types[index] if index is not None else None

    def _inputs(self, name: str) -> list[_Row]:
        """The ports that are linked, in the order of the node type, and then the values that are written."""
        node = self.workflow.nodes[name]
        rows: dict[str, _Row] = {}
        for edge in edges(node):
            row = rows.setdefault(edge.port, _Row(edge.port, self._type_of(name, edge.port), mapped=edge.mapped))
            row.linked = row.linked or edge.source in self.workflow.nodes
            if edge.source == "inputs":
                row.tag = self._tag(edge)
        for port, value in [*node.with_.items(), *((port, value) for port, value in node.each.items() if not isinstance(value, str))]:
            rows[port] = _Row(port, self._type_of(name, port), _short(value), mapped=port in node.each)
        order = list(getattr(self._used(name), "inputs", {}))
        return sorted(rows.values(), key=lambda row: (bool(row.value), order.index(row.port) if row.port in order else len(order)))

    def _type_of(self, name: str, port: str) -> Type:
        declared = getattr(self._used(name), "inputs", {}).get(port)
        return declared.type if declared else types.ANY

    def _tag(self, edge: Edge) -> str:
        declared = self.workflow.inputs.get(edge.output)
        value = self.values.get(edge.output)
        unknown = declared is None or value is _OUTSIDE or (declared.required and edge.output not in self.given)
        shown = "" if unknown else f" = {_short(value)}"
        return _fitting(f"{edge.output}{shown}", MAX_TAG)

    def _tag_outputs(self) -> None:
        for name, link in self.workflow.outputs.items():
            for reference in link if isinstance(link, list) else [link]:
                node, _, port = reference.partition(".")
                for row in self.boxes[node].right if node in self.boxes else ():
                    if row.port == port:
                        row.tag = _fitting(", ".join(part for part in (row.tag, name) if part), MAX_TAG)

    # -- drawing ---------------------------------------------------------------------------------------------------

    def svg(self, x: float, y: float) -> list[str]:
        made = [line for name, edge in self.edges for line in self._link(name, edge, x, y)]
        for name, box in self.boxes.items():
            left, top = self.layout.at[name]
            made += _draw_box(box, x + left + box.before, y + top, self.prefix + name)
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
            _curve((x + a[0], y + a[1]), (x + b[0], y + b[1])) for a, b in itertools.pairwise(points)
        )
        width = 3.6 if edge.mapped else 1.9
        told = f"{edge.reference} → {name}.{edge.port}" + (f": {row.kind}" if row else "")
        return [f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{width}" opacity="0.85"><title>{escape(told)}</title></path>']

    def _anchor(self, box: _Box, name: str, rows: Sequence[_Row], port: str, side: float) -> tuple[float, float]:
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


def _draw_box(box: _Box, x: float, y: float, path: str) -> list[str]:
    state = STATES.get(box.look.state)
    stripe = state[0] if state else FRAME
    made = [f'<g class="node" data-node="{escape(path)}" data-state="{escape(box.look.state)}">']
    if box.doc:
        made.append(f"<title>{escape(' '.join(box.doc.split()))}</title>")
    if box.nested:
        made.append(_rect(x - 3, y - 3, box.width + 6, box.height + 6, "none", FRAME, RADIUS + 3))
    made.append(_rect(x, y, box.width, box.height, CARD, stripe if box.look.state == "failed" else FRAME, RADIUS))
    made.append(
        f'<path class="stripe" d="M{x:.1f} {y + RADIUS:.1f}a{RADIUS} {RADIUS} 0 0 1 {RADIUS} -{RADIUS}h{box.width - 2 * RADIUS:.1f}'
        f"a{RADIUS} {RADIUS} 0 0 1 {RADIUS} {RADIUS}v-2h0v2a{RADIUS} {RADIUS} 0 0 0 -{RADIUS} -4h-{box.width - 2 * RADIUS:.1f}"
        f'a{RADIUS} {RADIUS} 0 0 0 -{RADIUS} 4z" fill="{stripe}"/>'
    )
    made.append(_text(x + PAD, y + 19, _fitting(box.name, box.width - 2 * PAD - 12, 13), 13, INK, weight=600))
    note = f"  {box.look.note}" if box.look.note else ""
    made.append(_text(x + PAD, y + 34, _fitting(box.use, box.width - 2 * PAD - _width(note, 11), 11) + note, 11, MUTED, css="note"))
    if state:
        made.append(
            f'<circle class="dot" cx="{x + box.width - PAD:.1f}" cy="{y + 15:.1f}" r="4.5" fill="{state[0]}">'
            f"<title>{state[1]}</title></circle>"
        )
    for number, row in enumerate(box.left):
        made += _draw_input(row, x, y + HEAD + (number + 0.5) * ROW)
    for number, row in enumerate(box.right):
        made += _draw_output(row, x + box.width, y + HEAD + (number + 0.5) * ROW)
    made += _draw_picture(box, x, y)
    if box.inner:
        inside = y + box.body + (box.picture[1] + PAD if box.picture[1] else 0)
        made.append(_rect(x + PAD / 2, inside, box.width - PAD, box.inner.height + 2 * PAD - PAD / 2, BOX, "none", RADIUS))
        made += box.inner.svg(x + (box.width - box.inner.width) / 2, inside + PAD - PAD / 4)
    return [*made, "</g>"]


def _draw_picture(box: _Box, x: float, y: float) -> list[str]:
    if not box.look.picture:
        return []
    url, width, _ = box.look.picture
    shown, height = box.picture
    left, top = x + (box.width - shown) / 2, y + box.body
    sharp = ' style="image-rendering:pixelated"' if shown > width else ""
    return [
        f'<image x="{left:.1f}" y="{top:.1f}" width="{shown:.1f}" height="{height:.1f}" href="{url}"{sharp}/>',
        _rect(left, top, shown, height, "none", FRAME, 0),
    ]


def _draw_input(row: _Row, x: float, y: float) -> list[str]:
    made = []
    color = color_of(row.kind)
    if row.tag:
        width = _tag_width(row.tag)
        made.append(f'<path d="M{x - 14:.1f} {y:.1f}h14" stroke="{color}" stroke-width="1.9"/>')
        made.append(_tag_shape(x - 14 - width, y, width, row.tag, color))
    if row.linked or row.tag:
        made.append(_port(x, y, row.kind, row.mapped))
    made.append(_text(x + PAD, y + 4, row.port, 12, INK))
    if row.value:
        text = _fitting(row.value, MAX_TEXT - _width(f"{row.port}  "))
        made.append(_text(x + PAD + _width(row.port) + 8, y + 4, text, 12, MUTED))
    return made


def _draw_output(row: _Row, x: float, y: float) -> list[str]:
    color = color_of(row.kind)
    made = [_port(x, y, row.kind, False), _text(x - PAD, y + 4, row.port, 12, INK, anchor="end")]
    if row.tag:
        made.append(f'<path d="M{x:.1f} {y:.1f}h14" stroke="{color}" stroke-width="1.9"/>')
        made.append(_tag_shape(x + 14, y, _tag_width(row.tag), row.tag, color))
        made.append(_port(x, y, row.kind, False))
    return made


def _port(x: float, y: float, kind: Type, mapped: bool) -> str:
    """A dot in the colour of the type; a list is a ring around it, an optional type is hollow."""
    color, inner = color_of(kind), types.without_none(kind)
    fill = CARD if kind.optional else color
    ring = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="{CARD}" stroke="{color}" stroke-width="1.2"/>'
        if inner.kind == "list" or mapped
        else ""
    )
    dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.2" fill="{fill}" stroke="{color}" stroke-width="1.6">'
    return f"{ring}{dot}<title>{escape(str(kind))}</title></circle>"


def _tag_shape(x: float, y: float, width: float, text: str, color: str) -> str:
    shape = _rect(x, y - 9, width, 18, CARD, color, 9)
    return shape + _text(x + width / 2, y + 4, text, 11, INK, anchor="middle")


# -- the whole ---------------------------------------------------------------------------------------------------------


def _document(workflow: Workflow, drawing: _Drawing) -> str:
    title = workflow.name or "workflow"
    doc = " ".join(workflow.doc.split())
    top = 62.0 if doc else 46.0
    legend, rows = _legend(drawing, max(drawing.width, 420.0))
    width = max(drawing.width, 420.0, _width(title, 18) * 1.1) + 2 * EDGE_PAD
    height = top + drawing.height + EDGE_PAD + rows * 20 + 8
    made = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'font-family="{FONT}" role="img" aria-label="{escape(title)}">',
        f'<rect width="100%" height="100%" rx="10" fill="{PAPER}"/>',
        _text(EDGE_PAD, 31, title, 18, INK, weight=600),
        _text(EDGE_PAD, 49, _fitting(doc, width - 2 * EDGE_PAD), 12, MUTED) if doc else "",
        *drawing.svg(EDGE_PAD, top + 4),
        *(_text(EDGE_PAD + x, top + drawing.height + EDGE_PAD + 12 + row * 20, text, 11, MUTED) for x, row, text, _ in legend),
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
        word = str(_plain(kind))
        named = by_color.setdefault(color_of(kind), [])
        if word not in named:
            named.append(word)
    entries += [(", ".join(words[:3]), color) for color, words in by_color.items()]
    placed, x, row = [], 14.0, 0
    for words, color in entries:
        step = _width(words, 11) + 34
        if x + step > width and x > 14:
            x, row = 14.0, row + 1
        placed.append((x, row, words, color))
        x += step
    return placed, row + 1 if placed else 0


# -- words and shapes --------------------------------------------------------------------------------------------------


def color_of(kind: Type) -> str:
    """The colour of a type: that of the values in it."""
    name = str(_plain(kind))
    if name in COLORS:
        return COLORS[name]
    return OTHERS[sum(name.encode()) % len(OTHERS)] if "/" in name else "#8c959f"


def _plain(kind: Type) -> Type:
    """The type inside of lists and unions."""
    while kind.kind in ("list", "union"):
        kind = types.without_none(kind) if kind.optional and kind.kind == "union" and len(kind.args) > 1 else kind.args[0]
    return kind if kind.kind == "name" else types.ANY


@functools.cache
def _font(size: int) -> Any:
    import PIL.ImageFont

    return PIL.ImageFont.load_default(size)


@functools.lru_cache(maxsize=20_000)
def _width(text: str, size: int = 12) -> float:
    """About how wide a text is in pixels: browsers' own fonts are a little wider than the one it is measured in."""
    return float(_font(size).getlength(text)) * 1.06


def _tag_width(text: str) -> float:
    return _width(text, 11) + 18


def _fitting(text: str, width: float, size: int = 12) -> str:
    """The text, or its beginning with an ellipsis."""
    if _width(text, size) <= width:
        return text
    while text and _width(text + "…", size) > width:
        text = text[: max(0, min(len(text) - 1, int(len(text) * width / _width(text + "…", size))))]
    return text.rstrip() + "…"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=lambda one: f"a {type(one).__name__}")
    return " ".join(text.split()) if text else '""'


def _rect(x: float, y: float, width: float, height: float, fill: str, stroke: str, radius: float) -> str:
    size = f'width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} rx="{radius}" fill="{fill}" stroke="{stroke}"/>'


def _text(x: float, y: float, text: str, size: int, color: str, *, weight: int = 400, anchor: str = "start", css: str = "") -> str:
    style = f' class="{css}"' if css else ""
    return (
        f'<text{style} x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{color}" text-anchor="{anchor}" '
        f'xml:space="preserve">{escape(text)}</text>'
    )


def _curve(start: tuple[float, float], end: tuple[float, float]) -> str:
    """A curve that leaves and arrives level; a straight line where there is nothing to bend."""
    (x0, y0), (x1, y1) = start, end
    if abs(y0 - y1) < 0.5:
        return f"L{x1:.1f} {y1:.1f}"
    reach = max(abs(x1 - x0) / 2, 24.0)
    return f"C{x0 + reach:.1f} {y0:.1f} {x1 - reach:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"


__all__ = ["COLORS", "STATES", "Look", "color_of", "draw"]
