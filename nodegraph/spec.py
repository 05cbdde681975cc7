"""Node types, and `@node`, their front end for functions.

A node type is plain data but for `call`; the signature of a function is its only declaration.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from types import UnionType
from typing import Annotated, Any, TypeVar

from nodegraph import kinds, types
from nodegraph.errors import PackInvalid, Problem
from nodegraph.handles import Handle
from nodegraph.limits import Refused, check_bounds
from nodegraph.outcomes import Lazy
from nodegraph.placeholders import Placeholder
from nodegraph.types import Type
from nodegraph.values import SeedPort

T = TypeVar("T")


class _Missing:
    def __repr__(self) -> str:
        return "required"


SKELETONS = "nodegraph_skeletons"
"""The module prefix under which packs are read: `nodegraph_skeletons.<pack>.<module>`."""
REQUIRED: Any = _Missing()
"""The default of a port that has none."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Marks a `ModelRef` port: which kind of model it takes (`Annotated[ModelRef, Kind("diffusion")]`)."""

    name: str


@dataclass(frozen=True, slots=True)
class Choices:
    """Marks a port whose choices are known only at run time: the pack's facts have `choices_<name>(look)`."""

    name: str


@dataclass(frozen=True, slots=True, init=False)
class Was:
    """Marks a port by its former names (`Annotated[float, Was("strength")]`): workflows that use one of them keep working."""

    names: tuple[str, ...]

    def __init__(self, *names: str):
        object.__setattr__(self, "names", names)


@dataclass(frozen=True, slots=True)
class Port:
    """One typed input or output.

    `lazy`: computed only when the node asks. `open`: stands for any further input (`**more`). `minimum` and so on bound
    a number, and the items of a list of numbers; `choices` are the only allowed values; `model` is the kind of model
    that a `model` port takes; `live` names choices known only at run time.
    """

    name: str
    type: Type
    default: Any = REQUIRED
    lazy: bool = False
    open: bool = False
    doc: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    multiple: float | None = None
    pattern: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    choices: tuple[Any, ...] = ()
    model: str = ""
    live: str = ""
    was: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        return self.default is REQUIRED and not self.open

    @property
    def bounded(self) -> bool:
        numbers = self.minimum is not None or self.maximum is not None or self.above is not None or self.below is not None
        text = self.pattern is not None or self.min_length is not None or self.max_length is not None
        return bool(self.choices) or numbers or text or self.multiple is not None


@dataclass(frozen=True, eq=False)
class NodeType:
    """What can be used in a workflow: a name, typed ports and a function.

    `call(**inputs)` returns the value of the only output, or a NamedTuple or tuple with one value for each output in
    order, or an outcome (`Lazy`, `Need`, `Skip`, `Graph`). `identity` is what keys know of its code.
    """

    name: str
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    call: Callable[..., Any]
    doc: str = ""
    version: int = 1
    pack: str = ""
    identity: str = ""
    effect: bool = False
    volatile: bool = False
    stateful: bool = False
    asynchronous: bool = False
    takes_run: str = ""
    lane: str = ""
    single: bool = True
    fingerprint: Callable[..., bytes] | None = None
    numerics: bytes = b""
    smaller: int = 0
    was: tuple[str, ...] = ()
    open: Port | None = field(default=None)

    def __post_init__(self) -> None:
        other = {name: made for name, port in self.inputs.items() if (made := as_written(port)) is not port.default}
        if other:  # Python would hand on the 1 of `amount: float = 1`, where a workflow that writes it gives 1.0 under the same key
            object.__setattr__(self, "call", partial(self.call, **other))
        if changeable := {name: made for name, made in other.items() if isinstance(made, list | dict)}:
            object.__setattr__(self, "call", _afresh(self.call, changeable))

    @property
    def key_name(self) -> str:
        return f"{self.pack}/{self.name}@{self.identity or self.version}"

    @cached_property
    def renamed(self) -> bool:
        """Whether a port has a former name."""
        return any(port.was for port in (*self.inputs.values(), *self.outputs.values()))

    @cached_property
    def output_types(self) -> dict[str, Type]:
        """The type of each output."""
        return {name: port.type for name, port in self.outputs.items()}

    @property
    def on_device(self) -> bool:
        """Whether calls take the device's lane: said, or inferred from ports that take handles."""
        if self.lane:
            return self.lane == "device"
        return any(port.type.name in _ON_DEVICE for port in self.inputs.values())

    def port(self, name: str) -> Port | None:
        """The input of that name; the open port, if there is one, stands for all others."""
        return self.inputs.get(name) or (self.open and replace(self.open, name=name, open=False)) or None


