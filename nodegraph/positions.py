"""Where in a JSON text something stands. Used only when there is a problem to show, so the hot path parses without it."""

from __future__ import annotations

import json
from json.decoder import scanstring  # type: ignore[attr-defined]

Path = tuple[str | int, ...]
_SPACE = " \t\n\r"
_DECODER = json.JSONDecoder(strict=False)


def locate(text: str, path: Path) -> tuple[int, int]:
    """Line and column (1-based) of the value at `path`; of the nearest enclosing thing that is there otherwise."""
    return line_column(text, offset(text, path))


def line_column(text: str, index: int) -> tuple[int, int]:
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def offset(text: str, path: Path) -> int:
    """The character offset of the value at `path`, or of its nearest enclosing value. The text is valid JSON."""
    here = _skip(text, 0)
    for step in path:
        found = _member(text, here, step) if text[here] == "{" else _element(text, here, step)
        if found < 0:
            break
        here = found
    return here


def key_offset(text: str, path: Path, nth: int = 0) -> int:
    """The offset of the nth occurrence of the last key of `path` in its object (duplicates come one after another)."""
    here = offset(text, path[:-1])
    for key, at, _ in _members(text, here):
        if key == path[-1]:
            if nth == 0:
                return at
            nth -= 1
    return here


def _skip(text: str, index: int) -> int:
    while index < len(text) and text[index] in _SPACE:
        index += 1
    return index


def _members(text: str, here: int):  # type: ignore[no-untyped-def]
    """(key, offset of the key, offset of the value) of each member of the object at `here`."""
    index = _skip(text, here + 1)
    while text[index] == '"':
        key, after = scanstring(text, index + 1, False)
        value = _skip(text, _skip(text, after) + 1)
        yield key, index, value
        index = _skip(text, _DECODER.raw_decode(text, value)[1])
        if text[index] != ",":
            return
        index = _skip(text, index + 1)


def _member(text: str, here: int, name: str | int) -> int:
    found = -1
    for key, _, value in _members(text, here):
        if key == name:
            found = value  # the last one wins, as in parsing
    return found


def _element(text: str, here: int, number: str | int) -> int:
    if text[here] != "[" or not isinstance(number, int):
        return -1
    index = _skip(text, here + 1)
    while text[index] != "]":
        if number == 0:
            return index
        number -= 1
        index = _skip(text, _DECODER.raw_decode(text, index)[1])
        if text[index] == ",":
            index = _skip(text, index + 1)
    return -1
