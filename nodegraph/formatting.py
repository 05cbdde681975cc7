"""The one canonical form of a workflow file: what `nodegraph fmt` writes.

Names keep the author's order; the keys of the format have a fixed one. Two spaces an indent. A value whose own text has at
most 120 characters stands on one line, wherever it stands, so that renaming something never lays out its neighbours anew.
`inputs` and `nodes` always have one entry a line. Numbers stay as they were written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from nodegraph import looks
from nodegraph.errors import Problem, WorkflowInvalid
from nodegraph.workflow import Workflow

WIDTH = 120
"""The most characters of a value that stands on one line."""
WORKFLOW_KEYS = ("$schema", "nodegraph", "name", "doc", "requires", "inputs", "nodes", "outputs")
INPUT_KEYS = ("type", "kind", "default", "min", "max", "choices", "doc")
NODE_KEYS = ("use", "doc", "each", "from", "with")


def format_text(text: str, file: str = "") -> str:
    """The canonical form of a workflow's text. `file` names it in problems.

    The text need not check, but must be of the format: WorkflowInvalid is raised with all that is not. Formatting again
    changes nothing, and the result means the same.
    """
    Workflow.read(text, file=file)
    data = json.loads(text, parse_int=_Number, parse_float=_Number)
    return _finish(data, file)


def format_workflow(workflow: Workflow | Mapping[str, Any]) -> str:
    """The canonical text of a workflow that is there as data. Raises WorkflowInvalid when it is not of the format."""
    record = Workflow.of(workflow).to_json()
    return _finish(record, "")


def format_file(path: str | Path) -> str | None:
    """The canonical text of a file, or None when the file already has it. Raises WorkflowInvalid."""
    if looks.exists(path) and not looks.is_file(path) and not looks.is_dir(path):
        text = f"{str(path)!r} is a pipe or a device, in which no text can take the place of another"
        raise WorkflowInvalid([Problem("file-missing", "", text, "give the path of a workflow file", str(path))])
    workflow = Workflow.load(path)
    # newlines are read as they are: a file with CRLF is not canonical
    raw = Path(path).read_bytes()
    formatted = format_text(raw.decode("utf-8-sig"), workflow.file)
    return None if formatted.encode("utf-8") == raw else formatted


class _Number(str):
    """A number as its author wrote it."""

    __slots__ = ()


def _finish(data: Mapping[str, Any], file: str) -> str:
    try:
        return _workflow(data, "") + "\n"
    except RecursionError:
        raise WorkflowInvalid(
            [Problem("too-deep", "", "the workflow is nested too deeply", "use files for the inner workflows", file)]
        ) from None


def _workflow(data: Mapping[str, Any], indent: str) -> str:
    """A workflow, expanded, its known keys in the order of the format."""
    layouts: dict[str, _Layout] = {"inputs": _entries(_input), "nodes": _entries(_node)}
    return _expanded(((key, layouts.get(key, _value)(value, indent + "  ")) for key, value in _ordered(data, WORKFLOW_KEYS)), indent)


_Layout = Callable[[Any, str], str]


def _entries(entry: _Layout) -> _Layout:
    """The layout of an object by names: one entry a line."""

    def layout(record: Mapping[str, Any], indent: str) -> str:
        return _expanded(((name, entry(value, indent + "  ")) for name, value in record.items()), indent) if record else "{}"

    return layout


def _input(data: Mapping[str, Any], indent: str) -> str:
    return _value(dict(_ordered(data, INPUT_KEYS)), indent)


def _node(data: Mapping[str, Any], indent: str) -> str:
    ordered = dict(_ordered(data, NODE_KEYS))
    if not isinstance(ordered["use"], Mapping):
        return _value(ordered, indent)
    inner = indent + "  "
    return _expanded(((key, _workflow(value, inner) if key == "use" else _value(value, inner)) for key, value in ordered.items()), indent)


def _ordered(data: Mapping[str, Any], keys: Iterable[str]) -> list[tuple[str, Any]]:
    """The members, in the order of the format; every key is known, because the workflow was read before."""
    return [(key, data[key]) for key in keys if key in data]


def _value(value: Any, indent: str) -> str:
    """Any value: on one line if it is short, else its members one a line."""
    line = _flat(value, WIDTH)
    if line is not None:
        return line
    inner = indent + "  "
    if isinstance(value, Mapping):
        return _expanded(((key, _value(item, inner)) for key, item in value.items()), indent)
    if isinstance(value, list | tuple):
        return _joined("[", (_value(item, inner) for item in value), "]", indent)
    return _scalar(value)


def _expanded(members: Iterable[tuple[str, str]], indent: str) -> str:
    return _joined("{", (f"{_quoted(key)}: {text}" for key, text in members), "}", indent)


def _joined(start: str, texts: Iterable[str], end: str, indent: str) -> str:
    between = f",\n{indent}  "
    return f"{start}\n{indent}  {between.join(texts)}\n{indent}{end}"


def _flat(value: Any, room: int) -> str | None:
    """The value on one line, or None when that takes more than `room` characters. Stops as soon as it is too long."""
    if isinstance(value, Mapping):
        parts, room = [], room - 2
        for key, item in value.items():
            name = _quoted(key)
            text = _flat(item, room - len(name) - 2)
            if text is None:
                return None
            parts.append(f"{name}: {text}")
            room -= len(parts[-1]) + 2
        line = "{" + ", ".join(parts) + "}"
    elif isinstance(value, list | tuple):
        parts, room = [], room - 2
        for item in value:
            text = _flat(item, room)
            if text is None:
                return None
            parts.append(text)
            room -= len(text) + 2
        line = "[" + ", ".join(parts) + "]"
    else:
        line = _scalar(value)
        return line if len(line) <= room else None
    return line if room + 2 * bool(parts) >= 0 else None


def _scalar(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    return json.dumps(value)


_UNSEEN = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What JSON allows in a text but UTF-8 cannot hold, or an editor takes for the end of a line."""


def _quoted(text: str) -> str:
    """A text as people read it: only what must be is escaped."""
    return _UNSEEN.sub(lambda match: json.dumps(match[0])[1:-1], json.dumps(text, ensure_ascii=False))


__all__ = ["WIDTH", "format_file", "format_text", "format_workflow"]
