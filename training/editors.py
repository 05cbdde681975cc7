"""The stages of the denoisers that are shown a picture: one paints what is masked anew, one follows instructions.

Both read prompts with the text encoder of the denoiser stage, as it is then.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from training import parts, shapes
from training.autoencoder import encoded, to_images, vae_trainer
from training.denoiser import NEVER, PICTURELESS, Encoded, fit, unet_trainer
from training.edits import draw_edit, draw_shape_edit
from training.loop import Schedule, Trainer, batches, mixed_precision, numpy_seed
from training.recipe import Run
from training.world import paint_scenes

WIDTHS = (36, 72)
"""Channels of these denoisers: a picture tells them much of what the one that paints from words alone has to know."""
WHOLE_SHARE = 0.25
"""How often the whole picture is masked."""
SHAPE_SHARE = 0.25
"""How often an instruction is about a coloured shape."""


def inpainting_trainer(run: Run) -> Trainer:
    """The denoiser that inpaints, untrained: it is shown the mask and the rest of the picture."""
    return _trainer(run, "inpainting", 1 + parts.LATENT_CHANNELS, run.recipe.inpainting_steps, run.recipe.inpainting_rate)


def instruction_trainer(run: Run) -> Trainer:
    """The denoiser that edits by instruction, untrained: it is shown the picture."""
    return _trainer(run, "instruction", parts.LATENT_CHANNELS, run.recipe.instruction_steps, run.recipe.instruction_rate)


def _trainer(run: Run, stage: str, beside: int, steps: int, rate: float) -> Trainer:
    torch.manual_seed(run.recipe.seed + 2)
    unet = parts.make_unet(beside, WIDTHS).to(run.device, memory_format=torch.channels_last)
    return Trainer({"unet": unet}, Schedule(steps, rate), run.work / f"{stage}.pt", average_decay=0.998)


def train_inpainting(run: Run) -> None:
    """Train the denoiser that inpaints; leaves its checkpoint."""
    _train(run, "inpainting", inpainting_trainer(run), run.recipe.inpainting_batch, encode_masked, NEVER)


def train_instruction(run: Run) -> None:
    """Train the denoiser that edits by instruction; leaves its checkpoint."""
    _train(run, "instruction", instruction_trainer(run), run.recipe.instruction_batch, encode_edits, PICTURELESS)


def _train(run: Run, stage: str, trainer: Trainer, batch: int, encode, unseen: tuple[float, float]) -> None:
    trainer = run.begin(trainer, f"-{stage}")
    file = run.work / f"{stage}-latents.pt"
    if not (run.resume and file.exists()):
        encode(run).save(file)
    text_encoder = run.finished(unet_trainer(run))["text_encoder"].to(run.device)

    @torch.no_grad()
    def states_of(rows: torch.Tensor) -> torch.Tensor:
        return text_encoder(rows)[0]

    fit(run, trainer, stage, batch, Encoded.load(file), states_of, unseen)


# --- inpainting ---------------------------------------------------------------------


@torch.no_grad()
def encode_masked(run: Run) -> Encoded:
    """The examples, and beside each a mask and what it leaves of the picture, as the inpainting pipelines encode them."""
    vae, examples = run.finished(vae_trainer(run))["vae"], Encoded.load(run.latents)
    rng = np.random.default_rng(numpy_seed(run.recipe.seed, "masks", 0))
    beside = []
    for rows in batches(len(examples.moments), 256):
        masks = torch.from_numpy(np.stack([draw_mask(rng) for _ in range(rows.stop - rows.start)]))[:, None]
        images = to_images(run.examples.pictures[rows]) * (1 - masks)
        with mixed_precision(run.device):
            left = vae.encode(images.to(run.device, memory_format=torch.channels_last)).latent_dist.mean.float().cpu()
        cells = functional.interpolate(masks, size=(parts.LATENT_SIZE, parts.LATENT_SIZE))
        beside.append(torch.cat([cells, examples.scale * left], 1).half())
    return Encoded(examples.moments, examples.tokens, examples.scale, torch.cat(beside))


def draw_mask(rng: np.random.Generator, side: int = shapes.PICTURE_SIZE) -> np.ndarray:
    """What is to be painted anew, 1.0, as float32 [side, side]: everything, or a box or an ellipse of a third of the side and more."""
    if rng.random() < WHOLE_SHARE:
        return np.ones((side, side), np.float32)
    extent = rng.uniform(side / 3, side, 2)
    corner = rng.uniform(-side / 8, side + side / 8 - extent)
    x, y = ((np.arange(side) + 0.5 - corner[axis]) / extent[axis] for axis in (0, 1))
    if rng.random() < 0.5:
        inside = ((x > 0) & (x < 1))[None, :] & ((y > 0) & (y < 1))[:, None]
    else:
        inside = ((2 * x - 1) ** 2)[None, :] + ((2 * y - 1) ** 2)[:, None] < 1
    return inside.astype(np.float32)


# --- instructions -------------------------------------------------------------------


@torch.no_grad()
def encode_edits(run: Run) -> Encoded:
    """Pictures that an instruction asks for, its words, and beside them the picture that it is said of."""
    vae, scale = run.finished(vae_trainer(run))["vae"], Encoded.load(run.latents).scale
    rng = np.random.default_rng(numpy_seed(run.recipe.seed, "edits", 0))
    shaped = [draw_shape_edit(rng) for _ in range(round(SHAPE_SHARE * run.recipe.examples))]
    iconic = [draw_edit(run.icons, rng) for _ in range(run.recipe.examples - len(shaped))]
    moments = []
    for end in ("target", "source"):
        drawn = np.stack([shapes.render(getattr(edit, end)) for edit in shaped])
        painted = paint_scenes(run.icons, [getattr(edit, end) for edit in iconic])
        moments.append(encoded(run, vae, torch.cat([torch.from_numpy(drawn).permute(0, 3, 1, 2), painted])))
    tokens = parts.token_rows(run.tokenizer, [edit.instruction for edit in (*shaped, *iconic)]).short()
    return Encoded(moments[0], tokens, scale, moments[1][:, : parts.LATENT_CHANNELS])
