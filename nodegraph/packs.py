"""Packs: finding them, reading what they declare without importing them, and importing a module when one of its nodes runs.

A pack is a folder with a `pack.toml`. It registers whole or not at all; one bad pack never hurts another.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
import threading
import types as python_types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nodegraph import keys, kinds
from nodegraph.errors import PackInvalid, Problem, did_you_mean
from nodegraph.registry import Registry
from nodegraph.skeleton import Missing, Placeholder, SkeletonLoader
from nodegraph.spec import NodeType, Options, node_type

ROOT = "nodegraph_packs"
"""The private module prefix of packs: they never go through `sys.path`."""
FILE = "pack.toml"
_KEYS = ("name", "version", "doc", "numerics", "requires")
_NOT_MODULES = {"tests", "models", "__pycache__", "node_modules"}
_IMPORT = re.compile(r"^[ \t]*from[ \t]+(\.+)([\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*)", re.MULTILINE)
_ABSOLUTE = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import|import[ \t]+([\w., \t]+))", re.MULTILINE)


@dataclass(slots=True)
class PackInfo:
    """One pack as it was found. `problems` says why it has no nodes, if it has none."""

    name: str
    version: int
    doc: str
    path: Path
    nodes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def load_all(registry: Registry, folders: Iterable[Path]) -> list[PackInfo]:
    """Register every pack. What cannot be registered is in the infos' problems, and in the registry's answers for its names."""
    return [load(registry, folder) for folder in folders]


def load(registry: Registry, folder: Path) -> PackInfo:
    """Register one pack, in place of what it had registered before."""
    reader = _PackReader(folder)
    info = reader.info
    try:
        types = reader.read()
        registry.add(types, info.name, info.version, reader.facts if reader.has_facts else None)
        info.nodes = sorted(one.name for one in types)
    except PackInvalid as error:
        info.problems = list(error.problems)
        registry.broken(info.name, error.problems[0], reader.names())
    return info


class _PackReader:
    """Reads one pack's folder."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.info = PackInfo(folder.name, 1, "", self.folder)
        self._sources: dict[str, str] = {}
        self._digests: dict[str, bytes] = {}
        self._numerics: tuple[str, ...] = ()

    def _fail(self, code: str, text: str, fix: str = "", file: str = "", line: int = 0) -> PackInvalid:
        return PackInvalid([Problem(code, self.info.name, text, fix, file or str(self.folder), line, 1 if line else 0)])

    def read(self) -> list[NodeType]:
        """The node types of the pack. Raises PackInvalid with everything that is wrong."""
        self._read_toml()
        self._read_sources()
        loader = SkeletonLoader(f"{ROOT}.{self.info.name}", self._sources.get)
        types: list[NodeType] = []
        problems: list[Problem] = []
        for name, text in self._sources.items():
            if name == "facts":
                self._check_facts(text)
            elif "@node" in text or ".node" in text:
                try:
                    types += self._module_types(name, loader)
                except PackInvalid as error:
                    problems += error.problems
        if problems:
            raise PackInvalid(problems)
        _Finder.install(self.info.name, self.folder)
        return types

    def _read_toml(self) -> None:
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
                raise self._fail(
                    "unknown-key",
                    f"{key!r} is no key of {FILE}",
                    did_you_mean(key, _KEYS) or f"known keys are {', '.join(_KEYS)}",
                    str(path),
                )
        name, version = data.get("name", self.folder.name), data.get("version", 1)
        if not isinstance(name, str) or not name.replace("-", "_").isidentifier():
            raise self._fail("bad-name", f"{name!r} is no name for a pack", "use letters, digits and underscores", str(path))
        if type(version) is not int:
            raise self._fail("bad-version", f"the version of a pack is a whole number, not {version!r}", "write version = 1", str(path))
        self.info.name, self.info.version, self.info.doc = name, version, str(data.get("doc", ""))
        self._numerics = tuple(data.get("numerics", ()))
        for needed in data.get("requires", ()):
            if not _findable_distribution(needed):
                raise self._fail(
                    "pack-requires", f"the pack {name!r} needs {needed!r}, which is not installed", f"pip install {needed}", str(path)
                )

    def _read_sources(self) -> None:
        for path in sorted(self.folder.rglob("*.py")):
            inside = path.relative_to(self.folder)
            if _NOT_MODULES.isdisjoint(inside.parts) and not any(part.startswith(".") for part in inside.parts):
                name = ".".join(inside.with_suffix("").parts).removesuffix(".__init__")
                if name == "__init__":
                    continue
                try:
                    raw = path.read_bytes()
                    self._sources[name] = raw.decode("utf-8")
                except (OSError, UnicodeDecodeError) as error:
                    raise self._fail("bad-module", f"{str(inside)!r} cannot be read: {error}", "save it as UTF-8", str(path)) from None
                self._digests[name] = keys.digest(b"module", raw)

    def _module_types(self, name: str, loader: SkeletonLoader) -> list[NodeType]:
        file = str(self.folder / f"{name.replace('.', '/')}.py")
        try:
            module = loader.load(name)
        except SyntaxError as error:
            raise self._fail(
                "bad-module", f"{name}.py is not valid Python: {error.msg}", "mend this line", file, error.lineno or 1
            ) from None
        except Missing as error:
            raise self._fail(
                "pack-import",
                f"the pack {self.info.name!r} cannot be imported: {error}",
                "install it, or import it inside of the function that uses it",
                file,
            ) from None
        made, problems = [], []
        sys.modules[module.__name__] = module  # type hints of its records are looked up there
        try:
            for function in list(vars(module).values()):
                if (
                    inspect.isfunction(function)
                    and isinstance(getattr(function, "__node__", None), Options)
                    and function.__module__ == module.__name__
                ):
                    try:
                        made.append(self._late(name, function))
                    except PackInvalid as error:
                        problems += [replace(problem, file=problem.file or file) for problem in error.problems]
        finally:
            sys.modules.pop(module.__name__, None)
        if problems:
            raise PackInvalid(problems)
        return made

    def _late(self, module: str, function: Callable[..., Any]) -> NodeType:
        """The node type of a skeleton function, which calls the real one."""
        one = node_type(function, self.info.name, self._identity(module))
        where = f"{ROOT}.{self.info.name}.{module}"
        late = replace(one, call=Late(where, function.__name__), numerics=self._numerics_bytes())
        for port in (*one.inputs.values(), *one.outputs.values()):
            if isinstance(port.default, Placeholder):
                raise self._fail(
                    "node-signature",
                    f"the default of {port.name!r} of {one.name!r} needs {port.default!r}, which is not imported to read a pack",
                    "write a plain value",
                )
        if one.fingerprint:
            late = replace(late, fingerprint=Late(where, one.fingerprint.__name__))
        return late

    def _identity(self, module: str) -> str:
        """The digest of a module and of the pack's modules that it imports, transitively."""
        reached, stack = set(), [module]
        while stack:
            name = stack.pop()
            if name not in reached and name in self._sources:
                reached.add(name)
                stack += self._imported(name)
        return keys.merkle(b"identity", ((name, self._digests[name]) for name in reached)).hex()

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
        return keys.canonical([f"{name}=={installed_version(name)}" for name in self._numerics]) if self._numerics else b""

    # -- facts -----------------------------------------------------------------------------------------------------

    @property
    def has_facts(self) -> bool:
        return "facts" in self._sources

    def _check_facts(self, text: str) -> None:
        """facts.py is imported by `check`, so it may import the standard library and `nodegraph.facts` alone."""
        for one, several in _ABSOLUTE.findall(text):
            for name in [one] if one else [word.split(" as ")[0].strip() for word in several.split(",")]:
                if name.partition(".")[0] not in sys.stdlib_module_names and name not in ("nodegraph.facts", "nodegraph"):
                    raise self._fail(
                        "facts-import",
                        f"facts.py imports {name!r}",
                        "it may import the standard library and nodegraph.facts alone",
                        str(self.folder / "facts.py"),
                    )

    def facts(self) -> Any:
        """The pack's facts module, imported when it is first asked for."""
        return importlib.import_module(f"{ROOT}.{self.info.name}.facts")

    def names(self) -> list[str]:
        """The names of the nodes that a broken pack seems to define."""
        return re.findall(r"^@node[^\n]*\n(?:[^\n]*\n)*?(?:async )?def (\w+)", "\n".join(self._sources.values()), re.MULTILINE)


class Late:
    """A function of a pack that is imported when it is first called."""

    __slots__ = ("_function", "_module", "_name")

    def __init__(self, module: str, name: str):
        self._module, self._name, self._function = module, name, None

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


def _register_classes(module: python_types.ModuleType, pack: str) -> None:
    for cls in vars(module).values():
        if isinstance(cls, type) and cls.__module__ == module.__name__ and hasattr(cls, "parts"):
            kinds.register(cls, f"{pack}/{cls.__name__}")


def _find_class(name: str) -> None:
    """Import the modules of the pack that a stored value's class is from."""
    pack, _, cls = name.partition("/")
    folder = _Finder.folders.get(pack)
    for path in sorted(folder.rglob("*.py")) if folder else ():
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
            sys.meta_path.append(cls)  # type: ignore[arg-type]
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
