"""Type expressions of ports, how they are spelled, and which links they allow.

A type is a name (`int`, `image`, `pack/Name`) or one of `list[T]`, `T | U`, `any`, a type variable (`T`). Optional is the
union with `none`. Types are interned: equal types are the same object, so that the common check is one comparison.
"""

from __future__ import annotations

import types as python_types
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, Union


@dataclass(frozen=True, slots=True, eq=False)
class Type:
    """A type expression. Make one with `named`, `list_of`, `union` or `parse`; compare with `is`."""

    kind: str  # name, list, union, any, var
    name: str = ""
    args: tuple[Type, ...] = ()

    def __str__(self) -> str:
        if self.kind == "list":
            return f"list[{self.args[0]}]"
        if self.kind == "union":
            return " | ".join(map(str, self.args))
        return self.name

    __repr__ = __str__

    @property
    def optional(self) -> bool:
        return self is NONE or (self.kind == "union" and NONE in self.args)


@cache
def _make(kind: str, name: str, args: tuple[Type, ...]) -> Type:
    return Type(kind, name, args)


def named(name: str) -> Type:
    return ANY if name == "any" else _make("name", name, ())


def variable(name: str) -> Type:
    return _make("var", name, ())


def list_of(item: Type) -> Type:
    return _make("list", "list", (item,))


def union(members: typing.Iterable[Type]) -> Type:
    """The union, flattened, without repeats, `none` last; a union with `any` is `any`."""
    flat: dict[Type, None] = {}
    for member in members:
        flat.update(dict.fromkeys(member.args if member.kind == "union" else (member,)))
    if ANY in flat:
        return ANY
    if NONE in flat:
        del flat[NONE]
        flat[NONE] = None
    return next(iter(flat)) if len(flat) == 1 else _make("union", "union", tuple(flat))


def without_none(kind: Type) -> Type:
    return union(member for member in kind.args if member is not NONE) if kind.kind == "union" else kind


ANY = _make("any", "any", ())
INT, FLOAT, BOOL, TEXT, JSON, NONE = (_make("name", name, ()) for name in ("int", "float", "bool", "text", "json", "none"))
SEED, FILE, MODEL, WORKFLOW, RNG, SECRET = (_make("name", name, ()) for name in ("seed", "file", "model", "workflow", "rng", "secret"))
_INTS = list_of(INT)
PLAIN: dict[type, Type] = {int: INT, float: FLOAT, bool: BOOL, str: TEXT, type(None): NONE}
"""Python's own classes that are port types."""


def parse(text: str) -> Type:
    """The type that `text` spells. Raises ValueError with the reason."""
    parts = _split(text.strip(), "|")
    if len(parts) > 1:
        return union(parse(part) for part in parts)
    word = parts[0]
    if word.startswith("list[") and word.endswith("]"):
        return list_of(parse(word[5:-1]))
    if word == "list":
        return list_of(ANY)
    if not word or not word.replace("/", "").replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"{text!r} is no type; types are spelled like 'int', 'list[image]', 'text | none'")
    return variable(word) if len(word) == 1 and word.isupper() else named(word)


def _split(text: str, mark: str) -> list[str]:
    """Split at a mark outside of brackets."""
    parts, depth, start = [], 0, 0
    for index, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if char == mark and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    return [*parts, text[start:].strip()]


def of_annotation(annotation: Any, name_of: typing.Callable[[type], str | None]) -> Type:
    """The type of a Python annotation. `name_of` gives the port type name of a class, or None if it is none.

    Raises ValueError with the annotation's own spelling when it cannot be a port type.
    """
    if annotation is Any:
        return ANY
    if isinstance(annotation, TypeVar):
        return variable(annotation.__name__)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return of_annotation(args[0], name_of)
    if origin in (Union, python_types.UnionType):
        return union(of_annotation(arg, name_of) for arg in args)
    if origin is typing.Literal:
        return union(PLAIN[type(arg)] for arg in args)
    if annotation is list or origin is list:
        return list_of(of_annotation(args[0], name_of) if args else ANY)
    if annotation is None:
        return NONE
    if isinstance(annotation, type) and annotation in PLAIN:
        return PLAIN[annotation]
    if isinstance(annotation, type) and (name := name_of(annotation)):
        return named(name)
    raise ValueError(f"{getattr(annotation, '__name__', annotation)!s} is no port type")


