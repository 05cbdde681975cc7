"""Batches: several pictures as one value, for one model call. `batch` and `unbatch` go between lists and batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from nodegraph import Field, Image, Invalid, Latent, Mask, node

if TYPE_CHECKING:
    from collections.abc import Mapping


@node
def batch(images: Annotated[list[Image], "pictures of one size; each may itself be a batch"]) -> Image:
    """All pictures as one batch, in order."""
    return Image(_joined([image.data for image in images], "images"))


@node
def unbatch(image: Image) -> list[Image]:
    """The pictures of a batch, one by one."""
    return [Image(image.data[k : k + 1]) for k in range(len(image))]


@node
def batch_masks(masks: Annotated[list[Mask], "masks of one size; each may itself be a batch"]) -> Mask:
    """All masks as one batch, in order."""
    return Mask(_joined([mask.data for mask in masks], "masks"))


@node
def unbatch_mask(mask: Mask) -> list[Mask]:
    """The masks of a batch, one by one."""
    return [Mask(mask.data[k : k + 1]) for k in range(len(mask))]


@node
def batch_latents(latents: Annotated[list[Latent], "latents of one size and space"]) -> Latent:
    """All latents as one batch, in order, with what goes with them (noise, masks)."""
    spaces = sorted({latent.space for latent in latents})
    if len(spaces) > 1:
        raise Invalid(f"the latents are of different spaces: {', '.join(spaces)}", fix="encode them with one VAE", port="latents")
    names = [sorted(latent.extras) for latent in latents]
    if any(own != names[0] for own in names):
        raise Invalid("some of the latents have noise or a mask, others have not", fix="give it to all of them, or to none", port="latents")
    data = _joined([latent.data for latent in latents], "latents")
    return Latent(data, spaces[0], {name: _joined([latent.extras[name] for latent in latents], "latents") for name in names[0]})


@node
def unbatch_latent(latent: Latent) -> list[Latent]:
    """The latents of a batch, one by one, with what goes with them."""
    return [Latent(latent.data[k : k + 1], latent.space, _rows(latent.extras, k)) for k in range(len(latent))]


def _rows(extras: Mapping[str, Any], k: int) -> dict[str, Any]:
    return {name: array[k : k + 1] for name, array in extras.items()}


@node
def repeat_batch(image: Image, count: Annotated[int, Field(ge=1, le=4096)] = 2) -> Image:
    """The whole batch again and again, as one batch."""
    return Image(_joined([image.data] * count, "image"))


class ImageSize(NamedTuple):
    width: int
    height: int
    batch: Annotated[int, "how many pictures"]


@node
def image_size(image: Image) -> ImageSize:
    """The width and height of a picture in pixels, and how many are in the batch."""
    return ImageSize(image.width, image.height, len(image))


def _joined(arrays: Sequence[Any], port: str) -> Any:
    """Arrays [B,…] as one along B: numpy if all are, otherwise torch on the first tensor's device. One array stays as it is."""
    if not arrays:
        raise Invalid("there is nothing to put into a batch", fix="give at least one", port=port)
    shapes = list(dict.fromkeys(tuple(array.shape[1:]) for array in arrays))
    if len(shapes) > 1:
        sizes = ", ".join("×".join(map(str, reversed(shape[1:]))) for shape in shapes)
        raise Invalid(f"a batch has one size, but these are {sizes}", fix="make them equal first, with resize or pad say", port=port)
    if len(arrays) == 1:
        return arrays[0]
    import numpy

    if all(isinstance(array, numpy.ndarray) for array in arrays):
        return numpy.concatenate(arrays)
    import torch

    device = next(array.device for array in arrays if isinstance(array, torch.Tensor))
    return torch.cat([torch.as_tensor(array, device=device) for array in arrays])
