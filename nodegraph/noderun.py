"""What a running node sees of its run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph import keys
from nodegraph.checkpoints import EVERY, Kept
from nodegraph.context import Files, Run
from nodegraph.errors import Cancelled
from nodegraph.handles import Handle
from nodegraph.secret import redact
from nodegraph.values import Image

if TYPE_CHECKING:
    from nodegraph.execution import Execution

PREVIEW = 0.1
"""Seconds between the previews that are made of a step."""


class NodeRun(Run):
    """The context of one call; see `nodegraph.context.Run`."""

    def __init__(self, run: Execution, step: int, key: bytes | None):
        self._run, self._step, self._key = run, step, key
        self._checkpoints = run.shared.checkpoints if run.use_cache and key is not None else None
        self._begun = time.monotonic()
        self._due = self._begun + EVERY
        self._preview_due = self._begun
        self.spent = 0.0  # seconds of the calls that this one goes on from
        self.path = run.plan.path(step)
        self.id, self.token = run.id, f"{run.id}/{self.path}"
        self.device, self.dtype = run.shared.device, run.shared.dtype
        self.output, self.workflow = run.output, run.plan.scopes[step].workflow or run.workflow

    def metadata(self) -> dict[str, Any]:
        from nodegraph.inputs import smaller_behind  # which imports this module

        smaller: dict[str, int] = {}
        for source in self._run.plan.sources[self._step].values():
            smaller.update(smaller_behind(self._run, source))
        told = {**self._run.provenance(), "node": self.path}
        return {**told, "smaller": smaller} if smaller else told

    def progress(self, step: int, total: int, text: str = "", preview: Image | Callable[[], Image] | None = None) -> None:
        data: dict[str, Any] = {"step": step, "total": total}
        if text:
            data["text"] = redact(text)
        if callable(preview):
            now = time.monotonic()
            due = now >= self._preview_due or step == total
            self._preview_due = now + PREVIEW if due else self._preview_due
            preview = preview() if due else None
        if preview is not None:
            data["preview"] = preview
        self._run.log.progress(self._step, data)
        self.raise_if_cancelled()

    def raise_if_cancelled(self) -> None:
        if self._run.cancelled:
            raise Cancelled("the run was cancelled")

    @contextmanager
    def use(self, handle: Handle, load: Callable[[Files, str, str], Any]) -> Iterator[Any]:
        shared = self._run.shared
        self.raise_if_cancelled()
        with shared.resident.use(handle, load, shared.device, shared.dtype) as weights:
            self.raise_if_cancelled()  # loading may have taken long
            yield weights

    def resumed(self) -> Any:
        kept = self._checkpoints.load(self._checkpoint_key) if self._checkpoints else None
        if not isinstance(kept, dict) or not {"seconds", "state"} <= set(kept):
            return None
        self.spent = kept["seconds"]
        self._kept_checkpoints().resumed = True
        return kept["state"]

    def checkpoint(self, state: Callable[[], Any]) -> None:
        if self._checkpoints is None or time.monotonic() < self._due:
            return
        spent = self.spent + time.monotonic() - self._begun
        self._kept_checkpoints()
        self._due = self._checkpoints.save(self._checkpoint_key, {"seconds": spent, "state": state()}) + time.monotonic()

    @property
    def _checkpoint_key(self) -> bytes:
        """Each variant of the work has checkpoints of its own."""
        return keys.digest(b"checkpoint", self._key or b"", bytes([self.smaller]))

    def _kept_checkpoints(self) -> Kept:
        """The run's account of this step's checkpoints, with the one at hand."""
        kept = self._run.checkpointed.setdefault(self._step, Kept())
        kept.keys.add(self._checkpoint_key)
        return kept

    def saved(self, path: Path) -> None:
        with self._run.lock:
            self._run.files.append(Path(path))
