"""What is known of latent diffusion models from their configurations alone, before any weight is read.

These are the facts of the pack's nodes. The modules beside it read model folders (also for the handles that `load_model` makes),
and have the rules that nodes share. Names of facts: `width` and `height` are pixels, `text_width` is the length of one text
state, `factor` is pixels per latent cell, `space` names what can decode a latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from nodegraph.facts import NULL, Facts, Look, Mismatch, differ

from .configurations import PIXELS, classifier_facts, config_problem, denoiser_facts, encoder_facts, vae_facts
from .layouts import layout_problem
from .prompts import WrongPrompt, read_prompt
from .rules import (
    BESIDE,
    IMAGE_ENCODER,
    JOINT_ENCODER,
    NEEDED,
    NO_TEXT,
    TEXT_ENCODER,
    absent_problem,
    batches_problem,
    captions_problem,
    cells_problem,
    clip_skip_problem,
    condition_problem,
    denoiser_problem,
    embedding_problem,
    embeddings_problem,
    empty_problem,
    encoder_problem,
    invert_problem,
    kept_problem,
    label_problem,
    large_problem,
    masks_problem,
    negative_problem,
    own_scheduler_problem,
    pictured_problem,
    pixels_problem,
    prior_negative_problem,
    size_problem,
    targets_problem,
    texts_problem,
)
from .samplers import (
    FOUR_STEPS,
    TWO_STEPS,
    count_problem,
    first_of_strength,
    noise_problem,
    sampler_problem,
    steps_problem,
    variance_problem,
)
from .unclip import unclip_parts, unclip_problem

NOTHING = Facts()
_BEGINNING = ("empty", "inpaint", "edit")
"""Facts of a latent that nothing was painted on yet, or not to the end."""
_PICTURE = ("width", "height", "batch")
"""The facts of a picture, which its latent has too."""


def load_model(look: Look, name: Facts) -> dict[str, Facts] | Mismatch:
    model = name.get("value")
    if not isinstance(model, str):
        return {}
    read = partial(look.json, model)
    if problem := layout_problem(look.files(model)) or config_problem(read):
        return Mismatch("name", *problem)
    return {"denoiser": Facts(**denoiser_facts(read)), "vae": Facts(**vae_facts(read)), "encoder": Facts(**encoder_facts(read))}


def load_unclip(look: Look, name: Facts) -> dict[str, Facts] | Mismatch:
    model = name.get("value")
    if not isinstance(model, str):
        return {}
    read = partial(look.json, model)
    if problem := config_problem(read) or unclip_problem(parts := unclip_parts(look.files(model), read)):
        return Mismatch("name", *problem)
    return {output: Facts(**known) for output, (_, known) in parts.items()}


def encode_text(encoder: Facts, text: Facts = NOTHING, clip_skip: Facts = NOTHING, emphasis: Facts = NOTHING) -> Facts | Mismatch:
    if wrong := _unencoded(encoder, TEXT_ENCODER) or _no_text(text):
        return wrong
    skipped, layers = clip_skip.get("value", 0), encoder.get("layers")
    if layers and (problem := clip_skip_problem(skipped, layers)):
        return Mismatch("clip_skip", *problem)
    try:
        for prompt in _texts(text) if emphasis.get("value") else ():
            read_prompt(prompt)
    except WrongPrompt as error:
        return Mismatch("text", str(error), error.fix)
    return Facts(text_width=encoder.get("text_width"), batch=len(_texts(text)) or None)


def _texts(text: Facts) -> list[str]:
    """The texts that a literal gives; none where they are not known."""
    given = text.get("value", [])
    return [given] if isinstance(given, str) else list(given)


def _no_text(text: Facts) -> Mismatch | None:
    return Mismatch("text", *NO_TEXT) if text.get("value") == [] else None


def encode_clip_text(encoder: Facts, text: Facts = NOTHING) -> dict[str, Facts] | Mismatch:
    known = {name: encoder.get(name) for name in ("embedding_width", "space")}
    known["batch"] = len(_texts(text)) or None
    conditioning = Facts(text_width=encoder.get("text_width"), **known)
    return _unencoded(encoder, JOINT_ENCODER) or _no_text(text) or {"conditioning": conditioning, "embedding": Facts(**known)}


def encode_clip_image(encoder: Facts, image: Facts = NOTHING) -> Facts | Mismatch:
    known = {name: encoder.get(name) for name in ("embedding_width", "space")}
    return _unencoded(encoder, IMAGE_ENCODER) or Facts(batch=1 if image.null else image.get("batch"), **known)


def sample_prior(
    prior: Facts,
    positive: Facts,
    negative: Facts,
    guidance: Facts = NOTHING,
    seed: Facts = NOTHING,
    batch: Facts = NOTHING,
    steps: Facts = NOTHING,
) -> dict[str, Facts] | Mismatch:
    if absent := _absent(prior=prior):
        return absent
    if problem := own_scheduler_problem(prior):
        return Mismatch("prior", *problem)
    for port, conditioning in (("positive", positive), ("negative", negative)):
        if problem := embedding_problem(prior, conditioning, "prior"):
            return Mismatch(port, *problem)
    if negative.null and guidance.get("value", 0) > 1:
        return Mismatch("negative", *prior_negative_problem(guidance["value"]))
    count, texts, avoided = batch.get("value"), positive.get("batch"), negative.get("batch")
    if count and texts and (problem := captions_problem(texts, count)):
        return Mismatch("batch", *problem)
    drawn = max(count, texts) if count and texts else None
    if drawn and avoided and guidance.get("value", 0) > 1 and (problem := embeddings_problem(avoided, drawn)):
        return Mismatch("negative", *problem)
    if steps.get("value") == 1 and prior.get("scheduler") == "UnCLIPScheduler":
        return Mismatch("steps", *TWO_STEPS)
    if wrong := _seeds(seed, drawn):
        return wrong
    known = Facts(embedding_width=prior.get("embedding_width"), space=positive.get("space"), batch=drawn)
    return {"embedding": known, "rng": Facts(batch=drawn)}


def condition_decoder(
    decoder: Facts, embedding: Facts, negative_embedding: Facts, caption: Facts, negative: Facts, seed: Facts = NOTHING
) -> dict[str, Facts] | Mismatch:
    if absent := _absent(decoder=decoder):
        return absent
    if decoder and "condition" not in decoder:
        return Mismatch("decoder", "this denoiser takes no image embedding", "use encode_text and sample_latent alone")
    for port, given in (("embedding", embedding), ("negative_embedding", negative_embedding)):
        if problem := embedding_problem(decoder, given, "decoder"):
            return Mismatch(port, *problem)
    if decoder.get("condition") == "projected":
        for port, given in (("caption", caption), ("negative", negative)):
            if problem := embedding_problem(decoder, given, "decoder"):
                return Mismatch(port, *problem)
    if decoder.get("condition") == "noised" and differ(decoder.get("text_width"), caption.get("text_width")):
        text = f"the text states are {caption['text_width']} wide, but this denoiser takes {decoder['text_width']}"
        return Mismatch("caption", text, fix="encode the text with encode_text and the encoder of load_model")
    kind = decoder.get("condition")
    if (needed := NEEDED.get(str(kind))) and (embedding if needed[0] == "embedding" else caption).null:
        return Mismatch(*needed)
    draws = _greatest(embedding, caption)
    if wrong := _seeds(seed, draws):
        return wrong
    told = {"embedding": embedding, "caption": caption, "negative": negative}
    if kind == "image":
        told = {"embedding": embedding, "negative_embedding": negative_embedding}
    count = _greatest(*((embedding, caption) if kind == "noised" else told.values())) if kind in NEEDED else None
    if count and (wrong := _batches(count, **told)):
        return wrong
    made = Facts(condition=kind, text_width=decoder.get("text_width"), batch=count)
    left_out = kind and (negative_embedding if kind == "image" else negative).null
    return {"positive": made, "negative": NULL if left_out else made, "rng": Facts(batch=draws)}


def _greatest(*given: Facts) -> int | None:
    """The batch of what is made of several, those that are null aside; None if one is not known."""
    batches = [facts.get("batch") for facts in given if not facts.null]
    return None if None in batches else max([1, *batches])


def _batches(count: int, **given: Facts) -> Mismatch | None:
    """Batches that cannot go with one of a size."""
    sizes = {port: facts["batch"] for port, facts in given.items() if "batch" in facts}
    return next((Mismatch(port, *problem) for port, size in sizes.items() if (problem := batches_problem(port, size, count))), None)


def upsample_diffusion(upsampler: Facts, image: Facts, seed: Facts = NOTHING) -> dict[str, Facts] | Mismatch:
    if absent := _absent(upsampler=upsampler):
        return absent
    if problem := own_scheduler_problem(upsampler):
        return Mismatch("upsampler", *problem)
    if differ(image.get("space"), PIXELS):
        return Mismatch("image", *pixels_problem(image["space"]))
    if wrong := _seeds(seed, image.get("batch")):
        return wrong
    if all(isinstance(image.get(side), int) for side in ("width", "height")) and (
        problem := large_problem(upsampler, image["width"], image["height"])
    ):
        return Mismatch("image", *problem)
    scale = upsampler.get("scale")
    size = {side: image[side] * scale for side in ("width", "height") if scale and side in image}
    return {"image": Facts(batch=image.get("batch"), **size)}


def load_classifier(look: Look, name: Facts) -> Facts:
    model = name.get("value")
    return Facts(**classifier_facts(lambda path: look.json(model, path))) if isinstance(model, str) else Facts()


def guide_by_class(classifier: Facts, label: Facts) -> Facts | Mismatch:
    if isinstance(wanted := label.get("value"), str) and (problem := label_problem(classifier, wanted)):
        return Mismatch("label", *problem)
    return Facts(space=classifier.get("space"))


def interpolate_embeddings(first: Facts, second: Facts) -> Facts | Mismatch:
    return _unlike(first, second=second) or Facts(**{**first, "batch": _greatest(first, second)})


def shift_embedding(embedding: Facts, source: Facts, target: Facts) -> Facts | Mismatch:
    return _unlike(embedding, source=source, target=target) or Facts(**{**embedding, "batch": _greatest(embedding, source, target)})


def rank_by_similarity(embedding: Facts, target: Facts) -> dict[str, Facts] | Mismatch:
    if "batch" in target and (problem := targets_problem(target["batch"])):
        return Mismatch("target", *problem)
    return _unlike(embedding, target=target) or {}


def rerank(image: Facts, embedding: Facts, target: Facts, count: Facts) -> dict[str, Facts] | Mismatch:
    pictures, embeddings, wanted = image.get("batch"), embedding.get("batch"), count.get("value")
    if pictures and embeddings and (problem := pictured_problem(embeddings, pictures)):
        return Mismatch("embedding", *problem)
    if pictures and wanted and (problem := kept_problem(wanted, pictures)):
        return Mismatch("count", *problem)
    if isinstance(wrong := rank_by_similarity(embedding, target), Mismatch):
        return wrong
    kept = Facts(batch=count.get("value"), width=image.get("width"), height=image.get("height"))
    return {"image": kept}


def empty_latent(model: Facts, width: Facts, height: Facts, batch: Facts) -> Facts | Mismatch:
    size = {"width": width.get("value") or model.get("width"), "height": height.get("value") or model.get("height")}
    if misfit := _misfit("width", size, model.get("factor")):
        return misfit
    return Facts(empty=True, channels=model.get("latent_channels"), space=model.get("space"), batch=batch.get("value"), **size)


def encode_image(vae: Facts, image: Facts, seed: Facts = NOTHING) -> dict[str, Facts] | Mismatch:
    wrong = _absent(vae=vae) or _misfit("image", image, vae.get("factor")) or _seeds(seed, image.get("batch"))
    return wrong or {"latent": _latent_of(vae, image)}


def encode_inpaint(
    model: Facts, vae: Facts, image: Facts, mask: Facts = NOTHING, seed: Facts = NOTHING, strength: Facts = NOTHING
) -> dict[str, Facts] | Mismatch:
    if absent := _absent(vae=vae):
        return absent
    if differ(model.get("space"), vae.get("space")):
        return _space_mismatch("vae", f"the VAE makes latents of the space {vae['space']!r}", model)
    masks, pictures = mask.get("batch"), image.get("batch")
    if masks and pictures and (problem := masks_problem(masks, pictures)):
        return Mismatch("mask", *problem)
    # a denoiser for inpainting begins with noise alone at full strength; Kandinsky's has the picture beside it
    alone = strength.get("value") == 1 and differ(model.get("channels"), vae.get("channels")) and "condition" not in model
    latent = Facts(inpaint=True, empty=alone or None, **_latent_of(vae, image))
    return _misfit("image", image, vae.get("factor")) or _seeds(seed, pictures) or {"latent": latent}


def encode_edit(vae: Facts, image: Facts) -> Facts | Mismatch:
    return _absent(vae=vae) or _misfit("image", image, vae.get("factor")) or Facts(edit=True, empty=True, **_latent_of(vae, image))


def invert_ddim(
    model: Facts, positive: Facts, negative: Facts, latent: Facts, steps: Facts, guidance: Facts, strength: Facts
) -> dict[str, Facts] | Mismatch:
    if problem := invert_problem(model):
        return Mismatch("model", *problem)
    if latent.get("inpaint") or latent.get("edit"):
        return Mismatch("latent", *BESIDE)
    given = Facts(**{name: fact for name, fact in latent.items() if name not in _BEGINNING})  # it goes back to noise from anything
    return sample_latent(model, positive, negative, given, NOTHING, NOTHING, NOTHING, steps, strength, guidance=guidance)


def decode_latent(vae: Facts, latent: Facts) -> Facts | Mismatch:
    if absent := _absent(vae=vae):
        return absent
    if differ(vae.get("space"), latent.get("space")):
        text = f"the latent is of the space {latent['space']!r}, but this VAE decodes {vae['space']!r}"
        return Mismatch("latent", text, fix="use the VAE of the model that made the latent")
    return Facts(**{name: latent.get(name) for name in _PICTURE})


def sample_latent(
    model: Facts,
    positive: Facts,
    negative: Facts,
    latent: Facts,
    sampler: Facts,
    sigmas: Facts,
    guide: Facts,
    steps: Facts = NOTHING,
    strength: Facts = NOTHING,
    start: Facts = NOTHING,
    end: Facts = NOTHING,
    guidance: Facts = NOTHING,
    image_guidance: Facts = NOTHING,
    add_noise: Facts = NOTHING,
    seed: Facts = NOTHING,
) -> dict[str, Facts] | Mismatch:
    if unfit := absent_problem(model) or denoiser_problem(model):
        return Mismatch("model", *unfit)
    for port, conditioning in (("positive", positive), ("negative", negative)):
        if problem := condition_problem(model, conditioning) if model else None:
            return Mismatch(port, *problem)
        if differ(model.get("text_width"), conditioning.get("text_width")):
            text = f"the text states are {conditioning['text_width']} wide, but this denoiser takes {model['text_width']}"
            return Mismatch(port, text, fix="encode the text with the encoder of the same model")
        texts, count = conditioning.get("batch"), latent.get("batch")
        if texts and count and (problem := texts_problem(texts, count)):
            return Mismatch(port, *problem)
    if negative.null and guidance.get("value", 0) > 1 and _is_guided(model, image_guidance):
        return Mismatch("negative", *negative_problem(guidance["value"]))
    if wrong := _seeds(seed, latent.get("batch")):
        return wrong
    if differ(model.get("space"), latent.get("space")):
        return _space_mismatch("latent", f"the latent is of the space {latent['space']!r}", model)
    if unfit := _uneven(model, latent):
        return unfit
    if differ(model.get("space"), guide.get("space")):
        return _space_mismatch("guide", f"the classifier knows latents of the space {guide['space']!r}", model)
    if problem := sampler_problem(
        sampler.get("value", ""), sigmas.get("value", ""), model.get("prediction", ""), model.get("scheduler", "")
    ):
        return Mismatch(*problem)
    if problem := variance_problem(model, sampler.get("value", "")):
        return Mismatch(*problem)
    whole = strength.get("value") == 1 and start.get("value") == 0
    if problem := noise_problem(model, sampler.get("value", ""), sigmas.get("value", ""), steps.get("value"), whole):
        return Mismatch(*problem)
    if channel_mismatch := _channel_mismatch(model, latent):
        return channel_mismatch
    known = {"strength": strength, "start": start, "end": end}
    taken = {port: value for port, given in known.items() if (value := given.get("value")) is not None}
    count = steps.get("value")
    if count is not None and (problem := steps_problem(count, **taken) or count_problem(model, sampler.get("value", ""), count)):
        return Mismatch(*problem)
    painted = bool(latent) and not latent.get("inpaint")  # around a mask there are no such steps
    if count is not None and count < 4 and painted and model.get("runge_kutta") and sampler.get("value") == "default":
        return Mismatch("steps", *FOUR_STEPS)
    first = start.get("value") or (first_of_strength(count, taken["strength"]) if count and "strength" in taken else 0)
    if latent.get("empty") and (first or add_noise.get("value") is False):
        return Mismatch("latent", *empty_problem(first, count))
    finished = end.null or (count is not None and end.get("value") == count)
    lost = _BEGINNING if finished else ("empty",) if _edits(model) else ("empty", "edit")
    return {"latent": Facts(**{name: fact for name, fact in latent.items() if name not in lost})}


def _is_guided(model: Facts, image_guidance: Facts) -> bool:
    """Whether guidance above 1 takes a negative conditioning, as far as is known."""
    return bool(model) and "distilled" not in model and (not _edits(model) or image_guidance.get("value", 0) >= 1)


def _edits(model: Facts) -> bool:
    """Whether a denoiser takes a picture beside the latent that it edits, or may."""
    taken, given = model.get("channels"), model.get("latent_channels")
    return taken is None or given is None or taken == 2 * given


def _seeds(seed: Facts, count: Any) -> Mismatch | None:
    """Seeds, or random states, that are not one for each picture."""
    value = seed.get("value")
    seeds = len(value) if isinstance(value, list | tuple) else seed.get("batch")
    if seeds is None or not isinstance(count, int) or seeds == count:
        return None
    text = f"a batch of {count} takes a seed for each picture, but {seeds} were given"
    return Mismatch("seed", text, "give one seed, or one for each picture")


def _absent(**parts: Facts) -> Mismatch | None:
    return next((Mismatch(port, *problem) for port, part in parts.items() if (problem := absent_problem(part))), None)


def _unencoded(encoder: Facts, network: str) -> Mismatch | None:
    """An encoder that is not there, or of another class than the one that a node drives."""
    problem = absent_problem(encoder) or encoder_problem(encoder, network)
    return Mismatch("encoder", *problem) if problem else None


def _unlike(first: Facts, **others: Facts) -> Mismatch | None:
    count = first.get("batch", 1)
    for port, other in others.items():
        if differ(first.get("embedding_width"), other.get("embedding_width")):
            text = f"this embedding is {other['embedding_width']} wide, the other {first['embedding_width']}"
            return Mismatch(port, text, "encode both with the encoders of one model")
        if count > 1 and (wrong := _batches(count, **{port: other})):
            return wrong
        count = max(count, other.get("batch", 1))
    return None


def _channel_mismatch(model: Facts, latent: Facts) -> Mismatch | None:
    """A denoiser takes the latent alone, or the latent, a mask and a masked picture (twice its channels and one)."""
    taken, given = model.get("channels"), latent.get("channels")
    if taken is None or given is None or taken == given:
        return None
    if taken == 2 * given:
        text = f"this denoiser edits pictures: it takes {taken} channels, a latent of {given} and an encoded picture"
        return None if latent.get("edit") else Mismatch("latent", text, fix="make the latent with encode_edit")
    if taken != 2 * given + 1:
        return Mismatch("latent", f"the latent has {given} channels, but this denoiser takes {taken}", fix="use a latent of its own model")
    if latent.get("inpaint"):
        return None
    text = f"this denoiser is for inpainting: it takes {taken} channels, a latent of {given}, a mask and a masked picture"
    return Mismatch("latent", text, fix="make the latent with encode_inpaint")


def _space_mismatch(port: str, given: str, model: Facts) -> Mismatch:
    return Mismatch(port, f"{given}, but this denoiser works in {model['space']!r}", fix="use the VAE of the same model")


def _misfit(port: str, size: Mapping[str, Any], factor: Any) -> Mismatch | None:
    width, height = size.get("width"), size.get("height")
    if not all(isinstance(number, int) for number in (width, height, factor)):
        return None
    problem = size_problem(width, height, factor)  # type: ignore[arg-type]
    return Mismatch(port, *problem) if problem else None


def _uneven(model: Facts, latent: Facts) -> Mismatch | None:
    """A latent that the blocks of a denoiser cannot halve and double again."""
    width, height, factor = latent.get("width"), latent.get("height"), model.get("factor")
    if not all(isinstance(number, int) for number in (width, height, factor)):
        return None
    problem = cells_problem(model, height // factor, width // factor)
    return Mismatch("latent", *problem) if problem else None


def _latent_of(vae: Facts, image: Facts) -> Facts:
    return Facts(channels=vae.get("channels"), space=vae.get("space"), **{name: image.get(name) for name in _PICTURE})
