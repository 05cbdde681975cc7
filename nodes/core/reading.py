"""Reading picture files into float pixels: orientation, alpha, 16-bit, palettes, CMYK, colour profiles, and what is wrong with a file."""

from __future__ import annotations

import codecs
import io
import re
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import numpy as np
import PIL.Image
import PIL.ImageFile
from PIL import ImageCms, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from nodegraph import Invalid

from .facts.sizes import MAX_PIXELS, MAX_SIDE
from .pixels import Array

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""The formats that are read. Pillow knows more, but each decoder is one more place for a bad file to do harm."""
ORIENTATION = 0x0112
"""The Exif tag that says how a picture is to be turned before it is shown."""
OTHER_END = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""The end of the letter in Pillow's names of 16 bits, as in RGB;16B: how it unpacks the high bytes, and so the low bytes."""
DEEP_TIFF = re.compile(r"(RGB[AX]?|[RGBA]);16[BLN]")
"""How Pillow unpacks colours of 16 bits, or one plane of them."""
BITS, PHOTOMETRIC, PLANES, SIGNS = 258, 262, 284, 339
"""The TIFF tags for the bits of each channel, for what they mean (0: grey, where 0 is white), for how they lie: 2 is one after the
other, and for how they spell numbers: 2 is with a sign."""
TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""What a TIFF begins with, of either end and either size of offsets."""
FEW_BITS = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies the values of a grey PNG of 2 or 4 bits with, and not its transparent value."""
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error, zlib.error)
"""What Pillow's decoders raise on damaged files."""

warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # of half of MAX_PIXELS; larger ones are refused here


def read_picture(path: str) -> tuple[Array, Array | None]:
    """(colours [H,W,3], alpha [H,W] or None) of a file, float32 sRGB in 0..1, the right way up.

    The first frame, if there are several. Raises Invalid when the file is missing, no picture, too large or damaged; sizes
    are checked before anything is decoded.
    """
    with _readable(path), _opened(path) as picture:
        _check_size(picture, path)
        colors, alpha = _decode(picture, path)
        turn = _orientation(picture)  # after decoding, as reading Exif data may decode, and Pillow turns a TIFF itself
        return _turned(colors, turn), None if alpha is None else _turned(alpha, turn)


@contextmanager
def _opened(path: str) -> Iterator[PIL.ImageFile.ImageFile]:
    """A file whose pixels are yet to be decoded. Handed over open: one that it opens by its path, Pillow may map into memory, and then
    turns a TIFF of one plane before its rows are told apart."""
    with open(path, "rb") as file, PIL.Image.open(file, formats=FORMATS) as picture:
        yield picture


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turn what opening and decoding raise into Invalid."""
    try:
        yield
    except FileNotFoundError:
        raise Invalid(f"there is no file {path!r}", fix="check the path", port="file") from None
    except (IsADirectoryError, PermissionError) as error:
        raise Invalid(f"{path!r} cannot be read: {error.strerror}", fix="name a file that can be read", port="file") from None
    except PIL.Image.DecompressionBombError:
        raise Invalid(f"{path!r} is larger than {MAX_PIXELS:,} pixels", fix="make it smaller first", port="file") from None
    except UnidentifiedImageError:
        _refuse_unknown(path)
    except BROKEN as error:
        raise Invalid(f"{path!r} is damaged: {error or type(error).__name__}", fix="get the file again", port="file") from error


def _refuse_unknown(path: str) -> NoReturn:
    with open(path, "rb") as file:
        head = file.read(256)
    fix = f"use a file in one of the formats {', '.join(FORMATS)}"
    if not head:
        what = "is empty"
    elif head.startswith(TIFF_HEADS):
        what, fix = "is a TIFF of a kind that is not read here, or damaged", "save it as a PNG, or as a TIFF of 8 or 16 bits a channel"
    elif text := _text(head):
        what = f"is a text file, whatever its name says (it begins with {text[:24]!r})"
    else:
        what = "is no picture in a format that is read here, or its first bytes are damaged"
    raise Invalid(f"{path!r} {what}", fix=fix, port="file")


def _text(head: bytes) -> str:
    """The beginning of a text file; empty if these are no bytes of one. The last character may be cut off."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return ""
    return text if all(char.isprintable() or char in "\t\n\r\f\ufeff" for char in text) else ""


