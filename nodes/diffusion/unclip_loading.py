"""The further parts of unCLIP models, for `run.use`: joint encoders, priors, projections, upsamplers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nodegraph import Files, Invalid

from .facts.layouts import CONFIGS, ENCODERS
from .facts.rules import IMAGE_ENCODER, JOINT_ENCODER
from .loading import gathered, load_encoder, load_part, load_weights, read_config, readable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diffusers import PriorTransformer, UNet2DModel
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
    from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    from .ar_prior import ArPrior


def load_joint_encoder(files: Files, device: str, dtype: str) -> CLIPTextModelWithProjection:
    """The text encoder of a joint space. Raises Invalid for one that is not CLIP's."""
    part = next((part for part, _ in ENCODERS if f"{part}/config.json" in files), "text_encoder")
    return load_encoder(files, part, JOINT_ENCODER, device, dtype)


def load_image_encoder(files: Files, device: str, dtype: str) -> CLIPVisionModelWithProjection:
    return load_encoder(files, "image_encoder", IMAGE_ENCODER, device, dtype)


def load_image_processor(files: Files, device: str, dtype: str) -> Any:
    """What makes pixel values of pictures: the model's own, or CLIP's at the size of the image encoder."""
    from transformers import CLIPImageProcessorPil

    for part in ("feature_extractor", "image_processor"):
        if f"{part}/{CONFIGS[part]}" in files:
            with gathered(files, part) as folder, readable(f"the model's {part}", str(folder), part):
                return CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    size = read_config(files, "image_encoder").get("image_size", 224)
    return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def load_prior(files: Files, device: str, dtype: str) -> PriorTransformer | ArPrior:
    """The diffusion prior, or the autoregressive one if its files are given."""
    if "ar_prior/config.json" not in files:
        return load_part(files, "prior", device, dtype)
    from .ar_prior import ArPrior

    return load_weights(files, "ar_prior", ArPrior, "diffusion_pytorch_model", device, dtype)


class Conditioner(NamedTuple):
    """What turns image embeddings into the input of a decoder; `projection` of Karlo, the other two of Stable unCLIP."""

    projection: UnCLIPTextProjModel | None
    normalizer: Any
    noising: Mapping[str, Any]


def load_conditioner(files: Files, device: str, dtype: str) -> Conditioner:
    """The parts there are, each None or empty where the model has none."""
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

    def loaded(part: str, cls: Any) -> Any:
        return load_weights(files, part, cls, "diffusion_pytorch_model", device, dtype) if f"{part}/config.json" in files else None

    noising = "image_noising_scheduler"
    return Conditioner(
        loaded("text_proj", UnCLIPTextProjModel),
        loaded("image_normalizer", StableUnCLIPImageNormalizer),
        read_config(files, noising) if f"{noising}/{CONFIGS[noising]}" in files else {},
    )


class SuperResolution(NamedTuple):
    """A diffusion upsampler: `last` takes the last step, `first` the others; `scheduler` is a configuration."""

    first: UNet2DModel
    last: UNet2DModel
    scheduler: Mapping[str, Any]


def load_super_resolution(files: Files, device: str, dtype: str) -> SuperResolution:
    """Without a network of its own for the last step, the first takes it too."""
    first = load_part(files, "super_res_first", device, dtype)
    last = load_part(files, "super_res_last", device, dtype) if "super_res_last/config.json" in files else first
    if first.config.in_channels != 2 * first.config.out_channels:
        text = f"the upsampler takes {first.config.in_channels} channels and gives {first.config.out_channels}"
        raise Invalid(f"{text}: it is not conditioned on a picture", port="upsampler")
    return SuperResolution(first, last, read_config(files, "super_res_scheduler"))
