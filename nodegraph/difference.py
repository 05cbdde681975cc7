"""What is different between two workflows, or between the records of two saved pictures, in the words of the graph.

sample.guidance  7.5 → 9        decode.vae  model.vae → better.vae        upscale  added (upscale)
model tiny-sd    other weights  code of sample_latent  other (diffusion 1 → 2)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nodegraph.registry import Registry
from nodegraph.spec import REQUIRED

Record = Mapping[str, Any]
SHOWN = 60
"""The most characters of a value that are shown."""
_NOTHING = object()


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `kind`: input, node, port, output, model, file, code, version, machine. `text` says it in words."""

    kind: str
    where: str
    text: str
    before: Any = None
    after: Any = None

    def __str__(self) -> str:
        return f"{self.where} {self.text}".strip()

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "where": self.where, "text": self.text, "before": self.before, "after": self.after}


def differences(before: Record, after: Record, registry: Registry) -> list[Change]:
    """Everything that may make one of two records give another picture than the other. Empty: they are the same work."""
    found = [*_workflows(before["workflow"], after["workflow"], before, after, registry, ""), *_world(before, after)]
    return list(dict.fromkeys(found)) if all(_hashable(one) for one in found) else found


def _hashable(one: Change) -> bool:
    try:
        hash(one)
    except TypeError:
        return False
    return True


# -- the graph ---------------------------------------------------------------------------------------------------------


def _workflows(before: Record, after: Record, inputs: Record, other: Record, registry: Registry, prefix: str) -> Iterator[Change]:
    """Differences of two workflows whose inputs are bound as the records say; `prefix` is the place of an inner one."""
    sides = _Side(before, inputs.get("inputs", {}), registry), _Side(after, other.get("inputs", {}), registry)
    yield from _inputs(*sides, prefix)
    renamed = _renamed(*sides)
    for old, new in renamed.items():
        yield Change("node", f"{prefix}{old}", f"is now called {new}", old, new)
    named = dict(renamed)
    for name in sides[0].nodes:
        if name in sides[1].nodes:
            named[name] = name
        elif name not in renamed:
            yield Change("node", f"{prefix}{name}", f"removed ({_use(sides[0].nodes[name])})", _use(sides[0].nodes[name]), None)
    for name in sides[1].nodes:
        if name not in named.values():
            yield Change("node", f"{prefix}{name}", f"added ({_use(sides[1].nodes[name])})", None, _use(sides[1].nodes[name]))
    for old, new in named.items():
        yield from _nodes(sides, old, new, named, registry, prefix)
    yield from _outputs(before, after, named, prefix)


class _Side:
    """One of two workflows with its inputs bound."""

    def __init__(self, workflow: Record, given: Mapping[str, Any], registry: Registry):
        self.nodes: Record = workflow.get("nodes", {})
        self.declared: Record = workflow.get("inputs", {})
        self.registry = registry
        self.inputs = {name: given.get(name, one.get("default", _NOTHING)) for name, one in self.declared.items()}

    def ports(self, name: str) -> dict[str, Any]:
        """What each input of a node gets: a link as text or list in a `_Link`, or a value."""
        node = self.nodes[name]
        found: dict[str, Any] = dict(node.get("with", {}))
        for port, given in node.get("from", {}).items():
            found[port] = self._linked(given)
        for port, given in node.get("each", {}).items():
            found[port] = _Link(given, each=True) if isinstance(given, str) else _Each(given)
        return found

    def _linked(self, given: Any) -> Any:
        name = given.removeprefix("inputs.") if isinstance(given, str) and given.startswith("inputs.") else ""
        return _Bound(name, self.inputs[name]) if name in self.inputs else _Link(given)

    def default(self, name: str, port: str) -> Any:
        """What a port is worth that is not set."""
        use = self.nodes[name]["use"]
        if isinstance(use, Mapping):
            return use.get("inputs", {}).get(port, {}).get("default", _NOTHING)
        known = self.registry.get(use)
        declared = known.inputs.get(port) if known else None
        return declared.default if declared and declared.default is not REQUIRED else _NOTHING


@dataclass(frozen=True, slots=True)
class _Link:
    to: Any
    each: bool = False


@dataclass(frozen=True, slots=True)
class _Each:
    items: Any


@dataclass(frozen=True, slots=True)
class _Bound:
    """An input of the workflow, and what it is bound to."""

    name: str
    value: Any


