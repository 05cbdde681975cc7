"""Text on its way to a person: what workflows, packs and models hold must not steer the terminal."""

from __future__ import annotations

import io
import re
import sys
from typing import Any, TextIO

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


class _Heedless(io.FileIO):
    """A file that loses what it cannot take, as when its disk is full or its reader has gone."""

    def write(self, data: Any, /) -> int:
        try:
            taken = super().write(data)
        except OSError:
            taken = None
        return len(data) if taken is None else taken


def heedless(stream: TextIO) -> TextIO:
    """The stream for what is told beside results: that nobody can read it must end no run."""
    raw = io.BufferedWriter(_Heedless(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors="backslashreplace", line_buffering=True)


__all__ = ["Told", "give", "heedless", "tell", "visible"]
