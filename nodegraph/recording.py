"""What the outcome of a call means: an entry to keep, an alias, a need, a graph."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nodegraph import keys, kinds, types
from nodegraph.calling import Settled
from nodegraph.entries import PLAIN, Entry, output_ident
from nodegraph.errors import Problem, Problems, WorkflowInvalid, listing
from nodegraph.failures import CANCELLED, Failure, failed
from nodegraph.inputs import as_lists, note_outside
from nodegraph.outcomes import Graph, Lazy, Need, Ref, Skip
from nodegraph.plan import Plan, Scope
from nodegraph.shared import Shared
from nodegraph.sources import Const, Source
from nodegraph.spec import NodeType, Port, as_written
from nodegraph.types import Type

if TYPE_CHECKING:
    from nodegraph.execution import Execution


def never_called(**inputs: Any) -> None:
    raise NotImplementedError("this step is settled by the engine, not called")


def keep(run: Execution, step: int, call: Any, outcome: Any) -> Any:
    """Make an entry of an outcome and cache it; sources by output for an alias or a graph; other outcomes as they are."""
    if call.__class__ is Settled or outcome.__class__ is Failure or outcome is CANCELLED:
        return outcome
    try:
        return _kept(run, step, call, outcome)
    except Exception:
        if (error := _cannot_be_taken_apart(outcome)) is None:
            raise
        return Failure(*failed(run.plan.path(step), call.used, error))


def _kept(run: Execution, step: int, call: Any, outcome: Any) -> Any:
    used, plan = call.used, run.plan
    try:
        if outcome.__class__ is Lazy:
            _check_alias(run, step, used, outcome)
            if outcome.port in plan.sources[step]:
                return _alias(run, step, used, outcome)
            outcome = _written(run, step, used, outcome)
            if not (used.single and kinds.has_content_identity(outcome)):
                return {next(iter(used.outputs)): Const(outcome)}
        if outcome.__class__ is Need:
            return _need(run, step, used, outcome)
        if outcome.__class__ is Graph:
            return _graph(run, step, call, outcome)
        if outcome.__class__ is Entry:
            entry = outcome  # a smaller variant's, from an earlier run
        elif outcome.__class__ is Skip:
            entry = Entry(call.result_key, "skip", (), outcome.reason, (), call.seconds, ())
        else:
            entry = _values(run, step, call, outcome)
    except Problems as error:
        return Failure(*error.problems)
    except RecursionError:  # keys and tiers follow values by recursion
        text = f"{used.name!r} gave a value that is nested too deeply"
        return Failure(Problem("too-deep", plan.path(step), text, "give it in fewer levels, or as text"))
    entry.pins += 1  # until it is recorded
    outside = note_outside(run, step, (*entry.outside, *call.smaller))
    if entry is not outcome and entry.key is not None and run.use_cache:
        run.shared.cache.put(entry, plan.keys[step], outside)
    return entry


def _cannot_be_taken_apart(outcome: Any) -> Exception | None:
    """What a value of a pack's own class raises when it is asked for its parts: a mistake of the pack."""
    try:
        for value in outcome if isinstance(outcome, tuple) else (outcome,):
            list(kinds.arrays_in(value))
    except Exception as error:
        return error
    return None


def _values(run: Execution, step: int, call: Any, outcome: Any) -> Entry:
    used = call.used
    outputs = used.outputs
    values = (outcome,) if used.single else tuple(outcome) if isinstance(outcome, tuple) else () if outcome is None else (outcome,)
    if len(values) != len(outputs):
        raise _wrong_output(run, step, f"gave {len(values)} values for {len(outputs)} outputs", "return one value for each output")
    if call.traits.fetched:
        values = tuple(map(as_lists, values))
    by_content = used.volatile or used.effect
    idents = []
    for (name, port), value in zip(outputs.items(), values, strict=True):
        if not kinds.conforms(port.type, value):
            raise _not_declared(run, step, name, port.type, value)
        if value.__class__ in PLAIN:
            idents.append(keys.identity(value))
        else:
            if not types.is_json(port.type) and (wrong := kinds.wrong_numbers(value)):
                raise _wrong_output(run, step, f"gave {name!r} with {wrong[0]}", wrong[1])
            idents.append(output_ident(call.result_key or b"", name, value, by_content))
    own = () if outcome.__class__ in PLAIN else tuple(one for value in values for one in kinds.outside_in(value))
    return Entry(call.result_key, "values", tuple(outputs), values, tuple(idents), call.seconds, own)


def _not_declared(run: Execution, step: int, output: str, declared: Type, value: Any) -> Problems:
    return _wrong_output(run, step, f"says that {output!r} is {declared}, but gave {kinds.describe(value)}", "return what is declared")


def _wrong_output(run: Execution, step: int, text: str, fix: str) -> Problems:
    path = run.plan.path(step)
    return Problems([Problem("wrong-output", path, f"{run.plan.types[step].name!r} {text}", fix)])


def _check_alias(run: Execution, step: int, used: NodeType, lazy: Lazy[Any]) -> None:
    if len(used.outputs) != 1:
        raise _wrong_output(run, step, "returned a lazy input, but has several outputs", "return a Graph that says what each output is")
    plan = run.plan
    if lazy.port not in used.inputs and lazy.port not in plan.sources[step] and lazy.port not in plan.literals[step]:
        raise _wrong_output(run, step, f"returned a lazy input {lazy.port!r}, which is none of its inputs", "return one that it was given")


def _written(run: Execution, step: int, used: NodeType, lazy: Lazy[Any]) -> Any:
    """The value of a lazy input that is not linked."""
    literals = run.plan.literals[step]
    return literals[lazy.port] if lazy.port in literals else as_written(used.inputs[lazy.port])


