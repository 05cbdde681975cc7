"""What headers of safetensors files tell of super-resolution weights, and the facts of this pack's nodes.

A header is the JSON object at the front of such a file: tensor name → {"dtype", "shape", …}, and `__metadata__`, plain text
by name. Architecture and scale follow from names and shapes, so public checkpoints need no metadata of ours; where there is
some, it must agree.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nodegraph.facts import Facts, Look, Mismatch

Shapes = dict[str, tuple[int, ...]]
"""Tensor name → shape."""

FLOATS = ("F16", "BF16", "F32")
PREFIXES = ("params_ema.", "params.")
"""What training checkpoints put before their tensor names; the averaged weights are preferred."""
OLDER_NAMES = tuple(
    (re.compile(older), newer)
    for older, newer in (
        # ESRGAN as first published, one nested Sequential
        (r"model\.0\.(\w+)", r"conv_first.\1"),
        (r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.(\w+)", r"body.\1.rdb\2.conv\3.\4"),
        (r"model\.1\.sub\.\d+\.(\w+)", r"conv_body.\1"),
        # its second form, also of BSRGAN and RealSR
        (r"RRDB_trunk\.(\d+)\.RDB(\d)\.conv(\d)\.(\w+)", r"body.\1.rdb\2.conv\3.\4"),
        (r"trunk_conv\.(\w+)", r"conv_body.\1"),
        (r"upconv(\d)\.(\w+)", r"conv_up\1.\2"),
        (r"HRconv\.(\w+)", r"conv_hr.\1"),
    )
)
"""Older names of RRDBNet's tensors → those of BasicSR, which `networks` uses."""

NUMBERED = re.compile(r"model\.(\d+)\.(\w+)")
"""What these leave of the first form: its tail."""


class UnknownWeights(ValueError):
    """The weights are of no architecture of this pack, or not whole; `fix` says what would do."""

    def __init__(self, text: str, fix: str = ""):
        super().__init__(text)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Layout:
    """What a file of weights holds.

    `architecture` names a class of `networks`, `options` are its arguments, `names` gives for each of its parameters the
    tensor's name in the file.
    """

    architecture: str
    scale: int
    options: Mapping[str, int]
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Architecture:
    """How an architecture shows in tensor names and shapes.

    `mark` is a tensor that no other one has. `options` reads the arguments of the network's class from shapes; `scale` and
    `tensors` (all names and shapes that there must be) follow from them.
    """

    mark: str
    options: Callable[[Shapes], dict[str, int]]
    scale: Callable[..., int]
    tensors: Callable[..., Shapes]


def read_layout(header: Mapping[str, Any]) -> Layout:
    """Recognise weights by their header. Raises UnknownWeights."""
    metadata = header.get("__metadata__") or {}
    names = current_names(name for name in header if name != "__metadata__")
    shapes = {name: _shape(stored, header[stored]) for name, stored in names.items()}
    name = _recognise(shapes, metadata.get("architecture"))
    architecture = ARCHITECTURES[name]
    options = architecture.options(shapes)
    _compare(name, architecture.tensors(**options), shapes)
    scale = architecture.scale(**options)
    if metadata.get("scale", str(scale)) != str(scale):
        raise UnknownWeights(f"the header says scale {metadata['scale']}, but the tensors are of scale {scale}", f"write scale {scale}")
    return Layout(name, scale, options, names)


def _shape(name: str, entry: Any) -> tuple[int, ...]:
    try:
        shape, dtype = tuple(map(int, entry["shape"])), entry["dtype"]
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownWeights(f"the header is damaged at {name!r}", "get the file anew") from error
    if dtype not in FLOATS:
        raise UnknownWeights(f"{name!r} is {dtype}, but weights must be {', '.join(FLOATS)}", "convert them to F16")
    return shape


def current_names(stored: Iterable[str]) -> dict[str, str]:
    """Names as `networks` has them → names as stored, for the tensors of one network."""
    every = list(stored)
    prefix = next((prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in every)), "")
    names = {_newer(name.removeprefix(prefix)): name for name in every if name.startswith(prefix)}
    return {_renumbered(name, names): stored for name, stored in names.items()}


def _newer(name: str) -> str:
    for older, newer in OLDER_NAMES:
        if match := older.fullmatch(name):
            return match.expand(newer)
    return name


def _renumbered(name: str, names: Iterable[str]) -> str:
    """The tail of the first ESRGAN's Sequential is numbered: [upsample, convolution, activation] for each doubling, then a
    convolution, an activation and the last convolution."""
    if not (match := NUMBERED.fullmatch(name)):
        return name
    index, last = int(match[1]), max(int(found[1]) for found in map(NUMBERED.fullmatch, names) if found)
    known = {last: "conv_last", last - 2: "conv_hr"}
    return f"{known.get(index) or f'conv_up{index // 3}'}.{match[2]}"


