"""Running a network over pictures of any size in tiles, with the same result as over the whole.

A tile is computed with as much of the picture around it as its pixels see (`context`), and the surplus is cut off. At the
border of the picture a tile ends where the picture ends, so that the network's own padding acts there as it does over the
whole; inside, no pixel that is kept sees any padding. What remains is the rounding of another order of summation (1e-6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .networks import Network


class Box(NamedTuple):
    """A rectangle of pixels: `top` and `left` belong to it, `bottom` and `right` do not."""

    top: int
    left: int
    bottom: int
    right: int


def boxes(height: int, width: int, tile: int, multiple: int = 1) -> list[Box]:
    """Cover a picture with tiles row by row, none larger than `tile` (0: one for all), all of about the same size.

    Corners are multiples of `multiple`, by which height and width are divisible and to which `tile` is rounded up.
    """
    rows = list(_spans(height // multiple, -(-tile // multiple)))
    columns = list(_spans(width // multiple, -(-tile // multiple)))
    return [Box(top * multiple, left * multiple, bottom * multiple, right * multiple) for top, bottom in rows for left, right in columns]


def _spans(length: int, longest: int) -> Iterator[tuple[int, int]]:
    count = -(-length // longest) if longest else 1
    for index in range(count):
        yield index * length // count, (index + 1) * length // count


def extended(picture: Tensor, margin: int, multiple: int) -> Tensor:
    """The picture [B,C,H,W] mirrored at its borders: `margin` on every side, and up to a multiple at the bottom and right.

    The border itself is not repeated. A picture smaller than the margin is mirrored again and again, like ripples; a single
    row or column is repeated.
    """
    for axis in (2, 3):
        size = picture.shape[axis]
        index = _mirrored(size, margin, margin + -size % multiple)
        if len(index) != size:
            picture = picture.index_select(axis, index)
    return picture


def _mirrored(size: int, before: int, after: int) -> Tensor:
    period = max(2 * (size - 1), 1)
    index = torch.arange(-before, size + after) % period
    return torch.minimum(index, (period - index) % period) if size > 1 else torch.zeros_like(index)


def count(height: int, width: int, tile: int, multiple: int) -> int:
    """How many tiles `enlarge` makes of one picture."""
    return len(boxes(height + -height % multiple, width + -width % multiple, tile, multiple))


@torch.no_grad()
def enlarge(network: Network, pictures: Tensor, tile: int, done: Callable[[], None]) -> Tensor:
    """[B,3,H,W] float32 in host memory → [B,3,scale·H,scale·W], likewise, clipped to 0..1.

    Pictures go through the network one by one, tile by tile (`tile` pixels of the input, 0: whole), so that the memory it
    takes depends on the tile alone, and a picture's result not on the batch. `done` is called after each tile.
    """
    height, width = pictures.shape[2:]
    scale, multiple = network.scale, network.multiple
    result = pictures.new_empty(len(pictures), 3, height * scale, width * scale)
    for picture, output in zip(pictures.split(1), result.split(1), strict=True):
        whole = extended(picture, network.margin, multiple)
        for box in boxes(height + -height % multiple, width + -width % multiple, tile, multiple):
            target = output[:, :, box.top * scale : box.bottom * scale, box.left * scale : box.right * scale]
            enlarged = _enlarge_box(network, whole, box)
            target.copy_(enlarged[:, :, : target.shape[2], : target.shape[3]])
            done()
    return result.clamp_(0, 1)


def _enlarge_box(network: Network, whole: Tensor, box: Box) -> Tensor:
    """The output for one tile. `whole` is the extended picture; boxes count from the corner of the picture itself."""
    margin, context, scale = network.margin, network.context, network.scale
    bottom, right = whole.shape[2] - margin, whole.shape[3] - margin
    view = Box(
        max(box.top - context, -margin),
        max(box.left - context, -margin),
        min(box.bottom + context, bottom),
        min(box.right + context, right),
    )
    parameter = next(network.parameters())
    seen = whole[:, :, view.top + margin : view.bottom + margin, view.left + margin : view.right + margin]
    seen = network(seen.to(parameter.device, parameter.dtype, memory_format=torch.channels_last))
    top, left = (box.top - view.top - margin) * scale, (box.left - view.left - margin) * scale
    return seen[:, :, top : top + (box.bottom - box.top) * scale, left : left + (box.right - box.left) * scale]
