"""The out-of-memory ladder, on a fake device with a limit."""

from __future__ import annotations

import functools
import gc
import sys
import time
from types import SimpleNamespace
from typing import Annotated, NamedTuple

import fake_device
import numpy as np
import pytest
from engine_nodes import flow
from memory_plans import SIZES, random_plan, weights, work, write_models

from nodegraph import Engine, Files, Invalid, Kind, Latent, ModelRef, OutOfMemory, PackInvalid, Run, Upscaler, arrays, node

FAKE = fake_device.FakeDevice(0)
TRIED: list[int] = []


def load_fake(files: Files, device: str, dtype: str) -> fake_device.FakeWeights:
    return fake_device.FakeWeights(FAKE, files.json("config.json")["bytes"])


@node
def named_weights(name: Annotated[ModelRef, Kind("fake")]) -> Upscaler:
    return Upscaler.of(name)


@node(smaller=2)
def work_with(weights: Upscaler, activation: int, gives: int, latent: Latent | None = None, salt: int = 0, *, run: Run) -> Latent:
    """Needs its weights, its input, some activation memory (a quarter of it in each smaller variant) and its output on the device."""
    TRIED.append(run.smaller)
    with run.use(weights, load_fake):
        data = None if latent is None else latent.data
        here = data if data is None or str(data.device) == fake_device.NAME else fake_device.on_device(FAKE, data)
        working = fake_device.on_device(FAKE, np.zeros(activation // 4**run.smaller, np.uint8))
        value = salt + (0 if here is None else float(here.reshape(-1)[0]))
        made = fake_device.on_device(FAKE, np.full((1, 1, 1, gives // 4), value + 1, np.float32))
        del working
    return Latent(made, "fake")


@node
def broken_work(weights: Upscaler, *, run: Run) -> Latent:
    raise Invalid("this is another fault")


@node
def first_of(latent: Latent) -> float:
    return float(np.asarray(latent.data).reshape(-1)[0])


@pytest.fixture
def make_models(tmp_path):
    return lambda **sizes: write_models(tmp_path / "models", sizes)


def fresh_device(engine: Engine, limit: int) -> None:
    """Another device, with nothing on it."""
    global FAKE
    engine.cache.clear()
    engine.resident.clear()
    FAKE = fake_device.FakeDevice(limit)
    TRIED.clear()


def engine_on(models, limit: int, more=(), **options) -> Engine:
    made = Engine(nodes=[named_weights, work_with, broken_work, first_of, *more], models=[models], cache=False, **options)
    made._ready().device = fake_device.NAME
    fresh_device(made, limit)
    return made


def test_idle_weights_and_cached_results_make_room(make_models):
    models = make_models(a=4000, b=4001)  # files of equal content would be one model
    nodes = {**weights("a", "b"), "x": work("a", 1000, 2000), "y": work("b", 3000, 2000, "x")}
    nodes["value"] = {"use": "first_of", "from": {"latent": "y.latent"}}
    with engine_on(models, 12_000) as engine:
        assert engine.run(flow(nodes, {"value": "value.float"})).outputs == {"value": 2.0}
        assert set(TRIED) == {0}, "whole, as room could be made"
        assert len(TRIED) > 2, "and called again after that"
        assert FAKE.peak <= FAKE.limit


def test_a_smaller_variant_runs_where_the_whole_does_not_fit(make_models):
    with engine_on(make_models(a=1000), 4000) as engine:
        nodes = {**weights("a"), "x": work("a", 30_000, 1000)}
        assert engine.run(flow(nodes, {"latent": "x.latent"})).ok
        assert TRIED[-1] == 2
        assert FAKE.peak <= 4000


def test_old_garbage_makes_room(make_models, monkeypatch):
    """What lies in circles goes when the garbage collector comes by, which is seldom for what is old."""
    monkeypatch.setattr(arrays, "in_use", lambda device: FAKE.used)
    with engine_on(make_models(a=1000), 4000) as engine:
        circle = [fake_device.on_device(FAKE, np.zeros(2000, np.uint8))]
        circle.append(circle)
        gc.collect(1)  # it is old now
        del circle
        assert engine.run(flow({**weights("a"), "x": work("a", 1000, 1000)}, {"latent": "x.latent"})).ok
        assert set(TRIED) == {0}, "whole, as room could be made"
        assert FAKE.peak <= 4000


def test_the_last_rung_is_an_account_and_the_next_run_is_not_affected(make_models):
    with engine_on(make_models(a=1000), 4000) as engine:
        job = engine.submit(flow({**weights("a"), "x": work("a", 10**6, 1000)}, {"latent": "x.latent"}))
        (problem,) = job.result().problems
        assert problem.code == "out-of-memory"
        assert "x" in problem.where
        assert "weights" in problem.data["held"]
        assert TRIED[-2:] == [1, 2]
        del job
        assert engine.run(flow({**weights("a"), "x": work("a", 500, 1000)}, {"latent": "x.latent"})).ok


def load_pair(files: Files, device: str, dtype: str) -> tuple[fake_device.FakeWeights, ...]:
    return load_fake(files, device, dtype), load_fake(files, device, dtype)


class Pair(NamedTuple):
    first: fake_device.FakeWeights
    second: fake_device.FakeWeights


def load_named_pair(files: Files, device: str, dtype: str) -> Pair:
    one = load_fake(files, device, dtype)
    return Pair(one, one)


def test_idle_weights_in_a_named_tuple_move_to_the_host_and_back(make_models):
    with engine_on(make_models(a=2000), 10_000) as engine:
        borrow = functools.partial(engine.resident.use, Upscaler.of(engine.models.ref("a")), load_named_pair, fake_device.NAME, "float32")
        with borrow() as pair:
            pass
        assert engine.resident.held() == 2000, "a network that stands in two places is one"
        assert engine.resident.rest() == 2000
        assert (FAKE.used, engine.resident.held()) == (0, 2000)
        with borrow() as again:
            assert (again, FAKE.used) == (pair, 2000)


def test_weights_that_do_not_fit_leave_nothing_of_them_on_the_device(make_models):
    """The first of two networks fits, the second does not."""
    with engine_on(make_models(a=2000), 10_000) as engine:
        handle = Upscaler.of(engine.models.ref("a"))
        borrow = functools.partial(engine.resident.use, handle, load_pair, fake_device.NAME, "float32")
        with borrow():
            assert FAKE.used == 4000
        engine.resident.rest()
        in_the_way = fake_device.on_device(FAKE, np.zeros(7000, np.uint8))
        with pytest.raises(OutOfMemory), borrow():
            pass
        assert FAKE.used == in_the_way.nbytes
        del in_the_way
        with borrow():
            assert FAKE.used == 4000


def test_what_the_host_has_no_room_for_is_let_go(make_models, monkeypatch):
    """Both memories are short: neither cached results nor idle weights can go to the host."""

    def full(*anything):
        raise MemoryError("the host is full")

    with engine_on(make_models(a=4000), 12_000, debug=True) as engine:
        assert engine.run(flow({**weights("a"), "x": work("a", 1000, 6000)}, {"latent": "x.latent"})).ok
        kept = len(engine.cache)
        monkeypatch.setattr(fake_device.FakeArray, "cpu", full)
        monkeypatch.setattr(fake_device.FakeWeights, "to", full)
        assert engine.cache.leave_device() == 6000
        assert engine.resident.rest() == 4000
        assert (engine.cache.device_used, len(engine.cache), engine.resident.held()) == (0, kept - 1, 0)
        engine.cache.settle()  # counts its bytes


@node(smaller=1, lane="device")
def hides_what_it_came_of(a: int, *, run: Run) -> int:
    """Holds memory when it runs out of it, in a frame of an error that it raises another one from, as libraries do."""
    TRIED.append(FAKE.used)
    working = fake_device.on_device(FAKE, np.zeros(3000, np.uint8))
    try:
        fake_device.on_device(FAKE, np.zeros(500 if run.smaller else 3000, np.uint8))
    except OutOfMemory as error:
        raise Invalid("it cannot be read") from error
    return a + len(working)


def test_the_errors_behind_a_want_of_memory_hold_nothing(make_models):
    """They had what the failed attempt held while the next one ran, and a variant that would have fitted failed too."""
    with engine_on(make_models(a=1000), 4000, more=[hides_what_it_came_of]) as engine:
        nodes = {"x": {"use": "hides_what_it_came_of", "with": {"a": 1}}}
        assert engine.run(flow(nodes, {"out": "x.int"})).outputs == {"out": 3001}
        assert TRIED == [0, 0]


def test_other_faults_are_not_tried_again(make_models):
    with engine_on(make_models(a=1000), 4000) as engine:
        job = engine.submit(flow({**weights("a"), "x": {"use": "broken_work", "from": {"weights": "a.upscaler"}}}, {"latent": "x.latent"}))
        assert [problem.code for problem in job.result().problems] == ["invalid-value"]


def test_an_error_of_torch_is_known_by_its_words():
    from nodegraph.memory import is_out_of_memory

    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(OutOfMemory("x"))
    assert is_out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"))
    assert is_out_of_memory(RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"))
    assert is_out_of_memory(RuntimeError("Triton Error [CUDA]: CUDA_ERROR_OUT_OF_MEMORY"))
    assert is_out_of_memory(RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_an_error_that_was_raised_from_a_want_of_memory_is_one():
    from nodegraph.memory import is_out_of_memory

    told = Invalid("the weights cannot be read")
    told.__cause__ = ValueError("the file cannot be read")
    assert not is_out_of_memory(told)
    told.__cause__.__cause__ = MemoryError()
    assert is_out_of_memory(told)


def test_random_plans_at_random_budgets(make_models):
    """500 plans: the budget is never passed, and none fails while its smallest variants would fit."""
    models = make_models(**SIZES)
    failed = 0
    with engine_on(models, 0) as engine:
        for seed in range(500):
            plan = random_plan(seed)
            fresh_device(engine, plan.limit)
            result = engine.submit(flow(plan.nodes, plan.outputs)).result()
            assert FAKE.peak <= plan.limit
            # a node that does not fit may be one that nothing asked for needs; then the run is right to go on
            assert result.ok or not plan.fits, (seed, result.problems)
            failed += not result.ok
    assert 0 < failed < 400, "the budgets are neither all ample nor all hopeless"


LEAST = {"fits": 0}
"""The largest variant that fits now."""
METADATA: list[dict] = []


@node(smaller=2)
def shrinking(a: int, *, run: Run) -> float:
    """Gives not quite the same as a smaller variant."""
    TRIED.append(run.smaller)
    if run.smaller < LEAST["fits"]:
        raise OutOfMemory("too large")
    time.sleep(0.03)  # so that it is worth the disk
    return a + run.smaller / 8


@node
def doubled(a: float) -> float:
    TRIED.append(-1)
    return a * 2


@node(effect=True)
def told(a: float, *, run: Run) -> float:
    METADATA.append(run.metadata())
    return a


def shrinking_flow(a: int = 3) -> dict:
    nodes = {
        "x": {"use": "shrinking", "with": {"a": a}},
        "y": {"use": "doubled", "from": {"a": "x.float"}},
        "told": {"use": "told", "from": {"a": "y.float"}},
    }
    return flow(nodes, {"y": "y.float"})


def ran(engine: Engine, fits: int) -> tuple[float, list[int]]:
    """The output where variants from this on fit, and what was tried; -1 stands for the node behind."""
    LEAST["fits"] = fits
    TRIED.clear()
    METADATA.clear()
    return engine.run(shrinking_flow()).outputs["y"], list(TRIED)


def test_queued_work_counts_for_the_node_that_queued_it(make_models, monkeypatch):
    """A device lane's node is over when the device is done; what it frees is freed on that kind of device."""
    asked: list[str] = []

    def wait(device: str) -> None:
        asked.append(f"wait {device}")
        time.sleep(0.05)

    accelerator = SimpleNamespace(current_accelerator=lambda: SimpleNamespace(type="fake"), synchronize=wait)
    backend = SimpleNamespace(empty_cache=lambda: asked.append("release"))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(accelerator=accelerator, fake=backend))
    nodes = {**weights("a"), "x": work("a", 1000, 2000), "value": {"use": "first_of", "from": {"latent": "x.latent"}}}
    whole = flow(nodes, {"value": "value.float"})
    with engine_on(make_models(a=4000), 12_000) as engine:
        seconds = {event.node: event.data["seconds"] for event in engine.submit(whole).events() if event.kind == "finished"}
        assert asked == [f"wait {fake_device.NAME}"], "the others run on the CPU"
        assert seconds["x"] >= 0.05
        fresh_device(engine, 6300)
        engine.run(whole)
    assert asked.count("release") == len(TRIED) - 1 > 0


def test_what_a_smaller_variant_made_is_never_taken_for_the_whole(tmp_path):
    nodes = [shrinking, doubled, told]
    with Engine(nodes=nodes, cache=tmp_path) as engine:
        assert ran(engine, 2) == (6.5, [0, 1, 2, -1])
        assert METADATA[0]["smaller"] == {"x": 2}
        assert ran(engine, 2) == (6.5, [0, 1]), "the whole is tried again; then what is known is taken, and what was made of it"
        assert METADATA[0]["smaller"] == {"x": 2}
        job = engine.submit(shrinking_flow())
        assert [event.data["smaller"] for event in job.events() if event.kind == "finished" and event.node == "x"] == [2]
        assert job.result().smaller == {"y": {"x": 2}}
        assert job.result().metadata("y")["smaller"] == {"x": 2}
    with Engine(nodes=nodes, cache=tmp_path) as engine:
        assert ran(engine, 2) == (6.5, [0, 1]), "also from disk"
        assert ran(engine, 0) == (6.0, [0, -1]), "where the whole fits it is the whole that is given"
        assert "smaller" not in METADATA[0]
        assert ran(engine, 2) == (6.0, []), "and it stays"
        assert engine.submit(shrinking_flow()).result().smaller == {}
    with Engine(nodes=nodes, cache=False) as engine:
        assert ran(engine, 1) == (6.25, [0, 1, -1])


def test_a_smaller_variant_is_a_difference():
    from nodegraph.difference import differences

    record = {"workflow": {"nodes": {}}}
    with Engine(cache=False) as engine:
        (change,) = differences({**record, "smaller": {"x": 2}}, record, engine.registry)
    assert str(change) == "x smaller variant 2 → whole, as memory was short"


@node
async def hungry(value: int = 0) -> int:
    raise MemoryError("no room")


def test_an_async_node_that_is_out_of_memory_says_so():
    with Engine(nodes=[hungry], cache=False) as engine:
        (problem,) = engine.submit(flow({"x": {"use": "hungry"}}, {"out": "x.int"})).result().problems
        assert (problem.code, problem.where) == ("out-of-memory", "x")


def test_an_async_node_has_no_smaller_variants():
    async def asks(value: int, *, run: Run) -> int:
        return value

    with pytest.raises(PackInvalid, match="async"):
        Engine(nodes=[node(smaller=1)(asks)], cache=False)
