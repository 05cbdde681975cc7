"""The engine: registry, cache, models and lanes under one roof. Library, command line and server are the same engine."""

from __future__ import annotations

import _thread
import contextlib
import copy
import functools
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph import collector, keys, kinds, looks, secret
from nodegraph.cache import Cache
from nodegraph.check import Checker
from nodegraph.devices import choose_device
from nodegraph.errors import PackInvalid, Problem, RunFailed, WorkflowInvalid, did_you_mean, listing
from nodegraph.handles import ModelRef
from nodegraph.literals import Pending, Refused
from nodegraph.models import ModelFolder
from nodegraph.packs import Reload, load_all, reload
from nodegraph.plan import Identities, Plan, Scope, bind_inputs
from nodegraph.provenance import Provenance
from nodegraph.registry import Registry
from nodegraph.resident import Resident
from nodegraph.settings import Settings, size_given
from nodegraph.sources import Source
from nodegraph.spec import NodeType, Port, node_type
from nodegraph.store import Store
from nodegraph.template import Template
from nodegraph.types import Type
from nodegraph.values import File
from nodegraph.workflow import Workflow
from nodegraph.world import World

if TYPE_CHECKING:
    from nodegraph.execution import Execution
    from nodegraph.job import Job, Result
    from nodegraph.preview import Preview
    from nodegraph.profile import Profile
    from nodegraph.shared import Shared

MEMORY = 2 << 30
"""Bytes of cached results in host memory, unless said otherwise."""
DISK = 20 << 30
"""Bytes of the disk tier, unless said otherwise."""
_LISTS = ("packs", "models", "roots")
FILES = 16
"""Workflow files that an engine remembers as it read them last."""
WEIGHTS = 8 << 30
"""Bytes of weights that stay resident while nobody uses them, unless said otherwise."""


