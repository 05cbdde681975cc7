"""The out-of-memory ladder with real allocations: torch's allocator is given a limit."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from engine_nodes import flow
from memory_plans import SIZES, random_plan, write_models

from nodegraph import Engine, Files, Kind, Latent, ModelRef, Run, Upscaler, node

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
SCALE = 128 << 10
"""Bytes on the device for each byte of a plan: budgets of 0.5 to 5 GB."""
PAGES = 12 * (20 << 20) // SCALE
"""What pages of 20 MiB that are only partly in use may take of a budget: the allocator maps no smaller ones."""
TRIED: list[int] = []


class Weights(torch.nn.Module):
    def __init__(self, nbytes: int, device: str):
        super().__init__()
        self.register_buffer("data", torch.zeros(nbytes, dtype=torch.uint8, device=device))


def load(files: Files, device: str, dtype: str) -> Weights:
    return Weights(files.json("config.json")["bytes"] * SCALE, device)


@node
def named_weights(name: Annotated[ModelRef, Kind("fake")]) -> Upscaler:
    return Upscaler.of(name)


@node(smaller=2, lane="device")
def work_with(weights: Upscaler, activation: int, gives: int, latent: Latent | None = None, salt: int = 0, *, run: Run) -> Latent:
    """Needs its weights, its input, some activation memory (a quarter of it in each smaller variant) and its output on the device."""
    TRIED.append(run.smaller)
    with run.use(weights, load):
        here = None if latent is None else latent.tensor(run.device)
        working = torch.empty(activation * SCALE // 4**run.smaller, dtype=torch.uint8, device=run.device)
        value = salt + (0.0 if here is None else float(here.reshape(-1)[0]))
        made = torch.full((1, 1, 1, gives * SCALE // 4), value + 1, device=run.device)
        del working
    return Latent(made, "fake")


@node
def first_of(latent: Latent) -> float:
    return float(latent.data.reshape(-1)[0])


@pytest.fixture
def budget() -> Iterator[Callable[[int], int]]:
    """Sets how much the allocator may hold, from bytes of a plan, when nothing of the last one is left; returns it in bytes."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.memory._set_allocator_settings("expandable_segments:True")  # or what is free in parts would be of no use
    gc.collect()
    before = torch.cuda.memory_allocated()  # what other tests have left

    def limit(nbytes: int) -> int:
        patience = time.monotonic() + 5
        while torch.cuda.memory_allocated() > before:  # a job is done a moment before its worker has let go of it
            assert time.monotonic() < patience, "a run that is done holds what is on the device"
            time.sleep(0.001)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        bound = torch.cuda.memory_reserved() + nbytes * SCALE
        torch.cuda.set_per_process_memory_fraction(bound / total)
        return bound

    gc.disable()  # what is done must be gone without it
    yield limit
    gc.enable()
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.memory._set_allocator_settings("expandable_segments:False")


def test_random_plans_at_random_budgets(tmp_path: Path, budget: Callable[[int], int]) -> None:
    """500 plans: the budget is never passed, none fails while its smallest variants would fit, and a smaller variant changes no value."""
    models, failed = write_models(tmp_path / "models", SIZES), 0
    with Engine(nodes=[named_weights, work_with, first_of], models=[models], cache=False, device="cuda") as engine:
        for seed in range(500):
            plan = random_plan(seed, PAGES)
            engine.cache.clear()
            engine.resident.clear()
            bound = budget(plan.limit)
            result = engine.submit(flow(plan.nodes, plan.outputs)).result()
            assert torch.cuda.max_memory_reserved() <= bound
            assert result.ok or not plan.fits, (seed, result.problems)
            assert {problem.code for problem in result.problems} <= {"out-of-memory"}
            failed += not result.ok
            if result.ok:
                assert result.outputs["value"] == _expected(plan.nodes, seed)
    assert 0 < failed < 400, "the budgets are neither all ample nor all hopeless"
    assert set(TRIED) == {0, 1, 2}


def _expected(nodes: dict[str, Any], salt: int) -> float:
    """The value of the last node: each in the chain behind it adds the salt and one."""
    depth, at = 0, nodes["value"]["from"]["latent"].removesuffix(".latent")
    while at:
        depth, at = depth + 1, nodes[at]["from"].get("latent", "").removesuffix(".latent")
    return float(depth * (salt + 1))
