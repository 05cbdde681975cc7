"""What `nodegraph packs new` writes: a pack with one node, its test and its `pack.toml`."""

from __future__ import annotations

import keyword
import os
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from nodegraph.errors import PackInvalid, Problem, listing

TOML = """\
name = "{name}"
version = 1
doc = "What this pack is for, in a line."
# requires = ["scipy >= 1.14"]     distributions that it needs; without them it is not loaded, and says so
# numerics = ["torch"]             distributions whose version changes its numbers; it enters keys
# packs = ["core >= 1"]            packs that it imports from: from ..core.pixels import …
"""
NODES = '''\
"""The nodes of {name}. A module with nodes is read without being run: import what is heavy inside of the functions."""

from __future__ import annotations

from typing import Annotated

from nodegraph import Field, Image, node


@node
def {name}_fade(image: Image, amount: Annotated[float, Field(ge=0, le=1), "0 leaves it as it is, 1 is black."] = 0.5) -> Image:
    """Make a picture darker."""
    return Image(image.numpy() * (1 - amount))
'''
TEST = '''\
"""Run with `pytest`."""

import numpy
from nodegraph import Image
from nodegraph.testing import Pack

pack = Pack(__file__)


def test_fade():
    white = Image(numpy.ones((1, 3, 2, 2), numpy.float32))
    assert numpy.allclose(pack.run("{name}_fade", image=white, amount=0.25).numpy(), 0.75)


def test_every_node_keeps_its_promises():
    """The same inputs give the same bytes, inputs stay as they are, types hold, everything is documented."""
    assert pack.check() == []
'''


def files(name: str) -> Mapping[str, str]:
    """The files of a new pack by path."""
    return {path: text.format(name=name) for path, text in {"pack.toml": TOML, "nodes.py": NODES, "tests/test_nodes.py": TEST}.items()}


def create(name: str, folder: Path, taken: Mapping[str, Path]) -> Path:
    """Write a new pack into `folder`, which is made if need be. `taken`: the packs that are there already.

    Raises PackInvalid when the name does not do or something is there, and OSError.
    """
    target = folder / name
    problems = []
    if not name.isidentifier() or keyword.iskeyword(name) or not name.isascii():
        fix = "use letters, digits and underscores, and no word of Python"
        problems.append(Problem("bad-name", name, f"{name!r} is no name for a new pack", fix))
    elif name in taken:
        text = f"there is a pack {name!r} already, in {str(taken[name])!r}"
        problems.append(Problem("pack-clash", name, text, f"take another name: {listing(taken)} are taken"))
    elif target.exists() and (not target.is_dir() or any(target.iterdir())):
        problems.append(Problem("file-exists", name, f"{str(target)!r} is there already", "take another name, or another folder with --at"))
    elif (outer := next((one for one in target.resolve().parents if (one / "pack.toml").is_file()), None)) is not None:
        text = f"{str(folder)!r} lies in the pack {outer.name!r}, which would take the nodes of the new one for its own"
        problems.append(Problem("file-exists", name, text, f"make it beside that one: --at {quote(os.path.relpath(outer.parent))}"))
    if problems:
        raise PackInvalid(problems)
    for path, text in files(name).items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(text, encoding="utf-8")
    return target


__all__ = ["create", "files"]
