"""Reads what a module declares without running it: its `@node` functions, records, classes and constants.

The module's syntax tree is executed without bare calls and loops, with function bodies of nodes left out, and with imports
answered by placeholders, except for the standard library, nodegraph, pydantic and the pack's own modules. So a pack that imports
torch at module level, prints, or sleeps, costs nothing until one of its nodes runs.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import sys
import types as python_types
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nodegraph.spec import SKELETONS

REAL = frozenset(sys.stdlib_module_names | {"nodegraph", "pydantic", "annotated_types", "typing_extensions"}) - {
    "tkinter",
    "idlelib",
    "turtle",
    "antigravity",
    "this",
}
"""Top-level modules that are really imported."""


class Placeholder:
    """Stands for anything from a module that is not imported. Whatever is done to it gives a placeholder."""

    def __init__(self, name: str):
        self.__dict__["_name"] = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Placeholder(f"{self._name}.{name}")

    def __call__(self, *args: Any, **options: Any) -> Any:
        # as a decorator it leaves what it decorates as it is
        if len(args) == 1 and not options and isinstance(args[0], python_types.FunctionType | type):
            return args[0]
        return Placeholder(f"{self._name}(…)")

    def __getitem__(self, key: Any) -> Any:
        return Placeholder(f"{self._name}[…]")

    def __or__(self, other: Any) -> Any:
        return self

    __ror__ = __or__

    def __mro_entries__(self, bases: Any) -> tuple[type, ...]:
        return ()

    def __iter__(self) -> Any:
        return iter(())

    def __repr__(self) -> str:
        return str(self._name)

    @property
    def __name__(self) -> str:
        return str(self._name)


class Missing(ImportError):
    """A module-level import names something that is not there: what, and how to mend it."""

    def __init__(self, text: str, fix: str):
        super().__init__(text)
        self.fix = fix


class SkeletonLoader:
    """Makes skeleton modules of one pack. `sources`: the text of its modules by dotted name. `packages`: those that are folders.
    `others`: the sources of the packs that it may import from, by name.
    """

    def __init__(
        self, pack: str, sources: Mapping[str, str], packages: Container[str] = (), others: Mapping[str, Mapping[str, str]] | None = None
    ):
        self.pack, self.packages = pack, packages
        self._sources, self._others = sources, others or {}
        self._modules: dict[str, python_types.ModuleType] = {}
        self._loaders: dict[str, SkeletonLoader] = {}
        self.imports: set[str] = set()
        """Top-level modules that were asked for and not imported."""

    def has_read(self, name: str) -> bool:
        """Whether a module has been read, so that it is valid Python."""
        return name in self._modules

    def has_module(self, name: str) -> bool:
        return name in self._sources

    def has_package(self, name: str) -> bool:
        """Whether there are modules in a folder of that dotted name."""
        return any(one.startswith(f"{name}.") for one in self._sources)

    def other(self, pack: str) -> SkeletonLoader:
        """The loader of another pack. Raises Missing."""
        if pack not in self._others:
            text = f"it imports from the pack {pack!r}, which its pack.toml does not name"
            raise Missing(text, f'write packs = ["{pack}"] in pack.toml')
        if pack not in self._loaders:
            made = self._loaders[pack] = SkeletonLoader(pack, self._others[pack], (), self._others)
            made.imports = self.imports
        return self._loaders[pack]

    @contextmanager
    def importable(self, module: python_types.ModuleType) -> Iterator[None]:
        """While type hints are looked up, which is done in sys.modules."""
        sys.modules[module.__name__] = module
        try:
            yield
        finally:
            sys.modules.pop(module.__name__, None)

    def load(self, name: str) -> python_types.ModuleType:
        """The skeleton of a module of the pack. Raises SyntaxError and Missing."""
        if name in self._modules:
            return self._modules[name]
        text = self._sources.get(name)
        if text is None:
            raise Missing(f"there is no module {name!r} in the pack", f"add {name.replace('.', '/')}.py, or mend the import")
        module = self._modules[name] = python_types.ModuleType(f"{SKELETONS}.{self.pack}.{name}")
        module.__dict__["__builtins__"] = {**builtins.__dict__, "__import__": _Importer(self, name), "print": _nothing, "input": _nothing}
        tree = ast.parse(text, f"{name}.py")
        body = [reduced for statement in tree.body if (reduced := _reduce(statement)) is not None]
        with self.importable(module):
            _execute(body, module)
        return module


def _execute(body: list[ast.stmt], module: python_types.ModuleType) -> None:
    """All statements at once; one by one when that fails, with a placeholder for what cannot be had."""
    try:
        exec(compile(ast.Module(body, []), module.__name__, "exec", dont_inherit=True), module.__dict__)
        return
    except Missing:
        raise
    except (Exception, SystemExit):  # any statement of a module may need what is not there; the others still count
        pass
    future = [one for one in body if isinstance(one, ast.ImportFrom) and one.module == "__future__"]
    for statement in body:
        try:
            exec(compile(ast.Module([*future, statement], []), module.__name__, "exec", dont_inherit=True), module.__dict__)
        except Missing:
            raise
        except (Exception, SystemExit):  # see above
            for name in _targets(statement):
                module.__dict__[name] = Placeholder(name)


_KEPT = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.AugAssign, getattr(ast, "TypeAlias", ast.Assign))
"""Statements that may declare something that a signature needs."""


def _reduce(statement: ast.stmt) -> ast.stmt | None:
    """A statement without what need not happen; None for one that declares nothing."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        marks = [mark for mark in statement.decorator_list if _is_node(mark)]
        statement.decorator_list = marks
        if marks:
            docstring = ast.get_docstring(statement, clean=False)
            statement.body = [ast.Expr(ast.Constant(docstring if docstring is not None else ...))]
            ast.fix_missing_locations(statement)
        return statement
    if isinstance(statement, ast.If) and _is_type_checking(statement.test):
        statement.test = ast.copy_location(ast.Constant(True), statement.test)
        statement.body = [_optional(_reduced(statement.body))]
        return ast.fix_missing_locations(statement)
    if isinstance(statement, ast.If):
        statement.body, statement.orelse = _reduced(statement.body), _reduced(statement.orelse)
        return ast.fix_missing_locations(statement)
    if isinstance(statement, ast.Try):
        statement.body, statement.orelse, statement.finalbody = map(_reduced, (statement.body, statement.orelse, statement.finalbody))
        for handler in statement.handlers:
            handler.body = _reduced(handler.body)
        return ast.fix_missing_locations(statement)
    return statement if isinstance(statement, _KEPT) or _is_docstring(statement) else None


