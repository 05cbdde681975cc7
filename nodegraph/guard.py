"""The mutation guard of debug runs: finds a node that changes its inputs in place, by their digests before and after a call.

Tensor version counters are absent under inference mode and blind to numpy aliases; bytes are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nodegraph import kinds
from nodegraph.context import Run
from nodegraph.errors import Problem, listing
from nodegraph.failures import Failure
from nodegraph.outcomes import Lazy


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
