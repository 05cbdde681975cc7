"""What check may know of the outside: files in the allowed roots, and models by name. Facts look through it too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nodegraph import types
from nodegraph.errors import did_you_mean
from nodegraph.literals import Pending, Refused, article
from nodegraph.models import ModelFolder
from nodegraph.spec import Port
from nodegraph.types import Type


class World:
    """Paths in workflow files stay inside of the workflow's own folder and the roots; typed ones are trusted."""

    def __init__(self, models: ModelFolder, roots: Iterable[Path]):
        self._models = models
        self.roots = [Path(root).resolve() for root in roots]

    def file(self, text: str, folder: Path | None, trusted: bool = False) -> Path:
        """The path of a file. Raises Refused when it is missing or outside of the roots."""
        if "\0" in text or not text:
            raise Refused("file-missing", f"{text!r} is no path", "give the path of a file")
        base = folder if folder is not None else Path.cwd()
        path = (base / Path(text).expanduser()).resolve() if trusted else (base / text).resolve()
        if not trusted and folder is not None and not any(root == path or root in path.parents for root in [base.resolve(), *self.roots]):
            raise Refused(
                "path-outside",
                f"{text!r} leads outside of the workflow's folder",
                "put the file beside the workflow, or allow its folder with --root",
            )
        try:
            if path.is_file():
                return path
            if path.is_dir():
                raise Refused("file-missing", f"{text!r} is a folder", "give the path of a file")
            near = did_you_mean(path.name, (one.name for one in path.parent.iterdir())) if path.parent.is_dir() else ""
        except OSError as error:
            raise Refused("file-missing", f"{text[:80]!r} cannot be looked at: {error.strerror}", "give the path of a file") from error
        raise Refused(
            "file-missing",
            f"there is no file {text!r}",
            near or f"paths are relative to {'the workflow' if not trusted else 'the working folder'}",
        )

    def model(self, name: str, kind: str) -> str:
        return self._models.model(name, kind)

    def resolve(self, kind: Type, port: Port, given: Any, folder: Path | None, checker: Any, trusted: bool = False) -> Any:
        """What a literal of a file, model or workflow port means. Raises Refused."""
        if kind is types.WORKFLOW:
            from nodegraph.workflow import Workflow

            if isinstance(given, dict):
                return Workflow.of(given)
            return checker.template(Workflow.load(self.file(given, folder, trusted))).workflow
        if not isinstance(given, str):
            raise Refused(
                "wrong-type", f"{port.name!r} takes {article(kind)}, named by text, but the given value is {given!r}", "write its name"
            )
        if kind is types.MODEL:
            return Pending("model", self.model(given, port.model))
        return Pending("file", given, str(self.file(given, folder, trusted)))

    # -- the protocol of facts -------------------------------------------------------------------------------------

    def json(self, model: str, path: str) -> Mapping[str, Any] | None:
        return self._models.json(model, path)

    def header(self, model: str, path: str = "") -> Mapping[str, Any] | None:
        return self._models.header(model, path)

    def files(self, model: str) -> list[str]:
        return self._models.files(model)
