"""The identity of a function that is in no pack: the source of its module and of what that imports of a program's own, and all that it
refers to as that is in memory.

The source alone would not do: a file may have changed since it was imported, what is typed in has none, and one line of source makes
many closures. What the code names is followed: closures, defaults, globals, functions and classes of a program's own, constants in
containers, arrays, objects that can be pickled. Of what is installed, and of objects that are no data, such as clients and locks, the
name alone counts. So it does of lists, dicts and other objects that lie in the globals of a file: what the file makes them is its source,
and what becomes of them later is state of the program, as are names that the code itself binds anew: a node that counts its calls is the
same node after them.
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
import logging
import pathlib
import pickle
import re
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from nodegraph import arrays, keys, kinds, own_code
from nodegraph.secret import Secret

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), range)
_PRINTED = (
    *(bytearray, pathlib.PurePath, decimal.Decimal, fractions.Fraction, uuid.UUID),
    *(datetime.date, datetime.time, datetime.timedelta),
)
"""Data of the standard library that `repr` tells all of."""
_LISTS, _SETS, _MAPPINGS = (list, tuple, collections.deque), (set, frozenset), (dict, types.MappingProxyType)
_HIDDEN = ("default_factory", "maxlen")
"""What containers hold beside their items."""
_WRAPPERS: dict[type, tuple[str, ...]] = {
    types.MethodType: ("__func__", "__self__"),
    types.BuiltinFunctionType: ("__module__", "__qualname__", "__self__"),
    types.MethodWrapperType: ("__qualname__", "__self__"),
    types.MethodDescriptorType: ("__qualname__", "__objclass__"),
    types.WrapperDescriptorType: ("__qualname__", "__objclass__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset"),
    slice: ("start", "stop", "step"),
    re.Pattern: ("pattern", "flags"),
    functools.cached_property: ("func",),
    functools.partial: ("func", "args", "keywords"),
    type(functools.cache(len)): ("__wrapped__",),
}
_CODE = (
    *("co_code", "co_exceptiontable", "co_consts", "co_names", "co_varnames", "co_freevars", "co_argcount", "co_posonlyargcount"),
    *("co_kwonlyargcount", "co_flags"),
)
_DEFINED, _FIXED = (types.FunctionType, type, types.ModuleType), (tuple, frozenset, enum.Enum, *_PLAIN, *_PRINTED, *_WRAPPERS)
_CALLED = (types.FunctionType, type, types.MethodType, functools.partial)
_NAMING, _BINDING = ("LOAD_GLOBAL", "LOAD_NAME"), ("STORE_GLOBAL", "DELETE_GLOBAL")
_BINDING_CELLS = ("STORE_DEREF", "DELETE_DEREF")
_MADE = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: a class that a program has made."""


def identity_of(function: Callable[..., Any]) -> str:
    """The digest of a function with what it refers to, the same in every process that would compute the same by it."""
    modules: set[str] = set()
    parts = list(_parts(function, modules))
    hasher = keys.hasher(b"code")
    root = inspect.unwrap(getattr(function, "__func__", function))
    for part in (*own_code.sources(modules, own_code.of(root) if isinstance(root, types.FunctionType) else ""), *parts):
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class _State:
    """What the globals of a module with source hold: what is changed there once it is made is state of the program, not code."""

    held: Any


def _parts(root: Any, modules: set[str], flat: bool = False) -> Iterator[bytes]:
    """All that is reached from an object, each object once, without recursion however deep it lies. The names of modules whose source
    tells of it are added to `modules`. `flat`: without what is in sets, beyond plain values."""
    seen: dict[tuple[int, bool], tuple[int, Any]] = {}  # with the objects, so that none of them is another's by the same address
    stack = [root]
    while stack:
        one = stack.pop()
        if state := type(one) is _State:
            one = one.held
        kind = type(one)
        if kind in _PLAIN:
            yield _plainly(one)
        elif (id(one), state) in seen:
            yield b"seen %d" % seen[id(one), state][0]
        else:
            seen[id(one), state] = len(seen), one
            fixed = not state or issubclass(kind, (*_DEFINED, *_FIXED))
            told, behind = _taken_apart(one, modules, one is root, flat) if fixed else (kind.__qualname__, [])
            if state and not issubclass(kind, _DEFINED):
                behind = [_State(part) for part in behind]
            yield f"{told} {len(behind)}".encode("utf-8", "surrogatepass")
            stack += reversed(behind)


def _plainly(one: Any) -> bytes:
    """A plain value, exactly. An int of any length has a text in base 16."""
    kind = type(one)
    if kind is bytes:
        return b"bytes " + bytes(one)
    return f"{kind.__name__} {one:x}".encode() if kind is int else f"{kind.__name__} {one!r}".encode("utf-8", "surrogatepass")


