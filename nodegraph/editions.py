"""The code of packs: which version of which module is meant, and importing it when it is first needed.

Packs never go through `sys.path`. What was read together is an edition; its modules are imported as
`nodegraph_packs.<pack>.<module>`, those of later editions as `nodegraph_packs~2.<pack>.<module>`. A module that is the same in two
editions, with all that it imports, is imported once and lives where it was read first: so its classes stay the same classes. Old
modules stay as long as a node type still calls them, and what is imported is always what was read: never a file that has changed.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
import threading
import time
import types as python_types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from nodegraph import keys, kinds
from nodegraph.ending import ForkSafeLock
from nodegraph.errors import PackInvalid, Problem

ROOT = "nodegraph_packs"
"""The private module prefix of packs."""
SETTLED = 2.0
"""Seconds after which a changed file is sure to have another time than its bytecode remembers, which counts whole seconds."""
MANY = 500
"""Modules that are known before those are looked for whose files are gone."""
_numbers = count(1)
_importing = ForkSafeLock()
_editions: weakref.WeakValueDictionary[str, Edition] = weakref.WeakValueDictionary()
_latest: dict[tuple[str, str], Source] = {}
"""(file, module) → the version of it that was read last. Older ones live as long as somebody uses them."""
_newest: dict[str, dict[str, Source]] = {}
"""Pack → its modules as they were read last, by whichever engine."""
_look_at = MANY
"""So many known modules are the next to be looked at."""


class Source:
    """One module of a pack as it was read. `digest`: of its bytes. `identity`: of it and of all modules that it imports.

    `name` is dotted, relative to the pack, and empty for the pack's own `__init__.py`.
    """

    __slots__ = ("__weakref__", "digest", "edition", "file", "identity", "name", "pack", "stamp", "text")

    def __init__(self, edition: Edition, pack: str, name: str, file: Path, stamp: tuple[int, ...], digest: bytes, identity: str):
        self.edition, self.pack, self.name, self.file, self.stamp = edition, pack, name, file, stamp
        self.digest, self.identity = digest, identity
        self.text: bytes | None = None

    @property
    def module(self) -> str:
        """The full name under which it is imported."""
        return ".".join(part for part in (self.edition.root, self.pack, self.name) if part)

    def read(self) -> bytes:
        """The bytes that were read when the pack was. Raises PackInvalid when the file has changed and they were not kept."""
        if self.text is None:
            try:
                raw = self.file.read_bytes()
            except OSError:
                raw = b""
            if keys.digest(b"module", raw) != self.digest:
                text = f"{self.file.name!r} of the pack {self.pack!r} has changed since the pack was loaded"
                raise PackInvalid([Problem("pack-changed", "", text, "load it again with Engine.reload(), or start again", str(self.file))])
            self.text = raw
        return self.text


class Edition:
    """The modules of packs that were read together, by `pack.module`. `known`: what is taken over as it is."""

    def __init__(self, known: Iterable[Source] = ()):
        number = next(_numbers)
        self.root = ROOT if number == 1 else f"{ROOT}~{number}"
        self.modules = {_dotted(one.pack, one.name): one for one in known}
        self._packs = {one.pack for one in self.modules.values()}
        _editions[self.root] = self
        weakref.finalize(self, _forget, self.root)

    def source(self, pack: str, name: str, file: Path, stamp: Iterable[int], digest: bytes, identity: str) -> Source:
        """The version of a module that has this identity: a known one, or else a new one of this edition."""
        known = _latest.get((str(file), name))
        if known is not None and known.pack == pack and known.identity == identity:
            return known
        return Source(self, pack, name, file, tuple(stamp), digest, identity)

    def commit(self, pack: str, sources: Mapping[str, Source]) -> None:
        """These are the modules of a pack now."""
        if pack in self._packs:
            self.drop(pack)
        self._packs.add(pack)
        self.modules.update({_dotted(pack, name): one for name, one in sources.items()})
        _latest.update({(str(one.file), name): one for name, one in sources.items()})
        _newest[pack] = dict(sources)
        _forget_gone()
        if _Finder not in sys.meta_path:
            sys.meta_path.insert(0, _Finder)

    def drop(self, pack: str) -> None:
        """Forget a pack."""
        self.modules = {name: one for name, one in self.modules.items() if one.pack != pack}

    def keep(self, pack: str) -> None:
        """Hold the text of a pack's modules, so that they can be imported when their files have changed."""
        for one in list(self.modules.values()):
            if one.pack == pack:
                with contextlib.suppress(PackInvalid):
                    one.read()


def _dotted(pack: str, name: str) -> str:
    return f"{pack}.{name}" if name else pack


def _forget_gone() -> None:
    """Forget modules whose files are gone, such as those of packs in folders for a while: each would keep all of its edition."""
    global _look_at
    if len(_latest) > _look_at:
        for place, one in list(_latest.items()):
            if not one.file.exists():
                _latest.pop(place, None)
        for pack, sources in list(_newest.items()):
            if sources and not any((str(one.file), name) in _latest for name, one in sources.items()):
                _newest.pop(pack, None)
        _look_at = max(MANY, 2 * len(_latest))


def _forget(root: str) -> None:
    """Nothing calls an edition's modules any more. Other threads may import others meanwhile."""
    for name in [name for name in list(sys.modules) if name == root or name.startswith(f"{root}.")]:
        sys.modules.pop(name, None)


