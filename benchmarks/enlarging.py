"""How near enlarged pictures come to true ones: the diffusion upsamplers beside bicubic interpolation and the ESRGAN networks.

    python -m training.prepare --out DRAWINGS --concepts 400 --side 512 --drawings-only
    python benchmarks/enlarging.py DRAWINGS [--model tiny-unclip] [--side 32] [--spoil decoded] [--first 0] [--count 100]

The icons are vectors, so a picture is known at four times its size. The small picture is judged as it is drawn; as the
model's autoencoder gives it back (`decoded`), which is how a decoder's pictures look; or worn (`worn`): blurred, resized,
noisy and from a JPEG, as `training.unclip.wear` does it. PSNR and SSIM are higher for nearer pictures, GMSD is lower: the deviation of
the similarity of gradients, which is 0 for equal pictures (Xue et al. 2014). It stands in for LPIPS, whose network is not
to be had offline. Means over the pictures, each with its 95 % interval; then the gain of the diffusion upsampler
over each of the others on the same pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nodegraph import Engine, Image
from nodes.core.metrics import structural_similarity
from training.icons import Icons, canvas_place, compose, draw_scene, shrink
from training.unclip.wear import wear

FACTOR = 4
ESRGANS = ("realesr-animevideo-x4", "realesrgan-anime-x4")
TWICE = "waifu2x-photo-x2"


def draw_pairs(icons: Icons, first: int, count: int, side: int, seed: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` pictures of concepts from number `first` on, at `side` pixels and at four times that, float [n, 3, h, w] in 0..1."""
    rng = np.random.default_rng([seed, first])
    some = Icons(icons.concepts[first:], icons.styles, icons.drawings[first:])
    scenes = [draw_scene(some, rng) for _ in range(count)]
    backgrounds = torch.tensor([scene.background for scene in scenes])

    def drawn(pixels: int) -> torch.Tensor:
        canvases = torch.zeros(count, 4, pixels, pixels, dtype=torch.uint8)
        for canvas, scene in zip(canvases, scenes, strict=True):
            x, y, extent = canvas_place(scene.layout, pixels)
            canvas[:, y : y + extent, x : x + extent] = shrink(some.drawings[scene.concept, scene.style][None], extent)[0]
        return compose(canvases, backgrounds).float() / 255

    return drawn(side), drawn(FACTOR * side)


# --- ways of enlarging ---------------------------------------------------------------


def enlarged(engine: Engine, model: str, small: torch.Tensor, steps: int) -> dict[str, torch.Tensor]:
    """Way -> what it makes of the pictures, by the nodes that anyone has: float [n, 3, h, w] in 0..1."""
    nodes: dict[str, dict] = {
        "bicubic": {"use": "scale", "from": {"image": "inputs.image"}, "with": {"factor": float(FACTOR), "method": "bicubic"}},
        "parts": {"use": "load_unclip", "with": {"name": model}},
        "diffusion": {
            "use": "upsample_diffusion",
            "from": {"upsampler": "parts.upsampler", "image": "inputs.image"},
            "with": {"steps": steps},
        },
    }
    for name in (*ESRGANS, TWICE):
        key = name.replace("-", "_")
        nodes[f"load_{key}"] = {"use": "load_upscaler", "with": {"name": name}}
        nodes[key] = {
            "use": "upscale_to",
            "from": {"model": f"load_{key}.upscaler", "image": "inputs.image"},
            "with": {"scale": float(FACTOR)},
        }
    ways = [name for name in nodes if name != "parts" and not name.startswith("load_")]
    workflow = {
        "nodegraph": 1,
        "inputs": {"image": {"type": "image"}},
        "nodes": nodes,
        "outputs": {name: f"{name}.image" for name in ways},
    }
    found = engine.run(workflow, {"image": Image(small)}).outputs
    return {name: found[name].tensor() for name in ways}


# --- the small pictures ---------------------------------------------------------------


def decoded(engine: Engine, model: str, small: torch.Tensor) -> torch.Tensor:
    """The pictures as the model's autoencoder gives them back."""
    workflow = {
        "nodegraph": 1,
        "inputs": {"image": {"type": "image"}},
        "nodes": {
            "parts": {"use": "load_unclip", "with": {"name": model}},
            "encode": {"use": "encode_image", "from": {"vae": "parts.vae", "image": "inputs.image"}},
            "decode": {"use": "decode_latent", "from": {"vae": "parts.vae", "latent": "encode.latent"}},
        },
        "outputs": {"image": "decode.image"},
    }
    return engine.run(workflow, {"image": Image(small)}).outputs["image"].tensor()


