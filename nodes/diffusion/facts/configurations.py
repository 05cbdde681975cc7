"""What the configurations of a model say: of its denoiser, VAE, text encoder and scheduler."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from .layouts import CONFIGS, INDEX
from .samplers import MUCH_NOISE

Read = Callable[[str], Mapping[str, Any] | None]
"""Reads a JSON file of a model folder by its path inside; None if it has none."""
_STANDS_IN_FOR_OTHERS = ("AutoencoderTiny", "ConsistencyDecoderVAE")
"""VAEs that are made for the latents of another, and do not say of which."""
_FURTHER_INPUTS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "num_class_embeds")
PIXELS = "pixels"
"""The space of denoisers that work on pixels: their latents are the picture in -1..1."""


def config_problem(read: Read) -> tuple[str, str] | None:
    """What stands in the configurations of a model and cannot be, as (text, fix): what nodes reckon with."""
    for paths, wanted in _WANTED:
        for path in paths:
            config = read(path) or {}
            for name, (fits, words) in wanted.items():
                if name in config and not fits(config[name]):
                    return _unfit(path, name, config[name], words)
    for path in _ENCODERS:
        config = read(path) or {}
        token = config.get("eos_token_id", 0)
        if (network_of(config) or "CLIPText").startswith("CLIPText") and not (_is_count(token) or token == 0):
            return _unfit(path, "eos_token_id", token, "the number of a token")
    for path in _SCHEDULERS:
        betas, count = (config := read(path) or {}).get("trained_betas"), config.get("num_train_timesteps", 1000)
        if betas and len(betas) < count:
            return (
                f"{path!r} of the model has {len(betas)} 'trained_betas' for {count} 'num_train_timesteps'",
                "copy the model folder again",
            )
    return None


def _unfit(path: str, name: str, value: Any, words: str) -> tuple[str, str]:
    said = json.dumps(value)
    text = f"{path!r} of the model says {name!r} is {said if len(said) <= 40 else said[:39] + '…'}; it must be {words}"
    return text, "copy the model folder again"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_count(value: Any, most: int = 1_000_000) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and bool(value) and all(map(fits, value))


def _are_all(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether a value, or each of a list of them, which may be in lists again, fits; null is left to the class of the network."""
    return lambda value: value is None or fits(value) or _are(_are_all(fits))(value)


def _are_sides(value: Any) -> bool:
    """Whether a preparation of pictures may say this of a size: pixels, or sides by name."""
    sides = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return all(side is None or _is_count(side, _MOST_PIXELS) for side in sides)


