"""Reading what a saved file tells of its making: PNG text, the Exif comment of a JPEG or WebP, the comment of a WAV.

The text is JSON in ASCII; where it would not fit into a JPEG it is deflated, in base64 behind `zlib:`.
"""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

from nodegraph.errors import Problem, WorkflowInvalid

TEXT_KEY = "nodegraph"
"""The keyword of the PNG text chunk."""
GRID_KEY = f"{TEXT_KEY}-grid"
"""That of the picture of a sweep, which says which cell is which."""
DEFLATED = "zlib:"
MAX_TEXT = 64 << 20
"""A longer text is refused before it is parsed."""
_EXIF_IFD, _USER_COMMENT, _CHARSET = 0x8769, 0x9286, 8


def is_saved(path: Path) -> bool:
    """Whether a file begins like one that can carry a record: PNG, JPEG, WebP, WAV."""
    return is_picture(path) or _head(path)[8:] == b"WAVE"


def is_picture(path: Path) -> bool:
    """Whether a file begins like a PNG, JPEG or WebP."""
    head = _head(path)
    return head.startswith((b"\x89PNG", b"\xff\xd8\xff")) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


def _head(path: Path) -> bytes:
    """The first bytes of a file; none of a pipe, where whoever reads it next would miss them."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(12)
    except OSError:
        return b""


def read(path: Path) -> dict[str, Any]:
    """The record of a saved file. Raises WorkflowInvalid when it has none."""
    text = _wav_comment(path) if _head(path)[8:] == b"WAVE" else _text(path)
    try:
        if text.startswith(DEFLATED):
            text = _inflated(text.removeprefix(DEFLATED))
        record = json.loads(text) if len(text) <= MAX_TEXT else None
    except (ValueError, zlib.error, RecursionError):
        record = None
    if text == GRID_KEY:
        fix = "give one of the single pictures; the table of the sweep (--table) says which is which"
        raise WorkflowInvalid([Problem("no-metadata", "", f"{path.name!r} is the picture of a whole sweep", fix, str(path))])
    if not isinstance(record, dict) or not _well_formed(record):
        fix = "give a file that nodegraph saved; editing, converting or uploading one often removes what it tells"
        raise WorkflowInvalid([Problem("no-metadata", "", f"{path.name!r} does not tell of its making", fix, str(path))])
    return record


_FACTS = ("literals", "seeds", "keys", "packs", "versions", "models", "files", "machine", "smaller")


def _well_formed(record: dict[str, Any]) -> bool:
    """Whether a record has the shape of one: whoever made the file may have written anything."""
    if not isinstance(record.get("workflow"), dict) or not all(isinstance(record.get(key, {}), dict) for key in ("inputs", *_FACTS)):
        return False
    files = [(one.get("path"), one.get("digest")) for one in record.get("files", {}).values() if isinstance(one, dict)]
    packs = record.get("packs", {}).values()
    return (
        len(files) == len(record.get("files", {}))
        and all(isinstance(part, str) for pair in files for part in pair)
        and all(isinstance(pack, dict) and "version" in pack and isinstance(pack.get("nodes", {}), dict) for pack in packs)
        and all(isinstance(digest, str) for digest in record.get("models", {}).values())
        and all(isinstance(one, dict) and "type" in one for one in record.get("literals", {}).values())
    )


def _inflated(text: str) -> str:
    inflater = zlib.decompressobj()
    raw = inflater.decompress(base64.b64decode(text), MAX_TEXT)
    return raw.decode("ascii") if not inflater.unconsumed_tail else ""


def _wav_comment(path: Path) -> str:
    """The text of LIST INFO ICMT, or nothing."""
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            name, size = head[:4], int.from_bytes(head[4:], "little")
            if name == b"LIST" and file.read(4) == b"INFO":
                inner = file.read(min(size - 4, MAX_TEXT))
                return inner[8 : 8 + int.from_bytes(inner[4:8], "little")].rstrip(b"\0").decode("ascii", "replace")
            file.seek(size + size % 2 - (4 if name == b"LIST" else 0), 1)
    return ""


def _text(path: Path) -> str:
    import PIL.Image

    try:
        with PIL.Image.open(path) as picture:
            told = getattr(picture, "text", {})
            found = GRID_KEY if GRID_KEY in told else told.get(TEXT_KEY)
            if found is None:
                found = picture.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")[_CHARSET:]
    except (PIL.UnidentifiedImageError, SyntaxError, ValueError, TypeError):
        return ""
    except OSError as error:
        text, fix = f"cannot read {str(path)!r}: {error.strerror}", "give the path of a picture"
        if error.errno is None:  # of a decoder
            text, fix = f"{str(path)!r} is damaged: {error}", "get the file again"
        raise WorkflowInvalid([Problem("file-missing" if error.errno else "no-metadata", "", text, fix)]) from None
    return found.decode("ascii", "replace") if isinstance(found, bytes) else str(found)


__all__ = ["DEFLATED", "GRID_KEY", "TEXT_KEY", "is_picture", "is_saved", "read"]
