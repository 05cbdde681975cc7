"""Train `tiny-sd`: a small text-to-image latent diffusion model of the worlds in `training.shapes` and `training.icons`.

    python -m training.prepare                                   once; fetches and renders the icons
    python -m training.tiny_sd --out FOLDER [--work FOLDER] [--resume] [--start FOLDER] [--stage all] [--set NAME=VALUE]

Stages, each from the files of those before: `vae` (autoencoder), `latents` (a cache of
encoded examples), `unet` (denoiser and text encoder, trained together), `inpainting` and
`instruction` (denoisers of their own that are shown a picture too, the text encoder as it
is), and `assemble`: an ordinary diffusers folder in half precision, and beside it
FOLDER-inpainting and FOLDER-instruction, a denoiser each, which share the other parts.
A run may be killed at any time; `--resume` goes on from the last checkpoint, `--start`
from the weights of a finished model. How the shipped weights were made is in their card.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from training.assemble import assemble
from training.autoencoder import train_vae
from training.denoiser import encode_examples, train_unet
from training.editors import train_inpainting, train_instruction
from training.loop import pick_device
from training.recipe import Recipe, Run, change_of

STAGES = {
    "vae": train_vae,
    "latents": encode_examples,
    "unet": train_unet,
    "inpainting": train_inpainting,
    "instruction": train_instruction,
}
"""The stages that train, in order; `assemble` follows them."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the finished model")
    parser.add_argument("--data", type=Path, default=Path("training/runs/icons.npz"), help="what training.prepare made")
    parser.add_argument("--work", type=Path, default=Path("training/runs/tiny-sd"), help="checkpoints and caches")
    parser.add_argument("--stage", choices=("all", *STAGES, "assemble"), default="all")
    parser.add_argument(
        "--set", type=change_of(Recipe), action="append", default=[], metavar="NAME=VALUE", help="change one number of the recipe"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in the work folder")
    parser.add_argument("--start", type=Path, metavar="FOLDER", help="a finished model to go on from where there is no checkpoint")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args(arguments)
    if options.out is None and options.stage in ("all", "assemble"):
        parser.error("--out: say where the finished model goes")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Run one stage, or all of them in order."""
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    run = Run(
        replace(Recipe(), **dict(options.set)), options.data, options.work, pick_device(options.device), options.resume, options.start
    )
    for stage, train in STAGES.items():
        if options.stage in ("all", stage):
            print(f"--- {stage} {time.strftime('%H:%M:%S')}", flush=True)
            train(run)
    if options.stage in ("all", "assemble"):
        assemble(run, options.out)


if __name__ == "__main__":
    main()
