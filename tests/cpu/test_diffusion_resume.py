"""A sampling that was killed goes on from its checkpoint to the same bytes, whatever its sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nodegraph import Latent
from nodegraph.kinds import content
from nodegraph.packing import Packed, unpack
from nodes.diffusion.progress import unpacked
from tests.cpu.test_diffusion_sampling import RUN, SAMPLERS, inpainting, sample
from tests.cpu.tiny_models import FolderRun

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchsde")


class Killed(Exception):
    """Ends a call as a killed process would."""


class KilledRun(FolderRun):
    """A run that is killed after so many steps, and its checkpoint as it lies on disk."""

    def __init__(self, steps: int):
        super().__init__()
        self.paths, self.lent = RUN.paths, RUN.lent
        self.steps, self.left = steps, b""

    def checkpoint(self, state: Callable[[], Any]) -> None:
        self.steps -= 1
        if not self.steps:
            self.left = b"".join(Packed(state()).chunks())
            raise Killed


class ResumedRun(FolderRun):
    """A run of the same work that finds what the killed one left."""

    def __init__(self, left: bytes):
        super().__init__()
        self.paths, self.lent = RUN.paths, RUN.lent
        self.left, self.steps = left, 0

    def resumed(self) -> Any:
        return unpack(memoryview(self.left))

    def checkpoint(self, state: Callable[[], Any]) -> None:
        self.steps += 1


def test_a_sampling_goes_on_on_another_device_than_it_began_on() -> None:
    """Keys hold the kind of a device, not its number: what was on the second GPU is taken up by the first."""
    from diffusers import DDIMScheduler

    there = {"tensor": torch.ones(1, 4, 2, 2), "device": "cuda:1"}
    here = {"tensor": torch.ones(1), "device": "cpu"}
    state = {"done": 3, "latents": there, "generators": [], "scheduler": {"sample": there, "betas": here}}
    scheduler = DDIMScheduler()
    done, latents = unpacked(state, [], scheduler, "meta")
    assert (done, latents.device.type, scheduler.sample.device.type, scheduler.betas.device.type) == (3, "meta", "meta", "cpu")


def resumed(after: int, **options: Any) -> tuple[Any, int]:
    """What comes of a sampling that was killed after so many steps, and how many steps were left."""
    killed = KilledRun(after)
    with pytest.raises(Killed):
        sample(run=killed, **options)
    run = ResumedRun(killed.left)
    torch.manual_seed(99)  # what a new process has drawn by then is its own
    return sample(run=run, **options), run.steps


@pytest.mark.parametrize("after", [1, 4])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_bytes_as_undisturbed(sampler: str, after: int) -> None:
    options = {"sampler": sampler, "steps": 6, "seed": [3, 5], "eta": 0.5 if sampler == "ddim" else 0.0}
    options["latent"] = Latent(torch.zeros(2, 4, 8, 8), "")
    whole = sample(**options)
    gone_on, left = resumed(after, **options)
    assert content(gone_on.latent) == content(whole.latent)
    assert content(gone_on.rng) == content(whole.rng)
    assert left > 0


def test_inpainting_goes_on_too() -> None:
    encoded = inpainting("sd1", 0.8)
    options = {"latent": encoded.latent, "seed": encoded.rng, "strength": 0.8, "steps": 8, "sampler": "euler_ancestral"}
    assert content(resumed(3, **options)[0].latent) == content(sample(**options).latent)