_SCHEDULERS = tuple(f"{part}/{config}" for part, config in CONFIGS.items() if "scheduler" in part)
_ENCODERS = ("text_encoder/config.json", "prior_text_encoder/config.json", "image_encoder/config.json")
_COUNT = (_is_count, "a whole number from 1 on")
_BLOCKS = (_are(_is_count), "a list of whole numbers from 1 on")
_MOST_WIDE, _MOST_LAYERS, _MOST_PIXELS = 100_000, 1_000, 10_000
"""More than any network has, and any preparation of pictures gives: what is made by such numbers fills the memory."""
_WIDE = (_are_all(lambda value: _is_count(value, _MOST_WIDE)), f"a whole number from 1 to {_MOST_WIDE:,}, or a list of them")
_LAYERS = (_are_all(lambda value: _is_count(value, _MOST_LAYERS)), f"a whole number from 1 to {_MOST_LAYERS:,}, or a list of them")
_ONE = (lambda value: value is None or _is_count(value, _MOST_WIDE), f"a whole number from 1 to {_MOST_WIDE:,}")
_WIDTHS = ("cross_attention_dim", "attention_head_dim", "num_attention_heads", "norm_num_groups", "encoder_hid_dim", "embedding_dim")
_CHANNELS = (lambda value: value is None or _is_number(value) or (_are(_is_number)(value) and len(value) == 3), "a number, or three")
_SIDES = (_are_sides, f"whole numbers from 1 to {_MOST_PIXELS:,}")
_FLAG = (lambda value: value in (False, True), "true or false")
_WANTED: tuple[tuple[tuple[str, ...], dict[str, tuple[Callable[[Any], bool], str]]], ...] = (
    (
        ("unet/config.json", "decoder/config.json"),
        {
            "in_channels": _COUNT,
            "sample_size": (
                lambda value: value is None or _is_count(value) or (_are(_is_count)(value) and len(value) == 2),
                "a whole number from 1 on, or two of them",
            ),
        },
    ),
    (
        ("vae/config.json", "movq/config.json"),
        {
            "latent_channels": _COUNT,
            "block_out_channels": _BLOCKS,
            "encoder_block_out_channels": _BLOCKS,
            "scaling_factor": (lambda value: _is_number(value) and value != 0, "a number, and not 0"),
            "shift_factor": (lambda value: value is None or _is_number(value), "a number, or null"),
        },
    ),
    (
        tuple(f"{part}/config.json" for part in ("unet", "decoder", "prior", "vae", "movq", "super_res_first", "super_res_last")),
        {**dict.fromkeys(_WIDTHS, _WIDE), **dict.fromkeys(("layers_per_block", "transformer_layers_per_block", "num_layers"), _LAYERS)},
    ),
    (
        tuple(f"{part}/config.json" for part in ("unet", "decoder", "super_res_first", "super_res_last")),
        {"block_out_channels": _WIDE},
    ),
    (
        _ENCODERS,
        {
            **dict.fromkeys(("hidden_size", "intermediate_size", "num_attention_heads", "projection_dim"), _ONE),
            **dict.fromkeys(("max_position_embeddings", "image_size", "patch_size"), _ONE),
            "num_hidden_layers": (lambda value: _is_count(value, _MOST_LAYERS), f"a whole number from 1 to {_MOST_LAYERS:,}"),
            "vocab_size": (_is_count, "a whole number from 1 to 1,000,000"),
        },
    ),
    (
        tuple(f"{part}/{CONFIGS[part]}" for part in ("feature_extractor", "image_processor")),
        {
            "image_mean": _CHANNELS,
            "image_std": (
                lambda value: _CHANNELS[0](value) and value != 0 and not (isinstance(value, list) and 0 in value),
                "a number, or three, and none of them 0",
            ),
            "rescale_factor": (lambda value: value is None or _is_number(value), "a number"),
            **dict.fromkeys(("size", "crop_size"), _SIDES),
        },
    ),
    (
        _SCHEDULERS,
        {
            "num_train_timesteps": (lambda value: _is_count(value, 100_000), "a whole number from 1 to 100,000"),
            "trained_betas": (
                lambda value: value is None or value == [] or _are(lambda beta: _is_number(beta) and 0 <= beta <= 1)(value),
                "a list of numbers from 0 to 1, or null",
            ),
            "original_inference_steps": _COUNT,
            "steps_offset": (lambda value: _is_count(value) or (value == 0 and value is not False), "a whole number from 0 on"),
            "clip_sample_range": (lambda value: value is None or (_is_number(value) and value > 0), "a number above 0, or null"),
            "shift_terminal": (lambda value: value is None or _is_number(value), "a number, or null"),
            **dict.fromkeys((f"use_{levels}_sigmas" for levels in ("karras", "exponential", "beta", "flow")), _FLAG),
        },
    ),
    (
        _ENCODERS,
        {"architectures": (lambda value: value is None or value == [] or _are(_is_text)(value), "a list of names, or null")},
    ),
)
"""Configurations, and what nodes reckon with in them: whether a value can be, and what it must be."""


LEARNED = ("learned", "learned_range")
"""Types of the variance in a scheduler's configuration that say that the denoiser predicts it."""
DOUBLING = frozenset({"ResnetUpsampleBlock2D", "SimpleCrossAttnUpBlock2D"})
"""Blocks on the way up that double their cells, so that an odd number of cells that was halved on the way down does not come back."""


