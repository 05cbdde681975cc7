"""What a saved file tells of its making: enough to make it again, and to say what is different where that gives other bytes.

    nodegraph  the version                        packs     name → version, the code of each node used
    workflow   the file, workflows it uses inside versions  of what the packs' numbers depend on
    inputs     every input as it was bound        models    name → digest of its files
    literals   node.port → type and digest, of what no JSON holds (a picture that was set for a port)
    seeds      node.port → seed                   files     place → path as written, digest
    keys       node → plan key                    machine   device and dtype
    smaller    node → the variant that it ran as, where memory was short (added for each file by those who save it)

No time, no host name, no path that nobody wrote, no secret. The record of a run is the same whenever it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph import keys, kinds, types
from nodegraph.distributions import installed_version
from nodegraph.handles import ModelRef
from nodegraph.literals import Pending, Refused, has_pending, literal
from nodegraph.secret import Secret
from nodegraph.sources import Const
from nodegraph.spec import REQUIRED, NodeType, Port
from nodegraph.template import Template
from nodegraph.types import Type
from nodegraph.values import File
from nodegraph.workflow import Workflow

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.plan import Plan

MAX_KEYS = 500
"""A plan of more steps tells no keys of its nodes: they would outweigh the picture."""
ENCODER = "pillow"
"""What writes pictures: its version tells of their bytes too."""


class Provenance:
    """The record of one run, made when it is first asked for. `plan` is told of as it is now, before it grows in the run."""

    def __init__(self, engine: Engine, template: Template, name: str, given: Mapping[str, Any], origins: Mapping[str, str], plan: Plan):
        shared = engine._ready()  # neither this nor the engine is kept: results would hold its weights and all that is cached
        self._machine = {"device": shared.device.partition(":")[0], "dtype": shared.dtype}
        self._versions, self._known_packs = engine.registry.versions, engine.packs
        self._template, self._name, self._origins = template, name, origins
        self._given = {name: kinds.apart(value) if kinds.is_json(value) else value for name, value in given.items()}
        self._plan, self._steps = plan, len(plan)
        bound = {name: source.value for name, source in plan.bound.items() if isinstance(source, Const)}
        self._workflows = {name: engine._template(value) for name, value in bound.items() if isinstance(value, Workflow)}
        self._made: dict[str, Any] | None = None

    def __call__(self) -> dict[str, Any]:
        if self._made is None:
            self._made = self._record()
        return self._made

    def _record(self) -> dict[str, Any]:
        from nodegraph import __version__

        workflow = self_contained(self._template)
        packs = self._packs()
        record: dict[str, Any] = {
            "nodegraph": __version__,
            "workflow": {"nodegraph": workflow["nodegraph"], "name": self._name, **workflow},
            "inputs": self._inputs(),
            "literals": dict(_objects(self._template)),
            "seeds": dict(self._seeds()),
            "keys": self._keys(),
            "packs": packs,
            "versions": {name: installed_version(name) for name in sorted({ENCODER, *self._numerics(packs)})},
            "models": {ref.name: ref.digest().hex() for ref in self._values(ModelRef)},
            "files": self._files(),
            "machine": self._machine,
        }
        return {name: value for name, value in record.items() if value or name in ("workflow", "inputs", "packs")}

    def _inputs(self) -> dict[str, Any]:
        return {name: self._told(name, port) for name, port in self._template.inputs.items() if name in self._given or not port.required}

    def _told(self, name: str, port: Port) -> Any:
        """An input as JSON: what is none is told by its type, its digest, and where it was read from."""
        value = self._given.get(name, port.default)
        if name in self._workflows:
            return _contained(self._workflows[name], _folder(self._template))
        if isinstance(value, Secret):
            return {"type": "secret"}
        kind = types.without_none(port.type)
        if kind is types.FILE and isinstance(value, str):
            folder = Path.cwd() if name in self._given else _folder(self._template)
            return {"type": "file", "digest": self._file_digest(folder / Path(value).expanduser()), "from": value}
        if isinstance(value, File):
            return {"type": "file", "digest": value.digest.hex(), "from": self._origins.get(name) or Path(value.path).name}
        if not kinds.is_json(value):  # it may be of numpy or PIL
            value = literal(port, value, lambda kind, port, given: given)
        if kinds.is_json(value):
            return value
        record = {"type": kinds.name_of(type(value)), "digest": kinds.content(value).hex()}
        return {**record, "from": self._origins[name]} if name in self._origins else record

    def _seeds(self) -> Iterator[tuple[str, Any]]:
        for step, used in self._known():
            for name, port in used.inputs.items():
                value = self._plan.literals[step].get(name, port.default)
                if port.type is types.SEED and name not in self._plan.sources[step] and kinds.is_json(value):
                    yield f"{self._plan.path(step)}.{name}", value

    def _keys(self) -> dict[str, str]:
        if self._steps > MAX_KEYS:
            return {}
        return {self._plan.path(step): key.hex() for step in range(self._steps) if (key := self._plan.keys[step]) is not None}

    def _known(self) -> Iterator[tuple[int, NodeType]]:
        for step in range(self._steps):
            used = self._plan.types[step]
            if isinstance(used, NodeType) and used.pack != "nodegraph":
                yield step, used

    def _packs(self) -> dict[str, Any]:
        """Each pack that is used: its version, and what keys know of the code of each node type that is used of it."""
        found: dict[str, Any] = {}
        for one in sorted({used for _, used in self._known()}, key=lambda one: (one.pack, one.name)):
            pack = found.setdefault(one.pack, {"version": self._versions.get(one.pack, 1), "nodes": {}})
            pack["nodes"][one.name] = one.identity or f"version {one.version}"
        return found

    def _numerics(self, packs: Iterable[str]) -> Iterator[str]:
        """What the numbers of packs depend on, as their pack.toml says."""
        for info in self._known_packs:
            if info.name in packs:
                yield from info.numerics

    def _values(self, cls: type) -> Iterator[Any]:
        """Every value of a class that a step holds."""
        for step in range(self._steps):
            bound = [source.value for source in self._plan.sources[step].values() if isinstance(source, Const)]
            for value in [*self._plan.literals[step].values(), *bound]:
                yield from (one for one in (value if isinstance(value, list) else [value]) if isinstance(one, cls))

    def _files(self) -> dict[str, Any]:
        """The files that the workflow itself names, and those that are among its inputs, by the place where they do: `load.file`,
        `paint/load.file`, `paint/inputs.file` for a default."""
        root = _folder(self._template)
        found = [*_written_files(self._template, "", root)]
        for name, inner in self._workflows.items():
            found += _written_files(inner, f"inputs.{name}/", root)
        return {place: {"path": shown, "digest": self._file_digest(path)} for place, path, shown in found}

    def _file_digest(self, path: Path) -> str:
        """The digest that the plan has of a file: what lies there now may be another."""
        known = next((one for one in self._values(File) if Path(one.path) == path.resolve()), None)
        return (known.digest if known else keys.file_digest(path)).hex()


# -- one file instead of several ---------------------------------------------------------------------------------------


def self_contained(template: Template) -> dict[str, Any]:
    """The workflow as JSON with every workflow it uses written inside, and paths of files relative to its own folder."""
    return _contained(template, _folder(template))


def _folder(template: Template) -> Path:
    return template.workflow.folder or Path.cwd()


def _contained(template: Template, root: Path) -> dict[str, Any]:
    record = template.workflow.to_json()
    record.pop("$schema", None)
    for index, name in enumerate(template.names):
        node, used = dict(record["nodes"][name]), template.types[index]
        if isinstance(used, Template):
            node["use"] = _contained(used, root)
        told: dict[str, Any] = {port: _contained(inner, root) for port, inner in _workflows_in(template, index)}
        for port, value in template.literals[index].items():
            if _is_given(value):
                told[port] = _named(value, root)
            elif _is_object(value):
                told[port] = kinds.content(value).hex()
        if told:
            node["with"] = {**node["with"], **told}
        if _folder(template) != root:
            node = _rebased(node, template, index, root)
        record["nodes"][name] = node
    if _folder(template) != root:
        moved = {name: _moved(said, root) for name, said in _default_files(template)}
        moved.update({name: _contained(inner, root) for name, inner in _default_workflows(template)})
        for name, default in moved.items():
            record["inputs"][name] = {**record["inputs"][name], "default": default}
    return record


def _is_given(value: Any) -> bool:
    """Whether a literal is a file or a model that was set for a port, and not named in the workflow; or a list of these."""
    return isinstance(value, File | ModelRef) or (isinstance(value, list) and bool(value) and all(map(_is_given, value)))


def _is_object(value: Any) -> bool:
    """Whether a literal is what no JSON holds."""
    return not (kinds.is_json(value) or has_pending(value) or isinstance(value, Workflow) or _is_given(value))


def _named(value: Any, root: Path) -> Any:
    """What a file or a model that was set is called: from the workflow's folder, or the working folder, if it lies there."""
    if isinstance(value, list):
        return [_named(one, root) for one in value]
    if isinstance(value, ModelRef):
        return value.name
    path = Path(value.path)
    base = next((one for one in (root.resolve(), Path.cwd()) if path.is_relative_to(one)), path.parent)
    return path.relative_to(base).as_posix()


