"""The code of a program's own: what is neither of Python, nor of nodegraph, nor installed. Nothing is imported to look at it."""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import os
import pathlib
import sys
import types
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

_INSTALLED = ("site-packages", "dist-packages")
MAIN = ("__main__", "__mp_main__")
"""The program itself, also in a process of multiprocessing that has read it anew."""


def is_installed(name: Any, file: str | None = None) -> bool:
    """Whether a module of that name, and of that file if it is not imported, is of Python, of nodegraph or a distribution."""
    if not isinstance(name, str) or name in MAIN:  # of C code; the program itself
        return name not in MAIN
    root = name.partition(".")[0]
    file = file or getattr(sys.modules.get(name), "__file__", None) or ""
    return root in sys.stdlib_module_names or root == "nodegraph" or any(folder in pathlib.PurePath(file).parts for folder in _INSTALLED)


def sources(names: Iterable[str], root: str = "") -> list[bytes]:
    """The source of modules and of all of the program's own that they import, anywhere in them, in an order that is always the same.
    `root`: one that is told even if it is installed."""
    found: dict[str, bytes] = {}
    seen = {*names, root}
    stack = list(seen)
    while stack:
        name = stack.pop()
        text, package = _read(name, name == root)
        if not text:
            continue
        found["" if name in MAIN else name] = text.encode("utf-8", "surrogatepass")
        fresh = {one for one in _imported(text, package) if one not in seen}
        seen |= fresh
        stack += fresh
    return [found[name] for name in sorted(found)]


def _read(name: str, whole: bool) -> tuple[str, str]:
    """The source of a module of the program's own, and the package that it is in. Both are empty where there is none."""
    try:
        module = sys.modules.get(name)
        if module is not None:
            return ("", "") if is_installed(name) and not whole else (inspect.getsource(module), getattr(module, "__package__", None) or "")
        spec = None if is_installed(name) else _spec(name)
        if spec is None or is_installed(name, spec.origin):
            return "", ""
        return getattr(spec.loader, "get_source", _no_source)(name) or "", spec.parent or ""
    except Exception:  # finders and modules may be of others: it was typed in, its file is gone or cannot be read
        return "", ""


def _no_source(name: str) -> str:
    return ""


def _spec(name: str) -> ModuleSpec | None:
    """Where a module would be imported from."""
    parent, _, _ = name.rpartition(".")
    if not parent:
        return importlib.util.find_spec(name)
    module: Any = sys.modules.get(parent)
    inside = getattr(module, "__path__", None) if module else getattr(_spec(parent), "submodule_search_locations", None)
    return PathFinder.find_spec(name, inside) if inside else None


@functools.lru_cache(maxsize=256)
def _imported(text: str, package: str) -> tuple[str, ...]:
    """The modules that a source may import, with those that are imported before them."""
    found: dict[str, None] = {}
    for one in _statements(text):
        if isinstance(one, ast.Import):
            full = [alias.name for alias in one.names]
        else:
            above = package.split(".")[: len(package.split(".")) - one.level + 1] if one.level and package else []
            base = ".".join([*above, *([one.module] if one.module else [])])
            full = [base, *(f"{base}.{alias.name}" for alias in one.names if base)]
        for name in full:
            steps = name.split(".")
            found.update((".".join(steps[:end]), None) for end in range(1, len(steps) + 1))
    return tuple(name for name in found if name and name.partition(".")[0] not in sys.stdlib_module_names)


def _statements(text: str) -> Iterator[ast.Import | ast.ImportFrom]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for one in ast.walk(tree):
        if isinstance(one, ast.Import | ast.ImportFrom):
            yield one


def of(one: types.FunctionType | type) -> str:
    """The name of the module that a function or class is of; empty where that is not the one imported by this name."""
    if not isinstance(one, types.FunctionType):
        return one.__module__ if isinstance(one.__module__, str) else ""
    name, file = one.__globals__.get("__name__"), one.__globals__.get("__file__")
    held = getattr(sys.modules.get(name) if isinstance(name, str) else None, "__dict__", {})
    same = held is one.__globals__ or (file is not None and held.get("__file__") == file)  # multiprocessing reads the program so
    return str(name) if same else ""


def has_file(one: types.FunctionType | type) -> bool:
    """Whether a function or class is of a module whose source is in a file, and not typed in."""
    held = getattr(sys.modules.get(of(one)), "__dict__", {})
    there = isinstance(one, types.FunctionType) or one.__qualname__.partition(".")[0] in held
    return there and os.path.isfile(held.get("__file__") or "")


__all__ = ["MAIN", "has_file", "is_installed", "of", "sources"]