def _inputs(one: _Side, other: _Side, prefix: str) -> Iterator[Change]:
    for name in {**one.inputs, **other.inputs}:
        where = f"{prefix}inputs.{name}"
        if name not in other.inputs:
            yield Change("input", where, "removed", one.declared[name].get("type"), None)
        elif name not in one.inputs:
            yield Change("input", where, f"added ({other.declared[name].get('type')})", None, other.declared[name].get("type"))
        else:
            yield from _input(one, other, name, prefix)


def _input(one: _Side, other: _Side, name: str, prefix: str) -> Iterator[Change]:
    before, after = one.inputs[name], other.inputs[name]
    if not _same(before, after):
        fed = _fed(other, name) or [f"inputs.{name}"]
        for place in fed:
            source = "" if place == f"inputs.{name}" or place.endswith(f".{name}") else f" (input {name})"
            yield Change("input", f"{prefix}{place}", f"{_arrow(before, after)}{source}", _json(before), _json(after))
    for fact in ("type", "min", "max", "choices", "kind"):
        was, now = one.declared[name].get(fact), other.declared[name].get(fact)
        if was != now:
            yield Change("input", f"{prefix}inputs.{name}", f"{fact} {_arrow(was, now)}", was, now)


def _fed(side: _Side, name: str) -> list[str]:
    """The ports that an input feeds."""
    return [
        f"{node}.{port}" for node in side.nodes for port, given in side.nodes[node].get("from", {}).items() if given == f"inputs.{name}"
    ]


def _nodes(sides: tuple[_Side, _Side], old: str, new: str, named: Mapping[str, str], registry: Registry, prefix: str) -> Iterator[Change]:
    before, after = sides[0].nodes[old], sides[1].nodes[new]
    where = f"{prefix}{new}"
    if isinstance(before["use"], Mapping) and isinstance(after["use"], Mapping):
        yield from _workflows(before["use"], after["use"], {}, {}, registry, f"{where}/")
    elif _kind(before["use"], registry) != _kind(after["use"], registry):
        yield Change("node", where, f"uses {_use(before)} → {_use(after)}", _use(before), _use(after))
    ports = sides[0].ports(old), sides[1].ports(new)
    for port in {**ports[0], **ports[1]}:
        was, now = ports[0].get(port, sides[0].default(old, port)), ports[1].get(port, sides[1].default(new, port))
        if isinstance(was, _Bound) and isinstance(now, _Bound) and was.name == now.name:
            continue  # told where the inputs are
        if not _same(_renamed_link(was, named), now):
            yield Change("port", f"{where}.{port}", _arrow(was, now), _json(was), _json(now))


def _kind(use: Any, registry: Registry) -> Any:
    """A node type by its present name, however it is spelled."""
    known = registry.get(use) if isinstance(use, str) else None
    return known.name if known else use


def _outputs(before: Record, after: Record, named: Mapping[str, str], prefix: str) -> Iterator[Change]:
    one, other = before.get("outputs", {}), after.get("outputs", {})
    for name in {**one, **other}:
        was, now = (_Link(side[name]) if name in side else _NOTHING for side in (one, other))
        if _renamed_link(was, named) != now:
            yield Change("output", f"{prefix}outputs.{name}", _arrow(was, now), _json(was), _json(now))


# -- names that changed ------------------------------------------------------------------------------------------------


def _renamed(one: _Side, other: _Side) -> dict[str, str]:
    """Nodes that only have another name: they use the same, with the same values and links, and nothing else is like them."""
    gone = [name for name in one.nodes if name not in other.nodes]
    come = [name for name in other.nodes if name not in one.nodes]
    found: dict[str, str] = {}
    grown = True
    while grown:  # a renamed node shows in the links of others that were renamed too
        grown = False
        for old in [name for name in gone if name not in found]:
            like = [new for new in come if new not in found.values() and _alike(one.nodes[old], other.nodes[new], found)]
            if len(like) == 1:
                found[old], grown = like[0], True
    return found


def _alike(one: Record, other: Record, named: Mapping[str, str]) -> bool:
    links = {port: _renamed_link(_Link(given), named).to for port, given in one.get("from", {}).items()}
    same = one["use"] == other["use"] and one.get("with", {}) == other.get("with", {}) and one.get("each", {}) == other.get("each", {})
    return bool(same) and links == other.get("from", {})


def _renamed_link(given: Any, named: Mapping[str, str]) -> Any:
    if not isinstance(given, _Link):
        return given
    links = [_relink(one, named) for one in (given.to if isinstance(given.to, list) else [given.to])]
    return _Link(links if isinstance(given.to, list) else links[0], given.each)


