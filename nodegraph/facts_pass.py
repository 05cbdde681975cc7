"""The third pass of check: facts flow through a template, into the workflows it uses and out of them again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from nodegraph import kinds
from nodegraph.errors import Problem
from nodegraph.facts import NULL, Facts, Mismatch
from nodegraph.literals import Pending
from nodegraph.registry import FactsFailed, Registry
from nodegraph.spec import REQUIRED, NodeType, Port
from nodegraph.template import INPUTS, Link, Template
from nodegraph.typing_pass import declared_outputs
from nodegraph.witness import Said, Witness

Known = dict[Link, Facts]
Outcome = tuple[dict[str, Facts], list[Problem]]
"""The facts of a template's outputs, and what does not go together in it."""


MOST = 256
"""How many outcomes are kept."""


class Found(NamedTuple):
    """What a pass found in a template that has no mismatch: the nodes of which something can be known, what is known of outputs and of
    each item of lists, and the identities of the given values that it was found with."""

    nodes: list[int]
    known: Known
    items: Known
    given: Mapping[str, bytes]


class Flow:
    """Carries facts through templates. What a workflow makes of the same facts is worked out once, as long as models stay as they are."""

    def __init__(self, registry: Registry, look: Witness):
        self.registry, self.look = registry, look
        self._outcomes: dict[tuple[int, str], tuple[Template, Outcome, Said]] = {}
        self._wanted: dict[Callable[..., Any], tuple[frozenset[str], bool]] = {}

    def check(self, template: Template, given: Mapping[str, Facts]) -> None:
        """Add the mismatches of a template to its problems, and keep what is known in it."""
        made = _Pass(self, template, given)
        if made.nodes:
            template.problems += made.run()[1]
        template.facts = Found(made.nodes, made.known, made.items, {})

    def through(self, template: Template, given: Mapping[str, Facts]) -> Outcome:
        """What comes of a template when this is known of the inputs that are given; the others have their defaults."""
        told = sorted((port, facts.null, sorted(facts.items(), key=str)) for port, facts in given.items())
        name = (id(template), repr(told))
        kept = self._outcomes.get(name)
        if kept is None or not self.look.says_again(kept[2]):
            if len(self._outcomes) >= MOST:
                self._outcomes.clear()
            mark = self.look.mark()
            outcome = _Pass(self, template, given).run()
            kept = self._outcomes[name] = (template, outcome, self.look.since(mark))  # the template, so that its id stays its own
        return kept[1]

    def mismatches(self, template: Template, given: Mapping[str, Any]) -> list[Problem]:
        """What does not go together when a workflow that `check` has been through is given these values, and no others. Only what
        depends on those that are not the same as the last time is looked at again."""
        before: Found = template.facts
        given = {**{name: None for name, port in template.inputs.items() if port.default is None}, **given}
        told = {port: kinds.content(value) if kinds.is_json(value) else b"" for port, value in given.items()}
        changed = [port for port in {**before.given, **told} if before.given.get(port) != told.get(port)]
        if not changed:
            return []
        mark = self.look.mark()
        inputs = template.inputs
        left = [
            port for port, value in given.items() if value is None and inputs[port].default is not None and not inputs[port].type.optional
        ]
        known = {port: given_facts(value) for port, value in given.items() if port not in left}  # null leaves those at their defaults
        made = _Pass(self, template, known, before, changed)
        problems = made.run()[1]
        if not problems and self.look.since(mark).keys() <= template.said.keys():
            template.facts = Found(made.nodes, made.known, made.items, told)
        return problems

    def wanted(self, function: Callable[..., Any]) -> tuple[frozenset[str], bool]:
        """The ports that a facts function takes, and whether it takes all. Raises ValueError when it has no signature."""
        if function not in self._wanted:
            parameters = inspect.signature(function).parameters.values()
            names = frozenset(one.name for one in parameters if one.kind is not one.VAR_KEYWORD)
            self._wanted[function] = names, any(one.kind is one.VAR_KEYWORD for one in parameters)
        return self._wanted[function]


