"""The finished model: averaged weights of every stage as one folder in the layout of diffusers' UnCLIPPipeline."""

from __future__ import annotations

from pathlib import Path

import diffusers
import torch
import transformers

from nodes.language.facts import WORDINGS
from training.assemble import PATTERN, folder_size, write_json
from training.unclip import parts
from training.unclip.ar_prior import ar_prior_trainer
from training.unclip.autoencoder import polish_trainer
from training.unclip.classifier import assemble_classifier, classifier_trainer
from training.unclip.clip import trained_clip
from training.unclip.decoder import decoder_trainer
from training.unclip.prior import prior_trainer
from training.unclip.recipe import Run
from training.unclip.second_upsampler import second_upsampler_trainer
from training.unclip.upsampler import upsampler_trainer

CARD, UPSAMPLER_CARD = (Path(__file__).with_name(name) for name in ("card.md", "upsampler_card.md"))
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": 32},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
"""How pictures become the image encoder's input: 32 pixels square, -1..1."""


def assemble(run: Run, out: Path) -> None:
    """Write the averaged weights in half precision, the configurations and the card."""
    modules = run.finished(polish_trainer(run)) | trained_clip(run) | run.finished(decoder_trainer(run))
    modules |= run.finished(prior_trainer(run))
    for trainer in (ar_prior_trainer(run), upsampler_trainer(run)):
        if trainer.checkpoint.exists():  # the model paints without them
            modules |= run.finished(trainer)
    modules["vae"].register_to_config(scaling_factor=torch.load(run.latents, weights_only=True)["scale"])
    schedulers = {
        "prior_scheduler": parts.make_prior_scheduler(),
        "decoder_scheduler": parts.make_decoder_scheduler(),
    }
    if "super_res_first" in modules:
        schedulers["super_res_scheduler"] = parts.make_upsampler_scheduler()
    for name, module in modules.items():
        module.cpu().half().to(memory_format=torch.contiguous_format).save_pretrained(out / name)
    for name, scheduler in schedulers.items():
        scheduler.save_pretrained(out / name)
    run.tokenizer.save_pretrained(out / "tokenizer")
    run.tokenizer.backend_tokenizer.model.save(str(out / "tokenizer"))
    write_json(out / "feature_extractor/preprocessor_config.json", PREPROCESSOR)
    write_json(out / WORDINGS, {"pattern": PATTERN, "wordings": {one.name: one.train for one in run.icons.concepts}})
    known = {name: part for name, part in (modules | schedulers).items() if name != "ar_prior"}  # diffusers has none
    index = {name: [_library(part), type(part).__name__] for name, part in known.items()}
    index |= {"tokenizer": ["transformers", "CLIPTokenizer"], "feature_extractor": ["transformers", "CLIPImageProcessor"]}
    write_json(out / "model_index.json", {"_class_name": "UnCLIPPipeline", "_diffusers_version": diffusers.__version__} | index)
    (out / "README.md").write_text(CARD.read_text())
    if second_upsampler_trainer(run).checkpoint.exists():
        assemble_upsampler(run, out.with_name(f"{out.name}-upsampler"))
    if classifier_trainer(run).checkpoint.exists():
        assemble_classifier(run, out.with_name(f"{out.name}-styles"))
    print(f"assembled {out}: {folder_size(out) / 1e6:.1f} MB", flush=True)


def assemble_upsampler(run: Run, out: Path) -> None:
    """Write the second upsampler as a model of its own: it serves any picture."""
    upsampler, scheduler = run.finished(second_upsampler_trainer(run))["super_res_first"], parts.make_upsampler_scheduler()
    upsampler.cpu().half().to(memory_format=torch.contiguous_format).save_pretrained(out / "super_res_first")
    scheduler.save_pretrained(out / "super_res_scheduler")
    index = {"super_res_first": ["diffusers", "UNet2DModel"], "super_res_scheduler": ["diffusers", "UnCLIPScheduler"]}
    write_json(out / "model_index.json", {"_class_name": "UnCLIPPipeline", "_diffusers_version": diffusers.__version__} | index)
    (out / "README.md").write_text(UPSAMPLER_CARD.read_text())


def _library(part: object) -> str:
    """The library that has the class, as model_index.json names it."""
    name = type(part).__name__
    if hasattr(diffusers, name):
        return "diffusers"
    return "transformers" if hasattr(transformers, name) else "unclip"
