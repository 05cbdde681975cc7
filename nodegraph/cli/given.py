"""What a person gives a run: `--set`, `--sweep`, `--inputs`, `--batch`, as typed values.

Text is read by the declared type of what it is for, and is never split: a number raw, text raw or `@FILE`, a list as JSON, a
picture by its path. Ranges and choices are the engine's to check; what is reported here is what cannot be read at all.
"""

from __future__ import annotations

import itertools
import json
import math
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph import types
from nodegraph.cli import media, typed
from nodegraph.errors import Problem, WorkflowInvalid, did_you_mean, listing
from nodegraph.kinds import is_json
from nodegraph.registry import Registry
from nodegraph.spec import Port
from nodegraph.types import Type
from nodegraph.workflow import Workflow, is_path

if TYPE_CHECKING:
    from nodegraph.engine import Engine

RANDOM = "random"
RANDOM_LIMIT = 2**32


@dataclass(frozen=True, slots=True)
class Given:
    """The values of one run: inputs by name, overridden literals by `node.port`, and of both what a person typed.

    `place`: where it stands on each axis of a sweep.
    """

    inputs: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)
    place: tuple[int, ...] = ()

    @property
    def origins(self) -> dict[str, str]:
        """Where inputs that are no JSON values were read from: a path, or a list of them in JSON."""
        listed = {name: self.shown[name] for name, value in self.inputs.items() if not is_json(value)}
        return {name: shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False) for name, shown in listed.items()}

    @property
    def files(self) -> list[Path]:
        """The files that inputs were read from."""
        return [Path(one.removeprefix("@")).expanduser() for name in self.origins for one in _texts(self.shown[name])]


@dataclass(frozen=True, slots=True)
class Axis:
    """What one `--sweep` goes through, or the lines of `--batch`: its name, and what each run on it is called."""

    name: str
    labels: list[str]


def runs(arguments: Namespace, workflow: Workflow, registry: Registry) -> list[Given]:
    """One Given for each run that is asked for, in order. Raises WorkflowInvalid with everything that is wrong."""
    return _asked(arguments, _Reader(workflow, registry))[1]


def valid_runs(arguments: Namespace, workflow: Workflow, engine: Engine) -> tuple[list[Axis], list[Given]]:
    """What is asked for, of a workflow that is without problems with the values of the first run. Raises WorkflowInvalid."""
    from nodegraph.engine import with_literals

    reader = _Reader(workflow, engine.registry)
    try:
        axes, given = _asked(arguments, reader)
    except WorkflowInvalid as error:
        places = {f"nodes.{node}.with.{port}" for node, _, port in (name.partition(".") for name in reader.named)}
        left = [one for one in engine.check(workflow, dict.fromkeys(reader.named, "")) if one.where not in places]
        raise WorkflowInvalid(left or error.problems) from None
    if problems := engine.check(with_literals(workflow, given[0].overrides), given[0].inputs):
        raise WorkflowInvalid(problems)
    return axes, given


def _asked(arguments: Namespace, reader: _Reader) -> tuple[list[Axis], list[Given]]:
    """The axes of a sweep, and its runs; the last axis goes fastest. Raises WorkflowInvalid with everything that is wrong."""
    base = reader.file(arguments.inputs) if arguments.inputs else []
    rows = reader.lines(arguments.batch) if getattr(arguments, "batch", None) else [[]]
    if not rows and not reader.problems:
        reader.report("no-runs", "--batch", f"{arguments.batch!r} has no lines", 'write {"name": value, …} on each')
    sets = [reader.assignment(text) for text in arguments.sets]
    sweeps = [reader.sweep(text) for text in getattr(arguments, "sweep", ())]
    _refuse_twice(reader, [*sets, *(sweep[:1] for sweep in sweeps)])
    told = {one.name for row in rows for one in row}
    for sweep in sweeps:
        if sweep and sweep[0].name in told:  # or else the lines would be shown as what they are not
            text = f"{sweep[0].name!r} is given by --batch and by --sweep"
            reader.report("set-twice", sweep[0].name, text, "take it out of the lines, or leave the sweep away")
    if reader.problems:
        raise WorkflowInvalid(reader.problems)
    axes = [Axis(sweep[0].name, [label(one.shown) for one in sweep]) for sweep in sweeps]
    if getattr(arguments, "batch", None):
        axes.insert(0, Axis("batch", [" ".join(f"{one.name}={label(one.shown)}" for one in row) for row in rows]))
    made = []
    for number, row in enumerate(rows):
        for combination in itertools.product(*map(enumerate, sweeps)):
            place = (*([number] if getattr(arguments, "batch", None) else []), *(at for at, _ in combination))
            made.append(replace(_given(base, row, *sets, *(one for _, one in combination)), place=place))
    return axes, made


