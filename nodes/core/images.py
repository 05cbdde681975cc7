"""Picture files: loading and saving."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from nodegraph import Field, File, Image, Invalid, Mask, Run, node

from .facts.saving import NO_ALPHA, ending
from .ports import Channel

if TYPE_CHECKING:
    from .pixels import Array

PictureFile = Annotated[File, "PNG, JPEG, WebP, GIF, BMP or TIFF; the first frame of an animation"]


class Loaded(NamedTuple):
    image: Image
    mask: Annotated[Mask, "the alpha: 1 where the picture is opaque, and everywhere if it has no alpha"]


@node
def load_image(file: PictureFile) -> Loaded:
    """A picture from a file, turned upright as its Exif data says, and its alpha as a mask.

    16-bit PNG and TIFF keep their precision, unless they have a colour profile, which is followed in 8 bits; so are compressed planes
    of TIFF, and colours that are multiplied by their alpha. Palettes, grey and CMYK become RGB, by the embedded profile if there is one.
    """
    import numpy as np

    from .reading import read_picture

    colors, alpha = read_picture(file.path)
    if alpha is None:
        alpha = np.ones(colors.shape[:2], np.float32)
    return Loaded(Image(_channels_first(colors)), Mask(_channels_first(alpha[:, :, None])))


@node
def load_mask(
    file: PictureFile,
    channel: Annotated[Channel | Literal["alpha"], "which values are the mask"] = "luminance",
    invert: bool = False,
) -> Mask:
    """A mask from a picture file: white is 1."""
    from .pixels import channel as channel_of
    from .pixels import to_mask
    from .reading import read_picture

    colors, alpha = read_picture(file.path)
    if channel != "alpha":
        pixels = channel_of(_channels_first(colors), channel)
    elif alpha is None:
        raise Invalid(f"{file.path!r} has no alpha", fix="set channel to 'luminance'", port="channel")
    else:
        pixels = _channels_first(alpha[:, :, None])
    return to_mask(1 - pixels if invert else pixels)


def _channels_first(pixels: Array) -> Array:
    """[1,C,H,W] of [H,W,C]."""
    import numpy as np

    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


@node(effect=True)
def save_image(
    image: Image,
    name: Annotated[
        str,
        "the file's name without its ending, with folders if wanted; fields are {workflow}, {node} (its place), "
        "{index} (in the batch), {n} (the first free number) and {key8} (8 digits that stand for the pixels)",
    ] = "{workflow}-{node}-{key8}",
    format: Literal["png", "jpeg", "webp"] = "png",
    quality: Annotated[int, Field(ge=1, le=100), "of jpeg and webp"] = 95,
    mask: Annotated[Mask | None, "the alpha; not for jpeg"] = None,
    embed: Annotated[bool, "write the workflow and its inputs into the file, so that it can be replayed"] = True,
    *,
    run: Run,
) -> list[File]:
    """Save each picture of a batch to the output folder.

    A file is never overwritten by other content: a name that is taken gets a number. The same content goes to the same
    file, so a run that is repeated or resumed does not save it twice.
    """
    from .pixels import check_sizes
    from .saving import encode, publish

    check_sizes(image=image, mask=mask)
    if mask is not None and format == "jpeg":
        raise Invalid(NO_ALPHA[0], fix=NO_ALPHA[1], port="mask")
    pixels = image.bytes_hwc()
    alpha = mask.bytes_hwc() if mask is not None else None
    metadata = run.metadata() if embed else {}
    files = []
    for index, picture in enumerate(pixels):
        own_alpha = alpha[index % len(alpha)] if alpha is not None else None
        data = encode(picture, own_alpha, format, quality, metadata)
        fields = {"workflow": run.workflow, "node": run.path, "index": index, "key8": _key8(picture, own_alpha)}
        path = publish(run.output, name, fields, ending(format), data)
        run.saved(path)
        files.append(File.at(path))
    return files


def _key8(pixels: Array, alpha: Array | None) -> str:
    from hashlib import blake2b

    parts = [str(pixels.shape).encode(), pixels.tobytes(), alpha.tobytes() if alpha is not None else b""]
    return blake2b(b"".join(parts), digest_size=4, person=b"save_image").hexdigest()
