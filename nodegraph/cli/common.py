"""What commands share: finding the workflow, opening an engine, printing tables and JSON."""

from __future__ import annotations

import codecs
import json
import math
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph import kinds, metadata
from nodegraph.cli.printing import tell
from nodegraph.errors import Problem, Problems, RunFailed, WorkflowInvalid, did_you_mean
from nodegraph.settings import builtin_workflows

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.job import Result

SETTINGS = ("packs", "models", "cache", "output", "device", "dtype", "threads", "memory", "disk", "roots", "strict", "debug")
"""The flags that are settings."""


@contextmanager
def engine(arguments: Namespace) -> Iterator[Engine]:
    """An engine as the flags, and behind them all other settings, say. Raises SettingsInvalid."""
    from nodegraph.engine import Engine

    flags = {name: value for name in SETTINGS if (value := getattr(arguments, name, None)) is not None}
    with Engine(**flags) as opened:
        yield opened


def find_workflow(name: str) -> Path:
    """The file that a person means: a path, or the name of a built-in workflow. Raises WorkflowInvalid."""
    path = Path(name)
    try:
        if found := _workflow_at(path):
            if metadata.is_saved(found):
                text, fix = f"{name!r} is a picture or a sound, not a workflow", f"to make it again: nodegraph replay {name}"
                raise WorkflowInvalid([Problem("not-text", "", text, fix, name)])
            return found
    except OSError as error:  # a name that is too long, or a folder that may not be looked into
        text, fix = f"cannot read {name!r}: {error.strerror}", "give the path of a workflow file"
        raise WorkflowInvalid([Problem("file-missing", "", text, fix)]) from None
    if path.is_dir():
        raise WorkflowInvalid([Problem("file-missing", "", f"{name!r} is a folder", "give a workflow file in it", name)])
    near = {one.name: str(one) for one in path.parent.glob("*.json") if one.is_file()} if path.parent.is_dir() else {}
    built_in = [one.stem for one in builtin_workflows().glob("*.json")]
    fix = did_you_mean(path.name, dict.fromkeys([*near, *built_in]), near) or "give the path of a workflow file"
    raise WorkflowInvalid([Problem("file-missing", "", f"there is no workflow {name!r}", fix)])


def _workflow_at(path: Path) -> Path | None:
    """The file of a path, with `.json` if that is left away, here or among those that are built in. Raises OSError."""
    if path.exists() and not path.is_dir():
        return path
    if path.is_absolute() or ".." in path.parts:
        return None
    candidates = (folder / named for folder in (Path(), builtin_workflows()) for named in (path, Path(f"{path}.json")))
    return next((one for one in candidates if one.is_file()), None)


def save_outputs(result: Result, folder: Path, name: str) -> dict[str, list[Path]]:
    """Write the outputs of a run that are pictures, sound and so on; see `nodegraph.output`. Raises RunFailed when that cannot be."""
    from nodegraph import output

    try:
        return output.save_outputs(result, folder, name)
    except OSError as error:
        text = f"the outputs cannot be written into {shown_path(folder)!r}: {error.strerror or error}"
        raise RunFailed(
            [Problem("not-written", "--output", text, "make room there, or name another folder with --output")], result
        ) from None


@contextmanager
def written(path: str | Path, flag: str, result: Result | None = None) -> Iterator[None]:
    """Turn why a file that a flag names cannot be written into a Problem. Raises WorkflowInvalid, or RunFailed after a run."""
    try:
        yield
    except BrokenPipeError:
        raise  # it is stdout by another name, and its reader has gone
    except OSError as error:
        text, fix = f"cannot write {str(path)!r}: {error.strerror or error}", "make room there, or name a file in a folder that is there"
        problems = [Problem("not-written", flag, text, fix)]
        raise (RunFailed(problems, result) if result else WorkflowInvalid(problems)) from None


# -- printing ----------------------------------------------------------------------------------------------------------


def say(arguments: Namespace, text: str) -> None:
    """Something for a person to know, that is no result."""
    if not arguments.quiet:
        tell(text, sys.stderr)


def print_json(value: Any) -> None:
    """One JSON value on one line, at once."""
    print(json_text(value), flush=True)


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON for stdout: as people read it, in ASCII alone where stdout lacks characters: `\\xfc`, which Python would write then, is no
    JSON."""
    return json.dumps(plain(value), ensure_ascii=not has_every_character(), allow_nan=False, indent=indent)


def has_every_character() -> bool:
    """Whether all of Unicode can be written to stdout."""
    return codecs.lookup(sys.stdout.encoding or "utf-8").name.startswith("utf")


def plain(value: Any) -> Any:
    """A value as JSON can hold it: a file becomes its path, other objects text that describes them, numbers JSON lacks null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else kinds.in_words(value)


def spelled(value: Any) -> str:
    """A value as it stands in JSON."""
    return json_text(value)


def line(value: Any) -> str:
    """A result as a person or a script reads it: text raw, everything else as JSON or described."""
    shown = plain(value)
    return shown if isinstance(shown, str) else spelled(shown)


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows in columns that are as wide as they must be; the last one is as long as it is."""
    listed = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*listed, strict=True)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]]).rstrip() for row in listed
    )


def shown_path(path: Path) -> str:
    """A path as a person would write it: relative when it lies below the working folder."""
    absolute = Path(os.path.abspath(path))
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)


def counted(count: int, word: str) -> str:
    """`1 step`, `2 steps`"""
    return f"{count} {word}{'' if count == 1 else 's'}"


def first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def human_bytes(count: float) -> str:
    """`512 B`, `1.5 GiB`"""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def human_seconds(seconds: float) -> str:
    """`0.5 s`, `2 min 5 s`"""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def refusals(where: str) -> Iterator[None]:
    """Turn what a model folder refuses into a Problem of the call."""
    from nodegraph.literals import Refused

    try:
        yield
    except Refused as error:
        raise Problems([Problem(error.code, where, error.text, error.fix)]) from None
