"""Where a port's value comes from in a plan, and how it enters keys.

A source is one of: a tuple (step, output); a `Const`; an `Item` of a list that is known when it
arrives; or a Python list of sources, which gives a list of their values.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from nodegraph import kinds

Source = Any

LENGTHS = [length.to_bytes(4, "little") for length in range(256)]
"""How the lengths of short identities stand in keys: that of a number, bool or text is one of them."""


class Const:
    """A value that is there before anything runs."""

    __slots__ = ("ident", "value")

    def __init__(self, value: Any, ident: bytes | None = None):
        self.value = value
        self.ident = kinds.content(value) if ident is None else ident


class Item:
    """One item of the list that another source gives."""

    __slots__ = ("index", "source")

    def __init__(self, source: Source, index: int):
        self.source, self.index = source, index


def part(port: str, ident: bytes) -> bytes:
    """A port with its identity, framed, as it stands in a key."""
    return port_bytes(port) + len(ident).to_bytes(4, "little") + ident


@lru_cache(maxsize=4096)
def port_bytes(port: str) -> bytes:
    """How a part of a key begins."""
    return port.encode() + b"\0"


def steps_in(source: Source) -> list[int]:
    """The steps that a source waits for, without recursion into what they wait for."""
    kind = source.__class__
    if kind is tuple:
        return [source[0]]
    if kind is Item:
        return steps_in(source.source)
    if kind is list:
        return [step for one in source for step in steps_in(one)]
    return []
