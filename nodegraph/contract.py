"""What every node promises, tried out: run on sample values, it gives the same bytes twice, leaves its inputs as they are, gives what
it declares, and says what it is for.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph import kinds, types
from nodegraph.errors import Problem, WorkflowInvalid
from nodegraph.literals import article
from nodegraph.samples import NoSample, sample
from nodegraph.spec import NodeType, Port
from nodegraph.types import Type

if TYPE_CHECKING:
    from nodegraph.engine import Engine

CASES = 3
"""How many sets of sample inputs a node is tried with."""
_FAILURES = ("node-failed", "wrong-output", "internal")
"""What a node must not do with any input. Everything else that it refuses, it may refuse."""
_PATIENCE = 4
"""How many times as many are made, for a node that refuses some of them."""
_OF_MODELS = ("latent", "conditioning", "embedding")
"""Types whose values must fit a model."""
_DEPTH = 3
"""How many nodes may stand behind a sample value that a node has to make."""

Samples = Mapping[str, Sequence[Any]]
"""Values to try with, by type (`mine/Palette`, `vae`) or by port (`fade.image`)."""


@dataclass(slots=True)
class Tried:
    """What came of trying one node. `digests`: of its outputs, by case; `refused`: what it said to inputs that it did not take;
    `untried`: why it could not be tried at all; `fix`: what would do, if not just other samples."""

    node: str
    problems: list[Problem] = field(default_factory=list)
    digests: dict[int, dict[str, str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    untried: str = ""
    fix: str = ""


class Contract:
    """Tries the nodes of an engine."""

    def __init__(self, engine: Engine, samples: Samples | None = None, folder: Path | None = None):
        self._engine, self._given = engine, samples or {}
        self._kept = None if folder else tempfile.TemporaryDirectory(prefix="nodegraph-check-")
        self._folder = folder or Path(self._kept.name if self._kept else "")
        self._made: dict[str, list[Any]] = {}
        self._making: list[str] = []

    def try_node(self, one: NodeType, cases: int = CASES) -> Tried:
        """Run a node on sample inputs and say what it breaks of its promises."""
        tried = Tried(f"{one.pack}/{one.name}" if one.pack else one.name)
        tried.problems += undocumented(one, tried.node)
        for number in range(cases * _PATIENCE):
            try:
                self._case(one, number, tried)
            except NoSample as reason:
                tried.untried, tried.fix = str(reason), reason.fix
                break
            if len(tried.digests) == cases:
                break
        if not tried.untried and not tried.digests and not tried.problems and tried.refused and (one.outputs or one.effect):
            tried.untried = f"it refused every sample: {tried.refused[0]}"
        return tried

    def _case(self, one: NodeType, number: int, tried: Tried) -> None:
        inputs = self.inputs(one, number)
        before = _digests(inputs)
        first = self._run(one, inputs, number)
        if isinstance(first, list):
            tried.refused += [problem.text for problem in first if problem.code not in _FAILURES]
            _add(tried, [problem.at(tried.node) for problem in first if problem.code in _FAILURES], inputs)
            return
        if changed := [name for name, digest in _digests(inputs).items() if digest != before[name]]:
            text = f"{one.name!r} changed its input {changed[0]!r} in place"
            fix = "make a new value: results are shared, also with other nodes"
            _add(tried, [Problem("input-changed", f"{tried.node}.{changed[0]}", text, fix)], inputs)
            return
        tried.digests[number] = _digests(first)
        if one.volatile or one.effect or one.stateful:
            return
        second = self._run(one, inputs, number)
        again = {} if isinstance(second, list) else _digests(second)
        if differing := [name for name, digest in tried.digests[number].items() if again.get(name) != digest]:
            text = f"{one.name!r} gave another {differing[0]!r} for the same inputs"
            fix = "let randomness in through a Seed port; mark a node that reads the world with @node(volatile=True)"
            _add(tried, [Problem("not-deterministic", f"{tried.node}.{differing[0]}", text, fix)], inputs)

    # -- running ---------------------------------------------------------------------------------------------------

    def _run(self, one: NodeType, inputs: Mapping[str, Any], number: int) -> dict[str, Any] | list[Problem]:
        """The outputs of one run; or its problems."""
        try:
            return run_node(self._engine, one, inputs, self._folder / f"{one.name}-{number}")
        except WorkflowInvalid as error:
            return list(error.problems)

    def inputs(self, one: NodeType, number: int) -> dict[str, Any]:
        """Sample inputs of a node. Ports that have no samples and need none are left out. Raises NoSample."""
        ports = dict(one.inputs)
        if one.open and number % 2:
            ports.update({name: replace(one.open, name=name, open=False) for name in ("a", "b")})
        found = {}
        for name, port in ports.items():
            try:
                value = self._given_sample(one, port, number)
                found[name] = sample(port, number, self._folder, self._other(one)) if value is None else value
                _check_givable(port, found[name])
            except NoSample:
                if port.required:
                    raise
        return {name: value for name, value in found.items() if value is not None or ports[name].required}

    def _given_sample(self, one: NodeType, port: Port, number: int) -> Any:
        """A value that somebody gave for it; at every other turn one that a node makes, where samples hardly ever fit a model."""
        kind = types.without_none(port.type)
        values = self._given.get(f"{one.name}.{port.name}") or self._given.get(str(kind))
        if values:
            return values[number % len(values)]
        if number % 2 and kind.name in _OF_MODELS:
            with contextlib.suppress(NoSample):
                return self._from_node(kind)
        return None

    def _other(self, one: NodeType) -> Any:
        def make(kind: Type, port: Port, number: int) -> Any:
            if port.live:
                choices = self._engine.registry.choices(one, port, self._engine.world)
                if choices:
                    return choices[number % len(choices)]
            if kind is types.MODEL:
                return self._model(port, number)
            if values := self._given.get(str(kind)):
                return values[number % len(values)]
            return self._from_node(kind)

        return make

    def _model(self, port: Port, number: int) -> str:
        known = [model.name for model in self._engine.models.list() if model.kind == port.model or not port.model]
        if not known:
            raise NoSample(f"there is no model of kind {port.model!r} here")
        return known[number % len(known)]

    def _from_node(self, kind: Type) -> Any:
        """A value that a node makes, from sample inputs of its own."""
        name = str(kind)
        if name not in self._made and name not in self._making and len(self._making) < _DEPTH:
            self._making.append(name)
            try:
                self._made[name] = list(self._from_nodes(kind))
            finally:
                self._making.pop()
        if not self._made.get(name):
            raise NoSample(f"there are no samples of {name}, and no node here makes one of other samples")
        return self._made[name][0]

    def _from_nodes(self, kind: Type) -> Iterator[Any]:
        for one in self._engine.registry:
            ports = [output for output, port in one.outputs.items() if port.type is kind]
            fits = one.on_device or kind.name not in _OF_MODELS
            if ports and fits and not one.effect and not one.volatile:
                try:
                    found = self._run(one, self.inputs(one, 0), 0)
                except NoSample:
                    continue
                if isinstance(found, dict):
                    yield found[ports[0]]
                    return


def _check_givable(port: Port, value: Any) -> None:
    """Raise NoSample for a value that no run takes: of a class that only nodes can hand on."""
    try:
        kinds.content(value)
    except TypeError:
        text = f"it takes {article(port.type)}, which can be given to no run, as its class does not say what it holds"
        raise NoSample(text, "give the class parts() -> (meta, arrays) and from_parts(meta, arrays)") from None


def run_node(engine: Engine, one: NodeType, inputs: Mapping[str, Any], output: Path | None = None) -> dict[str, Any]:
    """Run one node by itself, without the cache: its outputs by name. Raises WorkflowInvalid, also with what fails in the run."""
    record: dict[str, Any] = {"nodegraph": 1, "inputs": {}, "nodes": {}, "outputs": {}}
    node: dict[str, Any] = {"use": one.name, "from": {}, "with": {}}
    bound: dict[str, Any] = {}
    for name, value in inputs.items():
        port = one.port(name)
        if kinds.is_json(value) or port is None:  # a port that is not there is what check will say
            node["with"][name] = value
        else:
            record["inputs"][name] = {"type": str(types.erase(types.without_none(port.type)))}
            node["from"][name], bound[name] = f"inputs.{name}", value
    record["nodes"][one.name] = {key: value for key, value in node.items() if value}
    record["outputs"] = {port: f"{one.name}.{port}" for port in one.outputs}
    result = engine.submit(record, bound, cache=False, output=output).result()
    if result.problems:
        raise WorkflowInvalid(result.problems)
    return dict(result.outputs)


def undocumented(one: NodeType, where: str) -> list[Problem]:
    """What of a node says nothing to the people who use it."""
    if one.doc.strip():
        return []
    return [Problem("no-doc", where, f"{one.name!r} does not say what it does", "write a docstring for the people who use it")]


def _digests(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: digest(value) for name, value in values.items()}


def digest(value: Any, depth: int = 8) -> str:
    """The content of any value. Of one without `parts`, what it shows of itself; of one that shows but its address, what it holds."""
    with contextlib.suppress(TypeError):
        return kinds.content(value).hex()
    if not depth:
        return repr(value)
    if isinstance(value, list | tuple | dict):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return f"{type(value).__name__} {[(name, digest(item, depth - 1)) for name, item in items]}"
    if type(value).__repr__ is object.__repr__:  # type: ignore[comparison-overlap]
        with contextlib.suppress(TypeError):  # one that Python cannot take apart
            return f"{type(value).__qualname__} {digest(value.__reduce_ex__(2)[2:3], depth - 1)}"
    return repr(value)


def _add(tried: Tried, problems: Iterable[Problem], inputs: Mapping[str, Any]) -> None:
    """Problems that are new, each with the inputs that showed it."""
    shown = ", ".join(f"{name}={kinds.describe(value)}" for name, value in inputs.items())
    known = {(problem.code, problem.where) for problem in tried.problems}
    for problem in problems:
        if (problem.code, problem.where) not in known:
            tried.problems.append(replace(problem, detail="\n".join(part for part in (f"with {shown}", problem.detail) if part)))


__all__ = ["CASES", "Contract", "Samples", "Tried", "digest", "run_node", "undocumented"]
