"""One call of a node: its inputs and work key before, what its outcome means after."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph import keys, kinds, types
from nodegraph.cache import Cache
from nodegraph.check import Checker
from nodegraph.context import Files, Run
from nodegraph.entries import Entry, output_ident
from nodegraph.errors import Cancelled, Invalid, Problem, Problems, WorkflowInvalid, listing
from nodegraph.handles import Handle
from nodegraph.job import Result
from nodegraph.literals import Refused
from nodegraph.models import Resident
from nodegraph.outcomes import Graph, Lazy, Need, Ref, Skip
from nodegraph.plan import Identities, Mapped, Plan, Scope, as_port
from nodegraph.sources import Const, Item, Source, part
from nodegraph.spec import NodeType
from nodegraph.states import DONE, RUNNING, SKIPPED, WAITING
from nodegraph.values import Image

if TYPE_CHECKING:
    from nodegraph.run import Execution

_PLAIN = frozenset({int, str, float, bool})
CANCELLED = object()
"""The outcome of a call that stopped because its run was cancelled."""


class Gone(Exception):
    """Results that a step needs are no longer there: they must be computed again."""

    def __init__(self, steps: list[int]):
        super().__init__(steps)
        self.steps = steps


class Failure:
    """The outcome of a call that failed."""

    __slots__ = ("problems",)

    def __init__(self, *problems: Problem):
        self.problems = problems


def never_called(**inputs: Any) -> None:
    raise NotImplementedError("this step is settled by the engine, not called")


class Traits:
    """What is worth knowing of a node type before each of its calls.

    `lazy`: its lazy ports; None among them stands for open ports. `plain`: nothing but values goes in, and one value of the class
    `gives` comes out. `floats`: ports that turn int into float. `keyed`: it has keys. `prefix`: how they begin.
    """

    __slots__ = ("floats", "gives", "keyed", "lane", "lazy", "plain", "ports", "prefix")

    def __init__(self, used: Any, lanes: dict[str, Any], identities: Identities):
        self.lane: Any = lanes["cpu"]
        self.lazy: frozenset[str | None] = frozenset()
        self.floats: frozenset[str] = frozenset()
        self.ports: tuple[str, ...] = ()
        self.gives: type | None = None
        self.plain = False
        self.prefix, self.keyed = b"", False
        if not isinstance(used, NodeType):
            return
        self.prefix, self.keyed = identities.prefix(used), not (used.volatile or used.effect)
        self.lane = lanes["async" if used.asynchronous else "device" if used.on_device else "cpu"]
        lazy: set[str | None] = {name for name, port in used.inputs.items() if port.lazy}
        if used.open and used.open.lazy:
            lazy.add(None)
        self.lazy = frozenset(lazy)
        self.floats = frozenset(name for name, port in used.inputs.items() if types.without_none(port.type) is types.FLOAT)
        self.ports = tuple(used.outputs)
        special = used.effect or used.volatile or used.stateful or used.fingerprint or used.open or used.takes_run
        self.plain = not (special or lazy or used.asynchronous)
        if used.single and len(used.outputs) == 1:
            kind = next(iter(used.outputs.values())).type
            self.gives = next((cls for cls, plain in types.PLAIN.items() if plain is kind and cls is not type(None)), None)


class Shared:
    """What all runs of an engine share: cache, claims, lanes, weights, compiler."""

    def __init__(
        self, cache: Cache, resident: Resident, checker: Checker, identities: Identities, lanes: dict[str, Any], device: str, dtype: str
    ):
        self.cache, self.resident, self.checker, self.identities = cache, resident, checker, identities
        self.lanes, self.device, self.dtype = lanes, device, dtype
        self.compiling = threading.Lock()
        self._claims: dict[bytes, Any] = {}
        self._waiters: dict[bytes, list[tuple[Execution, int]]] = {}
        self._claims_lock = threading.Lock()
        self._traits: dict[Any, Traits] = {}
        self._places: dict[str, threading.Lock] = {}

    def traits(self, used: Any) -> Traits:
        """What is worth knowing of a node type before each of its calls."""
        found = self._traits.get(used)
        if found is None:
            found = Traits(used, self.lanes, self.identities)
            if isinstance(used, NodeType):  # mapped nodes come and go with their plans
                self._traits[used] = found
        return found

    def claim(self, key: bytes, run: Execution, step: int) -> bool:
        """Take the right to compute a work key. False: somebody else is at it, and the step is told when that has ended."""
        token = (run, step)
        while self._claims.setdefault(key, token) is not token:
            with self._claims_lock:
                self._waiters.setdefault(key, []).append(token)
                if key in self._claims:
                    return False
                self._waiters[key].remove(token)  # the owner was done before it could see us
        return True

    def release(self, key: bytes) -> None:
        """The work is done, or given up: whoever waits looks again."""
        del self._claims[key]
        if self._waiters:
            with self._claims_lock:
                waiting = self._waiters.pop(key, ())
            for run, step in waiting:
                run.retry(step)

    def release_of(self, run: Execution, step: int) -> None:
        """Release whatever a step has claimed."""
        for key in [key for key, owner in self._claims.copy().items() if owner == (run, step)]:
            self.release(key)

    def place(self, path: str) -> threading.Lock:
        """The lock of a stateful node's place."""
        return self._places.setdefault(path, threading.Lock())