def worn(large: torch.Tensor) -> torch.Tensor:
    """The pictures at a quarter of their size, as cameras, browsers and messengers leave them."""
    rows = (255 * large).round().byte()
    return torch.stack([wear(row, np.random.default_rng([7, number])) for number, row in enumerate(rows)]).float() / 255


# --- nearness -------------------------------------------------------------------------


def psnr(images: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of each picture, dB."""
    return -10 * (images - truth).square().flatten(1).mean(1).log10()


def ssim(images: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Structural similarity of each picture."""
    pairs = zip(images[:, None].numpy(), truth[:, None].numpy(), strict=True)
    return torch.tensor([structural_similarity(image, true) for image, true in pairs])


def gmsd(images: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Gradient magnitude similarity deviation of each picture [n, 3, h, w] in 0..1 (Xue et al. 2014): 0 for equal ones."""
    one, other = (_gradients(pictures) for pictures in (images, truth))
    similar = (2 * one * other + STEADY) / (one.square() + other.square() + STEADY)
    return similar.flatten(1).std(1, correction=0)


STEADY = 0.0026
"""The constant of GMSD: 170 for values to 255."""


def _gradients(pictures: torch.Tensor) -> torch.Tensor:
    """Prewitt gradient magnitudes of the luminance at half size."""
    gray = (pictures * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    across = torch.tensor([[1.0, 0.0, -1.0]]).expand(3, 3) / 3
    kernels = torch.stack([across, across.T])[:, None]
    return functional.conv2d(functional.avg_pool2d(gray, 2), kernels).square().sum(1).sqrt()


MEASURES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"PSNR": psnr, "SSIM": ssim, "GMSD": gmsd}


def spread(values: torch.Tensor) -> str:
    """The mean with its 95 % interval."""
    reach = 1.96 * values.std().item() / len(values) ** 0.5
    mean = values.mean().item()
    digits = 2 if abs(mean) >= 2 else 4
    return f"{mean:.{digits}f} ({mean - reach:.{digits}f}-{mean + reach:.{digits}f})"


# --- command line ---------------------------------------------------------------------


def compare(
    drawings: Path, model: str, autoencoder: str, side: int, spoil: str, first: int, count: int, steps: int, batch: int = 10
) -> dict[str, dict[str, torch.Tensor]]:
    """Way -> measure -> a number for each of `count` pictures; see the options of the command line."""
    small, large = draw_pairs(Icons.load(drawings, None), first, count, side)
    found: dict[str, dict[str, list[torch.Tensor]]] = {}
    with Engine(cache=False) as engine:
        if spoil == "decoded":
            small = decoded(engine, autoencoder, small)
        elif spoil == "worn":
            small = worn(large)
        for images, truth in zip(small.split(batch), large.split(batch), strict=True):
            for way, pictures in enlarged(engine, model, images, steps).items():
                for name, measure in MEASURES.items():
                    found.setdefault(way, {}).setdefault(name, []).append(measure(pictures, truth))
    return {way: {name: torch.cat(parts) for name, parts in measures.items()} for way, measures in found.items()}


def main() -> None:
    """Judge every way of enlarging on one set of pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drawings", type=Path, help="icons at four times --side or more")
    parser.add_argument("--model", default="tiny-unclip", help="a model with an upsampler")
    parser.add_argument("--autoencoder", default="tiny-unclip", help="the model whose autoencoder spoils pictures")
    parser.add_argument("--side", type=int, default=32, help="of the small pictures, a multiple of 32")
    parser.add_argument("--spoil", choices=("nothing", "decoded", "worn"), default="decoded")
    parser.add_argument("--first", type=int, default=0, help="number of the first concept; those from 131 on are in no training")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--steps", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = compare(**vars(options))
    ours = found["diffusion"]
    for way, measures in found.items():
        print(f"{way:<24}" + "  ".join(f"{name} {spread(values)}" for name, values in measures.items()), flush=True)
    for way in (way for way in found if way != "diffusion"):
        gains = (f"{name} {spread(ours[name] - values)}" for name, values in found[way].items())
        print(f"diffusion beyond {way}: " + "  ".join(gains), flush=True)


if __name__ == "__main__":
    main()
