"""The untrained parts of `tiny-unclip`: ordinary diffusers and transformers classes in Karlo's arrangement, kept small."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, PriorTransformer, UnCLIPScheduler, UNet2DConditionModel, UNet2DModel
from diffusers.models.attention_processor import AttnAddedKVProcessor
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

from nodes.diffusion.ar_prior import ArPrior
from training.shapes import PICTURE_SIZE

LATENT_CHANNELS = 8
LATENT_SIZE = PICTURE_SIZE // 4


def make_vae() -> AutoencoderKL:
    """Autoencoder [n, 3, 32, 32] in -1..1 <-> latents [n, 8, 8, 8], 0.9 M weights."""
    return AutoencoderKL(
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        norm_num_groups=16,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        mid_block_add_attention=False,
        sample_size=PICTURE_SIZE,
        force_upcast=False,
    )


EMBEDDING_WIDTH = 128
"""Width of the joint embedding, of the text states and of the image encoder."""
TOKENS = 32
"""Length of every token row; a longer text is cut."""
WORD_SCALE = 0.5
"""Deviation of the word vectors as token embeddings."""


def make_text_encoder(tokenizer: CLIPTokenizer, word_vectors: torch.Tensor) -> CLIPTextModelWithProjection:
    """Token rows [n, 32] -> states [n, 32, 128] and embeddings [n, 128]; the token embeddings stay what they are given."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=EMBEDDING_WIDTH,
        intermediate_size=4 * EMBEDDING_WIDTH,
        projection_dim=EMBEDDING_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    encoder = CLIPTextModelWithProjection(config)
    encoder.set_attn_implementation("eager")
    table = encoder.get_input_embeddings().weight
    with torch.no_grad():
        table.copy_(WORD_SCALE * word_vectors)
    table.requires_grad_(False)
    return encoder


def make_image_encoder() -> CLIPVisionModelWithProjection:
    """Images [n, 3, 32, 32] in -1..1 -> embeddings [n, 128], 1.0 M weights."""
    config = CLIPVisionConfig(
        hidden_size=EMBEDDING_WIDTH,
        intermediate_size=4 * EMBEDDING_WIDTH,
        projection_dim=EMBEDDING_WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=PICTURE_SIZE,
        patch_size=4,
    )
    encoder = CLIPVisionModelWithProjection(config)
    encoder.set_attn_implementation("eager")
    return encoder


def token_rows(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token numbers of texts, int64 [n, 32], padded and cut."""
    return token_rows_and_mask(tokenizer, texts)[0]


def token_rows_and_mask(tokenizer: CLIPTokenizer, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token numbers int64 [n, 32], padded and cut, and where they are no padding, bool [n, 32]."""
    rows = tokenizer(texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
    return rows.input_ids, rows.attention_mask.bool()


CONTEXT_TOKENS = 4
"""How many context tokens the decoder makes of an image embedding."""
CONTEXT_WIDTH = 192


def make_decoder(widths: tuple[int, int] = (128, 192)) -> UNet2DConditionModel:
    """Karlo's decoder over latents [n, 8, 8, 8]: noise and variance [n, 16, 8, 8], 9.5 M weights.

    Plain attention: for so few tokens it beats the fused kernels on a CPU.
    """
    decoder = UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=2 * LATENT_CHANNELS,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("SimpleCrossAttnDownBlock2D",) * 2,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D",) * 2,
        cross_attention_dim=CONTEXT_WIDTH,
        attention_head_dim=32,
        norm_num_groups=32,
        class_embed_type="identity",
        resnet_time_scale_shift="scale_shift",
    )
    decoder.set_attn_processor(AttnAddedKVProcessor())
    return decoder


def make_text_projection(widths: tuple[int, int] = (128, 192)) -> UnCLIPTextProjModel:
    """Embeddings and text states -> the decoder's context tokens and what joins its time embedding."""
    return UnCLIPTextProjModel(
        clip_extra_context_tokens=CONTEXT_TOKENS,
        clip_embeddings_dim=EMBEDDING_WIDTH,
        time_embed_dim=4 * widths[0],
        cross_attention_dim=CONTEXT_WIDTH,
    )


def make_prior() -> PriorTransformer:
    """Noisy image embedding [n, 128], time, text embedding and states -> clean image embedding, 1.6 M weights."""
    return PriorTransformer(
        num_attention_heads=4,
        attention_head_dim=48,
        num_layers=4,
        embedding_dim=EMBEDDING_WIDTH,
        num_embeddings=TOKENS,
        additional_embeddings=4,
    )


def make_ar_prior() -> ArPrior:
    """Captions as `make_prior` takes them -> the codes of an image embedding, 0.6 M weights.

    As many codes and levels as the decoder tells apart. Plain attention, as in the decoder.
    """
    prior = ArPrior(EMBEDDING_WIDTH, TOKENS, codes=20, levels=20, width=96)
    prior.transformer.set_attn_implementation("eager")
    return prior


def make_prior_scheduler() -> UnCLIPScheduler:
    """The prior's diffusion over embeddings of mean 0 and deviation 1: predicts the clean embedding."""
    return UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0)


def make_decoder_scheduler() -> UnCLIPScheduler:
    """The decoder's diffusion: predicts noise and variance; samples stay in -1..1."""
    return UnCLIPScheduler(variance_type="learned_range", prediction_type="epsilon", clip_sample_range=1.0)


def make_upsampler_scheduler() -> UnCLIPScheduler:
    """The upsamplers' diffusion: predicts the clean picture, which stays in -1..1."""
    return UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=1.0)


def make_upsampler(widths: tuple[int, int, int] = (32, 48, 64)) -> UNet2DModel:
    """A noisy picture [n, 3, h, w] beside the enlarged small one -> the clean one; convolutions only, any h and w by 4, 1.0 M weights.

    All channels are normalised as one group: where few are, how bright an area comes out depends on how much of the picture it is.
    """
    return UNet2DModel(
        sample_size=4 * PICTURE_SIZE,
        in_channels=6,
        out_channels=3,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        mid_block_type="UNetMidBlock2D",
        add_attention=False,
        norm_num_groups=1,
        resnet_time_scale_shift="scale_shift",
    )


def make_second_upsampler() -> UNet2DModel:
    """The same, smaller: it works on larger pictures, 0.3 M weights."""
    return make_upsampler((16, 32, 32))
