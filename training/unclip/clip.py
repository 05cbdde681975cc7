"""The CLIP stage: a text and an image encoder learn one joint space from captions and pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from training.autoencoder import to_images
from training.icons import Icons, draw_examples
from training.loop import Schedule, Trainer, batches, mixed_precision, save_atomically, torch_generator
from training.unclip import parts
from training.unclip.recipe import Run

WORD_NOISE = 0.3
"""Deviation of the noise on token embeddings, as a share of theirs: neighbours of a word come to mean the same."""
LENGTH_WEIGHT = 0.02
"""Pull of the embeddings towards unit deviation; without it text and image vectors differ in length."""
WARMEST, COLDEST = 5.0, 100.0
"""Range of the factor on cosines before the softmax."""


class Temperature(nn.Module):
    """The learned factor on cosines, kept as its logarithm."""

    def __init__(self) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(torch.tensor(2.66))

    def forward(self) -> torch.Tensor:
        return self.logarithm.exp().clamp(WARMEST, COLDEST)


@dataclass(frozen=True)
class Pairs:
    """Token rows int64 [n, 32], pictures uint8 [n, 3, 32, 32] and scene numbers [n], on one device, in groups of `group` rows."""

    tokens: torch.Tensor
    pictures: torch.Tensor
    scenes: torch.Tensor
    group: int

    def rows(self, count: int, draw: torch.Generator) -> torch.Tensor:
        """`count` rows, whole groups."""
        first = torch.randint(len(self.tokens) // self.group, (count // self.group,), generator=draw) * self.group
        return (first[:, None] + torch.arange(self.group)).flatten().to(self.tokens.device)


def load_pairs(run: Run) -> list[Pairs]:
    """The run's examples, and as many of all concepts that the data file holds."""
    tokenizer = run.tokenizer
    every = Icons.load(run.data, run.recipe.clip_concepts)
    wide = draw_examples(every, run.recipe.examples, [run.recipe.seed, 2], shape_share=0)
    return [
        Pairs(
            parts.token_rows(tokenizer, drawn.texts).to(run.device), drawn.pictures.to(run.device), drawn.scenes.to(run.device), drawn.group
        )
        for drawn in (run.examples, wide)
    ]


def clip_trainer(run: Run) -> Trainer:
    """Both encoders, untrained, and how they are to be trained."""
    torch.manual_seed(run.recipe.seed + 2)
    modules = {
        "text_encoder": parts.make_text_encoder(run.tokenizer, run.word_vectors).to(run.device),
        "image_encoder": parts.make_image_encoder().to(run.device),
        "temperature": Temperature().to(run.device),
    }
    schedule = Schedule(run.recipe.clip_steps, run.recipe.clip_rate, rise=100, level_until=0.3)
    return Trainer(modules, schedule, run.work / "clip.pt", average_decay=0.99)


def train_clip(run: Run) -> None:
    """Train both encoders; leaves their checkpoint."""
    trainer = run.begin(clip_trainer(run))
    text_encoder, image_encoder = trainer.modules["text_encoder"], trainer.modules["image_encoder"]
    core, wide = load_pairs(run)
    noise = _noisy_embeddings(text_encoder)

    def loss_at(step: int) -> torch.Tensor:
        draw = torch_generator(run.recipe.seed, "clip", step)
        count = run.recipe.clip_batch // 2
        drawn = [(pairs, pairs.rows(count, draw)) for pairs in (core, wide)]
        tokens = torch.cat([pairs.tokens[rows] for pairs, rows in drawn])
        images = to_images(torch.cat([pairs.pictures[rows] for pairs, rows in drawn]))
        scenes = torch.cat([pairs.scenes[rows] for pairs, rows in drawn])
        noise.append(torch.randn(*tokens.shape, parts.EMBEDDING_WIDTH, generator=draw).to(run.device))
        with mixed_precision(run.device):
            texts = text_encoder(tokens).text_embeds
            seen = image_encoder(images).image_embeds
        return contrastive_loss(texts.float(), seen.float(), scenes, trainer.modules["temperature"]())

    trainer.run(loss_at)


def text_trainer(run: Run) -> Trainer:
    """The text encoder of the trained CLIP, and how it goes on."""
    clip = run.finished(clip_trainer(run))
    modules = {name: clip[name].train() for name in ("text_encoder", "temperature")}
    schedule = Schedule(run.recipe.text_steps, run.recipe.text_rate, rise=50, level_until=0.1)
    return Trainer(modules, schedule, run.work / "text.pt", average_decay=0.99)


