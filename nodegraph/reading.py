"""From JSON text to the plain data of a workflow, and what is wrong with it in the words of a person who wrote it."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from nodegraph import kinds, positions
from nodegraph.errors import Problem, WorkflowInvalid, did_you_mean

FORMAT = 1
"""The version of the format, the value of the key `nodegraph`."""
MAX_DEPTH = 32
"""How deep workflows may be written inside of workflows."""
NAME = re.compile(r"[^\W\d][\w-]*", re.UNICODE)
Found = tuple[positions.Path, Problem]
"""A problem and the path it stands at."""


def parse(text: str, file: str) -> Any:
    """The data of a JSON text. Raises WorkflowInvalid: not JSON, or keys that repeat."""
    repeated = _Repeated()
    try:
        data = json.loads(text, object_pairs_hook=repeated, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        what, fix = _not_json(error, text)
        refuse(Problem("bad-json", "", what, fix, file, error.lineno, error.colno))
    except RecursionError:
        refuse(Problem("too-deep", "", "the file is nested too deeply", "put inner workflows into files of their own", file))
    except ValueError as error:  # a number that JSON has not, or one of thousands of digits
        line, column = positions.line_column(text, max(positions.constant(text), 0))
        what = str(error) if isinstance(error, _NoConstant) else "there is a number of thousands of digits"
        refuse(Problem("bad-json", "", f"this is not JSON: {what}", "write a number that JSON has", file, line, column))
    if repeated.found:
        raise WorkflowInvalid(_duplicates(text, file))
    return data


def refuse(problem: Problem) -> NoReturn:
    raise WorkflowInvalid([problem])


class _Repeated:
    """Makes objects in parsing, and notes whether a key was repeated in any."""

    def __init__(self) -> None:
        self.found = False

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) != len(pairs):
            self.found = True
        return record


def _duplicates(text: str, file: str) -> Iterator[Problem]:
    """A second pass that finds where the repeated keys stand."""
    for path, at in positions.repeated_keys(text):
        line, column = positions.line_column(text, at)
        yield Problem("duplicate-key", dotted(path), f"the key {path[-1]!r} stands here twice", "keep one of them", file, line, column)


class _NoConstant(ValueError):
    """A word that Python reads as a number and JSON has not."""


def _no_constant(word: str) -> NoReturn:
    raise _NoConstant(f"{word} is no number in JSON")


def _not_json(error: json.JSONDecodeError, text: str) -> tuple[str, str]:
    """What is wrong with a text that is not JSON, and how to mend it."""
    if error.msg == "Extra data":
        return "something follows the end of the workflow", "remove it, or what closes the workflow too early"
    if error.msg.startswith("Invalid control character"):
        return "this is not JSON: a line break, a tab or another control character stands in a text", "write it as \\n, \\t or \\u00XX"
    fix = _json_fix(text, error.pos, error.msg)
    if fix == _EXTRA_COMMA:
        return "this is not JSON: a comma stands before a closing bracket", fix  # versions of Python word this in several ways
    return f"this is not JSON: {error.msg[:1].lower() + error.msg[1:]}", fix


_EXTRA_COMMA = "remove the comma before the closing bracket"


def _json_fix(text: str, index: int, said: str) -> str:
    before, here = text[:index].rstrip(), text[index:].lstrip()
    if not text.strip():
        return 'the file is empty: start with {"nodegraph": 1, "nodes": {}}'
    if said.startswith("Invalid \\"):
        return "write a backslash as \\\\; paths take / as well"
    if _CONFLICT.match(here):
        return "two versions of the text stand here, as merging leaves them: keep one of them"
    if (unseen := text[index : index + 1]) and (unseen.isspace() or unicodedata.category(unseen) == "Cf"):
        return f"remove the character U+{ord(unseen):04X}, which looks like a space or like nothing"
    if (before.endswith(",") and here[:1] in ("}", "]")) or (here[:1] == "," and here[1:].lstrip()[:1] in ("}", "]")):
        return _EXTRA_COMMA
    if here[:1] in tuple("'“”„‘’«»"):
        return 'use double quotes: "…"'
    if here[:2] in ("//", "/*") or here[:1] == "#":
        return 'JSON has no comments: use "doc"'
    if here[:4] in ("True", "None") or here[:5] == "False":
        return "write true, false or null"
    if not here:
        return "the file ends too early: close what is open"
    if "':'" in said:
        return "add a colon"
    if before[-1:] in ('"', "}", "]", "e", "l", *"0123456789") and here[:1] in ('"', "{", "["):
        return "add a comma"
    if before[-1:] == '"' and "','" in said:
        return 'write a quote that belongs to the text as \\", or add a comma'
    if before and _WORD.match(here):
        return 'write names and texts in double quotes: "…"'
    return "mend the text at this place"


_CONFLICT = re.compile(r"<{7} |={7}\n|>{7} |\|{7} ")
_WORD = re.compile(r"[^\W\d]")


# -- the shape -----------------------------------------------------------------------------------------------------


def shape(data: Mapping[str, Any]) -> Iterator[Found]:
    """What pydantic does not say well: the format's version and the spelling of names, also of workflows written inside."""
    stack: list[tuple[positions.Path, Mapping[str, Any]]] = [((), data)]
    while stack:
        at, record = stack.pop()
        if len(at) > 3 * MAX_DEPTH:
            fix = "put inner workflows into files of their own"
            yield at, Problem("too-deep", dotted(at), f"workflows are written inside of each other more than {MAX_DEPTH} times", fix)
            continue
        yield from _version(at, record)
        yield from _names(at, record)
        nodes = record.get("nodes")
        for name, node in nodes.items() if isinstance(nodes, Mapping) else ():
            if isinstance(node, Mapping) and isinstance(inner := node.get("use"), Mapping):
                stack.append(((*at, "nodes", name, "use"), inner))