class Call:
    """One call that is about to happen."""

    __slots__ = ("claimed", "inputs", "key", "lane", "run_", "seconds", "step", "traits", "used")

    def __init__(self, run: Execution, step: int, used: NodeType, traits: Traits, key: bytes | None, claimed: bool, inputs: dict[str, Any]):
        self.run_, self.step, self.used, self.traits, self.lane = run, step, used, traits, traits.lane
        self.key, self.claimed, self.inputs = key, claimed, inputs
        self.seconds = 0.0

    def run(self) -> Any:
        """Call the node. Whatever it raises is a Failure."""
        used = self.used
        begun = time.perf_counter()
        try:
            if used.stateful:
                with self.run_.shared.place(self.run_.plan.path(self.step)):
                    return used.call(**self.inputs)
            return used.call(**self.inputs)
        except BaseException as error:  # in a worker's thread nothing but the node's own code raises
            return self._raised(error)
        finally:
            self.seconds = time.perf_counter() - begun

    async def run_async(self, run: Execution) -> Any:
        """Call an async node; a cancelled run cancels it."""
        import asyncio

        begun = time.perf_counter()
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._guarded())
        run.on_cancel(lambda: _none(loop.call_soon_threadsafe(task.cancel)))
        try:
            return await task
        except asyncio.CancelledError:
            return CANCELLED
        finally:
            self.seconds = time.perf_counter() - begun

    async def _guarded(self) -> Any:
        """The outcome of an async node. Nothing escapes: what ends a program would end the loop of all async nodes."""
        import asyncio

        try:
            return await self.used.call(**self.inputs)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and self.run_.cancelled:
                raise
            return self._raised(error)

    def _raised(self, error: BaseException) -> Any:
        """The outcome of a call that raised. Cancelled is one only in a run that was cancelled."""
        if isinstance(error, Cancelled) and self.run_.cancelled:
            return CANCELLED
        return Failure(*failed(self.run_.plan.path(self.step), self.used, error))


def _none(anything: object) -> None:
    """Turns a call that gives something into one that gives nothing."""


class Settled:
    """Stands in for a Call whose outcome is known."""

    __slots__ = ("claimed", "key", "outcome")
    seconds, lane = 0.0, None

    def __init__(self, outcome: Any, key: bytes | None = None, claimed: bool = False):
        self.outcome, self.key, self.claimed = outcome, key, claimed

    def run(self) -> Any:
        return self.outcome

    async def run_async(self, run: Execution) -> Any:
        return self.outcome


