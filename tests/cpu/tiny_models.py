"""Tiny models with random weights, saved as ordinary diffusers folders, and a Run that lends them out.

Pictures are 32x32, latents 4x8x8 (factor 4), prompts 16 tokens. The weights are large enough that text and every layer
make a visible difference.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel

from nodegraph import Files, Handle, Image, ModelRef, Run
from nodegraph.keys import file_digest

TOKENS = 16
WORDS = "a photo of the red blue green circle square triangle on white black background and with left right above below"
FACTOR, SIZE = 4, 32


# --- parts -----------------------------------------------------------------------------


@cache
def tokenizer() -> Any:
    """A byte-pair tokenizer with one token for each of WORDS; any text can be written in it."""
    from transformers import CLIPTokenizer

    merges = _merges(WORDS.split())
    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge) for merge in merges)]
    numbers = {piece: number for number, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=numbers, merges=merges, model_max_length=TOKENS)


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """The commonest pair of neighbours, then the next, until each word is one piece (arXiv:1508.07909, algorithm 1).

    Of pairs that are as common the first of the alphabet: the trainer of `tokenizers` takes another one in each process.
    """
    split = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while counts := Counter(pair for word in split for pair in pairwise(word)):
        merges.append(min(counts, key=lambda pair: (-counts[pair], pair)))
        split = [_merged(word, merges[-1]) for word in split]
    return merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    """A word with each occurrence of a pair as one piece, from the left."""
    pieces: list[str] = []
    for piece in word:
        if pieces and (pieces[-1], piece) == pair:
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return pieces


def text_encoder(width: int, layers: int = 2) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    words = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        hidden_act="gelu",
    )
    return livelier(CLIPTextModel(config).eval(), 8.0, "weight")


def vae(**options: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16, 16),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        sample_size=SIZE,
        **options,
    ).eval()


def unet(width: int, channels: int = 4, **options: Any) -> Any:
    from diffusers import UNet2DConditionModel

    module = UNet2DConditionModel(
        sample_size=SIZE // FACTOR,
        in_channels=channels,
        out_channels=4,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=4,
        **options,
    )
    return livelier(module.eval(), 3.0, "attn2")


def livelier(module: torch.nn.Module, factor: float, name: str) -> torch.nn.Module:
    """Scale some weights up, for at its first values a network hardly notices its text."""
    with torch.no_grad():
        for path, weights in module.named_parameters():
            if name in path and weights.ndim > 1:
                weights.mul_(factor)
    return module


def scheduler(**options: Any) -> Any:
    from diffusers import DDIMScheduler

    usual = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": False}
    return DDIMScheduler(**usual, steps_offset=1, **options)


# --- model folders -----------------------------------------------------------------------


def save(folder: Path, **parts: Any) -> Path:
    """Save parts as a model folder in the diffusers layout."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        **parts, tokenizer=tokenizer(), safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.save_pretrained(folder)
    return folder


def make_sd1(folder: Path) -> Path:
    """Stable-Diffusion-1-like: predicts the noise, text states 32 wide."""
    return save(folder, unet=unet(32), vae=vae(), text_encoder=text_encoder(32), scheduler=scheduler())


def make_sd2(folder: Path) -> Path:
    """Stable-Diffusion-2-like: predicts the velocity, text states 64 wide, linear projections."""
    return save(
        folder,
        unet=unet(64, use_linear_projection=True),
        vae=vae(),
        text_encoder=text_encoder(64, layers=3),
        scheduler=scheduler(prediction_type="v_prediction"),
    )


def make_inpaint(folder: Path) -> Path:
    """Like sd1, but its denoiser takes a mask and a masked picture: 9 channels."""
    return save(folder, unet=unet(32, 9), vae=vae(), text_encoder=text_encoder(32), scheduler=scheduler())


def make_edit(folder: Path) -> Path:
    """Like sd1, but its denoiser takes a picture to edit: 8 channels."""
    return save(folder, unet=unet(32, 8), vae=vae(), text_encoder=text_encoder(32), scheduler=scheduler())


