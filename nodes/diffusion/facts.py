"""What is known of latent diffusion models from their configurations alone, before any weight is read.

The first half reads a model folder (also for the handles that `load_model` makes); the second half are the facts of the
pack's nodes. Names of facts: `width` and `height` are pixels, `text_width` is the length of one text state, `factor` is
pixels per latent cell, `space` names what can decode a latent.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

from nodegraph.facts import NULL, Facts, Look, Mismatch, differ

Read = Callable[[str], Mapping[str, Any] | None]
"""Reads a JSON file of a model folder by its path inside; None if it has none."""

DENOISERS = ("unet", "transformer", "decoder")
"""Where a denoiser of pictures lies; `decoder` in the layout of Karlo."""
PARTS = ("vae", "text_encoder", "tokenizer", "scheduler")
CONFIGS = {
    **dict.fromkeys(("tokenizer", "prior_tokenizer"), "tokenizer_config.json"),
    **dict.fromkeys(
        ("scheduler", "prior_scheduler", "decoder_scheduler", "super_res_scheduler", "image_noising_scheduler"), "scheduler_config.json"
    ),
    **dict.fromkeys(("feature_extractor", "image_processor"), "preprocessor_config.json"),
}
"""The configuration of a part, where it is not `config.json`."""
CONDITIONERS = ("text_proj", "image_normalizer", "image_noising_scheduler")
"""The parts that turn image embeddings into what a denoiser takes."""
ENCODERS = (("prior_text_encoder", "prior_tokenizer"), ("text_encoder", "tokenizer"))
"""Where the text encoder of a joint space of texts and pictures lies; the first pair that is there."""
SUPER_RESOLUTION = ("super_res_first", "super_res_last", "super_res_scheduler")
INDEX = "model_index.json"
CONFIG_FILES = tuple(
    f"{part}/{CONFIGS.get(part, 'config.json')}"
    for part in (
        *(*DENOISERS, "vae", "movq", "text_encoder", "prior_text_encoder", "image_encoder", "prior", "ar_prior", "super_res_first"),
        *("text_proj", "image_normalizer", "scheduler", "decoder_scheduler", "prior_scheduler", "super_res_scheduler"),
    )
) + (INDEX,)
"""The configurations that facts are read from."""
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")

_STANDS_IN_FOR_OTHERS = ("AutoencoderTiny", "ConsistencyDecoderVAE")
"""VAEs that are made for the latents of another, and do not say of which."""
NETWORK = "UNet2DConditionModel"
"""The class of the denoisers that `sample_latent` drives."""
_FURTHER_INPUTS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "num_class_embeds")
PIXELS = "pixels"
"""The space of denoisers that work on pixels: their latents are the picture in -1..1."""

FIXED_SIGMAS = frozenset({"ddim", "ddpm", "euler_ancestral", "lcm", "pndm", "tcd"})
"""Samplers whose noise levels cannot be respaced by `sigmas`."""
RESPACED = frozenset({
    "DEISMultistepScheduler", "DPMSolverMultistepInverseScheduler", "DPMSolverMultistepScheduler", "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler", "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler",
    "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "LMSDiscreteScheduler", "SASolverScheduler",
    "UniPCMultistepScheduler",
})  # fmt: skip
"""The schedulers of diffusers whose noise levels can be respaced by `sigmas`."""
DISTILLED_STEPS = {"lcm": "LCMScheduler", "tcd": "TCDScheduler"}
"""Samplers that take no more steps than the models for them were distilled to, and their schedulers, which may say how many."""
FLOW_SAMPLERS = frozenset({"default", "dpm++_2m", "dpm++_2m_sde", "euler", "heun", "unipc"})
"""Samplers that also integrate flow-matching models (that of deis in diffusers 0.42 stops before the last noise is gone)."""
FLOW_SIGMAS = {"dpm++_2m": (), "dpm++_2m_sde": (), "heun": (), "unipc": ("karras",)}
"""Of these the samplers that respace the noise levels of a flow-matching model in no way, or in one: those of diffusers 0.42 give NaN,
as they take the levels for those of another process."""
NO_SAMPLE_PREDICTION = {
    "dpm++_sde": "DPMSolverSDEScheduler",
    "dpm2": "KDPM2DiscreteScheduler",
    "dpm2_ancestral": "KDPM2AncestralDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "pndm": "PNDMScheduler",
}
"""Samplers that cannot use a model that predicts the clean sample, and their schedulers."""


MUCH_NOISE = 1000.0
"""Above this, the first noise level (sigma) is further from all others than those are from each other."""
FROM_MUCH_NOISE = {"heun": ("karras", "exponential"), "dpm2_ancestral": ("exponential",)}
"""Samplers that lose the picture in one long step from there, and the spacings in which the step is short enough for them."""
HALF_STEPS, LEAST_STEPS = ("heun", "dpm2", "dpm2_ancestral"), 20
"""Samplers that look ahead into each step, and how many such steps a spacing over all of those levels takes."""
CLIPPING = ("default", "ddim", "ddpm", "lcm")
"""Samplers that keep the estimate of a clean picture in its range, if the model's configuration says so."""
NOT_SPACED = ("dpm++_2s", "lcm", "tcd")
"""Samplers that begin at the last timestep, whatever they are told."""
RESCALED = ("dpm++_2m", "dpm++_2m_sde", "euler", "unipc")
"""Samplers that follow `rescale_betas_zero_snr`; the others keep the noise levels without it."""


