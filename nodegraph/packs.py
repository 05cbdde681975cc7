"""Packs: finding them, reading what they declare without importing them, and importing a module when one of its nodes runs.

A pack is a folder with a `pack.toml`. It registers whole or not at all; one bad pack never hurts another.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import threading
import types as python_types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nodegraph import keys, kinds
from nodegraph.errors import PackInvalid, Problem, did_you_mean
from nodegraph.registry import Registry
from nodegraph.skeleton import Missing, Placeholder, SkeletonLoader, findable
from nodegraph.spec import NodeType, Options, Port, node_type
from nodegraph.spec_index import NotPlain, SpecIndex, Stamps, pack_type, unpack_type

ROOT = "nodegraph_packs"
"""The private module prefix of packs: they never go through `sys.path`."""
FILE = "pack.toml"
_KEYS = ("name", "version", "doc", "numerics", "requires")
_NOT_MODULES = {"tests", "models", "__pycache__", "node_modules"}
_IMPORT = re.compile(r"^[ \t]*from[ \t]+(\.+)([\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*)", re.MULTILINE)


@dataclass(slots=True)
class PackInfo:
    """One pack as it was found. `problems` says why it has no nodes, if it has none."""

    name: str
    version: int
    doc: str
    path: Path
    nodes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def load_all(registry: Registry, folders: Iterable[Path], index: Path | None = None) -> list[PackInfo]:
    """Register every pack. What cannot be registered is in the infos' problems, and in the registry's answers for its names.

    `index`: a folder that keeps what packs declare from one start to the next; any number of processes may share it.
    """
    kept = SpecIndex(index)
    infos: list[PackInfo] = []
    for folder in folders:
        infos.append(load(registry, folder, kept, {one.name: one.path for one in infos if not one.problems}))
    return infos


def load(registry: Registry, folder: Path, index: SpecIndex | None = None, taken: Mapping[str, Path] | None = None) -> PackInfo:
    """Register one pack, in place of what it had registered before. `taken`: names of packs that others have, with their folders."""
    reader = _PackReader(folder, index or SpecIndex(None))
    info = reader.info
    try:
        types = reader.read(taken or {})
        registry.add(types, info.name, info.version, reader.facts if reader.has_facts else None)
        info.nodes = sorted(one.name for one in types)
    except PackInvalid as error:
        info.problems = list(error.problems)
        registry.broken(info.name, error.problems[0], reader.names())
    return info


class _PackReader:
    """Reads one pack's folder."""

    def __init__(self, folder: Path, index: SpecIndex):
        self.folder = folder.resolve()
        self.info = PackInfo(folder.name, 1, "", self.folder)
        self._index = index
        self._toml: dict[str, Any] = {}
        self._sources: dict[str, str] = {}
        self._digests: dict[str, bytes] = {}
        self._identities: dict[str, str] = {}
        self._numerics: bytes | None = None
        self._made: list[NodeType] = []
        self.has_facts = False

    def _fail(self, code: str, text: str, fix: str = "", file: str = "", line: int = 0) -> PackInvalid:
        return PackInvalid([Problem(code, self.info.name, text, fix, file or str(self.folder), line, 1 if line else 0)])

    def read(self, taken: Mapping[str, Path]) -> list[NodeType]:
        """The node types of the pack. Raises PackInvalid with everything that is wrong."""
        files = self._files()
        record = self._index.get(self.folder, files)
        self._toml = record["toml"] if record else self._read_toml()
        self.info.name, self.info.version, self.info.doc = self._toml["name"], self._toml["version"], self._toml["doc"]
        if self.info.name in taken:
            text = f"there is another pack {self.info.name!r}, in {str(taken[self.info.name])!r}"
            raise self._fail("pack-clash", text, "rename one of them in its pack.toml")
        self._check_required()
        self.has_facts = "facts.py" in files
        numerics = self._numerics_bytes()
        if record is None or not all(map(findable, record["imports"])):
            record = self._declared(files)
        else:
            _Finder.install(self.info.name, self.folder)
        return self._made or [unpack_type(one, self.info.name, numerics, self._late_call) for one in record["nodes"]]

    def _declared(self, files: Stamps) -> dict[str, Any]:
        """Read the sources; what they declare is in `_made`, and in the record if it can be kept."""
        self._read_sources()
        loader = SkeletonLoader(f"{ROOT}.{self.info.name}", self._sources)
        problems: list[Problem] = []
        packed: list[dict[str, Any]] | None = []
        for name, text in self._sources.items():
            try:
                if name == "facts":
                    self._check_facts(text)
                elif "@node" in text or ".node" in text:
                    for one, function in self._module_types(name, loader):
                        self._made.append(one)
                        packed = _packed(packed, one, name, function)
            except PackInvalid as error:
                problems += error.problems
        if problems:
            raise PackInvalid(problems)
        _Finder.install(self.info.name, self.folder)
        record = {"toml": self._toml, "imports": sorted(loader.imports), "nodes": packed}
        if packed is not None:
            self._index.put(self.folder, files, record)
        return record

    def _late_call(self, module: str, function: str) -> Late:
        return Late(f"{ROOT}.{self.info.name}.{module}", function)

    def _read_toml(self) -> dict[str, Any]:
        import tomllib

        path = self.folder / FILE
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise self._fail("no-pack", f"{str(self.folder)!r} has no {FILE}", f'write one: name = "{self.folder.name}"') from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
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
        lists = {key: data.get(key, []) for key in ("numerics", "requires")}
        for key, value in lists.items():
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                raise self._fail(
                    "bad-toml", f"{key!r} of {FILE} must be a list of texts, but is {value!r}", f'write {key} = ["…"]', str(path)
                )
        return {"name": name, "version": version, "doc": str(data.get("doc", "")), **lists}

    def _check_required(self) -> None:
        for needed in self._toml["requires"]:
            if not _findable_distribution(needed):
                text = f"the pack {self.info.name!r} needs {needed!r}, which is not installed"
                raise self._fail("pack-requires", text, f'pip install "{needed}"', str(self.folder / FILE))

    def _files(self) -> Stamps:
        """Size and time of the pack's own files, by their path inside of it."""
        found: Stamps = {}
        for top, folders, names in os.walk(self.folder):
            folders[:] = sorted(one for one in folders if one not in _NOT_MODULES and not one.startswith("."))
            for name in sorted(names):
                if (name.endswith(".py") and not name.startswith(".")) or (name == FILE and Path(top) == self.folder):
                    path = Path(top) / name
                    try:
                        stat = path.stat()
                    except OSError:
                        continue
                    found[path.relative_to(self.folder).as_posix()] = [stat.st_size, stat.st_mtime_ns]
        return found

    def _read_sources(self) -> None:
        """The text and digest of each module. `__init__.py` is none: no node can be in it."""
        for inside in self._files():
            name = inside.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            if inside == FILE or name == "__init__":
                continue
            try:
                raw = (self.folder / inside).read_bytes()
                self._sources[name] = raw.decode("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise self._fail(
                    "bad-module", f"{inside!r} cannot be read: {error}", "save it as UTF-8", str(self.folder / inside)
                ) from None
            self._digests[name] = keys.digest(b"module", raw)

    def _module_types(self, name: str, loader: SkeletonLoader) -> list[tuple[NodeType, Callable[..., Any]]]:
        """The node types of one module, each with its skeleton function."""
        file = str(self.folder / f"{name.replace('.', '/')}.py")
        try:
            module = loader.load(name)
        except SyntaxError as error:
            text = f"{Path(error.filename or file).name} is not valid Python: {error.msg}"
            raise self._fail("bad-module", text, "mend this line", file, error.lineno or 1) from None
        except Missing as error:
            raise self._fail("pack-import", f"the pack {self.info.name!r} cannot be imported: {error}", error.fix, file) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise self._fail("bad-module", f"{name}.py cannot be read: {error}", "mend the file", file) from None
        made, problems = [], []
        sys.modules[module.__name__] = module  # type hints of its records are looked up there
        try:
            for function in list(vars(module).values()):
                if _is_node_function(function, module.__name__):
                    try:
                        made.append((self._late(name, function), function))
                    except PackInvalid as error:
                        line = function.__code__.co_firstlineno
                        problems += [
                            replace(problem, file=problem.file or file, line=problem.line or line, column=1) for problem in error.problems
                        ]
        finally:
            sys.modules.pop(module.__name__, None)
        if problems:
            raise PackInvalid(problems)
        return made

    def _late(self, module: str, function: Callable[..., Any]) -> NodeType:
        """The node type of a skeleton function, which calls the real one."""
        for parameter in inspect.signature(function).parameters.values():
            if isinstance(parameter.default, Placeholder):
                raise self._needs_import(function, "default", parameter.name, parameter.default)
        one = node_type(function, self.info.name, self._identity(module))
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
        """The digest of a module and of the pack's modules that it imports, transitively."""
        if module not in self._identities:
            reached, stack = set(), [module]
            while stack:
                name = stack.pop()
                if name not in reached and name in self._sources:
                    reached.add(name)
                    stack += self._imported(name)
            self._identities[module] = keys.merkle(b"identity", ((name, self._digests[name]) for name in reached)).hex()
        return self._identities[module]

    def _imported(self, name: str) -> list[str]:
        """The pack's modules that a module may import, anywhere in it."""
        found = []
        parts = name.split(".")
        for dots, base, names in _IMPORT.findall(self._sources[name]):
            prefix = [*parts[: len(parts) - len(dots)], *(base.split(".") if base else [])]
            found.append(".".join(prefix))
            found += [".".join([*prefix, word]) for word in re.findall(r"[\w]+", names)]
        return found

    def _numerics_bytes(self) -> bytes:
        if self._numerics is None:
            names = self._toml["numerics"]
            self._numerics = keys.canonical([f"{name}=={installed_version(name)}" for name in names]) if names else b""
        return self._numerics

    # -- facts -----------------------------------------------------------------------------------------------------

    def _check_facts(self, text: str) -> None:
        """facts.py is imported by `check`, so it may import the standard library and `nodegraph.facts` alone."""
        file = str(self.folder / "facts.py")
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError) as error:
            line = getattr(error, "lineno", None) or 1
            raise self._fail(
                "bad-module", f"facts.py is not valid Python: {getattr(error, 'msg', error)}", "mend this line", file, line
            ) from None
        for statement in ast.walk(tree):
            for name in _imported_names(statement):
                if name.partition(".")[0] not in sys.stdlib_module_names and name not in ("nodegraph.facts", "nodegraph"):
                    fix = "it may import the standard library and nodegraph.facts alone"
                    raise self._fail("facts-import", f"facts.py imports {name!r}", fix, file, statement.lineno)  # type: ignore[attr-defined]

    def facts(self) -> Any:
        """The pack's facts module, imported when it is first asked for."""
        return _import_alone(f"{ROOT}.{self.info.name}.facts", self.folder / "facts.py")

    def names(self) -> list[str]:
        """The names of the nodes that a broken pack seems to define."""
        found = []
        for inside in self._files():
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found += _DEFINED.findall((self.folder / inside).read_text(encoding="utf-8"))
        return [given or function for given, function in found]