def _taken_apart(one: Any, modules: set[str], whole: bool, flat: bool) -> tuple[str, list[Any]]:
    """What to call an object, and what it is made of. `whole`: also if it is installed."""
    kind = type(one)  # `isinstance` would ask the object, and some are stand-ins that refuse to say what for
    name = kind.__qualname__
    if issubclass(kind, types.CodeType):
        modules.update(_imported_by(one))
        return name, [getattr(one, part) for part in _CODE]
    if issubclass(kind, types.ModuleType):
        return f"module {one.__name__}", []
    if issubclass(kind, types.FunctionType | type):
        if not whole and _installed(one):
            return f"{one.__module__}.{one.__qualname__}", _held(one) if issubclass(kind, types.FunctionType) else []
        modules.add(own_code.of(one))
        return f"{name} {one.__qualname__}", _of_class(one) if issubclass(kind, type) else _of_function(one)
    for wrapper, parts in _WRAPPERS.items():
        if issubclass(kind, wrapper):
            return name, [getattr(one, part, None) for part in parts]
    if issubclass(kind, enum.Enum):
        return f"{one.name}", [kind, one.value]
    if (content := _content(one, flat)) is not None:
        more = [getattr(one, part) for part in _HIDDEN if hasattr(kind, part)]
        own = [] if kind in (*_LISTS, *_SETS, *_MAPPINGS) else [kind, *_attributes(one)]
        return name, [*own, *more, *content]
    if kind in kinds.NAMES:
        return name, [one.digest()] if kind is Secret else list(one.parts())
    if kind.__module__.startswith(("numpy", "torch")):
        if arrays.is_array(one):
            return name, [arrays.dtype_name(one), *_of_array(one)]
        if name == "ufunc":
            return f"{name} {one.__name__}", []
    if not _installed(kind):
        return "object", [kind, *_attributes(one)]
    return f"{kind.__module__}.{name}", _reduced(one)


def _content(one: Any, flat: bool) -> list[Any] | None:
    """The items of a container, or what a value of a subclass of a plain class is; None for others."""
    kind = type(one)
    if issubclass(kind, _SETS):
        return _members(one) if flat else sorted(one, key=_place) if len(one) > 1 else list(one)
    if issubclass(kind, _MAPPINGS):
        return [part for item in list(one.items()) for part in item]
    if issubclass(kind, _LISTS):
        return list(one)
    if issubclass(kind, _PRINTED):
        return [repr(one)]
    plain: Any = next((plain for plain in _PLAIN if issubclass(kind, plain)), None)
    return [plain.__repr__(one) if plain is not int else int(one)] if plain else None


def _place(item: Any) -> bytes:
    """Where an item of a set comes among the others: not by its hash, nor by its place in memory."""
    return keys.digest(b"item", *_parts(item, set(), flat=True))


def _members(one: Any) -> list[Any]:
    """What can be told of a set without following what is in it, which may lead back to it."""
    found = []
    for item in one:
        kind = type(item)
        found.append(
            _plainly(item)
            if kind in _PLAIN
            else b"".join(sorted(_members(item)))
            if issubclass(kind, frozenset)
            else kind.__qualname__.encode()
        )
    return sorted(found)


def _of_array(one: Any) -> list[Any]:
    """The shape of an array and the digest of its bytes; where it has none, what pickle makes of it."""
    if not arrays.is_plain(one):
        return [tuple(one.shape), one.tolist()]
    try:
        one = one.resolve_conj().resolve_neg() if arrays.is_torch(one) else one
        return [tuple(one.shape), keys.digest(b"array", arrays.raw(one))]  # type: ignore[arg-type]
    except (RuntimeError, NotImplementedError, TypeError):  # a sparse or a quantized one
        return _reduced(one)


def _of_function(function: Any) -> list[Any]:
    codes = [function.__code__]
    for code in codes:
        codes += [one for one in code.co_consts if isinstance(one, types.CodeType)]
    steps = [(step.opname, step.argval) for code in codes for step in dis.get_instructions(code)]
    bound = {name for step, name in steps if step in _BINDING}  # counters, say
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    rebound = _rebound(function.__code__)
    found: list[Any] = [function.__code__, function.__defaults__, function.__kwdefaults__]
    found += [_in_cell(cell) for name, cell in cells if name not in rebound]
    set_here = {name for step, name in steps if step == "STORE_ATTR"}
    found += [part for name, one in vars(function).items() if name not in set_here and not _is_dunder(name) for part in (name, one)]
    sourced = own_code.has_file(function)
    names = {name for code in codes for name in code.co_names}
    for name in sorted({name for step, name in steps if step in _NAMING} & function.__globals__.keys() - bound):
        given = function.__globals__[name]
        found += [name, _State(given) if sourced else given]
        found += _of_module(given, names)
    return found


