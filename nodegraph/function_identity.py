"""The identity of a function that is in no pack: the source of its module, and all that it refers to as that is in memory.

The source alone would not do: a file may have changed since it was imported, what is typed in has none, and one line of source makes
many closures. What the code names is followed: closures, defaults, globals, functions and classes of a program's own, constants in
containers, arrays. Of what is installed, and of objects that are no data, such as clients and locks, the name alone counts. So it does of
lists, dicts and other objects that lie in the globals of a file: what the file makes them is its source, and what becomes of them later
is state of the program, as are names that the code itself binds anew: a node that counts its calls is the same node after them.
"""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import datetime
import decimal
import dis
import enum
import fractions
import functools
import inspect
import os
import pathlib
import re
import sys
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from nodegraph import arrays, keys, kinds
from nodegraph.secret import Secret

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), range)
_PRINTED = (
    *(bytearray, pathlib.PurePath, re.Pattern, decimal.Decimal, fractions.Fraction, uuid.UUID),
    *(datetime.date, datetime.time, datetime.timedelta),
)
"""Data of the standard library that `repr` tells all of."""
_LISTS, _SETS, _MAPPINGS = (list, tuple, collections.deque), (set, frozenset), (dict, types.MappingProxyType)
_WRAPPERS: dict[type, tuple[str, ...]] = {
    types.MethodType: ("__func__", "__self__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset"),
    functools.cached_property: ("func",),
    functools.partial: ("func", "args", "keywords"),
    type(functools.cache(len)): ("__wrapped__",),
}
_CODE = ("co_code", "co_consts", "co_names", "co_varnames", "co_freevars", "co_argcount", "co_kwonlyargcount", "co_flags")
_DEFINED, _FIXED = (types.FunctionType, type, types.ModuleType), (tuple, frozenset, enum.Enum, *_WRAPPERS)
_NAMING, _BINDING = ("LOAD_GLOBAL", "LOAD_NAME"), ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF", "DELETE_DEREF")
_INSTALLED = ("site-packages", "dist-packages")


def identity_of(function: Callable[..., Any]) -> str:
    """The digest of a function with what it refers to, the same in every process that would compute the same by it."""
    hasher = keys.hasher(b"code")
    for part in (_source(inspect.getmodule(function) or function), *_parts(function)):
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class _State:
    """What the globals of a module with source hold: what is changed there once it is made is state of the program, not code."""

    held: Any


def _source(module: Any) -> bytes:
    try:
        return inspect.getsource(module).encode("utf-8", "surrogatepass")
    except (OSError, TypeError, SyntaxError):  # it was typed in, or its file is gone
        return b""


def _parts(root: Any) -> Iterator[bytes]:
    """All that is reached from a function, each object once, without recursion however deep it lies."""
    seen: dict[tuple[int, bool], tuple[int, Any]] = {}  # with the objects, so that none of them is another's by the same address
    stack = [root]
    while stack:
        one = stack.pop()
        if state := type(one) is _State:
            one = one.held
        if issubclass(type(one), _PLAIN):
            yield f"{type(one).__name__} {one!r}".encode("utf-8", "surrogatepass")
        elif (id(one), state) in seen:
            yield b"seen %d" % seen[id(one), state][0]
        else:
            seen[id(one), state] = len(seen), one
            fixed = not state or issubclass(type(one), (*_DEFINED, *_FIXED, *_PRINTED))
            told, behind = _taken_apart(one, whole=one is root) if fixed else (type(one).__qualname__, [])
            if state and not issubclass(type(one), _DEFINED):
                behind = [_State(part) for part in behind]
            yield f"{told} {len(behind)}".encode("utf-8", "surrogatepass")
            stack += reversed(behind)


