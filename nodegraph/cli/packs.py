"""Commands for those who write packs, and for those who depend on them: new, check, lock, verify."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from nodegraph.cli import DONE, FAILED, common
from nodegraph.cli.printing import give, tell
from nodegraph.errors import PackInvalid, Problem, WorkflowInvalid, did_you_mean, render
from nodegraph.pack_template import create

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.pack_reader import PackInfo


def new(arguments: Namespace) -> int:
    """Write a new pack, and say how to go on."""
    with common.engine(arguments) as engine:
        taken = {info.name: info.path for info in engine.packs}
        found = [folder.resolve() for folder in engine.settings.packs]
    with common.written(Path(arguments.at) / arguments.name, "--at"):
        folder = create(arguments.name, Path(arguments.at), taken)
    give(common.shown_path(folder))
    if not {folder.resolve(), folder.resolve().parent}.intersection(found):
        where = os.path.relpath(folder.parent)
        common.say(arguments, f'nodegraph finds it with --packs {quote(where)}, or with packs = ["{where}"] in a nodegraph.toml')
    at = quote(os.path.relpath(folder))
    common.say(arguments, f"try it:\n  pytest {at}\n  nodegraph nodes {arguments.name}_fade --packs {at}")
    return DONE


def check(arguments: Namespace) -> int:
    """Try every node; compare with the pack's pack.lock. 0: nothing is wrong, 1: something is."""
    from nodegraph.settings import packs_in

    _refuse_wrong_call(arguments)
    path = Path(arguments.path)
    if not path.is_dir():
        fix = _where_installed(path.name) or "name a folder with a pack.toml"
        return _told(arguments, [Problem("no-pack", "", f"there is no folder {str(path)!r}", fix)])
    folders = packs_in(path)
    arguments.packs = [str(path), *(arguments.packs or [])]
    arguments.cache = arguments.cache or "off"
    problems: list[Problem] = []
    with common.engine(arguments) as engine:
        found = [info for info in engine.packs if info.path in folders]
        if not found:
            raise PackInvalid(
                [Problem("no-pack", "", f"{str(path)!r} is no pack, and there is none in it", "name a folder with a pack.toml")]
            )
        names = _asked(arguments.names, found)
        for info in found:
            problems += info.problems or [*_displaced(engine, info), *_check_pack(arguments, engine, info, names)]
    return _told(arguments, problems)


def _told(arguments: Namespace, problems: list[Problem]) -> int:
    """Print what a check found."""
    if arguments.json:
        common.print_json([problem.to_json() for problem in problems])
    elif problems:
        tell(render(problems))
    return FAILED if problems else DONE


def _where_installed(name: str) -> str:
    """How to name an installed pack, if there is one in a folder of that name."""
    from nodegraph.distributions import installed_packs

    return next((f"name its folder: {quote(str(one.path))}" for one in installed_packs() if one.path.name == name), "")


def _refuse_wrong_call(arguments: Namespace) -> None:
    """Raise WorkflowInvalid for flags that would try nothing, or record a part of the nodes in place of all."""
    if arguments.cases < 1:
        raise WorkflowInvalid([Problem("usage", "--cases", f"there are {arguments.cases} cases to try with", "write a number from 1 on")])
    if arguments.record and arguments.names:
        text = "--record writes what all nodes gave, but --node has only some of them tried"
        raise WorkflowInvalid([Problem("usage", "--record", text, "leave --node away")])


def _asked(names: list[str], found: list[PackInfo]) -> set[str]:
    """The nodes to try: all, or those that are named. Raises PackInvalid."""
    known = {name for info in found for name in info.nodes}
    if unknown := [name for name in names if name not in known]:
        fix = did_you_mean(unknown[0], known) or "leave --node away to try all"
        raise PackInvalid([Problem("unknown-node", "", f"there is no node {unknown[0]!r} in the pack", fix)])
    return set(names) or known


def _displaced(engine: Engine, info: PackInfo) -> Iterator[Problem]:
    """The nodes for which other packs cannot be loaded beside this one, which comes before them. (Another pack of its own name may be
    its installed version.)"""
    for other in engine.packs:
        for problem in other.problems:
            name = problem.where.rpartition("/")[2]
            if problem.code == "node-clash" and name in info.nodes and other.name != info.name:
                text = f"{name!r} is a node of the pack {other.name!r} too, which cannot be loaded beside this one"
                yield Problem("node-clash", f"{info.name}/{name}", text, f"rename it: @node(name={name + '_2'!r})", str(info.path))


def _check_pack(arguments: Namespace, engine: Engine, info: PackInfo, names: set[str]) -> list[Problem]:
    from nodegraph import pack_record
    from nodegraph.contract import Contract
    from nodegraph.testing import untried

    contract = Contract(engine)
    nodes = {name: one for name in info.nodes if (one := engine.registry.get(name)) is not None}
    tried = {name: contract.try_node(one, arguments.cases) for name, one in nodes.items() if name in names}
    problems = [problem for one in tried.values() for problem in one.problems]
    left = [one for one in tried.values() if one.untried]
    now = pack_record.record(info, nodes.values(), tried)
    before = None if arguments.record else pack_record.read(info.path)
    if before is not None:
        problems += pack_record.changes(before, now, nodes)
    _say_tried(arguments, info, tried, left)
    for unable in left:
        common.say(arguments, untried(unable.node, unable.untried, unable.fix).render().replace("error[", "note["))
    if arguments.record and not problems:
        common.say(arguments, f"written to {common.shown_path(pack_record.write(info.path, now))}")
    return problems


def _say_tried(arguments: Namespace, info: PackInfo, tried: dict[str, Any], left: list[Any]) -> None:
    cases = sum(len(one.digests) for one in tried.values())
    said = f"{info.name}: {common.counted(len(tried) - len(left), 'node')} tried on {common.counted(cases, 'sample')}"
    common.say(arguments, said + (f", {len(left)} could not be" if left else ""))


def lock(arguments: Namespace) -> int:
    """Write the packs of a workflow with versions and digests."""
    from nodegraph import locks

    with common.engine(arguments) as engine:
        found = locks.lock(engine, common.find_workflow(arguments.workflow))
    text = common.json_text(found, indent=2)
    if arguments.target:
        with common.written(arguments.target, "--output"):
            Path(arguments.target).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        common.say(arguments, f"{common.counted(len(found['packs']), 'pack')} locked in {arguments.target}")
    else:
        print(text)
    return DONE


def verify(arguments: Namespace) -> int:
    """Say what of the packs is different here from a lock."""
    with common.engine(arguments) as engine:
        found = refuse_other_packs(engine, arguments.file)
    common.say(arguments, f"{common.counted(len(found['packs']), 'pack')} as locked")
    return DONE


def refuse_other_packs(engine: Engine, file: str) -> dict[str, Any]:
    """The lock, if the packs here are those that it names. Raises PackInvalid."""
    from nodegraph import locks

    found = locks.read(Path(file))
    if problems := locks.verify(engine, found, file):
        raise PackInvalid(problems)
    return found
