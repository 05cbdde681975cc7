"""Train `tiny-unclip`: caption to image embedding to picture, of the world in `training.icons`.

    python -m training.prepare                                   once; fetches and renders the icons
    python -m training.unclip --out FOLDER [--work FOLDER] [--resume] [--start FOLDER] [--stage all] [--preset cpu] [--set NAME=VALUE]

Stages, each from the files of those before: `vae`, `latents` and `polish` (autoencoder, a
cache of encoded examples, and a better autoencoder of the same latents), `clip`, `text`
and `embeddings` (both encoders, the text encoder alone, and a cache of what they make of
the examples), `decoder`, `prior`, `ar_prior`, `upsampler`, `second_upsampler`,
`classifier`, and `assemble`: an ordinary diffusers folder in half precision, and beside
it FOLDER-upsampler and FOLDER-styles, the second upsampler and the classifier. A run may
be killed at any time; `--resume` goes on from the last checkpoint, `--start` from the
weights of a finished model (give it another `--set seed=N`, for other examples).
`--set concepts=400` widens the world. How the shipped weights were made is in their card.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from training.loop import pick_device
from training.recipe import change_of
from training.unclip.ar_prior import train_ar_prior
from training.unclip.assemble import assemble
from training.unclip.autoencoder import encode_examples, polish_vae, train_vae
from training.unclip.classifier import train_classifier
from training.unclip.clip import embed_examples, train_clip, train_text
from training.unclip.decoder import train_decoder
from training.unclip.prior import train_prior
from training.unclip.recipe import PRESETS, Recipe, Run
from training.unclip.second_upsampler import train_second_upsampler
from training.unclip.upsampler import train_upsampler

STAGES = {
    "vae": train_vae,
    "latents": encode_examples,
    "polish": polish_vae,
    "clip": train_clip,
    "text": train_text,
    "embeddings": embed_examples,
    "decoder": train_decoder,
    "prior": train_prior,
    "ar_prior": train_ar_prior,
    "upsampler": train_upsampler,
    "second_upsampler": train_second_upsampler,
    "classifier": train_classifier,
}
"""The stages that train, in order; `assemble` follows them."""


def recipe_of(changes: dict[str, float], preset: str = "cpu") -> Recipe:
    """A preset with some of its numbers changed."""
    return replace(PRESETS[preset], **changes)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the finished model")
    parser.add_argument("--data", type=Path, default=Path("training/runs/icons.npz"), help="what training.prepare made")
    parser.add_argument("--work", type=Path, default=Path("training/runs/tiny-unclip"), help="checkpoints and caches")
    parser.add_argument("--stage", choices=("all", *STAGES, "assemble"), default="all")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="cpu")
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
    recipe = recipe_of(dict(options.set), options.preset)
    run = Run(recipe, options.data, options.work, pick_device(options.device), options.resume, options.start)
    for stage, train in STAGES.items():
        if options.stage in ("all", stage):
            print(f"--- {stage} {time.strftime('%H:%M:%S')}", flush=True)
            train(run)
    if options.stage in ("all", "assemble"):
        assemble(run, options.out)


if __name__ == "__main__":
    main()