def begin(run: Execution, step: int) -> Any:
    """Get ready to call a step. None when there is nothing to call: found, claimed by another, cancelled, or inputs gone."""
    plan, shared = run.plan, run.shared
    used = plan.types[step]
    if run.cancelled:
        return None
    if used.__class__ is Mapped:
        return _begin_mapped(run, step, used)
    traits = shared.traits(used)
    run.state[step] = RUNNING
    key, claimed = None, False
    ready = _plain_inputs(run, step, traits) if traits.plain else None
    if traits.keyed:
        key = ready[0] if ready else work_key(run, step, used)
        if run.use_cache:
            entry = shared.cache.get(key)
            if entry is None:
                run.state[step] = WAITING  # should another have claimed it
                if not shared.claim(key, run, step):
                    return None
                run.state[step] = RUNNING
                claimed = True
                entry = shared.cache.get(key)
            if entry is not None and _found(run, step, key, entry, claimed):
                return None
    try:
        inputs = ready[1] if ready else gather(run, step, used)
    except Gone as gone:
        if claimed:
            shared.release(key)  # type: ignore[arg-type]
        run.recompute(gone.steps, step)
        return None
    run.log.add("started", step)
    if step in plan.checked and (problem := _wrong_input(run, step, used, inputs)):
        return Settled(Failure(problem), key, claimed)
    return Call(run, step, used, traits, key, claimed, inputs)


def _found(run: Execution, step: int, key: bytes, entry: Entry, claimed: bool) -> bool:
    """Take a result that lies under the work key. False when it turns out to be gone."""
    outside = note_outside(run, step, entry.outside)
    if not run.take_hit(step, entry):
        return False
    if (plan_key := run.plan.keys[step]) is not None:
        run.shared.cache.link(plan_key, entry, outside)
    if claimed:
        run.shared.release(key)
    return True


def _plain_inputs(run: Execution, step: int, traits: Traits) -> tuple[bytes, dict[str, Any]] | None:
    """Work key and arguments in one go, for a plain node whose inputs are all results in memory; None for any other."""
    plan, done = run.plan, run.done
    inputs, parts, sources = plan.literals[step].copy(), plan.parts[step], plan.sources[step]
    if sources:
        floats = traits.floats
        parts = parts.copy()
        for port, source in sources.items():
            if source.__class__ is not tuple or (entry := done[source[0]]).__class__ is not Entry or (values := entry.values) is None:
                return None
            index = 0 if len(values) == 1 else entry.ports.index(source[1])
            value = values[index]
            inputs[port] = float(value) if value.__class__ is int and port in floats else value
            parts.append(part(port, entry.idents[index]))
    if len(parts) > 1:
        parts = sorted(parts)
    return blake2b(traits.prefix + b"".join(parts), digest_size=keys.SIZE, person=b"work").digest(), inputs


def work_key(run: Execution, step: int, used: NodeType) -> bytes:
    """The key of the work: the node type, its literals, and the identities of the inputs it has asked for."""
    plan = run.plan
    parts, sources = plan.parts[step], plan.sources[step]
    if sources or used.stateful or used.fingerprint:
        parts = parts.copy()
        lazy = run.shared.traits(used).lazy
        for port, source in sources.items():
            if not lazy or not run._is_lazy(step, port):
                parts.append(
                    part(port, run.ident(source) if run._verdict(source)[0] == DONE else b"skipped")
                    if lazy
                    else part(port, run.ident(source))
                )
        parts += plan.extra_parts(step, used)
    if len(parts) > 1:
        parts = sorted(parts)
    return blake2b(run.shared.identities.prefix(used) + b"".join(parts), digest_size=keys.SIZE, person=b"work").digest()


def list_ident(idents: list[bytes]) -> bytes:
    """The identity of a list from those of its items: a list of small values has the identity of their content."""
    return keys.short(b"list", b"[" + b"".join(b"%d:%b" % (len(one), one) for one in idents))