# --- model folders -------------------------------------------------------------------


def denoiser_part(files: Iterable[str]) -> str:
    """The folder of the denoiser; empty if there is none."""
    return _first_part(files, DENOISERS)


def vae_part(files: Iterable[str]) -> str:
    """The folder of the autoencoder; empty if there is none."""
    return _first_part(files, ("vae", "movq"))


def scheduler_part(files: Iterable[str]) -> str:
    """The folder of the scheduler that goes with the denoiser, or the prior, in these files; empty if there is none."""
    return _first_part(files, ("scheduler", "decoder_scheduler", "prior_scheduler", "super_res_scheduler"))


def _first_part(files: Iterable[str], parts: Iterable[str]) -> str:
    folders = {path.partition("/")[0] for path in files}
    return next((part for part in parts if part in folders), "")


def layout_problem(files: Iterable[str]) -> tuple[str, str] | None:
    """What keeps a folder from being a usable model, as (text, fix); None if it has every part as safetensors."""
    paths = set(files)
    if "model_index.json" not in paths:
        pickle = next((path for path in sorted(paths) if path.endswith((*PICKLES, ".safetensors"))), "")
        found = f"; it has {pickle!r}, a single-file checkpoint" if pickle and "/" not in pickle else ""
        return f"the model is not in the diffusers folder layout: it has no 'model_index.json'{found}", "convert it with diffusers"
    denoiser = denoiser_part(paths)
    if not denoiser:
        fix = "open it with load_unclip" if "prior/config.json" in paths else "copy the whole model folder"
        return "the model has no denoiser: neither 'unet/' nor 'transformer/' is there", fix
    if denoiser == "decoder":
        return "the model is in the layout of Karlo: its denoiser is the decoder of an unCLIP", "open it with load_unclip"
    for part in (denoiser, *PARTS):
        if problem := _part_problem(part, paths):
            return problem
    return None


def _part_problem(part: str, paths: set[str]) -> tuple[str, str] | None:
    config = f"{part}/{CONFIGS.get(part, 'config.json')}"
    if config not in paths:
        return f"the model has no {part}: {config!r} is not there", "copy the whole model folder"
    if "tokenizer" in part:
        return vocabulary_problem(part, paths)
    return None if part in CONFIGS else weights_problem(part, "model" if part == "text_encoder" else "diffusion_pytorch_model", paths)


def weights_variants(part: str, stem: str, files: Iterable[str]) -> list[str]:
    """Which weights a part has: empty for `stem.safetensors`, `fp16` for `stem.fp16.safetensors`. Either may be in shards."""
    pattern = re.compile(rf"{part}/{stem}(?:\.(?P<one>\w+))?\.safetensors(?:\.index(?:\.(?P<shards>\w+))?\.json)?")
    return [match["one"] or match["shards"] or "" for path in files if (match := pattern.fullmatch(path))]


def weights_problem(part: str, stem: str, files: Iterable[str]) -> tuple[str, str] | None:
    """Why the weights of a part cannot be read, as (text, fix); None if there are some as safetensors."""
    own = sorted(path for path in files if path.startswith(f"{part}/"))
    if weights_variants(part, stem, own):
        return None
    if pickle := next((path for path in own if path.endswith(PICKLES)), ""):
        return f"{pickle!r} is a pickle, which may run any code and is never read", "convert it to safetensors"
    other = next((path for path in own if path.endswith(".safetensors")), "")
    fix = f"call {other!r} so, if it holds them" if other else "copy the whole model folder"
    return f"the {part} of the model has no weights: there is no {part}/{stem}.safetensors", fix


