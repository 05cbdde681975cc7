"""Out of memory: which errors say so, and the ladder that a call climbs before it fails.

Results that lie on the device go to the host; weights that nobody uses go to the host or altogether; the call is made again after
each. Then the node's smaller variants are tried, the largest first. The last rung is a Problem that accounts for what held what.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from nodegraph import arrays, heap
from nodegraph.errors import OutOfMemory, Problem
from nodegraph.failures import CANCELLED, Failure, said
from nodegraph.secret import redact

if TYPE_CHECKING:
    from nodegraph.calling import Call
    from nodegraph.entries import Entry

log = logging.getLogger("nodegraph.memory")
_WORDS = (
    *("out of memory", "out of device memory", "not enough memory", "can't allocate memory", "cannot allocate memory"),
    *("alloc failed", "allocation failed"),  # the libraries of CUDA: CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_…_ALLOCATION_FAILED
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, says that memory is short: OutOfMemory, MemoryError, and what torch raises."""
    if isinstance(error, OutOfMemory | MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, RuntimeError) and any(word in said(error).lower().replace("_", " ") for word in _WORDS):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


def without_frames(error: BaseException) -> BaseException:
    """The error, no longer holding the frames that it and those it came of passed through: what is in them could not be freed."""
    behind, seen = [error], set()
    while behind:
        one = behind.pop()
        if id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            behind += [came_of for came_of in (one.__cause__, one.__context__) if came_of is not None]
    return error


def climb(call: Call, reason: str) -> Any:
    """The outcome of a call that has run out of memory once, with more and more room."""
    reasons = [reason]
    again = not (call.used.stateful or call.used.effect)  # what the first attempt has done to the world would be done twice
    for what, variant in _rungs(call):
        if call.run_.cancelled:
            return CANCELLED
        if not again:
            continue
        log.info("%s is out of memory: %s", call.path, what)
        call.variant = variant
        if variant and (known := _known(call)) is not None:
            return known
        _release(call.run_.shared.device)
        try:
            return call.attempt()
        except BaseException as error:
            if not is_out_of_memory(error):
                return call.raised(error)
            reasons.append(said(error))
        # out of the handler, so that the frames of the failed attempt, and what they hold, are gone
    return account(call, reasons[-1], " with all that is idle moved away")


def _rungs(call: Call) -> Iterator[tuple[str, int]]:
    """Make room, step by step: what was done, and the variant to try."""
    shared = call.run_.shared
    steps: list[tuple[str, Callable[[], int]]] = [
        ("cached results leave the device", shared.cache.leave_device),
        ("idle weights leave the device", shared.resident.rest),
        ("idle weights are let go", shared.resident.clear),
        ("what nothing refers to any more is collected", lambda: _collect(shared.device)),
    ]
    for what, free in steps:
        if freed := free():
            yield f"{what} ({freed >> 20} MiB)", 0
    for variant in range(1, call.used.smaller + 1):
        yield f"smaller variant {variant} of {call.used.smaller}", variant


def _known(call: Call) -> Entry | None:
    """The result of the smaller variant at hand, if an earlier run has had to make it."""
    run, key = call.run_, call.result_key
    entry = run.shared.cache.get(key) if key is not None and run.use_cache else None
    return entry if entry is not None and entry.kind == "values" and run.shared.cache.load(entry) is not None else None


def _collect(device: str) -> int:
    """Free what lies in circles and is old, which `_release` leaves. Returns the bytes freed on the device."""
    if before := arrays.in_use(device):
        gc.collect()
    return before - arrays.in_use(device)


def _release(device: str) -> None:
    """Give unused memory back to the device and the system."""
    gc.collect(1)  # what the failed attempt left in circles is young; walking through everything would take long
    arrays.release(device)
    heap.give_back()


def account(call: Call, reason: str, tried: str = "") -> Failure:
    """The failure of a call that is out of memory, with what holds what."""
    shared, node = call.run_.shared, call.used.name
    _release(shared.device)
    held = {"weights": shared.resident.held(), "results on the device": shared.cache.device_used, "results in memory": shared.cache.used}
    told = ", ".join(f"{what} {nbytes / (1 << 20):.0f} MiB" for what, nbytes in held.items())
    fix = "use a smaller size or batch, or a smaller model" + ("" if shared.device == "cpu" else " or dtype, or --device cpu")
    told_why = redact(reason).strip() or "no reason given"
    text = f"{node!r} ran out of memory on {shared.device}{tried}: {told_why}"
    return Failure(Problem("out-of-memory", call.path, f"{text} (still held: {told})", fix, data={"held": held}))