def _version(at: positions.Path, record: Mapping[str, Any]) -> Iterator[Found]:
    version = record.get("nodegraph", FORMAT)
    if type(version) is int and version != FORMAT:
        path = (*at, "nodegraph")
        fix = "update nodegraph" if version > FORMAT else f'write "nodegraph": {FORMAT}'
        yield path, Problem("format-version", dotted(path), f"this nodegraph reads format {FORMAT}, but the file is format {version}", fix)


def _names(at: positions.Path, record: Mapping[str, Any]) -> Iterator[Found]:
    for section in ("inputs", "nodes", "outputs"):
        names = record.get(section)
        for name in names if isinstance(names, Mapping) else ():
            reserved = section == "nodes" and name == "inputs"
            if reserved or not isinstance(name, str) or not NAME.fullmatch(name):
                path = (*at, section, name)
                why = "is reserved for the workflow's own inputs" if reserved else f"is no name for one of the {section}"
                fix = "give the node another name" if reserved else "use letters, digits, _ and -, starting with a letter"
                yield path, Problem("bad-name", dotted(path), f"{name!r} {why}", fix)


def translated(errors: Iterable[Any], data: Any, known: Mapping[str, Sequence[str]]) -> Iterator[Found]:
    """Pydantic's errors in the project's words, each place once. `known`: the keys that a workflow (""), an input and a node may have."""
    seen = set()
    for item in errors:
        path, foreign = _real_path(item["loc"], data)
        if foreign or path in seen:
            continue
        seen.add(path)
        yield path, _problem(item, path, known)


def _problem(item: Any, path: positions.Path, known: Mapping[str, Sequence[str]]) -> Problem:
    where = dotted(path)
    if item["type"] == "extra_forbidden":
        keys = known[_section(path)]
        fix = did_you_mean(str(path[-1]), keys) or f"the keys are {', '.join(keys)}"
        if _section(path) == "nodes" and not isinstance(item["input"], str | Mapping):
            fix = 'values of a node stand in "with", links in "from"'  # no key of a node takes such a value
        return Problem("unknown-key", where, f"{path[-1]!r} is no key here", fix)
    if item["type"] == "missing":
        return Problem("missing-key", where, f"the key {path[-1]!r} is missing", f"add {path[-1]!r}")
    own = _own(path)
    linked = own[2] == "from" if len(own) > 3 else len(own) > 1 and own[0] == "outputs"
    kind = "finite_number" if item["type"] == "float_type" and type(item["input"]) is int else item["type"]  # one of hundreds of digits
    mapped = own[2:3] == ("each",) and len(own) == 4
    expected = _USE if _is_use(own) else _LINK if linked else _EACH if mapped else _EXPECTED.get(kind)
    text, fix = expected or (item["msg"][:1].lower() + item["msg"][1:], "")
    return Problem("wrong-json", where, f"{where or 'the file'!r} {text}, but is {kinds.describe(item['input'])}", fix)