def as_written(port: Port) -> Any:
    """The default of a port as the node gets it where a workflow writes it: ints as floats, a tuple as a list. Lists and objects are
    copies."""
    if type(port.default) is int:
        return float(port.default) if types.widens(port.type) else port.default
    if isinstance(port.default, list | tuple):
        return [as_written(replace(port, default=one)) for one in port.default]
    return kinds.apart(port.default) if isinstance(port.default, dict) else port.default


def _afresh(call: Callable[..., Any], defaults: Mapping[str, Any]) -> Callable[..., Any]:
    """A function that gets defaults of its own in each call: one that changes them in place would else change all later calls."""

    def fresh(**inputs: Any) -> Any:
        return call(**{name: kinds.apart(made) for name, made in defaults.items() if name not in inputs}, **inputs)

    return fresh


_ON_DEVICE = frozenset(name for cls, name in kinds.NAMES.items() if issubclass(cls, Handle))


@dataclass(frozen=True, slots=True)
class Options:
    """What `@node(...)` was told."""

    name: str = ""
    version: int = 1
    effect: bool = False
    volatile: bool = False
    stateful: bool = False
    lane: str = ""
    smaller: int = 0
    fingerprint: Callable[..., bytes] | None = None
    was: tuple[str, ...] = ()


F = TypeVar("F", bound=Callable[..., Any])


@typing.overload
def node(function: F, /) -> F: ...
@typing.overload
def node(
    *,
    name: str = "",
    version: int = 1,
    effect: bool = False,
    volatile: bool = False,
    stateful: bool = False,
    lane: str = "",
    smaller: int = 0,
    fingerprint: Callable[..., bytes] | None = None,
    was: tuple[str, ...] = (),
) -> Callable[[F], F]: ...
def node(function: Any = None, /, **options: Any) -> Any:
    """Record a function as a node type and return it unchanged.

    `name`: another name than the function's. `version`: raise it when the meaning or a default changes. `effect`: changes
    the world, runs every time. `volatile`: reads the world (clock, camera), is never cached. `stateful`: keyed by its place,
    called one at a time. `lane`: "device" or "cpu" where the ports do not tell. `smaller`: how many variants it has that need
    less memory (tiles, slices) for a result that is as good; `run.smaller` says which one to run; not of async nodes.
    `fingerprint(**inputs)`: further bytes for its key. `was`: former names.
    """

    def record(function: F) -> F:
        function.__node__ = Options(**options)  # type: ignore[attr-defined]
        return function

    return record(function) if function is not None else record


class RunParameter:
    """The base of `Run`: a parameter annotated with it gets the running node's context and is no port."""


def node_type(function: Callable[..., Any], pack: str = "", identity: str = "") -> NodeType:
    """The node type of a recorded function. Raises PackInvalid with everything that is wrong with its signature."""
    options: Options = getattr(function, "__node__", None) or Options()
    name = options.name or function.__name__
    where = f"{pack}/{name}" if pack else name
    reader = _SignatureReader(where, pack, function)
    inputs, takes_run, further = reader.inputs()
    outputs, single = reader.outputs()
    if not name.isidentifier():
        reader.report("node-name", f"{name!r} is no node name", "use letters, digits and underscores")
    if options.effect and options.volatile:
        reader.report("node-options", f"{name!r} cannot be both effect and volatile", "an effect already runs every time")
    if options.lane not in ("", "cpu", "device"):
        reader.report("node-options", f"there is no lane {options.lane!r}", "use 'cpu' or 'device'")
    if options.smaller and inspect.iscoroutinefunction(function):
        reader.report(
            "node-options", f"{name!r} is async, and has smaller variants: async nodes are called once", "make it a plain function"
        )
    if options.smaller and not takes_run:
        reader.report("node-options", f"{name!r} has smaller variants, but cannot know which one to run", "take *, run: Run")
    if reader.problems:
        raise PackInvalid(reader.problems)
    return NodeType(
        name=name,
        inputs=inputs,
        outputs=outputs,
        call=function,
        doc=inspect.cleandoc(function.__doc__ or ""),
        version=options.version,
        pack=pack,
        identity=identity,
        effect=options.effect,
        volatile=options.volatile,
        stateful=options.stateful,
        asynchronous=inspect.iscoroutinefunction(function),
        takes_run=takes_run,
        lane=options.lane,
        smaller=options.smaller,
        single=single,
        fingerprint=options.fingerprint,
        was=options.was,
        open=further,
    )


