"""What can be saved in a format, and under a name."""

from __future__ import annotations

import re
from pathlib import PurePath

NO_ALPHA = ("a jpeg has no alpha", "use png or webp, or lay the picture over a background with composite")
"""What is wrong with a mask for a jpeg, as (text, fix)."""
LONGEST = {"jpeg": 65_500, "webp": 16_383}
"""The longest side that libjpeg and libwebp write, in pixels."""


def format_problem(width: int, height: int, format: str) -> tuple[str, str] | None:
    """Why a picture of a size cannot be saved in a format, as (text, fix); None if it can."""
    if max(height, width) <= LONGEST.get(format, max(height, width)):
        return None
    return f"a {format} of {width}×{height} pixels cannot be", f"use png, or at most {LONGEST[format]:,} a side"


def ending(format: str) -> str:
    """Of the name of a file in a format."""
    return "jpg" if format == "jpeg" else format


def name_problem(stem: str, suffix: str) -> tuple[str, str] | None:
    """Why a text and an ending are no relative name for a file on any system, as (text, fix); None if they are."""
    name = f"{stem}.{suffix}"
    if re.search(r'[\0-\x1f<>:"|?*\\]', name) or any(len(part.encode()) > 200 for part in PurePath(name).parts):
        return f"{name!r} cannot be a file's name everywhere", 'use up to 200 bytes without < > : " | ? * \\'
    return outside(name) if PurePath(name).is_absolute() or not stem.rpartition("/")[2].strip(" .") else None


def outside(name: str) -> tuple[str, str]:
    """What is wrong with a name that leads out of a folder."""
    return f"{name!r} is no name for a file below the output folder", "use a relative name without '..'"
