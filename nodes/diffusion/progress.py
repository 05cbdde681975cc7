"""How far a sampling is, as data that a later call goes on from to the same bytes: latents, random states, the scheduler's history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

Plain = int | float | str | bool | None
_INTERNAL = ("_internal_dict", "config")


def packed(done: int, latents: torch.Tensor, generators: list[torch.Generator], scheduler: SchedulerMixin) -> dict[str, Any]:
    """The state after `done` steps. Nothing in it is changed by further steps."""
    states = [generator.get_state() for generator in generators]
    return {"done": done, "latents": _packed(latents), "generators": _packed(states), "scheduler": history(scheduler)}


def unpacked(
    state: Mapping[str, Any], generators: list[torch.Generator], scheduler: SchedulerMixin, device: str
) -> tuple[int, torch.Tensor]:
    """Set generators and scheduler to where they were. Returns the steps that are done, and the latents.

    What was not on the host comes to `device`: it may have been on another of its kind, which need not be there any more.
    """
    for generator, kept in zip(generators, _unpacked(state["generators"], device), strict=True):
        generator.set_state(kept)
    for name, value in state["scheduler"].items():
        setattr(scheduler, name, _unpacked(value, device))
    return int(state["done"]), _unpacked(state["latents"], device)


def history(scheduler: SchedulerMixin) -> dict[str, Any]:
    """What a scheduler remembers from step to step: its attributes that are numbers, tensors, and lists of these.

    Others, such as a Brownian motion, follow from their seeds and are made again.
    """
    kept = {name: value for name, value in vars(scheduler).items() if name not in _INTERNAL}
    return {name: _packed(value) for name, value in kept.items() if _packable(value)}


def _packable(value: Any) -> bool:
    return isinstance(value, Plain | torch.Tensor) or (isinstance(value, list) and all(map(_packable, value)))


def _packed(value: Any) -> Any:
    """Tensors as records of their bytes and their device; other data as it is."""
    if isinstance(value, list):
        return [_packed(item) for item in value]
    if isinstance(value, torch.Tensor):
        return {"tensor": value.detach().to("cpu", copy=True), "device": str(value.device)}
    return value


def _unpacked(value: Any, device: str) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, device) for item in value]
    if isinstance(value, Mapping):
        array = value["tensor"]
        tensor = array if isinstance(array, torch.Tensor) else torch.from_numpy(array.copy())
        return tensor if value["device"] == "cpu" else tensor.to(device)
    return value
