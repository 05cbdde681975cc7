"""Batches and lists of pictures, masks and latents."""

import numpy as np
import pytest
import torch

from nodegraph import Image, Invalid, Latent, Mask
from nodes.core import batches

PIXELS = np.random.default_rng(0).random((3, 3, 4, 5), np.float32)


def test_batch_and_unbatch_are_inverses():
    image, mask = Image(PIXELS), Mask(PIXELS[:, :1])
    singles, single_masks = batches.unbatch(image), batches.unbatch_mask(mask)
    assert [one.shape for one in singles] == [(1, 3, 4, 5)] * 3
    assert np.array_equal(batches.batch(singles).numpy(), PIXELS)
    assert np.array_equal(batches.batch_masks(single_masks).numpy(), PIXELS[:, :1])
    assert np.array_equal(batches.batch([image, singles[0]]).numpy(), np.concatenate([PIXELS, PIXELS[:1]]))


def test_tensors_and_arrays_go_together():
    joined = batches.batch([Image(torch.from_numpy(PIXELS)), Image(PIXELS)]).data
    assert isinstance(joined, torch.Tensor)
    assert torch.equal(joined[3:], torch.from_numpy(PIXELS))
    assert isinstance(batches.batch([Image(PIXELS), Image(PIXELS)]).data, np.ndarray)


def test_pictures_of_different_sizes_are_no_batch():
    with pytest.raises(Invalid, match="these are 5×4, 2×4") as caught:
        batches.batch([Image(PIXELS), Image(np.ascontiguousarray(PIXELS[..., :2]))])
    assert caught.value.port == "images"
    with pytest.raises(Invalid, match="nothing to put into a batch"):
        batches.batch([])


def test_latents_keep_their_space_and_what_goes_with_them():
    latent = Latent(torch.randn(2, 4, 8, 8, dtype=torch.bfloat16), "sd1", {"noise": torch.randn(2, 4, 8, 8)})
    singles = batches.unbatch_latent(latent)
    assert singles[1].space == "sd1"
    assert singles[1].extras["noise"].shape == (1, 4, 8, 8)
    joined = batches.batch_latents(singles)
    assert torch.equal(joined.data, latent.data)
    assert torch.equal(joined.extras["noise"], latent.extras["noise"])


def test_latents_that_do_not_go_together():
    latent = Latent(torch.zeros(1, 4, 8, 8), "sd1")
    with pytest.raises(Invalid, match="different spaces: sd1, sdxl"):
        batches.batch_latents([latent, Latent(torch.zeros(1, 4, 8, 8), "sdxl")])
    with pytest.raises(Invalid, match="some of the latents have noise"):
        batches.batch_latents([latent, Latent(torch.zeros(1, 4, 8, 8), "sd1", {"noise": torch.zeros(1, 4, 8, 8)})])
    with pytest.raises(Invalid, match="nothing"):
        batches.batch_latents([])


def test_repeating_and_sizes():
    assert np.array_equal(batches.repeat_batch(Image(PIXELS), 2).numpy(), np.concatenate([PIXELS, PIXELS]))
    assert batches.image_size(Image(PIXELS)) == (5, 4, 3)
