"""Pictures in a grid of equal cells, with labels under them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .lettering import readable_on, strip_of_text
from .pixels import Array, mixed


@dataclass(frozen=True, slots=True)
class Grid:
    """The layout: cells of `wide` × `high` pixels, each with a strip for its label below, and gaps between and around them."""

    columns: int
    rows: int
    wide: int
    high: int
    gap: int
    label_size: int

    @classmethod
    def of(cls, shapes: Sequence[tuple[int, ...]], columns: int | None, gap: int, label_size: int) -> Grid:
        """The grid for pictures of these (height, width); about square when the columns are not given."""
        columns = min(columns or math.ceil(math.sqrt(len(shapes))), len(shapes))
        high, wide = (max(lengths) for lengths in zip(*shapes, strict=True))
        return cls(columns, -(-len(shapes) // columns), wide, high, gap, label_size)

    @property
    def strip(self) -> int:
        return self.label_size * 3 // 2

    @property
    def width(self) -> int:
        return self.columns * (self.wide + self.gap) + self.gap

    @property
    def height(self) -> int:
        return self.rows * (self.high + self.strip + self.gap) + self.gap

    def corner(self, number: int) -> tuple[int, int]:
        """Top and left of a cell."""
        row, column = divmod(number, self.columns)
        return self.gap + row * (self.high + self.strip + self.gap), self.gap + column * (self.wide + self.gap)


def lay_out(pictures: Sequence[Array], grid: Grid, background: Array, labels: Sequence[str]) -> Array:
    """[1,3,H,W]: pictures [3,h,w] in the middle of their cells on a colour [1,3,1,1], with labels if there are any."""
    sheet = np.broadcast_to(background[0], (3, grid.height, grid.width)).copy()
    for number, picture in enumerate(pictures):
        top, left = grid.corner(number)
        high, wide = picture.shape[1:]
        down, across = top + (grid.high - high) // 2, left + (grid.wide - wide) // 2
        sheet[:, down : down + high, across : across + wide] = picture
    ink = readable_on(background)[0]
    for number, label in enumerate(labels):
        top, left = grid.corner(number)
        below = np.s_[:, top + grid.high : top + grid.high + grid.strip, left : left + grid.wide]
        sheet[below] = mixed(sheet[below], ink, strip_of_text(label, grid.wide, grid.strip, grid.label_size))
    return sheet[None]