def _check_size(picture: PIL.Image.Image, path: str) -> None:
    if picture.width * picture.height > MAX_PIXELS or max(picture.size) > MAX_SIDE:
        text = f"{path!r} has {picture.width}×{picture.height} pixels"
        raise Invalid(text, fix=f"use at most {MAX_PIXELS:,} pixels and {MAX_SIDE:,} a side", port="file")


def _decode(picture: PIL.ImageFile.ImageFile, path: str) -> tuple[Array, Array | None]:
    """Colours [H,W,3] and alpha [H,W], as they lie in the file."""
    profile = _profile(picture)
    _mend_planes(picture, path)
    rawmode = _rawmode(picture)
    if rawmode.endswith(";16B") if picture.format == "PNG" else DEEP_TIFF.fullmatch(rawmode):
        return _decode_deep(picture, path, rawmode, profile)
    if rawmode in FEW_BITS and "transparency" in picture.info:
        picture.info["transparency"] *= FEW_BITS[rawmode]
    picture.load()
    if picture.mode[0] in "IF" or _signed_bytes(picture):
        return _grey(_one_plane(picture, path)), None
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        rgba = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
        mode = "L" if picture.mode in ("1", "L", "LA", "La") else "RGB"
        return _bytes_to_float(_to_srgb(rgba.convert(mode), profile)), _bytes_to_float(rgba.getchannel("A"))
    return _bytes_to_float(_to_srgb(picture, profile)), None


def _rawmode(picture: PIL.ImageFile.ImageFile) -> str:
    """How Pillow is to unpack a PNG or TIFF."""
    if picture.format not in ("PNG", "TIFF") or not picture.tile:
        return ""
    args = picture.tile[0].args
    return str(args[0] if isinstance(args, tuple) else args)


def _mend_planes(picture: PIL.ImageFile.ImageFile, path: str) -> None:
    """Pillow takes planes of 16 bits that are not compressed for planes of 8. Raises Invalid for planes that it cannot put together:
    such ones of CMYK, and those of grey and alpha."""
    if not isinstance(picture, TiffImageFile) or picture.tag_v2.get(PLANES) != 2:
        return
    deep = picture.tag_v2.get(BITS, ())[:1] == (16,)
    if picture.mode in ("LA", "La") or (deep and picture.mode == "CMYK" and picture.tile[0].codec_name == "raw"):
        what = "CMYK in 16 bits" if picture.mode == "CMYK" else "grey and alpha"
        text = f"{path!r} has {what} in planes, one after the other"
        raise Invalid(text, fix="save it as a PNG, or as a TIFF in which the channels of a pixel lie together", port="file")
    if deep:
        end = "L" if picture.tag_v2.prefix == b"II" else "B"
        picture.tile = [
            tile._replace(args=(f"{tile.args[0]};16{end}", *tile.args[1:])) if tile.args[0] in ("R", "G", "B", "A") else tile
            for tile in picture.tile
        ]


def _bytes_to_float(picture: PIL.Image.Image) -> Array:
    return np.asarray(picture, np.float32) / np.float32(255)


def _grey(plane: Array) -> Array:
    return np.repeat(plane[:, :, None], 3, axis=2)


def _signed_bytes(picture: PIL.ImageFile.ImageFile) -> bool:
    return picture.mode == "L" and isinstance(picture, TiffImageFile) and picture.tag_v2.get(SIGNS) == (2,)


def _one_plane(picture: PIL.ImageFile.ImageFile, path: str) -> Array:
    """A grey picture of more than 8 bits: of numbers in 0..1, or of 12 or 16 bits, also where Pillow holds them in 32. Of those where
    0 is white, Pillow turns over 8 bits alone. Or one of 8 bits with a sign, which Pillow takes for 8 without."""
    tags = picture.tag_v2 if isinstance(picture, TiffImageFile) else {}
    most = {"F": 1.0, "L": 255.0}.get(picture.mode, 4095.0 if tags.get(BITS) == (12,) else 65535.0)
    signed, values = tags.get(SIGNS) == (2,), np.asarray(picture)
    if picture.mode == "L":
        values = values.view(np.int8)
    elif picture.mode == "I" and not signed:
        values = values.view(np.uint32)
    plane = _in_range(values.astype(np.float32), most, path, signed)
    return 1 - plane if tags.get(PHOTOMETRIC) == 0 else plane


def _in_range(plane: Array, most: float, path: str, signed: bool) -> Array:
    if np.isnan(plane).any():
        raise Invalid(f"{path!r} has values that are no numbers", fix=f"put numbers from 0 to {most:g} in their place", port="file")
    if not (plane.min() >= 0 and plane.max() <= most):
        text = f"{path!r} has values from {plane.min():g} to {plane.max():g}"
        fix = f"scale them to 0..{most:g} first" + (", and save them as numbers without a sign" if signed else "")
        raise Invalid(text, fix=fix, port="file")
    return plane / np.float32(most)


def _decode_deep(
    picture: PIL.ImageFile.ImageFile, path: str, rawmode: str, profile: ImageCms.ImageCmsProfile | None
) -> tuple[Array, Array | None]:
    """Colours and alpha of a 16-bit PNG or TIFF; with a profile, which Pillow follows for 8 bits alone, the colours have 8."""
    numbers = _deep(picture, path, rawmode)
    pixels, count = numbers / np.float32(65535), numbers.shape[2]
    alpha = None
    if count in (2, 4):
        pixels, alpha = pixels[:, :, :-1], pixels[:, :, -1]
    elif (transparent := picture.info.get("transparency")) is not None:
        alpha = (numbers != np.array(transparent)).any(axis=2).astype(np.float32)
    if profile is not None:
        shallow = np.rint(pixels * 255).astype(np.uint8)
        return _bytes_to_float(_to_srgb(PIL.Image.fromarray(shallow if count > 2 else shallow[:, :, 0]), profile)), alpha
    return pixels if count > 2 else _grey(pixels[:, :, 0]), alpha


def _deep(picture: PIL.ImageFile.ImageFile, path: str, rawmode: str) -> Array:
    """All 16 bits of a PNG or TIFF, float32 whole numbers [H,W,1 to 4].

    Pillow keeps 8 bits a channel of colours, so that the file is decoded twice: for the high and for the low bytes. Grey with alpha
    has four bytes a pixel, which are taken for four channels.
    """
    if rawmode == "I;16B":
        return np.asarray(picture).astype(np.float32)[:, :, None]
    if rawmode == "LA;16B":
        picture.tile = [tile._replace(args="RGBA") for tile in picture.tile]
        raw = np.asarray(picture).astype(np.float32)
        return raw[:, :, 0::2] * np.float32(256) + raw[:, :, 1::2]
    high = np.asarray(picture).astype(np.float32)
    with _opened(path) as again:
        _mend_planes(again, path)
        again.tile = [tile._replace(args=_other_end(tile.args)) for tile in again.tile]
        low = np.asarray(again)
    return high * np.float32(256) + low


def _other_end(args: Any) -> Any:
    """The arguments of a decoder of 16 bits that then unpacks the other bytes."""
    if isinstance(args, tuple):
        return (_other_end(args[0]), *args[1:])
    return args[:-1] + OTHER_END[args[-1]]


def _profile(picture: PIL.Image.Image) -> ImageCms.ImageCmsProfile | None:
    """The embedded colour profile, if it can be read and says anything but sRGB."""
    raw = picture.info.get("icc_profile")
    if not raw:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(raw))
        return None if "sRGB" in ImageCms.getProfileDescription(profile) else profile
    except (OSError, ImageCms.PyCMSError):
        return None


def _to_srgb(picture: PIL.Image.Image, profile: ImageCms.ImageCmsProfile | None) -> PIL.Image.Image:
    """RGB of a picture without alpha; by its profile where that fits its mode."""
    if picture.mode not in ("RGB", "L", "CMYK"):
        picture = picture.convert("RGB")
    if profile is not None:
        with suppress(ImageCms.PyCMSError):  # such as a CMYK profile in an RGB file, which then says nothing of it
            picture = ImageCms.profileToProfile(picture, profile, ImageCms.createProfile("sRGB"), outputMode="RGB") or picture
    return picture.convert("RGB")


def _orientation(picture: PIL.Image.Image) -> int:
    """1 to 8, as in Exif; 1 for a picture without it, or with Exif data that cannot be read."""
    try:
        turn = picture.getexif().get(ORIENTATION, 1)
    except BROKEN:
        return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def _turned(pixels: Array, orientation: int) -> Array:
    """Pixels [H,W,…] put upright. An orientation names the sides that row 0 and column 0 belong to (Exif 2.3, 4.6.4 A)."""
    if orientation >= 5:  # rows are columns
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):  # column 0 is the right side
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):  # row 0 is the bottom
        pixels = pixels[::-1]
    return pixels