def _taken_apart(one: Any, whole: bool) -> tuple[str, list[Any]]:
    """What to call an object, and what it is made of. `whole`: also if it is installed."""
    kind = type(one)  # `isinstance` would ask the object, and some are stand-ins that refuse to say what for
    name = kind.__qualname__
    if issubclass(kind, types.CodeType):
        return name, [getattr(one, part) for part in _CODE]
    if issubclass(kind, types.ModuleType):
        return f"module {one.__name__}", []
    if issubclass(kind, types.FunctionType | type):
        if not whole and _installed(one):
            return f"{one.__module__}.{one.__qualname__}", []
        return f"{name} {one.__qualname__}", _of_class(one) if issubclass(kind, type) else _of_function(one)
    for wrapper, parts in _WRAPPERS.items():
        if issubclass(kind, wrapper):
            return name, [getattr(one, part) for part in parts]
    if issubclass(kind, enum.Enum):
        return one.name, [kind, one.value]
    if issubclass(kind, _PRINTED):
        return f"{name} {one!r}", []
    if issubclass(kind, _SETS):
        return name, sorted(one, key=lambda item: (type(item).__qualname__, repr(item)))
    if issubclass(kind, _MAPPINGS):
        return name, [part for item in list(one.items()) for part in item]
    if issubclass(kind, _LISTS):
        return name, list(one)
    if kind.__module__.startswith(("numpy", "torch")) and arrays.is_array(one):
        return f"{name} {arrays.dtype_name(one)} {tuple(one.shape)}", [bytes(arrays.raw(one)) if arrays.is_plain(one) else one.tolist()]
    if hasattr(kind, "tobytes"):  # a number of numpy, a picture of PIL
        return name, [*(str(getattr(one, fact, "")) for fact in ("dtype", "mode", "size")), one.tobytes()]
    if kind in kinds.NAMES:
        return name, [one.digest()] if kind is Secret else list(one.parts())
    if _installed(kind):
        return f"{kind.__module__}.{name}", []
    return "object", [kind, *_attributes(one)]


def _of_function(function: Any) -> list[Any]:
    codes = [function.__code__]
    for code in codes:
        codes += [one for one in code.co_consts if isinstance(one, types.CodeType)]
    steps = [(step.opname, step.argval) for code in codes for step in dis.get_instructions(code)]
    bound = {name for step, name in steps if step in _BINDING}  # counters, say
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    found: list[Any] = [function.__code__, function.__defaults__, function.__kwdefaults__]
    found += [_content(cell) for name, cell in cells if name not in bound]
    sourced = os.path.isfile(function.__code__.co_filename)
    for name in sorted({name for step, name in steps if step in _NAMING} & function.__globals__.keys() - bound):
        given = function.__globals__[name]
        found += [name, _State(given) if sourced else given]
        if isinstance(given, types.ModuleType) and not _installed(given):
            used = {attribute for code in codes for attribute in code.co_names} & vars(given).keys()
            found += [part for attribute in sorted(used) for part in (attribute, vars(given)[attribute])]
    return found


def _of_class(kind: type) -> list[Any]:
    """Its bases and what its body says; not what Python adds to that."""
    methods = (types.FunctionType, staticmethod, classmethod)
    said = {name: one for name, one in vars(kind).items() if isinstance(one, methods) or not name.startswith("_")}
    return [*kind.__bases__, *(part for name in sorted(said) for part in (name, said[name]))]


def _attributes(one: Any) -> list[Any]:
    """The attributes of an object with their names, in slots too."""
    slots: list[str] = copyreg._slotnames(type(one))  # type: ignore[attr-defined]
    found = {**{name: getattr(one, name) for name in slots if hasattr(one, name)}, **getattr(one, "__dict__", {})}
    return [part for item in found.items() for part in item]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty as yet
        return ...


def _installed(one: Any) -> bool:
    """Whether a function, class or module is of Python itself, of nodegraph, or installed as a distribution."""
    name = one.__name__ if isinstance(one, types.ModuleType) else one.__module__
    if not isinstance(name, str) or name == "__main__":  # of C code; the program itself
        return name != "__main__"
    root = name.partition(".")[0]
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return root in sys.stdlib_module_names or root == "nodegraph" or any(folder in pathlib.PurePath(file).parts for folder in _INSTALLED)


__all__ = ["identity_of"]
