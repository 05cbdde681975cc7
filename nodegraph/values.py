"""The values that flow through ports: frozen, torch-free holders of arrays and facts.

A value is made of `meta` (JSON-like) and named `arrays`; that is all the engine needs to count, digest, pack and unpack it.
A pack's own class joins by having the same two methods, `parts` and `from_parts`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from errno import EINVAL
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Self, Union

from nodegraph import arrays
from nodegraph.looks import changed_ns

if TYPE_CHECKING:
    import numpy
    import torch

Parts = tuple[dict[str, Any], dict[str, Any]]
"""(meta, arrays) of a value."""


class _Arrays:
    """A value that holds one array, `data`, and perhaps plain facts. Immutable."""

    __slots__ = ("data",)
    data: Any
    _axes = ""

    def __init__(self, data: Any):
        if not arrays.is_array(data):
            raise TypeError(f"{type(self).__name__} holds a tensor or a numpy array, not {type(data).__name__}")
        if self._axes and data.ndim != len(self._axes):
            raise ValueError(f"{type(self).__name__} is [{','.join(self._axes)}], but the given shape is {tuple(data.shape)}")
        # one layout for one value: kernels give other last bits for other strides
        object.__setattr__(self, "data", arrays.contiguous(data))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies, and what programs send to other processes, are made anew: nothing can be set."""
        return type(self).from_parts, self.parts()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'×'.join(map(str, self.data.shape))} {arrays.dtype_name(self.data)})"

    def __len__(self) -> int:
        """How many are in the batch."""
        return int(self.data.shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    def tensor(self, device: str = "cpu", dtype: Any = None) -> torch.Tensor:
        """The data on a device. May share memory with the value: never change it in place."""
        return arrays.tensor(self.data, device, dtype)

    def numpy(self) -> numpy.ndarray:
        """The data in host memory. May share memory with the value: never change it in place."""
        return arrays.to_numpy(self.data)

    def parts(self) -> Parts:
        return {}, {"data": self.data}

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], named: Mapping[str, Any]) -> Self:
        return cls(named["data"], **meta)


class _Pixels(_Arrays):
    """Shared by Image and Mask: [B,C,H,W] float32 in 0..1."""

    __slots__ = ()
    _axes = "BCHW"
    _channels = 0

    def __init__(self, data: Any):
        super().__init__(data)
        if self.data.shape[1] != self._channels:
            name = type(self).__name__
            raise ValueError(f"{name} is [B,{self._channels},H,W], but the given shape is {tuple(data.shape)}")
        if arrays.dtype_name(self.data) != "float32":
            raise ValueError(f"{type(self).__name__} is float32, but the given data is {arrays.dtype_name(self.data)}")
        if 0 in self.data.shape:
            raise ValueError(f"{type(self).__name__} has at least one pixel, but the given shape is {tuple(data.shape)}")

    @property
    def height(self) -> int:
        return int(self.data.shape[2])

    @property
    def width(self) -> int:
        return int(self.data.shape[3])

    def bytes_hwc(self) -> numpy.ndarray:
        """uint8 [B,H,W,C], rounded half to even and clipped."""
        import numpy

        pixels = numpy.clip(self.numpy().transpose(0, 2, 3, 1), 0.0, 1.0)
        return numpy.rint(pixels * numpy.float32(255)).astype(numpy.uint8)


class Image(_Pixels):
    """Pictures: float32 [B,3,H,W], sRGB, 0..1."""

    __slots__ = ()
    _channels = 3

    def pil(self) -> list[Any]:
        """One PIL picture (RGB) for each in the batch."""
        import PIL.Image

        return [PIL.Image.fromarray(pixels) for pixels in self.bytes_hwc()]

    @classmethod
    def from_pil(cls, pictures: Any) -> Image:
        """From one PIL picture, or several of one size; any mode becomes RGB, alpha is dropped.

        Raises ValueError where a picture of 32 bits has values outside of 0..65535 (whole numbers) or 0..1.
        """
        return cls(_from_pil(pictures, "RGB"))


class Mask(_Pixels):
    """Masks: float32 [B,1,H,W], 1 = there (what an inpainting paints, what alpha shows)."""

    __slots__ = ()
    _channels = 1

    def pil(self) -> list[Any]:
        """One PIL picture (L) for each in the batch."""
        import PIL.Image

        return [PIL.Image.fromarray(pixels[:, :, 0]) for pixels in self.bytes_hwc()]

    @classmethod
    def from_pil(cls, pictures: Any) -> Mask:
        """From one PIL picture, or several of one size; any mode becomes grey. Raises ValueError as for Image."""
        return cls(_from_pil(pictures, "L"))


