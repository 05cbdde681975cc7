"""What a running node sees of its run."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.checkpoints import EVERY
from nodegraph.context import Files, Run
from nodegraph.errors import Cancelled
from nodegraph.handles import Handle
from nodegraph.secret import redact
from nodegraph.values import Image

if TYPE_CHECKING:
    from nodegraph.run import Execution


class NodeRun(Run):
    """The context of one call; see `nodegraph.context.Run`."""

    def __init__(self, run: Execution, step: int, key: bytes | None):
        self._run, self._step, self._key = run, step, key
        self._checkpoints = run.shared.checkpoints if run.use_cache and key is not None else None
        self._kept = time.monotonic()
        self.path = run.plan.path(step)
        self.id, self.token = run.id, f"{run.id}/{self.path}"
        self.device, self.dtype = run.shared.device, run.shared.dtype
        self.output, self.workflow = run.output, run.plan.scopes[step].workflow or run.workflow

    def metadata(self) -> dict[str, Any]:
        return {**self._run.provenance(), "node": self.path}

    def progress(self, step: int, total: int, text: str = "", preview: Image | None = None) -> None:
        data: dict[str, Any] = {"step": step, "total": total}
        if text:
            data["text"] = redact(text)
        if preview is not None:
            data["preview"] = preview
        self._run.log.progress(self._step, data)
        self.raise_if_cancelled()

    def raise_if_cancelled(self) -> None:
        if self._run.cancelled:
            raise Cancelled("the run was cancelled")

    def use(self, handle: Handle, load: Callable[[Files, str, str], Any]) -> AbstractContextManager[Any]:
        shared = self._run.shared
        return shared.resident.use(handle, load, shared.device, shared.dtype)

    def resumed(self) -> Any:
        state = self._checkpoints.load(self._key) if self._checkpoints and self._key else None
        if state is not None:
            self._run.checkpointed.add(self._step)
        return state

    def checkpoint(self, state: Callable[[], Any]) -> None:
        if self._checkpoints and self._key and time.monotonic() - self._kept >= EVERY:
            self._checkpoints.save(self._key, state())
            self._run.checkpointed.add(self._step)
            self._kept = time.monotonic()

    def saved(self, path: Path) -> None:
        with self._run.lock:
            self._run.files.append(Path(path))
