"""What went wrong in a node, in the words of its author, without the frames of the engine."""

from __future__ import annotations

import traceback
from dataclasses import replace
from pathlib import Path

from nodegraph.errors import Invalid, Problem, Problems
from nodegraph.literals import Refused
from nodegraph.secret import redact, redacted
from nodegraph.spec import NodeType

CANCELLED = object()
"""The outcome of a call that stopped because its run was cancelled."""


class Failure:
    """The outcome of a call that failed."""

    __slots__ = ("problems",)

    def __init__(self, *problems: Problem):
        self.problems = problems


def failed(path: str, used: NodeType, error: BaseException) -> list[Problem]:
    """What went wrong in a node, with the frames of its author's code, without the engine's and without any secret."""
    return [_without_secrets(problem) for problem in _told(path, used, error)]


def _without_secrets(problem: Problem) -> Problem:
    text, fix, detail = map(redact, (problem.text, problem.fix, problem.detail))
    return replace(problem, text=text, fix=fix, detail=detail, data=redacted(problem.data))


def _told(path: str, used: NodeType, error: BaseException) -> list[Problem]:
    if isinstance(error, Invalid):
        return [error.problem(path)]
    if isinstance(error, Refused):
        return [Problem(error.code, path, error.text, error.fix)]
    if isinstance(error, Problems) and error.problems:
        return [problem.at(path) if not problem.where else problem for problem in error.problems]
    text = f"{used.name!r} failed: {type(error).__name__}: {said(error)}".rstrip(": ")
    if isinstance(error, SystemExit):
        text = f"{used.name!r} tried to end the program"
    return [Problem("node-failed", path, text, detail=author_frames(error))]


def said(error: BaseException) -> str:
    """An exception's own text, which is the pack's code too: none where that fails."""
    try:
        return str(error)
    except Exception:
        return ""


def internal(path: str, error: Exception) -> Problem:
    """A mistake of the engine itself, with all of its frames."""
    frames = "".join(traceback.format_exception(error)).rstrip()
    said = traceback.format_exception_only(error)[-1].strip()
    return _without_secrets(Problem("internal", path, f"nodegraph made a mistake: {said}", "please report it", detail=frames))


def author_frames(error: BaseException) -> str:
    """The traceback below the engine: where in the pack, and in what it calls, it went wrong."""
    own = str(Path(__file__).parent)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_engine(frame.filename, own)]
    lines = [f"{frame.filename}:{frame.lineno} in {frame.name}: {(frame.line or '').strip()}" for frame in frames[-6:]]
    if error.__cause__ is not None:
        lines.append(f"caused by {type(error.__cause__).__name__}: {said(error.__cause__)}")
    return "\n".join(lines)


def _is_engine(file: str, own: str) -> bool:
    return (file.startswith(own) and "_packs" not in file) or file.startswith("<frozen importlib")
