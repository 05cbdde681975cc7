"""Rules that nodes share: what goes together, of models, conditionings, latents and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nodegraph.facts import differ

from .samplers import NOT_OF_DDIM, OTHER_SCHEDULER, sampler_problem

NETWORK = "UNet2DConditionModel"
"""The class of the denoisers that `sample_latent` drives."""
TEXT_ENCODER, JOINT_ENCODER, IMAGE_ENCODER = "CLIPTextModel", "CLIPTextModelWithProjection", "CLIPVisionModelWithProjection"
"""The classes of the encoders that `encode_text`, `encode_clip_text` and `encode_clip_image` drive."""
ENCODER_NODES = {
    TEXT_ENCODER: "use the encoder of load_model, or encode_clip_text for one of a joint space",
    JOINT_ENCODER: "use the encoder of load_unclip, or encode_text for one that is for text alone",
    IMAGE_ENCODER: "use the image encoder of a model of unCLIP",
}
"""What to do about an encoder of another class."""
SCALE = 4
"""How many times larger an upsampler makes a picture that does not say."""


def denoiser_problem(facts: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why `sample_latent` cannot drive a denoiser, as (text, fix); None if it can."""
    if (network := facts.get("network", NETWORK)) != NETWORK:
        return f"the denoiser is a {network}; sample_latent drives {NETWORK}", "use the nodes of the pack for this model family"
    if further := facts.get("further"):
        return f"the denoiser takes more than text states: {further!r}", "use the nodes of the pack for this model family"
    taken, given = facts.get("channels"), facts.get("latent_channels")
    if taken and given and taken not in (given, 2 * given, 2 * given + 1):
        text = f"the denoiser takes {taken} channels, but latents of this model have {given}: what goes beside them no node here makes"
        return text, "use the nodes of the pack for this model family"
    return None