# -- inputs --------------------------------------------------------------------------------------------------------


def gather(run: Execution, step: int, used: NodeType) -> dict[str, Any]:
    """The keyword arguments of a call. Raises Gone."""
    inputs = dict(run.plan.literals[step])
    lazy = run.shared.traits(used).lazy
    for port, source in run.plan.sources[step].items():
        declared = used.inputs.get(port)
        if lazy and (declared.lazy if declared else None in lazy):
            inputs[port] = _lazy_input(run, step, port, source)
            continue
        given = value_of(run, source)
        if type(given) is int and declared is not None:
            given = as_port(declared, given)
        inputs[port] = given
    for name in lazy:
        if name is not None and name in inputs and not isinstance(inputs[name], Lazy):
            inputs[name] = Lazy(name, inputs[name], ready=True)
    if used.takes_run:
        inputs[used.takes_run] = NodeRun(run, step)
    return inputs


def _lazy_input(run: Execution, step: int, port: str, source: Source) -> Lazy[Any]:
    if run._is_lazy(step, port):
        return Lazy(port)
    if run._verdict(source)[0] == SKIPPED:
        return Lazy(port, None, ready=True, skipped=True)
    return Lazy(port, value_of(run, source), ready=True)


def value_of(run: Execution, source: Source) -> Any:
    """The value of a settled source. Raises Gone."""
    source = run.final(source)
    kind = source.__class__
    if kind is tuple:
        entry = run.done[source[0]]
        values = entry.values
        if values is None and (values := run.shared.cache.load(entry)) is None:
            raise Gone([source[0]])
        return values[0] if len(values) == 1 else values[entry.ports.index(source[1])]
    if kind is Const:
        return source.value
    if kind is Item:
        return value_of(run, source.source)[source.index]
    if all(_in_memory(run, one) for one in source):
        return [value_of(run, one) for one in source]
    return Items(run, source)


def _in_memory(run: Execution, source: Source) -> bool:
    final = run.final(source)
    return final.__class__ is not tuple or run.done[final[0]].values is not None


class Items(Sequence[Any]):
    """A read-only list whose items are fetched from their tier when they are looked at."""

    def __init__(self, run: Execution, sources: list[Source]):
        self._run, self._sources = run, sources
        missing = [
            final[0]
            for one in sources
            if (final := run.final(one)).__class__ is tuple and run.done[final[0]].values is None and not _readable(run, final[0])
        ]
        if missing:
            raise Gone(missing)

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [value_of(self._run, one) for one in self._sources[index]]
        return value_of(self._run, self._sources[index])


def _readable(run: Execution, step: int) -> bool:
    """Whether the disk still has a result, checked by reading it."""
    return run.shared.cache.load(run.done[step]) is not None


def _wrong_input(run: Execution, step: int, used: NodeType, inputs: dict[str, Any]) -> Problem | None:
    """What came over an `any` link and is not what the port takes."""
    for port in run.plan.checked[step]:
        declared = used.inputs.get(port)
        if declared is None or port not in inputs:
            continue
        given = inputs[port]
        if declared.type is types.FLOAT and type(given) is int:
            inputs[port] = float(given)
        elif not declared.lazy and not kinds.conforms(declared.type, given):
            where = f"{run.plan.path(step)}.{port}"
            return Problem("type-mismatch", where, f"{where!r} takes {declared.type}, but {kinds.describe(given)} arrived", "")
    return None


