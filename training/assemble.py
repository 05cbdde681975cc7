"""The finished `tiny-sd`: averaged weights as diffusers folders in half precision, with their cards."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from nodes.language.facts import WORDINGS
from training import parts
from training.autoencoder import vae_trainer
from training.denoiser import Encoded, unet_trainer
from training.editors import inpainting_trainer, instruction_trainer
from training.loop import Trainer
from training.recipe import Run

CARD, INPAINTING_CARD, INSTRUCTION_CARD = (
    Path(__file__).with_name(f"tiny_sd{name}_card.md") for name in ("", "_inpainting", "_instruction")
)
PATTERN = r"(?:an? )?(?:(?:large|small) )?(?P<wording>.+?), \w+ style"
"""Where the wording stands in a caption."""


def assemble(run: Run, out: Path) -> None:
    """Write the model, and beside it the denoisers that are shown a picture."""
    vae = run.finished(vae_trainer(run))["vae"]
    vae.register_to_config(scaling_factor=Encoded.load(run.latents).scale)
    denoiser = run.finished(unet_trainer(run))
    pipeline = StableDiffusionPipeline(
        vae=vae,
        unet=denoiser["unet"],
        text_encoder=denoiser["text_encoder"],
        tokenizer=run.tokenizer,
        scheduler=parts.make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.cpu().half().to(memory_format=torch.contiguous_format)
    pipeline.save_pretrained(out)
    config = out / "text_encoder/config.json"  # transformers takes its word for what to calculate in, diffusers float32
    write_json(config, json.loads(config.read_text()) | {"dtype": "float32"})
    pipeline.tokenizer.backend_tokenizer.model.save(str(out / "tokenizer"))
    write_json(out / WORDINGS, {"pattern": PATTERN, "wordings": {one.name: one.train for one in run.icons.concepts}})
    (out / "README.md").write_text(CARD.read_text())
    assemble_editor(run, out, "inpainting", "StableDiffusionInpaintPipeline", inpainting_trainer(run), INPAINTING_CARD)
    assemble_editor(run, out, "instruction", "StableDiffusionInstructPix2PixPipeline", instruction_trainer(run), INSTRUCTION_CARD)
    print(f"assembled {out}: {folder_size(out) / 1e6:.1f} MB", flush=True)


def assemble_editor(run: Run, base: Path, name: str, pipeline: str, trainer: Trainer, card: Path) -> None:
    """Write a denoiser as a model that takes its other parts from the one beside it."""
    if not trainer.checkpoint.exists():  # the model paints without it
        return
    out = base.with_name(f"{base.name}-{name}")
    run.finished(trainer)["unet"].cpu().half().to(memory_format=torch.contiguous_format).save_pretrained(out / "unet")
    index = json.loads((base / "model_index.json").read_text())
    write_json(
        out / "model_index.json",
        index | {"_class_name": pipeline, "nodegraph_base": base.name},
    )
    (out / "README.md").write_text(card.read_text())


def folder_size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def write_json(file: Path, content: dict) -> None:
    """Write indented JSON, its folder made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n")
