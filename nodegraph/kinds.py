"""What the engine must know of the values of each port type: size, storages, content digest, packing, freshness.

These belong to the type of a value, never to nodes. A class takes part by having `parts() -> (meta, arrays)` and
`from_parts(meta, arrays)`; `still_valid()` if it stands for something outside.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from nodegraph import arrays, keys, types
from nodegraph.handles import Handle, ModelRef
from nodegraph.secret import Secret
from nodegraph.types import Type
from nodegraph.values import Audio, File, Image, Mask, Rng, Video, builtin_names

NAMES: MutableMapping[type, str] = weakref.WeakKeyDictionary(builtin_names())
"""Class → port type name. A pack's class of before a reload goes with the last value of it, or its module would stay with all it holds."""
CLASSES: dict[str, type] = {name: cls for cls, name in NAMES.items()}
"""Port type name → class, packs' own classes included (they are added when their module is really imported)."""
find_class: list[Callable[[str], None]] = []
"""Called with `pack/Name` when a stored value of that class is met: each may import the pack, which registers the class."""
CONTENT = (Rng, File, Handle, ModelRef, Secret)
"""Classes whose values enter keys by content: small, or standing for something outside."""
OUTSIDE = (File, Handle)
"""Classes whose values stand for something outside and may stop being valid."""
_SAMPLED = (Image, Mask, Audio, Video)
"""Classes whose numbers have a scale."""
_PLAIN_CLASSES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (float, int), "bool": (bool,), "text": (str,)}


def register(cls: type, name: str, newest: bool = True) -> None:
    """Let a pack's own class be the port type `name` (`pack/Name`). One that is not the newest of that name is still of the type,
    but stored values do not become it."""
    NAMES[cls] = name
    if newest or name not in CLASSES:
        CLASSES[name] = cls


def class_of(name: str) -> type | None:
    """The class of a port type name; imports the pack it is from if need be."""
    if name not in CLASSES:
        for find in find_class:
            find(name)
    return CLASSES.get(name)


def has_content_identity(value: Any) -> bool:
    """Whether a value enters keys by content: plain data, Rng, File, handles, and lists and records of these."""
    if isinstance(value, list | tuple):
        return all(map(has_content_identity, value))
    if isinstance(value, dict):
        return all(map(has_content_identity, value.values()))
    return value is None or isinstance(value, (bool, int, float, str, bytes, *CONTENT))


def content(value: Any) -> bytes:
    """The content identity of any value; reads all of its bytes."""
    try:
        return keys.identity(value)
    except TypeError:
        return keys.digest(b"content", _content_bytes(value))


def _content_bytes(value: Any) -> bytes:
    if isinstance(value, File):
        return b"F" + value.digest
    if callable(own := getattr(value, "digest", None)):
        return b"H" + name_of(type(value)).encode() + own()
    if isinstance(value, list | tuple):
        return b"L" + b"".join(_sized(_content_bytes(item)) for item in value)
    if isinstance(value, dict):
        return b"D" + b"".join(_sized(keys.canonical(key)) + _sized(_content_bytes(value[key])) for key in sorted(value))
    if arrays.is_array(value):
        if not arrays.is_torch(value) and (not arrays.is_ndarray(value) or value.dtype.hasobject):
            raise TypeError(
                f"a {type(value).__name__} of {arrays.dtype_name(value)} has no content identity; give a plain array of numbers"
            )
        return b"A" + keys.digest(b"array", arrays.dtype_name(value).encode(), repr(tuple(value.shape)).encode(), arrays.raw(value))  # type: ignore[arg-type]
    if hasattr(value, "parts"):
        meta, named = value.parts()
        inner = b"".join(_sized(name.encode()) + _sized(_content_bytes(named[name])) for name in sorted(named))
        return b"V" + name_of(type(value)).encode() + keys.canonical(meta) + inner
    try:
        return b"P" + keys.canonical(value)
    except TypeError as error:
        raise TypeError(f"a {type(value).__name__} has no content identity; give the class parts() and from_parts()") from error


def _sized(raw: bytes) -> bytes:
    return len(raw).to_bytes(8, "little") + raw


def name_of(cls: type) -> str:
    """The port type name of a class, or its Python name if it is none."""
    return NAMES.get(cls) or (types.PLAIN[cls].name if cls in types.PLAIN else cls.__qualname__)


