"""Writing pictures: encoded with what tells of their making, under names that never overwrite other content."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import PIL.Image
from PIL.PngImagePlugin import PngInfo

from nodegraph import Invalid

from .facts.saving import format_problem, name_problem, outside
from .pixels import Array
from .templates import fields as fields_in
from .templates import fill

METADATA_KEY = "nodegraph"
"""The key of the PNG text chunk that holds the metadata as JSON."""
EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
"""Where a JPEG or WebP holds it: the Exif tag UserComment, with the prefix that says it is ASCII."""
ASCII = b"ASCII\0\0\0"
DEFLATED = "zlib:"
"""What begins a text that is deflated and in base64, as it would not fit into a JPEG otherwise."""
JPEG_EXIF_BYTES = 65_533 - len(b"Exif\0\0")
"""The most Exif data a JPEG can hold: one segment."""


def encode(pixels: Array, alpha: Array | None, format: str, quality: int, metadata: Mapping[str, Any]) -> bytes:
    """The bytes of a picture file, the same for the same inputs. `pixels` uint8 [H,W,3], `alpha` uint8 [H,W,1]."""
    height, width = pixels.shape[:2]
    if problem := format_problem(width, height, format):
        raise Invalid(problem[0], fix=problem[1], port="format")
    picture = PIL.Image.fromarray(pixels if alpha is None else np.concatenate([pixels, alpha], axis=2))
    text = json.dumps(metadata, sort_keys=True) if metadata else ""
    buffer = io.BytesIO()
    if format == "png":
        info = PngInfo()
        if text:
            info.add_text(METADATA_KEY, text)
        picture.save(buffer, "PNG", pnginfo=info)
    elif format == "jpeg":
        exif = _exif(text)
        if len(exif) > JPEG_EXIF_BYTES:
            exif = _exif(DEFLATED + base64.b64encode(zlib.compress(text.encode("ascii"), 9)).decode("ascii"))
        if len(exif) > JPEG_EXIF_BYTES:
            raise Invalid("the workflow is too large to be embedded in a jpeg", fix="use png, or set embed to false", port="format")
        picture.save(buffer, "JPEG", quality=quality, subsampling="4:4:4" if quality >= 90 else "4:2:0", exif=exif)
    else:
        picture.save(buffer, "WEBP", quality=quality, exact=True, exif=_exif(text))
    return buffer.getvalue()


def _exif(text: str) -> bytes:
    if not text:
        return b""
    exif = PIL.Image.Exif()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = ASCII + text.encode("ascii")
    return exif.tobytes()


def publish(folder: Path, template: str, fields: Mapping[str, object], suffix: str, data: bytes) -> Path:
    """Write data below a folder under the first name that is free, or that holds this very data already.

    Names come from the template with n = 1, 2, …; one without {n} gets -2, -3, … when it is taken. A file appears whole
    or not at all, and never replaces another one. Raises Invalid for a name that leads out of the folder, and when the file
    cannot be written.
    """
    numbered = "n" in fields_in(template, "name")
    safe = {name: _as_name(value) if isinstance(value, str) else value for name, value in fields.items()}
    for number in itertools.count(1):
        name = fill(template, {**safe, "n": number}, "name")
        ending = f"-{number}" if number > 1 and not numbered else ""
        try:
            path = _inside(folder, f"{name}{ending}", suffix)
            if _holds(path, data):
                return path
        except (OSError, RuntimeError) as error:  # a RuntimeError tells of links in a circle, as Python 3.11 does
            text = f"{f'{name}{ending}.{suffix}'!r} cannot be written into {str(folder)!r}: {getattr(error, 'strerror', None) or error}"
            raise Invalid(text, fix="use another name, or an output folder that can be written to", port="name") from error
    raise AssertionError("unreachable")


def _as_name(text: str) -> str:
    """A field as part of a file name: what could end it, or name a folder, becomes a dash."""
    return re.sub(r"[^\w.,=+-]+", "-", text).strip("-.") or "unnamed"


def _inside(folder: Path, stem: str, suffix: str) -> Path:
    """The path of a file below a folder. Raises Invalid when the name leads out of it or is none."""
    name = f"{stem}.{suffix}"
    path = folder / name
    problem = name_problem(stem, suffix)
    if not problem and not path.resolve().is_relative_to(folder.resolve()):
        problem = outside(name)
    if problem:
        raise Invalid(problem[0], fix=problem[1], port="name")
    return path


def _holds(path: Path, data: bytes) -> bool:
    """Whether the file holds this data, after writing it if there was no such file."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{uuid4().hex}.part")
        try:
            _write(aside, data)
            if _place(aside, path):
                return True
        finally:
            aside.unlink(missing_ok=True)
    try:
        return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data
    except PermissionError:  # another user's, who lets nobody read it
        return False


def _write(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _place(aside: Path, path: Path) -> bool:
    """Give a written file its name, unless the name is taken."""
    try:
        os.link(aside, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: claim the name first, then replace the claim
        try:
            open(path, "xb").close()
        except FileExistsError:
            return False
        try:
            os.replace(aside, path)
        except OSError:
            path.unlink(missing_ok=True)  # nothing but the claim
            raise
    return True
