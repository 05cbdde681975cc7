"""The built-in model on a GPU: the same pixels as diffusers' pipeline there, and cached latents that stay on the device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from shipped import full_precision

from nodegraph import Engine

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "nodes" / "diffusion" / "models" / "tiny-sd"
PROMPT = "a large red circle on the left on a white background"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


@full_precision()
def test_bit_identical_to_the_pipeline_in_float32():
    import diffusers

    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(MODEL, dtype=torch.float32, local_files_only=True).to("cuda")
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 8, "guidance_scale": 4.0, "output_type": "pt"}
    expected = pipeline(PROMPT, generator=[torch.Generator().manual_seed(5)], **options).images.cpu()
    with Engine(cache=False, device="cuda", dtype="float32") as engine:
        result = engine.run(ROOT / "workflows" / "txt2img.json", prompt=PROMPT, steps=8, guidance=4.0, seed=5)
    assert torch.equal(result.outputs["image"].tensor(), expected)


def test_half_precision_paints_the_same_picture():
    from pictures import check

    from training.shapes import parse

    with Engine(cache=False, device="cuda") as engine:
        image = engine.run(ROOT / "workflows" / "txt2img.json", prompt=PROMPT, seed=1).outputs["image"]
    assert all(check(image.pil()[0], parse(PROMPT)).values())
