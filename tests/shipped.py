"""Shipped workflows run with little work, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import PIL.Image

from nodegraph import Engine, Workflow

FOLDER = Path(__file__).resolve().parents[1] / "workflows"
TXT2IMG = FOLDER / "txt2img.json"
PROMPT = "a large red circle on the left on a white background"
WORKFLOWS = ["classifier_guidance", "hires", "img2img", "inpaint", "instruct_edit", "resolve_wording", "unclip_large", "upscale"]
"""Together they have every model and every node that computes on a device."""
WAITS = [("ddim", False), ("ddpm", True), ("dpm++_2m", False), ("lcm", True), ("pndm", False)]
"""Samplers, and whether their steps draw noise, which is drawn on the host: to bring it to a device waits for the step before."""


@contextmanager
def full_precision() -> Iterator[None]:
    """Products and convolutions in float32 without TF32. The flags are functions behind `__getattr__`: pytest cannot set them back."""
    import torch

    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    try:
        for flag in flags:
            flag.allow_tf32 = False
        yield
    finally:
        for flag, allowed in zip(flags, before, strict=True):
            flag.allow_tf32 = allowed


def pictures(folder: Path) -> dict[str, str]:
    """The paths of a picture and a mask for it, 32 pixels wide."""
    pixels = numpy.random.default_rng(0).integers(0, 256, (32, 32, 3), numpy.uint8)
    PIL.Image.fromarray(pixels).save(folder / "picture.png")
    hole = numpy.zeros((32, 32), numpy.uint8)
    hole[8:24, 8:24] = 255
    PIL.Image.fromarray(hole).save(folder / "mask.png")
    return {"picture": str(folder / "picture.png"), "mask": str(folder / "mask.png")}


def painted(engine: Engine, name: str, files: dict[str, str]) -> dict[str, Any]:
    """The outputs of a shipped workflow, in four steps where it has steps."""
    workflow = Workflow.load(FOLDER / f"{name}.json")
    given: dict[str, Any] = {"steps": 4} if "steps" in workflow.inputs else {}
    for port, declared in workflow.inputs.items():
        if declared.required:
            given[port] = PROMPT if declared.type == "text" else files["mask" if "mask" in port else "picture"]
    return engine.run(workflow, given).outputs
