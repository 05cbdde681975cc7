"""What a node may return besides values: a lazy input, `Need`, `Skip` or a `Graph`. And the refs that graphs are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Lazy(Generic[T]):
    """An input that is computed only when the node asks for it.

    Returned by the node, it is an alias: the same result under the same key. `Need(port)` has it computed and the node
    called again, with `ready` true and `value` there. `skipped` is true when what feeds it was skipped.
    """

    __slots__ = ("_value", "port", "ready", "skipped")

    def __init__(self, port: str, value: Any = None, ready: bool = False, skipped: bool = False):
        self.port, self._value, self.ready, self.skipped = port, value, ready, skipped

    @property
    def value(self) -> T:
        if not self.ready:
            raise LookupError(f"the lazy input {self.port!r} is not computed; return Need({self.port!r}) first")
        return self._value

    def __repr__(self) -> str:
        return f"Lazy({self.port!r}, {'ready' if self.ready else 'not computed'})"


@dataclass(frozen=True, slots=True, init=False)
class Need:
    """Ask for lazy inputs: they are computed, and the node is called again."""

    ports: tuple[str, ...]

    def __init__(self, *ports: str):
        object.__setattr__(self, "ports", ports)


@dataclass(frozen=True, slots=True)
class Skip:
    """There is nothing to give: what depends on this node is skipped, not failed."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ref:
    """An output of a node in a Graph, or an input of the node that returns it."""

    node: str
    port: str


@dataclass(slots=True)
class GraphNode:
    """One node of a Graph: what it uses (a node type's name or a workflow), its links and its literals."""

    use: Any
    links: dict[str, Any] = field(default_factory=dict)
    literals: dict[str, Any] = field(default_factory=dict)
    graph: Any = None

    def __getitem__(self, port: str) -> Ref:
        for name, node in self.graph.nodes.items():
            if node is self:
                return Ref(name, port)
        raise KeyError(port)


class Graph:
    """A graph that a node returns in place of its values; it is planned and run as if it stood in the file.

    It refers to the inputs of its parent and never holds their values:

        graph = Graph()
        turn = graph.add("turn", body, value=graph.input("value"))
        return graph.give(value=turn["value"])
    """

    __slots__ = ("nodes", "outputs")

    def __init__(self) -> None:
        self.nodes: dict[str, GraphNode] = {}
        self.outputs: dict[str, Ref] = {}

    @staticmethod
    def input(port: str) -> Ref:
        """An input of the node that returns this graph."""
        return Ref("inputs", port)

    def add(self, name: str, use: Any, **inputs: Any) -> GraphNode:
        """Add a node. `use` is a node type's name or a workflow. A Ref, or a list of Refs, is a link; anything else a literal."""
        if name in self.nodes or name == "inputs":
            raise ValueError(f"the graph already has a node {name!r}")
        node = GraphNode(use, graph=self)
        for port, value in inputs.items():
            linked = isinstance(value, Ref) or (isinstance(value, list) and value and all(isinstance(item, Ref) for item in value))
            (node.links if linked else node.literals)[port] = value
        self.nodes[name] = node
        return node

    def give(self, **outputs: Ref) -> Graph:
        """Say what the outputs of the returning node are. Returns the graph."""
        self.outputs = dict(outputs)
        return self

    def record(self) -> dict[str, Any]:
        """How a graph is cached: its nodes with links as text. Workflows and literals stand as they are."""

        def link(ref: Any) -> Any:
            return [f"{one.node}.{one.port}" for one in ref] if isinstance(ref, list) else f"{ref.node}.{ref.port}"

        nodes = {}
        for name, node in self.nodes.items():
            links = {port: link(ref) for port, ref in node.links.items()}
            nodes[name] = {"use": node.use, "from": links, "with": node.literals}
        return {"nodes": nodes, "outputs": {port: link(ref) for port, ref in self.outputs.items()}}
