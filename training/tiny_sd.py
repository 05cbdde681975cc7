"""Train `tiny-sd`: a small text-to-image latent diffusion model of the world in `training.shapes`.

    python -m training.tiny_sd --out FOLDER [--work FOLDER] [--resume] [--stage all]

Five stages, each from the files of those before: `vae` (autoencoder), `latents`
(a cache of encoded examples), `unet` (denoiser and text encoder, trained together
from the start), `decoder` (the autoencoder's decoder goes on alone, latents fixed)
and `assemble` (an ordinary diffusers folder in half precision).
The defaults are the ones that made the shipped weights. A run may be killed at any
time; `--resume` goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from training import parts
from training.autoencoder import decoder_trainer, encode_examples, train_decoder, train_vae
from training.denoiser import train_unet, unet_trainer
from training.loop import pick_device
from training.recipe import Recipe, Run, trained

STAGES = {"vae": train_vae, "latents": encode_examples, "unet": train_unet, "decoder": train_decoder}
"""The stages that train, in order; `assemble` follows them."""
CARD = Path(__file__).with_name("tiny_sd_card.md")


def assemble(run: Run, out: Path) -> None:
    """Write the averaged weights as a diffusers folder: float16 safetensors, configs, model card."""
    vae = trained(run, decoder_trainer(run))["vae"]
    vae.register_to_config(scaling_factor=torch.load(run.latents, weights_only=True)["scale"])
    denoiser = trained(run, unet_trainer(run))
    pipeline = StableDiffusionPipeline(
        vae=vae,
        unet=denoiser["unet"],
        text_encoder=denoiser["text_encoder"],
        tokenizer=parts.make_tokenizer(),
        scheduler=parts.make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.cpu().half().to(memory_format=torch.contiguous_format)
    pipeline.save_pretrained(out)
    pipeline.tokenizer.backend_tokenizer.model.save(str(out / "tokenizer"))
    (out / "README.md").write_text(CARD.read_text())
    print(f"assembled {out}: {folder_size(out) / 1e6:.1f} MB", flush=True)


def folder_size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    usual = Recipe()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--work", type=Path, default=Path("training/runs/tiny-sd"), help="checkpoints and caches")
    parser.add_argument("--stage", choices=("all", *STAGES, "assemble"), default="all")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in the work folder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--vae-steps", type=int, default=usual.vae_steps)
    parser.add_argument("--unet-steps", type=int, default=usual.unet_steps)
    parser.add_argument("--decoder-steps", type=int, default=usual.decoder_steps)
    parser.add_argument("--examples", type=int, default=usual.examples, help="size of the latents cache")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run one stage, or all of them in order."""
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    recipe = Recipe(
        seed=options.seed,
        vae_steps=options.vae_steps,
        unet_steps=options.unet_steps,
        decoder_steps=options.decoder_steps,
        examples=options.examples,
    )
    run = Run(recipe, options.work, pick_device(options.device), options.resume)
    for stage, train in STAGES.items():
        if options.stage in ("all", stage):
            print(f"--- {stage}", flush=True)
            train(run)
    if options.stage in ("all", "assemble"):
        assemble(run, options.out)


if __name__ == "__main__":
    main()