_DEFINED = re.compile(
    r"^@node(?:\([^\n]*?(?:name=[\"'](\w+)[\"'])?[^\n]*\))?[ \t]*(?:#[^\n]*)?\n(?:@[^\n]*\n)*(?:async )?def (\w+)", re.MULTILINE
)


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


class Late:
    """A function of a pack that is imported when it is first called."""

    __slots__ = ("_function", "_module", "_name")

    def __init__(self, module: str, name: str):
        self._module, self._name = module, name
        self._function: Any = None

    def __call__(self, *args: Any, **options: Any) -> Any:
        if self._function is None:
            self._function = getattr(import_module(self._module), self._name)
        return self._function(*args, **options)

    def __repr__(self) -> str:
        return f"{self._module}.{self._name}"


_importing = threading.RLock()


def import_module(name: str) -> python_types.ModuleType:
    """Import a pack's module for real, and let its classes be port types."""
    with _importing:
        module = importlib.import_module(name)
        pack = name.split(".")[1]
        for one in list(sys.modules.values()):
            if getattr(one, "__name__", "").startswith(f"{ROOT}.{pack}."):
                _register_classes(one, pack)
    return module


def _import_alone(name: str, file: Path) -> python_types.ModuleType:
    """Import one module of a pack and nothing else of it: the pack's `__init__.py` may import anything."""
    with _importing:
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, file)
            assert spec is not None  # a path that ends in .py has a loader
            assert spec.loader is not None
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]