def _relink(link: str, named: Mapping[str, str]) -> str:
    node, dot, port = link.partition(".")
    return f"{named.get(node, node)}{dot}{port}"


# -- what is outside of the graph --------------------------------------------------------------------------------------


def _world(before: Record, after: Record) -> Iterator[Change]:
    """Models, files, code, versions and machine, as far as both records tell of them."""
    for name, was, now in _both(before, after, "models"):
        yield Change("model", f"model {name}", f"other weights ({was[:8]} → {now[:8]})", was, now)
    for place, was, now in _both(before, after, "files"):
        if was["digest"] != now["digest"]:
            yield Change("file", place, f"other content ({was['digest'][:8]} → {now['digest'][:8]})", was, now)
    packs = before.get("packs", {}), after.get("packs", {})
    for pack in packs[0]:
        if pack in packs[1]:
            yield from _code(pack, packs[0][pack], packs[1][pack])
    for name, was, now in _both(before, after, "versions"):
        yield Change("version", name, f"{was} → {now}", was, now)
    if "nodegraph" in before and "nodegraph" in after and before["nodegraph"] != after["nodegraph"]:
        yield Change("version", "nodegraph", f"{before['nodegraph']} → {after['nodegraph']}", before["nodegraph"], after["nodegraph"])
    for name, was, now in _both(before, after, "machine"):
        yield Change("machine", name, f"{was} → {now}", was, now)
    variants = before.get("smaller", {}), after.get("smaller", {})
    for path in {**variants[0], **variants[1]}:
        was, now = (side.get(path, 0) for side in variants)
        if was != now:
            words = [f"smaller variant {one}" if one else "whole" for one in (was, now)]
            yield Change("machine", path, f"{words[0]} → {words[1]}, as memory was short", was, now)


def _both(before: Record, after: Record, what: str) -> Iterator[tuple[str, Any, Any]]:
    one, other = before.get(what, {}), after.get(what, {})
    return ((name, one[name], other[name]) for name in one if name in other and one[name] != other[name])


def _code(pack: str, before: Record, after: Record) -> Iterator[Change]:
    version = f"{pack} {before['version']}" + (f" → {after['version']}" if before["version"] != after["version"] else "")
    for name, was, now in _both(before, after, "nodes"):
        yield Change("code", f"code of {name}", f"other ({version})", was, now)


# -- words -------------------------------------------------------------------------------------------------------------


def _same(one: Any, other: Any) -> bool:
    one, other = (side.value if isinstance(side, _Bound) else side for side in (one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)  # 7 and 7.0 are the same guidance


def _use(node: Record) -> str:
    use = node["use"]
    return f"workflow {use.get('name', '')}".rstrip() if isinstance(use, Mapping) else str(use)


def _json(value: Any) -> Any:
    if isinstance(value, _Bound):
        return _json(value.value)
    if isinstance(value, _Link):
        return value.to
    return value.items if isinstance(value, _Each) else None if value is _NOTHING else value


def _arrow(before: Any, after: Any) -> str:
    was, now = _spelled(before), _spelled(after)
    if was == now:  # as far as they are shown
        if isinstance(before, str) and isinstance(after, str):
            start = _apart(before, after)
            was, now = _spelled("…" + before[start:]), _spelled("…" + after[start:])
        else:
            whole = [json.dumps(_json(side), ensure_ascii=False) for side in (before, after)]
            was, now = ("…" + _cut(text[_apart(*whole) :]) for text in whole)
    return f"{was} → {now}"


def _apart(before: str, after: str) -> int:
    """Where to begin to show two texts, a little before they differ."""
    return max(0, next(index for index, (one, other) in enumerate(zip(before + "\0", after + "\1", strict=False)) if one != other) - 12)


def _spelled(value: Any) -> str:
    if isinstance(value, _Bound):
        return f"{_spelled(value.value)} (input {value.name})"
    if isinstance(value, _Link):
        text = value.to if isinstance(value.to, str) else "[" + ", ".join(value.to) + "]"
        return f"each {text}" if value.each else text
    if isinstance(value, _Each):
        return f"each {_spelled(value.items)}"
    if value is _NOTHING:
        return "nothing"
    if isinstance(value, Mapping) and "digest" in value and "type" in value:
        return f"{value.get('from') or value['type']} ({value['digest'][:8]})"
    return _cut(json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


__all__ = ["Change", "differences"]
