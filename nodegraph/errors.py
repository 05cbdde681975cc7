"""What can go wrong, as data first and text second.

A `Problem` is one thing a person can mend. It has a stable code, a path in the words of the author, what was expected,
what was given, and, where one is true, a fix. Exceptions carry problems; they never replace them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake or failure.

    `where` is a path inside the file (`nodes.decode.from.latent`) or of a node in a run (`decode`). `line` and `column`
    are 1-based, 0 when the source has no text. `detail` holds lines of context, such as the frames of a pack's error.
    """

    code: str
    where: str
    text: str
    fix: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    detail: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    def place(self) -> str:
        """`file:line:column: path`, as far as known."""
        spot = self.file
        if spot and self.line:
            spot += f":{self.line}:{self.column}"
        return ": ".join(part for part in (spot, self.where) if part)

    def render(self) -> str:
        lines = [f"error[{self.code}] {self.text}"]
        if place := self.place():
            lines.append(f"  at  {place}")
        if self.fix:
            lines.append(f"  fix {self.fix}")
        lines += [f"      {line}" for line in self.detail.splitlines()]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The shape of `check --json`: code, message, file, line, column, path, fix, and the problem's own data."""
        record: dict[str, Any] = {
            "code": self.code,
            "message": self.text,
            "file": self.file or None,
            "line": self.line or None,
            "column": self.column or None,
            "path": self.where,
            "fix": self.fix or None,
        }
        if self.detail:
            record["detail"] = self.detail
        return {**{key: value for key, value in self.data.items() if key not in record}, **record}

    def at(self, where: str, **changes: Any) -> Problem:
        """The same problem at another path."""
        return replace(self, where=where, **changes)


def render(problems: Iterable[Problem]) -> str:
    """All problems as text, with a count at the end."""
    listed = list(problems)
    count = f"{len(listed)} problem" + ("" if len(listed) == 1 else "s")
    return "\n".join([*(problem.render() for problem in listed), count])


class NodegraphError(Exception):
    """The root of every error that nodegraph raises on purpose."""


class Problems(NodegraphError):
    """One or more problems. `problems` is never empty."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = tuple(problems)
        super().__init__(render(self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        """An exception is pickled with its text, of which no problems can be made: a pool of processes broke where it came back."""
        return type(self), (self.problems,), self.__dict__


class WorkflowInvalid(Problems):
    """The file, its inputs or the call is wrong. Nothing has run."""


class PackInvalid(Problems):
    """A pack, or one of its nodes, cannot be registered."""


class Invalid(NodegraphError):
    """Raised by a node's own code: an input is of the right type, but cannot be worked on.

    >>> raise Invalid("the crop lies outside of the image", fix="use x below 512", port="x")
    """

    def __init__(self, text: str, *, fix: str = "", port: str = "", code: str = "invalid-value", **data: Any):
        super().__init__(text)
        self.text, self.fix, self.port, self.code, self.data = text, fix, port, code, data

    def problem(self, where: str) -> Problem:
        return Problem(self.code, f"{where}.{self.port}" if self.port else where, self.text, self.fix, data=self.data)


class Cancelled(NodegraphError):
    """The run was cancelled. Raised inside nodes by `run.progress` and `run.raise_if_cancelled`."""


class OutOfMemory(NodegraphError):
    """Memory is short. Raised by a node or an allocator; the engine makes room and calls the node again."""


class RunFailed(Problems):
    """At least one node failed. `result` has everything that finished all the same."""

    def __init__(self, problems: Iterable[Problem], result: Any = None):
        super().__init__(problems)
        self.result = result


_MAX_WORD, _MAX_KNOWN = 100, 2000
"""A longer word is near to nothing, and of more names only those with the same first letter are looked at: comparing is slow."""


def did_you_mean(word: str, known: Iterable[str], written: Mapping[str, str] | None = None) -> str:
    """`did you mean 'x'?`, or nothing when no known name is near. `written`: how names are to be written that are more than a name."""
    return _question((written or {}).get(name, name) for name in _near(word, known))


def did_you_mean_file(name: str, known: Iterable[str]) -> str:
    """Like `did_you_mean`, for files of the same kind: what stands before the suffix is compared. One that differs in capitals alone
    is the one that was meant."""
    known = list(known)
    if same := [one for one in known if one.casefold() == name.casefold()]:
        return _question(same[:3])
    stem, dot, suffix = name.rpartition(".")
    if not dot:
        return did_you_mean(name, known)
    end = dot + suffix
    return _question(one + end for one in _near(stem, (one.removesuffix(end) for one in known if one.endswith(end))))


def _near(word: str, known: Iterable[str]) -> list[str]:
    import difflib

    names = [name for name in known if abs(len(name) - len(word)) <= len(word)] if len(word) <= _MAX_WORD else []
    if len(names) > _MAX_KNOWN:
        names = [name for name in names if name[:1] == word[:1]][:_MAX_KNOWN]
    return difflib.get_close_matches(word, names, n=3, cutoff=0.6)


def _question(near: Iterable[str]) -> str:
    said = " or ".join(map(repr, near))
    return f"did you mean {said}?" if said else ""


def listing(names: Iterable[str], limit: int = 8) -> str:
    """`'a', 'b', … (12 in all)`: a bounded list of names for a message."""
    quoted = [repr(name) for name in names]
    if len(quoted) <= limit:
        return ", ".join(quoted)
    return f"{', '.join(quoted[:limit])}, … ({len(quoted)} in all)"