def _register_classes(module: python_types.ModuleType, pack: str) -> None:
    for cls in vars(module).values():
        if isinstance(cls, type) and cls.__module__ == module.__name__ and hasattr(cls, "parts"):
            kinds.register(cls, f"{pack}/{cls.__name__}")


def _find_class(name: str) -> None:
    """Import the modules of the pack that a stored value's class is from."""
    pack, _, cls = name.partition("/")
    folder = _Finder.folders.get(pack)
    if folder is None:
        return
    for path in sorted(folder.rglob("*.py")):
        if re.search(rf"^class {re.escape(cls)}\b", path.read_text(encoding="utf-8"), re.MULTILINE):
            import_module(f"{ROOT}.{pack}.{'.'.join(path.relative_to(folder).with_suffix('').parts)}")


kinds.find_class.append(_find_class)


class _Finder:
    """Finds `nodegraph_packs.<pack>` in the pack's folder, through the ordinary import system."""

    folders: dict[str, Path] = {}

    @classmethod
    def install(cls, pack: str, folder: Path) -> None:
        """Let a pack be imported from its folder; modules of a former folder, or of changed files, are forgotten."""
        if ROOT not in sys.modules:
            root = python_types.ModuleType(ROOT)
            root.__path__ = []
            sys.modules[ROOT] = root
            sys.meta_path.append(cls)
        if cls.folders.get(pack) not in (None, folder):
            for name in [name for name in sys.modules if name == f"{ROOT}.{pack}" or name.startswith(f"{ROOT}.{pack}.")]:
                del sys.modules[name]
        cls.folders[pack] = folder

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        root, _, pack = name.partition(".")
        if root != ROOT or "." in pack or pack not in cls.folders:
            return None
        folder = cls.folders[pack]
        init = folder / "__init__.py"
        if init.is_file():
            return importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(folder)])
        spec = importlib.util.spec_from_loader(name, loader=None, is_package=True)
        if spec is not None:
            spec.submodule_search_locations = [str(folder)]
        return spec


def installed_version(distribution: str) -> str:
    """The version of an installed distribution, or `none`; reads names of folders alone, which is fast."""
    wanted = distribution.replace("-", "_").lower() + "-"
    for folder in sys.path:
        try:
            names = _listing(folder, os.stat(folder).st_mtime_ns)
        except OSError:
            continue
        for name in names:
            if name.lower().startswith(wanted):
                return name[len(wanted) :].removesuffix(".dist-info")
    return "none"


_listings: dict[tuple[str, int], list[str]] = {}


def _listing(folder: str, stamp: int) -> list[str]:
    found = _listings.get((folder, stamp))
    if found is None:
        found = _listings[(folder, stamp)] = [name for name in os.listdir(folder or ".") if name.endswith(".dist-info")]
    return found


def _findable_distribution(requirement: str) -> bool:
    name = re.split(r"[ <>=!~;\[]", requirement, maxsplit=1)[0]
    return installed_version(name) != "none"
