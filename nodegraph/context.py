"""What a running node may ask of the engine: `*, run: Run`. It is found by its type and is no part of any key."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nodegraph.handles import Handle
from nodegraph.spec import RunParameter

if TYPE_CHECKING:
    from nodegraph.values import Image

W = TypeVar("W")


class Files:
    """The files of a handle where they lie now: paths inside the model → paths on this machine."""

    __slots__ = ("_paths",)

    def __init__(self, paths: Mapping[str, Path]):
        self._paths = dict(paths)

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def __iter__(self) -> Any:
        return iter(sorted(self._paths))

    def path(self, name: str) -> Path:
        """The path of one file. Raises FileNotFoundError naming it."""
        if name not in self._paths:
            raise FileNotFoundError(f"the model has no file {name!r}; it has {sorted(self._paths)}")
        return self._paths[name]

    def json(self, name: str) -> Any:
        return json.loads(self.path(name).read_text(encoding="utf-8"))

    def folder(self, component: str) -> Path:
        """The folder of a component, for libraries that read whole folders (tokenizers)."""
        for name, path in sorted(self._paths.items()):
            if name.startswith(component + "/"):
                return path.parents[name.count("/") - component.count("/") - 1]
        raise FileNotFoundError(f"the model has no folder {component!r}; it has {sorted(self._paths)}")


class Run(RunParameter):
    """The running node's context. `Run()` is a plain one for calling a node directly, in a test say.

    `path`: the node's place in the run (`sample`, `upscale/model`). `token`: the same for a run and place however often it
    is resumed; effects are idempotent under it. `device`: `cpu`, `cuda:0`. `dtype`: what weights are to be in (`float32`).
    `smaller`: 0, or which of the smaller variants that it declares the node is to run, as memory is short (1 is the largest).
    `output`: the folder that effects write to, and make if it is not there. `metadata`: what belongs into a saved file (workflow,
    inputs, keys, versions).
    """

    path: str = ""
    id: str = ""
    token: str = ""
    device: str = "cpu"
    dtype: str = "float32"
    smaller: int = 0
    output: Path = Path("output")
    workflow: str = "workflow"

    def metadata(self) -> dict[str, Any]:
        """What a saved file tells of its making: no time, no host, no secrets."""
        return {}

    def progress(self, step: int, total: int, text: str = "", preview: Image | Callable[[], Image] | None = None) -> None:
        """Say how far the node is. Raises Cancelled if the run was cancelled, so call it once a step.

        `preview`: what the result looks like by now, or a function that makes it. That is called after the first step, the last one, and
        ten times a second at most between them: on a device each picture that is fetched waits for all work before it.
        """

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled if the run was cancelled: for loops that report no progress."""

    def use(self, handle: Handle, load: Callable[[Files, str, str], W]) -> AbstractContextManager[W]:
        """Borrow weights on the device: `with run.use(vae, load_vae) as module`.

        `load(files, device, dtype)` reads them when they are not resident; it is a module-level function, and with the
        handle the name of what is kept. While borrowed they stay; what is idle longest moves away when room is needed.
        """
        raise NotImplementedError("weights are lent by an engine: run the node in a workflow")

    def resumed(self) -> Any:
        """What `checkpoint` kept last of this very work in a run that was killed or cancelled; None to start from the beginning."""
        return None

    def checkpoint(self, state: Callable[[], Any]) -> None:
        """Offer to keep how far the node is: call it after each step of long work.

        Now and then `state()` is called. It gives JSON-like data and arrays, none of which is changed later, from which a call
        that gets it by `resumed` goes on to the same bytes.
        """

    def saved(self, path: Path) -> None:
        """Say that an effect wrote a file; it is listed in the result."""


__all__ = ["Files", "Run"]