class Engine:
    """Runs workflows; many at once. A context manager; `close` writes what is waiting and ends the threads, which also happens
    when an engine that nobody closed is dropped and its runs have ended, and when the process ends.

    What is None comes from the settings (`NODEGRAPH_*` variables, nodegraph.toml, the user's folders). `packs`: folders of packs
    beside the built-in ones. `nodes`: further node types, or functions marked with `@node`, which keys know by the source of their
    module and of what it imports of the program's own, their code and all that it refers to as it is then; of lists, dicts and other
    objects in the globals of a file, that source is all that counts. `models`: folders of models beside those of packs. `cache`: the
    folder of the disk tier; False for none.
    `device`: `auto`, `cpu`, `cuda`, `cuda:1`. `dtype`: of weights; `auto` is float32 on a CPU, float16 elsewhere. `output`: where
    effects write. `threads`: of the CPU pool. `memory`, `disk`, `weights`: budgets in bytes. `roots`: folders that paths in
    workflow files may name beside their own. `strict`: keys also hold processor, GPU model and thread count. `debug`: a node that
    changes an input in place fails (every input of every call is copied for that, and read twice), and budgets are checked at every change.
    """

    def __init__(
        self,
        *,
        packs: Iterable[str | Path] | None = None,
        nodes: Iterable[Callable[..., Any] | NodeType] = (),
        models: Iterable[str | Path] | None = None,
        cache: str | Path | bool | None = None,
        device: str | None = None,
        dtype: str | None = None,
        output: str | Path | None = None,
        threads: int | None = None,
        memory: int | None = None,
        disk: int | None = None,
        weights: int | None = None,
        roots: Iterable[str | Path] | None = None,
        strict: bool | None = None,
        debug: bool | None = None,
    ):
        flags: dict[str, Any] = {"packs": packs, "models": models, "cache": cache, "device": device, "dtype": dtype, "output": output}
        flags.update({"threads": threads, "memory": memory, "disk": disk, "roots": roots, "strict": strict, "debug": debug})
        several = {name: list(flags[name]) for name in _LISTS if isinstance(flags[name], Iterable) and not isinstance(flags[name], str)}
        settings = Settings.load({**flags, **several})
        weights = WEIGHTS if weights is None else size_given("weights", weights)
        self.settings, self.output = settings, settings.output
        self.registry = Registry()
        self.packs = load_all(self.registry, settings.pack_folders, self._index, settings.versioned_packs)
        self.registry.add(_node_types(nodes))
        self.store = (
            Store(settings.cache, DISK if settings.disk is None else settings.disk, settings.debug)
            if isinstance(settings.cache, Path)
            else None
        )
        digest = self.store.file_digest if self.store else keys.file_digest
        self.models = ModelFolder(self._model_roots(), digest)
        self.world = World(self.models, settings.roots)
        budget = MEMORY if settings.memory is None else settings.memory
        self.cache = Cache(self.store, budget, budget, self.models.valid, settings.debug)
        self.resident = Resident(self.models, weights)
        self.checker = Checker(self.registry, self.world)
        self._files: dict[str, Workflow] = {}
        self._lanes: dict[str, Any] = {}
        self._shared: Shared | None = None
        self._runs: set[Execution] = set()  # that are not done
        self._lock = threading.RLock()
        self._closed = False
        self._process = os.getpid()
        weakref.finalize(self, _let_go, self._lanes, self.store, self._process).atexit = False

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def device(self) -> str:
        """Where models run: `cpu`, or `cuda:0`."""
        return self._ready().device

    # -- asking ----------------------------------------------------------------------------------------------------

    def check(self, workflow: Any, given: Mapping[str, Any] | None = None) -> list[Problem]:
        """Every problem of a workflow (a path, a dict, a Workflow), in file order. Nothing is run and no weight is read.

        `given`: inputs of a run, by name. What is wrong with their defaults alone is no problem of that run."""
        try:
            with collector.held(), looks.Moment():
                return self._judged(self._read(workflow), given or {}, self.checker)[1]
        except WorkflowInvalid as error:
            return list(error.problems)

    def plan(self, workflow: Any, inputs: Mapping[str, Any] | None = None, *, only: str | Iterable[str] = (), **more: Any) -> Preview:
        """What a run would do. Raises WorkflowInvalid."""
        from nodegraph.execution import Execution
        from nodegraph.preview import preview

        self._refuse_forked()
        shared = self._ready()
        with looks.Moment():
            source = self._read(workflow)
            plan, outputs, effects, name, _ = self._plan(source, {**_by_name(source, "inputs", inputs), **more}, only, shared=shared)
            run = Execution(shared, plan, "preview", name, True, self.output, dict)
            return preview(run, outputs, effects)

    def reload(self, paths: Iterable[str | Path] | None = None) -> Reload:
        """Register packs again whose files have changed, for the runs and checks that come; what runs now ends with the code it
        began with. `paths`: what is known to have changed; None looks at the times of all files.

        A pack that cannot be read stays as it was, with its problems in the answer. Keys change for the node types of changed
        modules and of those that import them, and for nothing else. `engine.registry`, `.packs` and `.checker` are new ones.
        """
        named = None if paths is None else [Path(path) for path in paths]
        with self._lock:
            where = self.settings
            registry, packs, outcome = reload(self.registry, self.packs, where.pack_folders, self._index, named, where.versioned_packs)
            self.packs = packs
            if outcome:
                self.registry, self.checker = registry, Checker(registry, self.world)
                self.models.roots = self._model_roots()
                if self._shared is not None:
                    self._shared = self._shared.renewed(self.checker)
        return outcome

    def keep_code(self) -> None:
        """Hold the text of all packs in memory, so that files that change now can still be run as they were when they were read.
        Without it that is so for packs of which a node has run; what watches files calls it first."""
        for pack in self.packs:
            for source in pack.modules.values():
                with contextlib.suppress(PackInvalid):  # it has changed by now, and the next reload will see it
                    source.read()

    # -- running ---------------------------------------------------------------------------------------------------

    def submit(
        self,
        workflow: Any,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        only: str | Iterable[str] = (),
        cache: bool = True,
        output: str | Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        token: str | None = None,
        origins: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Job:
        """Start a run and return at once. Raises WorkflowInvalid when the workflow or its inputs are wrong.

        `inputs` and keywords are the workflow's inputs: JSON values or Python values. `only`: an output, or a `node.port`,
        or several, to give instead of all. `cache=False` neither looks results up nor keeps them. `overrides`: literals by `node.port`.
        `token`: the run's id; effects of runs with the same token write the same files. `origins`: where values of inputs were
        read from, by name, for what saved files tell.
        """
        from nodegraph.execution import Execution

        if self._closed:
            raise RuntimeError("the engine is closed")
        self._refuse_forked()
        if any(lane.closed for lane in self._lanes.values()):
            raise RuntimeError("the program has ended, and this engine with it: run workflows before that, or make another engine here")
        self._refuse_nodes("run a workflow on the engine that runs it; return a Graph")
        source = self._read(workflow)
        mapped, literals = _by_name(source, "inputs", inputs), _by_name(source, "overrides", overrides)
        told = _by_name(source, "origins", origins)
        if token is not None and "token" in source.inputs and "token" not in mapped:
            text, fix = "'token' is an input of this workflow, and the id of a run", "give the input in a mapping: {'token': …}"
            raise WorkflowInvalid([source.problem("ambiguous-input", ("inputs", "token"), text, fix)])
        source = with_literals(source, literals)
        given = {name: str(value) if isinstance(value, Path) else value for name, value in {**mapped, **more}.items()}
        shared = self._ready()
        with collector.held(), looks.Moment():
            plan, outputs, effects, name, provenance = self._plan(source, given, only, told, shared)
            run = Execution(shared, plan, token or os.urandom(6).hex(), name, cache, Path(output) if output else self.output, provenance)
            with self._lock:
                if self._closed:
                    raise RuntimeError("the engine is closed")
                run.ended = self._ended
                self._runs.add(run)
            try:
                run.start(outputs, effects)
            except BaseException:  # an interrupt, say: nobody will have its job
                run.cancel()
                raise
        return run.job

    def run(self, workflow: Any, inputs: Mapping[str, Any] | None = None, /, **options: Any) -> Result:
        """Run to the end. Takes what `submit` takes. Raises WorkflowInvalid; RunFailed, which carries the result; KeyboardInterrupt
        cancels the run."""
        job = self.submit(workflow, inputs, **options)
        try:
            result = job.result()
        except KeyboardInterrupt:
            job.cancel()
            raise
        if result.problems:
            raise RunFailed(result.problems, result)
        return result

    def profile(self) -> Profile:
        """Collect from now on what this engine does when; `write` makes a trace of it for Perfetto or chrome://tracing."""
        from nodegraph.profile import Profile

        found = Profile()
        self._ready().profile = found
        self.resident.loaded = lambda name, begun, seconds, nbytes: found.span(f"load {name}", "weights", begun, seconds, bytes=nbytes)
        return found

    def close(self) -> None:
        """Cancel the jobs that are not done, write what is waiting to disk, end the threads, let go of weights and of all that is cached
        in memory. Idempotent. RuntimeError in a node. Nothing is done in a process that was forked off: all of it belongs to the other
        one."""
        if self._process != os.getpid():
            return
        self._refuse_nodes("close the engine that runs it")
        with self._lock:
            if self._closed:
                return
            self._closed = True
            runs = list(self._runs)
        for run in runs:
            run.cancel()
        for run in runs:
            run.job.result()
        _close(self._lanes, self.store)
        self.cache.clear()  # the engine itself may be held for long, as by a notebook's variable
        self.resident.clear()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _ended(self, run: Execution) -> None:
        """Told by each run, which keeps its engine until then."""
        self._runs.discard(run)

    def _refuse_nodes(self, what: str) -> None:
        """Raise RuntimeError when a node asks: it would hold the worker that it waits for."""
        if any(lane.is_caller() for lane in self._lanes.values()):
            raise RuntimeError(f"a node cannot {what}")

    def _refuse_forked(self) -> None:
        """Raise RuntimeError in a process that was forked off: it has none of the threads, and must not use the open index."""
        if self._process != os.getpid():
            raise RuntimeError("the engine is of the process that this one was forked off from: make another engine here")

    @property
    def _index(self) -> Path | None:
        return self.settings.cache if isinstance(self.settings.cache, Path) else None

    def _model_roots(self) -> list[Path]:
        folders = (f"{pack.path}/models" for pack in self.packs)
        return [*self.settings.models, *(Path(folder) for folder in folders if os.path.isdir(folder))]

    def _read(self, source: Any) -> Workflow:
        """A workflow from anything that is one. A file whose text stays the same stays the same workflow, with what check made of it."""
        if isinstance(source, Workflow) or not isinstance(source, str | os.PathLike):
            return Workflow.of(source)
        name = os.fspath(source)
        read = Workflow.load(name, self._files.pop(name, None))
        if len(self._files) >= FILES:
            self._files.clear()
        self._files[name] = read
        return read

    def _template(self, workflow: Workflow) -> Template:
        with self._lock:
            return self.checker.template(workflow)

    def _judged(self, workflow: Workflow, given: Mapping[str, Any], checker: Checker) -> tuple[Template, list[Problem]]:
        """What check makes of a workflow for a run that is given these inputs: null leaves one at its default."""
        with self._lock:
            template = checker.template(workflow)
            problems = template.all_problems
            if problems and (values := {name for name, value in given.items() if value is not None}):
                template = checker.template(workflow, values)
                problems = template.all_problems
        return template, problems

    def _plan(
        self,
        workflow: Workflow,
        given: Mapping[str, Any],
        only: str | Iterable[str],
        origins: Mapping[str, str] | None = None,
        shared: Shared | None = None,
    ) -> tuple[Plan, dict[str, Source], list[int], str, Provenance]:
        shared = shared or self._ready()
        template, problems = self._judged(workflow, given, shared.checker)
        if problems:
            raise WorkflowInvalid(problems)
        resolver = _Resolver(self, shared.checker)
        plan = Plan(shared.identities, resolver)
        name = workflow.name or (Path(workflow.file).stem if workflow.file else "workflow")
        given = secret.bound(template.inputs, given, self._salt)
        bound = bind_inputs(plan, template, given, _Trusted(self))
        if template.facts.nodes:
            with self._lock:
                problems = shared.checker.flow.mismatches(template, given)
            if problems:
                raise WorkflowInvalid(problems)
        scope = Scope("", name)
        outputs = plan.expand(template, bound, scope)
        effects = list(plan.effects)
        wanted = _names_asked(template, only)
        if wanted:
            outputs, effects = _narrow(plan, template, outputs, wanted)
        resolver.checker = None  # what the plan gains later is looked up as it is by then
        return plan, outputs, effects, name, Provenance(self, template, name, given, origins or {}, plan)

    def _ready(self) -> Shared:
        """What runs share; made when it is first needed, so that checking costs nothing of it."""
        if self._shared is None:
            with self._lock:
                if self._shared is None:
                    from nodegraph.heap import one_arena
                    from nodegraph.lanes import Lane, LoopLane
                    from nodegraph.shared import Shared

                    one_arena()
                    workers = self.settings.threads or max(4, os.cpu_count() or 1)
                    self._lanes.update({"cpu": Lane("cpu", workers), "device": Lane("device", 1), "async": LoopLane()})
                    device, dtype = choose_device(self.settings.device, self.settings.dtype, self._index)
                    numerics = keys.canonical([device.partition(":")[0], dtype, *(_strict_facts() if self.settings.strict else [])])
                    shared = Shared(self.cache, self.resident, self.checker, Identities(numerics), self._lanes, device, dtype)
                    shared.debug = self.settings.debug
                    shared.compiling = self._lock  # type: ignore[assignment]
                    self._shared = shared
        return self._shared

    @functools.cached_property
    def _salt(self) -> bytes:
        """What keys hold secrets with."""
        return secret.salt_of(self.store.folder if self.store else None)


class _Resolver:
    """Looks up what literals from outside mean now: files and models by their digests. `checker`: who has just looked at models."""

    def __init__(self, engine: Engine, checker: Checker | None):
        self._weak, self.checker = weakref.ref(engine), checker  # or a job would keep the engine that nobody else has

    @property
    def _engine(self) -> Engine:
        if (engine := self._weak()) is None:
            raise RuntimeError("the engine is gone")
        return engine

    def __call__(self, pending: Pending) -> Any:
        try:
            if pending.kind == "model":
                return self._engine.models.ref(pending.text, self.checker.world.seen(pending.text) if self.checker else None)
            return File.at(pending.path)
        except OSError as error:
            text = f"cannot read the {pending.kind} {pending.text!r}: {error.strerror or error}"
            fix = "see who may read its files" if pending.kind == "model" else "give the path of a file that can be read"
            raise Refused("file-missing", text, fix) from error

    def outside(self, kind: Type, port: Port, given: Any, workflow: Workflow) -> Any:
        """A default of a workflow's input: its paths are relative to that workflow."""
        return self._engine.world.resolve(kind, port, given, workflow.folder, self._engine._template)


class _Trusted:
    """Resolves what is typed on the command line or given in Python: paths are relative to the working folder and trusted."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def __call__(self, kind: Type, port: Port, given: Any) -> Any:
        if isinstance(given, ModelRef | File):
            return given
        return self._engine.world.resolve(kind, port, given, Path.cwd(), self._engine._template, trusted=True)


def _close(lanes: Mapping[str, Any], store: Store | None) -> None:
    for lane in lanes.values():
        lane.close()
    if store:
        store.close()


def _let_go(lanes: Mapping[str, Any], store: Store | None, process: int) -> None:
    """An engine that nobody closed is gone, and its runs with it: end its threads and close its files.

    That waits for threads and takes locks. Whoever lets go of an engine may be one of these threads, or have any lock, so it is done
    in another thread, and as starting one takes a lock, too, in another again.
    """
    if process == os.getpid():  # what is forked off has none of its threads
        with contextlib.suppress(RuntimeError):  # there can be no more threads
            closing = threading.Thread(target=_close, args=(lanes, store), name="nodegraph-close", daemon=True)
            _thread.start_new_thread(closing.start, ())


def run(workflow: Any, inputs: Mapping[str, Any] | None = None, /, **more: Any) -> Result:
    """Run a workflow once, with the settings of the environment. Raises WorkflowInvalid, and RunFailed with `.result`."""
    with Engine() as engine:
        return engine.run(workflow, inputs, **more)


def with_literals(workflow: Workflow, overrides: Mapping[str, Any]) -> Workflow:
    """The workflow with other literals, by `node.port`. Raises WorkflowInvalid."""
    if not overrides:
        return workflow
    record = copy.deepcopy(workflow.to_json())
    problems = []
    for place, value in overrides.items():
        name, _, port = place.partition(".")
        node = record["nodes"].get(name)
        if node is None or not port:
            fix = did_you_mean(name, record["nodes"]) or f"the nodes are {listing(record['nodes'])}"
            text = f"there is no node {name!r} to set {port!r} of" if port else f"{place!r} names no input of a node"
            problems.append(Problem("unknown-node", place, text, fix if node is None else f"write {name}.INPUT", workflow.file))
            continue
        if isinstance(value, secret.Secret):
            text, fix = f"{place!r} cannot be set to a secret: a workflow never holds one", "link it to an input of type 'secret'"
            problems.append(Problem("secret-literal", place, text, fix, workflow.file))
            continue
        node.get("from", {}).pop(port, None)
        node.get("each", {}).pop(port, None)
        node.setdefault("with", {})[port] = value
    if problems:
        raise WorkflowInvalid(problems)
    changed = Workflow.of(record)
    changed._place(workflow._positions, workflow._file, workflow._folder, workflow._at)
    return changed


def _strict_facts() -> list[str]:
    import platform

    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return [platform.machine(), platform.processor(), str(torch.get_num_threads()), torch.backends.cpu.get_cpu_capability(), *gpus]


def _node_types(given: Any) -> list[NodeType]:
    """The node types that a program gives, and those of its functions. Raises PackInvalid."""
    listed = list(given) if isinstance(given, Iterable) else [given]
    for one in listed:
        if not (isinstance(one, NodeType) or (callable(one) and hasattr(one, "__name__"))):
            text, fix = f"a node is a function, but is given {kinds.describe(one)}", "give functions that are marked with @node"
            raise PackInvalid([Problem("node-signature", "nodes", text, fix)])
    if listed:
        from nodegraph.function_identity import identity_of
    return [one if isinstance(one, NodeType) else node_type(one, identity=identity_of(one)) for one in listed]


def _by_name(workflow: Workflow, what: str, given: Any) -> Mapping[str, Any]:
    """What is given by name: `inputs`, `overrides` or `origins`, none of them where it is None. Raises WorkflowInvalid."""
    if given is None:
        return {}
    wrong = [name for name in given if not isinstance(name, str)] if isinstance(given, Mapping) else [given]
    if not wrong:
        return given
    text = f"{what} are given by name, but this is {kinds.describe(wrong[0])}"
    named = {"overrides": "{'NODE.INPUT': value}"}.get(what, f"{{{next(iter(workflow.inputs), 'NAME')!r}: …}}")
    raise WorkflowInvalid([Problem("wrong-type", what, text, f"write them as a mapping such as {named}", workflow.file)])


def _names_asked(template: Template, only: Any) -> list[str]:
    """What `only` names. Raises WorkflowInvalid."""
    wanted = [only] if isinstance(only, str) or not isinstance(only, Iterable) else list(only)
    for one in wanted:
        if not isinstance(one, str):
            text = f"only takes names of outputs, but is given {kinds.describe(one)}"
            fix = f"the outputs are {listing(template.workflow.outputs)}; leave it away for all of them"
            raise WorkflowInvalid([template.workflow.problem("unknown-output", ("outputs",), text, fix)])
    return wanted


def _narrow(plan: Plan, template: Template, outputs: dict[str, Source], wanted: list[str]) -> tuple[dict[str, Source], list[int]]:
    """Just the wanted outputs, and the effects among what they depend on. Raises WorkflowInvalid."""
    from nodegraph.graph import ancestors
    from nodegraph.sources import steps_in

    chosen: dict[str, Source] = {}
    by_path = {plan.path(step): step for step in range(len(plan))}
    several = {name: made for name, made in zip(template.names, plan.top, strict=True) if isinstance(made, dict)}  # by each, or a workflow
    roots: list[int] = []
    for name in wanted:
        path, dot, port = name.rpartition(".")
        if name in outputs:
            chosen[name] = outputs[name]
        elif dot and path in by_path and port in _output_names(plan, by_path[path]):
            chosen[name] = (by_path[path], port)
        elif port in several.get(path, ()):
            chosen[name] = several[path][port]
        elif name in several:
            roots += [step for source in several[name].values() for step in steps_in(source)]
            roots += [step for step in plan.effects if plan.path(step).startswith((f"{name}/", f"{name}["))]
        elif name in by_path:
            roots.append(by_path[name])
        else:
            known = [*outputs, *(f"{one}.{port}" for one, step in by_path.items() for port in _output_names(plan, step))]
            known += [f"{one}.{port}" for one, made in several.items() for port in made]
            raise WorkflowInvalid(
                [
                    template.workflow.problem(
                        "unknown-output",
                        ("outputs", name),
                        f"there is no output {name!r}",
                        did_you_mean(name, known) or f"the outputs are {listing(outputs)}",
                    )
                ]
            )
    sources = [[step for source in plan.sources[number].values() for step in steps_in(source)] for number in range(len(plan))]
    reached = ancestors(sources, [*roots, *(step for source in chosen.values() for step in steps_in(source))])
    plan.asked.update(roots)
    return chosen, sorted({*roots, *(step for step in plan.effects if step in reached)})


def _output_names(plan: Plan, step: int) -> list[str]:
    used = plan.types[step]
    return list(used.outputs) if isinstance(used, NodeType) else []


__all__ = ["Engine", "run", "with_literals"]
