"""Plans: a workflow expanded into flat steps with inputs bound and keys computed.

A step is one call of a node type (or a list that is mapped when it arrives). A run may extend its plan; what a step is never
changes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nodegraph import keys, kinds, types
from nodegraph.errors import Problem, WorkflowInvalid, did_you_mean, listing
from nodegraph.literals import Outside, Pending, Refused, Unwritable, has_pending, literal
from nodegraph.sources import LENGTHS, Const, Item, Source, part, port_bytes
from nodegraph.spec import REQUIRED, NodeType, Port
from nodegraph.template import INPUTS, Template


class Scope:
    """Where steps stand: the prefix of their paths, and what declared them."""

    __slots__ = ("prefix", "turn", "workflow")

    def __init__(self, prefix: str, workflow: str, turn: int = 0):
        self.prefix, self.workflow, self.turn = prefix, workflow, turn


class Mapped:
    """A node mapped over lists whose length is not known yet: what to expand when they are there."""

    __slots__ = ("checked", "each", "literals", "scope_name", "shared", "used")

    def __init__(
        self,
        used: NodeType | Template,
        shared: dict[str, Source],
        literals: dict[str, Any],
        each: dict[str, Source],
        scope_name: str,
        checked: tuple[str, ...],
    ):
        self.used, self.shared, self.literals, self.each, self.scope_name = used, shared, literals, each, scope_name
        self.checked = checked


def _joined(parts: Sequence[bytes]) -> bytes:
    """Ports as they stand in keys, in one order whatever order they come in."""
    if len(parts) == 2:  # the commonest number by far, and the hashing itself takes no longer than sorting
        first, second = parts
        return first + second if first < second else second + first
    return b"".join(sorted(parts)) if len(parts) > 2 else parts[0] if parts else b""


class Form:
    """How the nodes of one type enter keys. `special`: their keys hold more than their ports, or they have none."""

    __slots__ = ("_plan", "_work", "defaults", "heads", "special")

    def __init__(self, used: NodeType, numerics: bytes):
        prefix = keys.digest(b"type", used.key_name.encode(), used.numerics + numerics if used.numerics else b"")
        self._plan, self._work = keys.hasher(b"plan"), keys.hasher(b"work")
        self._plan.update(prefix)
        self._work.update(prefix)
        self.heads = {name: port_bytes(name) for name in used.inputs}
        self.special = bool(used.effect or used.volatile or used.stateful or used.fingerprint or used.open)
        # ports at their defaults are left out of keys
        self.defaults = {}
        for name, port in used.inputs.items():
            if port.default is not REQUIRED:
                with contextlib.suppress(TypeError):  # of a class of the pack that has no parts: nothing can be equal to it
                    self.defaults[name] = part(name, kinds.content(as_port(port, port.default)))

    def plan_key(self, parts: Sequence[bytes]) -> bytes:
        """The plan key of a node from its ports as they stand in keys, in any order."""
        hasher = self._plan.copy()
        hasher.update(_joined(parts))
        return hasher.digest()

    def work_key(self, parts: Sequence[bytes]) -> bytes:
        """The work key of a node from its ports as they stand in keys, in any order."""
        hasher = self._work.copy()
        hasher.update(_joined(parts))
        return hasher.digest()

    def literals(self, literals: Mapping[str, Any]) -> tuple[bytes, ...]:
        """Plain literals of declared ports as they stand in keys."""
        found = []
        heads, defaults = self.heads, self.defaults
        for port, value in literals.items():
            ident = keys.identity(value)
            new = heads[port] + LENGTHS[len(ident)] + ident
            if defaults.get(port) != new:
                found.append(new)
        return tuple(found)


class _LinkBytes(dict[tuple[str, str], bytes]):
    """How a linked port and the output that it is linked to begin in a plan key; the key of the source, of fixed length, follows."""

    def __missing__(self, link: tuple[str, str]) -> bytes:
        port, output = link
        found = self[link] = b"%b\0@%b\0" % (port.encode(), output.encode())
        return found


class Identities:
    """How node types enter keys on one engine: their name, code and, if their pack says so, numerics."""

    def __init__(self, numerics: bytes = b""):
        self.numerics = numerics
        self._forms: dict[NodeType, Form] = {}
        self.link = _LinkBytes()

    def form(self, used: NodeType) -> Form:
        """How the nodes of a type enter keys."""
        known = self._forms.get(used)
        if known is None:
            known = self._forms[used] = Form(used, self.numerics)
        return known


def as_port(port: Port, value: Any) -> Any:
    """A value as the port hands it to the node: int becomes float where floats are declared. Raises Refused for one too large."""
    return _floats(port, value) if types.widens(port.type) else value


def _floats(port: Port, value: Any) -> Any:
    if type(value) is list:
        return [_floats(port, one) for one in value]
    if type(value) is not int:
        return value
    try:
        return float(value)
    except OverflowError:
        text = f"{port.name!r} takes a finite number, but {kinds.describe(value)} arrived"
        raise Refused("out-of-range", text, "give it a smaller number") from None


class Plan:
    """Flat lists by step. `keys[i]` is the plan key, None for what has none (volatile, effects, and what is behind them).

    `sources[i]` maps ports to sources, `literals[i]` to values, `parts[i]` holds the literals as they enter keys.
    """

    def __init__(self, identities: Identities, resolve: Any):
        self.identities = identities
        self.resolve = resolve  # Pending -> value
        self.scopes: list[Scope] = []
        self.names: list[str] = []
        self.types: list[Any] = []
        self.sources: list[dict[str, Source]] = []
        self.literals: list[Mapping[str, Any]] = []
        self.parts: list[tuple[bytes, ...]] = []
        self.keys: list[bytes | None] = []
        self.checked: dict[int, tuple[str, ...]] = {}
        self.effects: list[int] = []
        self.settled = 0  # the first steps, which are nodes that `check` has settled: each takes from steps before it
        self.top: list[Any] = []  # of each node of the workflow itself: its step, or the sources of its outputs by name
        self.bound: Mapping[str, Source] = {}  # the inputs of the workflow itself
        self.asked: set[int] = set()  # steps that were asked for by name: what they turn out to stand for is asked for too
        self.ident_of: Any = None  # set by a run: the identity of a source whose step is done, or None

    def __len__(self) -> int:
        return len(self.names)

    def path(self, step: int) -> str:
        return self.scopes[step].prefix + self.names[step]

    def paths(self, steps: Iterable[int]) -> list[str]:
        """The paths of several steps; nothing for what is below zero and no step."""
        scopes, names = self.scopes, self.names
        return [scopes[step].prefix + names[step] if step >= 0 else "" for step in steps]

    # -- expanding templates ---------------------------------------------------------------------------------------

    def expand(self, template: Template, bindings: Mapping[str, Source], scope: Scope, unsure: Sequence[str] = ()) -> dict[str, Source]:
        """Add the steps of a template with its inputs bound; those that are `unsure` are bound to values of any type. Returns the
        sources of its outputs."""
        at: list[Any] = [None] * len(template.names)
        self._expand_settled(template, at, scope)
        pending = _pending_by_node(template)
        for index in template.sequence():
            if at[index] is None:
                at[index] = self._expand_node(template, index, at, bindings, pending, scope, unsure)
        if not scope.prefix:
            self.top = at
        return {name: _resolve(link, at, bindings) for name, link in template.outputs.items()}

    def _expand_settled(self, template: Template, at: list[Any], scope: Scope) -> None:
        """Add the first nodes of an empty plan that `check` has settled: each is one step, and its links are sources as they are."""
        count = 0 if self.names or template.order is not None else template.settled
        if not count:
            return
        at[:count] = range(count)
        self.settled = count
        self.names, self.types, self.scopes = template.names[:count], template.types[:count], [scope] * count
        self.sources, self.literals = template.links[:count], template.literals[:count]
        kept = template.planned
        if kept is None or kept[0] is not self.identities:
            kept = template.planned = (self.identities, *self._settled_keys())
        self.parts, self.keys = kept[1].copy(), kept[2].copy()

    def _settled_keys(self) -> tuple[list[tuple[bytes, ...]], list[bytes | None]]:
        """The literals as they enter keys, and the plan keys, of steps with plain literals and links alone."""
        form_of, link = self.identities.form, self.identities.link
        all_parts: list[tuple[bytes, ...]] = []
        found: list[Any] = []
        last: Any = None
        form: Any = None
        for used, literals, sources in zip(self.types, self.literals, self.sources, strict=True):
            if used is not last:
                last, form = used, form_of(used)
            own = form.literals(literals) if literals else ()
            parts = [*own]
            for port, source in sources.items():
                if source.__class__ is tuple:
                    parts.append(link[port, source[1]] + found[source[0]])
                else:
                    parts.append(part(port, _listed([_output_ident(one, found) for one in source])))
            all_parts.append(own)
            found.append(form.plan_key(parts))
        return all_parts, found

    def _expand_node(
        self,
        template: Template,
        index: int,
        at: list[Any],
        bindings: Mapping[str, Source],
        pending: Mapping[int, Any],
        scope: Scope,
        unsure: Sequence[str],
    ) -> Any:
        """Add one node of a template. Returns its step, or the sources of its outputs by name."""
        used = template.types[index]
        checked = template.checked.get(index, ())
        if unsure:
            checked = (*checked, *template.doubtful(unsure)[0].get(index, ()))
        if used.__class__ is not NodeType or index in template.each or index in pending:
            return self._special(template, index, at, bindings, pending.get(index, ()), scope, checked)
        parts, given = self._literal_parts(template, index), template.literals[index]
        sources: dict[str, Source] = {}
        for port, link in template.links[index].items():
            if link.__class__ is tuple and link[0] >= 0 and (made := at[link[0]]).__class__ is int:
                sources[port] = (made, link[1])
                continue
            source = _resolve(link, at, bindings)
            if source.__class__ is Const and (used.open is None or port in used.inputs):  # the order of open ports is that of the file
                parts, given = self._bind_const(used, port, source, parts, given)
            else:
                sources[port] = source
        step = self.step(used, template.names[index], scope, sources, given, parts)
        if checked:
            self.checked[step] = checked
        return step

    def _bind_const(
        self, used: NodeType, port: str, source: Const, parts: tuple[bytes, ...], literals: Mapping[str, Any]
    ) -> tuple[tuple[bytes, ...], Mapping[str, Any]]:
        """A bound input enters like a literal; null leaves a port at its default."""
        declared = used.inputs[port]
        if source.value is None and not declared.type.optional and declared.default is not REQUIRED:
            return parts, literals
        try:
            value = as_port(declared, source.value)
        except Refused as error:
            raise WorkflowInvalid([Problem(error.code, port, error.text, error.fix)]) from None
        new = part(port, source.ident if value is source.value else kinds.content(value))
        if new != self.identities.form(used).defaults.get(port):
            parts = (*parts, new)
        return parts, {**literals, port: value}

    def _literal_parts(self, template: Template, index: int) -> tuple[bytes, ...]:
        """The literals of a node as they enter keys; pending ones are added when they are resolved."""
        known = template.parts.get(index)
        if known is None:
            known = template.parts[index] = self._parts(template.types[index], template.literals[index])
        return known

    def _parts(self, used: NodeType, literals: Mapping[str, Any]) -> tuple[bytes, ...]:
        found = []
        defaults = self.identities.form(used).defaults
        for port, value in literals.items():
            if not has_pending(value):
                declared = used.inputs.get(port)
                if declared is not None:
                    value = as_port(declared, value)
                new = part(port, kinds.content(value))
                if new != defaults.get(port):
                    found.append(new)
        return tuple(found)

    def step(
        self, used: Any, name: str, scope: Scope, sources: dict[str, Source], literals: Mapping[str, Any], parts: tuple[bytes, ...]
    ) -> int:
        """Add one step. Returns its number."""
        number = len(self.names)
        self.scopes.append(scope)
        self.names.append(name)
        self.types.append(used)
        self.sources.append(sources)
        self.literals.append(literals)
        self.parts.append(parts)
        if used.effect:
            self.effects.append(number)
        self.keys.append(None if used.volatile or used.effect else self._plan_key(number, used, sources, literals, parts))
        return number

    def _plan_key(
        self, number: int, used: NodeType, sources: Mapping[str, Source], literals: Mapping[str, Any], literal_parts: tuple[bytes, ...]
    ) -> bytes | None:
        identities = self.identities
        parts = [*literal_parts]
        for port, source in sources.items():
            if source.__class__ is tuple and (key := self.keys[source[0]]) is not None:
                parts.append(identities.link[port, source[1]] + key)
                continue
            ident = self.plan_ident(source)
            if ident is None:
                return None
            parts.append(part(port, ident))
        form = identities.form(used)
        if form.special:
            parts += self.extra_parts(number, used, sources, literals)
        return form.plan_key(parts)

    def extra_parts(self, number: int, used: NodeType, sources: Iterable[str], literals: Mapping[str, Any]) -> list[bytes]:
        """What a node type adds to its keys: its place if it is stateful, its fingerprint if it has one, the order of open ports if it is
        not that of their names."""
        extra = [part("\1place", self.path(number).encode())] if used.stateful else []
        if used.fingerprint:
            extra.append(part("\1fingerprint", used.fingerprint(**literals)))
        if used.open and (order := [port for port in (*sources, *literals) if port not in used.inputs]) != sorted(order):
            extra.append(part("\1order", keys.identity(order)))
        return extra

    def plan_ident(self, source: Source) -> bytes | None:
        """How a source enters plan keys; None when it has no identity before things run."""
        kind = source.__class__
        if kind is tuple:
            key = self.keys[source[0]]
            if key is not None:
                return _output_ident(source, self.keys)
            return self.ident_of(source) if self.ident_of else None
        if kind is Const:
            return source.ident
        if kind is Item:
            inner = self.plan_ident(source.source)
            return None if inner is None else b"%b[%d]" % (inner, source.index)
        idents = [self.plan_ident(one) for one in source]
        known = [ident for ident in idents if ident is not None]
        return _listed(known) if len(known) == len(idents) else None

    # -- workflows as nodes, each, literals from outside -----------------------------------------------------------

    def _special(
        self,
        template: Template,
        index: int,
        at: list[Any],
        bindings: Mapping[str, Source],
        pending: tuple[Any, ...],
        scope: Scope,
        checked: tuple[str, ...],
    ) -> Any:
        used, name = template.types[index], template.names[index]
        sources = {port: _resolve(link, at, bindings) for port, link in template.links[index].items()}
        literals = dict(template.literals[index])
        for port, what in pending:
            literals[port] = self._looked_up(template, ("nodes", name, "with", port), what)
        if index not in template.each:
            return self._use(used, name, sources, literals, scope, checked)
        each = {}
        for port, given in template.each[index].items():
            if isinstance(given, list):
                each[port] = [Const(value) for value in self._looked_up(template, ("nodes", name, "each", port), given)]
            else:
                each[port] = _resolve(given, at, bindings)
        return self._map(used, name, sources, literals, each, scope, checked)

    def _use(
        self, used: Any, name: str, sources: dict[str, Source], literals: Mapping[str, Any], scope: Scope, checked: tuple[str, ...]
    ) -> Any:
        """One use of a node type (a step number) or of a workflow (its outputs)."""
        if isinstance(used, Template):
            bound = {**{port: Const(value) for port, value in literals.items()}, **sources}
            inner = Scope(f"{scope.prefix}{name}/", used.workflow.name or scope.workflow)
            return self.expand(used, self.with_defaults(used, bound), inner, checked)
        parts = self._parts(used, literals)
        linked = {}
        for port, source in sources.items():
            if source.__class__ is Const and (used.open is None or port in used.inputs):
                parts, literals = self._bind_const(used, port, source, parts, literals)
            else:
                linked[port] = source
        number = self.step(used, name, scope, linked, literals, parts)
        if checked:
            self.checked[number] = checked
        return number

    def _map(
        self,
        used: Any,
        name: str,
        sources: dict[str, Source],
        literals: dict[str, Any],
        each: dict[str, Source],
        scope: Scope,
        checked: tuple[str, ...],
    ) -> dict[str, Source]:
        """Expand now what has a known length; leave the rest to when the lists are there."""
        listed = {port: known for port, source in each.items() if (known := _known_items(source)) is not None}
        outputs = list(used.output_types if isinstance(used, Template) else used.outputs)
        if len(listed) == len(each):
            return self.map_items(used, name, sources, literals, listed, scope, outputs, checked)
        mapped = Mapped(used, sources, literals, each, name, checked)
        declared = {port: Port(port, types.ANY) for port in outputs}
        carrier = NodeType(
            f"each({getattr(used, 'name', name)})",
            {},
            declared,
            _never_called,
            pack="nodegraph",
            identity="each",
            volatile=True,
            effect=_has_effect(used),  # then it is expanded also where nothing needs it
        )
        number = self.step(carrier, name, scope, {f"each.{port}": source for port, source in each.items()}, {}, ())
        self.keys[number] = self._mapped_key(number, mapped) if isinstance(used, NodeType) else None
        self.types[number] = mapped
        return {port: (number, port) for port in outputs}

    def _mapped_key(self, number: int, mapped: Mapped) -> bytes | None:
        used = mapped.used
        assert isinstance(used, NodeType)
        if used.volatile or used.effect or used.stateful:
            return None
        shared = {**self.sources[number], **mapped.shared}
        key = self._plan_key(number, used, shared, mapped.literals, self._parts(used, mapped.literals))
        return key and keys.digest(b"each", key)

    def map_items(
        self,
        used: Any,
        name: str,
        sources: dict[str, Source],
        literals: dict[str, Any],
        each: dict[str, list[Source]],
        scope: Scope,
        outputs: list[str],
        checked: tuple[str, ...],
    ) -> dict[str, Source]:
        """One use for each item. Raises WorkflowInvalid when the lists differ in length."""
        counts = {port: len(items) for port, items in each.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{port!r} has {count}" for port, count in counts.items())
            text = f"the lists of each must be of one length, but {told}"
            raise WorkflowInvalid([Problem("each-lengths", f"nodes.{scope.prefix}{name}.each", text, "make them of one length")])
        gathered: dict[str, list[Source]] = {port: [] for port in outputs}
        for number in range(next(iter(counts.values()), 0)):
            mine = {**{port: items[number] for port, items in each.items()}, **sources}
            made = self._use(used, f"{name}[{number}]", mine, dict(literals), scope, checked)
            for port in outputs:
                gathered[port].append((made, port) if made.__class__ is int else made[port])
        return gathered

    def with_defaults(self, template: Template, bound: dict[str, Source]) -> dict[str, Source]:
        """The sources of all inputs of a workflow: given ones, and the defaults of the others. As for a node, null leaves a default."""
        for name, port in template.inputs.items():
            given = bound.get(name)
            absent = given is None or (given.__class__ is Const and given.value is None and not port.type.optional)
            if absent and port.default is not REQUIRED:
                known = template.defaults.get(name)
                bound[name] = known if known.__class__ is Const else self._default(template, port)
        return bound

    def _default(self, template: Template, port: Port) -> Const:
        """A default that is not kept as a source: of one that names something outside only what it says is kept."""
        said = template.defaults.get(port.name)
        with _checked_before(template, ("inputs", port.name, "default")):
            if said is None and port.default is not None:
                said = literal(port, port.default, self._outside(template))
                if has_pending(said):
                    template.defaults[port.name] = said
            made = Const(self.resolved(said))
        if kinds.is_json(made.value):  # and nothing outside, which may change
            template.defaults[port.name] = made
        return made

    def resolved(self, value: Any) -> Any:
        """A literal with what it names outside looked up."""
        if not has_pending(value):
            return value
        return self.resolve(value) if value.__class__ is Pending else [self.resolved(item) for item in value]

    def _looked_up(self, template: Template, place: tuple[str, ...], value: Any) -> Any:
        """As `resolved`, for what stands at a place of a checked workflow. Raises WorkflowInvalid."""
        with _checked_before(template, place):
            return self.resolved(value)

    def _outside(self, template: Template) -> Outside:
        return lambda kind, port, given: self.resolve.outside(kind, port, given, template.workflow)


@contextlib.contextmanager
def _checked_before(template: Template, place: tuple[str, ...]) -> Iterator[None]:
    """Raises WorkflowInvalid for what a place of a checked workflow names and is there no longer."""
    try:
        yield
    except Refused as error:
        raise WorkflowInvalid([template.workflow.problem(error.code, place, error.text, error.fix)]) from None


def _output_ident(source: tuple[int, str], plan_keys: Sequence[Any]) -> bytes:
    """How an output of a step with a plan key enters plan keys."""
    return b"@%b%b" % (plan_keys[source[0]], source[1].encode())


def _listed(idents: Sequence[bytes]) -> bytes:
    """How a list of sources enters plan keys."""
    return b"[" + b"".join([b"%d:%b" % (len(ident), ident) for ident in idents])


def _never_called(**inputs: Any) -> None:
    raise NotImplementedError("a mapped node is expanded, not called")


def _has_effect(used: NodeType | Template) -> bool:
    """Whether a node type is an effect, or a workflow has one inside."""
    stack, seen = [used], {id(used)}
    while stack:
        one = stack.pop()
        if isinstance(one, NodeType):
            if one.effect:
                return True
            continue
        fresh = {id(kind): kind for kind in one.types if id(kind) not in seen}
        seen.update(fresh)
        stack += fresh.values()
    return False


def _pending_by_node(template: Template) -> dict[int, tuple[Any, ...]]:
    found: dict[int, tuple[Any, ...]] = {}
    for index, port, what in template.pending:
        found[index] = (*found.get(index, ()), (port, what))
    return found


def _resolve(link: Any, at: list[Any], bindings: Mapping[str, Source]) -> Source:
    """The source that a template's link means in this expansion."""
    if link.__class__ is list:
        return [_resolve(one, at, bindings) for one in link]
    index, port = link
    if index == INPUTS:
        return bindings[port]
    made = at[index]
    return (made, port) if made.__class__ is int else made[port]