def _recognise(shapes: Shapes, said: str | None) -> str:
    known = ", ".join(sorted(ARCHITECTURES))
    if said is not None and said not in ARCHITECTURES:
        raise UnknownWeights(f"the header says architecture {said!r}, which this pack does not have", f"use weights of {known}")
    found = next((name for name, architecture in ARCHITECTURES.items() if architecture.mark in shapes), None)
    if found is None:
        some = ", ".join(repr(name) for name in sorted(shapes)[:3]) or "no tensors"
        raise UnknownWeights(f"the tensors are of no known architecture; there are {some}", f"use weights of {known}")
    if said not in (None, found):
        raise UnknownWeights(f"the header says architecture {said!r}, but the tensors are of {found!r}", f"write architecture {found!r}")
    return found


def _compare(architecture: str, expected: Shapes, given: Shapes) -> None:
    for name, shape in expected.items():
        if name not in given:
            raise UnknownWeights(f"the weights are not whole: {architecture} needs {name!r}", "get the file anew")
        if given[name] != shape:
            raise UnknownWeights(f"{name!r} is {list(given[name])}, but {architecture} needs {list(shape)}")
    if unknown := sorted(given.keys() - expected.keys()):
        raise UnknownWeights(f"{architecture} has no {unknown[0]!r} ({len(unknown)} unknown tensors)", "use the plain architecture")


def _size(shapes: Shapes, name: str, axis: int) -> int:
    """One dimension of a convolution's weight."""
    shape = shapes.get(name, ())
    if len(shape) != 4 or 0 in shape:
        raise UnknownWeights(
            f"{name!r} is {list(shape) if shape else 'missing'}; it must be the weight of a convolution", "get the file anew"
        )
    return shape[axis]


def _convolution(name: str, before: int, after: int) -> Shapes:
    return {f"{name}.weight": (after, before, 3, 3), f"{name}.bias": (after,)}


UPCONV7_WIDTHS = (16, 32, 64, 128, 128, 256)


def _upconv7_tensors() -> Shapes:
    tensors: Shapes = {"net.12.weight": (UPCONV7_WIDTHS[-1], 3, 4, 4), "net.12.bias": (3,)}
    for index, (before, after) in enumerate(zip((3, *UPCONV7_WIDTHS), UPCONV7_WIDTHS, strict=False)):
        tensors |= _convolution(f"net.{2 * index}", before, after)
    return tensors


