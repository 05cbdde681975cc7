"""Tiny unCLIP models with random weights, as folders of each public layout: Karlo, Kandinsky 2.2, Stable unCLIP.

Embeddings are 32 wide, prompts 16 tokens. `pipeline` loads one part by part, as diffusers' own loading of Karlo is broken.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tests.cpu.tiny_models import SIZE, TOKENS, livelier, root, scheduler, text_encoder, tokenizer, unet, vae

WIDTH = 32
"""Of embeddings and of text states."""


# --- parts -----------------------------------------------------------------------------


def joint_text_encoder() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    words = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return livelier(CLIPTextModelWithProjection(config).eval(), 8.0, "weight")


def joint_image_encoder() -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        image_size=SIZE,
        patch_size=8,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    return livelier(CLIPVisionModelWithProjection(config).eval(), 4.0, "weight")


def image_processor() -> Any:
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})


def prior() -> Any:
    from diffusers import PriorTransformer

    module = PriorTransformer(
        num_attention_heads=2, attention_head_dim=12, embedding_dim=WIDTH, num_layers=1, num_embeddings=TOKENS, additional_embeddings=4
    )
    with torch.no_grad():
        module.clip_mean.copy_(torch.linspace(-0.2, 0.3, WIDTH)[None])
        module.clip_std.copy_(torch.linspace(0.5, 1.5, WIDTH)[None])
    return module.eval()


def prior_scheduler() -> Any:
    from diffusers import UnCLIPScheduler

    return UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0)


def ample(module: Any) -> Any:
    """Random values for parameters that begin as zeros."""
    with torch.no_grad():
        for weights in module.parameters():
            if not weights.any():
                weights.normal_()
    return module.eval()


def text_projection(time_width: int = 64, cross_width: int = 40) -> Any:
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    return ample(UnCLIPTextProjModel(clip_embeddings_dim=WIDTH, time_embed_dim=time_width, cross_attention_dim=cross_width))


def pixel_decoder() -> Any:
    """Karlo's: pixels 16x16, a learned variance."""
    from diffusers import UNet2DConditionModel

    module = UNet2DConditionModel(
        sample_size=16,
        in_channels=3,
        out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(16, 32),
        norm_num_groups=8,
        layers_per_block=1,
        cross_attention_dim=40,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
    )
    return livelier(module.eval(), 3.0, "attn")


def super_resolution(side: int = 64) -> Any:
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=side,
        in_channels=6,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("ResnetDownsampleBlock2D",) * 2,
        up_block_types=("ResnetUpsampleBlock2D",) * 2,
    ).eval()


def kandinsky_unet(channels: int = 4) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=channels,
        out_channels=8,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(16, 32),
        norm_num_groups=8,
        layers_per_block=1,
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="image_proj",
        addition_embed_type="image",
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
    ).eval()


def movq() -> Any:
    from diffusers import VQModel

    return VQModel(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    ).eval()


def image_normalizer() -> Any:
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

    module = StableUnCLIPImageNormalizer(embedding_dim=WIDTH)
    with torch.no_grad():
        module.mean.normal_()
        module.std.uniform_(0.5, 1.5)
    return module


# --- folders ---------------------------------------------------------------------------


def karlo_decoding() -> dict[str, Any]:
    from diffusers import UnCLIPScheduler

    return {
        "decoder": pixel_decoder(),
        "decoder_scheduler": UnCLIPScheduler(variance_type="learned_range", prediction_type="epsilon"),
        "text_proj": text_projection(),
        "text_encoder": joint_text_encoder(),
        "tokenizer": tokenizer(),
        "super_res_first": super_resolution(),
        "super_res_last": super_resolution(),
        "super_res_scheduler": UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="epsilon"),
    }


def karlo() -> dict[str, Any]:
    return {"prior": prior(), "prior_scheduler": prior_scheduler(), **karlo_decoding()}


def karlo_variations() -> dict[str, Any]:
    return {**karlo_decoding(), "image_encoder": joint_image_encoder(), "feature_extractor": image_processor()}


def kandinsky_prior() -> dict[str, Any]:
    return {
        "prior": prior(),
        "scheduler": prior_scheduler(),
        "text_encoder": joint_text_encoder(),
        "tokenizer": tokenizer(),
        "image_encoder": joint_image_encoder(),
        "image_processor": image_processor(),
    }


def kandinsky_decoder(channels: int = 4) -> dict[str, Any]:
    from diffusers import DDPMScheduler

    betas = {"beta_schedule": "linear", "beta_start": 0.00085, "beta_end": 0.012}
    return {
        "unet": kandinsky_unet(channels),
        "scheduler": DDPMScheduler(**betas, clip_sample=False, variance_type="learned_range"),
        "movq": movq(),
    }