def config_problem(read: Read) -> tuple[str, str] | None:
    """What stands in the configurations of a model and cannot be, as (text, fix): numbers that nodes reckon with."""
    for paths, wanted in _NUMBERS:
        for path in paths:
            config = read(path) or {}
            for name, (fits, words) in wanted.items():
                if name in config and not fits(config[name]):
                    said = json.dumps(config[name])
                    text = f"{path!r} of the model says {name!r} is {said if len(said) <= 40 else said[:39] + '…'}; it must be {words}"
                    return text, "copy the model folder again"
    for path in _SCHEDULERS:
        betas, count = (config := read(path) or {}).get("trained_betas"), config.get("num_train_timesteps", 1000)
        if betas and len(betas) < count:
            return (
                f"{path!r} of the model has {len(betas)} 'trained_betas' for {count} 'num_train_timesteps'",
                "copy the model folder again",
            )
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any, most: int = 1_000_000) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _are(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and bool(value) and all(map(fits, value))


_SCHEDULERS = tuple(f"{part}/{config}" for part, config in CONFIGS.items() if "scheduler" in part)
_COUNT = (_is_count, "a whole number from 1 on")
_BLOCKS = (_are(_is_count), "a list of whole numbers from 1 on")
_NUMBERS: tuple[tuple[tuple[str, ...], dict[str, tuple[Callable[[Any], bool], str]]], ...] = (
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
        _SCHEDULERS,
        {
            "num_train_timesteps": (lambda value: _is_count(value, 100_000), "a whole number from 1 to 100,000"),
            "trained_betas": (
                lambda value: value is None or value == [] or _are(lambda beta: _is_number(beta) and 0 <= beta <= 1)(value),
                "a list of numbers from 0 to 1, or null",
            ),
        },
    ),
)
"""Configurations, and what nodes reckon with in them: whether a value can be, and what it must be."""


def vocabulary_problem(part: str, files: Iterable[str]) -> tuple[str, str] | None:
    """What a tokenizer lacks, as (text, fix); None if its words are there. Without them, transformers takes every text for unknown."""
    if {f"{part}/tokenizer.json"} <= (paths := set(files)) or {f"{part}/vocab.json", f"{part}/merges.txt"} <= paths:
        return None
    text = f"the {part} of the model has no words: there is no {part}/tokenizer.json, nor vocab.json and merges.txt in its place"
    return text, "copy the whole model folder"


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
    """`text_width` of its states, and how many `layers` it has."""
    config = read("text_encoder/config.json") or {}
    known = {"text_width": config.get("hidden_size"), "layers": config.get("num_hidden_layers")}
    return {name: value for name, value in known.items() if isinstance(value, int) and value}


def denoiser_facts(read: Read) -> dict[str, Any]:
    """`network` (its class), `channels` that go in, `latent_channels`, `text_width`, `further` (inputs beside text that nothing
    here makes), `condition` and `embedding_width` (see `_condition`), `distilled` (guidance is an input of it), `width`, `height`,
    `factor`, `space`, `prediction`, `scheduler` (its class) and `most_steps` (it says so), and of noise levels that begin very high:
    `noise` (the first sigma), `leading` (most samplers leave it out), `rescaled` (there is no end to it).
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
        "space": vae.get("space"),
        "distilled": config.get("time_cond_proj_dim") and True,
        "prediction": prediction_of(scheduler),
        "scheduler": scheduler.get("_class_name"),
        "most_steps": most if isinstance(most := scheduler.get("original_inference_steps"), int) else None,
        "noise": (noise := noise_of(scheduler)),
        "leading": (noise and _leaves_out_the_last(scheduler)) or None,
        "rescaled": scheduler.get("rescale_betas_zero_snr") or None,
        **condition,
    }
    if (cells := config.get("sample_size")) and vae:
        rows, columns = cells if isinstance(cells, list) else (cells, cells)
        known |= {"width": columns * vae["factor"], "height": rows * vae["factor"]}
    return {name: value for name, value in known.items() if value is not None}


def scheduler_config(read: Read, part: str) -> Mapping[str, Any]:
    """The configuration of a scheduler. Where the model's index names another one, it is of that class, as in the pipelines."""
    config = (read(f"{part}/{CONFIGS[part]}") if part else None) or {}
    named = (read(INDEX) or {}).get(part)
    if isinstance(named, list) and len(named) == 2 and _is_scheduler(named[1]) and _is_scheduler(config.get("_class_name")):
        return {**config, "_class_name": named[1]}
    return config


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


