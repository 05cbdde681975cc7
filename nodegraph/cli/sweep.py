"""What a sweep leaves beside the single files: one labelled picture, and a table of what was what."""

from __future__ import annotations

import csv
import io
import json
import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from nodegraph import types
from nodegraph.cli import common
from nodegraph.cli.given import Axis, Given
from nodegraph.errors import Problem, WorkflowInvalid
from nodegraph.metadata import GRID_KEY
from nodegraph.plot import Heading, plot, side_by_side
from nodegraph.typing_pass import declared_outputs
from nodegraph.values import Image, Mask

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.job import Result
    from nodegraph.workflow import Workflow

MAX_AXES = 3
TABLES = (".csv", ".jsonl")


def refuse_invalid(engine: Engine, workflow: Workflow, asked: Sequence[Given]) -> None:
    """Raise WorkflowInvalid with what is wrong with any of the runs, so that nothing runs of a sweep that cannot be finished."""
    from nodegraph.engine import with_literals

    found: dict[str, Problem] = {}
    for given in asked:
        try:
            engine.plan(with_literals(workflow, given.overrides), given.inputs)
        except WorkflowInvalid as error:
            found.update({problem.render(): problem for problem in error.problems if problem.render() not in found})
    if found:
        raise WorkflowInvalid(found.values())


class Kept:
    """Gathers what runs gave. `add` is called for each run in order, `close` at the end, however it ends.

    Both raise RunFailed when a file cannot be written.
    """

    def __init__(self, arguments: Namespace, engine: Engine, workflow: Workflow, axes: Sequence[Axis], asked: Sequence[Given]):
        self.workflow, self.axes = workflow, axes
        self.result: Result | None = None
        self.grid = _Grid(Path(arguments.grid), axes, _picture_output(engine, workflow, arguments.only)) if arguments.grid else None
        self.table = _Table(Path(arguments.table), _asked(workflow, arguments.only), asked) if arguments.table else None

    def add(self, given: Given, result: Result, files: dict[str, list[Path]]) -> None:
        self.result = result
        if self.table:
            with common.written(self.table.path, "--table", result):
                self.table.add(given, result, files)
        if self.grid:
            self.grid.add(given, result, files)

    def close(self) -> list[Path]:
        """Write what is to be written. Returns the paths."""
        paths = []
        for one, flag in ((self.table, "--table"), (self.grid, "--grid")):
            if one:
                with common.written(one.path, flag, self.result):
                    paths += [one.close(self.workflow)]
        return [path for path in paths if path]


def _asked(workflow: Workflow, only: Sequence[str]) -> list[str]:
    """The outputs that a run gives: those of the workflow, or what of them and of single nodes is asked for."""
    return [name for name in workflow.outputs if not only or name in only] + [
        name for name in dict.fromkeys(only) if name not in workflow.outputs and "." in name
    ]


def _picture_output(engine: Engine, workflow: Workflow, only: Sequence[str]) -> str:
    """The first output that may be a picture. Raises WorkflowInvalid when there is none."""
    template = engine._template(workflow)
    used = dict(zip(template.names, template.types, strict=True))
    for name in _asked(workflow, only):
        node, _, port = name.rpartition(".")
        kind = template.output_types.get(name) or declared_outputs(used.get(node)).get(port, types.ANY)
        inner = types.without_none(kind)
        inner = inner.args[0] if inner.kind == "list" else inner
        if str(inner) in ("image", "mask", "any") or inner.kind == "var":
            return name
    fix = "ask for one with --only OUTPUT or --only NODE.PORT" if only else "sweep a workflow that gives an image, or add --only NODE.PORT"
    raise WorkflowInvalid([Problem("no-picture", "--grid", "no output that is asked for is a picture", fix, workflow.file)])


