"""One node in a picture of a graph: its box with ports, values, tags, state and a small picture of what it gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Protocol

from nodegraph.svg import (
    BOX,
    CARD,
    FRAME,
    INK,
    MUTED,
    color_of,
    fitting,
    port_dot,
    rect,
    tag_at,
    tag_width,
    text_at,
    text_width,
)  # fmt: skip
from nodegraph.types import Type

HEAD, ROW, PAD, RADIUS = 44.0, 22.0, 12.0, 8.0
MIN_WIDTH, MAX_TEXT = 132.0, 190.0
PICTURE = 120.0
"""The most pixels of a side of a small picture in a node."""
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


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a node beside the file: its state, a line of text, a small picture (PNG as a data URL, width, height)."""

    state: str = ""
    note: str = ""
    picture: tuple[str, int, int] | None = None


class Inside(Protocol):
    """A drawing that stands in a box."""

    width: float
    height: float

    def svg(self, x: float, y: float) -> list[str]: ...

    def kinds(self) -> list[Type]: ...

    def states(self) -> set[str]: ...


@dataclass(slots=True)
class Row:
    """One line of a box: a port on the left or on the right, perhaps with a value or with a tag beside the box."""

    port: str
    kind: Type
    value: str = ""
    tag: str = ""
    linked: bool = False
    mapped: bool = False
    doc: str = ""


@dataclass(slots=True)
class Box:
    name: str
    use: str
    left: list[Row] = field(default_factory=list)
    right: list[Row] = field(default_factory=list)
    look: Look = field(default_factory=Look)
    doc: str = ""
    inner: Inside | None = None
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
        left = max((min(text_width(f"{row.port}  {row.value}"), MAX_TEXT) + 8 for row in self.left), default=0.0)
        right = max((text_width(row.port) for row in self.right), default=0.0)
        head = max(text_width(self.name, 13) * 1.08, text_width(f"{self.use}  {self.look.note}", 11)) + 2 * PAD + 10
        if self.look.picture:
            _, width, height = self.look.picture
            scale = min(PICTURE / width, PICTURE / height)
            self.picture = (width * scale, height * scale)
        inner = self.inner.width + 2 * PAD if self.inner else 0
        self.width = max(MIN_WIDTH, left + right + 2 * PAD + 28, head, self.picture[0] + 2 * PAD, inner)
        self.before = max((tag_width(row.tag) + 14 for row in self.left if row.tag), default=0.0)
        self.after = max((tag_width(row.tag) + 14 for row in self.right if row.tag), default=0.0)


def draw_box(box: Box, x: float, y: float, path: str) -> list[str]:
    state = STATES.get(box.look.state)
    stripe = state[0] if state else FRAME
    made = [f'<g class="node" data-node="{escape(path)}" data-state="{escape(box.look.state)}">']
    if box.doc:
        made.append(f"<title>{escape(' '.join(box.doc.split()))}</title>")
    if box.nested:
        made.append(rect(x - 3, y - 3, box.width + 6, box.height + 6, "none", FRAME, RADIUS + 3))
    made.append(rect(x, y, box.width, box.height, CARD, stripe if box.look.state == "failed" else FRAME, RADIUS))
    made.append(
        f'<path class="stripe" d="M{x:.1f} {y + RADIUS:.1f}a{RADIUS} {RADIUS} 0 0 1 {RADIUS} -{RADIUS}h{box.width - 2 * RADIUS:.1f}'
        f"a{RADIUS} {RADIUS} 0 0 1 {RADIUS} {RADIUS}v-2h0v2a{RADIUS} {RADIUS} 0 0 0 -{RADIUS} -4h-{box.width - 2 * RADIUS:.1f}"
        f'a{RADIUS} {RADIUS} 0 0 0 -{RADIUS} 4z" fill="{stripe}"/>'
    )
    made.append(text_at(x + PAD, y + 19, fitting(box.name, box.width - 2 * PAD - 12, 13), 13, INK, weight=600))
    note = f"  {box.look.note}" if box.look.note else ""
    made.append(text_at(x + PAD, y + 34, fitting(box.use, box.width - 2 * PAD - text_width(note, 11), 11) + note, 11, MUTED, css="note"))
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
        made.append(rect(x + PAD / 2, inside, box.width - PAD, box.inner.height + 2 * PAD - PAD / 2, BOX, "none", RADIUS))
        made += box.inner.svg(x + (box.width - box.inner.width) / 2, inside + PAD - PAD / 4)
    return [*made, "</g>"]


def _draw_picture(box: Box, x: float, y: float) -> list[str]:
    if not box.look.picture:
        return []
    url, width, _ = box.look.picture
    shown, height = box.picture
    left, top = x + (box.width - shown) / 2, y + box.body
    sharp = ' style="image-rendering:pixelated"' if shown > width else ""
    return [
        f'<image x="{left:.1f}" y="{top:.1f}" width="{shown:.1f}" height="{height:.1f}" href="{url}"{sharp}/>',
        rect(left, top, shown, height, "none", FRAME, 0),
    ]


def _draw_input(row: Row, x: float, y: float) -> list[str]:
    made = []
    color = color_of(row.kind)
    if row.tag:
        width = tag_width(row.tag)
        made.append(f'<path d="M{x - 14:.1f} {y:.1f}h14" stroke="{color}" stroke-width="1.9"/>')
        made.append(tag_at(x - 14 - width, y, width, row.tag, color))
    if row.linked or row.tag:
        made.append(port_dot(x, y, row.kind, row.mapped))
    made.append(text_at(x + PAD, y + 4, row.port, 12, INK))
    if row.value:
        text = fitting(row.value, MAX_TEXT - text_width(f"{row.port}  "))
        made.append(text_at(x + PAD + text_width(row.port) + 8, y + 4, text, 12, MUTED))
    return made


def _draw_output(row: Row, x: float, y: float) -> list[str]:
    color = color_of(row.kind)
    made = [port_dot(x, y, row.kind, False), text_at(x - PAD, y + 4, row.port, 12, INK, anchor="end")]
    if row.tag:
        made.append(f'<path d="M{x:.1f} {y:.1f}h14" stroke="{color}" stroke-width="1.9"/>')
        made.append(tag_at(x + 14, y, tag_width(row.tag), row.tag, color))
        made.append(port_dot(x, y, row.kind, False))
    return made


__all__ = ["HEAD", "PAD", "ROW", "STATES", "Box", "Look", "Row", "draw_box"]
