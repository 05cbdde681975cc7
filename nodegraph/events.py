"""What happens in a run, as data: the one source for progress bars, servers, logs and tests.

`planned` comes first with the total, then `started`, `progress`, `cached`, `finished`, `failed` and `skipped` with a
node's path, and `done` at the end.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

VERSION = 1
"""The version of the event format, sent as `v`."""

Kind = Literal["planned", "started", "progress", "cached", "finished", "failed", "skipped", "done"]


class Event(NamedTuple):
    """One thing that happened. `seq` counts within the run; `time` is seconds since the epoch; `node` is a path."""

    kind: Kind
    run: str
    seq: int
    time: float
    node: str = ""
    data: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        record: dict[str, Any] = {"event": self.kind, "v": VERSION, "run": self.run, "seq": self.seq, "time": self.time}
        if self.node:
            record["node"] = self.node
        if self.data:
            record.update(self.data)
        return record
