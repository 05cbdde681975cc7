"""Commands on workflow files that run nothing: check, plan, fmt, show."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nodegraph.cli import DONE, FAILED, WRONG, common
from nodegraph.cli.printing import tell
from nodegraph.errors import Problem, Problems, WorkflowInvalid, render

if TYPE_CHECKING:
    from nodegraph.workflow import Workflow


def check(arguments: Namespace) -> int:
    """All problems of all files, on stdout; 2 if there are any."""
    problems: list[Problem] = []
    with common.engine(arguments) as engine:
        for name in arguments.workflows:
            try:
                problems += engine.check(common.find_workflow(name))
            except WorkflowInvalid as error:
                problems += error.problems
    if arguments.json:
        common.print_json([problem.to_json() for problem in problems])
    elif problems:
        tell(render(problems))
    else:
        common.say(arguments, f"{common.counted(len(arguments.workflows), 'workflow')} checked, no problems")
    return WRONG if problems else DONE


def plan(arguments: Namespace) -> int:
    """Each step with what it uses: whether it would run, is cached, or is not needed."""
    from nodegraph.cli.given import valid_runs
    from nodegraph.engine import with_literals
    from nodegraph.workflow import Workflow

    workflow = Workflow.load(common.find_workflow(arguments.workflow))
    with common.engine(arguments) as engine:
        _, [given] = valid_runs(arguments, workflow, engine)
        steps = engine.plan(with_literals(workflow, given.overrides), given.inputs, only=tuple(arguments.only)).steps
    if arguments.json:
        common.print_json([{"node": step.path, "use": step.use, "state": step.state} for step in steps])
        return DONE
    if steps:
        tell(common.table((step.state, step.path, step.use) for step in steps))
    states = [step.state for step in steps]
    counts = [f"{states.count(state)} {words}" for state, words in _STATES.items() if state in states]
    common.say(arguments, f"{common.counted(len(steps), 'step')}: {', '.join(counts) or 'nothing to do'}")
    return DONE


_STATES = {"run": "would run", "effect": "would have an effect", "cached": "cached", "skip": "not needed"}


def fmt(arguments: Namespace) -> int:
    """Write files in canonical form, or list those that are not."""
    from nodegraph.formatting import format_file

    problems: list[Problem] = []
    changed = []
    for name in arguments.workflows:
        try:
            text = format_file(Path(name))
        except Problems as error:
            problems += error.problems
            continue
        if text is not None:
            changed.append(name)
            if not arguments.check:
                _replace(Path(name), text)
    for name in changed:
        tell(name)
    if problems:
        tell(render(problems), sys.stderr)
        return WRONG
    if not changed:
        common.say(arguments, "nothing to change")
    return FAILED if arguments.check and changed else DONE


def _replace(path: Path, text: str) -> None:
    """Put text in place of a file at once, so that a kill leaves the old or the new; its mode stays."""
    target = path.resolve()  # what a link points to, not the link
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8", newline="\n")
        aside.chmod(target.stat().st_mode & 0o777)
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def show(arguments: Namespace) -> int:
    """Draw a workflow."""
    from nodegraph.show import mermaid, tree
    from nodegraph.workflow import Workflow

    workflow = Workflow.load(common.find_workflow(arguments.workflow))
    if arguments.svg or arguments.png:
        return _draw(arguments, workflow)
    if arguments.python:
        from nodegraph.python_source import python_source

        tell(python_source(workflow), end="")
    else:
        tell(mermaid(workflow) if arguments.mermaid else tree(workflow))
    return DONE


def _draw(arguments: Namespace, workflow: Workflow) -> int:
    """An SVG, a PNG, or both; with what is cached, if the inputs that are needed are given."""
    from nodegraph.boxes import Look
    from nodegraph.cli.given import valid_runs
    from nodegraph.drawing import draw
    from nodegraph.engine import with_literals
    from nodegraph.glance import glance, looks

    with common.engine(arguments) as engine:
        problems: Sequence[Problem] = ()
        seen, values = {}, {}
        try:
            _, [given] = valid_runs(arguments, workflow, engine)
        except WorkflowInvalid as error:
            problems = error.problems
            seen = {one: Look("failed") for one in _nodes_with(problems, workflow)}
        else:
            workflow, values = with_literals(workflow, given.overrides), given.shown
            try:
                seen = {} if arguments.plain else looks(glance(engine, workflow, given.inputs, only=arguments.only))
            except WorkflowInvalid as error:
                reason = "; ".join(problem.text for problem in error.problems)
                common.say(arguments, f"drawn without what is cached: {reason}")
        svg = draw(workflow, engine._template(workflow), seen, values, opened=arguments.open)
    _write_drawing(arguments, svg)
    if problems:
        tell(render(problems), sys.stderr)
    return WRONG if problems else DONE


def _nodes_with(problems: Sequence[Problem], workflow: Workflow) -> set[str]:
    """The nodes that problems of the workflow's own file stand at."""
    return {name for problem in problems for name in workflow.nodes if f"{problem.where}.".startswith(f"nodes.{name}.")}


def _write_drawing(arguments: Namespace, svg: str) -> None:
    from nodegraph.picture import png_of

    if arguments.svg == "-":
        sys.stdout.write(svg if common.has_every_character() else svg.encode("ascii", "xmlcharrefreplace").decode("ascii"))
    elif arguments.svg:
        with common.written(arguments.svg, "--svg"):
            Path(arguments.svg).write_text(svg, encoding="utf-8")
    if arguments.png == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(png_of(svg))
    elif arguments.png:
        with common.written(arguments.png, "--png"):
            Path(arguments.png).write_bytes(png_of(svg))
    for path in (arguments.svg, arguments.png):
        if path and path != "-":
            common.say(arguments, f"drawn to {path}")
