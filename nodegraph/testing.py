"""For the tests of packs: run one node, and try what every node promises.

from nodegraph.testing import Pack

pack = Pack(__file__)  # the pack that this file is in

def test_fade():
    assert pack.run("fade", image=white, amount=1.0).numpy().max() == 0

def test_every_node_keeps_its_promises():
    assert pack.check() == []
"""

from __future__ import annotations

import tempfile
import weakref
from collections import namedtuple
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nodegraph.contract import Contract, Samples, digest, run_node
from nodegraph.engine import Engine
from nodegraph.errors import NodegraphError, PackInvalid, Problem, RunFailed, WorkflowInvalid, did_you_mean
from nodegraph.pack_reader import FILE, PackInfo
from nodegraph.spec import NodeType


class Pack:
    """A pack under test, on an engine of its own that keeps nothing. `place`: the pack's folder, or a file in it.

    `packs`: further folders of packs, beside those that the settings name. Options go to the engine. Closed when nobody holds it.
    """

    def __init__(self, place: str | Path, *, packs: Iterable[str | Path] = (), **options: Any):
        self.folder = pack_folder(Path(place))
        self._packs, self._options = list(packs), options
        self._opened: Engine | None = None

    @property
    def engine(self) -> Engine:
        """An engine with the pack, opened when it is first asked for. Raises PackInvalid when the pack cannot be loaded."""
        engine = self._open()
        if problems := self.info.problems:
            raise PackInvalid(problems)
        return engine

    def _open(self) -> Engine:
        if self._opened is None:
            scratch = tempfile.TemporaryDirectory(prefix="nodegraph-test-")
            options = {"cache": False, "output": scratch.name, **self._options}
            engine = Engine(packs=[self.folder, *self._packs], **options)
            weakref.finalize(self, _close, engine, scratch)
            self._opened = engine
        return self._opened

    @property
    def info(self) -> PackInfo:
        """What was found of the pack."""
        return next(info for info in self._open().packs if info.path == self.folder)

    @property
    def nodes(self) -> dict[str, NodeType]:
        """The pack's node types by name."""
        engine = self.engine
        return {name: one for name in self.info.nodes if (one := engine.registry.get(name)) is not None}

    def node(self, name: str) -> NodeType:
        """One node type. Raises NodegraphError when the pack has none of that name."""
        known = self.nodes
        if name not in known:
            fix = did_you_mean(name, known) or f"it has {', '.join(sorted(known)) or 'none'}"
            raise NodegraphError(f"the pack {self.info.name!r} has no node {name!r}; {fix}")
        return known[name]

    def run(self, name: str, /, **inputs: Any) -> Any:
        """Run one node: its output, or a named tuple of several. Raises RunFailed with what went wrong."""
        one = self.node(name)
        try:
            outputs = run_node(self.engine, one, inputs)
        except WorkflowInvalid as error:
            raise RunFailed(error.problems) from None
        if one.single and len(outputs) == 1:
            return next(iter(outputs.values()))
        return namedtuple(name, outputs)(**outputs)

    def check(self, *names: str, samples: Samples | None = None, cases: int = 3) -> list[Problem]:
        """Try what every node promises (those named, or all): the same inputs give the same bytes, inputs stay as they are, what
        comes out is what is declared, there is a docstring. `samples`: values for types, or ports (`fade.image`), that
        samples cannot be made for; a node that cannot be tried is a problem too."""
        contract = Contract(self.engine, samples)
        problems: list[Problem] = []
        for one in [self.node(name) for name in names] or self.nodes.values():
            tried = contract.try_node(one, cases)
            problems += tried.problems
            if tried.untried:
                problems.append(untried(tried.node, tried.untried, tried.fix))
        return problems


def untried(node: str, reason: str, fix: str = "") -> Problem:
    """A node that no sample could be made for, or that took none."""
    given = "give values to try it with: pack.check(samples={'port type or node.port': [value, …]})"
    return Problem("not-tried", node, f"{node!r} could not be tried: {reason}", fix or given)


def call_twice(function: Callable[..., Any], /, **inputs: Any) -> Any:
    """Call a node's function directly, twice: what it gave. Raises AssertionError when it changed an input in place, or gave other
    bytes the second time."""
    before = {name: digest(value) for name, value in inputs.items()}
    first = function(**inputs)
    changed = [name for name, value in inputs.items() if digest(value) != before[name]]
    if changed:
        raise AssertionError(f"{function.__name__} changed its input {changed[0]!r} in place")
    if digest(first) != digest(function(**inputs)):
        raise AssertionError(f"{function.__name__} gave something else for the same inputs")
    return first


def same(first: Any, second: Any) -> bool:
    """Whether two values are the same: type, shape and every byte, also inside of lists and of values of packs."""
    return digest(first) == digest(second)


def pack_folder(place: Path) -> Path:
    """The folder of the pack that a file or folder is in. Raises PackInvalid when it is in none."""
    start = place.resolve()
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder
    text = f"{str(place)!r} is in no pack: neither it nor a folder above it has a {FILE}"
    raise PackInvalid([Problem("no-pack", "", text, "make a pack with: nodegraph packs new NAME")])


def _close(engine: Engine, scratch: tempfile.TemporaryDirectory[str]) -> None:
    engine.close()
    scratch.cleanup()


__all__ = ["Pack", "call_twice", "pack_folder", "same"]
