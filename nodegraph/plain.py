"""A plain step in one go: values in memory go in, one number, bool or short text comes out.

What `calling`, `recording` and the run do for any node, each in its room, costs more than a small node itself; for the node that
needs little of it the same is done here, once. Whatever is not plain after all is left to them.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from nodegraph import memory, recording
from nodegraph.calling import Call
from nodegraph.debt import CHEAP
from nodegraph.entries import LONGEST_PLAIN, Entry, PlainEntry
from nodegraph.keys import identity
from nodegraph.leases import LONG
from nodegraph.shared import Traits
from nodegraph.states import RUNNING

if TYPE_CHECKING:
    from nodegraph.run import Execution

HUGE = 1 << 120
"""An int from here on is no small value."""
OTHERWISE: Any = object()
"""Nothing has been done: the step is not plain after all."""


def execute(run: Execution, step: int, traits: Traits) -> int | None:
    """Run a ready step of a plain node type. Returns the next step for the same lane, or OTHERWISE."""
    plan, shared, done = run.plan, run.shared, run.done
    if run.cancelled or not run.use_cache or run.outside or run.held or step in plan.checked or traits.long or shared.watched:
        return OTHERWISE
    inputs, parts = dict(plan.literals[step]), [*plan.parts[step]]
    for port, source in plan.sources[step].items():
        entry = done[source[0]] if source.__class__ is tuple else None
        if entry.__class__ is PlainEntry:
            value = entry.value
            ident = identity(value)
        elif isinstance(entry, Entry) and (values := entry.values) is not None:
            index = entry.ports.index(source[1])
            value, ident = values[index], entry.idents[index]
        else:
            return OTHERWISE
        inputs[port] = float(value) if value.__class__ is int and port in traits.floats else value
        parts.append(traits.heads[port] + len(ident).to_bytes(4, "little") + ident)
    key = traits.form.work_key(parts)
    if not shared.claim_at_once(key, run, step):
        return OTHERWISE
    if shared.cache.may_have(key):
        shared.release(key)
        return OTHERWISE
    return _call(run, step, traits, key, inputs)


def _call(run: Execution, step: int, traits: Traits, key: bytes, inputs: dict[str, Any]) -> int | None:
    """Call the node, under a claim on its key, and record what it gave."""
    run.state[step] = RUNNING
    begun = perf_counter()
    run.log.add_at(begun, "started", step)
    outcome: Any
    try:
        outcome = traits.function(**inputs)
    except BaseException as error:  # in a worker's thread nothing but the node's own code raises
        outcome = error.with_traceback(None) if memory.is_out_of_memory(error) else error
    seconds = perf_counter() - begun
    kind = outcome.__class__
    if kind is not traits.gives or (kind is int and not -HUGE < outcome < HUGE) or (kind is str and len(outcome) > LONGEST_PLAIN):
        call = Call(run, step, run.plan.types[step], traits, key, True, inputs)
        call.seconds = seconds
        return run.record(step, call, recording.keep(run, step, call, call.settled(outcome)))
    if seconds >= LONG:
        traits.seconds = seconds
    entry = PlainEntry(key, traits.ports, outcome, seconds)
    run.shared.cache.put_plain(entry, run.plan.keys[step])
    try:
        following = run.record_plain(step, entry, traits.lane, begun + seconds)
        if seconds > CHEAP and run.debt is not None:
            run.debt.add(step, entry)
    except Exception as error:  # a mistake of the engine must not hang the run
        run.break_off(step, error)
        return None
    run.shared.release(key)
    return following
