"""The untrained parts of the `tiny-sd` model: ordinary diffusers and transformers classes, kept small."""

from __future__ import annotations

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training import tokens
from training.icons import Icons
from training.shapes import PICTURE_SIZE
from training.tokens import caption_words

TOKENS = 32
"""Length of every token row; a longer prompt is cut."""
TEXT_WIDTH = 128
LATENT_CHANNELS = 4
LATENT_SIZE = PICTURE_SIZE // 4
PROMPT_WORDS = ("with", "no", "one", "two", "next", "to", "above", "below", "of", "shape", "object", "photo", "make", "move", "it")
"""Words beside those of the captions that are one token each; the last three and "to" are of instructions."""


def make_vae() -> AutoencoderKL:
    """Autoencoder [n, 3, 32, 32] in -1..1 <-> latents [n, 4, 8, 8], 0.9 M weights."""
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


def make_unet(beside: int = 0, widths: tuple[int, int] = (64, 128)) -> UNet2DConditionModel:
    """Denoiser of latents [n, 4, 8, 8] with text states [n, 32, 128], attention at both levels, 4.3 M weights.

    It is shown `beside` further channels, as those that inpaint (5) or follow instructions (4) are.
    Plain attention: for so few tokens it beats the fused kernels on a CPU.
    """
    unet = UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS + beside,
        out_channels=LATENT_CHANNELS,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=widths[0] // 4,
    )
    unet.set_attn_processor(AttnProcessor())
    return unet


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Text encoder: token rows [n, 32] -> states [n, 32, 128], 0.7 M weights."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    encoder = CLIPTextModel(config)
    encoder.set_attn_implementation("eager")
    return encoder


def make_scheduler() -> DDIMScheduler:
    """The diffusion that the denoiser learns, and its default sampler."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def make_tokenizer(icons: Icons) -> CLIPTokenizer:
    """Byte-pair tokenizer with CLIP's own text handling, one token per word of the captions and instructions."""
    phrases = [wording for concept in icons.concepts for wording in (concept.name, *concept.train)]
    words = {*caption_words(phrases, list(icons.styles)), *PROMPT_WORDS}
    return tokens.make_tokenizer(tokens.learn_merges(sorted(words)), TOKENS)


def token_rows(tokenizer: CLIPTokenizer, texts: list[str]):
    """Token numbers of prompts, int64 [n, 32], padded and cut as the pipeline does it."""
    return tokenizer(texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt").input_ids