def vae_facts(read: Read) -> dict[str, Any]:
    """`channels` of its latents, `factor`, `space`."""
    config = read("vae/config.json") or read("movq/config.json")
    if config is None and (decoder := read("decoder/config.json")):
        return {"channels": decoder.get("in_channels"), "factor": 1, "space": PIXELS}
    config = config or {}
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
    if config.get("norm_type") == "spatial":
        return f"movq-f{factor}-c{channels}"
    family = family.replace("Asymmetric", "").replace("Autoencoder", "").lower()
    scaling, shift = config.get("scaling_factor", 0.18215), config.get("shift_factor")
    return f"{family}-f{factor}-c{channels}-{scaling:g}" + (f"+{shift:g}" if shift else "")


def encoder_facts(read: Read) -> dict[str, Any]:
    """`network` (its class), `text_width` of its states, and how many `layers` it has."""
    config = read("text_encoder/config.json") or {}
    numbers = {"text_width": config.get("hidden_size"), "layers": config.get("num_hidden_layers")}
    known = {name: value for name, value in numbers.items() if isinstance(value, int) and value}
    return {"network": network, **known} if (network := network_of(config)) else known


def network_of(config: Mapping[str, Any]) -> str | None:
    """The class of an encoder of transformers, as its configuration says; None if it does not."""
    return next(iter(config.get("architectures") or ()), None)


def denoiser_facts(read: Read) -> dict[str, Any]:
    """`network` (its class), `channels` that go in, `latent_channels`, `text_width`, `further` (inputs beside text that nothing
    here makes), `condition` and `embedding_width` (see `_condition`), `distilled` (guidance is an input of it), `width`, `height`,
    `factor`, `multiple` (of so many cells each side is), `space`, `prediction`, `scheduler` (its class) and `most_steps` (it says
    so), and of noise levels that begin very high: `noise` (the first sigma), `leading` (most samplers leave it out), `rescaled`
    (there is no end to it). `unlearned`: the scheduler takes a variance that the denoiser does not predict. `runge_kutta`: it begins
    with such steps.
    """
    config = read("unet/config.json") or read("transformer/config.json") or read("decoder/config.json") or {}
    scheduler = scheduler_config(read, "scheduler") or scheduler_config(read, "decoder_scheduler")
    vae = vae_facts(read)
    condition = _condition(config, read)
    further = (
        name if name == "num_class_embeds" else config[name] for name in _FURTHER_INPUTS if config.get(name) not in (None, "text_proj")
    )
    known = {
        "network": config.get("_class_name"),
        "further": None if condition else next(further, None),
        "channels": config.get("in_channels"),
        "latent_channels": vae.get("channels"),
        "text_width": None if condition.get("condition") == "image" else _text_width(config),
        "factor": vae.get("factor"),
        "multiple": _multiple(config),
        "space": vae.get("space"),
        "distilled": config.get("time_cond_proj_dim") and True,
        "prediction": prediction_of(scheduler),
        **scheduler_facts(scheduler),
        "most_steps": most if isinstance(most := scheduler.get("original_inference_steps"), int) else None,
        "noise": (noise := noise_of(scheduler)),
        "leading": (noise and _leaves_out_the_last(scheduler)) or None,
        "rescaled": scheduler.get("rescale_betas_zero_snr") or None,
        "unlearned": _lacks_variance(config, vae, scheduler) or None,
        "runge_kutta": (scheduler.get("_class_name") == "PNDMScheduler" and not scheduler.get("skip_prk_steps")) or None,
        **condition,
    }
    if (cells := config.get("sample_size")) and vae:
        rows, columns = cells if isinstance(cells, list) else (cells, cells)
        known |= {"width": columns * vae["factor"], "height": rows * vae["factor"]}
    return {name: value for name, value in known.items() if value is not None}


def _lacks_variance(config: Mapping[str, Any], vae: Mapping[str, Any], scheduler: Mapping[str, Any]) -> bool:
    given, wanted = config.get("out_channels"), 2 * vae.get("channels", 0)
    return scheduler.get("variance_type") in LEARNED and bool(wanted) and isinstance(given, int) and given != wanted


def _multiple(config: Mapping[str, Any]) -> int | None:
    blocks = config.get("up_block_types")
    return 2 ** (len(blocks) - 1) if isinstance(blocks, list) and blocks and DOUBLING.issuperset(map(str, blocks)) else None


