"""One call of a node: getting ready for it, and making it."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from nodegraph import arrays, guard, keys, kinds, memory, types
from nodegraph.entries import Entry, Smaller
from nodegraph.errors import Cancelled, Problem, WorkflowInvalid
from nodegraph.failures import CANCELLED, Failure, failed, said
from nodegraph.inputs import Gone, as_lists, gather, note_outside, value_of, work_key
from nodegraph.limits import Refused, check_bounds
from nodegraph.noderun import NodeRun
from nodegraph.outcomes import Lazy
from nodegraph.plan import Mapped
from nodegraph.shared import Traits
from nodegraph.sources import Const, Item, Source
from nodegraph.spec import NodeType
from nodegraph.states import RUNNING, WAITING

if TYPE_CHECKING:
    import asyncio

    from nodegraph.execution import Execution


log = logging.getLogger("nodegraph.run")


class Call:
    """One call that is about to happen. `variant`: which smaller variant of the node to run, 0 for the whole."""

    __slots__ = ("claimed", "inputs", "key", "lane", "run_", "seconds", "step", "traits", "used", "variant")

    def __init__(self, run: Execution, step: int, used: NodeType, traits: Traits, key: bytes | None, claimed: bool, inputs: dict[str, Any]):
        self.run_, self.step, self.used, self.traits, self.lane = run, step, used, traits, traits.lane
        self.key, self.claimed, self.inputs = key, claimed, inputs
        self.seconds = 0.0
        self.variant = 0

    @property
    def path(self) -> str:
        return self.run_.plan.path(self.step)

    @property
    def result_key(self) -> bytes | None:
        """The key under which the result is kept: that of the work, but another for each smaller variant, as its bytes differ."""
        return keys.digest(b"smaller", self.key, bytes([self.variant])) if self.key is not None and self.variant else self.key

    @property
    def smaller(self) -> tuple[Smaller, ...]:
        """What is to be told of a result of a smaller variant."""
        return (Smaller(self.path, self.variant),) if self.variant else ()

    def run(self) -> Any:
        """Call the node. Whatever it raises is a Failure."""
        begun = time.perf_counter()
        outcome: Any
        try:
            with self.lane.occupied(self.traits.seconds):
                outcome = self.attempt()
        except BaseException as error:  # in a worker's thread nothing but the node's own code raises
            outcome = memory.without_frames(error) if memory.is_out_of_memory(error) else self.raised(error)
        try:
            return self.settled(outcome)
        finally:
            self._ended(begun)

    def settled(self, outcome: Any) -> Any:
        """The outcome of a call that gave this, or raised it."""
        if not isinstance(outcome, BaseException):
            return outcome
        return memory.climb(self, said(outcome)) if memory.is_out_of_memory(outcome) else self.raised(outcome)

    def _ended(self, begun: float) -> None:
        self.seconds = took = time.perf_counter() - begun
        context = self.inputs.get(self.used.takes_run)
        if isinstance(context, NodeRun):
            self.seconds += context.spent  # what is saved by keeping the result is all of it
        log.debug("%s (%s) took %.3f s", self.path, self.used.name, self.seconds)
        if (profile := self.run_.shared.profile) is not None:
            add = profile.overlapping if self.used.asynchronous else profile.span
            add(self.path, "node", begun, took, use=self.used.name, lane=self.lane.name, run=self.run_.id)

    def attempt(self) -> Any:
        """Call the node once, as the variant at hand."""
        if self.variant:
            self.inputs[self.used.takes_run].smaller = self.variant
        if not self.run_.shared.debug:
            return self._call(self.inputs)
        inputs = guard.own(self.inputs)
        before = guard.digests(inputs)
        return guard.judged(self.path, self.used.name, before, inputs, self._call(inputs))

    def _call(self, inputs: Mapping[str, Any]) -> Any:
        with self.run_.shared.place(self.path) if self.used.stateful else nullcontext():
            outcome = self.used.call(**inputs)
            if self.used.on_device:  # work that is merely queued would count as the next node's time, and its errors as that node's
                arrays.settle(self.run_.shared.device)
            return outcome

    async def run_async(self, run: Execution) -> Any:
        """Call an async node; a cancelled run cancels it."""
        import asyncio

        begun = time.perf_counter()
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._guarded())
        alive = weakref.ref(task)  # the run keeps what it calls, and a task keeps its result
        run.on_cancel(partial(_cancel, loop, alive))
        try:
            return await task
        except asyncio.CancelledError:
            return CANCELLED
        finally:
            self._ended(begun)

    async def _guarded(self) -> Any:
        """The outcome of an async node. Nothing escapes: what ends a program would end the loop of all async nodes."""
        import asyncio

        try:
            debug = self.run_.shared.debug
            inputs = guard.own(self.inputs) if debug else self.inputs
            before = guard.digests(inputs) if debug else {}
            if self.used.stateful:
                async with self.run_.shared.async_place(self.path):
                    outcome = await self.used.call(**inputs)
            else:
                outcome = await self.used.call(**inputs)
            return guard.judged(self.path, self.used.name, before, inputs, outcome)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and self.run_.cancelled:
                raise
            return memory.account(self, said(error)) if memory.is_out_of_memory(error) else self.raised(error)

    def raised(self, error: BaseException) -> Any:
        """The outcome of a call that raised. Cancelled is one only in a run that was cancelled."""
        if isinstance(error, Cancelled) and self.run_.cancelled:
            return CANCELLED
        told = failed(self.path, self.used, error)
        return Failure(*([self._without_device(told[0])] if self.used.on_device and self._lacks_device() else told))

    def _lacks_device(self) -> bool:
        kind, _, number = self.run_.shared.device.partition(":")
        count = arrays.devices(kind)
        return count is not None and int(number or 0) >= count

    def _without_device(self, told: Problem) -> Problem:
        """What is told of a node that failed where there is no device for it, whatever it failed of."""
        device = self.run_.shared.device
        kind = device.partition(":")[0]
        fix = f"use --device {kind}:0, or cpu" if arrays.devices(kind) else f"use --device cpu, or install a torch and a driver for {kind}"
        reason = told.text.removeprefix(f"{self.used.name!r} failed: ").partition("\n")[0]
        return Problem("no-device", self.path, f"{self.used.name!r} runs on {device}, which is not here: {reason}", fix)


def _cancel(loop: asyncio.AbstractEventLoop, alive: Callable[[], Any]) -> None:
    """Have a loop cancel a task, unless it is gone, or the loop has ended."""
    if (task := alive()) is not None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(task.cancel)


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
    traits = run.traits[step]
    run.state[step] = RUNNING
    key, claimed = None, False
    if traits.keyed:
        key = work_key(run, step, used)
        if run.use_cache:
            entry = shared.cache.get(key)
            if entry is None:
                run.state[step] = WAITING  # should another have claimed it
                if not shared.claim(key, run, step):
                    return None
                run.state[step] = RUNNING
                claimed = True
                entry = shared.cache.get(key)
                if entry is None and traits.long and shared.leases is not None:
                    if not shared.lease(key, run, step):
                        return None
                    entry = shared.cache.get(key)
            if entry is not None and _found(run, step, key, entry, claimed):
                return None
    try:
        inputs = gather(run, step, used, key)
    except Gone as gone:
        if claimed:
            shared.release(key)  # type: ignore[arg-type]
        run.recompute(gone.steps, step)
        return None
    except Refused as error:
        return Settled(Failure(*failed(plan.path(step), used, error)), key, claimed)
    run.log.add("started", step)
    if step in plan.checked and (problem := _wrong_input(run, step, used, inputs)):
        return Settled(Failure(problem), key, claimed)
    if traits.bounded and (problem := beyond_bounds(run, step, traits, inputs)):
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


def _wrong_input(run: Execution, step: int, used: NodeType, inputs: dict[str, Any]) -> Problem | None:
    """What came over an `any` link and is not what the port takes."""
    for port in run.plan.checked[step]:
        declared = used.port(port)
        if declared is None or port not in inputs:
            continue
        given = inputs[port]
        if given.__class__ is Lazy:
            if not given.ready or given.skipped:
                continue
            given = given.value
        if not kinds.conforms(declared.type, as_lists(given)):
            where, wanted = f"{run.plan.path(step)}.{port}", types.erase(declared.type)
            text = f"{where!r} takes {wanted}, but {kinds.describe(given)} arrived"
            return Problem("type-mismatch", where, text, f"give it {wanted}")
    return None


def beyond_bounds(run: Execution, step: int, traits: Traits, inputs: Mapping[str, Any]) -> Problem | None:
    """What is outside of the bounds of its port. `check` has seen what is written; what another node gave is seen here."""
    used = run.plan.types[step]
    for name, given in inputs.items():
        port = traits.bounded.get(name if name in used.inputs or name == used.takes_run else None)
        try:
            if port is not None:
                check_bounds(port if port.name == name else replace(port, name=name), given)
        except Refused as error:
            return Problem(error.code, f"{run.plan.path(step)}.{name}", error.text, error.fix)
    return None


def _begin_mapped(run: Execution, step: int, mapped: Mapped) -> Settled:
    """Expand a mapped node whose lists have arrived."""
    items: dict[str, list[Source]] = {}
    try:
        for port, source in mapped.each.items():
            found = items_of(run, source)
            if found is None:
                where, given = f"{run.plan.path(step)}.each.{port}", kinds.describe(value_of(run, source))
                return Settled(Failure(Problem("each-type", where, f"each takes a list, but {given} arrived", "give it a list")))
            items[port] = found
        note_outside(run, step, ())  # of an item that enters as its content nothing says where it is from
        return Settled(run.expand_mapped(step, mapped, items))
    except Gone as gone:
        run.recompute(gone.steps, step)
        return None  # type: ignore[return-value]
    except WorkflowInvalid as error:
        return Settled(Failure(*(problem.at(run.plan.path(step)) for problem in error.problems)))


def items_of(run: Execution, source: Source) -> list[Source] | None:
    """The items of a settled list as sources; None if what is settled is none. Raises Gone."""
    final = run.final(source)
    if final.__class__ is list:
        return final
    given = value_of(run, final)
    if not isinstance(given, Sequence) or isinstance(given, str):
        return None
    return [Const(one) if kinds.has_content_identity(one) else Item(final, number) for number, one in enumerate(given)]
