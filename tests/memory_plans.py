"""Workflows of nodes that need memory on a device, for any device that has a limit."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

SIZES = {"a": 1000, "b": 3000, "c": 6000}
"""Bytes of weights by model."""


class MemoryPlan(NamedTuple):
    """A workflow and a budget for it. `fits`: whether each node's smallest variant fits, with all that is not in use moved away."""

    limit: int
    nodes: dict[str, Any]
    outputs: dict[str, str]
    fits: bool


def write_models(folder: Path, sizes: dict[str, int]) -> Path:
    """Models of kind `fake`; those of equal sizes would be one model."""
    for name, nbytes in sizes.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps({"nodegraph_kind": "fake", "bytes": nbytes}))
    return folder


def weights(*names: str) -> dict[str, Any]:
    return {name: {"use": "named_weights", "with": {"name": name}} for name in names}


def work(model: str, activation: int, gives: int, latent: str = "", salt: int = 0) -> dict[str, Any]:
    """A node that needs its weights, its input, activation memory (a quarter of it in each smaller variant) and its output."""
    made: dict[str, Any] = {"use": "work_with", "from": {"weights": f"{model}.upscaler"}}
    made["with"] = {"activation": activation, "gives": gives, "salt": salt}
    if latent:
        made["from"]["latent"] = f"{latent}.latent"
    return made


def random_plan(seed: int, spare: int = 0) -> MemoryPlan:
    """A workflow of up to six such nodes over SIZES, and a budget, both in bytes. `spare`: what must be left for it to count as fitting."""
    draw = random.Random(seed)
    limit = draw.randrange(4_000, 40_000)
    nodes, fits, gave = weights(*SIZES), True, dict[str, int]()
    for number in range(draw.randrange(2, 7)):
        model, source = draw.choice(list(SIZES)), draw.choice([*gave, ""])
        activation, gives = draw.randrange(100, 60_000), 4 * draw.randrange(10, 1500)
        nodes[f"x{number}"] = work(model, activation, gives, source, salt=seed)
        gave[f"x{number}"] = gives
        fits = fits and SIZES[model] + gave.get(source, 0) + activation // 16 + gives + spare <= limit
    nodes["value"] = {"use": "first_of", "from": {"latent": f"x{len(gave) - 1}.latent"}}
    return MemoryPlan(limit, nodes, {"value": "value.float"}, fits)
