"""What a run would do: every result is looked up as a run would, and nothing runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nodegraph.calling import items_of
from nodegraph.entries import Entry
from nodegraph.errors import WorkflowInvalid
from nodegraph.inputs import Gone
from nodegraph.plan import Mapped, Plan
from nodegraph.sources import Source, steps_in
from nodegraph.spec import NodeType

if TYPE_CHECKING:
    from nodegraph.execution import Execution


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step as `plan` shows it. `state` is `cached`, `run`, `skip` (nothing needs it, or what it takes is skipped) or `effect`."""

    path: str
    use: str
    state: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would do."""

    steps: list[PlannedStep] = field(default_factory=list)

    def count(self, state: str) -> int:
        return sum(step.state == state for step in self.steps)


def preview(run: Execution, outputs: Mapping[str, Source], effects: Iterable[int]) -> Preview:
    """What a run that has not begun would do for these outputs and effects."""
    run.shared.cache.refresh()
    found = _Demand(run)
    found.follow([*(step for source in outputs.values() for step in steps_in(source)), *effects])
    found.skip()
    plan, states = run.plan, found.states
    names = [used.name if isinstance(used, NodeType) else "each" for used in plan.types]
    return Preview([PlannedStep(plan.path(step), names[step], states.get(step, "skip")) for step in range(len(plan))])


class _Demand:
    """What is demanded of a plan. `known` are the results that the cache has; `behind` the steps that these stand for; `mapped` the
    steps that mapped nodes came to."""

    def __init__(self, run: Execution):
        self.run, self.plan = run, run.plan
        self.states: dict[int, str] = {}
        self.known: dict[int, Entry] = {}
        self.behind: dict[int, list[int]] = {}
        self.mapped: dict[int, list[int]] = {}

    def follow(self, steps: list[int]) -> None:
        """Demand steps, and what they need."""
        plan, cache = self.plan, self.run.shared.cache
        while steps or (steps := self._expanded()):
            step = steps.pop()
            if step in self.states:
                continue
            key, used = plan.keys[step], plan.types[step]
            if key is not None and (found := cache.linked(key)) is not None:
                self.states[step], self.known[step] = "cached", found[0]
                self.behind[step] = self._chosen(step, found[0])
                steps += self.behind[step]
            else:
                self.states[step] = "effect" if isinstance(used, NodeType) and used.effect else "run"
                steps += [one for source in plan.sources[step].values() for one in steps_in(source)]
        for step, made in self.mapped.items():
            if all(self.states[one] == "cached" for one in made):
                self.states[step] = "cached"

    def skip(self) -> None:
        """Mark the steps that will be skipped, as a result says so that they cannot do without."""
        skipped = {step for step, entry in self.known.items() if entry.kind == "skip"}
        for step in sorted(self.states) if skipped else ():
            if not skipped.isdisjoint(self.behind[step] if step in self.behind else _needs(self.plan, step)):
                skipped.add(step)
                self.states[step] = self.states[step] if step in self.behind else "skip"

    def _chosen(self, step: int, entry: Entry) -> list[int]:
        """The steps behind a result that stands for an input that the node chose: what is cached is the choice alone."""
        record: Any = self.run.shared.cache.load(entry) if entry.kind == "graph" else None
        if not record or record["nodes"]:
            return []
        sources = self.plan.sources[step]
        return [one for link in record["outputs"].values() for one in steps_in(sources.get(link.partition(".")[2]))]

    def _expanded(self) -> list[int]:
        """The steps of further mapped nodes that must run, and whose lists are known by now."""
        for step in sorted(self.states):
            if self.plan.types[step].__class__ is Mapped and step not in self.mapped and (made := self._items(step)) is not None:
                self.mapped[step] = made
        return [one for made in self.mapped.values() for one in made if one not in self.states]

    def _items(self, step: int) -> list[int] | None:
        """The steps that a mapped node comes to, as a run would add them; None where its lists are neither cached nor of such steps."""
        run, plan, node = self.run, self.plan, self.plan.types[step]
        for one in [one for source in node.each.values() for one in steps_in(source)]:
            if one not in self.mapped and not (one in self.known and self.known[one].kind == "values"):
                return None
            run._grow()
            run.done[one] = run.done[one] or self.known[one]
        before = len(plan.effects)
        try:
            items = {port: found for port, source in node.each.items() if (found := items_of(run, source)) is not None}
            if len(items) < len(node.each):
                return None
            outputs = list(node.used.outputs if isinstance(node.used, NodeType) else node.used.output_types)
            made = plan.map_items(node.used, node.scope_name, node.shared, node.literals, items, plan.scopes[step], outputs, node.checked)
        except (Gone, WorkflowInvalid):  # of which the run will tell
            return None
        run._grow()
        run.done[step] = made
        return [*(one for source in made.values() for one in steps_in(source)), *plan.effects[before:]]


def _needs(plan: Plan, step: int) -> list[int]:
    """The steps without whose results a step is not called."""
    used = plan.types[step]
    lazy = {port for port in plan.sources[step] if isinstance(used, NodeType) and (declared := used.port(port)) and declared.lazy}
    return [one for port, source in plan.sources[step].items() if port not in lazy for one in steps_in(source)]


__all__ = ["PlannedStep", "Preview", "preview"]
