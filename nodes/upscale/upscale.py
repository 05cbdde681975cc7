"""Nodes: loading an upscaler, enlarging by its scale, enlarging to a size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from nodegraph import Field, Image, Invalid, Kind, ModelRef, Run, Upscaler, node

from .facts import MAX_SIDE, NO_SIZE, TWO_SIZES, runs_to, size_problem, target

if TYPE_CHECKING:
    from torch import Tensor

    from .networks import Network

MIN_TILE = 32
"""Tiles are not made smaller than this when memory is short: what they need around them would take most of it."""

Tile = Annotated[
    int,
    Field(ge=0),
    "The longest side of a tile, in pixels of the input: smaller takes less memory and more time. 0: the whole picture at once.",
]


@node
def load_upscaler(
    name: Annotated[ModelRef, Kind("upscaler"), "A .safetensors file of waifu2x (upconv_7), Real-ESRGAN or ESRGAN weights."], *, run: Run
) -> Upscaler:
    """Find a network that enlarges pictures. Its architecture and scale are read from the file's header.

    Public checkpoints of Real-ESRGAN and ESRGAN are taken as they are, once they are safetensors: put one into a folder
    beside a `config.json` that says `{"nodegraph_kind": "upscaler"}`.
    """
    from .weights import load_facts

    with run.use(Upscaler.of(name), load_facts) as facts:
        return Upscaler.of(name, facts=facts)


@node(smaller=3)
def upscale(model: Upscaler, image: Image, tile: Tile = 512, *, run: Run) -> Image:
    """Enlarge a picture by the scale of the model.

    Pictures may have any size. They are worked on in tiles that show no seams: the result is that of the whole picture, up
    to rounding.
    """
    from .weights import load_network

    scale = model.facts["scale"]
    _check_size(image.height * scale, image.width * scale)
    with run.use(model, load_network) as network:
        return Image(_passes(network, image.tensor(), 1, _fitting(tile, image, run), run))


@node(smaller=3)
def upscale_to(
    model: Upscaler,
    image: Image,
    scale: Annotated[float | None, Field(gt=0, le=64), "How many times larger. Or give a width or a height."] = None,
    width: Annotated[int | None, Field(ge=1, le=MAX_SIDE), "In pixels. Alone, it keeps the proportions."] = None,
    height: Annotated[int | None, Field(ge=1, le=MAX_SIDE), "In pixels. Alone, it keeps the proportions."] = None,
    tile: Tile = 512,
    *,
    run: Run,
) -> Image:
    """Enlarge a picture to a size or by any factor.

    The model runs as often as it takes to reach the size; from there the picture is reduced (bicubic, antialiased). A
    picture that is large enough already is only reduced.
    """
    from .weights import load_network

    if scale is None and width is None and height is None:
        raise _invalid("scale", *NO_SIZE)
    if scale is not None and (width is not None or height is not None):
        raise _invalid("scale", *TWO_SIZES)
    columns, rows = target((image.width, image.height), scale, width, height)
    times = runs_to((columns, rows), (image.width, image.height), model.facts["scale"])
    if not isinstance(times, int):
        raise _invalid(*times)
    if not times:
        return Image(_resized(image.tensor(), rows, columns))
    with run.use(model, load_network) as network:
        return Image(_resized(_passes(network, image.tensor(), times, _fitting(tile, image, run), run), rows, columns))


def _fitting(tile: int, image: Image, run: Run) -> int:
    """The side of tiles: halved for each smaller variant that memory asks for."""
    side = tile or max(image.height, image.width)
    return tile if not run.smaller else max(min(MIN_TILE, side), side >> run.smaller)


def _check_size(rows: int, columns: int) -> None:
    if problem := size_problem(columns, rows):
        raise _invalid("image", *problem)


def _invalid(port: str, text: str, fix: str) -> Invalid:
    return Invalid(text, fix=fix, port=port)


def _passes(network: Network, pictures: Tensor, times: int, tile: int, run: Run) -> Tensor:
    """The pictures [B,3,H,W] after several runs of a network, with one line of progress over all tiles."""
    from .tiles import enlarge

    done = _counter(_tile_count(network, pictures.shape, times, tile), run)
    for _ in range(times):
        pictures = enlarge(network, pictures, tile, done)
    return pictures


def _tile_count(network: Network, shape: tuple[int, ...], times: int, tile: int) -> int:
    from .tiles import count

    batch, _, height, width = shape
    sizes = (network.scale**index for index in range(times))
    return batch * sum(count(height * size, width * size, tile, network.multiple) for size in sizes)


def _counter(total: int, run: Run) -> Callable[[], None]:
    """Reports progress each time it is called, and once now. Raises Cancelled."""
    finished = -1

    def done() -> None:
        nonlocal finished
        finished += 1
        run.progress(finished, total, "tiles")

    done()
    return done


def _resized(pictures: Tensor, rows: int, columns: int) -> Tensor:
    from torch.nn import functional

    if tuple(pictures.shape[2:]) == (rows, columns):
        return pictures
    return functional.interpolate(pictures, (rows, columns), mode="bicubic", antialias=True).clamp(0, 1)
