"""Values to try nodes with: small, of every port type, and the same ones every time.

Sample number 0 is the plainest there is, its default if a port has one; further ones vary within the port's bounds,
or are its default again: so a port's odd value is not always met together with those of all others.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nodegraph import types
from nodegraph.spec import REQUIRED, Port
from nodegraph.types import Type
from nodegraph.values import Audio, Conditioning, Embedding, Image, Latent, Mask, Rng, Video

WIDTH, HEIGHT, BATCH = 16, 12, 2
"""Of sample pictures: all have one size, so that those of several ports go together."""
_INTS = (1, 2, 3, 5, 0)
_FLOATS = (0.5, 1.0, 0.25, 2.0, 0.0)
_TEXTS = ("a fox", "two foxes", "1", "a", "ab", "1.5", "#ff0000", "Füchse ☃", "a.b", "x=1", "")
_JSON = ({"a": [1, 2.5, "x", None]}, [1, 2, 3], 7, "text")
_SAME = {"inputs": {"value": {"type": "any"}}, "nodes": {}, "outputs": {"value": "inputs.value"}}
"""A workflow that gives what it takes."""
_SPAN = 8
"""How far numbers go beyond their lower bound: large ones make large pictures."""


class NoSample(Exception):
    """There is no way to make a value of this type here: why, and what would do other than to give values."""

    def __init__(self, text: str, fix: str = ""):
        super().__init__(text)
        self.fix = fix


def sample(port: Port, number: int, folder: Path, other: Callable[[Type, Port, int], Any] | None = None) -> Any:
    """A value for a port. `folder`: where sample files are written. `other`: makes values of types that are not built in.

    Raises NoSample.
    """
    sampler = _Sampler(port, number, folder, other)
    if port.default is not REQUIRED and (number == 0 or sampler.random.random() < 0.5):
        return port.default
    return sampler.of(port.type)


class _Sampler:
    def __init__(self, port: Port, number: int, folder: Path, other: Callable[[Type, Port, int], Any] | None):
        self.port, self.number, self.folder, self.other = port, number, folder, other
        self.random = random.Random(f"{port.name}/{number}")  # the same in every process

    def of(self, kind: Type) -> Any:
        if self.port.choices and kind.kind == "name":
            return self.port.choices[self.number % len(self.port.choices)]
        if kind.kind == "list":
            return [_Sampler(self.port, self.number + k, self.folder, self.other).of(kind.args[0]) for k in range(self._length())]
        if kind.kind == "union":
            return self._member([one for one in kind.args if one is not types.NONE])
        if kind.kind in ("var", "any"):
            return _TEXTS[self.number % 2]
        make = _MAKERS.get(kind.name)
        if make is not None:
            return make(self)
        if self.other is None:
            raise NoSample(f"there are no samples of {kind}")
        return self.other(kind, self.port, self.number)

    def _member(self, members: list[Type]) -> Any:
        for k in range(len(members)):
            try:
                return self.of(members[(self.number + k) % len(members)])
            except NoSample:
                continue
        raise NoSample(f"there are no samples of {self.port.type}")

    def _length(self) -> int:
        return max(self.port.min_length or 0, min(2, self.port.max_length or 2))

    def whole(self) -> int:
        """An int within the bounds."""
        port, step = self.port, int(self.port.multiple or 1)
        low = port.minimum if port.minimum is not None else None if port.above is None else math.floor(port.above) + 1
        high = port.maximum if port.maximum is not None else None if port.below is None else math.ceil(port.below) - 1
        if low is None and high is None:
            return (self.random.choice(_INTS) if self.number else _INTS[0]) * step
        first = math.ceil((low if low is not None else min(0, high or 0)) / step) * step
        if self._near(first, high):
            first = max(first, round(float(port.default) / step) * step)
        last = min(first + _SPAN * step, math.floor(high / step) * step if high is not None else first + _SPAN * step)
        return first if self.number == 0 else self.random.randrange(first, max(first, last) + 1, step)

    def real(self) -> float:
        """A float within the bounds."""
        port = self.port
        low = port.minimum if port.minimum is not None else port.above
        high = port.maximum if port.maximum is not None else port.below
        if low is None and high is None:
            return self.random.choice(_FLOATS) if self.number else _FLOATS[0]
        first = low if low is not None else min(0.0, high or 0.0)
        last = min(high, first + _SPAN) if high is not None else first + _SPAN
        found = first + (last - first) * (0.5 if self.number == 0 else self.random.uniform(0.1, 0.9))
        return float(round(found / port.multiple) * port.multiple) if port.multiple else round(found, 6)

    def _near(self, first: float, high: float | None) -> bool:
        """Whether a default tells where sensible values lie."""
        default = self.port.default
        return type(default) in (int, float) and default >= first and (high is None or default <= high)

    def text(self) -> str:
        port = self.port
        fitting = [one for one in _TEXTS if not port.pattern or re.search(port.pattern, one)]
        fitting = [one for one in fitting if (port.min_length or 0) <= len(one) <= (port.max_length if port.max_length is not None else 99)]
        if fitting:
            return fitting[self.number % len(fitting)]
        if type(port.default) is str:
            return port.default
        raise NoSample(f"no sample text fits {port.name!r}")

    def array(self, *shape: int, low: float = 0.0) -> Any:
        """float32, uniform from `low` to 1."""
        import numpy

        seed = [ord(letter) for letter in self.port.name] + [self.number]
        found = numpy.random.default_rng(seed).random(shape, numpy.float32)
        return found * numpy.float32(1 - low) + numpy.float32(low)

    def file(self) -> str:
        """The path of a PNG; from number 2 on, also of a text."""
        import PIL.Image

        self.folder.mkdir(parents=True, exist_ok=True)
        if self.number % 3 == 2:
            path = self.folder / f"sample-{self.number}.txt"
            path.write_text("a sample\n", encoding="utf-8")
        else:
            path = self.folder / f"sample-{self.number}.png"
            PIL.Image.fromarray((self.array(HEIGHT, WIDTH, 3) * 255).astype("uint8")).save(path)
        return str(path)


def _seed(sampler: _Sampler) -> int | list[int]:
    return sampler.number + 1 if sampler.number != 2 else [3, 4]


_MAKERS: dict[str, Callable[[_Sampler], Any]] = {
    "int": _Sampler.whole,
    "float": _Sampler.real,
    "bool": lambda sampler: sampler.number % 2 == 0,
    "text": _Sampler.text,
    "json": lambda sampler: _JSON[sampler.number % len(_JSON)],
    "none": lambda sampler: None,
    "seed": _seed,
    "file": _Sampler.file,
    "workflow": lambda sampler: _SAME,
    "image": lambda sampler: Image(sampler.array(BATCH, 3, HEIGHT, WIDTH)),
    "mask": lambda sampler: Mask(sampler.array(BATCH, 1, HEIGHT, WIDTH)),
    "latent": lambda sampler: Latent(sampler.array(BATCH, 4, HEIGHT // 4, WIDTH // 4, low=-1.0), "sd1"),
    "conditioning": lambda sampler: Conditioning({"states": sampler.array(BATCH, 7, 8, low=-1.0)}, "sample"),
    "embedding": lambda sampler: Embedding(sampler.array(BATCH, 8, low=-1.0), "sample"),
    "audio": lambda sampler: Audio(sampler.array(1, 2, 400, low=-1.0), 8000),
    "video": lambda sampler: Video(sampler.array(3, 3, HEIGHT, WIDTH), 8.0),
    "rng": lambda sampler: Rng.seeded(sampler.number + 1, BATCH),
}


__all__ = ["BATCH", "HEIGHT", "WIDTH", "NoSample", "sample"]
