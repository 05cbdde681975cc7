"""What is kept of a computed result: its values, their identities, and what it cost."""

from __future__ import annotations

from typing import Any, NamedTuple

from nodegraph import arrays, keys, kinds

OVERHEAD = 300
"""Host bytes that an entry takes beside its values: keys, identities, bookkeeping."""

CHEAP = 100e-6
"""What takes less than so many seconds is done again sooner than it is written and read."""

PLAIN = frozenset({int, float, bool, str})
"""The classes of values that are kept as they are, in runs and in the cache: an Entry for each would be an object more for the
garbage collector to walk through, which in large graphs costs as much as the nodes."""

PINNED = 4096
"""Results of more bytes than this stay in memory while steps wait for them; smaller ones are soon computed again."""
SLOW = 0.01
"""So do those that took more seconds than this, however small."""


class Smaller(NamedTuple):
    """Stands among the outside values of a result: a node behind it has run as a smaller variant, as memory was short, so that its
    bytes are not quite those of the whole. No plan key leads to such a result: the next run tries the whole again."""

    path: str
    variant: int


class Entry:
    """The result of one unit of work, by its work key.

    `kind` is `values`, `graph` (the node returned a graph: `values` has its record) or `skip` (`values` has the reason).
    `values` is None while the result lies on disk only. `idents[i]` is the identity under which output i enters keys.
    `seconds` is what computing took, `nbytes` what it takes in memory, arrays included; `age` and `uses` are for `eviction`.
    `outside` holds the outside values among its own outputs; those behind it belong to the links that lead to it.
    """

    __slots__ = ("age", "idents", "kept", "key", "kind", "nbytes", "outside", "pins", "ports", "seconds", "stored", "uses", "values")

    def __init__(
        self,
        key: bytes | None,
        kind: str,
        ports: tuple[str, ...],
        values: Any,
        idents: tuple[bytes, ...],
        seconds: float,
        outside: tuple[Any, ...] = (),
    ):
        self.key, self.kind, self.ports, self.values, self.idents = key, kind, ports, values, idents
        self.seconds, self.outside = seconds, outside
        self.nbytes = 0
        self.pins = 0
        self.age, self.uses = 0.0, 1
        self.stored = False
        self.kept: bytes | None = None  # the plan key under which it was last kept on disk as an output

    def ident(self, port: str) -> bytes:
        return self.idents[self.ports.index(port)]


class PlainEntry(Entry):
    """The result of a plain step, when somebody asks for it: one number, bool or short text, which is its own identity."""

    __slots__ = ("value",)
    kind = "values"
    outside = ()

    def __init__(self, key: bytes, ports: tuple[str, ...], value: Any, seconds: float):
        self.key, self.ports, self.value, self.seconds = key, ports, value, seconds
        self.nbytes = OVERHEAD + (len(value) if value.__class__ is str else 0)
        self.pins = 0
        self.age, self.uses = 0.0, 1
        self.stored = False
        self.kept = None

    @property
    def values(self) -> tuple[Any]:
        return (self.value,)

    @values.setter
    def values(self, values: Any) -> None:
        """Whatever tier it is said to have left, the value stays."""

    @property
    def idents(self) -> tuple[bytes]:  # type: ignore[override]
        return (keys.identity(self.value),)  # not kept, as it is made faster than its bytes are worth


LONGEST_PLAIN = 200
"""Characters of a text that is kept as it is."""


def output_ident(key: bytes, port: str, value: Any, by_content: bool) -> bytes:
    """The identity of an output: its content if that is small or asked for, otherwise its producer's work key and port."""
    if by_content or kinds.has_content_identity(value):
        return kinds.content(value)
    return b"@%b%b" % (key, port.encode())


def storages_in(values: Any) -> dict[tuple[int, int], bool]:
    """The storages of the arrays in some values, each once, by identity and bytes; and whether it lies on the host."""
    return {arrays.storage(array): arrays.device_of(array) == "cpu" for array in kinds.arrays_in(values)}


def host_bytes(values: Any) -> int:
    """The bytes of what is not an array, with the entry's own overhead."""
    return OVERHEAD + sum(map(kinds.plain_bytes, values)) if isinstance(values, tuple) else OVERHEAD + kinds.plain_bytes(values)


def compacted(value: Any) -> Any:
    """The value, with arrays copied that are small views of large storages."""
    if isinstance(value, list | tuple):
        return [compacted(item) for item in value]
    found = list(kinds.arrays_in(value))
    if not found or all(array.nbytes * 2 >= arrays.storage(array)[1] for array in found):
        return value
    return rebuilt(value, arrays.compact)


def rebuilt(value: Any, change: Any) -> Any:
    """The value with `change` applied to each of its arrays."""
    if isinstance(value, list | tuple):
        return [rebuilt(item, change) for item in value]
    if isinstance(value, dict):
        return {key: rebuilt(item, change) for key, item in value.items()}
    if arrays.is_array(value):
        return change(value)
    if hasattr(value, "parts") and not isinstance(value, type):
        meta, named = value.parts()
        return type(value).from_parts(meta, {name: change(array) for name, array in named.items()}) if named else value
    return value
