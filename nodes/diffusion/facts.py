"""What is known of latent diffusion models from their configurations alone, before any weight is read.

The first half reads a model folder (also for the handles that `load_model` makes); the second half are the facts of the
pack's nodes. Names of facts: `width` and `height` are pixels, `text_width` is the length of one text state, `factor` is
pixels per latent cell, `space` names what can decode a latent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nodegraph.facts import Facts, Look, Mismatch, differ

Read = Callable[[str], Mapping[str, Any] | None]
"""Reads a JSON file of a model folder by its path inside; None if it has none."""

DENOISERS = ("unet", "transformer")
PARTS = ("vae", "text_encoder", "tokenizer", "scheduler")
CONFIGS = {"tokenizer": "tokenizer_config.json", "scheduler": "scheduler_config.json"}
"""The configuration of a part, where it is not `config.json`."""
CONFIG_FILES = tuple(f"{part}/{CONFIGS.get(part, 'config.json')}" for part in (*DENOISERS, "vae", "text_encoder", "scheduler"))
"""The configurations that facts are read from."""
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")

_STANDS_IN_FOR_OTHERS = ("AutoencoderTiny", "ConsistencyDecoderVAE")
"""VAEs that are made for the latents of another, and do not say of which."""
NETWORK = "UNet2DConditionModel"
"""The class of the denoisers that `sample_latent` drives."""
_FURTHER_INPUTS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type")

FIXED_SIGMAS = frozenset({"ddim", "ddpm", "euler_ancestral", "lcm", "pndm", "tcd"})
"""Samplers whose noise levels cannot be respaced by `sigmas`."""
FLOW_SAMPLERS = frozenset({"default", "dpm++_2m", "dpm++_2m_sde", "euler", "heun", "unipc"})
"""Samplers that also integrate flow-matching models (that of deis in diffusers 0.42 stops before the last noise is gone)."""
NO_SAMPLE_PREDICTION = frozenset({"dpm++_sde", "dpm2", "dpm2_ancestral", "euler_ancestral", "pndm"})
"""Samplers that cannot use a model that predicts the clean sample."""


# --- model folders -------------------------------------------------------------------


def denoiser_part(files: Iterable[str]) -> str:
    """The folder of the denoiser, `unet` or `transformer`; empty if there is none."""
    folders = {path.partition("/")[0] for path in files}
    return next((part for part in DENOISERS if part in folders), "")


def layout_problem(files: Iterable[str]) -> tuple[str, str] | None:
    """What keeps a folder from being a usable model, as (text, fix); None if it has every part as safetensors."""
    paths = set(files)
    if "model_index.json" not in paths:
        pickle = next((path for path in sorted(paths) if path.endswith((*PICKLES, ".safetensors"))), "")
        found = f"; it has {pickle!r}, a single-file checkpoint" if pickle and "/" not in pickle else ""
        return f"the model is not in the diffusers folder layout: it has no 'model_index.json'{found}", "convert it with diffusers"
    denoiser = denoiser_part(paths)
    if not denoiser:
        return "the model has no denoiser: neither 'unet/' nor 'transformer/' is there", "copy the whole model folder"
    for part in (denoiser, *PARTS):
        if problem := _part_problem(part, paths):
            return problem
    return None


def _part_problem(part: str, paths: set[str]) -> tuple[str, str] | None:
    config = f"{part}/{CONFIGS.get(part, 'config.json')}"
    if config not in paths:
        return f"the model has no {part}: {config!r} is not there", "copy the whole model folder"
    if part in CONFIGS or any(path.startswith(f"{part}/") and path.endswith(".safetensors") for path in paths):
        return None
    pickle = next((path for path in sorted(paths) if path.startswith(f"{part}/") and path.endswith(PICKLES)), "")
    if pickle:
        return f"{pickle!r} is a pickle, which may run any code and is never read", "convert it to safetensors"
    return f"the {part} of the model has no weights: there is no {part}/*.safetensors", "copy the whole model folder"


def vae_facts(read: Read) -> dict[str, Any]:
    """`channels` of its latents, `factor`, `space`."""
    config = read("vae/config.json") or {}
    blocks = config.get("block_out_channels") or config.get("encoder_block_out_channels")
    channels = config.get("latent_channels")
    if not blocks or not channels:
        return {}
    factor = 2 ** (len(blocks) - 1)
    space = _space(config, factor, channels)
    return {"channels": channels, "factor": factor} | ({"space": space} if space else {})


def _space(config: Mapping[str, Any], factor: int, channels: int) -> str:
    """A name for the latents of a VAE: two of the same name can stand in for each other. Empty where that is not known."""
    family = str(config.get("_class_name"))
    if family in _STANDS_IN_FOR_OTHERS:
        return ""
    family = family.replace("Asymmetric", "").replace("Autoencoder", "").lower()
    scaling, shift = config.get("scaling_factor", 0.18215), config.get("shift_factor")
    return f"{family}-f{factor}-c{channels}-{scaling:g}" + (f"+{shift:g}" if shift else "")


def encoder_facts(read: Read) -> dict[str, Any]:
    """`text_width` of its states."""
    width = (read("text_encoder/config.json") or {}).get("hidden_size")
    return {"text_width": width} if width else {}


def denoiser_facts(read: Read) -> dict[str, Any]:
    """`network` (its class), `channels` that go in, `latent_channels`, `text_width`, `further` (inputs beside text), `width`,
    `height`, `factor`, `space`, `prediction`.
    """
    config = read("unet/config.json") or read("transformer/config.json") or {}
    vae = vae_facts(read)
    known = {
        "network": config.get("_class_name"),
        "further": next((config[key] for key in _FURTHER_INPUTS if config.get(key) not in (None, "text_proj")), None),
        "channels": config.get("in_channels"),
        "latent_channels": vae.get("channels"),
        "text_width": _text_width(config),
        "factor": vae.get("factor"),
        "space": vae.get("space"),
        "prediction": prediction_of(read("scheduler/scheduler_config.json") or {}),
    }
    if (cells := config.get("sample_size")) and vae:
        rows, columns = cells if isinstance(cells, list) else (cells, cells)
        known |= {"width": columns * vae["factor"], "height": rows * vae["factor"]}
    return {name: value for name, value in known.items() if value is not None}


def prediction_of(scheduler: Mapping[str, Any]) -> str:
    """What a denoiser predicts: `epsilon`, `v_prediction`, `sample` or `flow_prediction`."""
    if str(scheduler.get("_class_name", "")).startswith("FlowMatch"):
        return "flow_prediction"
    return str(scheduler.get("prediction_type", "epsilon"))


def _text_width(config: Mapping[str, Any]) -> int | None:
    """The text states a denoiser takes; None where blocks differ."""
    width = config.get("encoder_hid_dim") or config.get("cross_attention_dim")
    return width if isinstance(width, int) else None


# --- rules that nodes share ------------------------------------------------------------


def denoiser_problem(facts: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why `sample_latent` cannot drive a denoiser, as (text, fix); None if it can."""
    if (network := facts.get("network", NETWORK)) != NETWORK:
        return f"the denoiser is a {network}; sample_latent drives {NETWORK}", "use the nodes of the pack for this model family"
    if further := facts.get("further"):
        return f"the denoiser takes more than text states: {further!r}", "use the nodes of the pack for this model family"
    return None


