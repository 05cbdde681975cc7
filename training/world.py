"""The world that `tiny-sd` learns: the icons of `training.icons` and the coloured shapes of `training.shapes`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from training import shapes
from training.icons import Icons, Scene, compose, describe, draw_scene, to_words


@dataclass(frozen=True)
class Examples:
    """Captions with their pictures, uint8 [n, 3, 32, 32]."""

    texts: list[str]
    pictures: torch.Tensor


def draw_world(icons: Icons, count: int, seed: list[int], shape_share: float, pair_share: float) -> Examples:
    """`count` examples, `shape_share` of them shapes, of which `pair_share` show two."""
    rng = np.random.default_rng(seed)
    shaped = round(count * shape_share)
    texts, drawn = shapes.draw_examples(shaped, [*seed, 2], pair_share)
    scenes = [draw_scene(icons, rng) for _ in range(count - shaped)]
    texts += [to_words(describe(icons, scene, rng)) for scene in scenes]
    return Examples(texts, torch.cat([torch.from_numpy(drawn).permute(0, 3, 1, 2), paint_scenes(icons, scenes)]))


def paint_scenes(icons: Icons, scenes: list[Scene]) -> torch.Tensor:
    """The pictures of scenes, uint8 [n, 3, 32, 32]."""
    canvases = icons.painted_canvases
    drawn = [canvases[scene.concept * len(icons.styles) + scene.style, scene.layout] for scene in scenes]
    return compose(torch.stack(drawn), torch.tensor([scene.background for scene in scenes]))