# --- parts of unCLIP -------------------------------------------------------------------

Part = tuple[tuple[str, ...], dict[str, Any]]
"""The folders of a part, the first of which names it, and its facts."""


def unclip_parts(files: Iterable[str], read: Read) -> dict[str, Part]:
    """The outputs of `load_unclip`. A part that the model lacks has no folders and the fact `absent`, its name."""
    folders = {path.partition("/")[0] for path in files if "/" in path}
    encoder = next((pair for pair in ENCODERS if pair[0] in folders and is_joint(read(f"{pair[0]}/config.json") or {})), ())
    decoder = denoiser_part(files)
    prior_scheduler = next((part for part in ("prior_scheduler", "" if decoder else "scheduler") if part in folders), "")
    embedding = joint_facts(read(f"{encoder[0]}/config.json") or {}) if encoder else {}
    found: dict[str, Part] = {
        "encoder": (encoder, embedding),
        "image_encoder": (("image_encoder", "feature_extractor", "image_processor"), joint_facts(read("image_encoder/config.json") or {})),
        "prior": (
            ("prior", prior_scheduler),
            prior_facts(read("prior/config.json") or {}, scheduler_config(read, prior_scheduler)),
        ),
        "ar_prior": (("ar_prior",), prior_facts(read("ar_prior/config.json") or {})),
        "decoder": ((decoder, "scheduler", "decoder_scheduler", *CONDITIONERS), denoiser_facts(read)),
        "vae": ((vae_part(files),), vae_facts(read)),
        "upsampler": (SUPER_RESOLUTION, upsampler_facts(read)),
    }
    return {name: _present(name, folders, *part, pixels=name == "vae" and bool(decoder)) for name, part in found.items()}


def _present(name: str, folders: set[str], parts: tuple[str, ...], known: dict[str, Any], pixels: bool) -> Part:
    if parts and parts[0] in folders:
        return tuple(part for part in parts if part in folders), known
    return (), known if pixels and known.get("space") == PIXELS else {"absent": name}


def unclip_problem(parts: Mapping[str, Part]) -> tuple[str, str] | None:
    """Why a folder is no model of unCLIP, as (text, fix); None if it has something of one."""
    if any(parts[name][0] for name in ("prior", "ar_prior", "image_encoder", "upsampler")) or "condition" in parts["decoder"][1]:
        return None
    return "the model has no part of unCLIP: no prior, no image encoder, no decoder of image embeddings", "open it with load_model"


def is_joint(config: Mapping[str, Any]) -> bool:
    """Whether a text encoder projects into a space that it shares with pictures."""
    return "CLIPTextModel" not in (config.get("architectures") or ())


def joint_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """`embedding_width` and `space` of an encoder's embeddings, `text_width` of its states if it has any."""
    width = config.get("projection_dim")
    states = config.get("hidden_size") if "vocab_size" in config else None
    known = {"embedding_width": width, "space": f"clip-{width}" if width else None, "text_width": states}
    return {name: value for name, value in known.items() if value is not None}


