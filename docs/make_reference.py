"""Writes docs/reference.md from the nodes of the built-in packs, docs/workflows.md from the shipped workflows, and docs/errors.md from
the table of codes.

    python docs/make_reference.py

Nothing else writes these files; a test says when they are out of date.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nodegraph import Engine, Workflow
from nodegraph.cli.common import spelled
from nodegraph.cli.installed import limits
from nodegraph.codes import CODES, EXAMPLES, GROUPS
from nodegraph.spec import REQUIRED, NodeType, Port

DOCS = Path(__file__).resolve().parent
GOLDEN = DOCS.parent / "tests" / "golden"


def reference() -> str:
    """Every node type of the built-in packs."""
    with Engine(packs=[], models=[], cache=False) as engine:
        packs = {info.name: (info, [one for one in engine.registry if one.pack == info.name]) for info in engine.packs}
    parts = ["# The nodes", "Written by `docs/make_reference.py` from what the packs declare. A port without a default must be given."]
    parts.append("\n".join(f"- [{name}](#{name}): {info.doc}" for name, (info, _) in packs.items()))
    for name, (info, nodes) in packs.items():
        parts += [f"## {name}", info.doc, ", ".join(f"[{one.name}](#{one.name})" for one in nodes)]
        parts += [_node(one) for one in nodes]
    return "\n\n".join(part for part in parts if part) + "\n"


def _node(one: NodeType) -> str:
    marks = [word for word in ("effect", "volatile", "stateful") if getattr(one, word)]
    marks = [f"version {one.version}", *marks] if one.version > 1 else marks
    title = f"### {one.name}" + (f" ({', '.join(marks)})" if marks else "")
    inputs = [*one.inputs.values(), *([one.open] if one.open else [])]
    rows = [_row(f"`{port.name}{'…' if port.open else ''}`", port, _default(port)) for port in inputs]
    rows += [_row(f"→ `{port.name}`", port, "") for port in one.outputs.values()]
    table = "\n".join(["| port | type | default | |", "|---|---|---|---|", *rows]) if rows else ""
    return "\n\n".join(part for part in (title, one.doc, table) if part)


def _default(port: Port) -> str:
    return "" if port.open or port.default is REQUIRED else f"`{spelled(port.default)}`"


def _row(name: str, port: Port, default: str) -> str:
    said = " ".join(part for part in (port.doc, limits(port)) if part)
    return f"| {name} | `{port.type}` | {default} | {said} |".replace(" | none`", " \\| none`").replace("\n", " ")


def workflows() -> str:
    """Every shipped workflow, with its picture if it has one."""
    parts = ["# The workflows", "Written by `docs/make_reference.py` from the files in `workflows/`. Each is run by a test."]
    parts.append("A name is enough: `nodegraph run txt2img --set prompt=…`; `nodegraph run txt2img --help` prints the table below.")
    for path in sorted((DOCS.parent / "workflows").glob("*.json")):
        workflow = Workflow.load(path)
        picture = f"pictures/workflow_{path.stem}.png"
        parts += [f"## {path.stem}", workflow.doc]
        parts.append(f"![{path.stem}]({picture})" if (DOCS / picture).is_file() else "")
        needed = [f" --set {name}=…" for name, given in workflow.inputs.items() if given.required]
        parts.append(f"`nodegraph run {path.stem}{''.join(needed)}`")
        rows = [_input_row(name, given) for name, given in workflow.inputs.items()]
        parts.append("\n".join(["| input | type | default | |", "|---|---|---|---|", *rows]))
        parts.append("Gives " + ", ".join(f"`{name}`" for name in workflow.outputs) + ".")
    return "\n\n".join(part for part in parts if part) + "\n"


def _input_row(name: str, given: Any) -> str:
    default = "" if given.required else f"`{spelled(given.default)}`"
    return f"| `{name}` | `{given.type}` | {default} | {given.doc} |".replace(" | none`", " \\| none`").replace("\n", " ")


def errors() -> str:
    """Every code, with what it means and a message as it is seen."""
    parts = [
        "# Problems by code",
        "Written by `docs/make_reference.py` from the table in `nodegraph/codes.py`, with messages that tests have.",
    ]
    parts.append("A code is stable; texts may get better. `--json` prints the same as data.")
    shown = dict(_golden(("problems.txt", "packs.txt", "nodes.txt")))
    for title, group in GROUPS.items():
        parts.append(f"## {title}")
        for code in sorted(group):
            example = shown.get(code) or f"error[{code}] {EXAMPLES[code]}"
            parts += [f"### {code}", CODES[code], f"```\n{example}\n```"]
    return "\n\n".join(parts) + "\n"


def _golden(files: Iterable[str]) -> Iterable[tuple[str, str]]:
    """A message for each code. Where there are several, the first in the first file is the last to come."""
    for file in reversed(list(files)):
        text = (GOLDEN / file).read_text(encoding="utf-8")
        for block in reversed(list(re.finditer(r"^error\[([a-z-]+)\] .*(?:\n  (?:at|fix) .*)*", text, re.MULTILINE))):
            yield block.group(1), block.group(0)


FILES = {"reference.md": reference, "workflows.md": workflows, "errors.md": errors}


if __name__ == "__main__":
    for name, write in FILES.items():
        (DOCS / name).write_text(write(), encoding="utf-8")