def _known_items(source: Source) -> list[Source] | None:
    """The items of a list whose length is known before things run."""
    if source.__class__ is list:
        return source
    if source.__class__ is Const and isinstance(source.value, list | tuple):
        return [Const(value) for value in source.value]
    return None


def bind_inputs(plan: Plan, template: Template, given: Mapping[str, Any], outside: Outside) -> dict[str, Source]:
    """The inputs of a workflow as sources. Raises WorkflowInvalid with everything that is wrong with them."""
    problems = []
    bound: dict[str, Source] = {}
    for name, value in given.items():
        port = template.inputs.get(name)
        if port is None:
            fix = did_you_mean(name, template.inputs) or (
                f"its inputs are {listing(template.inputs)}" if template.inputs else "it has no inputs"
            )
            problems.append(template.workflow.problem("unknown-input", ("inputs", name), f"the workflow has no input {name!r}", fix))
            continue
        try:
            made = None if value is None and port.default is None else literal(port, value, outside)
            resolved = plan.resolved(made)
            try:
                bound[name] = Const(resolved)
            except TypeError as error:  # a value of a pack's class whose content cannot be told
                raise Refused("wrong-type", f"{name!r} cannot take {kinds.describe(resolved)}", str(error)) from None
        except Refused as error:
            fix = error.instead if isinstance(error, Unwritable) else error.fix
            problems.append(template.workflow.problem(error.code, ("inputs", name), error.text, fix))
    for name, port in template.inputs.items():
        if name not in given and port.default is REQUIRED:
            text, how = (
                f"the workflow needs the input {name!r} ({port.type})",
                "@env:NAME" if types.without_none(port.type) is types.SECRET else "…",
            )
            problems.append(template.workflow.problem("missing-input", ("inputs", name), text, f"give it: --set {name}={how}"))
    if problems:
        raise WorkflowInvalid(problems)
    plan.bound = plan.with_defaults(template, bound)
    return plan.bound
