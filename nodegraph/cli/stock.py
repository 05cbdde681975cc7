"""Commands that look after what lies on disk: models and kept results."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nodegraph.cli import DONE, FAILED, common
from nodegraph.cli.printing import give, tell
from nodegraph.errors import Problem, Problems, WorkflowInvalid, render


def models_list(arguments: Namespace) -> int:
    """Every model that a workflow can name here."""
    with common.engine(arguments) as engine:
        found = engine.models.list()
    if arguments.json:
        common.print_json([{"name": one.name, "kind": one.kind, "path": one.path, "bytes": one.size} for one in found])
    elif found:
        tell(common.table((one.name, one.kind, common.human_bytes(one.size), str(one.path)) for one in found))
    else:
        common.say(arguments, "no models are here; add one with: nodegraph models add PATH")
    return DONE


def models_add(arguments: Namespace) -> int:
    """Copy a model to where models lie."""
    with common.engine(arguments) as engine, common.refusals(arguments.path):
        added = engine.models.add(Path(arguments.path), arguments.name)
    common.say(arguments, f"added {added.name} ({added.kind or 'model'}, {common.human_bytes(added.size)})")
    give(str(added.path))
    return DONE


def models_show(arguments: Namespace) -> int:
    """Everything that is known of a model."""
    # with the disk tier, which remembers the digests of large files
    with common.engine(arguments) as engine, common.refusals(arguments.name):
        facts = engine.models.info(arguments.name)
    if arguments.json:
        common.print_json(facts)
        return DONE
    files = facts.pop("files", [])
    facts["bytes"] = common.human_bytes(facts["bytes"])
    tell(common.table((name, str(value)) for name, value in facts.items()))
    tell(common.table((f"  {one['file']}", common.human_bytes(one["bytes"]), one["digest"][:16]) for one in files))
    return DONE


def models_verify(arguments: Namespace) -> int:
    """Read models again; 1 if one is damaged."""
    problems: list[Problem] = []
    with common.engine(arguments) as engine:
        names = arguments.names or [one.name for one in engine.models.list()]
        for name in names:
            with common.refusals(name):
                found = engine.models.verify(name)
            problems += [problem.at(f"{name}/{problem.where}") for problem in found]
            if not arguments.json:
                common.say(arguments, f"{name}: {'damaged' if found else 'fine'}")
    if arguments.json:
        common.print_json([problem.to_json() for problem in problems])
    elif problems:
        tell(render(problems))
    return FAILED if problems else DONE


@contextmanager
def _store(arguments: Namespace) -> Iterator[Any]:
    """The disk tier. Raises Problems when there is none, or it cannot be used."""
    from nodegraph.settings import Settings
    from nodegraph.store import INDEX

    named = arguments.cache
    folder = Settings.load({"cache": named}).cache
    if named is not None and isinstance(folder, Path) and not (folder / INDEX).exists():  # a misspelled folder is not to become one
        raise WorkflowInvalid([Problem("no-cache", "--cache", f"there is no cache in {named!r}", "name the folder of one")])
    with common.engine(arguments) as engine:
        if engine.store is None:
            raise WorkflowInvalid([Problem("no-cache", "cache", "the cache on disk is off", "name a folder: --cache DIR")])
        _refuse_trouble(engine.store)
        yield engine.store
        _refuse_trouble(engine.store)


def _refuse_trouble(store: Any) -> None:
    if trouble := store.info()["trouble"]:
        fix = "try again when no other process writes to it" if "locked" in trouble else ""
        raise Problems([Problem("no-cache", "cache", trouble, fix)])


def _print_facts(arguments: Namespace, facts: dict[str, Any]) -> None:
    if arguments.json:
        common.print_json(facts)
        return
    sizes = ("bytes", "budget", "freed")
    tell(
        common.table(
            (name.replace("_", " "), common.human_bytes(value) if name in sizes else str(value))
            for name, value in facts.items()
            if value is not None
        )
    )


def cache_info(arguments: Namespace) -> int:
    """Counts and bytes."""
    with _store(arguments) as store:
        facts = store.info()
    _print_facts(arguments, facts)
    return DONE


def cache_verify(arguments: Namespace) -> int:
    """Read everything back; 1 if something was damaged (it is set aside, and computed again when it is needed)."""
    with _store(arguments) as store:
        facts = store.verify()
    _print_facts(arguments, facts)
    return FAILED if facts.get("damaged") else DONE


def cache_prune(arguments: Namespace) -> int:
    """Remove what saves the least time for its bytes."""
    from nodegraph.settings import parse_size

    try:
        size = parse_size(arguments.size)
    except ValueError as error:
        raise WorkflowInvalid([Problem("usage", "SIZE", str(error))]) from None
    with _store(arguments) as store:
        facts = store.prune(size)
    _print_facts(arguments, facts)
    return DONE


def cache_clear(arguments: Namespace) -> int:
    """Remove every kept result."""
    with _store(arguments) as store:
        facts = store.clear()
    _print_facts(arguments, facts)
    return DONE
