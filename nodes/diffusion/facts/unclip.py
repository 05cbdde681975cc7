"""The parts of unCLIP models: joint encoders, priors, decoders of image embeddings, upsamplers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .configurations import PIXELS, Read, denoiser_facts, network_of, scheduler_config, scheduler_facts, vae_facts
from .layouts import CONDITIONERS, ENCODERS, SUPER_RESOLUTION, config_path, denoiser_part, part_problem, vae_part

Part = tuple[tuple[str, ...], dict[str, Any]]
"""The folders of a part, the first of which names it, and its facts."""


_OPTIONAL = (*CONDITIONERS, "feature_extractor", "image_processor", "super_res_last")
"""Folders that not every model has."""
HALVING = frozenset({"AttnDownBlock2D", "DownBlock2D", "ResnetDownsampleBlock2D"})
"""Blocks of upsamplers that halve a picture on its way down; an odd number of pixels does not come back on the way up."""


def unclip_parts(files: Iterable[str], read: Read) -> dict[str, Part]:
    """The outputs of `load_unclip`. A part that the model lacks has no folders and the fact `absent`, its name; one whose folders
    lack files has the facts `lacking` and `mend`, what is wrong and what to do."""
    paths = set(files)
    folders = {path.partition("/")[0] for path in paths if "/" in path}
    encoder = next((pair for pair in ENCODERS if pair[0] in folders and is_joint(read(f"{pair[0]}/config.json") or {})), ())
    decoder = denoiser_part(paths)
    prior_scheduler = "prior_scheduler" if decoder or "prior_scheduler" in folders else "scheduler"
    decoder_scheduler = next((part for part in ("scheduler", "decoder_scheduler") if part in folders), "scheduler")
    embedding = joint_facts(read(f"{encoder[0]}/config.json") or {}) if encoder else {}
    found: dict[str, Part] = {
        "encoder": (encoder, embedding),
        "image_encoder": (("image_encoder", "feature_extractor", "image_processor"), joint_facts(read("image_encoder/config.json") or {})),
        "prior": (
            ("prior", prior_scheduler),
            prior_facts(read("prior/config.json") or {}, scheduler_config(read, prior_scheduler)),
        ),
        "ar_prior": (("ar_prior",), prior_facts(read("ar_prior/config.json") or {})),
        "decoder": ((decoder, decoder_scheduler, *CONDITIONERS), denoiser_facts(read)),
        "vae": ((vae_part(paths),), vae_facts(read)),
        "upsampler": (SUPER_RESOLUTION, upsampler_facts(read)),
    }
    return {name: _present(name, paths, folders, *part, pixels=name == "vae" and bool(decoder)) for name, part in found.items()}


def _present(name: str, paths: set[str], folders: set[str], parts: tuple[str, ...], known: dict[str, Any], pixels: bool) -> Part:
    if parts and parts[0] in folders:
        there = tuple(part for part in parts if part in folders)
        if problem := next((problem for part in _needed(parts, paths) if (problem := part_problem(part, paths))), None):
            known = {**known, "lacking": problem[0], "mend": problem[1]}
        return there, known
    return (), known if pixels and known.get("space") == PIXELS else {"absent": name}


def _needed(parts: tuple[str, ...], paths: set[str]) -> list[str]:
    """The folders of a part without which it cannot be used."""
    needed = [part for part in parts if part not in _OPTIONAL or config_path(part) in paths]
    return [*needed, "image_noising_scheduler"] if "image_normalizer" in needed else needed


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
    known = {"embedding_width": width, "space": f"clip-{width}" if width else None, "text_width": states, "network": network_of(config)}
    return {name: value for name, value in known.items() if value is not None}


def prior_facts(config: Mapping[str, Any], scheduler: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`network`, `embedding_width`, and of its scheduler, if it has one, the facts of `scheduler_facts`."""
    known = {"network": config.get("_class_name"), "embedding_width": config.get("embedding_dim"), **scheduler_facts(scheduler or {})}
    return {name: value for name, value in known.items() if value is not None}


def upsampler_facts(read: Read) -> dict[str, Any]:
    """`network`, `scale` (how many times larger the picture becomes), `multiple` (of so many pixels each side then is), and
    of its scheduler the facts of `scheduler_facts`."""
    large, small = (read(f"{part}/config.json") or {} for part in ("super_res_first", "decoder"))
    scale = _quotient(large.get("sample_size"), (small.get("sample_size") or 0) * vae_facts(read).get("factor", 1))
    blocks = large.get("down_block_types")
    halves = isinstance(blocks, list) and blocks and HALVING.issuperset(map(str, blocks))
    known = {"network": large.get("_class_name"), "scale": scale, "multiple": 2 ** (len(blocks) - 1) if halves else None}
    return {name: value for name, value in known.items() if value is not None} | scheduler_facts(
        scheduler_config(read, "super_res_scheduler")
    )


def _quotient(large: Any, small: Any) -> int | None:
    return large // small if isinstance(large, int) and isinstance(small, int) and small and large % small == 0 else None
