"""What was asked of the outside, and what it said: what was made of its answers holds as long as it would say the same again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.handles import is_model_file
from nodegraph.literals import Refused

if TYPE_CHECKING:
    from nodegraph.check import World

Question = tuple[str, tuple[Any, ...]]
"""A method of the world, and its arguments."""
Said = dict[Question, Any]
"""Questions with their answers."""


class Witness:
    """A world that stands still, and notes what is asked of it, until it is told to `look_up`."""

    def __init__(self, world: World):
        self._world = world
        self._said: Said = {}
        self._asked: list[Question] = []

    def _ask(self, method: str, *arguments: Any) -> Any:
        question = method, arguments
        self._asked.append(question)
        if question not in self._said:
            self._said[question] = getattr(self._world, method)(*arguments)
        return self._said[question]

    def file(self, text: str, folder: Path | None) -> Path:
        return self._ask("file", text, folder)

    def model(self, name: str, kind: str) -> str:
        return self._ask("model", name, kind)

    def json(self, model: str, path: str) -> Mapping[str, Any] | None:
        return self._part("json", model, path)

    def header(self, model: str, path: str = "") -> Mapping[str, Any] | None:
        return self._part("header", model, path)

    def files(self, model: str) -> list[str]:
        seen = self._ask("sight", model)
        return list(seen[1]) if seen else []

    def seen(self, model: str) -> Any:
        """The model as it was seen at the last look, if it was looked at."""
        return self._said.get(("sight", (model,)))

    def _part(self, method: str, model: str, path: str) -> Any:
        """What a file of a model says. It need not be asked again while the files of the model are as they were: one that came to be
        would be among them. What would be and is not, such as a file behind too many links, is none."""
        seen = self._ask("sight", model)
        question = method, (model, path)
        listed = bool(seen) and path in seen[1]
        none = bool(seen) and not listed and is_model_file(path)
        if question not in self._said:
            self._said[question] = None if none else getattr(self._world, method)(model, path)
        if not (listed or none):
            self._asked.append(question)
        return self._said[question]

    def mark(self) -> int:
        """A moment, for `since`."""
        return len(self._asked)

    def since(self, mark: int) -> Said:
        """What was asked from a moment on, with the answers."""
        return {question: self._said[question] for question in self._asked[mark:] if question in self._said}

    def files_asked(self) -> list[Path]:
        """The files that were asked for since the last look, there or not."""
        found = []
        for method, arguments in self._asked:
            if method == "file":
                text, folder = arguments
                with suppress(OSError, ValueError, RuntimeError):  # what is no path
                    found.append(Path(folder or "", text).resolve())
        return found

    def says_again(self, said: Said) -> bool:
        """Whether the answers are still the same. Whoever relies on them has asked them too."""
        try:
            return all(self._ask(method, *arguments) == answer for (method, arguments), answer in said.items())
        except Refused:
            return False

    def look_up(self) -> None:
        """See the outside as it is now."""
        self._said, self._asked = {}, []
