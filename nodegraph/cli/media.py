"""Files named on the command line as values: pictures, masks, sound."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nodegraph.values import Audio, File, Image, Mask

MAX_PIXELS = 1 << 28
"""A picture with more is refused before it is decoded."""
_BITS, _PHOTOMETRIC = 258, 262
"""The TIFF tags for the bits of each channel, and for what they mean; 0: grey, where 0 is white."""


class Unreadable(ValueError):
    """A file is missing, or not of the format that is needed; `fix` says what would do."""

    def __init__(self, text: str, fix: str = "give the path of a file"):
        super().__init__(text)
        self.fix = fix


def _picture(path: Path, made: Callable[[Any], Any]) -> Any:
    """What is made of a PIL picture, turned as its camera says."""
    import PIL.Image
    import PIL.ImageOps

    warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # of large pictures that are not too large
    try:
        # handed over open: one that it opens by its path, Pillow may map into memory, and then turns a TIFF of one plane wrongly
        with open(path, "rb") as file, PIL.Image.open(file) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Unreadable(
                    f"{str(path)!r} is {picture.width}×{picture.height}, more than {MAX_PIXELS} pixels", "make it smaller first"
                )
            _check_kind(picture, path)
            return made(PIL.ImageOps.exif_transpose(picture))
    except PIL.UnidentifiedImageError:
        raise Unreadable(f"{str(path)!r} is no picture", "give a picture, as PNG or JPEG say") from None
    except PIL.Image.DecompressionBombError as error:
        raise Unreadable(f"{str(path)!r} cannot be decoded: {error}", "make it smaller first") from None
    except (SyntaxError, ValueError) as error:
        raise Unreadable(f"{str(path)!r} cannot be decoded: {error}", "save it as a PNG of 8 or 16 bits a channel") from None


def _check_kind(picture: Any, path: Path) -> None:
    """Raise Unreadable for grey pictures of more than 8 bits that Pillow gives as they lie in the file, whatever they mean."""
    tags = getattr(picture, "tag_v2", {})
    if picture.mode[0] in "IF" and (tags.get(_PHOTOMETRIC) == 0 or tags.get(_BITS) == (12,)):
        kind = "whose 0 is white" if tags.get(_PHOTOMETRIC) == 0 else "of 12 bits"
        fix = "save it as a PNG of 8 or 16 bits a channel, or read it with load_image"
        raise Unreadable(f"{str(path)!r} is a TIFF {kind}", fix)


def _image(path: Path) -> Image:
    return _picture(path, Image.from_pil)


def _mask(path: Path) -> Mask:
    return _picture(path, Mask.from_pil)


def _audio(path: Path) -> Audio:
    """PCM of 16 bit as -1..1."""
    import wave

    import numpy

    try:
        with wave.open(str(path), "rb") as reader:
            channels, width, rate, count = reader.getparams()[:4]
            frames = reader.readframes(count)
    except (wave.Error, EOFError) as error:
        raise Unreadable(f"{str(path)!r} is no WAV file: {error}", "give sound as WAV") from None
    if width != 2:
        raise Unreadable(f"{str(path)!r} has {8 * width} bit, but 16 are needed", "save it as WAV of 16 bit")
    samples = numpy.frombuffer(frames, "<i2").reshape(-1, channels).T.astype(numpy.float32) / numpy.float32(32767)
    return Audio(numpy.ascontiguousarray(samples)[None], rate)


_READERS: Mapping[str, Callable[[Path], Any]] = {"file": File.at, "image": _image, "mask": _mask, "audio": _audio}


def is_media(kind: str) -> bool:
    """Whether a value of the type is given as the path of a file."""
    return kind in _READERS


def read(kind: str, path: Path) -> Any:
    """The value of a type that a file holds. Raises Unreadable."""
    try:
        expanded = path.expanduser()
    except RuntimeError:
        raise Unreadable(f"cannot read {str(path)!r}: there is no home of that name here") from None
    try:
        return _READERS[kind](expanded)
    except OSError as error:
        if error.errno is None:  # of a decoder
            raise Unreadable(f"{str(path)!r} is damaged: {error}", "get the file again") from None
        raise Unreadable(f"cannot read {str(path)!r}: {error.strerror or error}") from None


__all__ = ["Unreadable", "is_media", "read"]