class _SignatureReader:
    """Reads one function's signature and collects what is wrong with it."""

    def __init__(self, where: str, pack: str, function: Callable[..., Any]):
        self.where, self.pack, self.function = where, pack, function
        self.problems: list[Problem] = []
        self.hints: dict[str, Any] = {}
        try:
            self.hints = typing.get_type_hints(function, include_extras=True)
        except Exception as error:  # any annotation of a pack may fail in any way
            self.report(
                "node-signature",
                f"the annotations of {where!r} cannot be read: {error}",
                "annotate with types that are defined in the module",
            )

    def report(self, code: str, text: str, fix: str = "") -> None:
        self.problems.append(Problem(code, self.where, text, fix))

    def inputs(self) -> tuple[dict[str, Port], str, Port | None]:
        ports: dict[str, Port] = {}
        takes_run, further = "", None
        for parameter in inspect.signature(self.function).parameters.values():
            hint = self.hints.get(parameter.name, inspect.Parameter.empty)
            if isinstance(hint, type) and issubclass(hint, RunParameter):
                takes_run = parameter.name
            elif parameter.kind is parameter.VAR_KEYWORD:
                further = self._port(parameter, hint, open=True)
            elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
                self.report(
                    "node-signature",
                    f"{parameter.name!r} of {self.where!r} is positional",
                    "a port is set by name: use an ordinary parameter, or list[T]",
                )
            elif port := self._port(parameter, hint):
                ports[port.name] = port
        return ports, takes_run, further

    def _port(self, parameter: inspect.Parameter, hint: Any, open: bool = False) -> Port | None:
        if hint is inspect.Parameter.empty:
            if "node-signature" not in {problem.code for problem in self.problems}:
                self.report(
                    "node-signature",
                    f"{parameter.name!r} of {self.where!r} has no type",
                    f"annotate it, for example {parameter.name}: Image",
                )
            return None
        facts, base = _constraints(hint)
        lazy = typing.get_origin(base) is Lazy or base is Lazy
        if lazy:
            args = typing.get_args(base)
            inner, base = _constraints(args[0] if args else Any)
            facts = {**inner, **facts}
        kind = types.SEED if facts.pop("seed", False) else self._type(parameter.name, base)
        default = REQUIRED if parameter.default is parameter.empty else parameter.default
        if default is None and kind and not kind.optional:
            kind = types.union((kind, types.NONE))
        if kind is None:
            return None
        if default is REQUIRED and kind.optional and kind.kind == "union":
            default = None
        facts.setdefault("choices", _literal_choices(base))
        port = Port(parameter.name, kind, default, lazy=lazy, open=open, **facts)
        if self._check_limits(port) and default is not REQUIRED and default is not None:
            self._check_default(port)
        return port

    def _check_default(self, port: Port) -> None:
        """A default that a workflow could not write."""
        said = f"the default of {port.name!r} of {self.where!r}"
        if not kinds.conforms(port.type, port.default):
            text, fix = f"{said} is {kinds.describe(port.default)}, which is not {port.type}", f"write a default that is {port.type}"
            if hasattr(port.default, "metadata"):  # a Field(…), which in pydantic's own classes stands there
                fix = f"write {port.name}: Annotated[…, Field(…)] = …"
            self.report("node-default", text, fix)
            return
        try:
            check_bounds(port, port.default)
        except Refused as error:
            self.report("node-default", f"{said} is out of bounds: {error.text}", error.fix)

    def _check_limits(self, port: Port) -> bool:
        """Whether values can be compared with the limits; reported if not."""
        said, wrong = f"{port.name!r} of {self.where!r}", len(self.problems)
        for theirs, ours in _LIMITS.items():
            limit = getattr(port, ours)
            if isinstance(limit, Placeholder):
                return False  # which is said when all of the pack is read
            if limit is not None and (not isinstance(limit, int | float) or limit != limit):
                self.report("node-signature", f"the limit {theirs!r} of {said} is {kinds.describe(limit)}", "write a number")
        if isinstance(port.pattern, str):
            try:
                re.compile(port.pattern)
            except re.error as error:
                self.report("node-signature", f"the pattern of {said} is no regular expression: {error}", "mend the pattern")
        if isinstance(port.multiple, int | float) and port.multiple <= 0:
            self.report("node-signature", f"{said} is to be a multiple of {port.multiple}", "use a step greater than 0")
        return len(self.problems) == wrong

    def _type(self, port: str, annotation: Any) -> Type | None:
        try:
            return types.of_annotation(annotation, self._class_name)
        except ValueError as error:
            self.report(
                "node-signature",
                f"{port!r} of {self.where!r}: {error}",
                "use a value type of nodegraph, a plain Python type, or a class of your pack",
            )
            return None

    def _class_name(self, cls: type) -> str | None:
        if known := kinds.NAMES.get(cls):
            return known
        if cls.__module__ in ("builtins", "typing"):
            return "json" if cls in (dict, object) else None
        root, _, inside = cls.__module__.partition(".")
        pack = inside.partition(".")[0] if root == SKELETONS else self.pack  # a class may be from another pack
        return f"{pack}/{cls.__name__}" if pack else cls.__name__

    def outputs(self) -> tuple[dict[str, Port], bool]:
        hint = self.hints.get("return", inspect.Signature.empty)
        if hint is inspect.Signature.empty:
            if not self.problems:
                self.report(
                    "node-signature",
                    f"{self.where!r} does not say what it returns",
                    "annotate it, for example -> Image, or -> None for an effect without outputs",
                )
            return {}, False
        if hint is None or hint is type(None):
            return {}, False
        if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
            return self._record_outputs(hint), False
        facts, base = _constraints(hint)
        kind = self._type("return", base)
        if kind is None:
            return {}, True
        name = output_name(kind)
        return {name: Port(name, kind, doc=facts.get("doc", ""), was=facts.get("was", ()))}, True

    def _record_outputs(self, record: Any) -> dict[str, Port]:
        ports = {}
        hints = typing.get_type_hints(record, include_extras=True)
        for name in record._fields:
            facts, base = _constraints(hints.get(name, Any))
            if kind := types.SEED if facts.get("seed") else self._type(name, base):
                ports[name] = Port(name, kind, doc=facts.get("doc", ""), was=facts.get("was", ()))
        return ports