Bindings = dict[str, Type]


def accepts(target: Type, source: Type, bound: Bindings) -> bool:
    """Whether a link from `source` may feed `target`. Type variables of `target` are bound in `bound` as they are met.

    The only widening is int → float. A source union must be wholly accepted. `any` accepts all and gives all (it is checked when
    the value is there). A variable keeps the type it met first; int widens to float, and T to `T | none`; nothing else does.
    """
    if target is source or target is ANY:
        return True
    if target.kind == "var":
        return _bind(target.name, source, bound)
    if source is ANY:
        for name in variables(target):
            bound[name] = ANY
        return True
    if target.kind == "union":
        return _accepts_union(target, source, bound)
    if source.kind == "union":
        return all(accepts(target, member, bound) for member in source.args)
    if target.kind == "list" and source.kind == "list":
        return accepts(target.args[0], source.args[0], bound)
    if target is SEED:
        return source in (INT, RNG, _INTS)
    return (target is FLOAT and source is INT) or (target is JSON and is_json(source))


def _bind(name: str, source: Type, bound: Bindings) -> bool:
    known = bound.setdefault(name, source)
    if known is source:
        return True
    if known is ANY or source is ANY:
        bound[name] = ANY
        return True
    if accepts(known, source, {}):
        return True
    if accepts(source, known, {}) or NONE in (known, source):
        bound[name] = source if NONE not in (known, source) else union((known, source))
        return True
    return False


def _accepts_union(target: Type, source: Type, bound: Bindings) -> bool:
    """Concrete members first, so that `T | none` does not bind T to none; what is left of the source goes to a variable."""
    concrete = [member for member in target.args if member.kind != "var"]
    variable = next((member for member in target.args if member.kind == "var"), None)
    members = source.args if source.kind == "union" else (source,)
    left = [one for one in members if not any(accepts(member, one, bound) for member in concrete)]
    return not left or (variable is not None and accepts(variable, union(left), bound))


def widens(kind: Type) -> bool:
    """Whether a value of this type has floats for the ints that a link gives it: there is room for floats, and none for ints."""
    leaves = names(kind)
    return "float" in leaves and not {"int", "json", "seed"}.intersection(leaves) and not has_variables(kind)


def is_json(kind: Type) -> bool:
    if kind.kind in ("list", "union"):
        return all(is_json(arg) for arg in kind.args)
    return kind in (INT, FLOAT, BOOL, TEXT, NONE, JSON)


def substitute(kind: Type, bound: Bindings) -> Type:
    """`kind` with its variables replaced; one that was never met becomes `any`."""
    if kind.kind == "var":
        known = bound.get(kind.name, ANY)
        return ANY if known.kind == "var" else known
    if kind.kind == "list":
        return list_of(substitute(kind.args[0], bound))
    if kind.kind == "union":
        return union(substitute(arg, bound) for arg in kind.args)
    return kind


def erase(kind: Type) -> Type:
    """`kind` with `any` for its variables."""
    return substitute(kind, {}) if has_variables(kind) else kind


def has_any(kind: Type) -> bool:
    return kind is ANY or any(map(has_any, kind.args))


def has_variables(kind: Type) -> bool:
    return kind.kind == "var" or any(map(has_variables, kind.args))


def variables(kind: Type) -> list[str]:
    """The names of the type variables in `kind`."""
    return [kind.name] if kind.kind == "var" else [name for arg in kind.args for name in variables(arg)]


def names(kind: Type) -> list[str]:
    """The names of the types in `kind`: `list[image | none]` has `image` and `none`."""
    return [kind.name] if kind.kind == "name" else [name for arg in kind.args for name in names(arg)]
