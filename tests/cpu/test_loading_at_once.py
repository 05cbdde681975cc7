"""Weights that are loaded while other threads load, or compute: the libraries change torch for all threads while they load."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import PIL.Image
import pytest
import torch
import transformers

from nodegraph import Engine
from nodegraph.resident import Resident
from nodes.diffusion.schedulers import FLOW, RESPACINGS, SAMPLERS
from tests.cpu.tiny_models import model_folder, root
from tests.cpu.tiny_unclip import unclip_folder

REPOSITORY = Path(__file__).resolve().parents[2]
PROMPT = {"prompt": "a red circle"}


def changeable() -> dict[str, Any]:
    """What of torch the libraries change while they load."""
    model = transformers.PreTrainedModel
    return {
        "register": torch.nn.Module.register_parameter,
        "linspace": torch.linspace,
        "dtype": torch.get_default_dtype(),
        "inits": [torch.nn.init.normal_, torch.nn.init.kaiming_uniform_, model.init_weights, model.tie_weights],
    }


def test_weights_that_are_loaded_at_once_leave_torch_as_it_was() -> None:
    """Two at once put back each other's changes: modules that were made after that lost their weights."""
    flow = json.loads((REPOSITORY / "workflows/txt2img.json").read_text())
    kinds = ("sd1", "sd2", "clean", "distilled")
    for kind in kinds:
        model_folder(kind)
    before = changeable()
    for _ in range(3):
        engines = [Engine(models=[root()], cache=False, device="cpu") for _ in kinds]
        jobs = [engine.submit(flow, {**PROMPT, "model": kind, "steps": 1}) for engine, kind in zip(engines, kinds, strict=True)]
        assert [job.result().problems for job in jobs] == [()] * len(kinds)
        for engine in engines:
            engine.close()
    assert changeable() == before


AT_ONCE = """
import importlib.abc, importlib.machinery, importlib.util, json, sys, threading, time
from nodegraph import Engine

flows = json.loads(sys.argv[1])
begun = threading.Event()

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "transformers":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def slowly(module):
            begun.set()
            time.sleep(2)  # the other engine comes to the same import
            execute(module)
        spec.loader.exec_module = slowly
        return spec

sys.meta_path.insert(0, Slow())
jobs = []
for file, inputs in flows:
    engine = Engine(cache=False, device="cpu")
    jobs.append(engine.submit(file, **inputs))
    begun.wait(60)
print([problem.text for job in jobs for problem in job.result().problems])
"""


def test_two_engines_import_transformers_at_once() -> None:
    """It puts another module in its place while it is imported: the second engine got the first one, which is empty."""
    flows = [("resolve_wording", {"text": "a polyp", "wordings": ["house"]}), ("txt2img", {**PROMPT, "steps": 1})]
    given = json.dumps([(str(REPOSITORY / f"workflows/{name}.json"), inputs) for name, inputs in flows])
    done = subprocess.run([sys.executable, "-c", AT_ONCE, given], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr[-2000:]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An engine, and whether weights are being loaded in another thread, in double precision, whenever its nodes compute."""
    load = Resident._load
    loading = [False]

    def load_in_turn(*args: Any) -> Any:
        torch.set_default_dtype(torch.float32)
        try:
            return load(*args)
        finally:
            torch.set_default_dtype(torch.float64 if loading[0] else torch.float32)

    monkeypatch.setattr(Resident, "_load", load_in_turn)
    with Engine(models=[root()], roots=[REPOSITORY], cache=False, device="cpu") as engine:
        yield engine, loading
    torch.set_default_dtype(torch.float32)


def sampling(model: str, sampler: str = "default", sigmas: str = "default") -> tuple[dict[str, Any], dict[str, Any]]:
    flow = json.loads((REPOSITORY / "workflows/txt2img.json").read_text())
    del flow["nodes"]["sample"]["from"]["sampler"], flow["inputs"]["sampler"]
    flow["nodes"]["sample"]["with"] = {"sampler": sampler, "sigmas": sigmas}
    flow["inputs"]["model"]["default"] = model
    return flow, {**PROMPT, "model": model, "steps": 4}


def shipped(name: str, **inputs: Any) -> tuple[Path, dict[str, Any]]:
    return REPOSITORY / f"workflows/{name}.json", inputs


CASES = {
    **{sampler: sampling("sd1", sampler) for sampler in SAMPLERS},
    **{f"flow-{sampler}": sampling("flow", sampler) for sampler in FLOW},
    **{sigmas: sampling("sd1", "dpm++_2m", sigmas) for sigmas in RESPACINGS},
    **{model: sampling(model) for model in ("sd2", "clean", "distilled")},
    "img2img": shipped("img2img", **PROMPT, model="sd1", image="photo", steps=4),
    "inpaint": shipped("inpaint", **PROMPT, model="inpaint", image="photo", mask="mask", steps=4),
    "edit": shipped("instruct_edit", instruction="blue", model="edit", image="photo", steps=4),
    "karlo": shipped("unclip_large", **PROMPT, model="karlo", prior_steps=3, steps=4),
    "autoregressive": shipped("unclip", **PROMPT, model="whole", prior_steps=3, steps=4, prior="autoregressive"),
    "variations": shipped("variations", image="photo", model="whole", steps=3, count=2),
    "text_diff": shipped("text_diff", image="photo", model="whole", target="blue", steps=3),
    "sentences": shipped("resolve_wording", text="a polyp"),
    "upscale": shipped("upscale", image="photo", tile=16),
    "photo": shipped("photo_edit", photo="photo", size=40),
}


@pytest.mark.parametrize("name", CASES)
def test_results_are_the_same_while_other_weights_are_loaded(name: str, elsewhere: Any, tmp_path: Path) -> None:
    """The libraries set torch's default dtype to that of the weights."""
    engine, loading = elsewhere
    flow, inputs = CASES[name]
    model = inputs.get("model", "")
    if model in ("karlo", "whole"):
        unclip_folder(model)
    elif model:
        model_folder(model)
    for one in ("photo", "mask"):
        PIL.Image.fromarray(numpy.random.default_rng(len(one)).integers(0, 256, (32, 32), numpy.uint8)).save(tmp_path / f"{one}.png")
    given = {port: str(tmp_path / f"{said}.png") if said in ("photo", "mask") else said for port, said in inputs.items()}
    results = []
    for loading[0] in (False, True):
        outputs = engine.run(flow, **given).outputs
        results.append([array for value in outputs.values() if hasattr(value, "parts") for array in value.parts()[1].values()] or outputs)
        engine.resident.clear()
    first, second = results
    if isinstance(first, dict):
        assert first == second
    else:
        pairs = zip(map(torch.as_tensor, first), map(torch.as_tensor, second), strict=True)
        assert all(one.dtype == other.dtype and torch.equal(one, other) for one, other in pairs)
