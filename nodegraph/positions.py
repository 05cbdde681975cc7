"""Where in a JSON text something stands. Used only when there is a problem to show, so the hot path parses without it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]

Path = tuple[str | int, ...]
_SPACE = re.compile(r"[ \t\n\r]*")
_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)')
_DECODER = json.JSONDecoder(strict=False)


class Positions:
    """Finds values of a valid JSON text by path. The members of an object or list are scanned once, so that very many
    problems in one large file take linear time.
    """

    def __init__(self, text: str):
        self.text = text
        self._inside: dict[int, dict[str | int, int]] = {}
        self._lines: list[int] = []

    def locate(self, path: Path) -> tuple[int, int]:
        """Line and column (1-based) of the value at `path`; of the nearest enclosing value that is there otherwise."""
        from bisect import bisect_right

        if not self._lines:
            self._lines = [0, *(match.end() for match in re.finditer("\n", self.text))]
        index = self.offset(path)
        line = bisect_right(self._lines, index)
        return line, index - self._lines[line - 1] + 1

    def offset(self, path: Path) -> int:
        """The character offset of the value at `path`, or of its nearest enclosing value."""
        here = skip(self.text, 0)
        for step in path:
            found = self._members(here).get(step)
            if found is None:
                break
            here = found
        return here

    def _members(self, here: int) -> dict[str | int, int]:
        """Offsets of the values inside of the object or list at `here`. Of a repeated key the last one, as in parsing."""
        known = self._inside.get(here)
        if known is None:
            mark = self.text[here : here + 1]
            pairs = ((key, value) for key, _, value in members(self.text, here)) if mark == "{" else enumerate(elements(self.text, here))
            known = self._inside[here] = dict(pairs) if mark in ("{", "[") else {}
        return known


def locate(text: str, path: Path) -> tuple[int, int]:
    """Line and column (1-based) of the value at `path`; of the nearest enclosing thing that is there otherwise."""
    return Positions(text).locate(path)


def line_column(text: str, index: int) -> tuple[int, int]:
    """Line and column (1-based) of a character offset."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def repeated_keys(text: str) -> Iterator[tuple[Path, int]]:
    """(path, offset) of every key that stands in its object a second time or more, in file order."""
    stack: list[tuple[Path, Iterator[tuple[str | int, int, int]], set[str | int]]] = []

    def enter(path: Path, at: int) -> None:
        if text[at] == "{":
            stack.append((path, members(text, at), set()))
        elif text[at] == "[":
            stack.append((path, ((number, -1, value) for number, value in enumerate(elements(text, at))), set()))

    enter((), skip(text, 0))
    while stack:
        path, inside, seen = stack[-1]
        key, at, value = next(inside, (None, 0, 0))
        if key is None:
            stack.pop()
            continue
        if key in seen:
            yield (*path, key), at
        seen.add(key)
        enter((*path, key), value)


def constant(text: str) -> int:
    """The offset of the first NaN or Infinity, which Python reads but JSON has not; -1 if there is none."""
    return next((match.start() for match in _CONSTANT.finditer(text) if match.group(1)), -1)


def skip(text: str, index: int) -> int:
    """The first offset from `index` on that is no white space."""
    return _SPACE.match(text, index).end()  # type: ignore[union-attr]


def members(text: str, here: int) -> Iterator[tuple[str, int, int]]:
    """(key, offset of the key, offset of the value) of each member of the object at `here`."""
    index = skip(text, here + 1)
    while text[index] == '"':
        key, after = scanstring(text, index + 1, False)
        value = skip(text, skip(text, after) + 1)
        yield key, index, value
        index = skip(text, _DECODER.raw_decode(text, value)[1])
        if text[index] != ",":
            return
        index = skip(text, index + 1)


def elements(text: str, here: int) -> Iterator[int]:
    """The offset of each item of the list at `here`."""
    index = skip(text, here + 1)
    while text[index] != "]":
        yield index
        index = skip(text, _DECODER.raw_decode(text, index)[1])
        if text[index] == ",":
            index = skip(text, index + 1)
