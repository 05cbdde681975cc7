"""What goes into a call: values of settled sources, the work key, and the outside values behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nodegraph import keys, kinds
from nodegraph.entries import PLAIN, Entry, Smaller
from nodegraph.noderun import NodeRun
from nodegraph.outcomes import Lazy
from nodegraph.plan import Form, as_port
from nodegraph.sources import Const, Item, Source, part
from nodegraph.spec import NodeType
from nodegraph.states import DONE, SKIPPED

if TYPE_CHECKING:
    from nodegraph.run import Execution


class Gone(Exception):
    """Results that a step needs are no longer there: they must be computed again."""

    def __init__(self, steps: list[int]):
        super().__init__(steps)
        self.steps = steps


def gather(run: Execution, step: int, used: NodeType, key: bytes | None) -> dict[str, Any]:
    """The keyword arguments of a call under a work key. Raises Gone, and Refused."""
    inputs = dict(run.plan.literals[step])
    lazy = run.traits[step].lazy
    for port, source in run.plan.sources[step].items():
        declared = used.inputs.get(port)
        if lazy and (declared.lazy if declared else None in lazy):
            inputs[port] = _lazy_input(run, step, port, source)
            continue
        given = value_of(run, source)
        if type(given) is int and declared is not None:
            given = as_port(declared, given)
        inputs[port] = given
    for name in run.plan.literals[step] if lazy else ():
        if name in lazy or (None in lazy and name not in used.inputs):
            inputs[name] = Lazy(name, inputs[name], ready=True)
    if used.takes_run:
        inputs[used.takes_run] = NodeRun(run, step, key)
    return inputs


def _lazy_input(run: Execution, step: int, port: str, source: Source) -> Lazy[Any]:
    if run._is_lazy(step, port):
        return Lazy(port)
    if run._verdict(source)[0] == SKIPPED:
        return Lazy(port, None, ready=True, skipped=True)
    return Lazy(port, value_of(run, source), ready=True)


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
    values, done = [], run.done
    for one in source:
        if one.__class__ is tuple and (entry := done[one[0]]).__class__ in PLAIN:
            values.append(entry)
        elif _in_memory(run, one):
            values.append(value_of(run, one))
        else:
            return Items(run, source)
    return values


def _in_memory(run: Execution, source: Source) -> bool:
    final = run.final(source)
    entry = run.done[final[0]] if final.__class__ is tuple else None
    return not isinstance(entry, Entry) or entry.values is not None


class Items(Sequence[Any]):
    """A read-only list whose items are fetched from their tier when they are looked at."""

    def __init__(self, run: Execution, sources: list[Source]):
        self._run, self._sources = run, sources
        missing = [final[0] for one in sources if not _in_memory(run, one) and not _readable(run, (final := run.final(one))[0])]
        if missing:
            raise Gone(missing)

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [value_of(self._run, one) for one in self._sources[index]]
        return value_of(self._run, self._sources[index])


def _readable(run: Execution, step: int) -> bool:
    """Whether the disk still has a result, checked by reading it."""
    return run.shared.cache.load(run.done[step]) is not None


def work_key(run: Execution, step: int, used: NodeType) -> bytes:
    """The key of the work: the node type, its literals, and the identities of the inputs it has asked for."""
    plan = run.plan
    parts = [*plan.parts[step]]
    traits = run.traits[step]
    for port, source in plan.sources[step].items():
        if traits.lazy and run._is_lazy(step, port):
            continue
        skipped = bool(traits.lazy) and run._verdict(source)[0] != DONE
        parts.append(part(port, b"skipped" if skipped else run.ident(source)))
    form: Form = traits.form
    if form.special:
        parts += plan.extra_parts(step, used)
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
