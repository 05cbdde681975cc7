"""Workflows written in Python: another spelling of the JSON file, nothing more.

    w = Workflow.build("circle", doc="A picture from a prompt.")
    prompt = w.input("prompt", "text", default="a red circle")
    model = w.load_model(name="tiny-sd")
    positive = w.encode_text("positive", encoder=model.encoder, text=prompt)
    …
    w.output(image=decode.image)
    engine.run(w)

A call of a node type's name adds a node: links and values by port, before them the node's name, if it is to have another than its
type's. An attribute of a node is one of its outputs. What is wrong is found by `check`, as in a file, with the line of the call.
`nodegraph stubs` writes what editors and type checkers want to know of the nodes that are here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from nodegraph import kinds, positions
from nodegraph.errors import Problem, WorkflowInvalid
from nodegraph.workflow import Workflow

if TYPE_CHECKING:
    from nodegraph.handles import ModelRef
    from nodegraph.secret import Secret
    from nodegraph.values import File, Image, Mask

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_ABSENT: Any = object()


class Link(Generic[T_co]):
    """An output of a node, or an input of the workflow: what an input of a node is linked to."""

    __slots__ = ("_builder", "_reference")

    def __init__(self, builder: BuilderBase, reference: str):
        self._builder, self._reference = builder, reference

    def __repr__(self) -> str:
        return f"Link({self._reference!r})"

    def __format__(self, how: str) -> str:
        """Raises WorkflowInvalid: what the link will give is not known yet, and its name is no part of the text."""
        return self._builder._not_in_text(self)


class Each(Generic[T_co]):
    """A list that a node is to run over, once for each item; made by `w.each(…)`."""

    __slots__ = ("_items",)

    def __init__(self, items: Any):
        self._items = items


class _Links(list[Link[Any]]):
    """Several links, or none: unlike a plain list, an empty one is no value."""


class NodeBase:
    """A node that was added. `node["port"]` is an output whose name is no attribute."""

    __slots__ = ("_builder", "_name")
    __iter__ = None  # or Python would take outputs 0, 1, 2 and so on from it, without end

    def __init__(self, builder: BuilderBase, name: str):
        self._builder, self._name = builder, name

    def __getitem__(self, port: str) -> Link[Any]:
        return Link(self._builder, f"{self._name}.{port}")

    def __repr__(self) -> str:
        return f"<node {self._name!r}>"

    def __format__(self, how: str) -> str:
        """Raises WorkflowInvalid, as that of a link."""
        return self._builder._not_in_text(self)


class Node(NodeBase):
    """A node whose outputs are its attributes."""

    __slots__ = ()

    def __getattr__(self, port: str) -> Link[Any]:
        if port.startswith("_"):
            raise AttributeError(port)
        return self[port]


class BuilderBase:
    """Gathers a workflow. `Workflow.build` makes one; node types are its methods."""

    def __init__(self, name: str, doc: str, requires: Mapping[str, str] | None, folder: Path | None, file: str, line: int):
        self._head: dict[str, Any] = {
            "nodegraph": 1,
            "name": name,
            "doc": doc,
            "requires": dict(requires) if isinstance(requires, Mapping) else requires,
        }
        self._inputs: dict[str, dict[str, Any]] = {}
        self._nodes: dict[str, dict[str, Any]] = {}
        self._outputs: dict[str, Any] = {}
        self._folder, self._file = folder, file
        self._lines: dict[tuple[str, ...], int] = {(): line}

    # -- the parts of a workflow -----------------------------------------------------------------------------------

    if TYPE_CHECKING:

        @overload
        def input(self, name: str, type: Literal["text"], /, **facts: Any) -> Link[str]: ...
        @overload
        def input(self, name: str, type: Literal["int", "seed"], /, **facts: Any) -> Link[int]: ...
        @overload
        def input(self, name: str, type: Literal["float"], /, **facts: Any) -> Link[float]: ...
        @overload
        def input(self, name: str, type: Literal["bool"], /, **facts: Any) -> Link[bool]: ...
        @overload
        def input(self, name: str, type: Literal["image"], /, **facts: Any) -> Link[Image]: ...
        @overload
        def input(self, name: str, type: Literal["mask"], /, **facts: Any) -> Link[Mask]: ...
        @overload
        def input(self, name: str, type: Literal["file"], /, **facts: Any) -> Link[File]: ...
        @overload
        def input(self, name: str, type: Literal["model"], /, **facts: Any) -> Link[ModelRef]: ...
        @overload
        def input(self, name: str, type: Literal["secret"], /, **facts: Any) -> Link[Secret]: ...
        @overload
        def input(self, name: str, type: str, /, **facts: Any) -> Link[Any]: ...

    def input(self, name: str, type: str, /, **facts: Any) -> Any:
        """Declare an input. `facts`: `default`, `min`, `max`, `choices`, `kind`, `doc`; without a default it is required."""
        self._refuse(name in self._inputs, "name-clash", ("inputs", name), f"there is an input {name!r} already", "give it another name")
        self._inputs[name] = {"type": type, **facts}
        self._lines["inputs", name] = _caller_line()
        return Link(self, f"inputs.{name}")

    def output(self, /, **links: Link[Any] | Sequence[Link[Any]]) -> None:
        """Say what the workflow gives, by name."""
        for name, given in links.items():
            place = ("outputs", name)
            self._refuse(not self._is_link(given), "not-a-link", place, f"the output {name!r} is no link", "give an output: node.port")
            self._outputs[name] = self._reference(given)
            self._lines[place] = _caller_line()

    def use(self, use: str | os.PathLike[str] | Workflow | BuilderBase, name: str = "", /, **ports: Any) -> Node:
        """Add a node by the name of its type, by the path of a workflow file, or by a workflow."""
        return self._add(use, name, ports)

    def each(self, items: Link[list[T]] | Link[T] | Sequence[T]) -> Each[T]:
        """Run the node once for each item of a list; its outputs are lists then."""
        return Each(items)

    def link(self, *references: str) -> Any:
        """A link as a file spells it, `node.port`: to a node that is added later. Several, or none, are a list."""
        links = _Links(Link[Any](self, reference) for reference in references)
        return links[0] if len(links) == 1 else links

    def describe(self, node: NodeBase, doc: str) -> None:
        """Say what a node is for."""
        self._nodes[node._name]["doc"] = doc

    def to_workflow(self) -> Workflow:
        """The workflow as it is now. Raises WorkflowInvalid."""
        record = {**{key: value for key, value in self._head.items() if value}, "inputs": self._inputs, "nodes": self._nodes}
        workflow = Workflow.of({**record, "outputs": self._outputs} if self._outputs else record)
        workflow._place(_Lines(self._lines), self._file, self._folder, ())
        return workflow

    # -- inside ----------------------------------------------------------------------------------------------------

    def _not_in_text(self, one: Link[Any] | NodeBase) -> str:
        text, fix = f"{one!r} cannot stand in a text", "let a node make the text: w.format_text(template='… {name} …', name=link)"
        self._refuse(True, "link-in-text", (), text, fix)
        return repr(one)

    def _add(self, use: Any, name: str, ports: Mapping[str, Any]) -> Node:
        use = use.to_workflow() if isinstance(use, BuilderBase) else self._path_of(use) if isinstance(use, Workflow) else use
        if isinstance(use, os.PathLike):
            use = _as_written(Path(use))
        fix = "give the name of a node type, the path of a workflow's file, or a workflow"
        self._refuse(not isinstance(use, str | Workflow), "wrong-json", ("nodes", name), f"a node cannot use {kinds.describe(use)}", fix)
        chosen = name or self._free(use.name if isinstance(use, Workflow) else Path(use).stem if use.endswith(".json") else use)
        place = ("nodes", chosen)
        self._refuse(chosen in self._nodes, "name-clash", place, f"there is a node {chosen!r} already", "give it another name")
        self._lines[place] = _caller_line()
        sections: dict[str, dict[str, Any]] = {"each": {}, "from": {}, "with": {}}
        for port, given in ports.items():
            section, value = self._sorted(chosen, port, given)
            sections[section][port] = value
        self._nodes[chosen] = {"use": use, **{key: found for key, found in sections.items() if found}}
        return Node(self, chosen)

    def _path_of(self, workflow: Workflow) -> Any:
        """How a workflow stands in the file: by its own path if it was read from one, as its own paths start there."""
        if not workflow.file or workflow.folder is None:
            return workflow
        path = workflow.folder / Path(workflow.file).name
        return _as_written(Path(os.path.relpath(path, self._folder)) if self._folder else path)

    def _free(self, stem: str) -> str:
        """The name of a node that has none: that of its type, with a number from the second on."""
        stem = stem.rpartition("/")[2] or "node"
        number = 2
        name = stem
        while name in self._nodes:
            name, number = f"{stem}_{number}", number + 1
        return name

    def _sorted(self, node: str, port: str, given: Any) -> tuple[str, Any]:
        """Where in a node a value stands, and as what."""
        place = ("nodes", node, port)
        section, given = ("each", given._items) if isinstance(given, Each) else ("with", given)
        if self._is_link(given):
            return "from" if section == "with" else section, self._reference(given)
        text = f"{port!r} of {node!r} is a node"
        self._refuse(isinstance(given, NodeBase), "not-a-link", place, text, "say which of its outputs: node.port")
        if section == "each":
            unordered = isinstance(given, Mapping | Set)  # the items of a set come in another order in each process
            wrong = unordered or isinstance(given, str | bytes) or not isinstance(given, Iterable)
            self._refuse(
                wrong, "each-type", place, f"{port!r} of {node!r} is mapped over {kinds.describe(given)}", "give a list, or a link"
            )
            given = list(given)
        mixed = isinstance(given, list | tuple) and any(isinstance(one, Link | NodeBase) for one in given)
        self._refuse(mixed, "mixed-list", place, f"{port!r} of {node!r} is a list of links and values", "make values outputs of nodes")
        inside = f"{port!r} of {node!r} is a value with a link inside"
        self._refuse(_holds_link(given), "mixed-list", place, inside, "put it together by nodes, and link the port to the last one")
        if section == "each":
            return section, given
        if isinstance(given, BuilderBase):
            return "with", given.to_workflow().to_json()
        return "with", given.to_json() if isinstance(given, Workflow) else list(given) if isinstance(given, tuple) else given

    def _is_link(self, given: Any) -> bool:
        if isinstance(given, _Links) and not given:
            return True
        links = given if isinstance(given, list | tuple) and given else [given]
        if not all(isinstance(one, Link) for one in links):
            return False
        foreign = [one for one in links if one._builder is not self]
        self._refuse(bool(foreign), "foreign-link", (), f"{foreign[:1]} is of another workflow", "declare an input, and give it")
        return True

    def _reference(self, given: Any) -> Any:
        return [one._reference for one in given] if isinstance(given, list | tuple) else given._reference

    def _refuse(self, wrong: bool, code: str, place: tuple[str, ...], text: str, fix: str) -> None:
        if wrong:
            raise WorkflowInvalid([Problem(code, ".".join(place), text, fix, self._file, _caller_line(), 1)])


class Builder(BuilderBase):
    """A builder that takes any name for a node type."""

    def __getattr__(self, use: str) -> Any:
        if use.startswith("_"):
            raise AttributeError(use)

        def add(name: str = "", /, **ports: Any) -> Node:
            return self._add(use, name, ports)

        return add


class _Lines(positions.Positions):
    """Where the parts of a workflow were written in Python."""

    def __init__(self, lines: Mapping[tuple[str, ...], int]):
        super().__init__("")
        self._written = dict(lines)

    def locate(self, path: positions.Path) -> tuple[int, int]:
        names = tuple(str(step) for step in path)
        while names not in self._written:
            names = names[:-1]
        return self._written[names], 1


def _as_written(path: Path) -> str:
    """How the path of a workflow stands in a file."""
    written = path.as_posix()
    return written if written.startswith(".") or path.is_absolute() else f"./{written}"


def _holds_link(value: Any) -> bool:
    """Whether there is a link, or a node, anywhere in a value."""
    stack, seen = [value], set()
    while stack:
        one = stack.pop()
        if isinstance(one, Link | NodeBase):
            return True
        if isinstance(one, list | tuple | dict) and id(one) not in seen:  # it may be in a circle
            seen.add(id(one))
            stack += one.values() if isinstance(one, dict) else one
    return False


def _caller_line() -> int:
    """The line of the call that led here from outside of this module."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame.f_lineno if frame else 0


def build(name: str = "", doc: str = "", requires: Mapping[str, str] | None = None, folder: str | Path | None = None) -> Builder:
    """A builder. Relative paths in it start from `folder`, or from where the calling file lies."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("nodegraph."):
        frame = frame.f_back
    file = frame.f_code.co_filename if frame else ""
    home = Path(file).resolve().parent if Path(file).is_file() else None
    return Builder(name, doc, requires, Path(folder).resolve() if folder is not None else home, file, frame.f_lineno if frame else 0)


__all__ = ["Builder", "BuilderBase", "Each", "Link", "Node", "NodeBase", "build"]