def _from_pil(pictures: Any, mode: str) -> numpy.ndarray:
    """float32 [B,C,H,W] of PIL pictures: three channels for the mode RGB, one for L."""
    import numpy

    several = pictures if isinstance(pictures, list | tuple) else [pictures]
    pixels = numpy.stack([_deep(picture, mode) if picture.mode[0] in "IF" else _bytes(picture, mode) for picture in several])
    return numpy.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _bytes(picture: Any, mode: str) -> numpy.ndarray:
    """float32 [H,W,C] of a picture of 8 bits a channel."""
    import numpy

    pixels = numpy.asarray(picture.convert(mode), numpy.float32) / numpy.float32(255)
    return pixels if mode == "RGB" else pixels[:, :, None]


def _deep(picture: Any, mode: str) -> numpy.ndarray:
    """float32 [H,W,C] of a grey picture of 16 or 32 bits, which `convert` would clip at 255."""
    import numpy

    most = 1 if picture.mode == "F" else 65535
    values = numpy.asarray(picture).astype(numpy.float32)
    if values.size and not (values.min() >= 0 and values.max() <= most):
        raise ValueError(f"the picture has values from {values.min():g} to {values.max():g}, but white is {most}")
    return numpy.repeat(values[:, :, None] / numpy.float32(most), len(mode), axis=2)


class Latent(_Arrays):
    """A latent [B,C,…] and its space (what encoded it and so can decode it, such as `sd1`).

    `extras` are further named arrays of the same batch that go with it into a sampler: `noise`, `mask`, `masked`.
    """

    __slots__ = ("extras", "space")
    space: str
    extras: Mapping[str, Any]

    def __init__(self, data: Any, space: str = "", extras: Mapping[str, Any] | None = None):
        super().__init__(data)
        object.__setattr__(self, "space", space)
        object.__setattr__(self, "extras", MappingProxyType({name: arrays.contiguous(array) for name, array in (extras or {}).items()}))

    def extra(self, name: str, device: str = "cpu", dtype: Any = None) -> torch.Tensor | None:
        """A further array on a device, or None if there is none of that name."""
        return arrays.tensor(self.extras[name], device, dtype) if name in self.extras else None

    def parts(self) -> Parts:
        return {"space": self.space}, {"data": self.data, **{f"extra.{name}": array for name, array in self.extras.items()}}

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], named: Mapping[str, Any]) -> Self:
        extras = {name.removeprefix("extra."): array for name, array in named.items() if name.startswith("extra.")}
        return cls(named["data"], meta["space"], extras)


class Embedding(_Arrays):
    """Embeddings [B,D] and their space (what made them, such as `clip-vit-l14`)."""

    __slots__ = ("space",)
    _axes = "BD"
    space: str

    def __init__(self, data: Any, space: str = ""):
        super().__init__(data)
        object.__setattr__(self, "space", space)

    def parts(self) -> Parts:
        return {"space": self.space}, {"data": self.data}


class Audio(_Arrays):
    """Sound: float32 [B,C,T] in -1..1 at `rate` samples a second."""

    __slots__ = ("rate",)
    _axes = "BCT"
    rate: int

    def __init__(self, data: Any, rate: int):
        super().__init__(data)
        object.__setattr__(self, "rate", rate)

    def parts(self) -> Parts:
        return {"rate": self.rate}, {"data": self.data}


class Video(_Arrays):
    """Frames: float32 [F,3,H,W], sRGB, 0..1, at `rate` frames a second."""

    __slots__ = ("rate",)
    _axes = "FCHW"
    rate: float

    def __init__(self, data: Any, rate: float):
        super().__init__(data)
        object.__setattr__(self, "rate", rate)

    def parts(self) -> Parts:
        return {"rate": self.rate}, {"data": self.data}


class Conditioning:
    """What steers a denoiser: named arrays, each [B,…] (`states` [B,T,D], `pooled` [B,D], `mask` [B,T], extras).

    `space` names what made it. Immutable.
    """

    __slots__ = ("named", "space")
    named: Mapping[str, Any]
    space: str

    def __init__(self, named: Mapping[str, Any], space: str = ""):
        for name, array in named.items():
            if not arrays.is_array(array):
                raise TypeError(f"Conditioning {name!r} must be a tensor or a numpy array, not {type(array).__name__}")
        object.__setattr__(self, "named", MappingProxyType({name: arrays.contiguous(array) for name, array in named.items()}))
        object.__setattr__(self, "space", space)

    __setattr__ = _Arrays.__setattr__

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_parts, self.parts()

    def __repr__(self) -> str:
        return f"Conditioning({', '.join(f'{name} {tuple(array.shape)}' for name, array in self.named.items())})"

    def __contains__(self, name: str) -> bool:
        return name in self.named

    def __len__(self) -> int:
        """How many are in the batch."""
        return int(next(iter(self.named.values())).shape[0])

    def tensor(self, name: str, device: str = "cpu", dtype: Any = None) -> torch.Tensor:
        """A named tensor on a device. May share memory with the value: never change it in place."""
        return arrays.tensor(self.named[name], device, dtype)

    def parts(self) -> Parts:
        return {"space": self.space}, dict(self.named)

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], named: Mapping[str, Any]) -> Self:
        return cls(named, meta["space"])


