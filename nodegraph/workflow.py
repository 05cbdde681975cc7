"""The workflow file as frozen models: reading it, with every problem at once, and writing it back.

A `Workflow` is immutable and knows where it came from, so that problems show file, line and column.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PrivateAttr, ValidationError

from nodegraph import collector, keys, kinds, looks, positions, reading
from nodegraph.errors import Problem, WorkflowInvalid, did_you_mean_file
from nodegraph.reading import FORMAT, dotted, refuse

if TYPE_CHECKING:
    from nodegraph_nodes import Nodes  # what `nodegraph stubs` writes; anything where it was not written

MAX_BYTES = 256 << 20
"""A workflow file larger than this is refused before it is parsed."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Input(_Model):
    """A declared input: its type, and what bounds and describes it."""

    type: str
    default: Any = None
    min: FiniteFloat | None = None
    max: FiniteFloat | None = None
    choices: list[Any] | None = None
    kind: str = ""
    doc: str = ""

    @property
    def required(self) -> bool:
        return "default" not in self.model_fields_set


Link = str | list[str]


class Node(_Model):
    """One use of a node type or of another workflow."""

    use: str | Workflow
    each: dict[str, str | list[Any]] = {}
    from_: dict[str, Link] = Field(default={}, alias="from")
    with_: dict[str, Any] = Field(default={}, alias="with")
    doc: str = ""


