"""Where the weights of a module are."""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

import torch


class Place(NamedTuple):
    """A device and the dtype of what is computed there."""

    device: str
    dtype: torch.dtype


def place(module: torch.nn.Module) -> Place:
    """Where a module is, by its first weight: each is loaded as a whole.

    The properties `device` and `dtype` of diffusers' models look through all modules inside, half a millisecond each for a small one.
    """
    first = next(chain(module.parameters(), module.buffers()))
    return Place(str(first.device), first.dtype)
