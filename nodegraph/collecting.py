"""What a run gives: outputs brought into memory and kept on disk, and the result."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nodegraph import keys, kinds
from nodegraph.entries import PLAIN, Entry
from nodegraph.inputs import smaller_behind, value_of
from nodegraph.job import Result
from nodegraph.sources import Item, Source
from nodegraph.states import DONE, SKIPPED

if TYPE_CHECKING:
    from nodegraph.execution import Execution


def collect_output(run: Execution, name: str, source: Source) -> None:
    """Bring a settled output into memory, and have it written to the disk tier. Raises Gone."""
    verdict, cause = run._verdict(source)
    if verdict == DONE:
        run.values[name] = kinds.apart(value_of(run, source))
        run.idents[name] = run.ident(source)
        if smaller := smaller_behind(run, source):
            run.smaller[name] = smaller
        if run.use_cache:
            _keep_on_disk(run, source)
        return
    final = run.final(source)
    if final.__class__ is list:
        run.partial[name] = {index: kinds.apart(value_of(run, one)) for index, one in enumerate(final) if run._verdict(one)[0] == DONE}
    if verdict == SKIPPED:
        run.skipped[name] = str(cause)


def _keep_on_disk(run: Execution, source: Source) -> None:
    while source.__class__ is tuple:
        step = source[0]
        done, plan_key = run.done[step], run.plan.keys[step]
        if done.__class__ in PLAIN and plan_key is not None and (found := run.shared.cache.linked(plan_key)):
            done = found[0]
        if isinstance(done, Entry):
            run.shared.cache.keep(done, plan_key, run.outside.get(step, ()))
        if done.__class__ is not dict:
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
    return Result(
        run.id,
        status,
        outputs,
        tuple(run.problems),
        run.skipped,
        run.partial,
        idents,
        list(run.files),
        seconds,
        run.provenance,
        run.smaller,
    )


def summary(value: Any) -> Any:
    """An output as JSON: plain values as they are, others in words."""
    if kinds.is_json(value):
        return value
    if isinstance(value, list):
        return [summary(one) for one in value]
    try:
        return kinds.in_words(value) if hasattr(value, "parts") else kinds.describe(value)
    except Exception:  # a value's own text is its pack's code, and must not keep a run from ending
        return type(value).__name__