class Workflow(_Model):
    """A workflow: declared inputs, nodes by name, declared outputs.

    `Workflow.load(path)`, `Workflow.read(text)` and `Workflow.of(anything)` raise WorkflowInvalid with all problems.
    """

    editor_schema: str = Field(default="", alias="$schema")
    nodegraph: int = FORMAT
    name: str = ""
    doc: str = ""
    requires: dict[str, str] = {}
    inputs: dict[str, Input] = {}
    nodes: dict[str, Node] = {}
    outputs: dict[str, Link] = {}
    _file: str = PrivateAttr("")
    _folder: Path | None = PrivateAttr(None)
    _positions: positions.Positions | None = PrivateAttr(None)
    _stamp: tuple[str, looks.Stamp] | None = PrivateAttr(None)
    _settled: bool = PrivateAttr(False)
    _at: positions.Path = PrivateAttr(())
    _digest: bytes = PrivateAttr(b"")
    _compiled: Any = PrivateAttr(None)

    @property
    def file(self) -> str:
        """The file it was read from, as it was named, or nothing."""
        return self._file

    @property
    def folder(self) -> Path | None:
        """The folder that its relative paths start from, or None for one that came from no file."""
        return self._folder

    @classmethod
    def load(cls, path: str | os.PathLike[str], known: Workflow | None = None) -> Workflow:
        """Read a file. `known`: what was read from it before; that is given back as long as the text is the same."""
        shown = str(path)
        try:
            stamp = os.path.realpath(shown), looks.stamp(shown)
            if known is not None and known._settled and known._stamp == stamp and known._file == shown:
                return known
            if stamp[1].size > MAX_BYTES:
                text = f"{shown!r} is larger than {MAX_BYTES >> 20} MiB"
                refuse(Problem("file-too-large", "", text, "split the workflow into several files", shown))
            settled = looks.is_file(shown) and looks.is_settled(stamp[1])  # what has only just changed may change again unseen
            with open(shown, encoding="utf-8-sig") as file:
                text = file.read()
        except UnicodeDecodeError as error:
            refuse(Problem("not-text", "", f"{shown!r} is not UTF-8 text (byte {error.start})", "save it as UTF-8", shown))
        except OSError as error:
            refuse(Problem("file-missing", "", f"cannot read {shown!r}: {error.strerror}", _near_file(Path(shown)), shown))
        except (ValueError, RuntimeError):  # a null character; a circle of links
            refuse(Problem("file-missing", "", f"{shown!r} is no path", _NO_PATH, shown))
        if known is None or not known._reads(text, shown, stamp[0]):
            known = cls.read(text, file=shown, folder=Path(stamp[0]).parent)
        known._stamp, known._settled = stamp, settled
        return known

    def _reads(self, text: str, shown: str, whole: str) -> bool:
        """Whether it was read from this text, in the file of that name and path."""
        was = self._positions is not None and self._positions.text == text
        return was and self._file == shown and self._stamp is not None and self._stamp[0] == whole

    @classmethod
    @collector.held()
    def read(cls, text: str, file: str = "", folder: Path | None = None) -> Workflow:
        """Read JSON text."""
        return cls._validate(reading.parse(text, file), text, file, folder)

    @classmethod
    def of(cls, source: Any) -> Workflow:
        """A workflow from a path, a mapping, or a Workflow."""
        if isinstance(source, Workflow):
            return source
        if isinstance(source, Mapping):
            return cls._validate(source, "", "", None)
        if isinstance(source, str | os.PathLike):
            return cls.load(source)
        if callable(to_workflow := getattr(source, "to_workflow", None)):
            return to_workflow()
        text = f"a workflow is a path, an object or a Workflow, but this is {kinds.describe(source)}"
        raise WorkflowInvalid([Problem("not-a-workflow", "", text, _NO_PATH)])

    @staticmethod
    def build(name: str = "", doc: str = "", requires: Mapping[str, str] | None = None, folder: str | Path | None = None) -> Nodes:
        """A builder, to write a workflow in Python; see `nodegraph.builder`. Relative paths in it start from `folder`, or from
        where the calling file lies."""
        from nodegraph.builder import build

        return build(name, doc, requires, folder)

    @classmethod
    @collector.held()
    def _validate(cls, data: Any, text: str, file: str, folder: Path | None) -> Workflow:
        if not isinstance(data, Mapping):
            what = f"a workflow is a JSON object, but this is {kinds.describe(data)}"
            line = 1 if text else 0
            refuse(Problem("not-a-workflow", "", what, 'start with {"nodegraph": 1, "nodes": {}}', file, line, line))
        found = list(reading.shape(data))
        workflow = None
        if not any(problem.code == "too-deep" for _, problem in found):
            try:
                workflow = cls.model_validate(data)
            except ValidationError as error:
                found += reading.translated(error.errors(include_url=False, include_context=False), data, _KEYS)
            except RecursionError:
                found.append(
                    ((), Problem("too-deep", "", "the workflow is nested too deeply", "put inner workflows into files of their own"))
                )
        if found or workflow is None:
            raise WorkflowInvalid(reading.placed(found, text, file))
        workflow._place(positions.Positions(text) if text else None, file, folder, ())
        return workflow

    def inside(self, data: Mapping[str, Any], path: positions.Path) -> Workflow:
        """A workflow that is written as a value at a path of this one. Raises WorkflowInvalid with places in this file."""
        try:
            inner = Workflow._validate(data, "", "", None)
        except WorkflowInvalid as error:
            steps = [_steps(problem.where, data) for problem in error.problems]
            raise WorkflowInvalid(
                self.problem(problem.code, (*path, *inside), problem.text, problem.fix, **problem.data)
                for problem, inside in zip(error.problems, steps, strict=True)
            ) from None
        inner._place(self._positions, self._file, self._folder, (*self._at, *path))
        return inner

    def _place(self, where: positions.Positions | None, file: str, folder: Path | None, at: positions.Path) -> None:
        """Remember where this workflow, and those written inside of it, came from."""
        self._positions, self._file, self._folder, self._at = where, file, folder, at
        for name, node in self.nodes.items():
            if isinstance(node.use, Workflow):
                node.use._place(where, file, folder, (*at, "nodes", name, "use"))

    def problem(self, code: str, path: positions.Path, text: str, fix: str = "", **data: Any) -> Problem:
        """A problem at a path of this workflow: named from the root of its file, with line and column where there is text."""
        whole = (*self._at, *path)
        line, column = self._positions.locate(whole) if self._positions else (0, 0)
        return Problem(code, dotted(whole), text, fix, self._file, line, column, data=data)

    def to_json(self) -> dict[str, Any]:
        """Plain data in the author's order, without what is default."""
        record: dict[str, Any] = {"$schema": self.editor_schema} if self.editor_schema else {}
        record["nodegraph"] = self.nodegraph
        for key in ("name", "doc", "requires"):
            if value := getattr(self, key):
                record[key] = value
        if self.inputs:
            record["inputs"] = {name: _set_fields(one) for name, one in self.inputs.items()}
        record["nodes"] = {name: _node_json(node) for name, node in self.nodes.items()}
        if self.outputs:
            record["outputs"] = dict(self.outputs)
        return record

    def digest(self) -> bytes:
        """The identity of what the file says, whatever its layout and texts for people."""
        if not self._digest:
            record = self.to_json()
            for key in ("$schema", "name", "doc", "requires"):
                record.pop(key, None)
            self._digest = keys.digest(b"workflow", keys.canonical(_with_whole_paths(record, self._folder or Path.cwd())), b"")
        return self._digest

    def parts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"workflow": self.to_json(), "file": self._file, "folder": str(self._folder or "")}, {}

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> Workflow:
        return cls._validate(meta["workflow"], "", meta["file"], Path(meta["folder"]) if meta["folder"] else None)


