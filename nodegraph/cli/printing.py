"""Text on its way to a person: what workflows, packs and models hold must not steer the terminal."""

from __future__ import annotations

import re
import sys
from typing import TextIO

_UNSEEN = re.compile("[\0-\b\v\f\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\r(?!\n)")
"""Control characters, and those that turn the direction of text around, but for tabs and the ends of lines."""


def visible(text: str) -> str:
    """Text with its control characters written as in JSON: `\\u001b`."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def tell(text: str, file: TextIO | None = None, end: str = "\n") -> None:
    """Print something for a person, at once; on stdout, unless said otherwise."""
    print(visible(text), file=file or sys.stdout, end=end, flush=True)


def give(text: str) -> None:
    """Print a result: as it is for what reads it, as a person can read it on a terminal."""
    print(visible(text) if sys.stdout.isatty() else text, flush=True)


class Told:
    """stderr as a stream for what is written by others, such as logging."""

    def write(self, text: str) -> None:
        sys.stderr.write(visible(text))

    def flush(self) -> None:
        sys.stderr.flush()


__all__ = ["Told", "give", "tell", "visible"]
