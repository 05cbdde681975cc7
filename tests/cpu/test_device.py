"""Where nodes and the cache put their tensors, shown without a GPU: see `absent_gpu`."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from absent_gpu import PLACE, Waits, absent_gpu, held
from shipped import PROMPT, TXT2IMG, WAITS, WORKFLOWS, full_precision, painted, pictures

from nodegraph import Engine, Image, Latent, Run, RunFailed, node, noderun


@node(lane="device")
def on_device(run: Run, value: float) -> Latent:
    return Latent(torch.full((1, 4, 64, 64), value, device=run.device))


@node(lane="device")
def mixes(latent: Latent) -> Latent:
    return Latent(latent.data + torch.ones(64))


@node(lane="device")
def draws_there(run: Run) -> Latent:
    return Latent(torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0), device=run.device))


@node(lane="device")
def finds_no_device() -> Latent:
    raise RuntimeError("CUDA error: invalid device ordinal\nCUDA kernel errors might be asynchronously reported")


@node
def hands_to_numpy(latent: Latent) -> float:
    return float(numpy.asarray(latent.data).mean())


@node
def mean_of(latent: Latent) -> float:
    return float(latent.numpy().mean())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return pictures(tmp_path_factory.mktemp("pictures"))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_tensors_are_put_where_the_model_is(name: str, files: dict[str, str]) -> None:
    with Engine(cache=False, device="cpu", dtype="float32") as engine:
        expected = painted(engine, name, files)
    with absent_gpu(), Engine(cache=False) as engine:
        found = painted(engine, name, files)
    for output, value in expected.items():
        if isinstance(value, Image):
            assert torch.equal(held(found[output].data), held(value.data)), output
        else:
            assert repr(found[output]) == repr(value)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["txt2img", "inpaint", "upscale_diffusion", "upscale"])
def test_half_precision(name: str, dtype: str, files: dict[str, str]) -> None:
    with absent_gpu(dtype), Engine(cache=False) as engine:
        found = painted(engine, name, files)["image"]
    assert held(found.data).isfinite().all()


@pytest.mark.parametrize(("sampler", "draws"), [*WAITS, ("euler", False), ("euler_ancestral", True)])
def test_no_step_of_a_sampling_waits_for_the_device_but_to_bring_noise(sampler: str, draws: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noderun, "PREVIEW", 1e9)  # but for the first and the last step
    waits = []
    with absent_gpu(), Engine(cache=False) as engine:
        for steps in (5, 6, 12):
            Waits.count = 0
            engine.run(TXT2IMG, prompt=PROMPT, sampler=sampler, steps=steps)
            waits.append(Waits.count)
    assert waits[2] - waits[1] == (6 if draws else 0)


def test_what_is_drawn_on_a_gpu_is_not_drawn_from_a_generator_of_the_host() -> None:
    with absent_gpu(), Engine(cache=False, nodes=[draws_there]) as engine, pytest.raises(RunFailed, match="device type for generator"):
        engine.run({"nodes": {"a": {"use": "draws_there"}}, "outputs": {"out": "a.latent"}})


def test_full_precision_is_asked_for_and_given_back() -> None:
    """The flags are no attributes of an ordinary kind: pytest cannot set them back."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with full_precision():
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (False, False)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


@pytest.mark.parametrize(("use", "said"), [("mixes", "two devices, cuda:0 and cpu"), ("hands_to_numpy", "can't convert cuda:0")])
def test_what_a_gpu_refuses_is_refused(use: str, said: str) -> None:
    nodes = {"a": {"use": "on_device", "with": {"value": 0.5}}, "b": {"use": use, "from": {"latent": "a.latent"}}}
    flow = {"nodes": nodes, "outputs": {"out": f"b.{'float' if use == 'hands_to_numpy' else 'latent'}"}}
    with absent_gpu(), Engine(cache=False, nodes=[on_device, mixes, hands_to_numpy]) as engine, pytest.raises(RunFailed, match=said):
        engine.run(flow)


@pytest.mark.parametrize(("there", "fix"), [(0, "use --device cpu, or install"), (1, "use --device cuda:0, or cpu")])
def test_a_device_that_is_not_here_is_told(there: int, fix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was told by the frames of torch, or as files of a model that cannot be read."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    with Engine(cache=False, device="cuda:1", nodes=[finds_no_device]) as engine:
        (problem,) = engine.submit({"nodes": {"a": {"use": "finds_no_device"}}, "outputs": {"out": "a.latent"}}).result().problems
    assert (problem.code, problem.where, problem.detail) == ("no-device", "a", "")
    assert problem.text == "'finds_no_device' runs on cuda:1, which is not here: RuntimeError: CUDA error: invalid device ordinal"
    assert problem.fix.startswith(fix)


def test_results_of_a_device_stay_on_it_sink_to_the_host_and_come_back_from_disk(tmp_path: Path) -> None:
    nodes = {"a": {"use": "on_device", "with": {"value": 0.25}}, "b": {"use": "mean_of", "from": {"latent": "a.latent"}}}
    flow = {"nodes": nodes, "outputs": {"mean": "b.float", "latent": "a.latent"}}
    nbytes = 4 * 64 * 64 * 4
    for debug in (False, True):
        with absent_gpu(), Engine(cache=tmp_path, nodes=[on_device, mean_of], debug=debug) as engine:
            result = engine.run(flow)
            assert result.outputs["mean"] == 0.25
            first = not debug  # then it is found on the disk
            assert result.outputs["latent"].data.device == (PLACE if first else "cpu")
            assert engine.cache.device_used == (nbytes if first else 0)
            assert engine.cache.leave_device() == (nbytes if first else 0)
            assert torch.equal(held(engine.run(flow).outputs["latent"].data), torch.full((1, 4, 64, 64), 0.25))
            assert (engine.cache.device_used, engine.cache.used >= nbytes) == (0, True)