def scheduler_config(read: Read, part: str) -> Mapping[str, Any]:
    """The configuration of a scheduler. Where the model's index names another one, it is of that class, as in the pipelines."""
    config = (read(f"{part}/{CONFIGS[part]}") if part else None) or {}
    named = (read(INDEX) or {}).get(part)
    if isinstance(named, list) and len(named) == 2 and _is_scheduler(named[1]) and _is_scheduler(config.get("_class_name")):
        return {**config, "_class_name": named[1]}
    return config


def scheduler_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """`scheduler` (its class, as text whatever stands there) and `prediction`; empty without a configuration."""
    return {"scheduler": str(config.get("_class_name")), "prediction": prediction_of(config)} if config else {}


def _is_scheduler(name: Any) -> bool:
    return isinstance(name, str) and name.endswith("Scheduler")


def as_known(config: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of a scheduler, of the class that the facts of its handle say."""
    return {**config, "_class_name": known["scheduler"]} if "scheduler" in known else config


def _condition(config: Mapping[str, Any], read: Read) -> dict[str, Any]:
    """How a denoiser takes image embeddings of `embedding_width`; empty if it takes none.

    `condition` is `projected` (Karlo: into the timestep embedding and extra context tokens), `noised` (Stable unCLIP: noised
    and with the noise level, as class labels) or `image` (Kandinsky 2.2: the embedding alone, without text).
    """
    classes = config.get("class_embed_type")
    if classes == "identity" and (projection := read("text_proj/config.json")):
        return {"condition": "projected", "embedding_width": projection.get("clip_embeddings_dim")}
    if classes == "projection" and (normalizer := read("image_normalizer/config.json")):
        return {"condition": "noised", "embedding_width": normalizer.get("embedding_dim")}
    if config.get("addition_embed_type") == "image" and config.get("encoder_hid_dim_type") == "image_proj":
        return {"condition": "image", "embedding_width": config.get("encoder_hid_dim")}
    return {}


def prediction_of(scheduler: Mapping[str, Any]) -> str:
    """What a denoiser predicts: `epsilon`, `v_prediction`, `sample` or `flow_prediction`."""
    if str(scheduler.get("_class_name", "")).startswith("FlowMatch"):
        return "flow_prediction"
    return str(scheduler.get("prediction_type", "epsilon"))


def noise_of(scheduler: Mapping[str, Any]) -> int | None:
    """The sigma of the last timestep where that is more than MUCH_NOISE, rounded; None if it is less, or not known."""
    count, betas = scheduler.get("num_train_timesteps", 1000), scheduler.get("trained_betas")
    if not isinstance(count, int):
        return None
    if not betas and scheduler.get("beta_schedule") == "squaredcos_cap_v2":
        bar = [math.cos((step / count + 0.008) / 1.008 * math.pi / 2) ** 2 for step in range(count + 1)]
        betas = [min(1 - after / before, 0.999) for before, after in pairwise(bar)]
    signal = math.prod(1 - beta for beta in betas or ())
    sigma = math.sqrt((1 - signal) / signal) if signal > 0 else MUCH_NOISE**2
    return round(sigma) if sigma > MUCH_NOISE else None


def _leaves_out_the_last(scheduler: Mapping[str, Any]) -> bool:
    """Whether samplers are told to begin below the last timestep: of a scheduler that is not spaced, as it clips, the others are."""
    return scheduler.get("timestep_spacing") == "leading" or scheduler.get("_class_name") == "UnCLIPScheduler"


def _text_width(config: Mapping[str, Any]) -> int | None:
    """The text states a denoiser takes; None where blocks differ."""
    width = config.get("encoder_hid_dim") or config.get("cross_attention_dim")
    return width if isinstance(width, int) else None


def classifier_facts(read: Read) -> dict[str, Any]:
    """`classes` that a classifier tells apart, and the `space` of its latents."""
    config = read("config.json") or {}
    return {name: config[name] for name in ("classes", "space") if config.get(name)}
