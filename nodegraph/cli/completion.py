"""Completion of command lines: `nodegraph completion bash|zsh|fish` prints what a shell reads once.

The shell then asks this program at each TAB (by argcomplete), which knows flags, the inputs of the workflow on the line and
their choices, nodes, packs, models and outputs. What goes wrong while completing is nobody's business: then there is nothing.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.cli import DONE, common
from nodegraph.settings import builtin_workflows

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.workflow import Workflow

SHELLS = ("bash", "zsh", "fish")
Completer = Callable[..., Iterable[str] | Mapping[str, str]]
"""`(prefix, parsed_args)` → the words, perhaps with a description of each."""


def completion(arguments: Namespace) -> int:
    """What a shell is to read, on stdout."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["nodegraph"], shell=arguments.shell))
    return DONE


def answer(parser: ArgumentParser) -> None:
    """If a shell asks for completions, give them and end the program."""
    import argcomplete

    for one in _parsers(parser):
        for action in one._actions:
            completer = _COMPLETERS.get(action.dest)
            if completer and not action.choices:
                action.completer = completer  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options="long", default_completer=_silently(_any_file))  # type: ignore[arg-type]


def _parsers(parser: ArgumentParser) -> Iterable[ArgumentParser]:
    import argparse

    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _parsers(inner)


def _silently(complete: Callable[[str, Namespace], Mapping[str, str]]) -> Completer:
    """A completer that has nothing to say where anything fails, and speaks to nobody but the shell."""

    def answered(prefix: str, parsed_args: Namespace, **further: Any) -> Mapping[str, str]:
        with suppress(Exception, SystemExit):
            return {word: " ".join(said.split()) for word, said in complete(prefix, parsed_args).items() if _can_be_told(word)}
        return {}

    return answered


