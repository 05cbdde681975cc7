"""Texts that tests compare with, in one file of sections. `NODEGRAPH_GOLDEN=write pytest …` writes them anew, to be read in the diff."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"
WRITE = os.environ.get("NODEGRAPH_GOLDEN") == "write"


def sections(file: str) -> dict[str, str]:
    """The texts of a golden file by name."""
    path = FOLDER / file
    parts = path.read_text(encoding="utf-8").split("== ")[1:] if path.is_file() else []
    return {name: body.rstrip("\n") for name, _, body in (part.partition("\n") for part in parts)}


def compare(file: str, name: str, text: str) -> None:
    """Fail unless the text is the golden one of that name."""
    known = sections(file)
    if WRITE:
        known[name] = text
        body = "\n\n".join(f"== {one}\n{known[one]}" for one in sorted(known))
        (FOLDER / file).parent.mkdir(exist_ok=True)
        (FOLDER / file).write_text(body + "\n", encoding="utf-8")
    assert known.get(name) == text