def _reduced(body: list[ast.stmt]) -> list[ast.stmt]:
    """A block of statements reduced; never empty."""
    return [reduced for statement in body if (reduced := _reduce(statement)) is not None] or [ast.Pass()]


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _optional(body: list[ast.stmt]) -> ast.stmt:
    """Statements whose missing imports are no fault: those for type checkers."""
    handler = ast.ExceptHandler(ast.Name("ImportError", ast.Load()), None, [ast.Pass()])
    return ast.Try(body, [handler], [], [])


def _is_node(mark: ast.expr) -> bool:
    target = mark.func if isinstance(mark, ast.Call) else mark
    return (isinstance(target, ast.Name) and target.id == "node") or (isinstance(target, ast.Attribute) and target.attr == "node")


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING")


def _targets(statement: ast.stmt) -> list[str]:
    """The names that a statement would have bound."""
    if isinstance(statement, ast.ClassDef):
        return [statement.name]
    return [node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def _nothing(*args: Any, **options: Any) -> None:
    """In place of what would talk to the terminal."""


class _Importer:
    """`__import__` of a skeleton module."""

    def __init__(self, loader: SkeletonLoader, module: str):
        self._loader, self._module = loader, module

    def __call__(self, name: str, scope: Any = None, local: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if level:
            return self._relative(name, fromlist or (), level)
        top = name.partition(".")[0]
        if top in REAL:
            module = importlib.import_module(name)
            return module if fromlist else sys.modules[top]
        if not findable(top):
            raise Missing(f"it needs {top!r}, which is not installed", "install it, or import it inside of the function that uses it")
        self._loader.imports.add(top)
        return Placeholder(name if fromlist else top)

    def _relative(self, name: str, fromlist: tuple[str, ...], level: int) -> Any:
        parts = self._module.split(".")
        if self._module in self._loader.packages:
            parts.append("")
        kept = len(parts) - level
        if kept == -1 and name:
            pack, _, inside = name.partition(".")
            return _from_pack(self._loader.other(pack), inside, fromlist)
        if kept < 0:
            raise Missing(f"the import {'.' * level}{name} leads out of all packs", "mend the import")
        return _from_pack(self._loader, ".".join([*parts[:kept], *([name] if name else [])]), fromlist)


def _from_pack(loader: SkeletonLoader, base: str, fromlist: tuple[str, ...]) -> Any:
    """What `from base import …` imports within a pack."""
    if base and (loader.has_module(base) or not loader.has_package(base)):
        return loader.load(base)  # which says when there is none
    package = python_types.ModuleType(base or "package")
    for one in fromlist:
        setattr(package, one, loader.load(f"{base}.{one}" if base else one))
    return package


def findable(top: str) -> bool:
    """Whether a distribution is there, without importing it."""
    if top in sys.modules:
        return sys.modules[top] is not None
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError, AttributeError):
        return False