class _Pass:
    """One template with facts of its inputs. `before`: what was found when other inputs were `changed`; then only what depends on
    these is looked at again."""

    def __init__(
        self, flow: Flow, template: Template, given: Mapping[str, Facts], before: Found | None = None, changed: Iterable[str] = ()
    ):
        self.flow, self.template, self.given = flow, template, given
        self.again, self.changed = before is not None, changed
        self.nodes = self._with_facts() if before is None else before.nodes  # of which something can be known
        self.known = {} if before is None else before.known.copy()
        self.items = {} if before is None else before.items.copy()  # what is known of each item of the list that a mapped node gives
        self.problems: list[Problem] = []

    def run(self) -> Outcome:
        template = self.template
        changed: set[Link] = {(INPUTS, port) for port in self.changed}
        for index in self.nodes:
            used = template.types[index]
            if self.again:
                if changed.isdisjoint(_links(template, index)):
                    continue
                for output in declared_outputs(used):
                    changed.add((index, output))
                    (self.items if index in template.each else self.known).pop((index, output), None)
            found = self._child(index, used) if isinstance(used, Template) else self._node(index, used)
            (self.items if index in template.each else self.known).update({(index, port): facts for port, facts in found.items()})
        outputs = {name: self._linked(link) for name, link in template.outputs.items()}
        return {name: facts for name, facts in outputs.items() if facts or facts.null}, self.problems

    def _with_facts(self) -> list[int]:
        """The nodes of which something can be known, in the order of the data."""
        has: dict[Any, bool] = {}
        for used in self.template.types:
            if used not in has:
                has[used] = isinstance(used, Template) or (used is not None and self._has_function(used))
        return [index for index in self.template.sequence() if has[self.template.types[index]]] if any(has.values()) else []

    def _has_function(self, used: NodeType) -> bool:
        try:
            return self.flow.registry.facts(used) is not None
        except FactsFailed:
            return True

    def report(self, index: int, code: str, text: str, fix: str, section: str = "", port: str = "") -> None:
        path = ("nodes", self.template.names[index], section, port) if port else ("nodes", self.template.names[index])
        self.problems.append(self.template.workflow.problem(code, path, text, fix))

    # -- one node --------------------------------------------------------------------------------------------------

    def _node(self, index: int, used: NodeType) -> Mapping[str, Facts]:
        try:
            return self._outputs(index, used, self._call(index, used))
        except FactsFailed as error:
            self.report(
                index,
                "facts-failed",
                f"the facts of {self.template.names[index]!r} failed: {error}",
                f"mend the facts of the pack {used.pack!r}",
            )
            return {}

    def _call(self, index: int, used: NodeType) -> Any:
        """What the facts function of a node type says of its inputs. Raises FactsFailed."""
        function = self.flow.registry.facts(used)
        assert function is not None  # only nodes that have one come here
        try:
            wanted, everything = self.flow.wanted(function)
            ports = {**used.inputs, **self._open_ports(index, used)} if everything else used.inputs
            facts: dict[str, Any] = {port: self._input(index, port, ports[port]) for port in ports if everything or port in wanted}
            if "look" in wanted:
                facts["look"] = self.flow.look
            return function(**facts)
        except (Exception, SystemExit) as error:  # a pack's function may fail in any way
            raise FactsFailed(f"{type(error).__name__}: {error}") from error

    def _open_ports(self, index: int, used: NodeType) -> dict[str, Port]:
        if used.open is None:
            return {}
        given = {**self.template.links[index], **self.template.literals[index], **self.template.each.get(index, {})}
        return {name: used.open for name in given if name not in used.inputs}

    def _outputs(self, index: int, used: NodeType, found: Any) -> Mapping[str, Facts]:
        if isinstance(found, Mismatch):
            template = self.template
            section = "with" if found.port in template.literals[index] else "each" if found.port in template.each.get(index, {}) else "from"
            self.report(index, "facts-mismatch", found.text, found.fix, section, found.port)
            return {}
        if isinstance(found, Facts) and len(used.outputs) == 1:
            return {next(iter(used.outputs)): found}
        if found is None or (
            isinstance(found, Mapping) and not set(found) - set(used.outputs) and all(isinstance(one, Mapping) for one in found.values())
        ):
            return found or {}
        raise FactsFailed(f"they are {found!r}, not Facts, a Mismatch, or a dict of Facts by output")

    # -- a workflow as a node --------------------------------------------------------------------------------------

    def _child(self, index: int, child: Template) -> Mapping[str, Facts]:
        """The facts of the outputs of a workflow that is used; its mismatches are told at their own place."""
        found = {port: self._input(index, port, declared) for port, declared in child.inputs.items()}
        given = {port: facts for port, facts in found.items() if not facts.null or child.inputs[port].type.optional}
        outputs, problems = self.flow.through(child, given)
        name = self.template.names[index]
        for problem in problems:
            outer = problem.data.get("use", "")
            via = f"{name}/{outer}" if outer else name
            text = f"{problem.text.removesuffix(_used_as(outer))}{_used_as(via)}"
            self.problems.append(problem.at(problem.where, text=text, data={**problem.data, "use": via}))
        return outputs

    # -- inputs ----------------------------------------------------------------------------------------------------

    def _input(self, index: int, port: str, declared: Port) -> Facts:
        template = self.template
        if index in template.each and port in template.each[index]:
            link = template.each[index][port]
            return self.items.get(link, Facts()) if isinstance(link, tuple) else Facts()
        if (links := template.links[index].get(port)) is not None:
            return self._linked(links)
        if port in template.literals[index]:
            return value_facts(template.literals[index][port])
        return NULL if declared.default is None else default_facts(declared)

    def _linked(self, link: Any) -> Facts:
        if not isinstance(link, tuple):
            return Facts()
        index, port = link
        if index != INPUTS:
            return self.known.get(link, Facts())
        return self.given[port] if port in self.given else default_facts(self.template.inputs[port])


def _links(template: Template, index: int) -> Iterator[Link]:
    """Everything that a node is linked to."""
    for link in template.links[index].values():
        yield from link if isinstance(link, list) else (link,)
    yield from (link for link in template.each.get(index, {}).values() if isinstance(link, tuple))


def _used_as(via: str) -> str:
    return f" (used as {via!r})"


def default_facts(port: Port) -> Facts:
    """What is known of an input of a workflow by its default; nothing where that is null, as a run may give one."""
    return Facts() if port.default is REQUIRED or port.default is None else value_facts(port.default)


def value_facts(value: Any) -> Facts:
    """What is known of a literal: itself; of one that names something outside, its name."""
    if value is None:
        return NULL
    return Facts(value=value.text) if isinstance(value, Pending) else Facts(value=value)


def given_facts(value: Any) -> Facts:
    """What is known of a value that a run is given: itself if it is JSON."""
    return value_facts(value) if kinds.is_json(value) else Facts()


__all__ = ["Flow"]
