"""unCLIP: from a caption to an image embedding, from there to a picture, and larger.

The nodes drive every model that works this way: Karlo, Kandinsky 2.2, Stable unCLIP, and the built-in tiny-unclip.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar

from nodegraph import (
    Conditioning,
    Denoiser,
    Embedding,
    Field,
    Handle,
    Image,
    ImageEncoder,
    Invalid,
    Kind,
    Latent,
    ModelRef,
    Rng,
    Run,
    Seed,
    TextEncoder,
    Vae,
    node,
)

from .facts import rules
from .facts.configurations import PIXELS, as_known, config_problem
from .facts.layouts import CONFIG_FILES
from .facts.unclip import unclip_parts, unclip_problem

if TYPE_CHECKING:
    import torch

H = TypeVar("H", bound=Handle)


class Unclip(NamedTuple):
    """The parts of an unCLIP model. `check` refuses the use of one that the model lacks."""

    encoder: Annotated[TextEncoder, "Texts into the joint space of texts and pictures."]
    image_encoder: Annotated[ImageEncoder, "Pictures into the joint space."]
    prior: Annotated[Denoiser, "The diffusion prior."]
    ar_prior: Annotated[Denoiser, "The autoregressive prior."]
    decoder: Annotated[Denoiser, "The denoiser that follows image embeddings, for condition_decoder and sample_latent."]
    vae: Annotated[Vae, "The autoencoder of the decoder's latents; where it paints pixels, a stand-in that changes nothing."]
    upsampler: Annotated[Denoiser, "The diffusion upsampler, for upsample_diffusion."]


@node
def load_unclip(name: Annotated[ModelRef, Kind("diffusion"), "A model in the diffusers folder layout."], *, run: Run) -> Unclip:
    """Take an unCLIP model apart.

    Reads the layouts of Karlo, of Kandinsky 2.2 (whose prior and decoder are two models: load each) and of Stable unCLIP,
    whose text encoder for the decoder load_model gives. Weights are read when a node uses them.
    """
    from .loading import read_configs

    with run.use(Handle(name.part(*CONFIG_FILES)), read_configs) as configs:
        wrong = config_problem(configs.get)
        parts = {} if wrong else unclip_parts([path for path, _ in name.files], configs.get)
    if problem := wrong or unclip_problem(parts):
        raise _invalid("name", problem)

    def part(output: str, cls: type[H]) -> H:
        folders, known = parts[output]
        return cls.of(name, *folders, facts=known) if folders else cls((), facts=known)

    return Unclip(
        part("encoder", TextEncoder),
        part("image_encoder", ImageEncoder),
        part("prior", Denoiser),
        part("ar_prior", Denoiser),
        part("decoder", Denoiser),
        part("vae", Vae),
        part("upsampler", Denoiser),
    )


class ClipText(NamedTuple):
    """A text in the joint space: one vector, and all that priors and decoders take of it."""

    embedding: Embedding
    conditioning: Conditioning


@node
def encode_clip_text(
    encoder: TextEncoder,
    text: Annotated[str | list[str], "A caption, or one for each picture of a batch; may be empty."],
    *,
    run: Run,
) -> ClipText:
    """Encode a caption into the joint space of texts and pictures.

    What is longer than the encoder takes is cut off. Brackets are ordinary characters.
    """
    from .clip import encode_text
    from .loading import load_tokenizer
    from .unclip_loading import load_joint_encoder

    _check_present(encoder=encoder)
    texts = [text] if isinstance(text, str) else list(text)
    if not texts:
        raise _invalid("text", rules.NO_TEXT)
    with run.use(encoder, load_tokenizer) as tokenizer, run.use(encoder, load_joint_encoder) as module:
        code = encode_text(texts, tokenizer, module)
    space = encoder.facts.get("space", "")
    conditioning = Conditioning({"states": code.states, "pooled": code.embedding, "attended": code.attended}, space)
    return ClipText(Embedding(code.embedding, space), conditioning)


@node
def encode_clip_image(
    encoder: ImageEncoder,
    image: Annotated[Image | None, "Pictures of any size; the model's own resizing, cropping and normalising are applied."] = None,
    *,
    run: Run,
) -> Embedding:
    """Encode pictures into the joint space of texts and pictures.

    Without a picture: the embedding of nothing, which Kandinsky takes as its negative embedding.
    """
    from .clip import encode_nothing, encode_pictures
    from .unclip_loading import load_image_encoder, load_image_processor

    _check_present(encoder=encoder)
    space = encoder.facts.get("space", "")
    with run.use(encoder, load_image_encoder) as module, run.use(encoder, load_image_processor) as processor:
        if image is None:
            return Embedding(encode_nothing(module), space)
        return Embedding(encode_pictures(image.pil(), processor, module), space)


class DrawnEmbedding(NamedTuple):
    """Image embeddings, and the random state after the draws for them."""

    embedding: Embedding
    rng: Rng


@node
def sample_prior(
    prior: Annotated[Denoiser, "The diffusion prior or the autoregressive one."],
    positive: Annotated[Conditioning, "From encode_clip_text."],
    negative: Annotated[Conditioning | None, "Of an empty text, usually; needed where guidance is above 1."] = None,
    seed: Annotated[Seed, "One for each picture; a number stands for seed, seed + 1, …"] = 0,
    batch: Annotated[int, Field(ge=1, le=4096), "Embeddings of one caption."] = 1,
    draws: Annotated[int, Field(ge=1, le=64), "So many are drawn, and the one nearest to its caption is kept."] = 2,
    steps: Annotated[int, Field(ge=1, le=1000), "Steps of the diffusion prior."] = 25,
    guidance: Annotated[float, Field(ge=0, le=100), "Guidance scale; at 1 and below there is none."] = 4.0,
    similarity: Annotated[float, Field(ge=0, le=1), "The autoregressive prior only: how near to the text, as a quantile."] = 0.75,
    temperature: Annotated[float, Field(ge=0, le=10), "The autoregressive prior only: 0 takes the likeliest code always."] = 1.0,
    *,
    run: Run,
) -> DrawnEmbedding:
    """Draw image embeddings that a caption could have, by the diffusion prior or the autoregressive one.

    Nearest is the highest dot product with the embedding of the text. The draws of one picture follow one another, so that
    more of them never find a worse one.
    """
    from .loading import load_scheduler_config
    from .place import place
    from .prior import Captions, nearest, sample, sample_codes
    from .unclip_loading import load_prior

    _check_present(prior=prior)
    _check_width(prior, "prior", positive=positive, negative=negative)
    if problem := rules.captions_problem(len(positive), batch):
        raise _invalid("batch", problem)
    count = max(batch, len(positive))
    generators = _rng(seed, count).generators()
    with run.use(prior, load_prior) as module, run.use(prior, load_scheduler_config) as config:
        scheduler = as_known(config, prior.facts)
        captions = Captions.of(positive, negative, guidance, count, place(module))
        drawn: list[torch.Tensor] = []
        for turn in range(draws):
            run.progress(turn * steps, draws * steps, "prior")
            if prior.component == "ar_prior":
                drawn.append(sample_codes(module, captions, similarity, temperature, guidance, generators))
            else:
                report = partial(_report, run, turn * steps, draws * steps)
                drawn.append(sample(module, scheduler, captions, steps, guidance, generators, report))
        embedding = drawn[0] if draws == 1 else nearest(drawn, captions.embedding[-count:])
    return DrawnEmbedding(Embedding(embedding, positive.space), Rng.of(generators))


def _report(run: Run, before: int, total: int, done: int) -> None:
    run.progress(before + done, total, "prior")


class DecoderConditioning(NamedTuple):
    """What a decoder is told, and the random state after the draws for it."""

    positive: Conditioning
    negative: Conditioning | None
    rng: Rng


@node
def condition_decoder(
    decoder: Denoiser,
    embedding: Annotated[Embedding | None, "Of pictures, from sample_prior or encode_clip_image; without one, none is followed."] = None,
    caption: Annotated[Conditioning | None, "From encode_clip_text; for Stable unCLIP from encode_text; Kandinsky takes none."] = None,
    negative: Annotated[Conditioning | None, "The same of an empty or negative text, for guidance."] = None,
    negative_embedding: Annotated[Embedding | None, "For Kandinsky's guidance: encode_clip_image of nothing, or any other."] = None,
    noise_level: Annotated[int, Field(ge=0, le=999), "For Stable unCLIP: noise on the embedding; more gives freer pictures."] = 0,
    seed: Annotated[Seed, "Hand `rng` on to the seed of sample_latent."] = 0,
    *,
    run: Run,
) -> DecoderConditioning:
    """Make of image embeddings what a decoder takes: the conditionings for sample_latent.

    Draws only for Stable unCLIP, whose embeddings get noise. Without a caption's negative there is no negative conditioning.
    """
    from . import decoding
    from .unclip_loading import load_conditioner

    _check_present(decoder=decoder)
    kind = decoder.facts.get("condition")
    if kind is None:
        raise Invalid("this denoiser takes no image embedding", fix="use encode_text and sample_latent alone", port="decoder")
    _check_width(decoder, "decoder", embedding=embedding, negative_embedding=negative_embedding)
    rows = None if embedding is None else embedding.tensor(run.device)
    count = max(len(one) for one in (embedding, caption, [0]) if one is not None)
    generators = _rng(seed, count).generators()
    if kind == "image":
        pair = decoding.alone(rows, None if negative_embedding is None else negative_embedding.tensor(run.device))
    else:
        with run.use(decoder, load_conditioner) as conditioner:
            if kind == "projected":
                pair = decoding.projected(conditioner, rows, caption, negative)
            else:
                pair = decoding.noised(conditioner, rows, caption, negative, noise_level, generators)
    return DecoderConditioning(*pair, Rng.of(generators))


class DrawnImage(NamedTuple):
    """Pictures, and the random state after the draws for them."""

    image: Image
    rng: Rng


@node
def upsample_diffusion(
    upsampler: Annotated[Denoiser, "The upsampler of load_unclip."],
    image: Annotated[Image | Latent, "Pictures; or the latent of a decoder that paints pixels, for every last bit."],
    seed: Annotated[Seed, "One for each picture; a number stands for seed, seed + 1, …"] = 0,
    steps: Annotated[int, Field(ge=2, le=1000), "Steps; the last is taken by a network of its own, if the model has one."] = 7,
    *,
    run: Run,
) -> DrawnImage:
    """Enlarge pictures by diffusion: fine detail is painted anew, so that it depends on the seed."""
    from .unclip_loading import load_super_resolution
    from .upsampling import upsample

    _check_present(upsampler=upsampler)
    if isinstance(image, Latent) and image.space != PIXELS:
        raise _invalid("image", rules.pixels_problem(image.space))
    small = image.tensor() if isinstance(image, Latent) else 2.0 * image.tensor() - 1.0
    if problem := rules.large_problem(upsampler.facts, small.shape[3], small.shape[2]):
        raise _invalid("image", problem)
    scale = upsampler.facts.get("scale", rules.SCALE)
    size = scale * small.shape[2], scale * small.shape[3]
    generators = _rng(seed, len(small)).generators()
    with run.use(upsampler, load_super_resolution) as networks:
        networks = networks._replace(scheduler=as_known(networks.scheduler, upsampler.facts))
        large = upsample(networks, small, size, steps, generators, lambda done: run.progress(done, steps, "upsampling"))
    return DrawnImage(Image((large * 0.5 + 0.5).clamp(0, 1).float()), Rng.of(generators))


def _check_present(**parts: Handle) -> None:
    for port, handle in parts.items():
        if problem := rules.absent_problem(handle.facts):
            raise _invalid(port, problem)


def _check_width(network: Handle, taker: str, **given: Conditioning | Embedding | None) -> None:
    """Raises Invalid for embeddings, or conditionings with one, that are too wide or too narrow for a network."""
    for port, value in given.items():
        data = value.data if isinstance(value, Embedding) else value.named.get("pooled") if value is not None else None
        known = {} if data is None else {"embedding_width": int(data.shape[1])}
        if problem := rules.embedding_problem(network.facts, known, taker):
            raise _invalid(port, problem)


def _rng(seed: int | list[int] | Rng, count: int) -> Rng:
    try:
        return Rng.seeded(seed, count)
    except ValueError as error:
        raise Invalid(str(error), fix="give one seed, or one for each picture", port="seed") from None


def _invalid(port: str, problem: tuple[str, str]) -> Invalid:
    text, fix = problem
    return Invalid(text, fix=fix, port=port)