def _can_be_told(word: str) -> bool:
    """Whether a word can be handed to a shell: the name of one file that cannot would take all others with it."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return "\n" not in word


# -- files and names ---------------------------------------------------------------------------------------------------


def _workflows(prefix: str, arguments: Namespace) -> dict[str, str]:
    """Workflow files and folders below what is typed, and the built-in workflows by name."""
    folder, _, start = prefix.rpartition("/")
    base = Path(folder + "/" if prefix.startswith("/") and not folder else folder or ".").expanduser()
    lead = f"{folder}/" if "/" in prefix else ""
    found = {}
    for one in sorted(base.iterdir()) if base.is_dir() else []:
        if one.name.startswith(start) and (start.startswith(".") or not one.name.startswith(".")):
            if one.is_dir():
                found[f"{lead}{one.name}/"] = "folder"
            elif one.suffix == ".json":
                found[f"{lead}{one.name}"] = "workflow"
    if "/" not in prefix:
        found.update({one.stem: "built-in workflow" for one in sorted(builtin_workflows().glob("*.json")) if one.stem.startswith(prefix)})
    return found


def _any_file(prefix: str, arguments: Namespace) -> dict[str, str]:
    return dict.fromkeys(_files(prefix), "")


def _nodes(prefix: str, arguments: Namespace) -> dict[str, str]:
    with common.engine(arguments) as engine:
        return {one.name: common.first_line(one.doc) for one in engine.registry}


def _packs(prefix: str, arguments: Namespace) -> dict[str, str]:
    with common.engine(arguments) as engine:
        return {pack.name: common.first_line(pack.doc) for pack in engine.packs}


def _pack_paths(prefix: str, arguments: Namespace) -> dict[str, str]:
    """Files, and for `packs check` the packs that are here."""
    found = dict.fromkeys(_files(prefix), "")
    if getattr(arguments, "command", "") == "packs check":
        with common.engine(arguments) as engine:
            found.update({str(pack.path): pack.name for pack in engine.packs if str(pack.path).startswith(prefix) or not prefix})
    return found


def _models(prefix: str, arguments: Namespace) -> dict[str, str]:
    with common.engine(arguments) as engine:
        return {one.name: one.kind for one in engine.models.list()}


def _names(prefix: str, arguments: Namespace) -> dict[str, str]:
    """What NAME is depends on the command; to some it is a new one."""
    meant = {"nodes": _nodes, "packs check": _nodes, "models show": _models, "models verify": _models}.get(
        getattr(arguments, "command", "")
    )
    return meant(prefix, arguments) if meant else {}


def _devices(prefix: str, arguments: Namespace) -> dict[str, str]:
    return {"auto": "what is here", "cpu": "", "cuda": "the first GPU", "cuda:1": "the second GPU"}


def _dtypes(prefix: str, arguments: Namespace) -> dict[str, str]:
    return dict.fromkeys(("auto", "float32", "float16", "bfloat16"), "")


# -- what a workflow takes and gives -----------------------------------------------------------------------------------


def _open(arguments: Namespace) -> tuple[Any, Workflow]:
    from nodegraph.workflow import Workflow

    return common.engine(arguments), Workflow.load(common.find_workflow(arguments.workflow))


def _assignments(prefix: str, arguments: Namespace) -> dict[str, str]:
    """`NAME=` of inputs that are not given yet, `NODE.PORT=` once a node is named, and values where they are few."""
    name, equals, value = prefix.partition("=")
    opened, workflow = _open(arguments)
    with opened as engine:
        if equals:
            return _values(engine, workflow, name, value)
        from nodegraph.cli.form import fields

        given = {text.partition("=")[0] for text in [*(getattr(arguments, "sets", None) or []), *(getattr(arguments, "sweep", None) or [])]}
        found = {
            f"{one.port.name}=": f"{one.port.type} {one.default}{': ' if one.words() else ''}{one.words()}"
            for one in fields(engine, workflow)
            if one.port.name not in given
        }
        return {**found, **_literals(engine, workflow, prefix)}


def _literals(engine: Engine, workflow: Workflow, prefix: str) -> dict[str, str]:
    """The ports of the node that is typed; before that, the nodes themselves."""
    node, dot, _ = prefix.partition(".")
    if not dot:
        return {f"{name}.": str(one.use if isinstance(one.use, str) else "workflow") for name, one in workflow.nodes.items()}
    used = engine.registry.get(str(workflow.nodes[node].use)) if node in workflow.nodes else None
    return {f"{node}.{port.name}=": f"{port.type}: {port.doc}" for port in used.inputs.values()} if used else {}


def _values(engine: Engine, workflow: Workflow, name: str, typed: str) -> dict[str, str]:
    """`NAME=VALUE` for every value that can be chosen; files for what is read from one."""
    from nodegraph import types
    from nodegraph.cli.form import fields
    from nodegraph.cli.media import is_media

    port, choices = next(((one.port, one.choices) for one in fields(engine, workflow) if one.port.name == name), (None, ()))
    if port is None:
        node, _, inner = name.partition(".")
        used = engine.registry.get(str(workflow.nodes[node].use))
        port = used.inputs[inner] if used else None
        choices = port.choices if port else ()
    if port is None:
        return {}
    kind = types.without_none(port.type)
    if kind is types.BOOL:
        choices = ("true", "false")
    if kind is types.SECRET:
        choices = tuple(f"@env:{variable}" for variable in os.environ if "TOKEN" in variable or "KEY" in variable or "SECRET" in variable)
    if is_media(str(kind)) or typed.startswith("@"):
        return {f"{name}={path}": "" for path in [*_files(typed), *map(str, choices)]}
    return {f"{name}={choice}": "" for choice in choices}


def _files(typed: str) -> list[str]:
    at, path = ("@", typed[1:]) if typed.startswith("@") else ("", typed)
    folder, _, start = path.rpartition("/")
    lead = f"{folder}/" if "/" in path else ""
    base = Path(lead or ".").expanduser()
    found = sorted(base.iterdir()) if base.is_dir() else []
    return [
        f"{at}{lead}{one.name}{'/' if one.is_dir() else ''}" for one in found if one.name.startswith(start) and not one.name.startswith(".")
    ]


def _only(prefix: str, arguments: Namespace) -> dict[str, str]:
    """Outputs, and the outputs of nodes."""
    opened, workflow = _open(arguments)
    with opened as engine:
        types_of = engine._template(workflow).output_types
        found = {name: str(types_of.get(name, "")) for name in workflow.outputs}
        for name, one in workflow.nodes.items():
            used = engine.registry.get(one.use) if isinstance(one.use, str) else None
            found.update({f"{name}.{port.name}": str(port.type) for port in (used.outputs.values() if used else ())})
        return found


_COMPLETERS: dict[str, Completer] = {
    dest: _silently(complete)
    for dest, complete in {
        "workflow": _workflows,
        "workflows": _workflows,
        "sets": _assignments,
        "sweep": _assignments,
        "only": _only,
        "name": _names,
        "names": _names,
        "pack": _packs,
        "path": _pack_paths,
        "device": _devices,
        "dtype": _dtypes,
    }.items()
}

__all__ = ["SHELLS", "answer", "completion"]