def kandinsky_inpaint() -> dict[str, Any]:
    return kandinsky_decoder(9)


def stable_unclip() -> dict[str, Any]:
    from diffusers import DDPMScheduler

    return {
        "prior_tokenizer": tokenizer(),
        "prior_text_encoder": joint_text_encoder(),
        "prior": prior(),
        "prior_scheduler": DDPMScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0, beta_schedule="squaredcos_cap_v2"
        ),
        **stable_decoding(),
    }


def stable_unclip_img2img() -> dict[str, Any]:
    return {"feature_extractor": image_processor(), "image_encoder": joint_image_encoder(), **stable_decoding()}


def stable_decoding() -> dict[str, Any]:
    from diffusers import DDPMScheduler

    return {
        "image_normalizer": image_normalizer(),
        "image_noising_scheduler": DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        "tokenizer": tokenizer(),
        "text_encoder": text_encoder(32),
        "unet": unet(32, class_embed_type="projection", projection_class_embeddings_input_dim=2 * WIDTH),
        "scheduler": scheduler(prediction_type="v_prediction"),
        "vae": vae(),
    }


def autoregressive_prior() -> Any:
    from nodes.diffusion.ar_prior import ArPrior

    module = ArPrior(WIDTH, TOKENS, codes=6, levels=16, width=16, num_layers=2, num_attention_heads=2)
    images, texts = torch.randn(200, WIDTH), torch.randn(200, WIDTH)
    module.fit(images, texts)
    return module.eval()


def latent_decoder() -> Any:
    """Like Karlo's, but over the latents of a VAE; smooth enough to be inverted."""
    from diffusers import UNet2DConditionModel

    module = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=8,
        down_block_types=("SimpleCrossAttnDownBlock2D",) * 2,
        up_block_types=("SimpleCrossAttnUpBlock2D",) * 2,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(16, 32),
        norm_num_groups=8,
        layers_per_block=1,
        cross_attention_dim=40,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
    )
    return module.eval()


def whole() -> dict[str, Any]:
    """Karlo's layout with everything: a VAE, an image encoder, both priors, an upsampler for 32x32."""
    from diffusers import UnCLIPScheduler

    small = {"decoder": latent_decoder(), "vae": vae(), "image_encoder": joint_image_encoder(), "feature_extractor": image_processor()}
    unlike = {"super_res_first": super_resolution(128), "super_res_last": super_resolution(128)}
    scheduler = UnCLIPScheduler(variance_type="learned_range", prediction_type="epsilon", clip_sample_range=20.0)
    return {**karlo(), **small, **unlike, "decoder_scheduler": scheduler, "ar_prior": autoregressive_prior()}


KINDS: dict[str, tuple[str, Any]] = {
    "karlo": ("UnCLIPPipeline", karlo),
    "karlo_variations": ("UnCLIPImageVariationPipeline", karlo_variations),
    "kandinsky_prior": ("KandinskyV22PriorPipeline", kandinsky_prior),
    "kandinsky_decoder": ("KandinskyV22Pipeline", kandinsky_decoder),
    "kandinsky_inpaint": ("KandinskyV22InpaintPipeline", kandinsky_inpaint),
    "stable_unclip": ("StableUnCLIPPipeline", stable_unclip),
    "stable_unclip_img2img": ("StableUnCLIPImg2ImgPipeline", stable_unclip_img2img),
    "whole": ("UnCLIPPipeline", whole),
}
"""Kind of folder → its pipeline in diffusers, what makes its parts."""


@cache
def _made(kind: str) -> tuple[Path, dict[str, Any]]:
    """The folder of a tiny model, and its parts as read back from there."""
    name, parts = KINDS[kind]
    torch.manual_seed(sum(kind.encode()))
    folder = root() / kind
    index: dict[str, Any] = {"_class_name": name}
    read = {}
    for part, module in parts().items():
        module.save_pretrained(folder / part)
        index[part] = [type(module).__module__.split(".")[0], type(module).__name__]
        read[part] = type(module).from_pretrained(folder / part, local_files_only=True)
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder, read


def unclip_folder(kind: str) -> Path:
    """The folder of a tiny model, made when it is first asked for; never write into it."""
    return _made(kind)[0]


def pipeline(kind: str, name: str = "") -> Any:
    """A pipeline of diffusers on the same weights; `name` is another than the folder's own that takes the same parts."""
    import diffusers

    made = getattr(diffusers, name or KINDS[kind][0])(**_made(kind)[1])
    made.set_progress_bar_config(disable=True)
    return made