def _objects(template: Template) -> Iterator[tuple[str, Any]]:
    """Literals that no JSON holds: they were set for ports, and whoever runs it again must set them again."""
    for name, literals in zip(template.names, template.literals, strict=True):
        for port, value in literals.items():
            if _is_object(value):
                yield f"{name}.{port}", {"type": kinds.name_of(type(value)), "digest": kinds.content(value).hex()}


def _workflows_in(template: Template, index: int) -> Iterator[tuple[str, Template]]:
    """The workflows that are literals of a node, by port."""
    for port, value in template.literals[index].items():
        if isinstance(value, Workflow):
            yield from ((port, child) for child in template.children if child.workflow is value)


def _default_files(template: Template) -> Iterator[tuple[str, Any]]:
    """The defaults that name files, as what they stand for, by input."""
    folder = _folder(template)

    def named(kind: Type, port: Port, given: Any) -> Pending:
        return Pending(kind.name, str(given), os.path.realpath(folder / str(given)))

    for name, port in template.inputs.items():
        if port.default is not REQUIRED and "file" in types.names(port.type):
            with suppress(Refused):  # of a default that cannot be one: another value is given in its place
                if has_pending(said := literal(port, port.default, named)) and _is_file(said):
                    yield name, said


def _default_workflows(template: Template) -> Iterator[tuple[str, Template]]:
    """The workflows that are defaults, by input."""
    read = {child.workflow._stamp[0]: child for child in template.children if child.workflow._stamp}
    inside = {child.workflow._at: child for child in template.children}
    for name, port in template.inputs.items():
        if types.without_none(port.type) is types.WORKFLOW and port.default is not REQUIRED:
            path = os.path.realpath(_folder(template) / port.default) if isinstance(port.default, str) else ""
            if inner := read.get(path) or inside.get((*template.workflow._at, "inputs", name, "default")):
                yield name, inner


