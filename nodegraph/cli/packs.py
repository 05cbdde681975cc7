"""Commands for those who write packs: new, check."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from nodegraph.cli import DONE, common
from nodegraph.pack_template import create


def new(arguments: Namespace) -> int:
    """Write a new pack, and say how to go on."""
    with common.engine(arguments) as engine:
        taken = {info.name: info.path for info in engine.packs}
        found = [folder.resolve() for folder in engine.settings.packs]
    folder = create(arguments.name, Path(arguments.at), taken)
    print(common.shown_path(folder))
    test = f"  cd {common.shown_path(folder)} && pytest"
    if not {folder.resolve(), folder.resolve().parent}.intersection(found):
        where = os.path.relpath(folder.parent)
        common.say(arguments, f'nodegraph finds it with --packs {where}, or with packs = ["{where}"] in a nodegraph.toml')
    common.say(arguments, f"try it:\n{test}\n  nodegraph nodes {arguments.name}_fade --packs {os.path.relpath(folder)}")
    return DONE