kinds.register(Workflow, "workflow")


def _set_fields(model: BaseModel) -> dict[str, Any]:
    return {
        (type(model).model_fields[name].alias or name): getattr(model, name)
        for name in type(model).model_fields
        if name in model.model_fields_set
    }


def _node_json(node: Node) -> dict[str, Any]:
    record = _set_fields(node)
    if isinstance(node.use, Workflow):
        record["use"] = node.use.to_json()
    return record


def _with_whole_paths(record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A workflow with what it names by a path as it is from everywhere: in another folder the same words mean something else. What the
    ports take is not known here: a text is a path if it names a file there."""
    nodes = {}
    for name, node in record["nodes"].items():
        use = node["use"]
        if isinstance(use, Mapping):
            use = _with_whole_paths(use, folder)
        elif is_path(use):
            use = _real(folder / use)
        values = {section: _whole(node[section], folder) for section in ("with", "each") if section in node}
        nodes[name] = {**node, "use": use, **values}
    inputs = {
        name: {**one, "default": _whole(one["default"], folder)} if "default" in one else one
        for name, one in record.get("inputs", {}).items()
    }
    return {**record, "nodes": nodes, **({"inputs": inputs} if inputs else {})}


def _whole(value: Any, folder: Path) -> Any:
    if isinstance(value, Mapping):
        return {key: _whole(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item, folder) for item in value]
    path = os.path.join(folder, value) if isinstance(value, str) else ""
    return _real(path) if path and os.path.isfile(path) else value


def _real(path: str | Path) -> str:
    return os.fsencode(os.path.realpath(path)).decode("utf-8", "backslashreplace")


def is_path(use: str) -> bool:
    """Whether `use` names a workflow file, and not a node type."""
    return use.endswith(".json") or use.startswith(("./", "../", "/"))


_NO_PATH = "give the path of a workflow file"


def _near_file(path: Path) -> str:
    try:
        others = (one.name for one in path.parent.glob("*.json") if one.name != path.name)  # which may be a folder, or not readable
        return did_you_mean_file(path.name, others) or _NO_PATH
    except OSError:
        return _NO_PATH


def _steps(where: str, data: Any) -> positions.Path:
    """The path that a problem's `where` spells, along what is really there (names may hold dots)."""
    steps: list[str | int] = []
    while where:
        names = list(data) if isinstance(data, Mapping) else range(len(data)) if isinstance(data, list) else ()
        step = next((one for one in names if where == str(one) or where.startswith(f"{one}.")), None)
        if step is None:
            return (*steps, where)
        steps.append(step)
        data, where = data[step], where[len(str(step)) + 1 :]
    return tuple(steps)


_KEYS = {
    "": [field.alias or name for name, field in Workflow.model_fields.items()],
    "inputs": [field.alias or name for name, field in Input.model_fields.items()],
    "nodes": [field.alias or name for name, field in Node.model_fields.items()],
}
"""The keys of a workflow, of one of its inputs, and of one of its nodes."""


__all__ = ["FORMAT", "Input", "Link", "Node", "Workflow", "is_path"]
