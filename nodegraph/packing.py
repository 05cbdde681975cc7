"""A value ↔ bytes: a msgpack head and aligned raw buffers. Never pickle.

A packed record is: magic, the length of the head, the head, and the buffers, each at a multiple of 64 bytes. The head holds the
structure of the value; in it a list is `["l", …]`, an array `["a", dtype, shape, offset, length]`, one that must come back as a
tensor of torch `["t", …]`, a value with parts `["v", type, meta, arrays]`, and an int beyond 64 bits `["i", hexadecimal]`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgpack

from nodegraph import arrays, kinds

MAGIC = b"NGv1"
ALIGN = 64


class Unpackable(TypeError):
    """A value has no form on disk: its class has no `parts` and `from_parts`, or is not known."""


class Packed:
    """A value taken apart: the head and the buffers behind it. Buffers share memory with the value."""

    def __init__(self, value: Any):
        self.buffers: list[memoryview] = []
        self._offset = self._end = 0
        self.head = msgpack.packb(self._encode(value), use_bin_type=True, unicode_errors="surrogatepass")

    @property
    def size(self) -> int:
        """Bytes of the whole record."""
        start = len(MAGIC) + 8 + len(self.head)
        return _aligned(start) + self._end if self.buffers else start

    def chunks(self) -> Iterable[bytes | memoryview]:
        """What is to be written, in order."""
        yield MAGIC + len(self.head).to_bytes(8, "little") + self.head
        written = len(MAGIC) + 8 + len(self.head)
        for buffer in self.buffers:
            yield bytes(_aligned(written) - written)
            yield buffer
            written = _aligned(written) + len(buffer)

    def _encode(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | float | str | bytes):
            return value
        if isinstance(value, int):
            return value if -(1 << 63) <= value < (1 << 64) else ["i", f"{value:x}"]
        if isinstance(value, list | tuple):
            return ["l", *map(self._encode, value)]
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise Unpackable("only objects with text keys can be stored")
            return {key: self._encode(item) for key, item in value.items()}
        if arrays.is_array(value):
            return ["t" if arrays.is_torch(value) else "a", *self._encode_array(value)[1:]]
        name = kinds.NAMES.get(type(value))
        if name is None or not hasattr(value, "parts"):
            raise Unpackable(f"a {type(value).__name__} has no form on disk; give the class parts() and from_parts()")
        meta, named = value.parts()
        return ["v", name, self._encode(meta), {key: self._encode_array(array) for key, array in named.items()}]

    def _encode_array(self, array: Any) -> list[Any]:
        if not arrays.is_plain(array):
            raise Unpackable(f"a {type(array).__name__} of {arrays.dtype_name(array)} has no form on disk; give it as another value")
        buffer = arrays.raw(array)
        offset = self._offset
        self.buffers.append(buffer)
        self._end = offset + len(buffer)
        self._offset = _aligned(self._end)
        return ["a", arrays.dtype_name(array), list(array.shape), offset, len(buffer)]


def unpack(data: memoryview) -> Any:
    """The value of a packed record. Arrays are views into `data`. Raises ValueError when the record is damaged."""
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise ValueError("no packed record")
    length = int.from_bytes(data[len(MAGIC) : len(MAGIC) + 8], "little")
    start = len(MAGIC) + 8 + length
    head = msgpack.unpackb(data[len(MAGIC) + 8 : start], raw=False, strict_map_key=False, unicode_errors="surrogatepass")
    return _decode(head, data[_aligned(start) :])


def _decode(node: Any, body: memoryview) -> Any:
    if isinstance(node, dict):
        return {key: _decode(item, body) for key, item in node.items()}
    if not isinstance(node, list):
        return node
    tag, *rest = node
    if tag == "l":
        return [_decode(item, body) for item in rest]
    if tag == "i":
        return int(rest[0], 16)
    if tag in ("a", "t"):
        dtype, shape, offset, length = rest
        found = arrays.from_raw(body[offset : offset + length], dtype, tuple(shape))
        return arrays.tensor(found) if tag == "t" else found
    if tag == "v":
        name, meta, named = rest
        cls: Any = kinds.class_of(name)
        if cls is None:
            raise Unpackable(f"the type {name!r} is not known here")
        return cls.from_parts(_decode(meta, body), {key: _decode(array, body) for key, array in named.items()})
    raise ValueError(f"unknown tag {tag!r} in a packed record")


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN
