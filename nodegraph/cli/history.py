"""Commands on what was made before: replay a saved picture, tell two pictures or workflows apart."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph import metadata
from nodegraph.cli import DONE, FAILED, common, media
from nodegraph.cli.memory_limit import MemoryLimit
from nodegraph.cli.printing import give, tell
from nodegraph.cli.signals import on_signal
from nodegraph.difference import Change, differences
from nodegraph.errors import RunFailed, WorkflowInvalid, render
from nodegraph.replay import Replay, prepare, same_bytes, same_pixels

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.job import Result


def replay(arguments: Namespace) -> int:
    """Run again what made a picture: 0 when that gives the same bytes, 1 when it does not."""
    from nodegraph.cli.given import runs
    from nodegraph.engine import with_literals
    from nodegraph.workflow import Workflow

    path = Path(arguments.file)
    record = metadata.read(path)
    _as_recorded(arguments, record.get("machine", {}))
    with common.engine(arguments) as engine:
        [given] = runs(arguments, Workflow.of(record["workflow"]), engine.registry)
    again = prepare(record, [Path.cwd(), path.resolve().parent], media.read, given.inputs, given.overrides)
    again = replace(again, workflow=with_literals(again.workflow, given.overrides))
    arguments.roots = [*(arguments.roots or []), *map(str, again.roots)]
    with common.engine(arguments) as engine:
        if problems := engine.check(again.workflow, again.inputs):
            raise WorkflowInvalid(problems)
        changes = again.changes(engine)
        if arguments.check:
            return _print_check(arguments, path, changes)
        return _run(arguments, path, again, changes, engine)


def _as_recorded(arguments: Namespace, machine: Mapping[str, Any]) -> None:
    """Weights on the device and in the dtype they were on and in, unless flags say otherwise."""
    if arguments.dtype is None and "dtype" in machine:
        arguments.dtype = machine["dtype"]
    if arguments.device is None and machine.get("device") == "cpu":
        arguments.device = "cpu"


def _print_check(arguments: Namespace, path: Path, changes: list[Change]) -> int:
    if arguments.json:
        common.print_json({"file": str(path), "same": not changes, "changes": [change.to_json() for change in changes]})
    elif changes:
        tell(_listed(changes))
    else:
        common.say(arguments, f"{path.name}: workflow, inputs, packs, models and versions are as they were")
    return FAILED if changes else DONE


def _run(arguments: Namespace, path: Path, again: Replay, changes: list[Change], engine: Engine) -> int:
    job = engine.submit(again.workflow, again.inputs, only=again.only, cache=False, origins=again.origins)
    from nodegraph.cli.progress import progress

    shown = progress(arguments.quiet or arguments.json)
    shown.begin("")
    try:
        with on_signal(job.cancel), MemoryLimit(engine.device):
            for event in job.events():
                shown.show(event)
    finally:
        shown.close()
    result = job.result()
    if result.status == "cancelled":
        raise KeyboardInterrupt
    if result.problems:
        raise RunFailed(result.problems, result)
    return _print_verdict(
        arguments, path, _written(result, common.save_outputs(result, engine.settings.output, again.workflow.name)), changes
    )


def _written(result: Result, saved: Mapping[str, list[Path]]) -> list[Path]:
    return list(dict.fromkeys([*(path for paths in saved.values() for path in paths), *result.files]))


_ALIKE = {
    "same pixels": "  workflow, inputs, packs, models and versions are as they were: another program may have written the file anew",
    "different": "  workflow, inputs, packs, models and versions are as they were. What is not recorded can be another: processor or GPU,"
    "\n  the number of threads (set OMP_NUM_THREADS to what it was then), and whatever a node reads that is none of its inputs",
}
"""Why a file is made otherwise of what is the same, by the verdict."""


def _print_verdict(arguments: Namespace, path: Path, made: list[Path], changes: list[Change]) -> int:
    same = [one for one in made if same_bytes(path, one)]
    shown = same or made
    verdict = "identical" if same else "same pixels" if any(_shows_the_same(path, one) for one in made) else "different"
    if arguments.json:
        found = [change.to_json() for change in changes]
        common.print_json({"file": str(path), "made": list(map(str, shown)), "verdict": verdict, "changes": found})
        return DONE if same else FAILED
    for one in shown:
        give(common.shown_path(one))
    if same:
        common.say(arguments, f"identical to {path}" + (f", although there is something else:\n{_listed(changes)}" if changes else ""))
        return DONE
    reasons = _listed(changes) if changes else _ALIKE[verdict]
    lead = f"the same pixels as {path}, but not the same file" if verdict == "same pixels" else f"different from {path}"
    tell(f"{lead}:\n{reasons}", sys.stderr)
    return FAILED


def _shows_the_same(path: Path, made: Path) -> bool:
    return metadata.is_picture(path) and metadata.is_picture(made) and same_pixels(path, made)


def _listed(changes: list[Change]) -> str:
    return "\n".join(f"  {change}" for change in changes)


# -- diff --------------------------------------------------------------------------------------------------------------


def diff(arguments: Namespace) -> int:
    """Say what is different between two saved pictures, two workflows, or one of each: 1 if anything is."""
    with common.engine(arguments) as engine:
        before, after = (_record(name, engine) for name in (arguments.before, arguments.after))
        changes = differences(before, after, engine.registry)
    if arguments.json:
        common.print_json([change.to_json() for change in changes])
    elif changes:
        tell("\n".join(map(str, changes)))
    else:
        common.say(arguments, "no differences")
    return FAILED if changes else DONE


def _record(name: str, engine: Engine) -> dict[str, Any]:
    """The record of a picture; of a workflow just itself, with the workflows it uses inside, if it is without problems."""
    from nodegraph.provenance import self_contained
    from nodegraph.workflow import Workflow

    path = Path(name)
    if metadata.is_saved(path):
        record = metadata.read(path)
        Workflow.of(record["workflow"])  # refused in words, whatever the file tells
        return record
    workflow = Workflow.load(common.find_workflow(name))
    problems = engine.check(workflow)
    if problems:
        tell(render(problems), sys.stderr)
        return {"workflow": workflow.to_json()}
    return {"workflow": self_contained(engine._template(workflow))}
