"""Shipped workflows on a GPU: the pictures of the CPU, in half precision too, and no step of a sampling that waits for the device."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from shipped import PROMPT, TXT2IMG, WAITS, WORKFLOWS, full_precision, painted, pictures

from nodegraph import Engine, Image, Latent, Run, node, noderun

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


@node(lane="device")
def on_device(run: Run, value: float) -> Latent:
    return Latent(torch.full((1, 4, 64, 64), value, device=run.device))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return pictures(tmp_path_factory.mktemp("pictures"))


@pytest.mark.parametrize("name", WORKFLOWS)
@full_precision()
def test_the_pictures_are_those_of_the_cpu(name: str, files: dict[str, str]) -> None:
    """In float32 without TF32: what is left is the order of sums."""
    with Engine(cache=False, device="cpu", dtype="float32") as engine:
        expected = painted(engine, name, files)
    with Engine(cache=False, device="cuda", dtype="float32") as engine:
        found = painted(engine, name, files)
    for output, value in expected.items():
        if isinstance(value, Image):
            assert (found[output].tensor() - value.tensor()).abs().mean() < 1e-3, output


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", WORKFLOWS)
def test_half_precision(name: str, dtype: str, files: dict[str, str]) -> None:
    with Engine(cache=False, device="cuda", dtype=dtype) as engine:
        found = painted(engine, name, files)
    assert all(value.tensor().isfinite().all() for value in found.values() if isinstance(value, Image))


@pytest.mark.parametrize(("sampler", "draws"), WAITS)
def test_no_step_of_a_sampling_waits_for_the_device_but_to_bring_noise(sampler: str, draws: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noderun, "PREVIEW", 1e9)  # but for the first and the last step
    waits = []
    with Engine(cache=False, device="cuda") as engine:
        engine.run(TXT2IMG, prompt=PROMPT, sampler=sampler, steps=5)  # with other steps: nothing of a sampling is found in memory
        for steps in (6, 12):
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
                try:
                    engine.run(TXT2IMG, prompt=PROMPT, sampler=sampler, steps=steps)
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            waits.append(sum("synchroniz" in str(one.message) for one in told))
    assert waits[1] - waits[0] == (6 if draws else 0)


def test_results_stay_on_the_device_sink_to_the_host_and_come_back_from_disk(tmp_path: Path) -> None:
    flow = {"nodes": {"a": {"use": "on_device", "with": {"value": 0.25}}}, "outputs": {"latent": "a.latent"}}
    nbytes = 4 * 64 * 64 * 4
    for first in (True, False):
        with Engine(cache=tmp_path, nodes=[on_device], device="cuda") as engine:
            result = engine.run(flow)
            assert str(result.outputs["latent"].data.device) == ("cuda:0" if first else "cpu")
            assert engine.cache.device_used == (nbytes if first else 0)
            assert engine.cache.leave_device() == (nbytes if first else 0)
            assert torch.equal(engine.run(flow).outputs["latent"].tensor(), torch.full((1, 4, 64, 64), 0.25))
            assert (engine.cache.device_used, engine.cache.used >= nbytes) == (0, True)