class _Grid:
    def __init__(self, path: Path, axes: Sequence[Axis], output: str):
        if len(axes) > MAX_AXES:
            text = f"a grid shows up to {MAX_AXES} sweeps, but there are {len(axes)}"
            raise WorkflowInvalid([Problem("too-many-axes", "--grid", text, "set one of them with --set")])
        if path.suffix.lower() != ".png":
            raise WorkflowInvalid([Problem("bad-value", "--grid", f"a grid is a PNG, but is to be {str(path)!r}", "name a file.png")])
        _refuse_no_folder(path, "--grid")
        self.path, self.axes, self.output = path, axes, output
        self.cells: dict[tuple[int, int, int], Any] = {}
        self.notes: dict[tuple[int, int, int], str] = {}
        self.record: list[dict[str, Any]] = []

    def add(self, given: Given, result: Result, files: dict[str, list[Path]]) -> None:
        column, row, block = (*given.place, 0, 0, 0)[:MAX_AXES]
        place = (column, row, block)
        shown = _pictures(result.outputs.get(self.output))
        if shown:
            self.cells[place] = side_by_side(shown)
        else:
            self.notes[place] = "skipped" if self.output in result.skipped else result.status
        names = [path.name for path in files.get(self.output, ())]
        self.record.append({"at": list(given.place), "inputs": given.shown, "status": result.status, "files": names})

    def close(self, workflow: Workflow) -> Path | None:
        if not self.record:
            return None
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        axes = [{"name": axis.name, "values": axis.labels} for axis in self.axes]
        info.add_text(GRID_KEY, json.dumps(common.plain({"axes": axes, "output": self.output, "cells": self.record})))
        picture = plot([Heading(axis.name, axis.labels) for axis in self.axes], self.cells, self.notes, workflow.name)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", pnginfo=info)
        aside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            aside.write_bytes(buffer.getvalue())
            aside.replace(self.path)
        finally:
            aside.unlink(missing_ok=True)
        return self.path


def _pictures(value: Any) -> list[Any]:
    if isinstance(value, Image | Mask):
        return value.pil()
    return [picture for one in value for picture in _pictures(one)] if isinstance(value, list) else []


class _Table:
    """Rows that are written as runs end, so that what was done is known however it ends."""

    def __init__(self, path: Path, outputs: Sequence[str], asked: Sequence[Given]):
        if path.suffix.lower() not in TABLES:
            text = f"a table is a {' or '.join(TABLES)} file, but is to be {str(path)!r}"
            raise WorkflowInvalid([Problem("bad-value", "--table", text, f"name a file{TABLES[0]}")])
        _refuse_no_folder(path, "--table")
        self.path = path
        self.inputs = list(dict.fromkeys(name for given in asked for name in given.shown))
        self.outputs = outputs
        self.count = 0
        self._file: IO[str] | None = None

    def add(self, given: Given, result: Result, files: dict[str, list[Path]]) -> None:
        self.count += 1
        outputs = {name: _told(result.outputs[name], files.get(name)) for name in result.outputs}
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8", errors="backslashreplace", newline="")  # names of files may be no UTF-8
            if self.path.suffix.lower() == ".csv":
                csv.writer(self._file).writerow(["run", "status", *self.inputs, *(f"output.{one}" for one in self.outputs), "seconds"])
        seconds = round(result.seconds, 3)
        if self.path.suffix.lower() == ".csv":
            row = [given.shown.get(name, "") for name in self.inputs] + [outputs.get(name, "") for name in self.outputs]
            csv.writer(self._file).writerow([self.count, result.status, *map(_cell, row), seconds])
        else:
            record = {"run": self.count, "status": result.status, "inputs": given.shown, "outputs": outputs, "seconds": seconds}
            self._file.write(json.dumps(common.plain(record), ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self, workflow: Workflow) -> Path | None:
        if self._file is None:
            return None
        self._file.close()
        return self.path


def _told(value: Any, files: list[Path] | None) -> Any:
    """An output in a table: the paths of its files, or the value."""
    if files is None:
        return common.plain(value)
    shown = list(map(common.shown_path, files))
    return shown[0] if len(shown) == 1 else shown


def _cell(value: Any) -> Any:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else common.spelled(value)


def _refuse_no_folder(path: Path, flag: str) -> None:
    if not path.parent.is_dir():
        text = f"there is no folder {str(path.parent)!r} for {path.name!r}"
        raise WorkflowInvalid([Problem("file-missing", flag, text, "make it first")])
    if path.is_dir():
        raise WorkflowInvalid([Problem("bad-value", flag, f"{str(path)!r} is a folder", "name a file in it")])


__all__ = ["Kept", "refuse_invalid"]
