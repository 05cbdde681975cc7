"""Many at once: results do not depend on threads, cache or order, and nothing is computed twice."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from engine_nodes import flow
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph import Engine, Invalid, node
from nodegraph.check import Checker
from nodegraph.execution import Execution
from nodegraph.job import Job, Result
from nodegraph.resident import _Weights

CALLED: Counter[tuple[int, ...]] = Counter()
COUNTING = threading.Lock()


@node
def slow_mix(salt: int, parts: list[int], millis: int = 0, fails: bool = False) -> int:
    """A number that depends on everything given, after a while; or a failure."""
    with COUNTING:
        CALLED[(salt, *parts)] += 1
    time.sleep(millis / 1000)
    if fails:
        raise Invalid(f"{salt} was told to fail")
    return hash((salt, *parts)) % (1 << 61)


@node
async def async_mix(salt: int, parts: list[int], millis: int = 0, fails: bool = False) -> int:
    """The same in the event loop."""
    with COUNTING:
        CALLED[(salt, *parts)] += 1
    await asyncio.sleep(millis / 1000)
    if fails:
        raise Invalid(f"{salt} was told to fail")
    return hash((salt, *parts)) % (1 << 61)


@node
def text_of(number: int, parts: list[int]) -> str:
    """A value that is no number."""
    return f"{number}:{parts}" * 50


NODES = (slow_mix, async_mix, text_of)
PART = st.tuples(
    st.booleans(), st.integers(0, 3), st.integers(0, 4), st.sampled_from([False] * 7 + [True]), st.lists(st.integers(1, 5), max_size=3)
)


def random_flow(parts: list[Any], order: random.Random | None = None) -> dict[str, Any]:
    """A DAG of mixes, each linked to some before it. `order` shuffles the nodes of the file, never the links of a port."""
    nodes: list[tuple[str, dict[str, Any]]] = []
    for place, (asynchronous, salt, millis, fails, back) in enumerate(parts):
        sources = [f"n{place - one}.int" for one in back if place - one >= 0]
        literals = {"salt": salt, "millis": millis, "fails": fails}
        links = {"from": {"parts": sources}} if sources else {}
        nodes.append(
            (
                f"n{place}",
                {"use": "async_mix" if asynchronous else "slow_mix", **links, "with": literals | ({} if sources else {"parts": [place]})},
            )
        )
    nodes.append(("text", {"use": "text_of", "from": {"parts": [f"n{place}.int" for place in range(len(parts))]}, "with": {"number": 1}}))
    outputs = {f"o{place}": f"n{place}.int" for place in range(len(parts))} | {"text": "text.text"}
    if order is not None:
        order.shuffle(nodes)
    return flow(dict(nodes), outputs)


def outcome(engine: Engine, workflow: dict[str, Any], **options: Any) -> tuple[dict[str, Any], dict[str, str], set[str]]:
    """Outputs, their keys, and where it failed."""
    result = engine.submit(workflow, **options).result()
    keys = {name: result.keys[name] for name in result.outputs}
    return result.outputs, keys, {problem.where for problem in result.problems}


@settings(max_examples=12, deadline=None)
@given(st.lists(PART, min_size=1, max_size=14), st.integers(0, 1000))
def test_results_do_not_depend_on_threads_cache_or_order(parts, seed):
    draw = random.Random(seed)
    found = []
    for threads in (1, 4):
        with Engine(nodes=NODES, cache=False, threads=threads) as engine:
            found.append(outcome(engine, random_flow(parts), cache=False))
            found.append(outcome(engine, random_flow(parts, draw)))
            found.append(outcome(engine, random_flow(parts, draw)))  # from the cache
            jobs = [engine.submit(random_flow(parts, draw), cache=number % 2 == 0) for number in range(4)]
            found += [(job.result().outputs, found[0][1], {problem.where for problem in job.result().problems}) for job in jobs]
    assert all(one == found[0] for one in found)


def test_a_thousand_runs_at_once_compute_each_key_once():
    parts = [(place % 5 == 4, place, 1, False, [1, 2]) for place in range(12)]
    CALLED.clear()
    with Engine(nodes=NODES, cache=False) as engine:
        workflow = random_flow(parts)
        gate = threading.Barrier(8)
        jobs: list[Any] = []

        def submit() -> None:
            gate.wait()
            mine = [engine.submit(workflow) for _ in range(125)]
            with COUNTING:
                jobs.extend(mine)

        people = [threading.Thread(target=submit) for _ in range(8)]
        for one in people:
            one.start()
        for one in people:
            one.join()
        results = [job.result(timeout=300) for job in jobs]
    assert len(results) == 1000
    assert all(result.ok and result.outputs == results[0].outputs for result in results)
    assert len(CALLED) == 12
    assert set(CALLED.values()) == {1}


@node
async def later(a: int) -> int:
    await asyncio.sleep(0)
    return a


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
def test_engines_that_have_run_async_nodes_leave_nothing_open():
    """Whether or not garbage is collected."""
    folder = Path("/proc/self/fd")
    flow = {"nodes": {"a": {"use": "later", "with": {"a": 1}}}, "outputs": {"int": "a.int"}}

    gc.collect()
    gc.disable()
    try:
        before = len(list(folder.iterdir()))
        for _ in range(5):
            with Engine(nodes=[later], cache=False) as engine:
                job = engine.submit(flow)
                assert job.result(10).outputs == {"int": 1}
            job.cancel()
        assert len(list(folder.iterdir())) <= before
    finally:
        gc.enable()


def test_an_engine_holds_no_run_that_is_done(monkeypatch):
    flow = {"nodes": {"a": {"use": "solid_image", "with": {"width": 8, "height": 8}}}, "outputs": {"image": "a.image"}}
    with Engine(cache=False) as engine:
        engine.run(flow)
        assert not engine._runs

        def interrupted(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(Execution, "demand", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.submit(flow)
        assert not engine._runs, "or to close it would wait for ever"


@pytest.mark.parametrize("closed", [True, False])
def test_a_result_holds_nothing_that_runs_share(closed):
    """Each result that was kept had the cache and the weights of its engine with it, though that was closed and gone."""
    engine = Engine(nodes=[later], cache=False)
    job = engine.submit({"nodes": {"a": {"use": "later", "with": {"a": 1}}}, "outputs": {"int": "a.int"}})
    result = job.result(10)
    shared = [weakref.ref(one) for one in (engine, engine._shared, engine.cache, engine.resident)]
    if closed:
        engine.close()
    del engine
    gc.collect()
    assert [one() for one in shared] == [None] * 4
    assert result.metadata("int")["machine"] == {"device": "cpu", "dtype": "float32"}


def test_a_closed_engine_holds_no_results_and_no_weights():
    with Engine(nodes=[later], cache=False) as engine:
        engine.run({"nodes": {"a": {"use": "later", "with": {"a": 1}}}, "outputs": {"int": "a.int"}})
        engine.resident._loaded["weights"] = weights = _Weights("cpu")
        weights.nbytes = 1
        assert len(engine.cache) == 1
    assert (len(engine.cache), engine.resident._loaded) == (0, {})


def test_a_job_keeps_no_await_that_was_given_up() -> None:
    """A service that asks a long run again and again, for a moment each, left a future and its event loop with the run each time."""
    gate = threading.Event()

    @node
    def gated() -> int:
        gate.wait(30)
        return 1

    async def awaited(job: Job) -> Result:
        return await job

    async def asks(job: Job) -> None:
        for _ in range(10):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(awaited(job), 0.001)

    async def several(job: Job) -> list[Result]:
        return await asyncio.gather(*(awaited(job) for _ in range(10)))

    with Engine(nodes=[gated], cache=False) as engine:
        job = engine.submit({"nodes": {"a": {"use": "gated"}}, "outputs": {"int": "a.int"}})
        asyncio.run(asks(job))
        assert not job._then
        threading.Timer(0.1, gate.set).start()
        assert [result.outputs for result in asyncio.run(several(job))] == [{"int": 1}] * 10
        assert not job._then


def test_engines_are_made_in_many_threads_at_once() -> None:
    """Each of them reads the same packs: type hints were looked up in a module that another thread had just put away."""

    def made(number: int) -> list[Any]:
        with Engine(cache=False) as engine:
            return engine.check({"nodes": {"a": {"use": "text", "with": {"value": str(number)}}}, "outputs": {"out": "a.text"}})

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(made, range(18))) == [[]] * 18


def test_one_thread_at_a_time_checks_workflows_that_are_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checker holds which files are open and what they asked: two threads in it would mix that up."""
    text = {"use": "text_of", "from": {"number": "inputs.value"}, "with": {"parts": []}}
    body = {**flow({"text": text}, {"value": "text.text"}), "inputs": {"value": {"type": "int"}}}
    loop = {"use": "repeat", "from": {"body": "inputs.body"}, "with": {"count": 1, "value": 2}}
    outer = {**flow({"loop": loop}, {"value": "loop.value"}), "inputs": {"body": {"type": "workflow"}}}
    within: list[int] = []
    met: list[int] = []
    template = Checker.template

    def watched(*given: Any) -> Any:
        me = threading.get_ident()
        within.append(me)
        time.sleep(0.001)  # so that others come by, if they can
        met.extend(one for one in list(within) if one != me)
        try:
            return template(*given)
        finally:
            within.remove(me)

    monkeypatch.setattr(Checker, "template", watched)
    with Engine(cache=False, nodes=NODES) as engine, ThreadPoolExecutor(8) as threads:

        def run(number: int) -> Any:
            file = tmp_path / f"{number}.json"
            file.write_text(json.dumps({**body, "doc": str(number)}))
            return engine.run(outer, body=str(file)).outputs["value"]

        assert set(threads.map(run, range(100))) == {text_of(2, [])}
    assert not met
