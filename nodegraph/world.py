"""What check may know of the outside: files in the allowed roots, and models by name. Facts look through it too."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph import looks, types
from nodegraph.errors import did_you_mean_file
from nodegraph.literals import Pending, Refused, article, described
from nodegraph.models import ModelFolder, Sight
from nodegraph.spec import Port
from nodegraph.types import Type

if TYPE_CHECKING:
    from nodegraph.template import Template
    from nodegraph.workflow import Workflow


class World:
    """Paths in workflow files stay inside of the workflow's own folder and the roots; typed ones are trusted."""

    def __init__(self, models: ModelFolder, roots: Iterable[Path]):
        self._models = models
        self.roots = [os.path.realpath(root) for root in roots]

    def file(self, text: str, folder: Path | None, trusted: bool = False) -> Path:
        """The path of a file. Raises Refused when it is missing or outside of the roots."""
        trusted = trusted or folder is None
        base = folder if folder is not None else Path.cwd()
        if not text or "\0" in text:
            raise Refused("file-missing", f"{described(text)} is no path", "give the path of a file")
        try:
            name = os.path.realpath(base / (Path(text).expanduser() if trusted else text))
            home = text.startswith("~") and not looks.is_file(name)  # which a workflow does not look up: it means one for each person
            if not trusted and (home or not self._inside(name, base)):
                fix = "put the file beside the workflow, or allow its folder with --root"
                fix = "write the folder out in place of ~, and allow it with --root" if home else fix
                raise Refused("path-outside", f"{described(text)} leads outside of the workflow's folder", fix)
            path = Path(name)
            if looks.is_file(name):
                return path
            if path.is_dir():
                raise Refused("file-missing", f"{described(text)} is a folder", "give the path of a file")
            near = did_you_mean_file(path.name, (one.name for one in path.parent.iterdir())) if path.parent.is_dir() else ""
        except (OSError, RuntimeError) as error:  # a name too long, a circle of links, a home that is not known
            reason = getattr(error, "strerror", None) or str(error)
            raise Refused("file-missing", f"{described(text)} cannot be looked at: {reason}", "give the path of a file") from error
        start = "the working folder" if trusted else "the workflow"
        if not trusted and not text.isprintable():
            near = near or "write / between the names of folders: JSON reads \\n as a line break and \\t as a tab"
        if "\\" in text and os.sep == "/":
            near = near or f"write / between the names of folders: {text.replace(chr(92), '/')!r}"
        raise Refused("file-missing", f"there is no file {described(text)}", near or f"paths are relative to {start}")

    def _inside(self, name: str, base: Path) -> bool:
        return any(_lies_in(name, folder) for folder in (str(base), *self.roots)) or _lies_in(name, os.path.realpath(base))

    def model(self, name: str, kind: str) -> str:
        return self._models.model(name, kind)

    def resolve(
        self, kind: Type, port: Port, given: Any, folder: Path | None, checked: Callable[[Workflow], Template], trusted: bool = False
    ) -> Any:
        """What a literal of a file, model or workflow port means; `checked` compiles the latter. Raises Refused."""
        if kind is types.WORKFLOW:
            from nodegraph.workflow import Workflow

            if isinstance(given, dict):
                made = Workflow.of(given)
                if not trusted:  # it stands in a file, and its paths start where those of that file do
                    made._place(None, "", folder, ())
                return made
            if isinstance(given, str):
                return checked(Workflow.load(self.file(given, folder, trusted))).workflow
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
        return list(self._models.files(model))

    def sight(self, model: str) -> Sight | None:
        return self._models.sight(model)


def _lies_in(name: str, folder: str) -> bool:
    """Whether a path is that of a folder, or of something below it."""
    return name == folder or name.startswith(folder if folder.endswith(os.sep) else folder + os.sep)
