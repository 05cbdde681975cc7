"""Plain steps in one go: values in memory go in, one number, bool or short text comes out.

What `calling`, `recording` and the run do for any node, each in its room, costs more than a small node itself; for the node that
needs little of it the same is done here, once. Whatever is not plain after all is left to them.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from nodegraph import memory, recording
from nodegraph.calling import Call, beyond_bounds
from nodegraph.entries import CHEAP, LONGEST_PLAIN, PLAIN, Entry
from nodegraph.inputs import list_ident
from nodegraph.keys import identity
from nodegraph.sources import LENGTHS
from nodegraph.states import RUNNING

if TYPE_CHECKING:
    from nodegraph.execution import Execution

HUGE = 1 << 120
"""An int from here on is no small value."""
AT_ONCE = 50
"""Steps after which the worker goes back to its lane, which counts steps to know whether it is stuck."""


def execute(run: Execution, step: int) -> int | None:
    """Run a ready step, and those that become ready in its place, as long as they are plain. Returns the next one for the same lane:
    the given one if it is not plain after all, and nothing has been done."""
    compute, all_traits = run.compute, run.traits
    try:
        for _ in range(AT_ONCE):
            if run.cancelled or (value := compute(step)) is None:
                return step
            if value.__class__ not in PLAIN:
                return record_call(run, step, value)
            following = run.record_plain(step, value, all_traits[step].lane)
            if following is None:
                return None
            step = following
    except Exception as error:  # a mistake of the engine must fail the step, never hang the run
        return run.give_up(step, None, error)
    return step


def record_call(run: Execution, step: int, done: tuple[Call, Any]) -> int | None:
    """Record, as for any node, a call that gave no small value, or took long enough to be worth more than that."""
    call, outcome = done
    return run.record(step, call, recording.keep(run, step, call, call.settled(outcome)))


def computer(run: Execution) -> Callable[[int], Any]:
    """What computes the plain steps of a run: from a step it makes the value, which is in the cache by then. It gives None for a step
    that is not plain after all, of which nothing has been done; a call and its outcome when the node was called, but gave something
    else."""
    plan, shared, done, state, all_traits = run.plan, run.shared, run.done, run.state, run.traits
    sources, literals, parts_of, plan_keys, checked = plan.sources, plan.literals, plan.parts, plan.keys, plan.checked
    claims, waiters, may_have, put = shared.claims, shared.waiters, shared.cache.may_have, shared.cache.put_plain
    outside, held, never = run.outside, run.held, shared.debug or not run.use_cache
    add = run.log.add_at

    def compute(step: int) -> Any:
        plan_key, traits = plan_keys[step], all_traits[step]
        if not traits.quick or plan_key is None or outside or held or step in checked or shared.profile or never:
            return None
        inputs, parts = dict(literals[step]), [*parts_of[step]]
        for port, source in sources[step].items():
            value: Any = None
            if source.__class__ is tuple:
                value = done[source[0]]
            elif source.__class__ is list and port not in traits.floats:
                value = [done[one[0]] if one.__class__ is tuple else None for one in source]
            if value.__class__ in PLAIN:
                ident = identity(value)
            elif value.__class__ is list:
                if not PLAIN.issuperset(map(type, value)):
                    return None
                ident = list_ident(list(map(identity, value)))
            elif isinstance(value, Entry) and (values := value.values) is not None:
                index = value.ports.index(source[1])
                ident, value = value.idents[index], values[index]
                if len(ident) >= len(LENGTHS):
                    return None
            else:
                return None
            if value.__class__ is int and port in traits.floats:
                if not -HUGE < value < HUGE:
                    return None
                value = float(value)
            inputs[port] = value
            parts.append(traits.heads[port] + LENGTHS[len(ident)] + ident)
        if traits.bounded and beyond_bounds(run, step, traits, inputs):
            return None
        key = traits.form.work_key(parts)
        claim = run, step
        if claims.setdefault(key, claim) is not claim:
            return None
        if may_have(key):
            shared.release(key)
            return None
        state[step] = RUNNING
        begun = perf_counter()
        add(begun, "started", step)
        outcome: Any
        try:
            outcome = traits.function(**inputs)
        except BaseException as error:  # in a worker's thread nothing but the node's own code raises
            outcome = error.with_traceback(None) if memory.is_out_of_memory(error) else error
        ended = perf_counter()
        if ended - begun >= CHEAP or outcome.__class__ is not traits.gives or _is_long(outcome):
            call = Call(run, step, plan.types[step], traits, key, True, inputs)
            call.seconds = ended - begun
            return call, outcome
        put(key, outcome, traits.ports, plan_key)
        add(ended, "finished", step, ended - begun)
        del claims[key]
        if waiters:
            shared.tell_waiters(key)
        return outcome

    return compute


def nothing(step: int) -> Any:
    """Computes nothing: what a run has left when it is done."""


def _is_long(value: Any) -> bool:
    return not -HUGE < value < HUGE if value.__class__ is int else value.__class__ is str and len(value) > LONGEST_PLAIN
