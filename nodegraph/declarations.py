"""The syntax tree of a module, reduced to what its `@node` functions need to be declared: the statements that their signatures name.

Nothing is executed here. A statement that no signature needs is never looked at again, whatever it would do.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_KEPT = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.AugAssign, getattr(ast, "TypeAlias", ast.Assign))
_DECLARING = (*_KEPT, *_FUNCTIONS, ast.ClassDef, ast.If, ast.Try)
_IMPORT = re.compile(
    r"^(?:import[ \t]+(?P<plain>[^\n#;]+)|from[ \t]+(?P<dots>\.*)(?P<module>[\w.]*)[ \t]+import[ \t]+(?P<names>\([^)]*\)|[^\n#;]+))",
    re.MULTILINE,
)
_WORD = re.compile(r"[^\W\d]\w*")
SUSPECT = re.compile(r"^[ \t]+@(?:\w+\.)?node\b|@(?:\w+\.)?node\b[^\n]*\nclass\b|(?<![@.\w])(?:\w+\.)?node\(|\bnode as\b", re.MULTILINE)
"""What may be a misplaced `node`."""
STAR = "*"
"""Stands for every name: that of `from … import *`."""


class Declaration:
    """One statement of a module and the names that it binds. It is looked into, and reduced, when one of them is needed."""

    __slots__ = ("_reduced", "binds", "is_node", "statement")

    def __init__(self, statement: ast.stmt):
        self.statement = statement
        self.binds = frozenset(_binds(statement))
        blocks = isinstance(statement, ast.If | ast.Try)
        functions = [one for one in (_walk(statement) if blocks else (statement,)) if isinstance(one, _FUNCTIONS)]
        self.is_node = any(_is_node(mark) for one in functions for mark in one.decorator_list)
        self._reduced: ast.stmt | None = None

    def reduced(self) -> ast.stmt:
        """The statement without what need not happen."""
        if self._reduced is None:
            self._reduced = _reduce(self.statement) or ast.Pass()
        return self._reduced

    def needs(self) -> frozenset[str]:
        """The names that it looks up."""
        return frozenset(_needs(self.reduced()))


@dataclass(frozen=True, slots=True)
class Misplaced:
    """A use of `node` that makes no node: where it stands, what is wrong, and how to mend it."""

    line: int
    name: str
    text: str
    fix: str


@dataclass(frozen=True, slots=True)
class Imported:
    """One import at module level that must succeed: `level` dots, a module, and the names that are taken from it."""

    module: str
    level: int
    names: tuple[str, ...]
    line: int


def declarations(tree: ast.Module) -> list[Declaration]:
    """The statements of a module that may declare something, in their order."""
    return [Declaration(statement) for statement in tree.body if isinstance(statement, _DECLARING)]


def seen_imports(text: str) -> Iterator[Imported]:
    """What seem to be imports at module level, found without parsing: none is missed that begins a line, but what stands in a
    docstring seems to be one too. So what looks wrong here is to be looked for in `imports`."""
    for found in _IMPORT.finditer(text):
        if plain := found["plain"]:
            yield from (Imported(one.split()[0], 0, (), 0) for one in plain.split(",") if one.strip())
        else:
            names = tuple(one.split()[0] for one in found["names"].strip("() \n").split(",") if one.strip() and one.strip()[0] != "#")
            yield Imported(found["module"], len(found["dots"]), names, 0)


def imports(tree: ast.Module) -> Iterator[Imported]:
    """The imports without which the module cannot be imported: not those in functions, in blocks, or for type checkers."""
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            yield from (Imported(alias.name, 0, (), statement.lineno) for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            yield Imported(statement.module or "", statement.level, tuple(alias.name for alias in statement.names), statement.lineno)


def misplaced(tree: ast.Module, top: bool = True) -> Iterator[Misplaced]:
    """The uses of nodegraph's `node` in a module that its declarations do not see, in no order. There are none in a text in which
    `SUSPECT` finds nothing. `top`: whether the module may have nodes at its top level, as all may but a pack's own `__init__.py` and
    its facts."""
    marks = _Marks(tree)
    seen = {id(part) for one in declarations(tree) if one.is_node and top for part in _walk(one.statement)}
    stack: list[tuple[ast.AST, str]] = [(tree, "")]
    while stack:
        one, around = stack.pop()
        inside = around
        decorators: list[ast.expr] = []
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{around}.{one.name}" if around else one.name
            inside, decorators = name, one.decorator_list
            if any(map(marks.is_mark, decorators)) and (id(one) not in seen or not any(map(_is_node, decorators))):
                yield _misplaced(one, name, bool(around))
        elif isinstance(one, ast.Call) and marks.is_mark(one):
            yield Misplaced(one.lineno, "node", "node(…) is called, which makes no node of a pack", "write @node above a def")
        stack += [(part, inside) for part in ast.iter_child_nodes(one) if part not in decorators]


def _misplaced(one: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str, inside: bool) -> Misplaced:
    if isinstance(one, ast.ClassDef):
        return Misplaced(one.lineno, name, f"@node stands on the class {name!r}", "write a function")
    if inside:
        text = f"@node stands on {name!r}, but nodes are functions of a module, not methods or functions in functions"
        return Misplaced(one.lineno, name, text, "move it to the top level of the module")
    fix = "import it as 'node', and write it outside of loops, not in the pack's own __init__.py or its facts"
    return Misplaced(one.lineno, name, f"@node stands on {name!r}, where it is not seen", fix)


class _Marks:
    """The names by which a module knows `node`, and the modules that it is taken from."""

    def __init__(self, tree: ast.Module):
        self.names: set[str] = set()
        self.modules: set[str] = set()
        for one in ast.walk(tree):
            if isinstance(one, ast.ImportFrom) and one.module == "nodegraph":
                self.names |= {alias.asname or alias.name for alias in one.names if alias.name == "node"}
            elif isinstance(one, ast.Import):
                self.modules |= {alias.asname or alias.name for alias in one.names if alias.name == "nodegraph"}

    def is_mark(self, mark: ast.expr) -> bool:
        target = mark.func if isinstance(mark, ast.Call) else mark
        if isinstance(target, ast.Attribute):
            return target.attr == "node" and isinstance(target.value, ast.Name) and target.value.id in self.modules
        return isinstance(target, ast.Name) and target.id in self.names


def _reduce(statement: ast.stmt) -> ast.stmt | None:
    """A statement without what need not happen; None for one that declares nothing."""
    if isinstance(statement, _FUNCTIONS):
        statement.decorator_list = [mark for mark in statement.decorator_list if _is_node(mark)]
        if statement.decorator_list:
            docstring = ast.get_docstring(statement, clean=False)
            said = ast.copy_location(ast.Constant(docstring if docstring is not None else ...), statement)
            statement.body = [ast.copy_location(ast.Expr(said), statement)]
    elif isinstance(statement, ast.ClassDef):
        statement.body = _reduced(statement.body)
    elif isinstance(statement, ast.If) and _is_type_checking(statement.test):
        statement.test = ast.Constant(True)
        statement.body = [_optional(_reduced(statement.body))]
        ast.fix_missing_locations(statement)
    elif isinstance(statement, ast.If):
        statement.body, statement.orelse = _reduced(statement.body), _reduced(statement.orelse)
    elif isinstance(statement, ast.Try):
        statement.body, statement.orelse, statement.finalbody = map(_reduced, (statement.body, statement.orelse, statement.finalbody))
        for handler in statement.handlers:
            handler.body = _reduced(handler.body)
    elif not isinstance(statement, _KEPT) and not _is_docstring(statement):
        return None
    return statement


def _reduced(body: list[ast.stmt]) -> list[ast.stmt]:
    """A block of statements reduced; empty only if it was."""
    left = [reduced for statement in body if (reduced := _reduce(statement)) is not None]
    return left or [ast.copy_location(ast.Pass(), statement) for statement in body[:1]]


def _optional(body: list[ast.stmt]) -> ast.stmt:
    """Statements whose missing imports are no fault: those for type checkers."""
    handler = ast.ExceptHandler(ast.Name("ImportError", ast.Load()), None, [ast.Pass()])
    return ast.Try(body, [handler], [], [])


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_node(mark: ast.expr) -> bool:
    target = mark.func if isinstance(mark, ast.Call) else mark
    return (isinstance(target, ast.Name) and target.id == "node") or (isinstance(target, ast.Attribute) and target.attr == "node")


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING")


def _binds(statement: ast.AST) -> Iterator[str]:
    """The names that a statement binds in the module, also those whose value it changes (`Thing.limit = 3`)."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield statement.name
        return
    for one in _walk(statement):
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            yield one.id
        elif isinstance(one, ast.Attribute | ast.Subscript) and isinstance(one.ctx, ast.Store):
            yield from (inner.id for inner in ast.walk(one) if isinstance(inner, ast.Name))
        elif isinstance(one, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in one.names)
        elif isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield one.name


