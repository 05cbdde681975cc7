"""The mutation guard of debug runs: finds a node that changes its inputs in place, by their digests before and after a call.

Tensor version counters are absent under inference mode and blind to numpy aliases; bytes are not. Each call works on copies, so that
what is changed is no other node's input, which would be blamed as well, nor the cache's.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from nodegraph import arrays, kinds
from nodegraph.context import Run
from nodegraph.errors import Problem, listing
from nodegraph.failures import Failure
from nodegraph.outcomes import Lazy


def own(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs for one call alone: what can be changed in place is copied. What has no `parts` is shared, as it has no digest."""
    return {port: _copied_lazy(value) if isinstance(value, Lazy) else _copied(value) for port, value in inputs.items()}


def _copied_lazy(lazy: Lazy[Any]) -> Lazy[Any]:
    return Lazy(lazy.port, _copied(lazy.value), True, lazy.skipped) if lazy.ready else lazy


def _copied(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_copied(item) for item in value]
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if arrays.is_array(value):
        return arrays.copied(value)
    if hasattr(value, "parts") and not isinstance(value, type):
        try:
            meta, named = value.parts()
            return type(value).from_parts(copy.deepcopy(meta), {name: arrays.copied(array) for name, array in named.items()})
        except Exception:  # a pack's class that cannot be made again is watched as it is
            return value
    return value


def digests(inputs: Mapping[str, Any]) -> dict[str, bytes]:
    """The content of each input; what has none, as a run's context, is left out."""
    found = {}
    for port, value in inputs.items():
        if isinstance(value, Lazy):
            value = value.value if value.ready and not value.skipped else None
        if isinstance(value, Run):
            continue
        try:
            found[port] = kinds.content(list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else value)
        except TypeError:
            continue
    return found


def judged(path: str, name: str, before: Mapping[str, bytes], inputs: Mapping[str, Any], outcome: Any) -> Any:
    """The outcome of a call, or the failure that it has changed an input."""
    after = digests(inputs) if before else {}
    changed = [port for port in before if after.get(port) != before[port]]
    if not changed:
        return outcome
    text = f"{name!r} changed its input {listing(changed)} in place: inputs belong to other nodes and to the cache too"
    return Failure(Problem("input-changed", path, text, f"work on a copy: {changed[0]} = {changed[0]}.clone(), or numpy.array(…)"))