def _srvgg_options(shapes: Shapes) -> dict[str, int]:
    convolutions = sorted((name for name, shape in shapes.items() if len(shape) == 4), key=lambda name: (len(name), name))
    last = _size(shapes, convolutions[-1] if convolutions else "body.0.weight", 0)
    scale = math.isqrt(last // 3)
    if last != 3 * scale**2:
        raise UnknownWeights(f"the last convolution has {last} channels; it must have 3·scale²")
    return {"features": _size(shapes, "body.0.weight", 0), "depth": max(len(convolutions) - 2, 0), "scale": scale}


def _srvgg_tensors(features: int, depth: int, scale: int) -> Shapes:
    tensors = _convolution(f"body.{2 * depth + 2}", features, 3 * scale**2)
    for index in range(depth + 1):
        tensors |= _convolution(f"body.{2 * index}", features if index else 3, features)
        tensors[f"body.{2 * index + 1}.weight"] = (features,)
    return tensors


def _rrdbnet_options(shapes: Shapes) -> dict[str, int]:
    channels = _size(shapes, "conv_first.weight", 1)
    unshuffle = math.isqrt(channels // 3)
    if channels != 3 * unshuffle**2:
        raise UnknownWeights(f"the network takes {channels} channels, but pictures have 3", "use a network for RGB")
    doublings = sum(1 for name in shapes if re.fullmatch(r"conv_up\d+\.weight", name))
    if unshuffle not in (1, 2, 4) or 2**doublings < unshuffle:
        raise UnknownWeights(f"the network folds {unshuffle}x and enlarges {2**doublings}x; its scale must be at least 1")
    return {
        "features": _size(shapes, "conv_first.weight", 0),
        "growth": _size(shapes, "body.0.rdb1.conv1.weight", 0),
        "blocks": len({name.split(".")[1] for name in shapes if name.startswith("body.")}),
        "doublings": doublings,
        "unshuffle": unshuffle,
    }


def _rrdbnet_tensors(features: int, growth: int, blocks: int, doublings: int, unshuffle: int) -> Shapes:
    tensors = _convolution("conv_first", 3 * unshuffle**2, features) | _convolution("conv_last", features, 3)
    for name in ("conv_body", *(f"conv_up{index + 1}" for index in range(doublings)), "conv_hr"):
        tensors |= _convolution(name, features, features)
    for block in range(blocks):
        for dense in (1, 2, 3):
            for index in range(5):
                after = features if index == 4 else growth
                tensors |= _convolution(f"body.{block}.rdb{dense}.conv{index + 1}", features + index * growth, after)
    return tensors


ARCHITECTURES: Mapping[str, Architecture] = {
    "rrdbnet": Architecture(
        "body.0.rdb1.conv1.weight", _rrdbnet_options, lambda doublings, unshuffle, **_: 2**doublings // unshuffle, _rrdbnet_tensors
    ),
    "srvgg": Architecture("body.0.weight", _srvgg_options, lambda scale, **_: scale, _srvgg_tensors),
    "upconv7": Architecture("net.0.weight", lambda shapes: {}, lambda: 2, _upconv7_tensors),
}


def load_upscaler(look: Look, name: Facts) -> Facts | Mismatch:
    model = name.get("value")
    header = _header(look, model) if model else None
    if header is None:
        return Facts()
    try:
        layout = read_layout(header)
    except UnknownWeights as error:
        return Mismatch("name", f"{model!r} cannot be used as an upscaler: {error}", error.fix)
    return Facts(architecture=layout.architecture, scale=layout.scale)


def _header(look: Look, model: str) -> Mapping[str, Any] | None:
    """The header of a model that is a file, or of the only weights in a folder."""
    files = [file for file in look.files(model) if file.endswith(".safetensors")]
    if len(files) != 1:
        return None
    header = look.header(model)
    return look.header(model, files[0]) if header is None else header


MAX_SIDE = 65_536
MAX_PIXELS = 178_956_970
"""Of a picture that is made, also on the way: what the core pack saves and Pillow opens."""


def size_problem(width: int, height: int) -> tuple[str, str] | None:
    """Why a picture cannot become so large, as (text, fix); None if it can."""
    if max(width, height) <= MAX_SIDE and width * height <= MAX_PIXELS:
        return None
    return f"it takes a picture of {width}×{height} pixels", f"ask for less: at most {MAX_PIXELS:,} pixels and {MAX_SIDE:,} a side"


def upscale(model: Facts, image: Facts) -> Facts | Mismatch:
    sides = {side: image[side] * model["scale"] for side in ("width", "height") if side in image and "scale" in model}
    problem = size_problem(**sides) if len(sides) == 2 else None
    return Mismatch("image", *problem) if problem else Facts(**{**_without_size(image), **sides})


def upscale_to(model: Facts, image: Facts, scale: Facts, width: Facts, height: Facts) -> Facts | Mismatch:
    if scale.null and width.null and height.null:
        return Mismatch("scale", *NO_SIZE)
    if "value" in scale and ("value" in width or "value" in height):
        return Mismatch("scale", *TWO_SIZES)
    sides = {"width": width.get("value"), "height": height.get("value")}
    if "value" in scale:
        sides = {side: scaled(image[side], scale["value"]) if side in image else None for side in sides}
    if "width" in image and "height" in image and all(asked.null or "value" in asked for asked in (scale, width, height)):
        size = image["width"], image["height"]
        reached = target(size, scale.get("value"), width.get("value"), height.get("value"))
        runs = runs_to(reached, size, model["scale"]) if "scale" in model else 0
        if not isinstance(runs, int):
            return Mismatch(*runs)
        sides = dict(zip(sides, reached, strict=True))
    return Facts(**{**_without_size(image), **sides})


NO_SIZE = ("no size is given", "give a scale, or a width or a height")
"""What is wrong with an enlargement to no size, as (text, fix)."""
TWO_SIZES = ("there is a scale, and a width or height as well", "leave one of them out")
"""What is wrong with an enlargement to a size and by a factor."""


def target(size: tuple[int, int], scale: float | None, width: int | None, height: int | None) -> tuple[int, int]:
    """The width and height that are asked for of a picture of a size: by a factor, or by one side or both."""
    if scale is not None:
        return scaled(size[0], scale), scaled(size[1], scale)
    return width or scaled(size[0], (height or 0) / size[1]), height or scaled(size[1], (width or 0) / size[0])


def runs_to(reached: tuple[int, int], size: tuple[int, int], scale: int) -> int | tuple[str, str, str]:
    """How often a model of a scale must run so that a picture of a size (width, height) reaches another one on both sides; or why it
    cannot, as (port, text, fix)."""
    factor, grown, runs = max(reached[0] / size[0], reached[1] / size[1]), 1, 0
    if scale == 1 and factor > 1:
        return "model", "the model has scale 1: it restores and does not enlarge", "use a model of scale 2 or more"
    while grown < factor:
        grown, runs = grown * scale, runs + 1
    wrong = size_problem(max(size[0] * grown, reached[0]), max(size[1] * grown, reached[1]))
    return ("image", *wrong) if wrong else runs


def scaled(side: int, scale: float) -> int:
    """A length in pixels times a scale; at least one pixel."""
    return max(1, round(side * scale))


def _without_size(image: Facts) -> Facts:
    return Facts(**{name: fact for name, fact in image.items() if name not in ("width", "height")})
