"""Reads one pack: its `pack.toml`, and what its modules declare, without importing any of them.

Nothing is registered here; what is wrong with a pack is raised as PackInvalid, all of it at once.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import inspect
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nodegraph import keys, types
from nodegraph.declarations import SUSPECT, misplaced
from nodegraph.distributions import installed_packs, installed_version, missing
from nodegraph.editions import Edition, Late, Source, load_alone
from nodegraph.errors import PackInvalid, Problem, did_you_mean
from nodegraph.looks import SETTLED
from nodegraph.placeholders import Placeholder
from nodegraph.registry import Deferred
from nodegraph.skeleton import PATIENCE, Missing, SkeletonLoader, TooSlow, findable
from nodegraph.spec import NodeType, Options, Port, node_type
from nodegraph.spec_index import FILE, NotPlain, SpecIndex, Stamps, pack_type, unpack_type

_KEYS = ("name", "version", "doc", "numerics", "requires", "packs")
_LISTS = ("numerics", "requires", "packs")
_IMPORT = re.compile(r"\bfrom[\s\\]*(\.[.\s\\]*)([\w.]*)(?:[\s\\]+|(?<=\.))import\b[\s\\]*(\((?:[^)#]|#[^\n]*)*\)|(?:[^\n#;\\]|\\\n)*)")
_ANY_IMPORT = re.compile(r"\bfrom(?:[ \t]+|(?=\.))([\w.]+)[ \t]+import\b|\bimport[ \t]+([^\n#;]+)")
_DEFINED = re.compile(
    r"^[ \t]*@node(?:\([^\n]*?(?:name=[\"'](\w+)[\"'])?[^\n]*\))?[ \t]*(?:#[^\n]*)?\n(?:[ \t]*@[^\n]*\n)*[ \t]*(?:async )?def (\w+)",
    re.MULTILINE,
)


@dataclass(slots=True)
class PackInfo:
    """One pack as it was found. `problems` says what is wrong with it now; its nodes, if it has any, are then those of its last
    good version. `files` and `modules` are what was read, `needs` the packs that it imports from, `numerics` the distributions that
    its numbers depend on.
    """

    name: str
    version: int
    doc: str
    path: Path
    nodes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    files: Stamps = field(default_factory=dict, repr=False)
    modules: dict[str, Source] = field(default_factory=dict, repr=False)
    needs: tuple[str, ...] = ()
    numerics: tuple[str, ...] = ()


class PackMissing(PackInvalid):
    """A pack imports from a pack that is not here, or not here yet."""


class PackReader:
    """Reads one pack's folder into an edition."""

    def __init__(self, folder: Path, index: SpecIndex, edition: Edition, versioned: bool = False):
        """`versioned`: keys know its nodes by their version, not by the bytes of their code."""
        self.folder = folder
        self.info = PackInfo(folder.name, 1, "", folder)
        self._index, self._edition, self._versioned = index, edition, versioned
        self._toml: dict[str, Any] = {}
        self._sources: dict[str, str] = {}
        self._digests: dict[str, bytes] = {}
        self._identities: dict[str, str] = {}
        self._others: dict[str, PackInfo] = {}
        self._numerics: bytes | None = None
        self._files: dict[str, str] = {}
        self._imports: dict[str, list[str]] = {}

    @classmethod
    def of(cls, info: PackInfo, index: SpecIndex, edition: Edition) -> PackReader:
        """A reader of what was found before."""
        reader = cls(info.path, index, edition)
        reader.info = info
        return reader

    @property
    def has_facts(self) -> bool:
        return "facts" in self.info.modules

    def _fail(self, code: str, text: str, fix: str = "", file: str = "", line: int = 0) -> PackInvalid:
        return PackInvalid([Problem(code, self.info.name, text, fix, file or str(self.folder), line, 1 if line else 0)])

    def read(self, taken: Mapping[str, PackInfo], anew: bool = False) -> list[NodeType] | Deferred:
        """The node types of the pack. `taken`: the packs that are there already. `anew`: whatever the index says.

        Raises PackInvalid with everything that is wrong; PackMissing when a pack that it needs is not among `taken`.
        """
        self.info.files, record = self._index.find(self.folder, anew)
        self._toml = record["toml"] if record else self._read_toml()
        self.info.name, self.info.version, self.info.doc = self._toml["name"], self._toml["version"], self._toml["doc"]
        self.info.numerics = tuple(self._toml["numerics"])
        if other := taken.get(self.info.name):
            text = f"there is another pack {self.info.name!r}, in {str(other.path)!r}"
            raise self._fail("pack-clash", text, "rename one of them in its pack.toml")
        self._check_required(record["met"] if record else {})
        self._find_others(taken)
        if record is None or not self._is_current(record):
            return self._declared()
        self._take_modules({name: (bytes.fromhex(digest), identity) for name, (digest, identity) in record["modules"].items()})
        found = record
        return Deferred(self.info.name, found["names"], found["was"], found["types"], lambda: self._unpacked(found))

    def _unpacked(self, record: Mapping[str, Any]) -> list[NodeType]:
        """The node types of a record. Raises PackInvalid when there is none any more, and the sources are others."""
        nodes = record.get("nodes") or self._index.nodes(self.folder, self.info.files)
        if nodes is None:
            reader = PackReader(self.folder, self._index, self._edition, self._versioned)
            found = reader.read(self._others, anew=True)
            if reader._identities != {name: one.identity for name, one in self.info.modules.items()}:
                fix = "load it again with Engine.reload(), or start again"
                raise self._fail("pack-changed", f"the pack {self.info.name!r} has changed since it was loaded", fix)
            return found.types() if isinstance(found, Deferred) else found
        numerics = self._numerics_bytes()
        return [unpack_type(one, self.info.name, numerics, self._late_call) for one in nodes]

    def _is_current(self, record: Mapping[str, Any]) -> bool:
        """Whether a record of the same files was made of the same things around them."""
        around = record["versioned"], record["needs"]
        return around == (self._versioned, self._needs()) and all(map(findable, record["imports"]))

    def commit(self) -> None:
        """The pack is registered: what it imports is what was read now."""
        self._edition.commit(self.info.name, self.info.modules)

    def _declared(self) -> list[NodeType]:
        """Read the sources: what they declare, which is kept in the index if it is plain data."""
        self._read_sources()
        self._take_modules({name: (self._digests[name], self._identity(name)) for name in self._sources})
        others = {
            name: ({inside: _text(one) for inside, one in info.modules.items()}, _packages(info)) for name, info in self._others.items()
        }
        loader = SkeletonLoader(self.info.name, self._sources, _packages(self.info), others)
        problems: list[Problem] = []
        made: list[NodeType] = []
        packed: list[dict[str, Any]] | None = []
        for name, text in self._sources.items():
            try:
                if SUSPECT.search(text) or ("@node" in text and not self._may_have_nodes(name)):
                    problems += self._misplaced(name, loader)
                if self._is_for_check(name):
                    self._check_facts(name, loader)
                elif name and ("@node" in text or ".node" in text):
                    for one, function in self._module_types(name, loader):
                        made.append(one)
                        packed = _packed(packed, one, name, function)
                elif not self._has_bytecode(name):
                    self._check_syntax(name, loader)
            except PackInvalid as error:
                problems += error.problems
        if problems:
            raise PackInvalid(problems)
        if packed is not None:
            self._index.put(self.folder, self.info.files, self._record(made, packed, sorted(loader.imports)))
        return made

    def _record(self, made: list[NodeType], packed: list[dict[str, Any]], imports: list[str]) -> dict[str, Any]:
        """All that the next start needs to know, as plain data."""
        ports = (port for one in made for port in (*one.inputs.values(), *one.outputs.values()))
        return {
            "toml": self._toml,
            "modules": {name: [self._digests[name].hex(), self._identities[name]] for name in self._sources},
            "imports": imports,
            "needs": self._needs(),
            "met": {needed: installed_version(_distribution(needed)) for needed in self._toml["requires"]},
            "versioned": self._versioned,
            "names": [one.name for one in made],
            "was": {old: one.name for one in made for old in one.was},
            "types": sorted({name for port in ports for name in types.names(port.type)}),
            "nodes": packed,
        }

    def _take_modules(self, known: Mapping[str, tuple[bytes, str]]) -> None:
        for inside in self.info.files:
            self._files[_module_name(inside)] = inside
        for name, (digest, identity) in known.items():
            inside = self._files[name]
            source = self._edition.source(self.info.name, name, self.folder / inside, self.info.files[inside], digest, identity)
            if name in self._sources:
                source.text = self._sources[name].encode()
            self.info.modules[name] = source

    def _late_call(self, module: str, function: str) -> Late:
        return Late(self.info.modules[module], function)

    # -- pack.toml -------------------------------------------------------------------------------------------------

    def _read_toml(self) -> dict[str, Any]:
        import tomllib

        path = self.folder / FILE
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (FileNotFoundError, NotADirectoryError):
            if not self.folder.is_dir():
                owner = next((one.distribution for one in installed_packs() if one.path.resolve() == self.folder.resolve()), "")
                fix = f"mend the entry point of {owner!r}, or uninstall it" if owner else "make it, or take it out of the setting 'packs'"
                raise self._fail("no-pack", f"there is no folder {str(self.folder)!r}", fix) from None
            raise self._fail("no-pack", f"{str(self.folder)!r} has no {FILE}", f'write one: name = "{self.folder.name}"') from None
        except OSError as error:
            fix = "let it be read, or take its folder out of the setting 'packs'"
            raise self._fail("bad-toml", f"{FILE} cannot be read: {error.strerror}", fix, str(path)) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise self._fail("bad-toml", f"{FILE} cannot be read: {error}", "mend the file", str(path)) from None
        for key in data:
            if key not in _KEYS:
                fix = did_you_mean(key, _KEYS) or f"the keys are {', '.join(_KEYS)}"
                raise self._fail("unknown-key", f"{key!r} is no key of {FILE}", fix, str(path))
        name, version = data.get("name", self.folder.name), data.get("version", 1)
        if not isinstance(name, str) or not name.replace("-", "_").isidentifier():
            raise self._fail("bad-name", f"{name!r} is no name for a pack", "use letters, digits and underscores", str(path))
        self.info.name = name
        if type(version) is not int:
            raise self._fail("bad-version", f"the version of a pack is a whole number, not {version!r}", "write version = 1", str(path))
        lists = {key: data.get(key, []) for key in _LISTS}
        for key, value in lists.items():
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                text = f"{key!r} of {FILE} must be a list of texts, but is {value!r}"
                raise self._fail("bad-toml", text, f'write {key} = ["…"]', str(path))
        return {"name": name, "version": version, "doc": str(data.get("doc", "")), **lists}

    def _check_required(self, met: Mapping[str, str]) -> None:
        """`met`: versions of distributions that are known to do."""
        for needed in self._toml["requires"]:
            if met.get(needed, "none") != "none" and installed_version(_distribution(needed)) == met[needed]:
                continue
            try:
                reason = missing(needed)
            except ValueError as error:
                text = f"'requires' of {FILE}: {error}"
                raise self._fail("bad-toml", text, 'write it like "scipy >= 1.14"', str(self.folder / FILE)) from None
            if reason:
                text = f"the pack {self.info.name!r} needs {needed!r}, which {reason}"
                raise self._fail("pack-requires", text, f'pip install "{needed}"', str(self.folder / FILE))

    def _find_others(self, taken: Mapping[str, PackInfo]) -> None:
        """The packs that this one imports from, and those that these need."""
        for needed in self._toml["packs"]:
            name, _, least = (part.strip() for part in needed.partition(">="))
            file = str(self.folder / FILE)
            if least and not (least.isascii() and least.isdigit()):
                raise self._fail("bad-toml", f"{needed!r} in 'packs' of {FILE} is no range of versions", f'write "{name} >= 1"', file)
            other = taken.get(name)
            lacking = next((one for one in (name, *(other.needs if other else ())) if one not in taken), None)
            if other is None or lacking:
                text = f"the pack {self.info.name!r} imports from the pack {lacking!r}, which is not here"
                raise PackMissing(
                    [Problem("pack-missing", self.info.name, text, "install it, or name its folder in NODEGRAPH_PACKS", file)]
                )
            if least and other.version < int(least):
                text = f"the pack {self.info.name!r} needs {needed!r}, but {name!r} is version {other.version}"
                raise self._fail("pack-version", text, f"update {name!r}", file)
            self._others.update({name: other, **{one: taken[one] for one in other.needs}})
        self.info.needs = tuple(self._others)

    def _needs(self) -> dict[str, str]:
        """What the packs that this one imports from are now."""
        return {
            name: keys.merkle(b"pack", ((one, source.identity.encode()) for one, source in info.modules.items())).hex()
            for name, info in self._others.items()
        }

    def _numerics_bytes(self) -> bytes:
        if self._numerics is None:
            names = self._toml["numerics"]
            self._numerics = keys.canonical([f"{name}=={installed_version(name)}" for name in names]) if names else b""
        return self._numerics

    # -- modules ---------------------------------------------------------------------------------------------------

    def _read_sources(self) -> None:
        """The text and digest of each module; that of the pack's own `__init__.py`, which no node can be in, has an empty name."""
        for inside in self.info.files:
            if inside == FILE:
                continue
            name = _module_name(inside)
            self._files[name] = inside
            try:
                raw = (self.folder / inside).read_bytes()
                self._sources[name] = raw.decode("utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                text = f"{inside!r} cannot be read: {error}"
                raise self._fail("bad-module", text, "save it as UTF-8", str(self.folder / inside)) from None
            self._digests[name] = keys.digest(b"module", raw)

    def _module_types(self, name: str, loader: SkeletonLoader) -> list[tuple[NodeType, Callable[..., Any]]]:
        """The node types of one module, each with its skeleton function."""
        file = str(self.folder / self._files[name])
        with self._reading(name):
            module = loader.load(name)
        made, problems = [], []
        for lost, line, why in loader.refused(name):
            text, fix = f"{lost!r} cannot be declared: {why}", "name types, defaults and options of @node that are there"
            problems.append(Problem("node-signature", f"{self.info.name}/{lost}", text, fix, file, line, 1))
        for lost, line in loader.repeated(name):
            text, fix = f"{lost!r} is defined twice in {Path(file).name}, and only the last would be there", "rename one of them"
            problems.append(Problem("node-clash", f"{self.info.name}/{lost}", text, fix, file, line, 1))
        with loader.importable(module):  # type hints of its records are looked up there
            for function in list(vars(module).values()):
                if _is_node_function(function, module.__name__):
                    try:
                        made.append((self._late(name, function), function))
                    except PackInvalid as error:
                        line = function.__code__.co_firstlineno
                        problems += [replace(one, file=one.file or file, line=one.line or line, column=1) for one in error.problems]
        if problems:
            raise PackInvalid(problems)
        return made

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """Raise PackInvalid for what keeps a module, or one that it imports, from being read."""
        file = str(self.folder / self._files[name])
        try:
            yield
        except Missing as error:
            pack, _, inside = error.module.partition("/")
            if pack == self.info.name and inside in self._files:
                file = str(self.folder / self._files[inside])
            text = f"the pack {self.info.name!r} cannot be imported: {error}"
            raise self._fail("pack-import", text, error.fix, file, error.line if pack == self.info.name else 0) from None
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            wrong = getattr(error, "filename", None) or f"{name}.py"  # as the loader calls them
            inside = self._files.get(wrong.removesuffix(".py"), self._files[name])
            said = f"{inside} is not valid Python: {getattr(error, 'msg', None) or error}"
            line = getattr(error, "lineno", None) or 1
            raise self._fail("bad-module", said, "mend this line", str(self.folder / inside), line) from None
        except TooSlow:
            said = f"what the signatures in {Path(file).name} need takes more than {PATIENCE:g} s to make"
            raise self._fail("pack-slow", said, "write plain values; do what takes long inside of functions", file) from None

    def _misplaced(self, name: str, loader: SkeletonLoader) -> list[Problem]:
        """What was meant as a node and would not be seen."""
        self._check_syntax(name, loader)
        where, file = self.info.name, str(self.folder / self._files[name])
        found = sorted(misplaced(loader.tree(name), top=self._may_have_nodes(name)), key=lambda one: one.line)
        return [Problem("node-place", f"{where}/{one.name}", one.text, one.fix, file, one.line, 1) for one in found]

    def _has_bytecode(self, name: str) -> bool:
        """Whether Python has compiled this very text before, so that it need not be parsed to know that it can be."""
        inside = self._files[name]
        size, changed, _ = self.info.files[inside]
        try:
            with open(importlib.util.cache_from_source(str(self.folder / inside)), "rb") as file:
                head = file.read(16)
        except (OSError, NotImplementedError):
            return False
        stamp = (changed // 1_000_000_000 & 0xFFFFFFFF).to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
        settled = time.time_ns() - changed > SETTLED
        return settled and head == importlib.util.MAGIC_NUMBER + bytes(4) + stamp

    def _check_syntax(self, name: str, loader: SkeletonLoader) -> None:
        with self._reading(name):
            loader.tree(name)

    def _late(self, module: str, function: Callable[..., Any]) -> NodeType:
        """The node type of a skeleton function, which calls the real one."""
        for parameter in inspect.signature(function).parameters.values():
            if isinstance(parameter.default, Placeholder):
                raise self._needs_import(function, "default", parameter.name, parameter.default)
        one = node_type(function, self.info.name, "" if self._versioned else self._identity(module))
        late = replace(one, call=self._late_call(module, function.__name__), numerics=self._numerics_bytes())
        for port in (*one.inputs.values(), *one.outputs.values(), *([one.open] if one.open else [])):
            for what in Port.__dataclass_fields__:
                if isinstance(value := getattr(port, what), Placeholder):
                    raise self._needs_import(function, what, port.name, value)
        return replace(late, fingerprint=self._late_call(module, one.fingerprint.__name__)) if one.fingerprint else late

    def _needs_import(self, function: Any, what: str, port: str, value: Placeholder) -> PackInvalid:
        text = f"the {what} of {port!r} of {function.__name__!r} needs {value!r}, which is not imported to read a pack"
        return PackInvalid([Problem("node-signature", f"{self.info.name}/{function.__name__}", text, "write a plain value")])

    def _identity(self, module: str) -> str:
        """The digest of a module and of all modules that it imports, transitively, those of other packs too."""
        if module not in self._identities:
            reached: dict[str, bytes] = {}
            stack = [module]
            if not self._is_for_check(module):  # those are imported alone
                stack.append("")
            while stack:
                name = stack.pop()
                if name in reached:
                    continue
                if name in self._sources:
                    reached[name] = self._digests[name]
                    stack += self._imported(name)
                    stack += [name[:dot] for dot, char in enumerate(name) if char == "."]  # folders are imported before what lies in them
                elif name.startswith("/"):
                    pack, _, inside = name[1:].partition(".")
                    source = self._others[pack].modules.get(inside) if pack in self._others else None
                    if source is not None:
                        reached[name] = source.identity.encode()
            self._identities[module] = keys.merkle(b"identity", reached.items()).hex()
        return self._identities[module]

    def _imported(self, name: str) -> list[str]:
        """The modules that a module may import, anywhere in it; those of another pack as `/pack.module`."""
        if name not in self._imports:
            self._imports[name] = list(self._find_imported(name))
        return self._imports[name]

    def _find_imported(self, name: str) -> Iterable[str]:
        parts = name.split(".") if name else []
        if self._files[name].endswith("__init__.py"):
            parts.append("")
        for dots, base, names in _IMPORT.findall(self._sources[name]):
            up = dots.count(".")
            above = up > len(parts)
            prefix = [] if above else parts[: len(parts) - up]
            full = [*prefix, *(base.split(".") if base else [])]
            for one in (full, *([*full, word] for word in re.findall(r"\w+", names))):
                yield f"{'/' if above else ''}{'.'.join(one)}"

    # -- facts -----------------------------------------------------------------------------------------------------

    def _is_for_check(self, name: str) -> bool:
        """Whether a module is of the pack's facts: facts.py, or one in the folder facts/ if that has an `__init__.py`."""
        return "facts" in self._files and (name == "facts" or name.startswith("facts."))

    def _may_have_nodes(self, name: str) -> bool:
        return bool(name) and not self._is_for_check(name)

    def _check_facts(self, name: str, loader: SkeletonLoader) -> None:
        """Facts are imported by `check`, so they may import the standard library, `nodegraph.facts` and each other alone."""
        inside = self._files[name]
        depth = name.count(".") + inside.endswith("__init__.py")
        if not self._has_bytecode(name):
            self._check_syntax(name, loader)
        text = self._sources[name]
        seen = _ANY_IMPORT.findall(text)
        found = [one for source, several in seen for one in (source or several).split(",")]
        clear = len(seen) == len(re.findall(r"\bimport\b", text))
        if not (clear and all(_is_for_facts(one.split()[0], depth) for one in found if one.strip())):  # to be looked at more closely
            self._check_syntax(name, loader)
            for statement in ast.walk(loader.tree(name)):
                for imported in _imported_names(statement):
                    if not _is_for_facts(imported, depth):
                        text, file = f"{inside} imports {imported!r}", str(self.folder / inside)
                        fix = "it may import the standard library, nodegraph.facts and other modules of a folder facts/ alone"
                        raise self._fail("facts-import", text, fix, file, statement.lineno)  # type: ignore[attr-defined]
        with self._reading(name):
            loader.check_imports(name)

    def facts(self) -> Any:
        """The pack's facts module, imported when it is first asked for."""
        return load_alone(self.info.modules["facts"])

    def names(self) -> list[str]:
        """The names of the nodes that a broken pack seems to define."""
        found = []
        for inside in self.info.files:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found += _DEFINED.findall((self.folder / inside).read_text(encoding="utf-8-sig"))
        return [given or function for given, function in found]


def _is_for_facts(name: str, depth: int) -> bool:
    """Whether a module of the facts may import one of that name. `depth`: how many dots lead to the folder facts/."""
    if name.startswith("."):
        return len(name) - len(name.lstrip(".")) <= depth
    return name in ("nodegraph.facts", "nodegraph") or name.partition(".")[0] in sys.stdlib_module_names


def _module_name(inside: str) -> str:
    """`sub/shapes.py` is `sub.shapes`, `sub/__init__.py` is `sub`, `__init__.py` is empty."""
    name = inside.removesuffix(".py").replace("/", ".")
    return "" if name == "__init__" else name.removesuffix(".__init__")


def _packages(info: PackInfo) -> set[str]:
    """The modules of a pack that are folders."""
    return {_module_name(inside) for inside in info.files if inside.endswith("__init__.py")}


def _text(source: Source) -> str:
    return source.read().decode("utf-8-sig")


def _distribution(requirement: str) -> str:
    return re.split(r"[ <>=!~;\[(]", requirement.strip(), maxsplit=1)[0]


def _imported_names(statement: ast.AST) -> list[str]:
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    if isinstance(statement, ast.ImportFrom):
        return ["." * statement.level + (statement.module or "")]
    return []


def _is_node_function(function: Any, module: str) -> bool:
    return inspect.isfunction(function) and isinstance(getattr(function, "__node__", None), Options) and function.__module__ == module


def _packed(packed: list[dict[str, Any]] | None, one: NodeType, module: str, function: Any) -> list[dict[str, Any]] | None:
    """The list with one more node type; None when that cannot be kept as plain data."""
    if packed is None:
        return None
    try:
        fingerprint = function.__node__.fingerprint
        return [*packed, pack_type(one, module, function.__name__, fingerprint.__name__ if fingerprint else "")]
    except NotPlain:
        return None


__all__ = ["FILE", "PackInfo", "PackMissing", "PackReader"]