def _own(path: Sequence[str | int]) -> tuple[str | int, ...]:
    """A path from the innermost workflow on: names are free, so only from there on a step says what it is."""
    start = 0
    while len(path) > start + 3 and path[start] == "nodes" and path[start + 2] == "use":
        start += 3
    return tuple(path[start:])


def _is_use(own: Sequence[str | int]) -> bool:
    return len(own) == 3 and own[0] == "nodes" and own[2] == "use"


def _section(path: positions.Path) -> str:
    """What the object is that the last step of a path is a key of."""
    own = _own(path)
    return str(own[0]) if len(own) == 3 and own[0] in ("inputs", "nodes") else ""


_USE = ("must be a node type, a path or a workflow", 'write the name of a node type: "use": "…"')
_LINK = ("must be a reference, or a list of them", 'write "node.output" or "inputs.name"; values of nodes stand in "with"')
_EACH = ("must be a reference to a list, or a list", 'write "node.output", "inputs.name" or […]; one value for all stands in "with"')
_EXPECTED = {
    "string_type": ("must be text", "write it in double quotes"),
    "int_type": ("must be a whole number", "write it in digits"),
    "float_type": ("must be a number", "write it in digits"),
    "finite_number": ("must be a finite number", "leave it out, or write a number between -1e308 and 1e308"),
    "dict_type": ("must be an object", "write it in braces: {…}"),
    "list_type": ("must be a list", "write it in square brackets: […]"),
    "model_type": ("must be an object", "write it in braces: {…}"),
    "model_attributes_type": ("must be an object", "write it in braces: {…}"),
    "recursion_loop": ("must not hold itself", "write it out"),
}
_BRANCHES = {"str": str, "Workflow": Mapping, "list[str]": list, "list[any]": list}
"""The members of unions in the models, as pydantic names them, and what they take."""


def _real_path(loc: tuple[int | str, ...], data: Any) -> tuple[positions.Path, bool]:
    """Pydantic's location without the names of union members, which are not in the file; and whether the error is of a member that
    was not meant."""
    path: list[int | str] = []
    here: Any = data
    foreign = False
    for index, step in enumerate(loc):
        if (isinstance(here, Mapping) and step in here) or (isinstance(here, list | tuple) and isinstance(step, int) and step < len(here)):
            here = here[step]  # type: ignore[index]
        elif step in _BRANCHES and index == len(loc) - 1:
            foreign = isinstance(here, str | Mapping | list) and not isinstance(here, _BRANCHES[step]) and _meant(path, here)
            continue
        elif step in _BRANCHES or step == "[key]":
            continue
        path.append(step)
    return tuple(path), foreign


def _meant(path: list[int | str], here: Any) -> bool:
    """Whether another member of the union at this path takes such a value."""
    if _is_use(_own(path)):
        return isinstance(here, str | Mapping)
    return isinstance(here, str | list)


def dotted(path: positions.Path) -> str:
    return ".".join(map(str, path))


def placed(found: Iterable[Found], text: str, file: str) -> list[Problem]:
    """Problems with line and column, in file order."""
    import dataclasses

    if not text:
        return [dataclasses.replace(problem, file=file) for _, problem in found]
    where = positions.Positions(text)
    located = [(where.locate(path), problem) for path, problem in found]
    located.sort(key=lambda pair: pair[0])
    return [dataclasses.replace(problem, file=file, line=line, column=column) for (line, column), problem in located]
