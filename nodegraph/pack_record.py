"""`pack.lock`: what a pack's nodes were like when they were recorded, to tell what a change does to the people who use them.

A change breaks no promise as long as old workflows run, and old results are still right: a new port has a default, what is renamed
says what it was, and a node whose default or meaning has changed has a higher version.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nodegraph import kinds
from nodegraph.contract import Tried
from nodegraph.distributions import installed_version
from nodegraph.errors import PackInvalid, Problem
from nodegraph.pack_reader import PackInfo
from nodegraph.spec import REQUIRED, NodeType, Port

FILE = "pack.lock"
FORMAT = 1


def record(info: PackInfo, nodes: Iterable[NodeType], tried: Mapping[str, Tried]) -> dict[str, Any]:
    """What is to be kept: each node's version, ports, and the digests of what it gave for samples, by name."""
    return {
        "nodegraph-pack": FORMAT,
        "pack": info.name,
        "version": info.version,
        "made-on": machine(info),
        "nodes": {one.name: _node_record(one, tried.get(one.name)) for one in sorted(nodes, key=lambda one: one.name)},
    }


def read(folder: Path) -> dict[str, Any] | None:
    """The record of a pack, or None when it has none. Raises PackInvalid when it cannot be read."""
    path = folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise PackInvalid([_unreadable(path, str(error))]) from None
    if not _is_record(found):
        raise PackInvalid([_unreadable(path, "it is no record of a pack, or one of another version of nodegraph")])
    return found


def write(folder: Path, found: Mapping[str, Any]) -> Path:
    """Write the record of a pack in place of the one that is there, at once: what was recorded cannot be recorded again."""
    path = folder / FILE
    target = path.resolve()
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        aside.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
    return path


def machine(info: PackInfo) -> dict[str, str]:
    """What results may depend on beside code and inputs: they are compared only where this is the same."""
    names = sorted({*info.numerics, "numpy", "torch"})
    return {"processor": platform.machine(), **{name: installed_version(name) for name in names}}


def changes(before: Mapping[str, Any], now: Mapping[str, Any], nodes: Mapping[str, NodeType]) -> list[Problem]:
    """What breaks a promise that the recorded nodes made. `nodes`: those that are there now, by name."""
    problems: list[Problem] = []
    former = {old: one.name for one in nodes.values() for old in one.was}
    comparable = before["made-on"] == now["made-on"]
    for name, known in before["nodes"].items():
        where = f"{now['pack']}/{name}"
        one = nodes.get(name) or nodes.get(former.get(name, ""))
        if one is None:
            fix = f"keep it, or let its successor say so: @node(was=({name!r},))"
            problems.append(Problem("node-gone", where, f"the node {name!r} of {FILE} is gone", fix))
        elif one.version < known["version"]:
            text = f"{name!r} was version {known['version']} and is version {one.version} now"
            problems.append(Problem("version-lowered", where, text, f"write @node(version={known['version'] + 1})"))
        else:
            problems += _port_changes(where, one, known)
            if one.version == known["version"]:
                problems += _meaning_changes(where, one, known, now["nodes"][one.name], comparable)
    return problems


def _port_changes(where: str, one: NodeType, known: Mapping[str, Any]) -> Iterator[Problem]:
    """Ports that old workflows set or link and that are gone, and those that they would have to set."""
    for ports, kept, what in ((one.inputs, known["inputs"], "input"), (one.outputs, known["outputs"], "output")):
        former = {old: name for name, port in ports.items() for old in port.was}
        for name in kept:
            if name not in ports and name not in former and not (what == "input" and one.open):
                fix = f"keep it, or let its successor say so: Annotated[…, Was({name!r})]"
                yield Problem("port-gone", f"{where}.{name}", f"the {what} {name!r} of {one.name!r} is gone", fix)
    for name, port in one.inputs.items():
        if port.required and name not in known["inputs"] and not set(port.was) & set(known["inputs"]):
            text = f"{one.name!r} has a new input {name!r}, which no old workflow sets"
            yield Problem("port-required", f"{where}.{name}", text, "give it a default with which nothing changes")


def _meaning_changes(where: str, one: NodeType, known: Mapping[str, Any], now: Mapping[str, Any], comparable: bool) -> Iterator[Problem]:
    """What of a node has changed while its version has not. The results of defaults that have changed say nothing more."""
    fix = f"write @node(version={one.version + 1})"
    changed = False
    for name, kept in known["inputs"].items():
        given = now["inputs"].get(name)
        if given is not None and kept.get("default", "") != given.get("default", ""):
            changed = True
            said = [kinds.describe(side["default"]) if "default" in side else "required" for side in (kept, given)]
            text = f"the default of {name!r} of {one.name!r} was {said[0]} and is {said[1]} now, and its version is still {one.version}"
            yield Problem("version-not-raised", f"{where}.{name}", text, fix)
    same_ports = known["inputs"] == now["inputs"]
    cases = set(known["results"]) & set(now["results"]) if comparable and not changed else set()
    differing = [case for case in sorted(cases) if (same_ports or case == "0") and known["results"][case] != now["results"][case]]
    if differing:
        text = f"{one.name!r} gives other results than {FILE} says, and its version is still {one.version}"
        yield Problem("version-not-raised", where, text, f"{fix}, or if they are as good as the old ones, record them with --record")


def _node_record(one: NodeType, tried: Tried | None) -> dict[str, Any]:
    return {
        "version": one.version,
        "inputs": {name: _port_record(port) for name, port in one.inputs.items()},
        "outputs": {name: str(port.type) for name, port in one.outputs.items()},
        "results": {str(number): digests for number, digests in (tried.digests if tried else {}).items()},
    }


def _port_record(port: Port) -> dict[str, Any]:
    default = {} if port.default is REQUIRED else {"default": port.default if kinds.is_json(port.default) else repr(port.default)}
    return {"type": str(port.type), **default}


def _is_record(found: Any) -> bool:
    """Whether JSON has the shape of a record: people merge and edit it."""
    known = isinstance(found, dict) and found.get("nodegraph-pack") == FORMAT and isinstance(found.get("made-on"), dict)
    return known and _holds(found.get("nodes"), _is_node)


def _is_node(one: Any) -> bool:
    known = isinstance(one, dict) and type(one.get("version")) is int and isinstance(one.get("outputs"), dict)
    return known and _holds(one.get("inputs"), lambda port: isinstance(port, dict)) and isinstance(one.get("results"), dict)


def _holds(found: Any, right: Callable[[Any], bool]) -> bool:
    return isinstance(found, dict) and all(map(right, found.values()))


def _unreadable(path: Path, reason: str) -> Problem:
    fix = "write it anew with: nodegraph packs check PATH --record"
    return Problem("bad-lock", "", f"{path.name} cannot be read: {reason}", fix, str(path))


__all__ = ["FILE", "changes", "machine", "read", "record", "write"]