def output_name(kind: Type) -> str:
    """The name of a single output: its type in snake case, plural for a list, `value` for what has no name of its own."""
    if kind.kind == "list" and kind.args[0].kind == "name":
        return f"{output_name(kind.args[0])}s"
    if kind.kind == "union" and len(kind.args) == 2 and kind.optional:
        return output_name(kind.args[0])
    if kind.kind != "name":
        return "value"
    word = kind.name.rpartition("/")[2]
    return "".join("_" + char.lower() if char.isupper() and index else char.lower() for index, char in enumerate(word))


_LIMITS = {
    "ge": "minimum",
    "le": "maximum",
    "gt": "above",
    "lt": "below",
    "multiple_of": "multiple",
    "min_length": "min_length",
    "max_length": "max_length",
}


_AROUND = (typing.Union, UnionType, list)
"""Marks may stand inside of these: `Annotated[int, Field(ge=1)] | None`."""


def _constraints(hint: Any) -> tuple[dict[str, Any], Any]:
    """What `Annotated` says of a port, and the annotation without it."""
    if typing.get_origin(hint) is not Annotated:
        inside = [_constraints(arg)[0] for arg in typing.get_args(hint)] if typing.get_origin(hint) in _AROUND else []
        return {name: fact for facts in inside for name, fact in facts.items() if name not in ("doc", "seed", "was")}, hint
    base, *marks = typing.get_args(hint)
    facts: dict[str, Any] = {}
    for mark in marks:
        if isinstance(mark, str):
            facts["doc"] = mark
        elif mark is SeedPort:
            facts["seed"] = True
        elif isinstance(mark, Kind):
            facts["model"] = mark.name
        elif isinstance(mark, Choices):
            facts["live"] = mark.name
        elif isinstance(mark, Was):
            facts["was"] = mark.names
        else:
            facts.update(_field_constraints(mark))
    inner, base = _constraints(base)
    return {**inner, **facts}, base


def _field_constraints(mark: Any) -> dict[str, Any]:
    """The limits of a pydantic `Field(...)` or of an annotated-types mark (`Ge`, `Interval`, …)."""
    facts: dict[str, Any] = {}
    for part in [mark, *getattr(mark, "metadata", ())]:
        for theirs, ours in _LIMITS.items():
            if (limit := getattr(part, theirs, None)) is not None:
                facts[ours] = limit
        if pattern := getattr(part, "pattern", None):
            facts["pattern"] = str(pattern)
    if doc := getattr(mark, "description", None):
        facts["doc"] = doc
    return facts


def _literal_choices(annotation: Any) -> tuple[Any, ...]:
    """The values of a Literal, also inside of `list[…]` and `… | None`."""
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    found: tuple[Any, ...] = ()
    for arg in typing.get_args(annotation):
        found += _literal_choices(arg)
    return found


__all__ = [
    "REQUIRED",
    "Choices",
    "Kind",
    "NodeType",
    "Options",
    "Port",
    "RunParameter",
    "Was",
    "as_written",
    "node",
    "node_type",
    "output_name",
]