def _begin_mapped(run: Execution, step: int, mapped: Mapped) -> Settled:
    """Expand a mapped node whose lists have arrived."""
    items: dict[str, list[Source]] = {}
    try:
        for port, source in mapped.each.items():
            final = run.final(source)
            if final.__class__ is list:
                items[port] = final
                continue
            given = value_of(run, final)
            if not isinstance(given, Sequence) or isinstance(given, str):
                where = f"{run.plan.path(step)}.each.{port}"
                return Settled(Failure(Problem("each-type", where, f"each takes a list, but {kinds.describe(given)} arrived", "")))
            items[port] = [Const(one) if kinds.has_content_identity(one) else Item(final, number) for number, one in enumerate(given)]
        return Settled(run.expand_mapped(step, mapped, items))
    except Gone as gone:
        run.recompute(gone.steps, step)
        return None  # type: ignore[return-value]
    except WorkflowInvalid as error:
        return Settled(Failure(*(problem.at(run.plan.path(step)) for problem in error.problems)))


# -- outcomes ------------------------------------------------------------------------------------------------------


def keep(run: Execution, step: int, call: Any, outcome: Any) -> Any:
    """Make an entry of an outcome and cache it; sources by output for an alias or a graph; other outcomes as they are."""
    if call.__class__ is Settled or outcome.__class__ is Failure or outcome is CANCELLED:
        return outcome
    traits = call.traits
    if outcome.__class__ is traits.gives and traits.plain and not run.outside:
        entry = Entry(call.key, "values", traits.ports, (outcome,), (keys.identity(outcome),), call.seconds, ())
        entry.pins = 1  # until it is recorded
        if run.use_cache:
            run.shared.cache.put_plain(entry, run.plan.keys[step])
        return entry
    used, plan = call.used, run.plan
    try:
        if outcome.__class__ is Lazy:
            return _alias(run, step, used, outcome)
        if outcome.__class__ is Need:
            return _need(run, step, used, outcome)
        if outcome.__class__ is Graph:
            return _graph(run, step, call, outcome)
        if outcome.__class__ is Skip:
            entry = Entry(call.key, "skip", (), outcome.reason, (), call.seconds, ())
        else:
            entry = _values(run, step, call, outcome)
    except Problems as error:
        return Failure(*error.problems)
    entry.pins = 1  # until it is recorded
    outside = note_outside(run, step, entry.outside)
    if call.key is not None and run.use_cache:
        run.shared.cache.put(entry, plan.keys[step], outside)
    return entry


def _values(run: Execution, step: int, call: Any, outcome: Any) -> Entry:
    used = call.used
    outputs = used.outputs
    values = (outcome,) if used.single else tuple(outcome) if isinstance(outcome, tuple) else () if outcome is None else (outcome,)
    if len(values) != len(outputs):
        raise _wrong_output(run, step, f"gave {len(values)} values for {len(outputs)} outputs", "return one value for each output")
    by_content = used.volatile or used.effect
    idents = []
    for (name, port), value in zip(outputs.items(), values, strict=True):
        if not kinds.conforms(port.type, value):
            raise _wrong_output(
                run, step, f"says that {name!r} is {port.type}, but gave {kinds.describe(value)}", "return what is declared"
            )
        if value.__class__ in _PLAIN:
            idents.append(keys.identity(value))
        else:
            idents.append(output_ident(call.key or b"", name, value, by_content))
    own = () if outcome.__class__ in _PLAIN else tuple(one for value in values for one in kinds.outside_in(value))
    return Entry(call.key, "values", tuple(outputs), values, tuple(idents), call.seconds, own)


def _wrong_output(run: Execution, step: int, text: str, fix: str) -> Problems:
    path = run.plan.path(step)
    return Problems([Problem("wrong-output", path, f"{run.plan.types[step].name!r} {text}", fix)])


def note_outside(run: Execution, step: int, own: tuple[Any, ...]) -> tuple[Any, ...]:
    """Remember the outside values that a step gave, or that are behind what it has seen. Returns them, each once."""
    if not own and not run.outside:
        return ()
    found = {kinds.content(one): one for one in own}
    for port, source in run.plan.sources[step].items():
        if not run._is_lazy(step, port):
            found.update((kinds.content(one), one) for one in outside_of(run, source))
    if found:
        run.outside[step] = tuple(found.values())
    return tuple(found.values())


