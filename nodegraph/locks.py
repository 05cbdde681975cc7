"""Locks: the packs of a workflow with their versions and digests, so that a run elsewhere is the same run or a clear refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph import keys
from nodegraph.distributions import installed_version
from nodegraph.errors import PackInvalid, Problem, WorkflowInvalid
from nodegraph.pack_reader import PackInfo
from nodegraph.spec import NodeType
from nodegraph.template import Template
from nodegraph.workflow import Workflow

if TYPE_CHECKING:
    from nodegraph.engine import Engine

FORMAT = 1


def lock(engine: Engine, workflow: Any) -> dict[str, Any]:
    """What the packs are that a workflow uses, with the packs that these import from. Raises WorkflowInvalid.

    Packs of nodes that appear only while it runs, in graphs that nodes return, are not known: name them under `requires`.
    """
    source = Workflow.of(workflow)
    template = engine._template(source)
    if problems := template.all_problems:
        raise WorkflowInvalid(problems)
    infos = {info.name: info for info in engine.packs if info.modules}
    used = {*_packs(template), *source.requires} & infos.keys()
    used |= {needed for name in used for needed in infos[name].needs}
    from nodegraph import __version__

    packs = {name: _pack_record(infos[name]) for name in sorted(used)}
    return {"nodegraph-lock": FORMAT, "workflow": source.name or Path(source.file).stem, "nodegraph": __version__, "packs": packs}


def read(path: Path) -> dict[str, Any]:
    """A lock file. Raises PackInvalid when it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PackInvalid([_unreadable(path, error.strerror or str(error))]) from None
    except (ValueError, RecursionError) as error:
        raise PackInvalid([_unreadable(path, str(error))]) from None
    if not isinstance(found, dict) or found.get("nodegraph-lock") != FORMAT or not _are_packs(found.get("packs")):
        raise PackInvalid([_unreadable(path, "it is no lock, or one of another version of nodegraph")])
    return found


def verify(engine: Engine, locked: Mapping[str, Any], file: str = "") -> list[Problem]:
    """What is different here from what is locked. None: a run here is the run that was locked."""
    infos = {info.name: info for info in engine.packs if info.modules}
    problems: list[Problem] = []
    for name, known in locked["packs"].items():
        if name in infos:
            problems += _differences(infos[name], known)
        else:
            text, fix = engine.registry.missing_pack(name)
            problems.append(Problem("pack-missing", name, text, fix))
    return [Problem(one.code, one.where, one.text, one.fix, file) for one in problems]


def digest(info: PackInfo) -> str:
    """The digest of all of a pack's modules, with what they import from other packs."""
    return keys.merkle(b"pack", ((name, source.identity.encode()) for name, source in info.modules.items())).hex()


def _differences(info: PackInfo, known: Mapping[str, Any]) -> Iterator[Problem]:
    name = info.name
    anew = "or, if this version is meant, lock anew with: nodegraph packs lock WORKFLOW -o FILE"
    if known.get("version") != info.version:
        text = f"the pack {name!r} is version {info.version} here, and version {known.get('version')} in the lock"
        yield Problem("pack-version", name, text, f"install version {known.get('version')}, {anew}")
    elif known.get("digest") != digest(info):
        text = f"the pack {name!r} is version {info.version} here as in the lock, but its code is not the same"
        yield Problem("pack-differs", name, text, f"take the pack from where the lock was made, {anew}")
    for distribution, version in known.get("numerics", {}).items():
        here = installed_version(distribution)
        if here != version:
            text = f"the numbers of the pack {name!r} depend on {distribution}, which is {here} here, and {version} in the lock"
            yield Problem("numerics-differ", name, text, f'pip install "{distribution}=={version}", {anew}')


def _pack_record(info: PackInfo) -> dict[str, Any]:
    numerics = {name: installed_version(name) for name in info.numerics}
    return {"version": info.version, "digest": digest(info), **({"numerics": numerics} if numerics else {})}


def _packs(template: Template) -> set[str]:
    """The packs of the node types of a workflow and of those that it uses."""
    found: set[str] = set()
    seen: set[int] = set()
    stack = [template]
    while stack:
        one = stack.pop()
        seen.add(id(one))
        found |= {used.pack for used in one.types if isinstance(used, NodeType)}
        stack += [child for child in one.children if id(child) not in seen]
    return found - {""}


def _are_packs(found: Any) -> bool:
    """Whether JSON has the shape of locked packs: people merge and edit it."""
    known = isinstance(found, dict) and all(isinstance(one, dict) for one in found.values())
    return known and all(isinstance(one.get("numerics", {}), dict) for one in found.values())


def _unreadable(path: Path, reason: str) -> Problem:
    fix = "write it anew with: nodegraph packs lock WORKFLOW -o FILE"
    return Problem("bad-lock", "", f"{path.name!r} cannot be read: {reason}", fix, str(path))


__all__ = ["digest", "lock", "read", "verify"]