def size_problem(width: int, height: int, factor: int) -> tuple[str, str] | None:
    """Why a picture has no latent, as (text, fix); None if it has one."""
    if width % factor == 0 and height % factor == 0:
        return None
    nearest = [max(factor, round(size / factor) * factor) for size in (width, height)]
    text = f"{width}×{height} is not in multiples of {factor}, the pixels of one latent cell of this model"
    return text, f"use {nearest[0]}×{nearest[1]}, the nearest size"


def sampler_problem(sampler: str, sigmas: str, prediction: str) -> tuple[str, str, str] | None:
    """Why a sampler cannot be used, as (port, text, fix); None if it can. An empty argument is unknown."""
    if sampler in FIXED_SIGMAS and sigmas not in ("", "default"):
        return "sigmas", f"the sampler {sampler!r} has its own noise levels and takes no {sigmas!r} ones", "use sigmas 'default'"
    if prediction == "flow_prediction" and sampler and sampler not in FLOW_SAMPLERS:
        choices = ", ".join(map(repr, sorted(FLOW_SAMPLERS)))
        return "sampler", f"the sampler {sampler!r} cannot integrate a flow-matching model", f"use one of {choices}"
    if prediction == "sample" and sampler in NO_SAMPLE_PREDICTION:
        return "sampler", f"the sampler {sampler!r} cannot use a model that predicts the clean sample", "use 'ddim'"
    return None