def train_text(run: Run) -> None:
    """Tune the text encoder to the image encoder, locked now (Zhai et al. 2022): larger batches for less; leaves its checkpoint."""
    trainer = replace(run, start=None).begin(text_trainer(run))
    text_encoder = trainer.modules["text_encoder"]
    sets = load_pairs(run)
    seen = [embed_pictures(run, pairs.pictures) for pairs in sets]
    noise = _noisy_embeddings(text_encoder)

    def loss_at(step: int) -> torch.Tensor:
        draw = torch_generator(run.recipe.seed, "text", step)
        drawn = [pairs.rows(run.recipe.text_batch // 2, draw) for pairs in sets]
        tokens = torch.cat([pairs.tokens[rows] for pairs, rows in zip(sets, drawn, strict=True)])
        scenes = torch.cat([pairs.scenes[rows] for pairs, rows in zip(sets, drawn, strict=True)])
        images = torch.cat([embeddings[rows] for embeddings, rows in zip(seen, drawn, strict=True)])
        noise.append(torch.randn(*tokens.shape, parts.EMBEDDING_WIDTH, generator=draw).to(run.device))
        with mixed_precision(run.device):
            texts = text_encoder(tokens).text_embeds
        return contrastive_loss(texts.float(), images, scenes, trainer.modules["temperature"]())

    trainer.run(loss_at)


def trained_clip(run: Run) -> dict[str, nn.Module]:
    """Both encoders at the end of their training."""
    encoders = run.finished(clip_trainer(run)) | run.finished(text_trainer(run))
    return {name: encoders[name] for name in ("text_encoder", "image_encoder")}


@torch.no_grad()
def embed_pictures(run: Run, pictures: torch.Tensor) -> torch.Tensor:
    """Image embeddings float32 [n, 128] of pictures uint8 [n, 3, 32, 32]."""
    encoder = run.finished(clip_trainer(run))["image_encoder"]
    found = []
    for part in batches(len(pictures), 256):
        with mixed_precision(run.device):
            found.append(encoder(to_images(pictures[part].to(run.device))).image_embeds.float())
    return torch.cat(found)


def _noisy_embeddings(text_encoder: nn.Module) -> list[torch.Tensor]:
    """Make the encoder's token embeddings take noise from the list that is returned, one tensor a pass."""
    waiting: list[torch.Tensor] = []

    def add(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        return output + WORD_NOISE * parts.WORD_SCALE * waiting.pop().to(output.dtype)

    text_encoder.get_input_embeddings().register_forward_hook(add)
    return waiting


def contrastive_loss(texts: torch.Tensor, images: torch.Tensor, scenes: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric cross entropy; all pairs of one scene share the target, as their captions say the same."""
    same = (scenes[:, None] == scenes[None]).float()
    target = same / same.sum(1, keepdim=True)
    logits = factor * functional.normalize(texts, dim=-1) @ functional.normalize(images, dim=-1).T
    lengths = sum((rows.square().mean(1) - 1).square().mean() for rows in (texts, images))
    both = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    return both / 2 + LENGTH_WEIGHT * lengths


@torch.no_grad()
def embed_examples(run: Run) -> None:
    """Cache what the encoders make of every example.

    `images` and `texts`, float32 [n, 128]; `states`, float16 [n, 32, 128]; `masks`, bool [n, 32].
    """
    file = run.work / "embeddings.pt"
    if run.resume and file.exists():
        return
    clip = trained_clip(run)
    clip["text_encoder"].get_input_embeddings().register_forward_hook(_add_some_noise(run))
    cache = embed(run, clip, run.examples.texts, run.examples.pictures)
    save_atomically(cache, file)
    print(f"embeddings: {len(cache['texts'])} examples", flush=True)


def _add_some_noise(run: Run):
    """A hook that puts noise on the token embeddings of every second caption, as in CLIP's own training."""
    draw = torch_generator(run.recipe.seed, "captions", 0)

    def add(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(output.shape, generator=draw).to(output.device)
        noise[::2] = 0
        return output + WORD_NOISE * parts.WORD_SCALE * noise

    return add


@torch.no_grad()
def embed(run: Run, clip: dict[str, nn.Module], texts: list[str], pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    """`images`, `texts`, `states` and `masks` of captions and their pictures uint8 [n, 3, 32, 32], on the CPU."""
    found: dict[str, list[torch.Tensor]] = {"images": [], "texts": [], "states": [], "masks": []}
    for part in batches(len(texts), 256):
        tokens, mask = parts.token_rows_and_mask(run.tokenizer, texts[part])
        read = clip["text_encoder"](tokens.to(run.device))
        found["texts"].append(read.text_embeds.cpu())
        found["states"].append(read.last_hidden_state.half().cpu())
        found["masks"].append(mask)
        found["images"].append(clip["image_encoder"](to_images(pictures[part].to(run.device))).image_embeds.cpu())
    return {name: torch.cat(rows) for name, rows in found.items()}