def _alias(run: Execution, step: int, used: NodeType, lazy: Lazy[Any]) -> dict[str, Source] | Need:
    """A node gave one of its linked lazy inputs: the same result under the same key. Where its type does not say that it is what the
    output is declared to be, it is looked at first."""
    plan = run.plan
    output, declared = next(iter(used.outputs.items()))
    port = used.port(lazy.port)
    assert port is not None  # check has refused unknown ports
    if not _surely(types.erase(declared.type), types.erase(port.type)):
        if not lazy.ready:
            return Need(lazy.port)
        if not (lazy.skipped or kinds.conforms(declared.type, as_lists(lazy.value))):
            raise _not_declared(run, step, output, declared.type, lazy.value)
    outside = note_outside(run, step, ())
    plan_key = plan.keys[step]
    if plan_key is not None and run.use_cache:
        record = {"nodes": {}, "outputs": {output: f"inputs.{lazy.port}"}}
        run.shared.cache.put(Entry(keys.digest(b"alias", plan_key), "graph", (), record, (), 0.0, ()), plan_key, outside)
    return {output: plan.sources[step][lazy.port]}


def _surely(declared: Type, given: Type) -> bool:
    """Whether whatever is of the one type is of the other."""
    return declared is given or declared is types.ANY or (types.accepts(declared, given, {}) and not types.has_any(given))


def _need(run: Execution, step: int, used: NodeType, need: Need) -> Need:
    if not need.ports:
        raise _wrong_output(run, step, "returned Need() without a port", "name what it needs: Need('port')")
    seen = run.needed.get(step, set())
    linked = run.plan.sources[step]
    for port in need.ports:
        if port not in linked or not (run._is_lazy(step, port) or port in seen):
            raise _wrong_output(
                run,
                step,
                f"needs {port!r}, which is none of its lazy linked inputs",
                f"ask for one of {listing(linked)}" if linked else "check lazy.ready first",
            )
    if not set(need.ports) - seen:
        raise _wrong_output(run, step, f"needs {listing(need.ports)} again, which it has", "use lazy.value when lazy.ready is true")
    return need


def _graph(run: Execution, step: int, call: Any, graph: Graph) -> dict[str, Source]:
    used = call.used
    missing = [name for name in used.outputs if name not in graph.outputs]
    extra = [name for name in graph.outputs if name not in used.outputs]
    if missing or extra:
        text = f"returned a graph that gives {listing(graph.outputs) or 'nothing'}, but its outputs are {listing(used.outputs)}"
        raise _wrong_output(run, step, text, "graph.give(…) each output once")
    for name, given in graph.outputs.items():
        if not all(isinstance(one, Ref) for one in (given if isinstance(given, list) else [given])):
            text = f"returned a graph whose output {name!r} is {kinds.describe(given)}"
            raise _wrong_output(run, step, text, 'give an output of a node: graph.give(…=node["port"])')
    outside = note_outside(run, step, call.smaller)
    sources = run.expand_graph(step, graph)
    if call.key is not None and run.use_cache:
        entry = Entry(call.result_key, "graph", (), graph.record(), (), call.seconds, ())
        run.shared.cache.put(entry, run.plan.keys[step], outside)
        if (debt := run.debt) is not None:
            debt.add(step, entry)
    return sources


def tail_node(record: Any, parent: NodeType) -> str:
    """The inner node that gives every output and is of the parent's own type: the next turn of a loop."""
    names = {link.partition(".")[0] for link in record["outputs"].values() if isinstance(link, str)}
    if len(names) != 1:
        return ""
    name = next(iter(names))
    node = record["nodes"].get(name)
    return name if node is not None and node["use"] in (parent.name, f"{parent.pack}/{parent.name}") else ""


def expand_record(shared: Shared, plan: Plan, step: int, record: Any, scope: Scope) -> dict[str, Source]:
    """Add the steps of a returned graph to a plan. Raises WorkflowInvalid with paths below the node's."""
    parent = plan.types[step]
    with shared.compiling:
        template = shared.checker.returned_graph(record, parent, [*plan.sources[step], *plan.literals[step]], scope.workflow)
    problems = template.all_problems
    if problems:
        path = plan.path(step)
        raise WorkflowInvalid(problem.at(f"{path}/{problem.where}" if problem.where else path) for problem in problems)
    bound: dict[str, Source] = {port: Const(value) for port, value in plan.literals[step].items()}
    bound.update(plan.sources[step])
    for port, declared in parent.inputs.items():
        if port not in bound and not declared.required:
            bound[port] = Const(declared.default)
    outputs = plan.expand(template, bound, scope)
    for output, given in template.output_types.items():
        declared = parent.outputs[output].type
        if not _surely(types.erase(declared), given):
            name = output
            while name in template.names:  # of steps of one path, what watches a run would take the one for the other
                name += "_"
            looked_at = plan.step(_look(parent.name, output, declared), name, scope, {"value": outputs[output]}, {}, ())
            outputs[output] = (looked_at, output)
    return outputs


@lru_cache(maxsize=256)
def _look(name: str, output: str, declared: Type) -> NodeType:
    """The step that looks whether what a graph gives as `any` is what the node that returned it says of the output."""
    inputs, outputs = {"value": Port("value", types.ANY)}, {output: Port(output, declared)}
    return NodeType(name, inputs, outputs, _as_it_is, pack="nodegraph", identity=f"{output}: {declared}")


def _as_it_is(value: Any) -> Any:
    return value