def prior_facts(config: Mapping[str, Any], scheduler: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`network`, `embedding_width`, and the class of its `scheduler`, if it has one."""
    known = {"network": config.get("_class_name"), "embedding_width": config.get("embedding_dim")}
    known["scheduler"] = (scheduler or {}).get("_class_name")
    return {name: value for name, value in known.items() if value is not None}


def upsampler_facts(read: Read) -> dict[str, Any]:
    """`network`, and `scale`: how many times larger the picture becomes."""
    large, small = (read(f"{part}/config.json") or {} for part in ("super_res_first", "decoder"))
    scale = _quotient(large.get("sample_size"), (small.get("sample_size") or 0) * vae_facts(read).get("factor", 1))
    known = {"network": large.get("_class_name"), "scale": scale}
    return {name: value for name, value in known.items() if value is not None}


def _quotient(large: Any, small: Any) -> int | None:
    return large // small if isinstance(large, int) and isinstance(small, int) and small and large % small == 0 else None


def classifier_facts(read: Read) -> dict[str, Any]:
    """`classes` that a classifier tells apart, and the `space` of its latents."""
    config = read("config.json") or {}
    return {name: config[name] for name in ("classes", "space") if config.get(name)}


# --- rules that nodes share ------------------------------------------------------------


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


def absent_problem(facts: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why a part of `load_unclip` cannot be used, as (text, fix); None if it is there."""
    if part := facts.get("absent"):
        return f"the model has no {part.replace('_', ' ')}", "take it from a model that has one"
    return None


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
    nearest = [max(factor, round(size / factor) * factor) for size in (width, height)]
    text = f"{width}×{height} is not in multiples of {factor}, the pixels of one latent cell of this model"
    return text, f"use {nearest[0]}×{nearest[1]}, the nearest size"


def sampler_problem(sampler: str, sigmas: str, prediction: str, scheduler: str = "") -> tuple[str, str, str] | None:
    """Why a sampler cannot be used, as (port, text, fix); None if it can. An empty argument is unknown. `scheduler`: the model's own."""
    if sampler == "default" and sigmas not in ("", "default") and scheduler and scheduler not in RESPACED:
        return "sigmas", f"{scheduler} has its own noise levels and takes no {sigmas!r} ones", "use sigmas 'default'"
    if sampler in FIXED_SIGMAS and sigmas not in ("", "default"):
        return "sigmas", f"the sampler {sampler!r} has its own noise levels and takes no {sigmas!r} ones", "use sigmas 'default'"
    if prediction == "flow_prediction" and sampler and sampler not in FLOW_SAMPLERS:
        choices = ", ".join(map(repr, sorted(FLOW_SAMPLERS)))
        return "sampler", f"the sampler {sampler!r} cannot integrate a flow-matching model", f"use one of {choices}"
    if prediction == "flow_prediction" and sigmas not in ("", "default", *FLOW_SIGMAS.get(sampler, (sigmas,))):
        text = f"the sampler {sampler!r} cannot respace the noise levels of a flow-matching model as {sigmas!r} ones"
        return "sigmas", text, "use sigmas 'default', or the sampler 'euler'"
    unable = sampler in NO_SAMPLE_PREDICTION or (sampler == "default" and scheduler in NO_SAMPLE_PREDICTION.values())
    if prediction == "sample" and unable:
        return "sampler", f"the sampler {sampler!r} cannot use a model that predicts the clean sample", "use 'ddim'"
    return None


def noise_problem(
    model: Mapping[str, Any], sampler: str, sigmas: str, steps: Any = None, whole: bool = True
) -> tuple[str, str, str] | None:
    """Why a sampler cannot begin where a model does, as (port, text, fix); None if it can. An empty argument, and steps of None, are
    unknown; `whole`: whether it begins at the first step."""
    begins_there = model.get("noise") and (not model.get("leading") or sampler in NOT_SPACED)
    if not begins_there and not (model.get("rescaled") and sampler in RESCALED):
        return None
    begins = f"the noise levels of this model begin at {model['noise']:,}" if model.get("noise") else "this model begins with noise alone"
    if sigmas == "beta":
        return "sigmas", f"{begins}, and 'beta' ones then leave out those in which the picture is made", "use sigmas 'default'"
    if not whole:
        return None
    if model.get("prediction") == "epsilon" and sigmas in ("", "default") and sampler not in ("", *CLIPPING):
        text = f"{begins}, where the noise that it predicts says nothing of the picture, and {sampler!r} does not clip"
        return "sampler", text, "use sigmas 'karras', or the sampler 'ddpm'" if sampler not in FIXED_SIGMAS else "use the sampler 'ddpm'"
    if sampler not in HALF_STEPS:
        return None
    spacings = FROM_MUCH_NOISE.get(sampler, ("default", "karras", "exponential"))
    if sigmas and sigmas not in spacings:
        fix = f"use sigmas {spacings[-1]!r} with {LEAST_STEPS} steps or more, or another sampler, such as 'dpm++_2m'"
        return "sampler", f"{begins}, from where a step of {sampler!r} with {sigmas!r} sigmas loses the picture", fix
    if sigmas not in ("", "default") and isinstance(steps, int) and steps < LEAST_STEPS:
        text = f"{begins}, from where {steps} steps of {sampler!r} with {sigmas!r} sigmas are too long"
        return "steps", text, f"use {LEAST_STEPS} steps or more, or another sampler, such as 'dpm++_2m'"
    return None


def count_problem(model: Mapping[str, Any], sampler: str, steps: int) -> tuple[str, str, str] | None:
    """Why a sampler cannot take so many steps, as (port, text, fix); None if it can, or if that is not known."""
    own = model.get("scheduler")
    family = DISTILLED_STEPS.get(sampler, own if sampler == "default" else None)
    if family == "UnCLIPScheduler" and steps < 2:
        return "steps", *TWO_STEPS
    most = model.get("most_steps", 50)  # of those whose scheduler does not say
    if family in DISTILLED_STEPS.values() and steps > most and (own == family or "most_steps" not in model):
        return "steps", f"the sampler {sampler!r} takes at most {most} steps, as models for it were distilled to", f"use at most {most}"
    return None


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
    """Why so many texts cannot go with so many latents, as (text, fix); None if they can."""
    if texts in (1, count):
        return None
    fix = f"give 1 text or {count}" if count > 1 else f"give 1 text, or {texts} latents, as by the batch of empty_latent"
    return f"{texts} texts cannot go with {count} latent{'s' * (count > 1)}", fix


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


NOT_OF_DDIM = ("the model's noise levels are not those of DDIM", "use a model that predicts noise or velocity")
"""Why the steps of a scheduler cannot be inverted, as (text, fix)."""
TWO_STEPS = ("the scheduler of this model spaces its steps between two ends", "use at least 2 steps")
"""What is wrong with one step of UnCLIPScheduler, as (text, fix)."""
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


def pixels_problem(space: str) -> tuple[str, str]:
    """Why a latent of a space cannot be enlarged, as (text, fix)."""
    return f"the latent is of the space {space!r}, not of pixels", "decode it first, with decode_latent"


NO_TEXT = ("there is no text to encode", "give at least one, which may be empty")
"""What is wrong with an empty list of texts, as (text, fix)."""


def first_of_strength(steps: int, strength: float) -> int:
    """The first step of `steps` when a picture is changed with a strength in 0..1, rounded as the pipelines do."""
    return steps - min(int(steps * strength), steps)


def steps_problem(steps: int, strength: float = 1.0, start: int = 0, end: int | None = None) -> tuple[str, str, str] | None:
    """Why there is no step to take, as (port, text, fix); None if there is one. Without an end the last step is the last."""
    if start and strength < 1:
        return "start", f"start {start} and strength {strength:g} both say where to begin", "leave one of them out"
    last = steps if end is None else end
    if last > steps:
        return "end", f"end {last} is after the last of {steps} steps", f"use at most {steps}"
    first = start or first_of_strength(steps, strength)
    if first >= steps and strength < 1:
        least = math.ceil(1e4 / steps) / 1e4
        return "strength", f"strength {strength:g} of {steps} steps is not one step", f"use at least {least:g}"
    if first < last:
        return None
    port, fix = ("start", f"use at most {last - 1}") if start else ("end", f"use at least {first + 1}")
    return port, f"there is no step from {first} to {last}", fix


# --- prompts ---------------------------------------------------------------------------

Piece = tuple[str, float]
"""A stretch of a prompt and its weight."""

ROUND, SQUARE = 1.1, 1 / 1.1
MOST_WEIGHT = 1e6
"""The largest weight, of either sign: beyond it come numbers that float32 does not hold."""
_TOKEN = re.compile(r"\\[()\[\]\\]|\\|[(\[\])]|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|:|[^\\()\[\]:]+")
_CLOSES = {")": "(", "]": "["}


class WrongPrompt(ValueError):
    """A prompt cannot be read; `fix` says what would do."""

    def __init__(self, text: str, fix: str):
        super().__init__(text)
        self.fix = fix


def read_prompt(prompt: str) -> list[Piece]:
    """The prompt as pieces of one weight each, in order; nested weights multiply. The language is that of `prompts`.

    Raises WrongPrompt where brackets do not pair, and for weights beyond MOST_WEIGHT.
    """
    pieces: list[Piece] = []
    opened: list[tuple[str, int, int]] = []  # bracket, its place in the prompt, pieces before it
    for match in _TOKEN.finditer(prompt):
        text, weight = match.group(), match.group(1)
        if text in ("(", "["):
            opened.append((text, match.start(), len(pieces)))
        elif text in _CLOSES or weight:
            bracket, _, first = opened.pop() if opened else ("", 0, 0)
            if bracket != ("(" if weight else _CLOSES[text]):
                raise _unpaired(prompt, match.end() - 1)
            factor = float(weight) if weight else (ROUND if bracket == "(" else SQUARE)
            pieces[first:] = [(words, old * factor) for words, old in pieces[first:]]
        else:
            pieces.append((text[1:] if len(text) > 1 and text[0] == "\\" else text, 1.0))
    if opened:
        raise _unpaired(prompt, opened[-1][1])
    if beyond := next((piece for piece in pieces if abs(piece[1]) > MOST_WEIGHT), None):
        words, weight = beyond
        raise WrongPrompt(f"{words[:20]!r} has the weight {weight:g}", f"use {MOST_WEIGHT:,.0f} at most; 1.4 is much already")
    return _merged(pieces)


def _merged(pieces: Iterable[Piece]) -> list[Piece]:
    """Neighbours of one weight as one piece."""
    merged: list[Piece] = []
    for text, weight in pieces:
        if merged and merged[-1][1] == weight:
            text = merged.pop()[0] + text
        merged.append((text, weight))
    return merged


def _unpaired(prompt: str, place: int) -> WrongPrompt:
    bracket = prompt[place]
    return WrongPrompt(
        f"the bracket {bracket!r} at character {place + 1} of the prompt has no partner: {prompt[max(0, place - 20) : place + 20]!r}",
        f"close it, write \\{bracket} if it is meant as such, or set emphasis to false",
    )


# --- nodes -----------------------------------------------------------------------------

NOTHING = Facts()
_BEGINNING = ("empty", "inpaint", "edit")
"""Facts of a latent that nothing was painted on yet, or not to the end."""
_PICTURE = ("width", "height", "batch")
"""The facts of a picture, which its latent has too."""


def load_model(look: Look, name: Facts) -> dict[str, Facts] | Mismatch:
    model = name.get("value")
    if not isinstance(model, str):
        return {}

    def read(path: str) -> Mapping[str, Any] | None:
        return look.json(model, path)

    if problem := layout_problem(look.files(model)) or config_problem(read):
        return Mismatch("name", *problem)
    return {"denoiser": Facts(**denoiser_facts(read)), "vae": Facts(**vae_facts(read)), "encoder": Facts(**encoder_facts(read))}


def load_unclip(look: Look, name: Facts) -> dict[str, Facts] | Mismatch:
    model = name.get("value")
    if not isinstance(model, str):
        return {}

    def read(path: str) -> Mapping[str, Any] | None:
        return look.json(model, path)

    if problem := config_problem(read) or unclip_problem(parts := unclip_parts(look.files(model), read)):
        return Mismatch("name", *problem)
    return {output: Facts(**known) for output, (_, known) in parts.items()}


def encode_text(encoder: Facts, text: Facts = NOTHING, clip_skip: Facts = NOTHING, emphasis: Facts = NOTHING) -> Facts | Mismatch:
    if wrong := _absent(encoder=encoder) or _no_text(text):
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
    return _absent(encoder=encoder) or _no_text(text) or {"conditioning": conditioning, "embedding": Facts(**known)}


def encode_clip_image(encoder: Facts) -> Facts | Mismatch:
    return _absent(encoder=encoder) or Facts(embedding_width=encoder.get("embedding_width"), space=encoder.get("space"))


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
    rows = {"projected": (embedding, caption, negative), "noised": (embedding, caption), "image": (embedding, negative_embedding)}
    made = Facts(condition=kind, text_width=decoder.get("text_width"), batch=_greatest(*rows[kind]) if kind in rows else None)
    left_out = kind and (negative_embedding if kind == "image" else negative).null
    return {"positive": made, "negative": NULL if left_out else made, "rng": Facts(batch=draws)}


def _greatest(*given: Facts) -> int | None:
    """The batch of what is made of several, those that are null aside; None if one is not known."""
    batches = [facts.get("batch") for facts in given if not facts.null]
    return None if None in batches else max([1, *batches])


def upsample_diffusion(upsampler: Facts, image: Facts, seed: Facts = NOTHING) -> dict[str, Facts] | Mismatch:
    if differ(image.get("space"), PIXELS):
        return Mismatch("image", *pixels_problem(image["space"]))
    if wrong := _seeds(seed, image.get("batch")):
        return wrong
    scale = upsampler.get("scale")
    size = {side: image[side] * scale for side in ("width", "height") if scale and side in image}
    return _absent(upsampler=upsampler) or {"image": Facts(batch=image.get("batch"), **size)}


def load_classifier(look: Look, name: Facts) -> Facts:
    model = name.get("value")
    return Facts(**classifier_facts(lambda path: look.json(model, path))) if isinstance(model, str) else Facts()


def guide_by_class(classifier: Facts, label: Facts) -> Facts | Mismatch:
    if isinstance(wanted := label.get("value"), str) and (problem := label_problem(classifier, wanted)):
        return Mismatch("label", *problem)
    return Facts(space=classifier.get("space"))


def interpolate_embeddings(first: Facts, second: Facts) -> Facts | Mismatch:
    return _unlike(first, second=second) or Facts(**first)


def shift_embedding(embedding: Facts, source: Facts, target: Facts) -> Facts | Mismatch:
    return _unlike(embedding, source=source, target=target) or Facts(**embedding)


def rank_by_similarity(embedding: Facts, target: Facts) -> dict[str, Facts] | Mismatch:
    return _unlike(embedding, target=target) or {}


def rerank(image: Facts, embedding: Facts, target: Facts, count: Facts) -> dict[str, Facts] | Mismatch:
    kept = Facts(batch=count.get("value"), width=image.get("width"), height=image.get("height"))
    return _unlike(embedding, target=target) or {"image": kept}


def empty_latent(model: Facts, width: Facts, height: Facts, batch: Facts) -> Facts | Mismatch:
    size = {"width": width.get("value") or model.get("width"), "height": height.get("value") or model.get("height")}
    if misfit := _misfit("width", size, model.get("factor")):
        return misfit
    return Facts(empty=True, channels=model.get("latent_channels"), space=model.get("space"), batch=batch.get("value"), **size)


def encode_image(vae: Facts, image: Facts, seed: Facts = NOTHING) -> dict[str, Facts] | Mismatch:
    return _misfit("image", image, vae.get("factor")) or _seeds(seed, image.get("batch")) or {"latent": _latent_of(vae, image)}


def encode_inpaint(
    model: Facts, vae: Facts, image: Facts, mask: Facts = NOTHING, seed: Facts = NOTHING, strength: Facts = NOTHING
) -> dict[str, Facts] | Mismatch:
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
    return _misfit("image", image, vae.get("factor")) or Facts(edit=True, empty=True, **_latent_of(vae, image))


def invert_ddim(
    model: Facts, positive: Facts, negative: Facts, latent: Facts, steps: Facts, guidance: Facts, strength: Facts
) -> dict[str, Facts] | Mismatch:
    if problem := invert_problem(model):
        return Mismatch("model", *problem)
    given = Facts(**{name: fact for name, fact in latent.items() if name not in _BEGINNING})  # it goes back to noise from anything
    return sample_latent(model, positive, negative, given, NOTHING, NOTHING, NOTHING, steps, strength, guidance=guidance)


def decode_latent(vae: Facts, latent: Facts) -> Facts | Mismatch:
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
    if differ(model.get("space"), guide.get("space")):
        return _space_mismatch("guide", f"the classifier knows latents of the space {guide['space']!r}", model)
    if problem := sampler_problem(
        sampler.get("value", ""), sigmas.get("value", ""), model.get("prediction", ""), model.get("scheduler", "")
    ):
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
    first = start.get("value") or (first_of_strength(count, taken["strength"]) if count and "strength" in taken else 0)
    if latent.get("empty") and (first or add_noise.get("value") is False):
        return Mismatch("latent", *empty_problem(first, count))
    finished = end.null or (count is not None and end.get("value") == count)
    lost = _BEGINNING if finished else ("empty",)
    return {"latent": Facts(**{name: fact for name, fact in latent.items() if name not in lost})}


def _is_guided(model: Facts, image_guidance: Facts) -> bool:
    """Whether guidance above 1 takes a negative conditioning, as far as is known."""
    taken, given = model.get("channels"), model.get("latent_channels")
    edits = taken is None or given is None or taken == 2 * given
    return bool(model) and "distilled" not in model and (not edits or image_guidance.get("value", 0) >= 1)


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


def _unlike(first: Facts, **others: Facts) -> Mismatch | None:
    for port, other in others.items():
        if differ(first.get("embedding_width"), other.get("embedding_width")):
            text = f"this embedding is {other['embedding_width']} wide, the other {first['embedding_width']}"
            return Mismatch(port, text, "encode both with the encoders of one model")
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


def _latent_of(vae: Facts, image: Facts) -> Facts:
    return Facts(channels=vae.get("channels"), space=vae.get("space"), **{name: image.get(name) for name in _PICTURE})