# --- nodes -----------------------------------------------------------------------------

_PICTURE = ("width", "height", "batch")
"""The facts of a picture, which its latent has too."""


def load_model(look: Look, name: Facts) -> dict[str, Facts] | Mismatch:
    model = name.get("value")
    if not isinstance(model, str):
        return {}
    if problem := layout_problem(look.files(model)):
        return Mismatch("name", *problem)

    def read(path: str) -> Mapping[str, Any] | None:
        return look.json(model, path)

    return {"denoiser": Facts(**denoiser_facts(read)), "vae": Facts(**vae_facts(read)), "encoder": Facts(**encoder_facts(read))}


def encode_text(encoder: Facts) -> Facts:
    return Facts(text_width=encoder.get("text_width"))


def empty_latent(model: Facts, width: Facts, height: Facts, batch: Facts) -> Facts | Mismatch:
    size = {"width": width.get("value") or model.get("width"), "height": height.get("value") or model.get("height")}
    if misfit := _misfit("width", size, model.get("factor")):
        return misfit
    return Facts(channels=model.get("latent_channels"), space=model.get("space"), batch=batch.get("value"), **size)


def encode_image(vae: Facts, image: Facts) -> dict[str, Facts] | Mismatch:
    return _misfit("image", image, vae.get("factor")) or {"latent": _latent_of(vae, image)}


def encode_inpaint(model: Facts, vae: Facts, image: Facts) -> dict[str, Facts] | Mismatch:
    if differ(model.get("space"), vae.get("space")):
        return _space_mismatch("vae", f"the VAE makes latents of the space {vae['space']!r}", model)
    return _misfit("image", image, vae.get("factor")) or {"latent": Facts(inpaint=True, **_latent_of(vae, image))}


def decode_latent(vae: Facts, latent: Facts) -> Facts | Mismatch:
    if differ(vae.get("space"), latent.get("space")):
        text = f"the latent is of the space {latent['space']!r}, but this VAE decodes {vae['space']!r}"
        return Mismatch("latent", text, fix="use the VAE of the model that made the latent")
    return Facts(**{name: latent.get(name) for name in _PICTURE})


def sample_latent(
    model: Facts, positive: Facts, negative: Facts, latent: Facts, sampler: Facts, sigmas: Facts
) -> dict[str, Facts] | Mismatch:
    if unfit := denoiser_problem(model):
        return Mismatch("model", *unfit)
    for port, conditioning in (("positive", positive), ("negative", negative)):
        if differ(model.get("text_width"), conditioning.get("text_width")):
            text = f"the text states are {conditioning['text_width']} wide, but this denoiser takes {model['text_width']}"
            return Mismatch(port, text, fix="encode the text with the encoder of the same model")
    if differ(model.get("space"), latent.get("space")):
        return _space_mismatch("latent", f"the latent is of the space {latent['space']!r}", model)
    if problem := sampler_problem(sampler.get("value", ""), sigmas.get("value", ""), model.get("prediction", "")):
        return Mismatch(*problem)
    if channel_mismatch := _channel_mismatch(model, latent):
        return channel_mismatch
    return {"latent": latent}


def _channel_mismatch(model: Facts, latent: Facts) -> Mismatch | None:
    """A denoiser takes the latent alone, or the latent, a mask and a masked picture (twice its channels and one)."""
    taken, given = model.get("channels"), latent.get("channels")
    if taken is None or given is None or taken == given:
        return None
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


def _latent_of(vae: Facts, image: Facts) -> Facts:
    return Facts(channels=vae.get("channels"), space=vae.get("space"), **{name: image.get(name) for name in _PICTURE})