def outside_of(run: Execution, source: Source) -> tuple[Any, ...]:
    """The outside values behind a source, those of steps that chose what it stands for included."""
    gathered: tuple[Any, ...] = ()
    while source.__class__ is tuple:
        gathered += run.outside.get(source[0], ())
        done = run.done[source[0]]
        if done.__class__ is not dict:
            return gathered
        source = done[source[1]]
    if source.__class__ is list:
        for one in source:
            gathered += outside_of(run, one)
    elif source.__class__ is Item:
        gathered += outside_of(run, source.source)
    return gathered


def _alias(run: Execution, step: int, used: NodeType, lazy: Lazy[Any]) -> dict[str, Source]:
    """A node gave one of its lazy inputs: the same result under the same key."""
    if len(used.outputs) != 1:
        raise _wrong_output(run, step, "returned a lazy input, but has several outputs", "return a Graph that says what each output is")
    plan = run.plan
    if lazy.port not in plan.sources[step] and lazy.port not in plan.literals[step]:
        raise _wrong_output(run, step, f"returned a lazy input {lazy.port!r}, which is none of its inputs", "return one that it was given")
    output = next(iter(used.outputs))
    source = plan.sources[step].get(lazy.port)
    linked = source is not None
    if source is None:
        source = Const(plan.literals[step].get(lazy.port))
    outside = note_outside(run, step, ())
    plan_key = plan.keys[step]
    if linked and plan_key is not None and run.use_cache:
        record = {"nodes": {}, "outputs": {output: f"inputs.{lazy.port}"}}
        run.shared.cache.put(Entry(keys.digest(b"alias", plan_key), "graph", (), record, (), 0.0, ()), plan_key, outside)
    return {output: source}


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
    outside = note_outside(run, step, ())
    sources = run.expand_graph(step, graph)
    if call.key is not None and run.use_cache:
        run.shared.cache.put(Entry(call.key, "graph", (), graph.record(), (), call.seconds, ()), run.plan.keys[step], outside)
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
        template = shared.checker.returned_graph(record, parent, plan.sources[step], scope.workflow)
    problems = template.all_problems
    if problems:
        path = plan.path(step)
        raise WorkflowInvalid(problem.at(f"{path}/{problem.where}" if problem.where else path) for problem in problems)
    bound: dict[str, Source] = {port: Const(value) for port, value in plan.literals[step].items()}
    bound.update(plan.sources[step])
    for port, declared in parent.inputs.items():
        if port not in bound and not declared.required:
            bound[port] = Const(declared.default)
    return plan.expand(template, bound, scope)


# -- failures ------------------------------------------------------------------------------------------------------


def failed(path: str, used: NodeType, error: BaseException) -> list[Problem]:
    """What went wrong in a node, with the frames of its author's code and without the engine's."""
    if isinstance(error, Invalid):
        return [error.problem(path)]
    if isinstance(error, Refused):
        return [Problem(error.code, path, error.text, error.fix)]
    if isinstance(error, Problems) and error.problems:
        return [problem.at(path) if not problem.where else problem for problem in error.problems]
    try:
        said = str(error)
    except Exception:  # an exception's own text is the pack's code too
        said = ""
    text = f"{used.name!r} failed: {type(error).__name__}: {said}".rstrip(": ")
    if isinstance(error, SystemExit):
        text = f"{used.name!r} tried to end the program"
    return [Problem("node-failed", path, text, detail=author_frames(error))]


def internal(path: str, error: Exception) -> Problem:
    """A mistake of the engine itself, with all of its frames."""
    frames = "".join(traceback.format_exception(error)).rstrip()
    return Problem("internal", path, f"nodegraph made a mistake: {type(error).__name__}: {error}", "please report it", detail=frames)


