"""Where the parts of a model lie in its folder, and what a folder lacks."""

from __future__ import annotations

import re
from collections.abc import Iterable

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
        *("text_proj", "image_normalizer", "image_noising_scheduler"),
        *("scheduler", "decoder_scheduler", "prior_scheduler", "super_res_scheduler"),
    )
) + (INDEX,)
"""The configurations that facts are read from."""
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


def config_path(part: str) -> str:
    """Where the configuration of a part lies in the model."""
    return f"{part}/{CONFIGS.get(part, 'config.json')}"


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
        if problem := part_problem(part, paths):
            return problem
    return None


def part_problem(part: str, paths: set[str]) -> tuple[str, str] | None:
    """What the folder of a part lacks, as (text, fix); None if it has its configuration, and its weights or words."""
    if (config := config_path(part)) not in paths:
        return f"the model has no {part}: {config!r} is not there", "copy the whole model folder"
    if "tokenizer" in part:
        return vocabulary_problem(part, paths)
    return None if part in CONFIGS else weights_problem(part, "model" if part.endswith("encoder") else "diffusion_pytorch_model", paths)


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


def vocabulary_problem(part: str, files: Iterable[str]) -> tuple[str, str] | None:
    """What a tokenizer lacks, as (text, fix); None if its words are there. Without them, transformers takes every text for unknown."""
    if {f"{part}/tokenizer.json"} <= (paths := set(files)) or {f"{part}/vocab.json", f"{part}/merges.txt"} <= paths:
        return None
    text = f"the {part} of the model has no words: there is no {part}/tokenizer.json, nor vocab.json and merges.txt in its place"
    return text, "copy the whole model folder"
