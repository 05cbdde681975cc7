"""Commands that tell what is installed: nodes, types, schema, packs."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.cli import DONE, common
from nodegraph.cli.printing import tell
from nodegraph.errors import Problem, WorkflowInvalid, render
from nodegraph.spec import REQUIRED, NodeType, Port

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.types import Type


def nodes(arguments: Namespace) -> int:
    """Every node type by pack, or one in full."""
    with common.engine(arguments) as engine:
        if arguments.name:
            one = engine.registry.get(arguments.name)
            if one is None:
                raise WorkflowInvalid([Problem("unknown-node", "", *engine.registry.unknown(arguments.name))])
            common.print_json(_node_json(one)) if arguments.json else tell(_explained(one))
            return DONE
        if arguments.json:
            common.print_json([_node_json(one) for one in engine.registry])
            return DONE
        tell("\n\n".join(_by_pack(engine)) or "no packs are installed")
        _say_broken(engine)
    return DONE


def _by_pack(engine: Engine) -> Iterable[str]:
    packs: dict[str, list[NodeType]] = {}
    for one in engine.registry:
        packs.setdefault(one.pack, []).append(one)
    width = max((len(one.name) for one in engine.registry), default=0)
    for pack, listed in packs.items():
        yield "\n".join([pack or "(no pack)", *(f"  {one.name:{width}}  {common.first_line(one.doc)}".rstrip() for one in listed)])


def _say_broken(engine: Engine) -> None:
    problems = [problem for pack in engine.packs for problem in pack.problems]
    if problems:
        tell(render(problems), sys.stderr)


def _explained(one: NodeType) -> str:
    marks = [word for word in ("effect", "volatile", "stateful") if getattr(one, word)]
    parts = [f"{one.name}  ({', '.join([f'pack {one.pack}' if one.pack else 'no pack', f'version {one.version}', *marks])})"]
    if one.doc:
        parts.append(one.doc)
    ports = [*one.inputs.values(), *([one.open] if one.open else [])]
    if ports:
        parts.append("inputs\n" + common.table(_port_row(port) for port in ports))
    if one.outputs:
        parts.append("outputs\n" + common.table((f"  {port.name}", str(port.type), port.doc) for port in one.outputs.values()))
    return "\n\n".join(parts)


def _port_row(port: Port) -> tuple[str, str, str, str]:
    default = "" if port.open else "required" if port.default is REQUIRED else f"= {common.spelled(port.default)}"
    return (
        f"  {port.name}{'…' if port.open else ''}",
        str(port.type),
        default,
        " ".join(part for part in (port.doc, limits(port)) if part),
    )


def limits(port: Port) -> str:
    """What bounds a port, in words: `(1 to 150)`, `(above 0)`, `(one of 'a', 'b')`, `(a model of kind vae)`."""
    said = []
    if port.minimum is not None and port.maximum is not None:
        said.append(f"{port.minimum:g} to {port.maximum:g}")
    else:
        said += [f"{word} {limit:g}" for word, limit in (("at least", port.minimum), ("at most", port.maximum)) if limit is not None]
    said += [
        f"{word} {limit:g}"
        for word, limit in (("above", port.above), ("below", port.below), ("a multiple of", port.multiple))
        if limit is not None
    ]
    if port.choices:
        said.append("one of " + ", ".join(map(common.spelled, port.choices)))
    if port.model:
        said.append(f"a model of kind {port.model}")
    if port.lazy:
        said.append("computed only when it is needed")
    return f"({', '.join(said)})" if said else ""


def _node_json(one: NodeType) -> dict[str, Any]:
    ports = [*one.inputs.values(), *([one.open] if one.open else [])]
    return {
        "name": one.name,
        "pack": one.pack,
        "version": one.version,
        "doc": one.doc,
        "effect": one.effect,
        "volatile": one.volatile,
        "stateful": one.stateful,
        "inputs": [_port_json(port) for port in ports],
        "outputs": [{"name": port.name, "type": str(port.type), "doc": port.doc} for port in one.outputs.values()],
    }


_PORT_FACTS = (
    "lazy",
    "open",
    "minimum",
    "maximum",
    "above",
    "below",
    "multiple",
    "pattern",
    "min_length",
    "max_length",
    "choices",
    "model",
    "live",
)


def _port_json(port: Port) -> dict[str, Any]:
    """A port; what does not bound it is left out."""
    record: dict[str, Any] = {"name": port.name, "type": str(port.type), "required": port.required, "doc": port.doc}
    if port.default is not REQUIRED:
        record["default"] = port.default
    return record | {name: value for name in _PORT_FACTS if (value := getattr(port, name)) not in (None, False, "", ())}


def types(arguments: Namespace) -> int:
    """Every named type, with the nodes that give and take it."""
    with common.engine(arguments) as engine:
        gives: dict[str, list[str]] = {}
        takes: dict[str, list[str]] = {}
        for one in engine.registry:
            for found, ports in ((gives, one.outputs), (takes, one.inputs)):
                for name in sorted({name for port in ports.values() for name in _names(port.type)}):
                    found.setdefault(name, []).append(one.name)
    listed = sorted({*gives, *takes, *_known_types()}, key=lambda name: ("/" in name, name))
    if arguments.json:
        common.print_json([{"name": name, "given_by": gives.get(name, []), "taken_by": takes.get(name, [])} for name in listed])
    else:
        tell(
            common.table(
                (name, f"given by {len(gives.get(name, ()))}", f"taken by {len(takes.get(name, ()))}", _some(gives.get(name, ())))
                for name in listed
            )
        )
    return DONE


def _known_types() -> list[str]:
    from nodegraph.kinds import CLASSES
    from nodegraph.types import PLAIN

    return [*(kind.name for kind in PLAIN.values()), *CLASSES]


def _names(kind: Type) -> Iterable[str]:
    if kind.args:
        return [name for inner in kind.args for name in _names(inner)]
    return [kind.name] if kind.kind == "name" else []


def _some(names: Iterable[str]) -> str:
    """The first few names."""
    listed = list(names)
    return ", ".join(listed[:4]) + (", …" if len(listed) > 4 else "")


def schema(arguments: Namespace) -> int:
    """The JSON Schema, with the models that are here now as choices."""
    from nodegraph.schema import workflow_schema

    with common.engine(arguments) as engine:
        models = engine.models.list()

        def live(one: NodeType, port: Port) -> list[str]:
            if port.live:
                return [str(choice) for choice in engine.registry.choices(one, port, engine.world) or ()]
            return [model.name for model in models if model.kind == port.model or not port.model]

        text = common.json_text(workflow_schema(engine.registry, live), indent=1)
    if arguments.target:
        with common.written(arguments.target, "--output"):
            Path(arguments.target).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")  # names of files may be no UTF-8
        named = f'"$schema": "./{Path(arguments.target).name}"'
        common.say(arguments, f"written to {arguments.target}; name it in a workflow ({named}), or in your editor")
    else:
        print(text)
    return DONE


def write_stubs(arguments: Namespace) -> int:
    """A stub file of the nodes that are here."""
    from nodegraph.stubs import MODULE, stubs

    folder = Path(arguments.target)
    path = folder / f"{MODULE}.pyi"
    with common.engine(arguments) as engine:
        with common.written(path, "--output"):
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(stubs(engine.registry), encoding="utf-8")
        _say_broken(engine)
    common.say(arguments, f"written to {path}; mypy wants the folder in mypy_path, other editors look into ./typings by themselves")
    return DONE


def packs_list(arguments: Namespace) -> int:
    """Every pack that was found, those that could not be loaded too."""
    with common.engine(arguments) as engine:
        if arguments.json:
            common.print_json([_pack_json(pack) for pack in engine.packs])
            return DONE
        rows = [
            (
                pack.name,
                str(pack.version),
                "broken" if pack.problems else common.counted(len(pack.nodes), "node"),
                common.first_line(pack.doc),
                str(pack.path),
            )
            for pack in engine.packs
        ]
        tell(common.table(rows) if rows else "no packs are installed")
        _say_broken(engine)
    return DONE


def _pack_json(pack: Any) -> dict[str, Any]:
    return {
        "name": pack.name,
        "version": pack.version,
        "doc": pack.doc,
        "path": str(pack.path),
        "nodes": list(pack.nodes),
        "problems": [problem.to_json() for problem in pack.problems],
    }