def _rebound(code: types.CodeType) -> set[str]:
    """The free variables of code that it, or code in it, binds anew. One that code in it has of its own may have the same name."""
    found: set[str] = set()
    stack = [(code, set(code.co_freevars))]
    while stack:
        one, free = stack.pop()
        found |= {step.argval for step in dis.get_instructions(one) if step.opname in _BINDING_CELLS and step.argval in free}
        inside = free - set(one.co_cellvars)
        stack += [(part, inside & set(part.co_freevars)) for part in one.co_consts if isinstance(part, types.CodeType)]
    return found


def _of_module(given: Any, names: set[str]) -> list[Any]:
    """What code that uses these names may use of a module of the program's own, and of the modules in it."""
    found: list[Any] = []
    stack, seen = [given], set()
    while stack:
        one = stack.pop()
        if not issubclass(type(one), types.ModuleType) or id(one) in seen or _installed(one):
            continue
        seen.add(id(one))
        inside = vars(one)
        for name in sorted(names & inside.keys()):
            found += [name, inside[name]]
            stack.append(inside[name])
    return found


def _imported_by(code: types.CodeType) -> Iterator[str]:
    """The modules that code imports when it runs."""
    base = ""
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            base = step.argval
            yield base
        elif step.opname == "IMPORT_FROM":
            yield f"{base}.{step.argval}"


def _of_class(kind: type) -> list[Any]:
    """Its bases and what its body says; not what Python adds to that."""
    methods = (types.FunctionType, staticmethod, classmethod)
    said = {name: one for name, one in vars(kind).items() if isinstance(one, methods) or not _is_dunder(name)}
    private = _State if own_code.has_file(kind) else lambda one: one  # it holds caches, say
    found: list[Any] = [type(kind), *kind.__bases__]
    for name in sorted(said):
        found += [name, private(said[name]) if name.startswith("_") and not _is_dunder(name) else said[name]]
    return found


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _attributes(one: Any) -> list[Any]:
    """The attributes of an object with their names, in slots too."""
    slots: list[str] = copyreg._slotnames(type(one)) if not _installed(type(one)) else []  # type: ignore[attr-defined]
    found = {**{name: getattr(one, name) for name in slots if hasattr(one, name)}, **getattr(one, "__dict__", {})}
    return [part for item in found.items() for part in item]


def _held(function: Any) -> list[Any]:
    """What an installed function has been given to call: a decorator makes such functions."""
    given = [_in_cell(cell) for cell in function.__closure__ or ()]
    return [one for one in given if issubclass(type(one), _CALLED)]


def _in_cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty as yet
        return ...


def _installed(one: Any) -> bool:
    """Whether a function, class or module is of Python itself, of nodegraph, or installed as a distribution. What wraps a function has
    the name of that one's module; what `exec` makes may have none, or that of builtins."""
    if issubclass(type(one), types.FunctionType):
        name = one.__globals__.get("__name__")
        return name is not None and own_code.is_installed(name) and own_code.is_installed(one.__module__)
    if issubclass(type(one), types.ModuleType):
        return own_code.is_installed(one.__name__)
    return own_code.is_installed(one.__module__) and not (one.__module__ == "builtins" and one.__flags__ & _MADE)


# -- objects of installed classes --------------------------------------------------------------------------------------


class _Reducer(pickle.Pickler):
    """Pickles an object of an installed class into a digest; `behind` are objects in it that are not to be told by their pickle."""

    def __init__(self, root: Any):
        self.root, self.behind = root, list[Any]()
        self.hasher = keys.hasher(b"pickle")
        super().__init__(self, protocol=4)

    def write(self, data: Any) -> None:
        self.hasher.update(data)

    def persistent_id(self, one: Any) -> int | None:
        kind = type(one)
        if one is self.root or kind in _PLAIN or kind in (list, tuple, dict):
            return None
        if issubclass(kind, types.FunctionType | type):
            if _installed(one):
                return None
        elif not (issubclass(kind, (*_SETS, *_WRAPPERS)) or kind in kinds.NAMES or arrays.is_array(one) or not _installed(kind)):
            return None
        self.behind.append(one)
        return len(self.behind)


def _reduced(one: Any) -> list[Any]:
    """What pickle makes of data. What it cannot take is none: a lock, a file, a connection."""
    if issubclass(type(one), logging.Logger):
        return []
    reducer = _Reducer(one)
    try:
        reducer.dump(one)
    except Exception:  # whatever the class of another says of it
        return []
    return [reducer.hasher.digest(), *reducer.behind]


__all__ = ["identity_of"]
