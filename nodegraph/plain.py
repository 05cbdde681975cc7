"""A plain step in one go: values in memory go in, one number, bool or short text comes out.

What `calling`, `recording` and the run do for any node, each in its room, costs more than a small node itself; for the node that
needs little of it the same is done here, once. Whatever is not plain after all is left to them.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from nodegraph import memory, recording
from nodegraph.calling import Call, beyond_bounds
from nodegraph.entries import CHEAP, LONGEST_PLAIN, PLAIN, Entry
from nodegraph.keys import identity
from nodegraph.shared import Traits
from nodegraph.states import RUNNING

if TYPE_CHECKING:
    from nodegraph.run import Execution

HUGE = 1 << 120
"""An int from here on is no small value."""
AT_ONCE = 50
"""Steps after which the worker goes back to its lane, which counts steps to know whether it is stuck."""


def execute(run: Execution, step: int) -> int | None:
    """Run a ready step, and those that become ready in its place, as long as they are plain. Returns the next one for the same lane:
    the given one if it is not plain after all, and nothing has been done."""
    plan, shared, done = run.plan, run.shared, run.done
    cache, all_traits, add = shared.cache, run.traits, run.log.add_at
    if not run.use_cache or shared.watched:
        return step
    try:
        for _ in range(AT_ONCE):
            traits, plan_key = all_traits[step], plan.keys[step]
            if not traits.quick or plan_key is None or run.cancelled or run.outside or run.held or step in plan.checked:
                break
            inputs, parts = dict(plan.literals[step]), [*plan.parts[step]]
            for port, source in plan.sources[step].items():
                value = done[source[0]] if source.__class__ is tuple else None
                if value.__class__ in PLAIN:
                    ident = identity(value)
                elif isinstance(value, Entry) and (values := value.values) is not None:
                    index = value.ports.index(source[1])
                    ident, value = value.idents[index], values[index]
                else:
                    return step
                if value.__class__ is int and port in traits.floats:
                    if not -HUGE < value < HUGE:
                        return step
                    value = float(value)
                inputs[port] = value
                parts.append(traits.heads[port] + len(ident).to_bytes(4, "little") + ident)
            if traits.bounded and beyond_bounds(run, step, traits, inputs):
                break
            key = traits.form.work_key(parts)
            if not shared.claim_at_once(key, run, step):
                break
            if cache.may_have(key):
                shared.release(key)
                break
            run.state[step] = RUNNING
            begun = perf_counter()
            add(begun, "started", step)
            outcome: Any
            try:
                outcome = traits.function(**inputs)
            except BaseException as error:  # in a worker's thread nothing but the node's own code raises
                outcome = error.with_traceback(None) if memory.is_out_of_memory(error) else error
            ended = perf_counter()
            if ended - begun >= CHEAP or outcome.__class__ is not traits.gives or _is_long(outcome):
                return _not_so_plain(run, step, traits, key, inputs, outcome, ended - begun)
            cache.put_plain(key, outcome, traits.ports, plan_key)
            following = run.record_plain(step, outcome, traits.lane, ended, ended - begun)
            shared.release(key)
            if following is None:
                return None
            step = following
    except Exception as error:  # a mistake of the engine must fail the step, never hang the run
        return run.give_up(step, None, error)
    return step


def _is_long(value: Any) -> bool:
    return not -HUGE < value < HUGE if value.__class__ is int else value.__class__ is str and len(value) > LONGEST_PLAIN


def _not_so_plain(
    run: Execution, step: int, traits: Traits, key: bytes, inputs: dict[str, Any], outcome: Any, seconds: float
) -> int | None:
    """Record, as for any node, what is no small value, or took long enough to be worth more than that."""
    call = Call(run, step, run.plan.types[step], traits, key, True, inputs)
    call.seconds = seconds
    return run.record(step, call, recording.keep(run, step, call, call.settled(outcome)))
