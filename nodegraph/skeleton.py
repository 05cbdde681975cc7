"""Reads what a module declares without running it: its `@node` functions, and the records, classes and constants that they name.

Of a module's statements only those are executed that signatures need, function bodies of nodes left out. Imports are answered by
placeholders, except for the pack's own modules, nodegraph, pydantic, and what of Python's own does not act on the world. So a pack that
imports torch at module level, prints, sleeps, or ends the program, costs nothing until one of its nodes runs.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import importlib.util
import sys
import time
import types as python_types
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nodegraph.declarations import STAR, Declaration, Imported, declarations, imports, seen_imports
from nodegraph.ending import ForkSafeLock
from nodegraph.errors import did_you_mean
from nodegraph.placeholders import BUILTINS, REAL, Placeholder, stand_in
from nodegraph.spec import SKELETONS

PATIENCE = 2.0
"""Seconds of processor time that the statements of one module may take together; a busy or sleeping machine uses up none of it."""
_looking = ForkSafeLock()


class Missing(ImportError):
    """A module-level import names something that is not there: what, how to mend it, and where it stands."""

    def __init__(self, text: str, fix: str):
        super().__init__(text)
        self.fix = fix
        self.module, self.line = "", 0


class TooSlow(BaseException):
    """What a signature needs takes too long to make. No `except Exception` of the pack holds it up."""


class SkeletonLoader:
    """Makes skeleton modules of one pack. `sources`: the text of its modules by dotted name. `packages`: those that are folders.
    `others`: the same two of the packs that it may import from, by name.
    """

    def __init__(
        self,
        pack: str,
        sources: Mapping[str, str],
        packages: Container[str] = (),
        others: Mapping[str, tuple[Mapping[str, str], Container[str]]] | None = None,
    ):
        self.pack, self.packages = pack, packages
        self._sources, self._others = sources, others or {}
        self._skeletons: dict[str, _Skeleton] = {}
        self._trees: dict[str, ast.Module] = {}
        self._loaders: dict[str, SkeletonLoader] = {}
        self._looked_at: set[str] = set()
        self.imports: set[str] = set()
        """Top-level modules of others that are imported at module level."""

    def has_module(self, name: str) -> bool:
        return name in self._sources

    def is_bare(self, name: str) -> bool:
        """Whether that is the pack, or a folder of it with modules and no `__init__.py`: no names can be imported from it but theirs."""
        return not name or (name not in self._sources and any(one.startswith(f"{name}.") for one in self._sources))

    def other(self, pack: str) -> SkeletonLoader:
        """The loader of another pack. Raises Missing."""
        if pack not in self._others:
            text = f"it imports from the pack {pack!r}, which its pack.toml does not name"
            raise Missing(text, f'write packs = ["{pack}"] in pack.toml')
        if pack not in self._loaders:
            made = self._loaders[pack] = SkeletonLoader(pack, *self._others[pack], self._others)
            made.imports = self.imports
        return self._loaders[pack]

    def tree(self, name: str) -> ast.Module:
        """The syntax tree of a module. Raises SyntaxError, ValueError, and Missing when the pack has no such module."""
        if name not in self._sources:
            raise Missing(f"there is no module {name!r} in the pack", f"add {name.replace('.', '/')}.py, or mend the import")
        if name not in self._trees:
            self._trees[name] = ast.parse(self._sources[name], f"{name}.py")
        return self._trees[name]

    def check_imports(self, name: str) -> None:
        """Raise Missing when a module, or one of the pack's that it imports, imports something that is not there."""
        if name in self._looked_at:
            return
        self._looked_at.add(name)
        if name not in self._sources:
            self.tree(name)  # which says so
        try:
            for one in seen_imports(self._sources[name]):
                self._check_import(name, one)
        except Missing:
            self._looked_at.clear()  # what it had not come to is to be looked at again
            self._looked_at.add(name)
            self._check_parsed(name)

    def _check_parsed(self, name: str) -> None:
        for one in imports(self.tree(name)):
            try:
                self._check_import(name, one)
            except Missing as error:
                if not error.line:
                    error.module, error.line = f"{self.pack}/{name}", one.line
                raise

    def _check_import(self, name: str, one: Imported) -> None:
        if not one.level:
            self._check_top(one.module.partition(".")[0])
            if one.module == "nodegraph":
                _check_public(one.names)
            return
        loader, base = self.resolve(name, one.module, one.level)
        bare = loader.is_bare(base)
        if not bare:
            loader.check_imports(base)
        for inside in one.names:
            name = f"{base}.{inside}" if base else inside
            if bare or loader.has_module(name):
                loader.check_imports(name)

    def _check_top(self, top: str) -> None:
        if top in sys.stdlib_module_names or top == "nodegraph":
            return
        if not findable(top):
            raise Missing(f"it needs {top!r}, which is not installed", "install it, or import it inside of the function that uses it")
        self.imports.add(top)

    def resolve(self, module: str, name: str, level: int) -> tuple[SkeletonLoader, str]:
        """The loader and the dotted name of what a relative import of a module means. Raises Missing."""
        parts = module.split(".")
        if module in self.packages:
            parts.append("")
        kept = len(parts) - level
        if kept == -1 and name:
            pack, _, inside = name.partition(".")
            return self.other(pack), inside
        if kept < 0:
            raise Missing(f"the import {'.' * level}{name} leads out of all packs", "mend the import")
        return self, ".".join([*parts[:kept], *([name] if name else [])])

    @contextmanager
    def importable(self, module: python_types.ModuleType) -> Iterator[None]:
        """While type hints are looked up, which is done in sys.modules: one thread at a time, as another may read the same pack."""
        with _looking.held():
            sys.modules[module.__name__] = module
            try:
                yield
            finally:
                sys.modules.pop(module.__name__, None)

    def load(self, name: str) -> python_types.ModuleType:
        """The skeleton of a module with all of its nodes. Raises SyntaxError, ValueError, Missing and TooSlow."""
        self.check_imports(name)
        skeleton = self.skeleton(name)
        skeleton.need(found for one in skeleton.declared if one.is_node for found in one.binds)
        return skeleton.module

    def repeated(self, name: str) -> Iterator[tuple[str, int]]:
        """The nodes of a loaded module that take the place of others, because their functions have one name, and their lines."""
        seen: set[str] = set()
        for one in self.skeleton(name).declared:
            if one.is_node and isinstance(one.statement, ast.FunctionDef | ast.AsyncFunctionDef):
                if one.statement.name in seen:
                    yield one.statement.name, one.statement.lineno
                seen.add(one.statement.name)

    def refused(self, name: str) -> Iterator[tuple[str, int, str]]:
        """The nodes of a loaded module that could not be declared: the function, its line, and why."""
        skeleton = self.skeleton(name)
        nodes = {one.statement for one in skeleton.declared if one.is_node}
        for statement, error in skeleton.refused.items():
            if statement in nodes and isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                yield statement.name, statement.lineno, str(error)

    def skeleton(self, name: str) -> _Skeleton:
        """The skeleton of a module, of which nothing may be there yet."""
        if name not in self._skeletons:
            self._skeletons[name] = _Skeleton(self, name, self.tree(name))
        return self._skeletons[name]


