"""A small classifier of noisy latents, and the guidance by its gradient (arXiv:2105.05233, section 4)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from nodegraph import Invalid

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

Classify = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Noisy latents [n,C,h,w] and a timestep to logits [n,classes]."""


class NoisyClassifier(ModelMixin, ConfigMixin):
    """Logits of `classes` from latents [n,in_channels,h,w] with the noise of a timestep: the first half of a UNet, and a mean.

    `space` names the latents it knows.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int,
        classes: list[str],
        space: str = "",
        block_out_channels: tuple[int, ...] = (32, 64),
        norm_num_groups: int = 8,
    ) -> None:
        super().__init__()
        widths = tuple(block_out_channels)
        self.time_proj = Timesteps(widths[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(widths[0], 4 * widths[0])
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        blocks: list[nn.Module] = []
        for before, width in zip((widths[0], *widths[:-1]), widths, strict=True):
            blocks.append(ResnetBlock2D(in_channels=before, out_channels=width, temb_channels=4 * widths[0], groups=norm_num_groups))
            blocks.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
        self.blocks = nn.ModuleList(blocks)
        self.norm_out = nn.GroupNorm(norm_num_groups, widths[-1])
        self.conv_out = nn.Linear(widths[-1], len(classes))

    def forward(self, noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        times = self.time_embedding(self.time_proj(timestep.reshape(-1).expand(len(noisy))).to(noisy.dtype))
        hidden = self.conv_in(noisy)
        for block in self.blocks:
            hidden = block(hidden, times) if isinstance(block, ResnetBlock2D) else block(hidden)
        return self.conv_out(nn.functional.silu(self.norm_out(hidden)).mean(dim=(2, 3)))


class ClassSteer:
    """Moves each prediction along the gradient of a class's log-probability, `scale` times: a `Steer` of `sampling`."""

    def __init__(self, classify: Classify, place: int, scale: float):
        self.classify, self.place, self.scale = classify, place, scale

    def __call__(self, scheduler: SchedulerMixin, noisy: torch.Tensor, timestep: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        kept = signal_share(scheduler, float(timestep))
        shift = -self.scale * (1 - kept) ** 0.5 * self.gradient(noisy, timestep).to(prediction.dtype)  # of the noise
        match scheduler.config.prediction_type:
            case "epsilon":
                return prediction + shift
            case "v_prediction":
                return prediction + shift / kept**0.5
            case "sample":
                return prediction - shift * ((1 - kept) / kept) ** 0.5
            case other:
                raise Invalid(f"a classifier cannot guide a model that predicts {other!r}", fix="leave guide out", port="guide")

    def gradient(self, noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """∇ log p(class | noisy latents), of their shape."""
        with torch.enable_grad(), _repeatable():
            given = noisy.detach().requires_grad_()
            logits = self.classify(given, timestep.to(given.device))
            return torch.autograd.grad(logits.log_softmax(dim=1)[:, self.place].sum(), given)[0]


_lock = threading.Lock()
_gradients = 0  # that are being taken
_before = False  # what cuDNN was told before


@contextmanager
def _repeatable() -> Iterator[None]:
    """Some ways of cuDNN back through a convolution add in whatever order threads come: the same inputs would give other bytes.

    cuDNN is told so for all threads at once: by the first one in here, until the last one leaves.
    """
    global _gradients, _before
    cudnn: Any = torch.backends.cudnn
    with _lock:
        if not _gradients:
            _before, cudnn.deterministic = cudnn.deterministic, True
        _gradients += 1
    try:
        yield
    finally:
        with _lock:
            _gradients -= 1
            if not _gradients:
                cudnn.deterministic = _before


def signal_share(scheduler: SchedulerMixin, timestep: float) -> float:
    """ᾱ of a timestep, which may lie between two."""
    shares = getattr(scheduler, "alphas_cumprod", None)
    if not torch.is_tensor(shares):
        raise Invalid("the model's noise levels have no timesteps that a classifier knows", fix="leave guide out", port="guide")
    low = int(min(max(timestep, 0), len(shares) - 1))
    high = min(low + 1, len(shares) - 1)
    return float(torch.lerp(shares[low].double(), shares[high].double(), timestep - low))
