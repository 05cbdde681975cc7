"""Canonical bytes and digests: pure functions, tagged by domain, pinned by golden digests in the tests.

Every digest is BLAKE2b-160. A domain tag keeps digests of different meaning apart (a text never collides with a file of
the same bytes).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

SIZE = 20
"""Bytes of a digest."""
_SHORT_INT = 1 << 120
SHORT = 40
"""Canonical bytes up to this length stand for themselves; longer ones by their digest."""


def digest(domain: bytes, *parts: bytes) -> bytes:
    """The digest of the parts, each with its length, under a domain tag of at most 16 bytes."""
    hasher = blake2b(digest_size=SIZE, person=domain)
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.digest()


def hasher(domain: bytes) -> blake2b:
    """An incremental hasher of the same size and domain rules as `digest`."""
    return blake2b(digest_size=SIZE, person=domain)


def file_digest(path: Path, chunk: int = 1 << 22) -> bytes:
    """The digest of a file's bytes."""
    import hashlib

    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, lambda: hasher(b"file")).digest()


def canonical(value: Any) -> bytes:
    """The canonical bytes of a JSON-like value: None, bool, int, float, str, bytes, list, tuple, dict with str keys.

    Types never collide (`1`, `1.0`, `true` and `"1"` differ); every NaN is one value; -0.0 is not 0.0; dict order does
    not matter. Raises TypeError for anything else.
    """
    kind = type(value)
    if kind is str:
        raw = value.encode("utf-8", "surrogatepass")
        return b"s%d:%b" % (len(raw), raw)
    if kind is int:
        return b"i%x;" % value
    if kind is float:
        return b"d" + (b"\x7f\xf8\0\0\0\0\0\0" if math.isnan(value) else struct.pack(">d", value))
    if value is None:
        return b"n"
    if kind is bool:
        return b"t" if value else b"f"
    if kind is bytes:
        return b"b%d:%b" % (len(value), value)
    return _canonical_nested(value)


def _canonical_nested(value: Any) -> bytes:
    if isinstance(value, list | tuple):
        return b"l%d:%b" % (len(value), b"".join(map(canonical, value)))
    if isinstance(value, dict):
        items = sorted((canonical(_text_key(key)), canonical(item)) for key, item in value.items())
        return b"m%d:%b" % (len(items), b"".join(key + item for key, item in items))
    for plain in (bool, int, float, str):  # subclasses, such as numpy.float64 or an enum of strings
        if isinstance(value, plain):
            return canonical(plain(value))
    raise TypeError(f"{type(value).__name__} has no canonical bytes")


def _text_key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key must be text, not {type(key).__name__}")
    return key


def short(domain: bytes, raw: bytes) -> bytes:
    """An identity for canonical bytes: themselves if short, otherwise their digest. The two never collide."""
    return b"=" + raw if len(raw) <= SHORT else b"#" + digest(domain, raw)


def identity(value: Any) -> bytes:
    """The content identity of a JSON-like value."""
    if value.__class__ is int and -_SHORT_INT < value < _SHORT_INT:
        return b"=i%x;" % value  # what the line below gives, for the commonest value in a third of the time
    return short(b"value", canonical(value))


def merkle(domain: bytes, named: Iterable[tuple[str, bytes]]) -> bytes:
    """The digest of named parts in the order of their names: a folder from its files."""
    return digest(domain, *(part for name, raw in sorted(named) for part in (name.encode(), raw)))