class _Skeleton:
    """A module whose statements are executed when what they bind is needed."""

    def __init__(self, loader: SkeletonLoader, name: str, tree: ast.Module):
        self.declared: list[Declaration] = declarations(tree)
        self.module = python_types.ModuleType(f"{SKELETONS}.{loader.pack}.{name}")
        tamed = dict.fromkeys(BUILTINS, _nothing)
        self.module.__dict__["__builtins__"] = {**builtins.__dict__, **tamed, "__import__": _Importer(loader, name)}
        self.refused: dict[ast.stmt, Exception | SystemExit] = {}
        """Statements that could not be executed, and why."""
        self._loader = loader
        self._done: set[int] = set()
        self._binding: dict[str, list[int]] = {}
        for number, one in enumerate(self.declared):
            for bound in one.binds:
                self._binding.setdefault(bound, []).append(number)
        self._future = [one.statement for one in self.declared if _is_future(one.statement)]

    def need(self, names: Iterable[str]) -> None:
        """Execute the statements that bind these names, and those that they need, in the order of the file."""
        wanted: set[int] = set()
        stack = list(names)
        seen: set[str] = set()
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            for number in self._binders(name):
                if number not in self._done:
                    self._done.add(number)
                    wanted.add(number)
                    stack += self.declared[number].needs()
        if wanted:
            with self._loader.importable(self.module), _limited():
                self.refused.update(_execute([self.declared[number] for number in sorted(wanted)], self._future, self.module))

    def _binders(self, name: str) -> Iterable[int]:
        """The numbers of the statements that bind a name, or may do so."""
        if name == STAR:
            return range(len(self.declared))
        return self._binding.get(name) or self._binding.get(STAR) or ()


