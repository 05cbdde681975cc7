"""A workflow's own inputs and outputs as a form: `nodegraph run WORKFLOW --help`."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nodegraph import types
from nodegraph.cli import DONE, WRONG, common
from nodegraph.cli.installed import limits
from nodegraph.cli.printing import tell
from nodegraph.errors import Problem, render
from nodegraph.spec import REQUIRED, Port
from nodegraph.workflow import Workflow

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.template import Template

LIVE = 12
"""The most models, or other choices known only now, that are listed."""


@dataclass(frozen=True, slots=True)
class Field:
    """One input: its port with the bounds of the ports it feeds, what it is for, and what can be chosen now."""

    port: Port
    doc: str
    choices: tuple[Any, ...]

    @property
    def default(self) -> str:
        return "required" if self.port.default is REQUIRED else f"= {common.spelled(self.port.default)}"

    def words(self) -> str:
        """What it is for, and its limits."""
        bounds = limits(self.port)
        if self.choices and not self.port.choices:
            listed = ", ".join(map(str, self.choices[:LIVE])) + (", …" if len(self.choices) > LIVE else "")
            bounds = f"(here: {listed})"
        return " ".join(part for part in (self.doc, bounds) if part)

    def to_json(self) -> dict[str, Any]:
        port = self.port
        record: dict[str, Any] = {"name": port.name, "type": str(port.type), "required": port.required, "doc": self.doc}
        if port.default is not REQUIRED:
            record["default"] = port.default
        bounds = {name: getattr(port, name) for name in ("minimum", "maximum", "above", "below", "multiple", "pattern", "model")}
        return {**record, **{name: value for name, value in bounds.items() if value not in (None, "")}, "choices": list(self.choices)}


def fields(engine: Engine, workflow: Workflow) -> list[Field]:
    """The inputs of a workflow, also of one with mistakes in it."""
    template = engine._template(workflow)
    return [_field(engine, template, port) for port in template.inputs.values()]


def _field(engine: Engine, template: Template, port: Port) -> Field:
    fed = [(template.types[index], one) for index, one in template.feeds.get(port.name, ())]
    doc = " ".join(port.doc.split()) or next((one.doc for _, one in fed if one.doc), "")
    choices: tuple[Any, ...] = port.choices
    if not choices and types.without_none(port.type) is types.MODEL:
        choices = tuple(one.name for one in engine.models.list() if port.model in ("", one.kind))
    for used, one in fed:
        if not choices and one.live and hasattr(used, "pack"):
            choices = tuple(engine.registry.choices(used, one, engine.world) or ())
    return Field(port, doc, choices)


def print_form(arguments: Namespace) -> int:
    """What a workflow takes and gives, on stdout; its mistakes, if it has any, on stderr."""
    path = common.find_workflow(arguments.workflow)
    with common.engine(arguments) as engine:
        workflow = Workflow.load(path)
        template = engine._template(workflow)
        problems: list[Problem] = template.all_problems
        listed = fields(engine, workflow)
        outputs = {name: str(template.output_types.get(name, "")) for name in workflow.outputs}
    if arguments.json:
        record = {"name": workflow.name, "doc": workflow.doc, "inputs": [one.to_json() for one in listed]}
        common.print_json({**record, "outputs": [{"name": name, "type": kind} for name, kind in outputs.items()]})
    else:
        tell("\n".join(_form(arguments.workflow, workflow, listed, outputs)))
    if problems:
        tell(render(problems), sys.stderr)
    return WRONG if problems else DONE


def _form(called: str, workflow: Workflow, listed: list[Field], outputs: dict[str, str]) -> Iterator[str]:
    head = workflow.name or called
    yield f"{head}: {' '.join(workflow.doc.split())}" if workflow.doc else head
    if listed:
        yield "\ninputs, given with --set NAME=VALUE:"
        yield from _rows([(one.port.name, str(one.port.type), one.default, one.words()) for one in listed])
    yield "\noutputs:" if outputs else "\nno outputs"
    yield from _rows(list(outputs.items()))
    needed = (
        f" --set {one.port.name}={'@env:…' if types.without_none(one.port.type) is types.SECRET else '…'}"
        for one in listed
        if one.port.required
    )
    yield f"\nnodegraph run {shlex.quote(called)}{''.join(needed)}"
    yield "flags: nodegraph run --help"


def _rows(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Rows in columns; in a terminal the last column is wrapped below itself."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1] if rows else []
    indent = 2 + sum(width + 2 for width in widths)
    room = shutil.get_terminal_size().columns - indent if sys.stdout.isatty() else 0
    for row in rows:
        lead = "  " + "".join(cell.ljust(width + 2) for cell, width in zip(row, widths, strict=False))
        last = textwrap.wrap(row[-1], room) if room >= 24 else [row[-1]]
        yield (lead + (last[0] if last else "")).rstrip()
        yield from (" " * indent + more for more in last[1:])


__all__ = ["Field", "fields", "print_form"]
