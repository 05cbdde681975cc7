"""What a running node sees of its run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.context import Files, Run
from nodegraph.errors import Cancelled
from nodegraph.handles import Handle
from nodegraph.secret import redact
from nodegraph.values import Image

if TYPE_CHECKING:
    from nodegraph.run import Execution


class NodeRun(Run):
    """The context of one call; see `nodegraph.context.Run`."""

    def __init__(self, run: Execution, step: int):
        self._run, self._step = run, step
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

    def saved(self, path: Path) -> None:
        with self._run.lock:
            self._run.files.append(Path(path))