def _execute(body: list[Declaration], future: list[ast.stmt], module: python_types.ModuleType) -> dict[ast.stmt, Exception | SystemExit]:
    """All statements at once; one by one when that fails, with a placeholder for what cannot be had. Returns what was refused."""
    body = [one for one in body if one.statement not in future]
    refused: dict[ast.stmt, Exception | SystemExit] = {}
    try:
        _run([*future, *(one.reduced() for one in body)], module)
        return refused
    except Missing:
        raise
    except (Exception, SystemExit):  # any statement of a module may need what is not there; the others still count
        pass
    for one in body:
        try:
            _run([*future, one.reduced()], module)
        except Missing:
            raise
        except (Exception, SystemExit) as error:  # see above
            refused[one.statement] = error
            module.__dict__.update({name: Placeholder(name) for name in one.binds})
    return refused


def _run(body: list[ast.stmt], module: python_types.ModuleType) -> None:
    exec(compile(ast.Module(body, []), module.__name__, "exec", dont_inherit=True), module.__dict__)


@contextmanager
def _limited() -> Iterator[None]:
    """Raise TooSlow in what is executed for longer than PATIENCE."""
    before = sys.gettrace()
    if before is not None:  # a debugger, or a measurement of coverage, or an outer module
        yield
        return
    sys.settrace(_Watch())
    try:
        yield
    finally:
        sys.settrace(None)


class _Watch:
    """A trace function with a deadline, in processor seconds of this thread."""

    def __init__(self) -> None:
        self.until = time.thread_time() + PATIENCE

    def __call__(self, frame: Any, event: str, value: Any) -> Any:
        if time.thread_time() > self.until:
            raise TooSlow
        return self if frame.f_code.co_filename.startswith(SKELETONS) else None


def _is_future(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


def _nothing(*args: Any, **options: Any) -> None:
    """In place of what would talk to the terminal, or open a file."""


class _Importer:
    """`__import__` of a skeleton module."""

    def __init__(self, loader: SkeletonLoader, module: str):
        self._loader, self._module = loader, module

    def __call__(self, name: str, scope: Any = None, local: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if level:
            loader, base = self._loader.resolve(self._module, name, level)
            return _from_pack(loader, base, fromlist or ())
        top = name.partition(".")[0]
        if top in REAL:
            return _really(name, top, fromlist or ())
        if top not in sys.stdlib_module_names and not findable(top):
            raise Missing(f"it needs {top!r}, which is not installed", "install it, or import it inside of the function that uses it")
        return stand_in(name, bool(fromlist))


def _really(name: str, top: str, fromlist: Iterable[str]) -> Any:
    """The module itself, with what is asked of it: its own time does not count, and nobody watches what it does."""
    watching, begun = sys.gettrace(), time.thread_time()
    sys.settrace(None)
    try:
        module = importlib.import_module(name)
        for one in fromlist:
            getattr(module, one, None)
        return module if fromlist else sys.modules[top]
    finally:
        if isinstance(watching, _Watch):
            watching.until += time.thread_time() - begun
        sys.settrace(watching)


def _from_pack(loader: SkeletonLoader, base: str, fromlist: Iterable[str]) -> Any:
    """What `from base import …` imports within a pack."""
    if loader.is_bare(base):
        package, modules = python_types.ModuleType(base or "package"), list(fromlist)
    else:
        modules = [one for one in fromlist if loader.has_module(f"{base}.{one}")]
        skeleton = loader.skeleton(base)
        skeleton.need(one for one in fromlist if one not in modules)
        package = skeleton.module
    for one in modules:
        inside = loader.skeleton(f"{base}.{one}" if base else one)
        inside.need([STAR])  # nobody knows what will be asked of it
        setattr(package, one, inside.module)
    return package


def _check_public(names: Iterable[str]) -> None:
    """Raise Missing for a name that nodegraph has not: a misspelled `node` would make no node, and nobody would be told."""
    import nodegraph

    for name in names:
        if name != STAR and name not in nodegraph.__all__ and not hasattr(nodegraph, name) and not _is_module(f"nodegraph.{name}"):
            near = did_you_mean(name, nodegraph.__all__)
            raise Missing(
                f"nodegraph {nodegraph.__version__} has no {name!r}", near or "mend the import, or install the version that has it"
            )


def _is_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@functools.cache
def findable(top: str) -> bool:
    """Whether a package is there, without importing it. Remembered until packs are loaded again."""
    if top in sys.modules:
        return sys.modules[top] is not None
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError, AttributeError):
        return False