def make_flow(folder: Path) -> Path:
    """A flow-matching denoiser; its VAE shifts latents."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    flow = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return save(folder, unet=unet(32), vae=vae(shift_factor=0.1), text_encoder=text_encoder(32), scheduler=flow)


def make_clean(folder: Path) -> Path:
    """A denoiser that predicts the clean sample."""
    return save(folder, unet=unet(32), vae=vae(), text_encoder=text_encoder(32), scheduler=scheduler(prediction_type="sample"))


def make_distilled(folder: Path) -> Path:
    """A consistency model with embedded guidance."""
    return save(folder, unet=unet(32, time_cond_proj_dim=16), vae=vae(), text_encoder=text_encoder(32), scheduler=scheduler())


def make_half(folder: Path) -> Path:
    """sd2 with its weights stored in half precision."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(model_folder("sd2"), local_files_only=True)
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder)
    return folder


def make_outdated(folder: Path, family: str = "DDIMScheduler", **said: Any) -> Path:
    """sd1 with a scheduler as in models of old: what its pipelines mend is not said in its configuration, or said otherwise."""
    shutil.copytree(model_folder("sd1"), folder)
    config = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    kept = {name: value for name, value in config.items() if name not in ("clip_sample", "steps_offset", "skip_prk_steps")}
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps({**kept, **said, "_class_name": family}))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "scheduler": ["diffusers", family]}))
    return folder


def make_reindexed(folder: Path) -> Path:
    """sd1 whose index names another scheduler than the scheduler's own configuration: that is how people exchange it."""
    shutil.copytree(model_folder("sd1"), folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "scheduler": ["diffusers", "EulerDiscreteScheduler"]}))
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {
    "sd1": make_sd1,
    "sd2": make_sd2,
    "inpaint": make_inpaint,
    "edit": make_edit,
    "flow": make_flow,
    "clean": make_clean,
    "distilled": make_distilled,
    "half": make_half,
    "outdated": make_outdated,
    "reindexed": make_reindexed,
    "learned": partial(make_outdated, family="DDPMScheduler", variance_type="learned_range"),
    "outdated-clip": partial(make_outdated, clip_sample=True, steps_offset=0),
    "outdated-pndm": partial(make_outdated, family="PNDMScheduler", skip_prk_steps=False),
}


@cache
def root() -> Path:
    """The folder of all tiny models of this process; it goes at exit."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def model_folder(kind: str) -> Path:
    """The folder of a tiny model, made when it is first asked for; never write into it."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(sum(kind.encode()))
    return MAKERS[kind](root() / kind)


def copied(kind: str, folder: Path) -> Path:
    """A copy of a tiny model to change."""
    return Path(shutil.copytree(model_folder(kind), folder / kind))


# --- nodes without an engine -----------------------------------------------------------


class FolderRun(Run):
    """A Run that lends weights from model folders and notes progress."""

    def __init__(self, dtype: str = "float32") -> None:
        self.dtype = dtype
        self.paths: dict[bytes, Path] = {}
        self.lent: dict[Any, Any] = {}
        self.reports: list[tuple[int, int, Image | None]] = []

    def model(self, folder: Path) -> ModelRef:
        """A folder as the literal that a workflow names."""
        files = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest = file_digest(path)
            self.paths[digest] = path
            files.append((path.relative_to(folder).as_posix(), digest))
        return ModelRef(folder.name, tuple(files))

    def progress(self, step: int, total: int, text: str = "", preview: Image | Callable[[], Image] | None = None) -> None:
        self.reports.append((step, total, preview() if callable(preview) else preview))

    @contextmanager
    def use(self, handle: Handle, load: Callable[[Files, str, str], Any]) -> Iterator[Any]:
        key = (handle, load)
        if key not in self.lent:
            paths = {name: self.paths[digest] for name, digest in handle.files}
            self.lent[key] = load(Files(paths), self.device, self.dtype)
        yield self.lent[key]