class Late:
    """A function of a pack that is imported when it is first called."""

    __slots__ = ("_function", "_name", "_source")

    def __init__(self, source: Source, name: str):
        self._source, self._name = source, name
        self._function: Any = None

    def __call__(self, *args: Any, **options: Any) -> Any:
        if self._function is None:
            self._function = getattr(load(self._source), self._name)
        return self._function(*args, **options)

    def __repr__(self) -> str:
        return f"{self._source.module}.{self._name}"


def load(source: Source) -> python_types.ModuleType:
    """Import a module for real, and let its classes be port types. Whatever the module does when it is imported may be raised."""
    with _importing.held():
        return _imported(source)


def _imported(source: Source) -> python_types.ModuleType:
    if source.module not in sys.modules:
        source.edition.keep(source.pack)
    return importlib.import_module(source.module)


def load_alone(source: Source) -> python_types.ModuleType:
    """Import one module and nothing else of its pack: the pack's `__init__.py` may import anything."""
    with _importing.held():
        name = source.module
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, source.file, loader=_Loader(name, source))
            assert spec is not None  # a path that ends in .py has one
            assert spec.loader is not None
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]


class _Finder:
    """Finds the modules of editions for the ordinary import system."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        if not name.startswith(ROOT):
            return None
        root, _, inside = name.partition(".")
        edition = _editions.get(root)
        if edition is None:
            return None
        source = edition.modules.get(inside)
        if source is None:
            return _folder_spec(edition, name, inside)
        if source.edition is not edition:
            return importlib.util.spec_from_loader(name, _Alias(source))
        folder = [str(source.file.parent)] if source.file.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(name, source.file, loader=_Loader(name, source), submodule_search_locations=folder)


def _folder_spec(edition: Edition, name: str, inside: str) -> Any:
    """The spec of what is no module and holds modules: an edition, a pack without `__init__.py`, a folder of a pack."""
    within = next((one for dotted, one in edition.modules.items() if not inside or dotted.startswith(f"{inside}.")), None)
    if within is None:
        return None
    spec = importlib.util.spec_from_loader(name, loader=None, is_package=True)
    if spec is not None and inside:
        depth = len(within.name.split(".")) - inside.count(".") - (within.file.name != "__init__.py")
        spec.submodule_search_locations = [str(within.file.parents[depth])]
    return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads what was read. Bytecode is used, and written, only where it must be that of this very text."""

    def __init__(self, name: str, source: Source):
        super().__init__(name, str(source.file))
        self._source = weakref.ref(source)  # a module in sys.modules must not keep its edition alive

    def get_code(self, fullname: str) -> Any:
        if source := self._source():
            source.read()
        return super().get_code(fullname)

    def get_data(self, path: Any) -> bytes:
        source = self._source()
        if str(path).endswith(".pyc") and os.stat(path).st_ctime_ns < os.stat(self.path).st_ctime_ns:
            raise OSError("the text came later, and may be another with the size and time of the one that this was made of")
        return source.read() if source and path == self.path else super().get_data(path)

    def path_stats(self, path: Any) -> Any:
        source, stat = self._source(), os.stat(path)
        if source is None or (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) != source.stamp or time.time() - stat.st_mtime < SETTLED:
            raise OSError("bytecode would not be sure to be of this text")
        return super().path_stats(path)

    def exec_module(self, module: python_types.ModuleType) -> None:
        with _no_end(module.__name__):
            super().exec_module(module)
        if source := self._source():
            _register_classes(module, source)


_here = threading.local()
"""`module`: (name, process) of what this thread imports at the moment."""


@contextlib.contextmanager
def _no_end(module: str) -> Iterator[None]:
    """No module ends the program by being imported, not even by `os._exit`: for the thread that imports it, that is an exception."""
    for name in ("_exit", "abort"):
        end = getattr(os, name)
        if not hasattr(end, "refuses"):
            setattr(os, name, _refusing(end))
    before, _here.module = getattr(_here, "module", None), (module, os.getpid())
    try:
        yield
    finally:
        _here.module = before


def _refusing(end: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for a function that ends the process from then on: it does so, but in a module that is being imported."""

    def refuse(*args: Any) -> Any:
        module, process = getattr(_here, "module", None) or ("", 0)
        if process == os.getpid():  # a process that the import has forked may end
            raise SystemExit(f"{module} calls os.{end.__name__} when it is imported")
        return end(*args)

    refuse.refuses = end  # type: ignore[attr-defined]
    return refuse


class _Alias(importlib.abc.Loader):
    """Loads a module of an older edition, which is the same."""

    def __init__(self, source: Source):
        self._source = source

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: python_types.ModuleType) -> None:
        found = _imported(self._source)  # without the lock: who holds it may wait for the import that this one is part of
        vars(module).update(vars(found))  # of other threads that import it now, this very module is what they get
        sys.modules[module.__name__] = found  # the import system takes what stands there


def _register_classes(module: python_types.ModuleType, source: Source) -> None:
    """Let the values of a module be port types; of two versions of a class, the newer one is what stored values become."""
    newest = _newest.get(source.pack, {}).get(source.name) is source
    for cls in vars(module).values():
        if isinstance(cls, type) and cls.__module__ == module.__name__ and hasattr(cls, "parts"):
            kinds.register(cls, f"{source.pack}/{cls.__name__}", newest)


def _find_class(name: str) -> None:
    """Import the modules of the pack that a stored value's class is from."""
    pack, _, cls = name.partition("/")
    defined = re.compile(rb"^class %b\b" % re.escape(cls).encode(), re.MULTILINE)
    for source in _newest.get(pack, {}).values():
        if defined.search(source.read()):
            load(source)


kinds.find_class.append(_find_class)

__all__ = ["ROOT", "Edition", "Late", "Source", "load", "load_alone"]
