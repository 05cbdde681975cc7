"""Running again what made a saved picture, and saying what is not as it was.

What the record names is looked for where the picture lies and in the working folder; a file is taken only if its digest is the
recorded one, so a picture from somewhere else can make nobody read a file that its maker did not have.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph import keys, kinds, types
from nodegraph.difference import Change, differences
from nodegraph.errors import Problem, WorkflowInvalid
from nodegraph.types import Type
from nodegraph.values import File
from nodegraph.workflow import Workflow

if TYPE_CHECKING:
    from nodegraph.engine import Engine

Read = Callable[[str, Path], Any]
"""Reads the value of a type (`image`, `file` …) from a file. Raises ValueError."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What is to be run again. `origins` as `submit` takes them; `roots` are the files that the workflow itself names."""

    record: Mapping[str, Any]
    workflow: Workflow
    inputs: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    roots: list[Path] = field(default_factory=list)

    def changes(self, engine: Engine) -> list[Change]:
        """What is different here from what was recorded, before anything runs. Raises WorkflowInvalid."""
        provenance = engine._plan(self.workflow, self.inputs, (), self.origins)[-1]
        return differences(self.record, provenance(), engine.registry)

    @property
    def only(self) -> tuple[str, ...]:
        """What of the workflow made the picture: one of its outputs, or a node that saved it."""
        if name := self.record.get("output"):
            return (str(name),)
        node = str(self.record.get("node", ""))
        return (node,) if node in self.workflow.nodes else ()


def prepare(
    record: Mapping[str, Any], folders: Iterable[Path], read: Read, given: Mapping[str, Any], overrides: Collection[str] = ()
) -> Replay:
    """What a record asks for. `folders`: where files may lie; `given`: inputs to use in place of recorded ones;
    `overrides`: the literals that others are set for.

    Raises WorkflowInvalid for a record that names files which are not here, or are others by now.
    """
    places = [folder.resolve() for folder in folders]
    files = {at: one for at, one in record.get("files", {}).items() if at.partition("[")[0] not in overrides}
    folder, problems = _folder(files, places)
    plain = Workflow.of(record["workflow"])
    inputs, origins = dict(given), {}
    for name, told in record.get("inputs", {}).items():
        declared = plain.inputs.get(name)
        if name in inputs or declared is None:
            continue
        if not _is_told(told, declared.type):
            inputs[name] = _workflow(told, declared.type, folder)
        elif told["type"] != "secret":  # a secret is given anew, or by its variable
            kind = types.without_none(types.parse(declared.type))
            value = next((one for place in places if (one := _recorded(told, kind, place, read)) is not None), None)
            if value is None:
                path = "'[\"PATH\", …]'" if kind.kind == "list" else "PATH"
                problems.append(_missing(f"inputs.{name}", told, f"give the one that was used: --set {name}={path}"))
            else:
                inputs[name] = value
                origins[name] = str(told["from"])
    for place, told in record.get("literals", {}).items():
        if place not in overrides:
            problems.append(_missing(place, told, f"give the one that was used: --set {place}=PATH"))
    if problems:
        raise WorkflowInvalid(problems)
    workflow = Workflow.of(record["workflow"])
    workflow._place(None, "", folder, ())
    roots = [(folder / one["path"]).resolve() for one in files.values()]
    return Replay(record, workflow, inputs, origins, roots)


def _workflow(told: Any, kind: str, folder: Path) -> Any:
    """An input as it was recorded; a workflow names files from the folder in which all are."""
    if not isinstance(told, Mapping) or types.without_none(types.parse(kind)) is not types.WORKFLOW:
        return told
    made = Workflow.of(told)
    made._place(None, "", folder, ())
    return made


def _is_told(told: Any, kind: str) -> bool:
    """Whether an input is told of by type and digest, as it was no JSON value."""
    try:
        declared = types.without_none(types.parse(kind))
    except ValueError:
        return False
    return isinstance(told, Mapping) and "type" in told and declared not in (types.JSON, types.ANY, types.WORKFLOW)


def _recorded(told: Mapping[str, Any], kind: Type, place: Path, read: Read) -> Any:
    """The value that was recorded, if a file in this place, or each file of a list, still holds it."""
    name = kind.args[0].name if kind.kind == "list" else str(told["type"])
    try:
        said = str(told.get("from", ""))
        given = json.loads(said) if kind.kind == "list" else [said]
        paths = [place / Path(one).expanduser() for one in given]
        if not paths or not all(path.is_file() for path in paths):
            return None
        values = [read(name, path) for path in paths]
    except (ValueError, KeyError, TypeError, OSError, RuntimeError):  # the record may say anything
        return None
    value = values if kind.kind == "list" else values[0]
    digest = value.digest.hex() if isinstance(value, File) else kinds.content(value).hex()
    return value if digest == told.get("digest") else None


def _folder(files: Mapping[str, Any], places: list[Path]) -> tuple[Path, list[Problem]]:
    """The first place in which every file that the workflow names is the recorded one."""
    for place in places:
        if all(_holds(place / one["path"], one["digest"]) for one in files.values()):
            return place, []
    lacking = {at: one for at, one in files.items() if not any(_holds(place / one["path"], one["digest"]) for place in places)}
    fix = "put it where the workflow names it, and run in the folder of the workflow"
    return places[0], [_missing(at, {"type": "file", "from": one["path"], **one}, fix) for at, one in (lacking or files).items()]


def _holds(path: Path, digest: str) -> bool:
    try:
        return path.is_file() and keys.file_digest(path).hex() == digest
    except OSError:  # it may not be read
        return False


def _missing(where: str, told: Mapping[str, Any], fix: str) -> Problem:
    name = f"the {told['type']} {told['from']!r}" if "from" in told else f"a value of type {told['type']!r}"
    return Problem("input-differs", where, f"{name} with the digest {str(told.get('digest', ''))[:8]} is not here", fix)


# -- comparing ---------------------------------------------------------------------------------------------------------


def same_bytes(one: Path, other: Path) -> bool:
    import filecmp

    return filecmp.cmp(one, other, shallow=False)


def same_pixels(one: Path, other: Path) -> bool:
    """Whether two pictures show the same, whatever their files tell beside that."""
    import PIL.Image

    with PIL.Image.open(one) as first, PIL.Image.open(other) as second:
        return first.mode == second.mode and first.size == second.size and first.tobytes() == second.tobytes()


__all__ = ["Replay", "prepare", "same_bytes", "same_pixels"]