def _rebased(node: dict[str, Any], template: Template, index: int, root: Path) -> dict[str, Any]:
    """A node of an inner workflow with its paths of files as they are from the folder of the outer one."""
    moved = {port: _moved(what, root) for at, port, what in template.pending if at == index and _is_file(what)}
    mapped = {port: _moved(items, root) for port, items in _mapped_files(template, index)}
    node = {**node, "with": {**node["with"], **moved}} if moved else node
    return {**node, "each": {**node["each"], **mapped}} if mapped else node


def _mapped_files(template: Template, index: int) -> Iterator[tuple[str, Any]]:
    """The lists of files that a node is mapped over, by port."""
    for port, items in template.each.get(index, {}).items():
        if has_pending(items) and _is_file(items):
            yield port, items


def _is_file(what: Any) -> bool:
    return all(map(_is_file, what)) if isinstance(what, list) else isinstance(what, Pending) and what.kind == "file"


def _moved(what: Any, root: Path) -> Any:
    return [_moved(one, root) for one in what] if isinstance(what, list) else Path(os.path.relpath(what.path, root.resolve())).as_posix()


def _written_files(template: Template, place: str, root: Path, given: Collection[str] = ()) -> Iterator[tuple[str, Path, str]]:
    """(place, path, path as it stands in the self-contained workflow) of every file that a workflow names. Of one inside of another:
    also of its defaults, but where something is `given` in their place."""
    here = _folder(template) == root
    named = [(f"{template.names[index]}.{port}", what) for index, port, what in template.pending]
    for name, literals in zip(template.names, template.literals, strict=True):
        named += [(f"{name}.{port}", value) for port, value in literals.items() if _is_given(value)]
    named += [(f"{template.names[index]}.{port}", items) for index in template.each for port, items in _mapped_files(template, index)]
    inner = [(f"inputs.{name}", child) for name, child in _default_workflows(template) if place and name not in given]
    named += [(f"inputs.{name}", what) for name, what in _default_files(template) if place and name not in given]
    for at, what in named:
        for number, one in enumerate(what if isinstance(what, list) else [what]):
            if isinstance(one, File):
                yield f"{place}{at}" + (f"[{number}]" if isinstance(what, list) else ""), Path(one.path), _named(one, root)
            elif _is_file(one) and os.path.isfile(one.path):  # what is no longer there, or an unused default, has nothing to tell
                shown = one.text if here else _moved(one, root)
                yield f"{place}{at}" + (f"[{number}]" if isinstance(what, list) else ""), Path(one.path), shown
    for at, child in inner:
        yield from _written_files(child, f"{place}{at}/", root)
    for index, (name, used) in enumerate(zip(template.names, template.types, strict=True)):
        if isinstance(used, Template):
            set_there = {*template.links[index], *template.literals[index], *template.each.get(index, {})}
            yield from _written_files(used, f"{place}{name}/", root, set_there)
        for port, child in _workflows_in(template, index):
            yield from _written_files(child, f"{place}{name}.{port}/", root)


__all__ = ["Provenance", "self_contained"]
