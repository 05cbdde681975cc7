"""How well CLIP finds the picture that a caption means among others, beside chance and a bag of words."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from painting import Prompts, draw_prompts
from scores import report
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from icon_judge import interval

from training.icons import Icons
from training.unclip.sampling import Model


def recall(texts: torch.Tensor, images: torch.Tensor, prompts: Prompts) -> dict[str, tuple[float, float, float]]:
    """Share of captions whose picture is the nearest, or among the five nearest, of all; equal scenes count as one."""
    scores = functional.normalize(texts, dim=-1) @ functional.normalize(images, dim=-1).T
    right = scenes_equal(prompts)
    best = scores.masked_fill(~right, -2).amax(1, keepdim=True)
    ranks = ((scores > best) & ~right).sum(1)
    return {f"recall@{k}": (float((ranks < k).float().mean()), *interval(int((ranks < k).sum()), len(ranks))) for k in (1, 5)}


def scenes_equal(prompts: Prompts) -> torch.Tensor:
    """Which pictures fit which captions, bool [n, n]: any concept that a wording may mean, the rest the same."""
    rest = [(one.style, one.layout, one.background) for one in prompts.expected]
    rows = [
        [mine.concepts >= other.concepts and rest[a] == rest[b] for b, other in enumerate(prompts.expected)]
        for a, mine in enumerate(prompts.expected)
    ]
    return torch.tensor(rows) | torch.eye(len(rows), dtype=torch.bool)


def bag_of_words(model: Model, train: Prompts, texts: list[str], penalty: float = 1.0) -> torch.Tensor:
    """Image embeddings as a ridge regression on the words of a caption predicts them: the baseline of the text encoder."""
    words = {word: number for number, word in enumerate(sorted({word for text in train.texts for word in text.split()}))}

    def counts(captions: list[str]) -> torch.Tensor:
        rows = torch.zeros(len(captions), len(words) + 1)
        rows[:, -1] = 1
        for row, caption in zip(rows, captions, strict=True):
            for word in caption.split():
                if word in words:
                    row[words[word]] += 1
        return rows

    inputs, targets = counts(train.texts), functional.normalize(model.image_embeddings(train.pictures), dim=-1)
    solved = torch.linalg.solve(inputs.T @ inputs + penalty * torch.eye(inputs.shape[1]), inputs.T @ targets)
    return counts(texts) @ solved


def judge_clip(model: Model, icons: Icons, kinds: dict[str, Prompts]) -> None:
    """Zero-shot retrieval of captions, beside its baselines."""
    train = draw_prompts(icons, 4000, held_out=False, seed=1)
    for kind, prompts in kinds.items():
        images = model.image_embeddings(prompts.pictures)
        report(f"{kind}: CLIP zero-shot", recall(model.read(prompts.texts).texts, images, prompts))
        report(f"{kind}: bag of words", recall(bag_of_words(model, train, prompts.texts), images, prompts))
        share = scenes_equal(prompts).float().mean().item()
        print(f"{kind + ': chance':<38}recall@1 {100 * share:5.1f}", flush=True)