def invert_problem(model: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why `invert_ddim` cannot go back with a denoiser, as (text, fix); None if it can, or if that is not known."""
    taken, given = model.get("channels"), model.get("latent_channels")
    if taken and given and taken in (2 * given, 2 * given + 1):
        text = f"this denoiser takes {taken} channels, a latent of {given} and a picture beside it, which an inverted latent has not"
        return text, "use a model that takes latents alone"
    return NOT_OF_DDIM if model.get("prediction") == "flow_prediction" else None


BESIDE = ("the latent has a mask or a picture beside it, which does not go back to noise with it", "make it with encode_image")
"""Why such a latent cannot be inverted, as (text, fix)."""


def absent_problem(facts: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why a part of `load_unclip` cannot be used, as (text, fix); None if it is there, with all its files."""
    if part := facts.get("absent"):
        return f"the model has no {part.replace('_', ' ')}", "take it from a model that has one"
    return (facts["lacking"], facts["mend"]) if "lacking" in facts else None


def encoder_problem(facts: Mapping[str, Any], network: str) -> tuple[str, str] | None:
    """Why a node that drives a class of encoders cannot use one, as (text, fix); None if it can, or if that is not known."""
    if not differ(facts.get("network"), network):
        return None
    kind = "image" if network == IMAGE_ENCODER else "text"
    return f"the {kind} encoder of the model is a {facts['network']}; this node drives {network}", ENCODER_NODES[network]


def own_scheduler_problem(facts: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why a network cannot be stepped by its own scheduler, and there is no other, as (text, fix); None if it can."""
    problem = sampler_problem("default", "default", facts.get("prediction", ""), facts.get("scheduler", ""))
    return (problem[1], OTHER_SCHEDULER if problem[0] == "sampler" else problem[2]) if problem else None


def embedding_problem(wanted: Mapping[str, Any], given: Mapping[str, Any], taker: str) -> tuple[str, str] | None:
    """Why a network cannot take an embedding, as (text, fix); None if it can, or if that is not known."""
    if not differ(wanted.get("embedding_width"), given.get("embedding_width")):
        return None
    text = f"the embedding is {given['embedding_width']} wide, but this {taker} takes {wanted['embedding_width']}"
    return text, "encode with the encoders that the model was trained with"


def condition_problem(model: Mapping[str, Any], conditioning: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why a denoiser cannot be told what a conditioning says, as (text, fix); None if it can, or if that is not known."""
    wanted, given = model.get("condition"), conditioning.get("condition")
    if wanted == given or not conditioning:
        return None
    if wanted:
        text = "this denoiser takes an image embedding" + (" besides text" if wanted != "image" else "")
        return text, "make the conditioning with condition_decoder, for this denoiser"
    return "the conditioning is for a denoiser that takes image embeddings, which this one does not", "make it with encode_text"


def label_problem(classifier: Mapping[str, Any], label: str) -> tuple[str, str] | None:
    """Why a classifier cannot be asked for a class, as (text, fix); None if it can, or if its classes are not known."""
    classes = classifier.get("classes")
    if classes is None or label in classes:
        return None
    return f"the classifier knows no {label!r}", f"use one of {', '.join(map(repr, classes))}"


def size_problem(width: int, height: int, factor: int) -> tuple[str, str] | None:
    """Why a picture has no latent, as (text, fix); None if it has one."""
    if width % factor == 0 and height % factor == 0:
        return None
    text = f"{width}×{height} is not in multiples of {factor}, the pixels of one latent cell of this model"
    return text, f"use {_nearest(width, factor)}×{_nearest(height, factor)}, the nearest size"


def cells_problem(model: Mapping[str, Any], rows: int, columns: int) -> tuple[str, str] | None:
    """Why a denoiser cannot take a latent of so many cells, as (text, fix); None if it can, or if that is not known."""
    multiple, factor = model.get("multiple", 1), model.get("factor", 1)
    if rows % multiple == 0 and columns % multiple == 0:
        return None
    text = f"the latent has {columns}×{rows} cells, but this denoiser takes multiples of {multiple}"
    width, height = (factor * _nearest(cells, multiple) for cells in (columns, rows))
    return text, f"make it {width}×{height} pixels large, the nearest size"


def large_problem(upsampler: Mapping[str, Any], width: int, height: int) -> tuple[str, str] | None:
    """Why an upsampler cannot enlarge a picture of a size, as (text, fix); None if it can, or if that is not known."""
    scale, multiple = upsampler.get("scale", SCALE), upsampler.get("multiple", 1)
    if width * scale % multiple == 0 and height * scale % multiple == 0:
        return None
    text = f"{width}×{height} would become {width * scale}×{height * scale}, but this upsampler paints multiples of {multiple}"
    sides = (_nearest(side, multiple // math.gcd(multiple, scale)) for side in (width, height))
    return text, "use {}×{}, the nearest size".format(*sides)


def _nearest(size: int, multiple: int) -> int:
    return max(multiple, round(size / multiple) * multiple)


def negative_problem(guidance: float) -> tuple[str, str]:
    """What is missing where there is guidance and no negative conditioning, as (text, fix)."""
    fix = "link encode_text of an empty text to negative, or condition_decoder's negative, or set guidance to 1"
    return f"guidance {guidance:g} needs a negative conditioning", fix


def prior_negative_problem(guidance: float) -> tuple[str, str]:
    """As `negative_problem`, of a prior."""
    return negative_problem(guidance)[0], "link encode_clip_text of an empty text to negative, or set guidance to 1"


def empty_problem(first: int, steps: int | None) -> tuple[str, str]:
    """Why an empty latent is no start of a sampling that begins at a step, or adds no noise, as (text, fix)."""
    fix = "set strength to 1, start to 0 and add_noise to true, or use encode_image (encode_inpaint with the same strength)"
    return f"an empty latent has no picture to {f'start from at step {first} of {steps}' if first else 'go on from'}", fix


def texts_problem(texts: int, count: int) -> tuple[str, str] | None:
    """Why conditionings of so many texts, or pictures, cannot go with so many latents, as (text, fix); None if they can."""
    if texts in (1, count):
        return None
    if count == 1:
        fix = f"give 1 text, or {texts} latents, as by the batch of empty_latent"
    else:
        fix = f"give 1 text or picture, or {count}; to take a batch of pictures one by one, link unbatch, and map over its images with each"
    return f"conditionings of {texts} texts or pictures cannot go with {count} latent{'s' * (count > 1)}", fix


def masks_problem(masks: int, count: int) -> tuple[str, str] | None:
    """Why so many masks cannot go with so many pictures, as (text, fix); None if they can."""
    if masks in (1, count):
        return None
    fix = f"give 1 mask or {count}" if count > 1 else "give 1 mask, or repeat the picture with repeat_batch"
    return f"{masks} masks cannot go with {count} pictures", fix


def clip_skip_problem(clip_skip: int, layers: int) -> tuple[str, str] | None:
    """Why so many layers of a text encoder cannot be left out, as (text, fix); None if they can."""
    if clip_skip < layers:
        return None
    return f"clip_skip {clip_skip} is too much for a text encoder of {layers} layers", f"use at most {layers - 1}"


NO_CAPTION = "encode the caption, which may be empty, with encode_clip_text"
NEEDED = {
    "projected": ("caption", "this decoder takes a caption beside the embedding", NO_CAPTION),
    "noised": ("caption", "this decoder takes a caption beside the embedding", "encode one, which may be empty"),
    "image": ("embedding", "this decoder follows an image embedding alone", "link an embedding"),
}
"""What a decoder cannot do without, by how it takes embeddings, as (port, text, fix)."""


def captions_problem(texts: int, batch: int) -> tuple[str, str] | None:
    """Why a prior cannot draw a batch for so many captions, as (text, fix); None if it can."""
    if batch == 1 or texts == 1:
        return None
    return f"there are {texts} captions, so batch cannot be {batch}", "give one caption, or leave batch at 1"


def embeddings_problem(texts: int, count: int) -> tuple[str, str] | None:
    """Why so many texts cannot go with so many embeddings, as (text, fix); None if they can."""
    return None if texts in (1, count) else (f"{texts} texts cannot go with {count} embeddings", f"give 1 text or {count}")


def batches_problem(port: str, given: int, count: int) -> tuple[str, str] | None:
    """Why so many embeddings, or texts, cannot go with so many others, as (text, fix); None if they can: one stands for each."""
    if given in (1, count):
        return None
    what = "texts" if port in ("caption", "negative") else "embeddings"
    return f"{given} {what} cannot go with {count}", f"give 1 or {count}" if count > 1 else "give 1"


def targets_problem(targets: int) -> tuple[str, str] | None:
    """Why so many embeddings are no target to rank by, as (text, fix); None if they are one."""
    return None if targets == 1 else (f"there are {targets} targets to rank by", "give one")


def kept_problem(count: int, pictures: int) -> tuple[str, str] | None:
    """Why so many pictures of a batch cannot be kept, as (text, fix); None if they can."""
    return (f"{count} of {pictures} pictures cannot be kept", f"use at most {pictures}") if count > pictures else None


def pictured_problem(embeddings: int, pictures: int) -> tuple[str, str] | None:
    """Why so many embeddings are not those of so many pictures, as (text, fix); None if they can be."""
    if embeddings == pictures:
        return None
    return f"{embeddings} embeddings cannot rank {pictures} pictures", "encode the same batch with encode_clip_image"


def pixels_problem(space: str) -> tuple[str, str]:
    """Why a latent of a space cannot be enlarged, as (text, fix)."""
    return f"the latent is of the space {space!r}, not of pixels", "decode it first, with decode_latent"


NO_TEXT = ("there is no text to encode", "give at least one, which may be empty")
"""What is wrong with an empty list of texts, as (text, fix)."""
