"""One labelled picture of many: the first axis of a sweep runs along columns, the second down rows, the third in blocks below.

Cells are of one size. Small pictures are enlarged by a whole factor without smoothing, so that every pixel is seen; large ones
are made smaller where the whole would grow beyond what viewers open.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEAST_CELL = 128
"""Cells of fewer pixels in width are enlarged."""
MAX_SIDE = 16_384
"""The most pixels of a side of the whole."""
GAP = 6
INK, PALE, PAPER, LOST = "#1f2328", "#656d76", "#ffffff", "#eaeef2"


@dataclass(frozen=True, slots=True)
class Heading:
    """One axis: what is swept, and the values in words."""

    name: str
    labels: Sequence[str]


Place = tuple[int, int, int]
"""(column, row, block) of a cell."""


def plot(axes: Sequence[Heading], cells: Mapping[Place, Any], notes: Mapping[Place, str], title: str = "") -> Any:
    """The PIL picture of a sweep of one to three axes. `cells`: PIL pictures; `notes`: what is said where there is none."""
    headings = [*axes, *[Heading("", [""])] * (3 - len(axes))]
    return _Plot(headings, cells, notes, title).drawn()


class _Plot:
    def __init__(self, axes: Sequence[Heading], cells: Mapping[Place, Any], notes: Mapping[Place, str], title: str):
        import PIL.Image
        import PIL.ImageDraw

        self.pillow = PIL
        self.columns, self.rows, self.blocks = axes
        self.cells, self.notes, self.title = cells, notes, title
        self.width, self.height = self._cell_size()
        self.size = max(13, min(40, round(min(self.width, self.height) / 11)))
        self.font = _font_for([title, *(text for axis in axes for text in (axis.name, *axis.labels))], self.size)
        self.line = round(self.size * 1.5)
        self.left = self._left()
        self.head = self.line * (2 if self.columns.name else 0) + GAP
        self.band = round(self.line * 1.3) if self.blocks.name else 0

    def _cell_size(self) -> tuple[int, int]:
        width = max((cell.width for cell in self.cells.values()), default=LEAST_CELL)
        height = max((cell.height for cell in self.cells.values()), default=LEAST_CELL)
        scale: float = max(1, -(-LEAST_CELL // width))
        whole = width * scale * len(self.columns.labels), height * scale * len(self.rows.labels) * len(self.blocks.labels)
        scale = min(scale, *(scale * 0.9 * MAX_SIDE / side for side in whole))
        return max(1, int(width * scale)), max(1, int(height * scale))

    def _left(self) -> int:
        """The width of what stands before the rows."""
        if not self.rows.name:
            return GAP
        texts = [self.rows.name, *self.rows.labels]
        return int(min(max(map(self.font.getlength, texts)), max(160, self.width))) + 3 * GAP

    def drawn(self) -> Any:
        block = self.head + (self.height + GAP) * len(self.rows.labels) + self.band
        title = self.line + GAP if self.title else 0
        width = self.left + (self.width + GAP) * len(self.columns.labels) + GAP
        canvas = self.pillow.Image.new("RGB", (width, title + block * len(self.blocks.labels) + GAP), PAPER)
        draw = self.pillow.ImageDraw.Draw(canvas)
        if self.title:
            self._text(draw, (width // 2, GAP + self.line // 2), self.title, width - 2 * GAP, INK, "mm")
        for number in range(len(self.blocks.labels)):
            self._block(canvas, draw, number, title + number * block)
        return canvas

    def _block(self, canvas: Any, draw: Any, number: int, top: int) -> None:
        if self.blocks.name:
            draw.rectangle((0, top, canvas.width, top + self.band - 2), fill=LOST)
            text = f"{self.blocks.name} = {self.blocks.labels[number]}"
            self._text(draw, (canvas.width // 2, top + self.band // 2), text, canvas.width - 2 * GAP, INK, "mm")
        top += self.band
        if self.columns.name:
            span = (self.width + GAP) * len(self.columns.labels) - GAP
            self._text(draw, (self.left + span // 2, top + self.line // 2), self.columns.name, span, PALE, "mm")
        if self.rows.name:
            self._text(draw, (self.left - 2 * GAP, top + self.head - self.line // 2 - GAP), self.rows.name, self.left, PALE, "rm")
        for column, label in enumerate(self.columns.labels):
            x = self.left + (self.width + GAP) * column
            self._text(draw, (x + self.width // 2, top + self.head - self.line // 2 - GAP // 2), label, self.width, INK, "mm")
        for row, label in enumerate(self.rows.labels):
            y = top + self.head + (self.height + GAP) * row
            self._text(draw, (self.left - 2 * GAP, y + self.height // 2), label, self.left - 3 * GAP, INK, "rm")
            for column in range(len(self.columns.labels)):
                self._cell(canvas, draw, (column, row, number), self.left + (self.width + GAP) * column, y)

    def _cell(self, canvas: Any, draw: Any, place: Place, x: int, y: int) -> None:
        cell = self.cells.get(place)
        if cell is None:
            draw.rectangle((x, y, x + self.width - 1, y + self.height - 1), fill=LOST)
            self._text(draw, (x + self.width // 2, y + self.height // 2), self.notes.get(place, ""), self.width - GAP, PALE, "mm")
            return
        factor = min(self.width / cell.width, self.height / cell.height)
        how = self.pillow.Image.Resampling.NEAREST if factor >= 1 else self.pillow.Image.Resampling.LANCZOS
        factor = int(factor) if factor >= 1 else factor
        shown = cell.convert("RGB").resize((max(1, round(cell.width * factor)), max(1, round(cell.height * factor))), how)
        canvas.paste(shown, (x + (self.width - shown.width) // 2, y + (self.height - shown.height) // 2))

    def _text(self, draw: Any, at: tuple[int, int], text: str, width: int, color: str, anchor: str) -> None:
        """One line, with an ellipsis in place of what does not fit."""
        line = " ".join(text.split())
        while line and self.font.getlength(line) > width:
            line = line[: max(0, min(len(line) - 2, int(len(line) * width / self.font.getlength(line)) - 1))] + "…" if len(line) > 2 else ""
        draw.text(at, line, fill=color, font=self.font, anchor=anchor)


_FONTS = ("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "arial.ttf")
"""Fonts of systems, those of most scripts first."""


def _font_for(texts: Sequence[str], size: int) -> Any:
    """The font that Pillow brings, so that a picture is the same everywhere; for texts beyond ASCII, which it lacks, a system's."""
    import PIL.ImageFont

    if not all(char.isascii() or char == "…" for text in texts for char in text):
        for name in _FONTS:
            with contextlib.suppress(OSError):
                return PIL.ImageFont.truetype(name, size)
    return PIL.ImageFont.load_default(size)


def side_by_side(pictures: Sequence[Any]) -> Any:
    """Pictures of one batch as one."""
    if len(pictures) == 1:
        return pictures[0]
    import PIL.Image

    canvas = PIL.Image.new(
        "RGB", (sum(one.width for one in pictures) + 2 * (len(pictures) - 1), max(one.height for one in pictures)), PAPER
    )
    x = 0
    for one in pictures:
        canvas.paste(one.convert("RGB"), (x, 0))
        x += one.width + 2
    return canvas


__all__ = ["Heading", "plot", "side_by_side"]
