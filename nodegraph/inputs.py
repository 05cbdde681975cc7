"""What goes into a call: values of settled sources, the work key, and the outside values behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from nodegraph import keys, kinds
from nodegraph.entries import PLAIN, Entry, Smaller
from nodegraph.noderun import NodeRun
from nodegraph.outcomes import Lazy
from nodegraph.plan import Form, as_port
from nodegraph.sources import Const, Item, Source, part
from nodegraph.spec import NodeType, as_written
from nodegraph.states import DONE, SKIPPED

if TYPE_CHECKING:
    from nodegraph.execution import Execution


Read = Callable[["Execution", Source], Any]
"""How the value of a settled source is read."""


class Gone(Exception):
    """Results that a step needs are no longer there: they must be computed again."""

    def __init__(self, steps: list[int]):
        super().__init__(steps)
        self.steps = steps


def gather(run: Execution, step: int, used: NodeType, key: bytes | None) -> dict[str, Any]:
    """The keyword arguments of a call under a work key. Raises Gone, and Refused."""
    sources, literals = run.plan.sources[step], run.plan.literals[step]
    inputs = {**dict.fromkeys(sources), **literals} if used.open else dict(literals)  # of open ports, links come before values
    traits = run.traits[step]
    lazy, fetched, floats = traits.lazy, traits.fetched, traits.floats
    for port, source in sources.items():
        known = port if port in used.inputs else None
        read = _items_of if known in fetched else value_of
        if known in floats:
            read = partial(_floats_of, used, port, read)
        inputs[port] = _lazy_input(run, step, port, source, read) if known in lazy else read(run, source)
    for name in lazy:  # what is written and the default are one to keys; where that is None, nothing is there
        if name is not None and name not in inputs and (default := as_written(used.inputs[name])) is not None:
            inputs[name] = default
    for name, value in inputs.items() if lazy else ():
        absent = value is None and name in used.inputs and used.inputs[name].default is None
        if name not in sources and not absent and (name in lazy or (None in lazy and name not in used.inputs)):
            inputs[name] = Lazy(name, value, ready=True)
    if used.takes_run:
        inputs[used.takes_run] = NodeRun(run, step, key)
    return inputs


def _lazy_input(run: Execution, step: int, port: str, source: Source, read: Read) -> Lazy[Any]:
    if run._is_lazy(step, port):
        return Lazy(port)
    if run._verdict(source)[0] == SKIPPED:
        return Lazy(port, None, ready=True, skipped=True)
    return Lazy(port, read(run, source), ready=True)


def _floats_of(used: NodeType, port: str, read: Read, run: Execution, source: Source) -> Any:
    declared = used.port(port)
    assert declared is not None  # check has refused unknown ports
    return as_port(declared, read(run, source))


def value_of(run: Execution, source: Source) -> Any:
    """The value of a settled source. Raises Gone."""
    source = run.final(source)
    kind = source.__class__
    if kind is tuple:
        entry = run.done[source[0]]
        if entry.__class__ in PLAIN:
            return entry
        values = entry.values
        if values is None and (values := run.shared.cache.load(entry)) is None:
            raise Gone([source[0]])
        return values[0] if len(values) == 1 else values[entry.ports.index(source[1])]
    if kind is Const:
        return source.value
    if kind is Item:
        return value_of(run, source.source)[source.index]
    values, gone, done = [], [], run.done
    for one in source:
        if one.__class__ is tuple and (entry := done[one[0]]).__class__ in PLAIN:
            values.append(entry)
            continue
        try:
            values.append(value_of(run, one))
        except Gone as error:
            gone += error.steps
    if gone:
        raise Gone(gone)
    return values


def _items_of(run: Execution, source: Source) -> Any:
    """The value of a settled source for a port that takes a list of what may be large. Raises Gone."""
    source = run.final(source)
    if source.__class__ is not list or all(_in_memory(run, one) for one in source):
        return value_of(run, source)
    return Items(run, source)


def _in_memory(run: Execution, source: Source) -> bool:
    final = run.final(source)
    if final.__class__ is list:
        return all(_in_memory(run, one) for one in final)
    entry = run.done[final[0]] if final.__class__ is tuple else None
    return not isinstance(entry, Entry) or entry.values is not None


class Items(Sequence[Any]):
    """A read-only list whose items are fetched from their tier when they are looked at."""

    def __init__(self, run: Execution, sources: list[Source]):
        self._run, self._sources = run, sources
        missing = [step for one in sources for step in _missing(run, one)]
        if missing:
            raise Gone(missing)

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [value_of(self._run, one) for one in self._sources[index]]
        return value_of(self._run, self._sources[index])

    def __add__(self, other: Any) -> list[Any]:
        return [*self, *other]

    def __radd__(self, other: Any) -> list[Any]:
        return [*other, *self]


def _missing(run: Execution, source: Source) -> list[int]:
    """The steps whose results the disk has no more, checked by reading them."""
    final = run.final(source)
    if final.__class__ is list:
        return [step for one in final for step in _missing(run, one)]
    return [] if _in_memory(run, final) or run.shared.cache.load(run.done[final[0]]) is not None else [final[0]]


def as_lists(value: Any) -> Any:
    """A value with lists in place of `Items`."""
    if isinstance(value, Items | list):
        return [as_lists(one) for one in value]
    if isinstance(value, dict):
        return {key: as_lists(one) for key, one in value.items()}
    return value


def work_key(run: Execution, step: int, used: NodeType) -> bytes:
    """The key of the work: the node type, its literals, and the identities of the inputs it has asked for. Of a lazy input that it has
    not asked for there is no more in it than that it is linked, where it could also not be: the node sees that."""
    plan = run.plan
    parts = [*plan.parts[step]]
    traits = run.traits[step]
    for port, source in plan.sources[step].items():
        if traits.lazy and run._is_lazy(step, port):
            if port not in used.inputs or not used.inputs[port].required:
                parts.append(part(port, b"linked"))
            continue
        skipped = bool(traits.lazy) and run._verdict(source)[0] != DONE
        parts.append(part(port, b"skipped" if skipped else run.ident(source)))
    form: Form = traits.form
    if form.special:
        parts += plan.extra_parts(step, used, plan.sources[step], plan.literals[step])
    return form.work_key(parts)


def list_ident(idents: list[bytes]) -> bytes:
    """The identity of a list from those of its items: a list of small values has the identity of their content."""
    return keys.short(b"list", b"[" + b"".join([b"%d:%b" % (len(one), one) for one in idents]))


def note_outside(run: Execution, step: int, own: tuple[Any, ...]) -> tuple[Any, ...]:
    """Remember the outside values that a step gave, or that are behind what it has seen. Returns them, each once."""
    if not own and not run.outside:
        return ()
    found = {kinds.content(one): one for one in own}
    for port, source in run.plan.sources[step].items():
        if not run._is_lazy(step, port):
            found.update((kinds.content(one), one) for one in outside_of(run, source))
    if found:
        run.outside[step] = tuple(found.values())
    return tuple(found.values())


def smaller_behind(run: Execution, source: Source) -> dict[str, int]:
    """The nodes behind a source that have run as a smaller variant, by path, and which."""
    return {one.path: one.variant for one in outside_of(run, source) if one.__class__ is Smaller}


def outside_of(run: Execution, source: Source) -> tuple[Any, ...]:
    """The outside values behind a source, those of steps that chose what it stands for included."""
    gathered: tuple[Any, ...] = ()
    while source.__class__ is tuple:
        gathered += run.outside.get(source[0], ())
        done = run.done[source[0]]
        if done.__class__ is not dict:
            return gathered
        source = done[source[1]]
    if source.__class__ is list:
        for one in source:
            gathered += outside_of(run, one)
    elif source.__class__ is Item:
        gathered += outside_of(run, source.source)
    return gathered