def label(value: Any) -> str:
    """A swept value in a word: `7` for 7.0, text without quotes."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _texts(value: Any) -> Iterable[str]:
    """A text, or those of a list."""
    return [value] if isinstance(value, str) else [text for item in value for text in _texts(item)]


def _finite(limits: Iterable[float | None]) -> list[float]:
    return [one for one in limits if one is not None and math.isfinite(one)]


@dataclass(frozen=True, slots=True)
class _Value:
    """One value for one name, and the text or JSON it was given as."""

    name: str
    value: Any
    shown: Any


def _given(*layers: Any) -> Given:
    """Later values take the place of earlier ones. A layer is one value or several."""
    made = Given()
    for layer in layers:
        for one in layer if isinstance(layer, list) else [layer]:
            (made.overrides if "." in one.name else made.inputs)[one.name] = one.value
            made.shown[one.name] = one.shown
    return made


def _refuse_twice(reader: _Reader, groups: Iterable[list[_Value]]) -> None:
    seen: set[str] = set()
    for group in groups:
        for one in group:
            if one.name in seen:
                reader.report("set-twice", one.name, f"{one.name!r} is given twice", "keep one of them")
            seen.add(one.name)


class _Reader:
    """Reads values for one workflow and collects what is wrong with them. `named`: what a value is given for, right or wrong."""

    def __init__(self, workflow: Workflow, registry: Registry):
        self.workflow, self.registry = workflow, registry
        self.problems: list[Problem] = []
        self.named: set[str] = set()

    def report(self, code: str, where: str, text: str, fix: str = "", file: str = "", line: int = 0) -> None:
        self.problems.append(Problem(code, where, text, fix, file, line, 1 if line else 0))

    # -- one assignment --------------------------------------------------------------------------------------------

    def assignment(self, text: str) -> list[_Value]:
        """`NAME=VALUE`; nothing, and a problem, when it cannot be read."""
        name, equals, value = text.partition("=")
        if not equals:
            self.report("bad-set", "--set", f"{text!r} is not NAME=VALUE", f"write --set {name}=VALUE")
            return []
        kind = self.type_of(name, f"--set {name}")
        return [] if kind is None else self._read(name, f"--set {name}", partial(self._shown_text, name, kind, value))

    def sweep(self, text: str) -> list[_Value]:
        """`NAME=V,V…`, `NAME=FIRST..LAST` for numbers, or `NAME=[V, V…]` in JSON for values that hold commas, and for lists."""
        name, equals, listed = text.partition("=")
        where = f"--sweep {name}"
        if not equals or not listed:
            self.report("bad-set", "--sweep", f"{text!r} is not NAME=V,V…", f"write --sweep {name}=1,2,3")
            return []
        kind = self.type_of(name, where)
        if kind is None:
            return []
        if not listed.startswith("["):
            values = self._spanned(name, where, kind, listed)
            return [one for value in values for one in self._read(name, where, partial(self._shown_text, name, kind, value))]
        items = self._read(name, where, lambda: (typed.parse_json(listed, list), None))
        if items and not items[0].value:
            self.report("no-runs", where, f"{name!r} has no values", f"write --sweep {name}=1,2,3")
        return [
            one
            for item in (items[0].value if items else [])
            for one in self._read(name, where, partial(self._shown_json, name, kind, item, Path()))
        ]

    def _spanned(self, name: str, where: str, kind: Type, listed: str) -> list[str]:
        """The values of a list, with `FIRST..LAST` and `FIRST..LAST..STEP` written out for a type of numbers."""
        try:
            return [value for part in listed.split(",") for value in typed.span(kind, part) or [part]]
        except ValueError as error:
            self.report("bad-value", where, f"{name!r} {error.args[0]}", error.args[1])
            return []

    def _read(self, name: str, where: str, read: Callable[[], tuple[Any, Any]], file: str = "", line: int = 0) -> list[_Value]:
        try:
            value, shown = read()
        except media.Unreadable as error:
            self.report("bad-value", where, str(error), error.fix, file, line)
            return []
        except ValueError as error:
            fix = error.args[1] if len(error.args) > 1 else ""
            self.report("bad-value", where, f"{name!r} {error.args[0]}", fix, file, line)
            return []
        return [_Value(name, value, shown)]

    def _shown_text(self, name: str, kind: Type, text: str) -> tuple[Any, Any]:
        if types.without_none(kind).kind == "list" and not types.is_json(kind) and text != "null":
            return self._shown_json(name, kind, typed.listed(text), Path())
        value = self._random(name) if text == RANDOM and typed.takes_random(kind) else typed.from_text(kind, text)
        return value, value if types.is_json(kind) or kind is types.SEED else text

    def _shown_json(self, name: str, kind: Type, given: Any, folder: Path) -> tuple[Any, Any]:
        if given == RANDOM and typed.takes_random(kind):
            return (drawn := self._random(name)), drawn
        seen = typed.from_folder(kind, given, folder)
        return typed.from_json(kind, seen), seen

    def _random(self, name: str) -> int:
        """A number within the bounds of an input and of the ports that it feeds, or of the port that it is set for."""
        import secrets

        declared, ports = self.workflow.inputs.get(name), list(self._fed(name))
        low = [declared.min if declared else None, *(one.minimum for one in ports)]
        high = [declared.max if declared else None, *(one.maximum for one in ports)]
        least = [math.ceil(one) for one in _finite(low)] + [math.floor(one) + 1 for one in _finite(port.above for port in ports)]
        most = [math.floor(one) for one in _finite(high)] + [math.ceil(one) - 1 for one in _finite(port.below for port in ports)]
        step = math.lcm(*(int(one.multiple) for one in ports if one.multiple)) or 1
        first = -(-max(least, default=0) // step) * step
        return first + step * secrets.randbelow(max(1, (min(most, default=RANDOM_LIMIT - 1) - first) // step + 1))

    def _fed(self, name: str) -> Iterable[Port]:
        """The ports of node types that a name sets: those that the input feeds, or the port of `node.port`."""
        node, _, port = name.partition(".")
        places = [(node, port)] if node in self.workflow.nodes else []
        for other, used in self.workflow.nodes.items():
            places += [(other, one) for one, link in used.from_.items() if link == f"inputs.{name}"]
        for place, one in places:
            use = self.workflow.nodes[place].use
            known = self.registry.get(use) if isinstance(use, str) else None
            if known and (found := known.port(one)):
                yield found

    # -- files of inputs -------------------------------------------------------------------------------------------

    def file(self, name: str) -> list[_Value]:
        """A JSON object of inputs by name."""
        text = self._text(name, "--inputs")
        return [] if text is None else self._record(text, name, 0)

    def lines(self, name: str) -> list[list[_Value]]:
        """A JSON object a line; empty lines are left out. A text in JSON may hold what else ends a line in Python, such as U+2028."""
        text = self._text(name, "--batch")
        return [self._record(row, name, number) for number, row in enumerate((text or "").split("\n"), 1) if row.strip()]

    def _text(self, name: str, flag: str) -> str | None:
        try:
            return Path(name).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            self.report("not-text", flag, f"{name!r} is not UTF-8 text", "save it as UTF-8")
        except OSError as error:
            self.report("file-missing", flag, f"cannot read {name!r}: {error.strerror}", "give the path of a file")
        return None

    def _record(self, text: str, file: str, line: int) -> list[_Value]:
        try:
            record = typed.parse_json(text, dict)
        except ValueError as error:
            self.report("bad-json", "", f"the inputs {error.args[0]}", 'write {"name": value, …}', file, line)
            return []
        found: list[_Value] = []
        for name, given in record.items():
            kind = self.type_of(name, name, file, line)
            if kind is not None:
                found += self._read(name, name, partial(self._shown_json, name, kind, given, Path(file).parent), file, line)
        return found

    # -- what a name stands for ------------------------------------------------------------------------------------

    def type_of(self, name: str, where: str, file: str = "", line: int = 0) -> Type | None:
        """The type of an input or of `node.port`; None, and a problem, when there is none of that name."""
        self.named.add(name)
        if name in self.workflow.inputs:
            try:
                return types.parse(self.workflow.inputs[name].type)
            except ValueError:
                return types.ANY  # check says what is wrong with the declaration
        node, _, port = name.partition(".")
        if port and node in self.workflow.nodes:
            ports, more = self._ports(node)
            if port in ports or more is not None:
                return ports.get(port, more)
            fix = did_you_mean(port, ports) or (f"its inputs are {listing(ports)}" if ports else "it has no inputs")
            self.report("unknown-input", where, f"{node!r} has no input {port!r}", fix, file, line)
            return None
        known = [*self.workflow.inputs, *(f"{node}.{port}" for node, used in self.workflow.nodes.items() for port in used.with_)]
        inputs = f"its inputs are {listing(self.workflow.inputs)}" if self.workflow.inputs else "it has no inputs"
        self.report("unknown-input", where, f"the workflow has no input {name!r}", did_you_mean(name, known) or inputs, file, line)
        return None

    def _ports(self, name: str) -> tuple[Mapping[str, Type], Type | None]:
        """The inputs of a node, and the type of any further ones that it takes; of a node type that is not known, any."""
        use = self.workflow.nodes[name].use
        if isinstance(use, str) and is_path(use):
            use = Workflow.load((self.workflow.folder or Path()) / use)
        if isinstance(use, Workflow):
            return {port: types.parse(declared.type) for port, declared in use.inputs.items()}, None
        known = self.registry.get(use)
        if known is None:
            return {}, types.ANY
        return {port: one.type for port, one in known.inputs.items()}, known.open.type if known.open else None