def arrays_in(value: Any) -> Iterator[Any]:
    """Every array inside of a value, through lists and records."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from arrays_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from arrays_in(item)
    elif arrays.is_array(value):
        yield value
    elif hasattr(value, "parts") and not isinstance(value, type):
        yield from value.parts()[1].values()


def outside_in(value: Any) -> Iterator[Any]:
    """Every value inside that stands for something outside."""
    if isinstance(value, OUTSIDE):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from outside_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from outside_in(item)


def plain_bytes(value: Any) -> int:
    """A cheap estimate of the host bytes of what is not an array."""
    kind = type(value)
    if kind is int or kind is float or kind is bool or value is None:
        return 32
    if isinstance(value, str | bytes):
        return 64 + len(value)
    if isinstance(value, list | tuple):
        return 64 + sum(map(plain_bytes, value))
    if isinstance(value, dict):
        return 128 + sum(64 + plain_bytes(item) for item in value.values())
    if isinstance(value, Rng):
        return sum(map(len, value.states))
    return 512


def conforms(kind: Type, value: Any) -> bool:
    """Whether a value is of a declared type. Classes of packs are compared by name."""
    if kind is types.INT:
        return type(value) is int
    if kind is types.ANY or kind.kind == "var":
        return True
    if kind.kind == "union":
        return any(conforms(member, value) for member in kind.args)
    if kind.kind == "list":
        return isinstance(value, list | tuple) and all(conforms(kind.args[0], item) for item in value)
    if kind is types.NONE:
        return value is None
    if kind is types.BOOL:
        return type(value) is bool
    if kind is types.JSON:
        return is_json(value)
    if kind is types.SEED:
        return type(value) is int or isinstance(value, Rng) or (isinstance(value, list) and all(type(k) is int for k in value))
    if kind.name in _PLAIN_CLASSES:
        return isinstance(value, _PLAIN_CLASSES[kind.name]) and not isinstance(value, bool)
    cls = CLASSES.get(kind.name)
    if cls is None:
        return type(value).__name__ == kind.name.rpartition("/")[2]
    return isinstance(value, cls) or NAMES.get(type(value)) == kind.name  # another version of a pack's class


def wrong_numbers(value: Any) -> tuple[str, str] | None:
    """What is wrong with the numbers of pictures and sound, also in a list, and a fix; None if nothing is.

    Pixels a little outside of 0..1 are cut where they are written. Further out than the whole range they are of another scale.
    """
    if isinstance(value, list):
        return next(filter(None, map(wrong_numbers, value)), None)
    if not isinstance(value, _SAMPLED) or 0 in value.data.shape:
        return None
    if not isinstance(value, Audio) and arrays.surely_within(value.data, 2):
        return None
    least, most = arrays.extent(value.data)
    if not (math.isfinite(least) and math.isfinite(most)):
        return "values that are no numbers, or infinite", "look for a division by zero, or use float32 in place of half precision"
    if isinstance(value, Audio) or (least >= -1 and most <= 2):
        return None
    fix = "divide them by 255" if least >= 0 and most <= 255 else "bring them to 0..1"
    return f"values from {least:g} to {most:g}, but black is 0 and white is 1", fix


def is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float | str)


def apart(value: Any) -> Any:
    """The value with copies of all lists, objects and arrays that it is made of: whoever has the one may change it without the other."""
    kind = type(value)
    if kind is int or kind is float or kind is str or kind is bool:
        return value
    if kind is list or kind is tuple:
        return kind(map(apart, value))
    if kind is dict:
        return {key: apart(item) for key, item in value.items()}
    return arrays.copied(value.detach() if hasattr(value, "detach") else value) if arrays.is_array(value) else value


def in_words(value: Any) -> str:
    """An object's own text; what it is where it has none but that of all objects, which tells of a place in memory."""
    own = any("__repr__" in cls.__dict__ or "__str__" in cls.__dict__ for cls in type(value).__mro__[:-1])
    return str(value) if own else describe(value)


def describe(value: Any) -> str:
    """A value in a few words, for messages."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return repr(value) if len(value) <= 60 else repr(value[:57]) + "…"
    if isinstance(value, int | float):
        return str(value) if isinstance(value, float) or value.bit_length() < 200 else f"a number of {value.bit_length()} bits"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    name = name_of(type(value))
    if type(value).__module__ == "numpy":  # it has a bool and a str of its own
        name = f"numpy.{name}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