@dataclass(frozen=True, slots=True)
class Rng:
    """States of torch CPU generators, one for each picture of a batch: randomness as a value.

    A node takes `generators()`, draws, and hands on `Rng.of(generators)`, so that the order of all draws is part of the
    graph and nothing is hidden.
    """

    states: tuple[bytes, ...]

    @classmethod
    def seeded(cls, seed: int | Sequence[int] | Rng, count: int = 1) -> Rng:
        """The states for `count` pictures. An int stands for seed, seed+1, …; a list or an Rng has one for each.

        Raises ValueError when a list or an Rng has neither one state nor `count`.
        """
        import torch

        if isinstance(seed, Rng):
            states = seed.states
        else:
            seeds = [seed + k for k in range(count)] if isinstance(seed, int) else list(seed)
            states = tuple(bytes(torch.Generator().manual_seed(one % (1 << 64)).get_state().numpy()) for one in seeds)
        if len(states) != count:
            raise ValueError(f"a batch of {count} takes a seed for each picture, but {len(states)} were given")
        return cls(states)

    def generators(self) -> list[torch.Generator]:
        """Fresh CPU generators in these states."""
        import torch

        made = []
        for state in self.states:
            generator = torch.Generator()
            generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
            made.append(generator)
        return made

    @classmethod
    def of(cls, generators: Sequence[torch.Generator]) -> Rng:
        """The states that generators are in now."""
        return cls(tuple(bytes(generator.get_state().numpy()) for generator in generators))

    def __len__(self) -> int:
        return len(self.states)

    def __repr__(self) -> str:
        """Short: a state has thousands of bytes."""
        from nodegraph.keys import digest

        return f"Rng({len(self)} of {digest(b'rng', *self.states).hex()[:8]})"

    def parts(self) -> Parts:
        return {"states": list(self.states)}, {}

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], named: Mapping[str, Any]) -> Rng:
        return cls(tuple(meta["states"]))


class SeedPort:
    """Marks a seed port; see `Seed`."""


Seed = Annotated[Union[int, list[int], Rng], SeedPort]
"""The annotation of a port through which randomness enters: an int, one int for each picture, or an Rng."""


@dataclass(frozen=True, slots=True)
class File:
    """A file outside of the graph, with the digest of its bytes when it was looked at, and its size and the time of its last change of
    any kind then. Only the digest is its identity."""

    path: str = field(compare=False)
    digest: bytes = b""
    size: int = field(default=0, compare=False)
    mtime_ns: int = field(default=0, compare=False)

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> File:
        """The file as it is now. Raises OSError when it cannot be read."""
        from nodegraph.keys import file_digest

        resolved = Path(path).resolve()
        stat = resolved.stat()
        if not S_ISREG(stat.st_mode) and not S_ISDIR(stat.st_mode):  # a folder says so itself; a pipe would be waited for without end
            raise OSError(EINVAL, "no file, but a pipe or a device", str(resolved))
        return cls(str(resolved), file_digest(resolved), stat.st_size, changed_ns(stat))

    def __fspath__(self) -> str:
        return self.path

    def still_valid(self) -> bool:
        """Whether the same bytes still lie there."""
        try:
            stat = os.stat(self.path)
            if (stat.st_size, changed_ns(stat)) == (self.size, self.mtime_ns):
                return True
            return stat.st_size == self.size and File.at(self.path).digest == self.digest
        except OSError:
            return False

    def parts(self) -> Parts:
        return {"path": self.path, "digest": self.digest, "size": self.size, "mtime_ns": self.mtime_ns}, {}

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], named: Mapping[str, Any]) -> File:
        return cls(**meta)


def builtin_names() -> dict[type, str]:
    """The port type name of each value class of this module and of `handles`."""
    from nodegraph.handles import HANDLES
    from nodegraph.secret import Secret

    own = {Image: "image", Mask: "mask", Latent: "latent", Conditioning: "conditioning", Embedding: "embedding"}
    return {**own, Audio: "audio", Video: "video", Rng: "rng", File: "file", Secret: "secret", **HANDLES}
