"""The workflow file as frozen models: reading it, with every problem at once, and writing it back.

A `Workflow` is immutable and knows where it came from, so that problems show file, line and column.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from nodegraph import keys, kinds, positions
from nodegraph.errors import Problem, WorkflowInvalid, did_you_mean

FORMAT = 1
"""The version of the format, the value of the key `nodegraph`."""
NAME = re.compile(r"[^\W\d][\w-]*", re.UNICODE)
MAX_BYTES = 256 << 20
"""A workflow file larger than this is refused before it is parsed."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class Input(_Model):
    """A declared input: its type, and what bounds and describes it."""

    type: str
    default: Any = None
    min: float | None = None
    max: float | None = None
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

    nodegraph: int = FORMAT
    name: str = ""
    doc: str = ""
    requires: dict[str, str] = {}
    inputs: dict[str, Input] = {}
    nodes: dict[str, Node] = {}
    outputs: dict[str, Link] = {}
    _file: str = PrivateAttr("")
    _folder: Path | None = PrivateAttr(None)
    _text: str = PrivateAttr("")
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
    def load(cls, path: str | Path) -> Workflow:
        """Read a file."""
        shown = str(path)
        try:
            if Path(path).stat().st_size > MAX_BYTES:
                _refuse(
                    Problem(
                        "file-too-large",
                        "",
                        f"{shown!r} is larger than {MAX_BYTES >> 20} MiB",
                        "split the workflow into several files",
                        shown,
                    )
                )
            text = Path(path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            _refuse(Problem("not-text", "", f"{shown!r} is not UTF-8 text (byte {error.start})", "save it as UTF-8", shown))
        except OSError as error:
            _refuse(Problem("file-missing", "", f"cannot read {shown!r}: {error.strerror}", _near_file(path), shown))
        return cls.read(text, file=shown, folder=Path(path).resolve().parent)

    @classmethod
    def read(cls, text: str, file: str = "", folder: Path | None = None) -> Workflow:
        """Read JSON text."""
        data = _parse(text, file)
        return cls._validate(data, text, file, folder)

    @classmethod
    def of(cls, source: Any) -> Workflow:
        """A workflow from a path, a mapping, or a Workflow."""
        if isinstance(source, Workflow):
            return source
        if isinstance(source, Mapping):
            return cls._validate(source, "", "", None)
        return cls.load(source)

    @classmethod
    def _validate(cls, data: Any, text: str, file: str, folder: Path | None) -> Workflow:
        if not isinstance(data, Mapping):
            _refuse(Problem("not-a-workflow", "", "a workflow is a JSON object", 'start with {"nodegraph": 1, "nodes": {…}}', file, 1, 1))
        problems = [problem for path, problem in _shape(data)]
        workflow = None
        try:
            workflow = cls.model_validate(data)
        except ValidationError as error:
            problems += _from_pydantic(error, data)
        except RecursionError:
            problems.append(Problem("too-deep", "", "the workflow is nested too deeply", "use files for the inner workflows"))
        if problems or workflow is None:
            raise WorkflowInvalid(_placed(problems, text, file))
        workflow._place(text, file, folder, ())
        return workflow

    def _place(self, text: str, file: str, folder: Path | None, at: positions.Path) -> None:
        """Remember where this workflow, and those written inside of it, came from."""
        self._text, self._file, self._folder, self._at = text, file, folder, at
        for name, node in self.nodes.items():
            if isinstance(node.use, Workflow):
                node.use._place(text, file, folder, (*at, "nodes", name, "use"))

    def problem(self, code: str, path: positions.Path, text: str, fix: str = "", **data: Any) -> Problem:
        """A problem at a path of this workflow, with line and column where there is text."""
        line, column = positions.locate(self._text, (*self._at, *path)) if self._text else (0, 0)
        where = ".".join(str(step) for step in path)
        return Problem(code, where, text, fix, self._file, line, column, data=data)

    def to_json(self) -> dict[str, Any]:
        """Plain data in the author's order, without what is default."""
        record: dict[str, Any] = {"nodegraph": self.nodegraph}
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
            for key in ("name", "doc", "requires"):
                record.pop(key, None)
            self._digest = keys.digest(b"workflow", keys.canonical(record), str(self._folder if _has_paths(record) else "").encode())
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


def _has_paths(record: Mapping[str, Any]) -> bool:
    """Whether something inside is named by a path, so that the folder is part of what the workflow means."""
    return any(isinstance(node["use"], str) and is_path(node["use"]) for node in record["nodes"].values())


def is_path(use: str) -> bool:
    """Whether `use` names a workflow file, and not a node type."""
    return use.endswith(".json") or use.startswith(("./", "../", "/"))


def _refuse(problem: Problem) -> NoReturn:
    raise WorkflowInvalid([problem])


def _near_file(path: str | Path) -> str:
    folder = Path(path).parent
    names = [one.name for one in folder.glob("*.json")] if folder.is_dir() else []
    return did_you_mean(Path(path).name, names) or "give the path of a workflow file"


class _Repeated:
    """Objects whose keys repeat, as they are met in parsing."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) != len(pairs):
            seen: set[str] = set()
            self.keys += [key for key, _ in pairs if key in seen or seen.add(key)]  # type: ignore[func-returns-value]
        return record


def _parse(text: str, file: str) -> Any:
    repeated = _Repeated()
    try:
        data = json.loads(text, object_pairs_hook=repeated, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        _refuse(
            Problem(
                "bad-json",
                "",
                f"this is not JSON: {error.msg[:1].lower() + error.msg[1:]}",
                _json_fix(text, error.pos),
                file,
                error.lineno,
                error.colno,
            )
        )
    except RecursionError:
        _refuse(Problem("too-deep", "", "the workflow is nested too deeply", "use files for the inner workflows", file))
    except ValueError as error:
        _refuse(Problem("bad-json", "", f"this is not JSON: {error}", "write numbers that JSON has", file))
    if repeated.keys:
        raise WorkflowInvalid(_duplicates(text, file, repeated.keys))
    return data


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number in JSON")


def _json_fix(text: str, index: int) -> str:
    before = text[:index].rstrip()
    if before.endswith(",") and text[index : index + 1] in "}]":
        return "remove the comma before the closing bracket"
    if text[index : index + 1] == "'":
        return 'use double quotes: "…"'
    if text[index : index + 2] in ("//", "/*") or text[index : index + 1] == "#":
        return 'JSON has no comments; use "doc"'
    return "add a comma" if text[index : index + 1] == '"' else "mend the text at this place"


def _duplicates(text: str, file: str, repeated: list[str]) -> Iterator[Problem]:
    """A second pass that finds where the repeated keys stand."""
    wanted = set(repeated)

    def walk(at: int, path: tuple[str | int, ...]) -> Iterator[Problem]:
        if text[at] == "[":
            number = 0
            while (inner := positions._element(text, at, number)) >= 0:
                yield from walk(inner, (*path, number))
                number += 1
        elif text[at] == "{":
            seen: set[str] = set()
            for key, where, value in positions._members(text, at):
                if key in seen and key in wanted:
                    line, column = positions.line_column(text, where)
                    spot = ".".join(map(str, (*path, key)))
                    yield Problem("duplicate-key", spot, f"the key {key!r} stands here twice", "keep one of them", file, line, column)
                seen.add(key)
                yield from walk(value, (*path, key))

    return walk(positions.offset(text, ()), ())


def _shape(data: Mapping[str, Any]) -> Iterator[tuple[positions.Path, Problem]]:
    """What pydantic does not say well: the format's version and the spelling of names."""
    version = data.get("nodegraph", FORMAT)
    if type(version) is not int:
        return
    if version != FORMAT:
        yield (
            ("nodegraph",),
            Problem(
                "format-version",
                "nodegraph",
                f"this nodegraph reads format {FORMAT}, but the file is format {version}",
                "update nodegraph" if version > FORMAT else f'write "nodegraph": {FORMAT}',
            ),
        )
    for section in ("inputs", "nodes", "outputs"):
        names = data.get(section)
        for name in names if isinstance(names, Mapping) else ():
            reserved = section == "nodes" and name == "inputs"
            if reserved or not isinstance(name, str) or not NAME.fullmatch(name):
                why = "is reserved for the workflow's own inputs" if reserved else f"is no name for one of the {section}"
                yield (
                    (section, name),
                    Problem("bad-name", f"{section}.{name}", f"{name!r} {why}", "use letters, digits, _ and -, starting with a letter"),
                )


_KNOWN = {
    (): [field.alias or name for name, field in Workflow.model_fields.items()],
    "inputs": [field.alias or name for name, field in Input.model_fields.items()],
    "nodes": [field.alias or name for name, field in Node.model_fields.items()],
}


def _from_pydantic(error: ValidationError, data: Any) -> Iterator[Problem]:
    """Pydantic's errors in the project's words, each once."""
    seen = set()
    for item in error.errors(include_url=False, include_context=False):
        path = _real_path(item["loc"], data)
        where = ".".join(map(str, path))
        if item["type"] == "extra_forbidden":
            section = path[-3] if len(path) > 2 else ()
            known = _KNOWN.get(section if section in _KNOWN else (), [])  # type: ignore[call-overload]
            fix = did_you_mean(str(path[-1]), known) or f"known keys are {', '.join(known)}"
            problem = Problem("unknown-key", where, f"{path[-1]!r} is no key here", fix)
        elif item["type"] == "missing":
            problem = Problem("missing-key", where, f"the key {path[-1]!r} is missing", f"add {path[-1]!r}")
        else:
            expected = _EXPECTED.get(item["type"], item["msg"][:1].lower() + item["msg"][1:])
            problem = Problem("wrong-json", where, f"{where or 'the file'} {expected}, but is {kinds.describe(item['input'])}", "")
        if (problem.code, where) not in seen:
            seen.add((problem.code, where))
            yield problem


_EXPECTED = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


def _real_path(loc: tuple[int | str, ...], data: Any) -> tuple[int | str, ...]:
    """Pydantic's location without the names of union members, which are not in the file."""
    path: list[int | str] = []
    here = data
    for index, step in enumerate(loc):
        inside = (isinstance(here, Mapping) and step in here) or (isinstance(here, list) and isinstance(step, int) and step < len(here))
        if inside:
            here = here[step]
            path.append(step)
        elif index == len(loc) - 1 and isinstance(here, Mapping) and "[" not in str(step) and step not in ("str", "Workflow"):
            path.append(step)
    return tuple(path)


def _placed(problems: list[Problem], text: str, file: str) -> list[Problem]:
    """Problems with line and column, in file order."""
    import dataclasses

    if not text:
        return [dataclasses.replace(problem, file=file) for problem in problems]
    placed = []
    for problem in problems:
        path = tuple(int(step) if step.isdigit() else step for step in problem.where.split(".")) if problem.where else ()
        line, column = positions.locate(text, path)
        placed.append(dataclasses.replace(problem, file=file, line=line, column=column))
    return sorted(placed, key=lambda problem: (problem.line, problem.column))


__all__ = ["FORMAT", "Input", "Link", "Node", "Workflow", "is_path"]
