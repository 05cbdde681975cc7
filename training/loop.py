"""A training loop that can be stopped at any moment and resumed, on a CPU or a GPU.

Every random number of a step is drawn from generators that `numpy_seed` and
`torch_generator` make from (seed, stage, step), so a checkpoint needs no generator
state and a resumed run takes the same steps as one that was never stopped.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn


def pick_device(name: str = "auto") -> torch.device:
    """The named device; "auto" is a GPU where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def mixed_precision(device: torch.device) -> torch.autocast:
    """The context in which forward passes run: bfloat16 where it is safe."""
    return torch.autocast(device.type, torch.bfloat16)


def numpy_seed(seed: int, stage: str, step: int) -> list[int]:
    """Seed of `numpy.random.default_rng` for one step of one stage."""
    return [seed, int.from_bytes(stage.encode(), "little"), step]


def torch_generator(seed: int, stage: str, step: int) -> torch.Generator:
    """CPU generator for one step of one stage."""
    state = np.random.SeedSequence(numpy_seed(seed, stage, step)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def save_atomically(content: object, path: Path) -> None:
    """Write with `torch.save` so that a reader sees the old file or the new, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)


@dataclass(frozen=True)
class Schedule:
    """Learning rate over a stage: linear rise, level, then a half cosine down to zero.

    `rise` counts steps; `level_until` is the share of all `steps` after which the rate falls.
    """

    steps: int
    peak: float
    rise: int = 100
    level_until: float = 0.5

    def at(self, step: int) -> float:
        """The rate of the update that follows `step` updates."""
        fall = max(0.0, (step / self.steps - self.level_until) / (1 - self.level_until))
        return self.peak * min(1.0, (step + 1) / self.rise) * (1 + math.cos(math.pi * fall)) / 2


class Trainer:
    """Modules, their optimizer and their running averages, with a checkpoint file.

    `averages` holds, per module name, the exponential moving average of its weights:
    what is evaluated and shipped.
    """

    def __init__(self, modules: dict[str, nn.Module], schedule: Schedule, checkpoint: Path, average_decay: float):
        self.modules = modules
        self.averages = {name: copy.deepcopy(module).eval() for name, module in modules.items()}
        self.schedule = schedule
        self.checkpoint = checkpoint
        self.average_decay = average_decay
        self.step = 0
        self.optimizer = torch.optim.AdamW(_weights(modules), lr=schedule.peak, betas=(0.9, 0.99), weight_decay=0.01)

    def resume(self) -> bool:
        """Take up the checkpoint if there is one; says whether there was."""
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
            self.averages[name].load_state_dict(state["averages"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        return True

    def start_from(self, model: Path, fitted: Callable[[str, dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
        """Take the weights of those modules that a finished model, a folder of theirs by name, has.

        `fitted(name, weights)` is what a module takes of them.
        """
        for name, module in self.modules.items():
            for file in (model / name).glob("*.safetensors"):
                weights = fitted(name, load_file(file))
                module.load_state_dict(weights)
                self.averages[name].load_state_dict(weights)

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "averages": {name: module.state_dict() for name, module in self.averages.items()},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        save_atomically(state, self.checkpoint)

    def run(self, loss_at: Callable[[int], torch.Tensor], save_every: int = 200, report_every: int = 50) -> None:
        """Take the steps that are left; `loss_at(step)` gives the scalar loss of a step."""
        smooth, started, first = None, time.monotonic(), self.step
        while self.step < self.schedule.steps:
            loss = loss_at(self.step)
            self._update(loss)
            smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
            if self.step % report_every == 0:
                speed = (self.step - first) / (time.monotonic() - started)
                print(f"step {self.step}/{self.schedule.steps}  loss {smooth:.4f}  {speed:.2f} steps/s", flush=True)
            if self.step % save_every == 0:
                self.save()
        self.save()

    def _update(self, loss: torch.Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.at(self.step)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(_weights(self.modules), 1.0)
        self.optimizer.step()
        self.step += 1
        self._average()

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.average_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(_weights(self.averages), _weights(self.modules), 1 - decay)


def _weights(modules: dict[str, nn.Module]) -> list[nn.Parameter]:
    return [weight for module in modules.values() for weight in module.parameters()]


def batches(count: int, size: int) -> Iterable[slice]:
    """Slices of at most `size` that cover `count` rows."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
