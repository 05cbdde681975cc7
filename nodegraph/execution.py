"""Executes a plan: choose, run, record.

Demand goes backward from the asked outputs and the effects: a step runs only if its result is missing and something that must
run needs it. A run may extend its plan (lists, returned graphs); finished steps never change. All state is guarded by the run's
lock; nodes are called outside of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from nodegraph import calling, collecting, keys, plain, recording, stretch
from nodegraph.checkpoints import Kept
from nodegraph.debt import Debt
from nodegraph.ending import RUNS, not_when_ending, when_ending
from nodegraph.entries import PINNED, PLAIN, SLOW, Entry
from nodegraph.errors import Problem, WorkflowInvalid
from nodegraph.failures import CANCELLED, Failure, internal
from nodegraph.inputs import Gone, list_ident
from nodegraph.job import EventLog, Job, Result
from nodegraph.outcomes import Graph, Need
from nodegraph.plan import Mapped, Plan, Scope
from nodegraph.secret import redact
from nodegraph.shared import Shared, Traits
from nodegraph.sources import Const, Item, Source, steps_in
from nodegraph.spec import NodeType
from nodegraph.states import DONE, FAILED, IDLE, READY, SKIPPED, WAITING

log = logging.getLogger("nodegraph.run")
_SETTLED = (DONE, FAILED, SKIPPED)
_SINK = NodeType("output", {}, {}, recording.never_called, volatile=True, pack="nodegraph", identity="output")


def _nothing(run: Execution) -> None:
    """Nobody waits for the end of a run."""


class Execution:
    """One run of one plan."""

    def __init__(
        self, shared: Shared, plan: Plan, run_id: str, workflow: str, use_cache: bool, output: Any, provenance: Callable[[], dict[str, Any]]
    ):
        self.shared, self.plan, self.id, self.workflow = shared, plan, run_id, workflow
        self.use_cache, self.output, self.provenance = use_cache, output, provenance
        self._up_to_date = False  # about what other processes have written to the cache
        self.log = EventLog(run_id, plan.paths)
        self.job = Job(run_id, self.log, self.cancel)
        self.cancelled = False
        self.lock = threading.RLock()
        self.state = bytearray()
        self.traits: list[Traits] = []
        self.done: list[Any] = []  # Entry, a plain value, or a dict of sources for a step whose outputs are those of others
        self.pending: list[int] = []
        self.dependents: list[Any] = []
        self.outside: dict[int, tuple[Any, ...]] = {}  # outside values that a step gave, or that are behind it
        self.needed: dict[int, set[str]] = {}  # lazy ports that a node has asked for
        self.causes: dict[int, Any] = {}  # why a step failed or was skipped
        self.problems: list[Problem] = []
        self.files: list[Any] = []
        self.sinks: dict[int, str] = {}
        self.roots: set[int] = set()
        self.values: dict[str, Any] = {}  # of finished outputs, by name
        self.skipped: dict[str, str] = {}
        self.partial: dict[str, dict[int, Any]] = {}
        self.idents: dict[str, bytes] = {}
        self.smaller: dict[str, dict[str, int]] = {}  # of outputs; see Result
        self._cancel_calls: list[Callable[[], None]] = []
        self._wanted: list[int] = []  # steps to demand, the next one last
        self.checkpointed: dict[int, Kept] = {}  # steps that have kept a checkpoint, or gone on from one
        self.held: set[int] = set()  # steps whose results were lost once: they are not let go again
        self.debt = Debt(self) if use_cache and shared.cache.store else None
        self._pinned = False  # whether any result was asked to stay in memory
        self._forwarded = False  # whether any step stands for others, so that inputs must be looked through
        self._ready: dict[Any, list[int]] = {}  # steps to hand to lanes
        self.queued: dict[Any, list[int]] = {}  # see lanes
        self.aside, self.below = bytearray(), 0  # while the run starts: demanded steps below that one are marked, for a stretch
        self.stretch: stretch.Stretch | None = None
        self.compute = plain.computer(self)
        self._unblocked: deque[int] = deque()  # steps whose inputs are settled
        self.active = 0
        self.finished = False
        self.ended: Callable[[Execution], None] = _nothing  # told when it has
        self.started = time.perf_counter()
        plan.ident_of = self._done_ident

    # -- starting and ending ---------------------------------------------------------------------------------------

    def start(self, outputs: Mapping[str, Source], effects: list[int]) -> None:
        """Ask for outputs and effects. Returns at once; the job tells the rest."""
        with self.lock:
            if self.finished:  # cancelled before it could start
                return
            when_ending(self.cancel, RUNS)
            total = len(self.plan)
            scope = Scope("", self.workflow)
            for name, source in outputs.items():
                step = self.plan.step(_SINK, name, scope, {"value": source}, {}, ())
                self.sinks[step] = name
            self._grow()
            self.roots = {*self.sinks, *effects}
            self.log.add("planned", -1, {"total": total, "workflow": self.workflow})
            log.info("run %s of %r begins: %d steps", self.id, self.workflow, total)
            if self.use_cache and not self.shared.watched:
                self.aside, self.below = bytearray(self.plan.settled), self.plan.settled
            self.demand(sorted(self.roots))
            if self.below:
                stretch.begin(self)
            self._end_if_over()

    def _grow(self) -> None:
        """Make room for the steps that the plan has gained."""
        more = len(self.plan) - len(self.state)
        self.traits += map(self.shared.traits, self.plan.types[len(self.traits) :])
        self.state.extend(bytes(more))
        self.done.extend([None] * more)
        self.pending.extend([0] * more)
        self.dependents.extend([None] * more)

    def cancel(self) -> None:
        """Start nothing more, and tell the nodes at work to stop."""
        with self.lock:
            self.cancelled = True
            calls, self._cancel_calls = self._cancel_calls, []
            self._end_if_over()
        for call in calls:
            call()

    def _end_if_over(self) -> None:
        """Under the lock: finish the job when nothing that was asked for is left."""
        if self.finished or self.active or (self.roots and not self.cancelled):
            return
        self.finished = True
        if self._pinned:
            try:
                self._unpin_all()
            except Exception as error:  # it must not keep the job from ending
                self.problems.append(internal(self.workflow, error))
        result = collecting.collect_result(self)
        self.log.close(
            {
                "status": result.status,
                "outputs": {name: collecting.summary(value) for name, value in result.outputs.items()},
                "files": [str(path) for path in result.files],
                "seconds": round(result.seconds, 6),
            }
        )
        log.info("run %s is %s after %.3f s", self.id, result.status, result.seconds)
        self._let_go()
        not_when_ending(self.cancel)
        self.ended(self)
        self.ended = _nothing
        self.job.finish(result)
        self.shared.heap.worked(result.seconds)

    def _let_go(self) -> None:
        """Leave the circles that go through this run, or all that it holds, on a device too, would wait for the garbage collector."""
        self.plan.ident_of = self.stretch = self.debt = None
        self.compute = plain.nothing

    def _unpin_all(self) -> None:
        for entry in self.done:
            if isinstance(entry, Entry):
                entry.pins = 0
        self.shared.cache.settle()

    def break_off(self, step: int, error: Exception) -> None:
        """The engine made a mistake while it recorded a step: whatever that left behind, the job ends now."""
        with self.lock:
            self._break_off(self.plan.path(step), error)
        self.shared.release_of(self, step)

    def break_off_all(self, error: Exception) -> None:
        """The engine made a mistake that belongs to no one step."""
        with self.lock:
            self._break_off(self.workflow, error)

    def _break_off(self, where: str, error: Exception) -> None:
        self.problems.append(internal(where, error))
        self.roots.clear()
        self.active = 0
        self.cancel()

    def on_cancel(self, call: Callable[[], None]) -> None:
        """Have something called when the run is cancelled."""
        with self.lock:
            self._cancel_calls.append(call)
        if self.cancelled:
            call()

    # -- demand ----------------------------------------------------------------------------------------------------

    def demand(self, steps: list[int]) -> None:
        """Under the lock: have steps computed, the first one first."""
        self._wanted += reversed(steps)
        self._drain()

    def _drain(self) -> None:
        """Under the lock, without recursion however deep the plan: demand what is wanted, settle what is unblocked."""
        wanted, unblocked = self._wanted, self._unblocked
        while wanted or unblocked:
            try:
                if wanted:
                    step = wanted.pop()
                    if step < self.below:
                        self.aside[step] = 1
                    else:
                        self._demand(step)
                else:
                    step = unblocked.popleft()
                    self._settle_inputs(step)
            except Exception as error:  # a mistake of the engine must fail the step, never hang the run
                self._fail(step, (internal(self.plan.path(step), error),))
        if self._ready:
            ready, self._ready = self._ready, {}
            try:
                for lane, steps in ready.items():
                    lane.push(self, steps)  # all at once, so that they are taken in order
            except Exception as error:
                self._break_off(self.workflow, error)

    def _demand(self, step: int) -> None:
        """Under the lock: have a step computed. What the cache has is taken; what is missing waits for its inputs."""
        if self.state[step] != IDLE:
            return
        key, cache = self.plan.keys[step], self.shared.cache
        if key is not None and self.use_cache:
            self.look_up()
            if cache.may_link(key) and (found := cache.linked(key)) is not None:
                if found[1]:
                    self.outside[step] = found[1]
                if self._take_hit(step, found[0]):
                    return
        self.state[step] = WAITING
        self._wait_or_unblock(step)

    def look_up(self) -> None:
        """Notice, once, what other processes have written to the cache: before anything that may take more than a moment is done."""
        if not self._up_to_date:
            self._up_to_date = True
            self.shared.cache.refresh()

    def _wait_or_unblock(self, step: int) -> None:
        """Under the lock: have the step wait for its inputs, and demand these."""
        waits = self._register(step)
        if not waits:
            self._unblocked.append(step)
        elif len(waits) == 1:
            self._wanted += waits
        else:
            self._wanted += reversed(waits)

    def _register(self, step: int) -> list[int]:
        """Under the lock: let a step wait for what its inputs still miss. Returns these steps."""
        if self.stretch is not None:
            self.stretch.watched = True
        waits: list[int] = []
        lazy, state, dependents = self.traits[step].lazy, self.state, self.dependents
        whole = self.plan.types[step].__class__ is not Mapped  # what maps a list needs to know its items, not to have them
        for port, source in self.plan.sources[step].items():
            if source.__class__ is tuple and state[source[0]] < DONE and not lazy:
                waits.append(source[0])
            elif not lazy or not self._is_lazy(step, port):
                self._unsettled(source, waits, whole)
        for one in waits:
            others = dependents[one]
            if others is None:
                dependents[one] = step
            elif others.__class__ is int:
                dependents[one] = [others, step]
            else:
                others.append(step)
        self.pending[step] += len(waits)
        return waits

    def _is_lazy(self, step: int, port: str) -> bool:
        """Whether an input is lazy and was not asked for."""
        lazy = self.traits[step].lazy
        if not lazy or port in self.needed.get(step, ()):
            return False
        return port in lazy or (None in lazy and port not in self.plan.types[step].inputs)

    def _unsettled(self, source: Source, found: list[int], whole: bool = True) -> None:
        """Add the steps that a source waits for, through the outputs of steps that stand for others. `whole`: and those that the items
        of a list wait for."""
        first = None
        while source.__class__ is tuple:
            step = source[0]
            if self.state[step] not in _SETTLED:
                found.append(step)
                return
            done = self.done[step]
            if done.__class__ is not dict:
                return
            if first is None:
                first = source
            else:
                self._shorten(first, source, done[source[1]])
            source = done[source[1]]
        if source.__class__ is list:
            for one in source if whole else ():
                self._unsettled(one, found)
        elif source.__class__ is Item:
            self._unsettled(source.source, found)

    def _shorten(self, first: Source, passed: Source, target: Source) -> None:
        """Let a step that stands for one that stands for another stand for that one, so that long loops stay linear."""
        if behind := self.outside.get(passed[0]):
            self.outside[first[0]] = tuple(dict.fromkeys((*self.outside.get(first[0], ()), *behind)))
        self.done[first[0]][first[1]] = target

    def _take_hit(self, step: int, entry: Entry) -> bool:
        """Under the lock: a result that the cache has. False when it turns out to be gone."""
        if self.shared.profile is not None:
            self.shared.profile.instant(f"{self.plan.path(step)}: cached", "hit", bytes=entry.nbytes, from_disk=entry.values is None)
        if entry.kind == "values":
            self.log.add("cached", step)
            self._done(step, entry)
            return True
        record = self.shared.cache.load(entry)
        if record is None:
            return False
        self.log.add("cached", step)
        if entry.kind == "skip":
            self._skip(step, record)
            return True
        try:
            self._done(step, self._expand(step, record))
        except WorkflowInvalid as error:
            self._fail(step, error.problems)
        return True

    # -- readiness -------------------------------------------------------------------------------------------------

    def _settle_inputs(self, step: int) -> None:
        """Under the lock: all that a step waited for is settled. It becomes ready, waits for more, fails or is skipped."""
        if self.state[step] != WAITING or self.pending[step]:
            return
        if self._forwarded and (more := self._register(step)):
            self._wanted.extend(one for one in reversed(more) if self.state[one] == IDLE)
            return
        if step in self.sinks:
            self._close_sink(step)
            return
        if self.problems or self.causes:
            for port, source in self.plan.sources[step].items():
                if self._is_lazy(step, port):
                    continue
                if self.plan.types[step].__class__ is Mapped and self.final(source).__class__ is list:
                    continue  # each item fares by itself
                verdict, cause = self._verdict(source)
                if verdict == FAILED:
                    self._fail_dependent(step, cause)
                    return
                if verdict == SKIPPED and port not in self.needed.get(step, ()):
                    self._skip(step, cause)
                    return
        self._enqueue(step)

    def _verdict(self, source: Source) -> tuple[int, Any]:
        """Whether a settled source failed or was skipped, and why."""
        while source.__class__ is tuple:
            step = source[0]
            if self.state[step] in (FAILED, SKIPPED):
                return self.state[step], self.causes.get(step)
            done = self.done[step]
            if done.__class__ is not dict:
                return DONE, None
            source = done[source[1]]
        worst: tuple[int, Any] = (DONE, None)
        if source.__class__ is list:
            for one in source:
                verdict = self._verdict(one)
                if verdict[0] == FAILED:
                    return verdict
                worst = max(worst, verdict, key=lambda pair: pair[0])
        elif source.__class__ is Item:
            return self._verdict(source.source)
        return worst

    def _enqueue(self, step: int) -> None:
        if self.cancelled:
            return
        self.state[step] = READY
        self.active += 1
        self._ready.setdefault(self.traits[step].lane, []).append(step)

    # -- running one step ------------------------------------------------------------------------------------------

    def execute(self, step: int) -> int | None:
        """Run one step in a lane's worker. Returns the next ready step for the same lane."""
        if step < 0:
            made = self.stretch  # the run may have ended without it, and may end at any moment
            return made.execute(step) if made is not None else None
        if self.traits[step].quick and (following := plain.execute(self, step)) != step:
            return following
        return self.call(step)

    def call(self, step: int) -> int | None:
        """Run one step that is ready, whatever it is. Returns the next ready step for the same lane."""
        call = None
        try:
            call = calling.begin(self, step)
            if call is None:
                self.leave()
                return None
            return self.record(step, call, recording.keep(self, step, call, call.run()))
        except Exception as error:  # a mistake of the engine must fail the step, never hang the run
            return self.give_up(step, call, error)

    async def execute_async(self, step: int) -> None:
        """Run one async step in the event loop."""
        call = None
        try:
            call = calling.begin(self, step)
            if call is None:
                self.leave()
                return
            following = self.record(step, call, recording.keep(self, step, call, await call.run_async(self)))
        except Exception as error:  # see above
            following = self.give_up(step, call, error)
        if following is not None:
            self.traits[following].lane.push(self, [following])

    def give_up(self, step: int, call: Any, error: Exception) -> int | None:
        problem = internal(self.plan.path(step), error)
        if call is None:
            self.shared.release_of(self, step)
            call = calling.Settled(None)
        return self.record(step, call, Failure(problem))

    def leave(self) -> None:
        """What was at work has nothing to record."""
        with self.lock:
            self.active -= 1
            self._end_if_over()

    def record(self, step: int, call: Any, entry: Any) -> int | None:
        """Record what a step gave. Returns the next step for the same lane. Raises nothing, as that would hang the run."""
        try:
            return self._record(step, call, entry)
        except Exception as error:
            self.break_off(step, error)
            return None

    def _record(self, step: int, call: Any, entry: Any) -> int | None:
        with self.lock:
            self.active -= 1
            following = None
            if not isinstance(entry, Entry):
                self._record_outcome(step, call, entry)
            elif entry.kind == "skip":
                self._skip(step, entry.values)
            else:
                self.log.add("finished", step, {"seconds": call.seconds, "smaller": call.variant} if call.variant else call.seconds)
                call.traits.took(call.seconds)
                if (profile := self.shared.profile) is not None:
                    cache = self.shared.cache
                    profile.instant(f"{self.plan.path(step)}: result", "result", bytes=entry.nbytes)
                    profile.count("cache bytes", host=cache.used, device=cache.device_used)
                following = self._done(step, entry, call.lane)
                if step in self.held:
                    self._pinned = True  # it was lost once: now it stays until the run is over
                else:
                    entry.pins -= 1
                    if not entry.pins:
                        self.shared.cache.unpinned(entry)
            if self._wanted or self._unblocked:
                self._drain()
            if self._pinned:
                self._unpin(step)
            if not self.active:
                self._end_if_over()
        debt = self.debt  # the run may end at any moment now, in another thread
        if debt is not None and isinstance(entry, Entry):
            debt.add(step, entry)
        if step in self.checkpointed:
            self._drop_checkpoints(step, entry)
        if call.claimed:
            self.shared.release(call.key)
        return following

    def _drop_checkpoints(self, step: int, outcome: Any) -> None:
        """Let the checkpoints of a step go when its result lies on disk, or when going on from one has failed."""
        checkpoints, kept = self.shared.checkpoints, self.checkpointed[step]
        if checkpoints is None or not (isinstance(outcome, Entry) or (isinstance(outcome, Failure) and kept.resumed)):
            return
        for key in kept.keys:
            checkpoints.drop(key, outcome if isinstance(outcome, Entry) else None)

    def record_plain(self, step: int, value: Any, lane: Any) -> int | None:
        """Record the one small value that a step gave. Returns the next step for the same lane."""
        try:
            with self.lock:
                self.active -= 1
                following = self._done(step, value, lane)
                if self._wanted or self._unblocked:
                    self._drain()
                if self._pinned:
                    self._unpin(step)
                if not self.active:
                    self._end_if_over()
            return following
        except Exception as error:
            self.break_off(step, error)
            return None

    def _record_outcome(self, step: int, call: Any, outcome: Any) -> None:
        """Under the lock: an outcome that is no value."""
        if isinstance(outcome, Failure):
            self._fail(step, outcome.problems)
        elif isinstance(outcome, Need):
            self.needed.setdefault(step, set()).update(outcome.ports)
            self.state[step] = WAITING
            self._wait_or_unblock(step)
        elif isinstance(outcome, dict):  # an alias, an expanded list or a graph: sources by output
            self.log.add("finished", step, call.seconds)
            self._done(step, outcome)
        elif outcome is CANCELLED:
            self.state[step] = IDLE

    # -- settling --------------------------------------------------------------------------------------------------

    def _done(self, step: int, result: Any, lane: Any = None) -> int | None:
        """Under the lock: a step is done. Returns a dependent that became ready for the given lane."""
        self.done[step], self.state[step] = result, DONE
        self.roots.discard(step)
        if result.__class__ is dict and step in self.plan.asked:
            self._ask_behind(result)
        waiting, self.dependents[step] = self.dependents[step], None
        if waiting is None:
            return None
        if result.__class__ is dict:
            self._forwarded = True
        if isinstance(result, Entry) and (result.nbytes > PINNED or result.seconds > SLOW):
            self._pinned = True
            result.pins += 1 if waiting.__class__ is int else len(waiting)
        if waiting.__class__ is int:
            return self._one_less(waiting, lane)
        ready = [following for one in waiting if (following := self._one_less(one, lane)) is not None]
        if len(ready) > 1:
            lane.push(self, ready[1:])
        return ready[0] if ready else None

    def _one_less(self, step: int, lane: Any) -> int | None:
        """Under the lock: a step waits for one less. Returned if it is now ready for the given lane."""
        self.pending[step] -= 1
        if self.pending[step] or self.state[step] != WAITING:
            return None
        if self._goes_on(step, lane):
            self.state[step] = READY
            self.active += 1
            return step
        self._unblocked.append(step)
        return None

    def _goes_on(self, step: int, lane: Any) -> bool:
        """Whether a step whose inputs are there goes to the given lane at once, as nothing needs to be looked at."""
        if lane is None or self._forwarded or self.causes or self.cancelled or step in self.sinks:
            return False
        return self.state[step] == WAITING and self.traits[step].lane is lane

    def _unpin(self, step: int) -> None:
        """Under the lock: what a step has taken need not stay in memory for it."""
        for source in self.plan.sources[step].values():
            for one in steps_in(source):
                given = self.done[one]
                if isinstance(given, Entry) and given.pins and one not in self.held:
                    given.pins -= 1
                    if not given.pins:
                        self.shared.cache.unpinned(given)

    def _fail(self, step: int, problems: tuple[Problem, ...]) -> None:
        """Under the lock: a step failed, and with it what depends on it."""
        self.problems.extend(problems)
        self.log.add("failed", step, {"problems": [problem.to_json() for problem in problems]})
        self._settle_badly(step, FAILED, self.plan.path(step))

    def _fail_dependent(self, step: int, cause: Any) -> None:
        self.log.add("failed", step, {"because": cause})
        self._settle_badly(step, FAILED, cause)

    def _skip(self, step: int, reason: Any) -> None:
        self.log.add("skipped", step, {"reason": redact(str(reason))})
        self._settle_badly(step, SKIPPED, reason)

    def _settle_badly(self, step: int, verdict: int, cause: Any) -> None:
        """Under the lock: mark a step, and let what waits for it decide for itself."""
        self.state[step] = verdict
        self.causes[step] = cause
        self.roots.discard(step)
        waiting, self.dependents[step] = self.dependents[step], None
        for one in () if waiting is None else (waiting,) if waiting.__class__ is int else waiting:
            self._one_less(one, None)

    def _close_sink(self, step: int) -> None:
        """Under the lock: an output is settled. Its values are brought into memory; if they are gone, it waits for them again."""
        try:
            collecting.collect_output(self, self.sinks[step], self.plan.sources[step]["value"])
        except Gone as gone:
            self._recompute(gone.steps, step)
            return
        self.state[step] = DONE
        self.done[step] = {}
        self.roots.discard(step)

    # -- extending the plan ----------------------------------------------------------------------------------------

    def expand_mapped(self, step: int, mapped: Mapped, items: dict[str, list[Source]]) -> dict[str, Source]:
        """Add the steps of a list that has arrived. Raises WorkflowInvalid for lists of unequal length."""
        with self.lock:
            before = len(self.plan.effects)
            outputs = list(mapped.used.outputs) if isinstance(mapped.used, NodeType) else list(mapped.used.output_types)
            made = self.plan.map_items(
                mapped.used, mapped.scope_name, mapped.shared, mapped.literals, items, self.plan.scopes[step], outputs, mapped.checked
            )
            self._grow()
            self._more_roots(self.plan.effects[before:])
            return made

    def expand_graph(self, step: int, graph: Graph) -> dict[str, Source]:
        """Add the steps of a graph that a node returned. Raises WorkflowInvalid."""
        with self.lock:
            return self._expand(step, graph.record())

    def _expand(self, step: int, record: Any) -> dict[str, Source]:
        if record is None:
            raise LookupError
        plan = self.plan
        before, first = len(plan.effects), len(plan)
        scope, name = plan.scopes[step], plan.names[step]
        base, _, turn = name.partition("@")
        count = int(turn) if turn.isdigit() else 1
        tail = recording.tail_node(record, plan.types[step])
        inner = Scope(f"{scope.prefix}{base}@{count}/" if tail else f"{scope.prefix}{name}/", scope.workflow)
        outputs = recording.expand_record(self.shared, plan, step, record, inner)
        self._grow()
        if tail:  # the next turn of a loop is named like the first, so that names stay short however long it runs
            for one in range(first, len(plan)):
                if plan.scopes[one] is inner and plan.names[one] == tail:
                    plan.scopes[one], plan.names[one] = scope, f"{base}@{count + 1}"
        effects = plan.effects[before:]
        volatile = any(isinstance(used, NodeType) and used.volatile for used in plan.types[first:])
        parent = plan.types[step]
        if (effects and not parent.effect) or (volatile and not (parent.effect or parent.volatile)):
            what = "an effect" if effects else "a volatile node"
            text = f"{parent.name!r} returned a graph with {what}, but is not declared so"
            raise WorkflowInvalid(
                [Problem("graph-effect", plan.path(step), text, f"declare it: @node({'effect' if effects else 'volatile'}=True)")]
            )
        self._more_roots(effects)
        return outputs

    def _ask_behind(self, outputs: dict[str, Source]) -> None:
        """Under the lock: a step that was asked for by name stands for others: ask for these."""
        if self.stretch is not None:
            self.stretch.watched = True
        behind: list[int] = []
        for source in outputs.values():
            self._unsettled(source, behind)
        self.plan.asked.update(behind)
        self._more_roots(behind)

    def _more_roots(self, steps: list[int]) -> None:
        if steps:
            self.roots.update(steps)
            self._wanted.extend(reversed(steps))

    def recompute(self, steps: list[int], waiting: int) -> None:
        """Results turned out to be gone: have them computed again, and let a step wait for them."""
        with self.lock:
            self._recompute(steps, waiting)
            self._drain()

    def _recompute(self, steps: list[int], waiting: int) -> None:
        self.held.update(steps)
        for step in steps:
            if self.state[step] == DONE:  # another may have asked for it already; what is there stays until it is there again
                self.state[step] = IDLE
        self.state[waiting] = WAITING
        self._wait_or_unblock(waiting)

    def retry(self, step: int) -> None:
        """Somebody else's claim on the same work has ended: look again."""
        with self.lock:
            if not self.finished and self.state[step] == WAITING:
                self._enqueue(step)
                self._drain()

    def take_hit(self, step: int, entry: Entry) -> bool:
        """A result was found under the work key of a step that was about to run."""
        with self.lock:
            found = self._take_hit(step, entry)
            self._drain()
            return found

    # -- identities ------------------------------------------------------------------------------------------------

    def final(self, source: Source) -> Source:
        """A source without the steps that stand for others."""
        while source.__class__ is tuple:
            done = self.done[source[0]]
            if done.__class__ is not dict:
                return source
            source = done[source[1]]
        return source

    def ident(self, source: Source) -> bytes:
        """The identity of a settled source in work keys."""
        if source.__class__ is tuple:
            entry = self.done[source[0]]
            if entry.__class__ in PLAIN:
                return keys.identity(entry)
            if isinstance(entry, Entry):
                idents = entry.idents
                return idents[0] if len(idents) == 1 else entry.ident(source[1])
            return self.ident(self.final(source))
        if source.__class__ is Const:
            return source.ident
        if source.__class__ is Item:
            return b"%b[%d]" % (self.ident(source.source), source.index)
        return list_ident([self.ident(one) for one in source])

    def _done_ident(self, source: Source) -> bytes | None:
        """For plan keys of steps that are added while running: what is done has its identity."""
        if any(step >= len(self.state) for step in steps_in(source)):  # it is being added itself
            return None
        waits: list[int] = []
        self._unsettled(source, waits)
        if waits or self._verdict(source)[0] != DONE:
            return None
        return self.ident(source)


__all__ = ["Execution", "Job", "Result"]
