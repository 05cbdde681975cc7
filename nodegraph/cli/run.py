"""`nodegraph run`: submit, show what happens, write what comes out."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.cli import CANCELLED, DONE, FAILED, WRONG, common, problem_of, sweep
from nodegraph.cli.given import Given, valid_runs
from nodegraph.cli.memory_limit import MemoryLimit
from nodegraph.cli.packs import refuse_other_packs
from nodegraph.cli.printing import give, tell
from nodegraph.cli.progress import Progress, progress
from nodegraph.cli.signals import on_signal
from nodegraph.errors import Problem, Problems, RunFailed, WorkflowInvalid, render
from nodegraph.events import Event
from nodegraph.workflow import Workflow

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.job import Job, Result

WINDOW = 64
"""How many runs of a sweep or batch are submitted before the first one is done."""


def run(arguments: Namespace) -> int:
    """The command. Results go to stdout; with `--json` and `--events` so does the end, whatever it is."""
    if arguments.help:
        from nodegraph.cli.form import print_form

        return print_form(arguments)
    if not arguments.workflow:
        raise WorkflowInvalid([Problem("usage", "", "run needs a WORKFLOW", "see: nodegraph run --help")])
    try:
        return _run(arguments)
    except Exception as error:
        told = isinstance(error, Problems)
        if not (arguments.json or arguments.events) or isinstance(error, BrokenPipeError) or (arguments.traceback and not told):
            raise
        problems = error.problems if isinstance(error, Problems) else (problem_of(error),)
        tell(render(problems), sys.stderr)
        common.print_json({**_done("failed"), "problems": [problem.to_json() for problem in problems]})
        return WRONG if told and not isinstance(error, RunFailed) else FAILED


def _run(arguments: Namespace) -> int:
    workflow = Workflow.load(common.find_workflow(arguments.workflow))
    with common.engine(arguments) as engine, _profiling(arguments, engine):
        if locked := getattr(arguments, "locked", None):
            refuse_other_packs(engine, locked)
        axes, given = valid_runs(arguments, workflow, engine)
        _say_drawn(arguments, given)
        if len(given) > 1:
            sweep.refuse_invalid(engine, workflow, given)
        kept = sweep.Kept(arguments, engine, workflow, axes, given)
        try:
            return _Runs(arguments, engine, workflow, engine.settings.output, kept).all(given)
        finally:
            for path in kept.close():
                common.say(arguments, f"written to {common.shown_path(path)}")


@contextmanager
def _profiling(arguments: Namespace, engine: Engine) -> Iterator[None]:
    """Write the trace that was asked for, however the runs end. Raises WorkflowInvalid when it cannot be written: before
    anything runs, where that is known by then."""
    if not arguments.profile:
        yield
        return
    path = Path(arguments.profile)
    with common.written(path, "--profile"):
        path.open("a").close()
    profile = engine.profile()
    try:
        yield
    finally:
        with common.written(path, "--profile"):
            profile.write(path)
    common.say(arguments, f"written to {common.shown_path(path)}")


def _say_drawn(arguments: Namespace, asked: Sequence[Given]) -> None:
    """Say which seeds were drawn, so that a person can have the same again. Said even when quiet: nothing else tells."""
    if arguments.json or arguments.events:
        return  # they are in `inputs` of what is printed at the end
    drawn = [text.partition("=")[0] for text in arguments.sets if text.endswith("=random")]
    for name in drawn:
        if type(value := asked[0].shown.get(name)) is int:
            tell(f"{name} = {value}", sys.stderr)


class _Runs:
    """All runs of one command: submitted to one engine, reported one after another in order."""

    def __init__(self, arguments: Namespace, engine: Engine, workflow: Workflow, output: Path, kept: sweep.Kept):
        self.arguments, self.engine, self.workflow, self.output, self.kept = arguments, engine, workflow, output, kept
        self.progress: Progress = progress(arguments.quiet or bool(arguments.events))
        self.jobs: deque[tuple[Given, Job]] = deque()
        self.limit = MemoryLimit(engine.device)
        self.cancelled = False

    def all(self, asked: Sequence[Given]) -> int:
        """Do them. The exit code is that of the worst."""
        codes: list[int] = []
        waiting = deque(asked)
        try:
            with on_signal(self.stop), self.limit:
                while self.jobs or (waiting and not self.cancelled):
                    while waiting and len(self.jobs) < WINDOW and not self.cancelled:
                        self.jobs.append((waiting[0], self.submit(waiting.popleft())))
                    if self.cancelled:
                        self.cancel()  # one may have been submitted while the signal came
                    given, job = self.jobs[0]
                    label = f"run {len(codes) + 1}/{len(asked)}: {_spelled(given)}" if len(asked) > 1 else ""
                    codes.append(self.report(given, job, label))
                    self.jobs.popleft()
        finally:
            self.cancel()  # what is done does not mind
            self.progress.close()
        return CANCELLED if waiting else max(codes)

    def submit(self, given: Given) -> Job:
        self.limit.renew()
        return self.engine.submit(
            self.workflow,
            given.inputs,
            only=tuple(self.arguments.only),
            cache=not self.arguments.no_cache,
            overrides=given.overrides,
            origins=given.origins,
        )

    def stop(self) -> None:
        print("cancelling … (Ctrl-C again to end at once)", file=sys.stderr, flush=True)
        self.cancel()

    def cancel(self) -> None:
        self.cancelled = True
        for _, job in list(self.jobs):  # it may be another thread that submits them
            job.cancel()

    def report(self, given: Given, job: Job, label: str) -> int:
        """Follow one run to its end and print what it gives."""
        self.progress.begin(label)
        done: Event | None = None
        for event in job.events():
            if event.kind == "done":
                done = event
            elif self.arguments.events:
                common.print_json(_without_values(event))
            self.progress.show(event)
        result = job.result()
        name = self.workflow.name or Path(self.workflow.file).stem or "workflow"
        files = common.save_outputs(result, self.output, name)
        self.kept.add(given, result, files)
        self._print(given, done, result, files)
        return {"ok": DONE, "cancelled": CANCELLED}.get(result.status, FAILED)

    def _print(self, given: Given, done: Event | None, result: Result, files: dict[str, list[Path]]) -> None:
        if result.problems:
            tell(render(result.problems), sys.stderr)
        if self.arguments.json or self.arguments.events:
            common.print_json({**(done.to_json() if done else {}), **_result_json(given, result, files)})
            return
        for output, reason in result.skipped.items():
            common.say(self.arguments, f"skipped {output}: {reason}")
        for line in _result_lines(result, files):
            give(line)


# -- what is printed ---------------------------------------------------------------------------------------------------


def _done(status: str) -> dict[str, Any]:
    return {"event": "done", "status": status, "outputs": {}, "files": []}


def _result_json(given: Given, result: Result, files: dict[str, list[Path]]) -> dict[str, Any]:
    """The last object of a run: outputs as values or as absolute paths of files, every file, and what was given."""
    outputs: dict[str, Any] = {name: value for name, value in result.outputs.items() if name not in files}
    for name, paths in files.items():
        several = len(paths) != 1 or isinstance(result.outputs[name], list | tuple)
        outputs[name] = list(map(os.path.abspath, paths)) if several else os.path.abspath(paths[0])
    ordered = {name: outputs[name] for name in result.outputs}
    record = {
        **_done(result.status),
        "outputs": ordered,
        "files": list(map(os.path.abspath, _all_files(result, files))),
        "inputs": given.shown,
    }
    if result.problems:
        record["problems"] = [problem.to_json() for problem in result.problems]
    if result.skipped:
        record["skipped"] = dict(result.skipped)
    return record


def _result_lines(result: Result, files: dict[str, list[Path]]) -> Iterator[str]:
    """One line for each file and each other output, in the workflow's order; then the files that nodes saved."""
    for name, value in result.outputs.items():
        if name not in files:
            yield common.line(value)
    yield from map(common.shown_path, _all_files(result, files))


def _all_files(result: Result, files: dict[str, list[Path]]) -> list[Path]:
    """Each file once: those of outputs, then those that nodes saved."""
    return list(dict.fromkeys([*(path for paths in files.values() for path in paths), *result.files]))


def _spelled(given: Given) -> str:
    return " ".join(f"{name}={_short(value)}" for name, value in given.shown.items())


def _short(value: Any) -> str:
    text = common.line(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _without_values(event: Event) -> dict[str, Any]:
    """An event as plain data: pictures of previews are left out."""
    return {
        name: value for name, value in event.to_json().items() if value is None or isinstance(value, str | bool | int | float | list | dict)
    }
