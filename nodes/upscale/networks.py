"""The super-resolution networks. Their parameters are named as in BasicSR and Real-ESRGAN, whose checkpoints they take."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .facts import UPCONV7_WIDTHS, Layout

BAND = 64
"""Rows of features that RRDBNet enlarges at once."""
FARTHEST = 160
"""How far RRDBNet is taken to see at most. What 23 blocks can see is 349 pixels, but in realesrgan-x4plus the influence of
what lies farther than 128 is below 1e-6, that is, below rounding."""


class Network(nn.Module):
    """A network over pictures [B,3,H,W] in 0..1, and what a caller needs for tiles, in pixels of the input.

    `scale`: pixels of the output for one of the input. `margin`: what is lost on each side, so that the picture must be
    extended by it. `context`: how far on each side an output pixel sees, `margin` included. `multiple`: what height, width
    and the corners of tiles must be divisible by.
    """

    scale: int
    margin: int = 0
    context: int
    multiple: int = 1


def build(layout: Layout) -> Network:
    """The network of a layout, with meaningless weights."""
    classes: dict[str, Callable[..., Network]] = {"rrdbnet": RRDBNet, "srvgg": SRVGGNetCompact, "upconv7": UpConv7}
    return classes[layout.architecture](**layout.options)


class UpConv7(Network):
    """waifu2x's upconv_7 (https://github.com/nagadomi/waifu2x): valid convolutions, then a transposed one.

    [B,3,H,W] → [B,3,2(H-14),2(W-14)].
    """

    scale = 2
    margin = context = 7

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *UPCONV7_WIDTHS), UPCONV7_WIDTHS, strict=False):
            layers += [nn.Conv2d(before, after, 3), nn.LeakyReLU(0.1, inplace=True)]
        self.net = nn.Sequential(*layers, nn.ConvTranspose2d(UPCONV7_WIDTHS[-1], 3, 4, stride=2, padding=3))

    def forward(self, picture: Tensor) -> Tensor:
        return self.net(picture)


class SRVGGNetCompact(Network):
    """Real-ESRGAN's compact network (Wang et al. 2021, https://arxiv.org/abs/2107.10833): it works at the size of the input
    and adds what it finds to the enlarged picture.

    [B,3,H,W] → [B,3,scale·H,scale·W].
    """

    def __init__(self, features: int, depth: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.context = depth + 2  # one pixel for each convolution
        layers: list[nn.Module] = []
        for index in range(depth + 1):
            layers += [nn.Conv2d(features if index else 3, features, 3, padding=1), nn.PReLU(features)]
        self.body = nn.Sequential(*layers, nn.Conv2d(features, 3 * scale**2, 3, padding=1))

    def forward(self, picture: Tensor) -> Tensor:
        return F.pixel_shuffle(self.body(picture), self.scale) + F.interpolate(picture, scale_factor=self.scale, mode="nearest")


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees the results of all before it; the residual counts 0.2."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(features + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(features + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(features + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        seen = hidden
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat((seen, _activate(convolution(seen))), dim=1)
        return hidden + 0.2 * self.conv5(seen)


class ResidualBlock(nn.Module):
    """Three dense blocks within one more residual that counts 0.2: an RRDB."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + 0.2 * self.rdb3(self.rdb2(self.rdb1(hidden)))


class RRDBNet(Network):
    """ESRGAN (Wang et al. 2018, https://arxiv.org/abs/1809.00219), and Real-ESRGAN's variants of scale 1 and 2.

    `doublings`: how often features are doubled in size. `unshuffle`: by what factor the picture is first folded into
    channels (Real-ESRGAN's x2 folds by 2 and doubles twice). Height and width are multiples of it.

    [B,3,H,W] → [B,3,scale·H,scale·W].
    """

    def __init__(self, features: int, growth: int, blocks: int, doublings: int, unshuffle: int) -> None:
        super().__init__()
        self.scale = 2**doublings // unshuffle
        self.multiple = unshuffle
        # 15 convolutions a block, conv_first and conv_body, and 2 for all that follows
        self.context = unshuffle * min(15 * blocks + 4, FARTHEST)
        self.conv_first = nn.Conv2d(3 * unshuffle**2, features, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(features, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(features, features, 3, padding=1)
        self.doubling = [f"conv_up{index + 1}" for index in range(doublings)]
        for name in self.doubling:
            self.add_module(name, nn.Conv2d(features, features, 3, padding=1))
        self.conv_hr = nn.Conv2d(features, features, 3, padding=1)
        self.conv_last = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, picture: Tensor) -> Tensor:
        first = self.conv_first(F.pixel_unshuffle(picture, self.multiple))
        hidden = first + self.conv_body(self.body(first))
        height = hidden.shape[2]
        return torch.cat([self._enlarge(hidden, top, min(top + BAND, height)) for top in range(0, height, BAND)], dim=2)

    def _enlarge(self, hidden: Tensor, top: int, bottom: int) -> Tensor:
        """The rows of the output that belong to some rows of features.

        At full size features take 4^doublings times the memory, so they never exist for the whole picture. Rows of the
        output see two rows of features beyond their own: three pixels at full size, halved (rounded up) at each doubling
        downwards and one more for its convolution, which is 3, 2, 3, 2 …
        """
        above = max(top - 2, 0)
        band = hidden[:, :, above : bottom + 2]
        for name in self.doubling:
            band = _activate(self.get_submodule(name)(F.interpolate(band, scale_factor=2, mode="nearest")))
        band = self.conv_last(_activate(self.conv_hr(band)))
        full = 2 ** len(self.doubling)
        return band[:, :, (top - above) * full : (bottom - above) * full]


def _activate(hidden: Tensor) -> Tensor:
    return F.leaky_relu(hidden, 0.2, inplace=True)