def _walk(statement: ast.AST) -> Iterator[ast.AST]:
    """Every part of a statement that is in the module's own scope."""
    stack = [statement]
    while stack:
        one = stack.pop()
        yield one
        if one is statement or not isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            stack += ast.iter_child_nodes(one)


def _needs(statement: ast.AST) -> Iterator[str]:
    """The names that a statement looks up. Of a function that is no node, those of its body too: a signature may call it."""
    for one in _parts(statement):
        if isinstance(one, ast.Name):
            yield one.id
        elif isinstance(one, ast.Constant) and isinstance(one.value, str) and len(one.value) < 200:
            yield from _WORD.findall(one.value)  # an annotation may be written as a text


def _parts(statement: ast.AST) -> Iterable[ast.AST]:
    if not isinstance(statement, ast.ClassDef):
        return ast.walk(statement)
    inside: list[ast.AST] = [*statement.bases, *statement.keywords, *statement.decorator_list]
    for one in statement.body:  # a method is called by nothing that is read, but what its signature names is looked up at once
        inside += [*one.decorator_list, one.args, *([one.returns] if one.returns else [])] if isinstance(one, _FUNCTIONS) else [one]
    return (part for one in inside for part in ast.walk(one))


__all__ = ["STAR", "SUSPECT", "Declaration", "Imported", "Misplaced", "declarations", "imports", "misplaced", "seen_imports"]