def author_frames(error: BaseException) -> str:
    """The traceback below the engine: where in the pack, and in what it calls, it went wrong."""
    own = str(Path(__file__).parent)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_engine(frame.filename, own)]
    lines = [f"{frame.filename}:{frame.lineno} in {frame.name}: {(frame.line or '').strip()}" for frame in frames[-6:]]
    if error.__cause__ is not None:
        lines.append(f"caused by {type(error.__cause__).__name__}: {error.__cause__}")
    return "\n".join(lines)


def _is_engine(file: str, own: str) -> bool:
    return file.startswith(own) and "_packs" not in file


# -- what a node sees of its run -----------------------------------------------------------------------------------


class NodeRun(Run):
    """The context of one call; see `nodegraph.context.Run`."""

    def __init__(self, run: Execution, step: int):
        self._run, self._step = run, step
        self.path = run.plan.path(step)
        self.id, self.token = run.id, f"{run.id}/{self.path}"
        self.device, self.dtype = run.shared.device, run.shared.dtype
        self.output, self.workflow = run.output, run.plan.scopes[step].workflow or run.workflow

    def metadata(self) -> dict[str, Any]:
        return {**self._run.provenance(), "node": self.path}

    def progress(self, step: int, total: int, text: str = "", preview: Image | None = None) -> None:
        data: dict[str, Any] = {"step": step, "total": total}
        if text:
            data["text"] = text
        if preview is not None:
            data["preview"] = preview
        self._run.log.progress(self._step, data)
        self.raise_if_cancelled()

    def raise_if_cancelled(self) -> None:
        if self._run.cancelled:
            raise Cancelled("the run was cancelled")

    def use(self, handle: Handle, load: Callable[[Files, str, str], Any]) -> AbstractContextManager[Any]:
        shared = self._run.shared
        return shared.resident.use(handle, load, shared.device, shared.dtype)

    def saved(self, path: Path) -> None:
        with self._run.lock:
            self._run.files.append(Path(path))


# -- outputs -------------------------------------------------------------------------------------------------------


def collect_output(run: Execution, name: str, source: Source) -> None:
    """Bring a settled output into memory, and have it written to the disk tier. Raises Gone."""
    verdict, cause = run._verdict(source)
    if verdict == DONE:
        run.values[name] = _plain(value_of(run, source))
        run.idents[name] = run.ident(source)
        if run.use_cache:
            _keep_on_disk(run, source)
        return
    final = run.final(source)
    if final.__class__ is list:
        run.partial[name] = {index: value_of(run, one) for index, one in enumerate(final) if run._verdict(one)[0] == DONE}
    if verdict == SKIPPED:
        run.skipped[name] = str(cause)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Items) else value


def _keep_on_disk(run: Execution, source: Source) -> None:
    while source.__class__ is tuple:
        step = source[0]
        done = run.done[step]
        if done.__class__ is Entry:
            run.shared.cache.keep(done, run.plan.keys[step], run.outside.get(step, ()))
            return
        source = done[source[1]]
    for one in source if source.__class__ is list else [source.source] if source.__class__ is Item else []:
        _keep_on_disk(run, one)


def collect_result(run: Execution) -> Result:
    """What a run gave, when nothing is left to do."""
    cancelled = run.cancelled and bool(run.roots)
    status = "cancelled" if cancelled else "failed" if run.problems else "ok"
    outputs = {name: run.values[name] for name in run.sinks.values() if name in run.values}
    idents = {name: keys.digest(b"output", ident).hex() for name, ident in run.idents.items()}
    seconds = time.perf_counter() - run.started
    return Result(run.id, status, outputs, tuple(run.problems), run.skipped, run.partial, idents, list(run.files), seconds, run.provenance)


def summary(value: Any) -> Any:
    """An output as JSON: plain values as they are, others in words."""
    if kinds.is_json(value):
        return value
    if isinstance(value, list):
        return [summary(one) for one in value]
    return repr(value) if hasattr(value, "parts") else kinds.describe(value)
