"""What the unCLIP nodes promise beside bit-identity: priors, captions of any kind, and what check says before weights are read."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel

from nodegraph import Conditioning, Embedding, Engine, Image, Invalid, Latent
from nodegraph.facts import Facts, Mismatch
from nodes.diffusion import conditioning, editing, facts, nodes, unclip
from nodes.diffusion.ar_prior import ArPrior, _draw
from tests.cpu.tiny_models import FolderRun, model_folder, root
from tests.cpu.tiny_unclip import KINDS, TOKENS, WIDTH, unclip_folder

CAPTIONS = [
    "",
    " \n\t ",
    "красный круг на белом фоне",
    "赤い円と青い四角",
    "دائرة حمراء",
    "🐙 on a 🟥 background 👩‍👩‍👧‍👦",
    "e\u0301 ﷽ \u202e reversed \u0000 zero",
    "a red circle " * 800,
    "\ud7ff\ue000\U0010ffff",
    "((unbalanced [brackets",
]


@pytest.fixture(scope="module")
def run() -> FolderRun:
    return FolderRun()


def parts(run: FolderRun, kind: str = "whole") -> unclip.Unclip:
    return unclip.load_unclip(run.model(unclip_folder(kind)), run=run)


# --- captions -------------------------------------------------------------------------------


@pytest.mark.parametrize("caption", CAPTIONS, ids=[repr(caption[:12]) for caption in CAPTIONS])
def test_any_caption_is_encoded(caption: str, run: FolderRun) -> None:
    assert len(CAPTIONS[7]) > 10_000
    joint = unclip.encode_clip_text(parts(run).encoder, caption, run=run)
    assert joint.embedding.shape == (1, WIDTH)
    assert bool(joint.embedding.tensor().isfinite().all())
    assert joint.conditioning.tensor("states").shape == (1, TOKENS, WIDTH)
    model = nodes.load_model(run.model(model_folder("sd1")), run=run)
    states = nodes.encode_text(model.encoder, caption, emphasis=False, run=run).tensor("states")
    assert bool(states.isfinite().all())
    assert states.shape[1] % TOKENS == 0


def test_captions_of_a_batch_are_encoded_each(run: FolderRun) -> None:
    encoder = parts(run).encoder
    together = unclip.encode_clip_text(encoder, CAPTIONS, run=run).embedding.tensor()
    for row, caption in zip(together, CAPTIONS, strict=True):
        alone = unclip.encode_clip_text(encoder, caption, run=run).embedding.tensor()[0]
        assert torch.allclose(row, alone, atol=1e-4)
    with pytest.raises(Invalid, match="there is no text to encode"):
        unclip.encode_clip_text(encoder, [], run=run)


# --- priors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["prior", "ar_prior"])
def test_more_draws_are_never_worse(kind: str, run: FolderRun) -> None:
    model = parts(run)
    positive = unclip.encode_clip_text(model.encoder, "a red circle", run=run)
    negative = unclip.encode_clip_text(model.encoder, "", run=run).conditioning
    text = positive.embedding.tensor()

    def nearness(draws: int) -> torch.Tensor:
        options = {"batch": 4, "draws": draws, "steps": 3, "guidance": 2.0}
        drawn = unclip.sample_prior(getattr(model, kind), positive.conditioning, negative, 5, **options, run=run)
        assert drawn.embedding.shape == (4, WIDTH)
        assert drawn.embedding.space == f"clip-{WIDTH}"
        return (drawn.embedding.tensor() * text).sum(dim=1)

    one, two, eight = (nearness(draws) for draws in (1, 2, 8))
    assert bool((two >= one).all())
    assert bool((eight >= two).all())
    assert bool((eight > one).any())


def ar_prior() -> tuple[ArPrior, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    images = torch.randn(500, 32) @ torch.randn(32, 32)
    texts = images + torch.randn(500, 32)
    prior = ArPrior(32, 16, codes=10, levels=64, width=16, num_layers=2, num_attention_heads=2).eval()
    prior.fit(images, texts)
    return prior, images, texts


def test_codes_are_fitted_where_the_embeddings_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def quantile(values: torch.Tensor, ranks: torch.Tensor, dim: int | None = None) -> torch.Tensor:
        asked.append((values.device, ranks.device))
        return torch.empty((len(ranks), *values.shape[1:]), device=values.device)

    monkeypatch.setattr(torch, "quantile", quantile)
    prior = ArPrior(32, 16, codes=10, levels=64, width=16, num_layers=2, num_attention_heads=2).to("meta")
    images = torch.empty(500, 32, device="meta")
    prior.fit(images, images)
    assert asked == [(images.device, images.device)] * 2, "a GPU mixes with the host as little"


def test_codes_hold_what_pca_holds() -> None:
    prior, images, _ = ar_prior()
    codes = prior.encode(images)
    assert int(codes.min()) == 0
    assert int(codes.max()) == 63
    assert torch.equal(prior.encode(prior.decode(codes)), codes)
    centred = images - images.mean(dim=0)
    dropped = torch.linalg.svdvals(centred)[10:].square().sum() / centred.square().sum()
    lost = (prior.decode(codes) - images).square().sum() / centred.square().sum()
    assert dropped < lost < dropped + 0.01, "quantising costs less than a hundredth"


def test_similarities_are_quantiles() -> None:
    prior, images, texts = ar_prior()
    counts = torch.bincount(prior.similarity(images, texts), minlength=8)
    assert counts.min() > 50


def test_codes_one_by_one_are_those_of_one_forward() -> None:
    """The cache of earlier codes changes nothing, and padding is not read."""
    prior, _, texts = ar_prior()
    states, attended = torch.randn(3, 16, 32), torch.arange(16)[None] < torch.tensor([[4], [9], [16]])
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]
    codes = prior.sample(texts[:3], states, attended, seeds, similarity=6, guidance=1.0)
    with torch.no_grad():
        logits = prior(texts[:3], states, attended, torch.full((3,), 6), codes)
        other = prior(texts[:3], states.masked_fill(~attended[..., None], 9.0), attended, torch.full((3,), 6), codes)
    again = [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]
    assert torch.equal(torch.stack([_draw(logits[:, place], again, 1.0) for place in range(10)], dim=1), codes)
    assert torch.allclose(logits, other, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-300, 1e-40, 1e-38, 1e-20])
def test_next_to_no_temperature_takes_the_likeliest(temperature: float) -> None:
    logits = torch.tensor([[1.0, 1e4, -3.0], [-5.0, -1e4, -6.0]])
    assert _draw(logits, [torch.Generator(), torch.Generator()], temperature).tolist() == [1, 0]


def test_a_prior_asks_for_what_it_needs(run: FolderRun) -> None:
    model = parts(run)
    caption = unclip.encode_clip_text(model.encoder, ["one", "two"], run=run).conditioning
    with pytest.raises(Invalid, match="guidance 4 needs a negative conditioning"):
        unclip.sample_prior(model.prior, caption, run=run)
    with pytest.raises(Invalid, match="there are 2 captions, so batch cannot be 3"):
        unclip.sample_prior(model.prior, caption, caption, batch=3, run=run)
    with pytest.raises(Invalid, match="the conditioning has no embedding of its text"):
        unclip.sample_prior(model.prior, Conditioning({"states": torch.zeros(1, TOKENS, WIDTH)}), guidance=1.0, run=run)
    with pytest.raises(Invalid, match="spaces its steps between two ends"):
        unclip.sample_prior(model.prior, caption, guidance=1.0, steps=1, run=run)


# --- decoders -------------------------------------------------------------------------------


def test_a_decoder_asks_for_what_it_needs(run: FolderRun) -> None:
    model = parts(run)
    caption = unclip.encode_clip_text(model.encoder, "x", run=run).conditioning
    with pytest.raises(Invalid, match="this decoder takes a caption beside the embedding"):
        unclip.condition_decoder(model.decoder, run=run)
    with pytest.raises(Invalid, match="the embedding is 7 wide, but this decoder takes 32"):
        unclip.condition_decoder(model.decoder, Embedding(torch.zeros(1, 7)), caption, run=run)
    kandinsky = parts(run, "kandinsky_decoder")
    with pytest.raises(Invalid, match="this decoder follows an image embedding alone"):
        unclip.condition_decoder(kandinsky.decoder, run=run)
    sd = nodes.load_model(run.model(model_folder("sd1")), run=run)
    with pytest.raises(Invalid, match="this denoiser takes no image embedding"):
        unclip.condition_decoder(sd.denoiser, Embedding(torch.zeros(1, 32)), run=run)
    with pytest.raises(Invalid, match="the conditioning has no image embedding"):
        nodes.sample_latent(model.decoder, caption, nodes.empty_latent(model.decoder), guidance=1.0, run=run)


@pytest.mark.parametrize("size", [(40, 8), (80, 16)], ids=str)
def test_as_many_cells_as_tokens(size: tuple[int, int], run: FolderRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a decoder attends to text and cells at once, diffusers takes a mask of as many tokens as cells for one of both."""
    model = parts(run)
    caption = unclip.encode_clip_text(model.encoder, "a red circle", run=run).conditioning
    told = unclip.condition_decoder(model.decoder, caption=caption, run=run)
    assert told.positive.tensor("states").shape[1] in (size[0] // 4 * size[1] // 4, size[0] // 8 * size[1] // 8)
    latent = Latent(torch.randn(1, 4, size[1] // 4, size[0] // 4, generator=torch.Generator().manual_seed(1)))

    def painted() -> torch.Tensor:
        options = {"steps": 2, "strength": 0.5, "guidance": 1.0, "sampler": "ddim"}
        return nodes.sample_latent(model.decoder, told.positive, latent, **options, run=run).latent.tensor()

    given = painted()
    monkeypatch.setattr(conditioning, "_padding", lambda *_: 7)
    assert torch.allclose(given, painted(), atol=1e-4), "tokens that are not attended change nothing"


def test_blocks_that_double_take_even_sizes_alone(run: FolderRun) -> None:
    """UNet2DConditionModel brings an odd number of cells back by its size, which the blocks of these decoders do not look at."""
    model = parts(run)
    caption, negative = (unclip.encode_clip_text(model.encoder, text, run=run).conditioning for text in ("a red circle", ""))
    told = unclip.condition_decoder(model.decoder, caption=caption, negative=negative, run=run)
    odd = nodes.empty_latent(model.decoder, 28, 32)
    with pytest.raises(Invalid, match="the latent has 7×8 cells, but this denoiser takes multiples of 2") as refused:
        nodes.sample_latent(model.decoder, told.positive, odd, told.negative, run=run)
    assert refused.value.port == "latent"
    assert refused.value.fix == "make it 32×32 pixels large, the nearest size"
    with pytest.raises(Invalid, match="the latent has 7×8 cells"):
        editing.invert_ddim(model.decoder, told.positive, odd, run=run)
    sd = nodes.load_model(run.model(model_folder("sd1")), run=run)
    text = nodes.encode_text(sd.encoder, "", run=run)
    drawn = nodes.sample_latent(sd.denoiser, text, nodes.empty_latent(sd.denoiser, 28, 20), text, steps=1, run=run)
    assert drawn.latent.shape == (1, 4, 5, 7), "other blocks take any size"


def test_upsamplers_paint_what_they_can_halve(tmp_path: Path, run: FolderRun) -> None:
    """One of four levels, as Karlo's, halves its pixels three times: what becomes 36 pixels wide does not come back."""
    folder = Path(shutil.copytree(unclip_folder("karlo"), tmp_path / "deep"))
    shutil.rmtree(folder / "super_res_last")
    blocks = {"down_block_types": ("ResnetDownsampleBlock2D",) * 4, "up_block_types": ("ResnetUpsampleBlock2D",) * 4}
    shape = {"sample_size": 64, "in_channels": 6, "out_channels": 3, "layers_per_block": 1, "norm_num_groups": 4}
    UNet2DModel(**shape, **blocks, block_out_channels=(8,) * 4).save_pretrained(folder / "super_res_first")
    model = unclip.load_unclip(run.model(folder), run=run)
    with pytest.raises(Invalid, match="9×8 would become 36×32, but this upsampler paints multiples of 8") as refused:
        unclip.upsample_diffusion(model.upsampler, Image(torch.rand(1, 3, 8, 9)), run=run)
    assert (refused.value.port, refused.value.fix) == ("image", "use 8×8, the nearest size")
    known = Facts(**model.upsampler.facts)
    assert facts.upsample_diffusion(known, Facts(width=9, height=8)) == Mismatch("image", str(refused.value), refused.value.fix)
    assert unclip.upsample_diffusion(model.upsampler, Image(torch.rand(1, 3, 8, 10)), steps=2, run=run).image.width == 40


def test_upsamplers_take_pictures_and_pixels_alone(run: FolderRun) -> None:
    model = parts(run)
    with pytest.raises(Invalid, match="the latent is of the space 'kl-f8', not of pixels"):
        unclip.upsample_diffusion(model.upsampler, Latent(torch.zeros(1, 4, 8, 8), "kl-f8"), run=run)
    picture = Image(torch.rand(1, 3, 8, 12))
    same = [unclip.upsample_diffusion(model.upsampler, picture, 4, steps=2, run=run) for _ in range(2)]
    assert same[0].image.shape == (1, 3, 32, 48)
    assert torch.equal(same[0].image.tensor(), same[1].image.tensor())
    assert same[0].rng == same[1].rng


@pytest.mark.parametrize("port", ["encoder", "image_encoder", "prior", "ar_prior", "decoder", "upsampler"])
def test_a_part_that_is_lacking_is_named(port: str, run: FolderRun) -> None:
    lacking = parts(run, {"encoder": "kandinsky_decoder", "decoder": "kandinsky_prior", "prior": "kandinsky_decoder"}.get(port, "karlo"))
    if port == "upsampler":
        lacking = parts(run, "kandinsky_decoder")
    caption = Conditioning({"states": torch.zeros(1, TOKENS, WIDTH), "pooled": torch.zeros(1, WIDTH)})
    uses: dict[str, Any] = {
        "encoder": lambda: unclip.encode_clip_text(lacking.encoder, "x", run=run),
        "image_encoder": lambda: unclip.encode_clip_image(lacking.image_encoder, run=run),
        "prior": lambda: unclip.sample_prior(lacking.prior, caption, run=run),
        "ar_prior": lambda: unclip.sample_prior(lacking.ar_prior, caption, run=run),
        "decoder": lambda: unclip.condition_decoder(lacking.decoder, run=run),
        "upsampler": lambda: unclip.upsample_diffusion(lacking.upsampler, Image(torch.zeros(1, 3, 8, 8)), run=run),
    }
    with pytest.raises(Invalid, match=f"the model has no {port.replace('_', ' ')}"):
        uses[port]()


# --- facts ----------------------------------------------------------------------------------


class Folders:
    """A `Look` at the tiny models."""

    def json(self, model: str, path: str) -> Any:
        target = root() / model / path
        return json.loads(target.read_text()) if target.is_file() else None

    def header(self, model: str, path: str = "") -> None:
        raise AssertionError("these facts need no weights")

    def files(self, model: str) -> list[str]:
        return [path.relative_to(root() / model).as_posix() for path in (root() / model).rglob("*") if path.is_file()]


def of(kind: str) -> dict[str, Facts]:
    unclip_folder(kind)
    found = facts.load_unclip(Folders(), Facts(value=kind))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_handles_know_the_same_as_check(kind: str, run: FolderRun) -> None:
    assert {name: dict(handle.facts) for name, handle in parts(run, kind)._asdict().items()} == of(kind)


def test_what_is_known_of_each_layout() -> None:
    assert of("karlo")["vae"] == {"channels": 3, "factor": 1, "space": "pixels"}
    assert of("karlo")["decoder"]["condition"] == "projected"
    assert of("karlo")["upsampler"] == {
        "network": "UNet2DModel",
        "scale": 4,
        "multiple": 2,
        "scheduler": "UnCLIPScheduler",
        "prediction": "epsilon",
    }
    assert of("karlo")["ar_prior"] == {"absent": "ar_prior"}
    assert of("kandinsky_decoder")["vae"]["space"] == "movq-f2-c4"
    assert of("kandinsky_decoder")["decoder"]["condition"] == "image"
    assert of("stable_unclip")["decoder"]["condition"] == "noised"
    assert of("stable_unclip")["encoder"] == {
        "embedding_width": 32,
        "space": "clip-32",
        "text_width": 32,
        "network": "CLIPTextModelWithProjection",
    }
    assert of("stable_unclip_img2img")["encoder"] == {"absent": "encoder"}, "its text encoder has no joint space"
    assert of("whole")["ar_prior"]["network"] == "ArPrior"


def test_embeddings_of_another_width() -> None:
    narrow, fix = Facts(embedding_width=7), "encode with the encoders that the model was trained with"
    assert facts.sample_prior(of("karlo")["prior"], narrow, Facts()) == Mismatch(
        "positive", "the embedding is 7 wide, but this prior takes 32", fix
    )
    assert facts.condition_decoder(of("karlo")["decoder"], narrow, Facts(), Facts(), Facts()) == Mismatch(
        "embedding", "the embedding is 7 wide, but this decoder takes 32", fix
    )
    mismatch = facts.interpolate_embeddings(Facts(embedding_width=32), narrow)
    assert isinstance(mismatch, Mismatch)
    assert mismatch.text == "this embedding is 7 wide, the other 32"


def test_conditionings_that_a_denoiser_does_not_take() -> None:
    decoder, plain = of("karlo")["decoder"], Facts(text_width=32)
    latent = facts.empty_latent(decoder, Facts(), Facts(), Facts())
    assert latent == {"empty": True, "channels": 3, "space": "pixels", "width": 16, "height": 16}
    found = facts.sample_latent(decoder, plain, Facts(), latent, Facts(), Facts(), Facts())
    assert found == Mismatch(
        "positive", "this denoiser takes an image embedding besides text", "make the conditioning with condition_decoder, for this denoiser"
    )
    told = facts.condition_decoder(decoder, Facts(embedding_width=32), Facts(), Facts(embedding_width=32), Facts())
    assert isinstance(told, dict)
    full = Facts(**{**latent, "empty": None})
    assert facts.sample_latent(decoder, told["positive"], told["negative"], latent, Facts(), Facts(), Facts()) == {"latent": full}
    model_folder("sd1")
    sd = facts.load_model(Folders(), Facts(value="sd1"))
    assert isinstance(sd, dict)
    other = facts.sample_latent(sd["denoiser"], told["positive"], Facts(), Facts(), Facts(), Facts(), Facts())
    assert isinstance(other, Mismatch)
    assert "which this one does not" in other.text
    prior = facts.sample_latent(of("karlo")["prior"], *[Facts()] * 6)
    assert isinstance(prior, Mismatch)
    assert prior.text == "the denoiser is a PriorTransformer; sample_latent drives UNet2DConditionModel"


PAIR = {"embedding": "ends.embedding", "target": "caption.embedding"}
MIX = {"use": "interpolate_embeddings", "from": {"first": "caption.embedding", "second": "ends.embedding"}, "with": {}}
SHIFT = {"use": "shift_embedding", "from": {"embedding": "caption.embedding", "source": "ends.embedding", "target": "three.embedding"}}
TOLD = {"decoder": "model.decoder", "caption": "caption.conditioning"}


@pytest.mark.parametrize(
    ("last", "where"),
    [
        ({"use": "condition_decoder", "from": {**TOLD, "embedding": "mix.embedding"}, "with": {"seed": [1, 2]}}, ""),
        ({"use": "condition_decoder", "from": {**TOLD, "embedding": "mix.embedding"}, "with": {"seed": [1]}}, "with.seed"),
        ({"use": "condition_decoder", "from": {**TOLD, "embedding": "seen.embedding"}, "with": {"seed": [1, 2]}}, ""),
        ({"use": "condition_decoder", "from": {**TOLD, "embedding": "seen.embedding"}, "with": {"seed": [1]}}, "with.seed"),
        ({"use": "condition_decoder", "from": {**TOLD, "embedding": "ends.embedding", "negative": "three.conditioning"}}, "from.embedding"),
        (SHIFT, "from.target"),
        ({"use": "rank_by_similarity", "from": PAIR}, ""),
        ({"use": "rank_by_similarity", "from": {**PAIR, "target": "ends.embedding"}}, "from.target"),
        ({"use": "rerank", "from": {**PAIR, "image": "blank.image"}, "with": {"count": 2}}, ""),
        ({"use": "rerank", "from": {**PAIR, "image": "blank.image"}, "with": {"count": 3}}, "with.count"),
        ({"use": "rerank", "from": {**PAIR, "image": "blank.image", "embedding": "three.embedding"}}, "from.embedding"),
    ],
)
def test_batches_of_embeddings_are_known(last: dict[str, Any], where: str) -> None:
    texts = {"caption": "a red circle", "ends": ["a", "b"], "three": ["a", "b", "c"]}
    encoded = {"use": "encode_clip_text", "from": {"encoder": "model.encoder"}}
    flow = {
        "model": {"use": "load_unclip", "with": {"name": "whole"}},
        **{name: {**encoded, "with": {"text": text}} for name, text in texts.items()},
        "blank": {"use": "solid_image", "with": {"width": 32, "height": 32, "batch": 2}},
        "seen": {"use": "encode_clip_image", "from": {"encoder": "model.image_encoder", "image": "blank.image"}},
        "mix": MIX,
        "last": last,
    }
    output = {"condition_decoder": "positive", "shift_embedding": "embedding", "rank_by_similarity": "order", "rerank": "order"}
    graph = {"nodes": flow, "outputs": {"value": f"last.{output[last['use']]}"}}
    with Engine(models=[unclip_folder("whole").parent], cache=False, device="cpu") as engine:
        assert [problem.where for problem in engine.check(graph)] == ([f"nodes.last.{where}"] if where else [])
        if not where:
            assert engine.run(graph).ok


def test_folders_of_another_kind() -> None:
    model_folder("sd1")
    found = facts.load_unclip(Folders(), Facts(value="sd1"))
    assert isinstance(found, Mismatch)
    assert found.fix == "open it with load_model"
    unclip_folder("karlo")
    other = facts.load_model(Folders(), Facts(value="karlo"))
    assert isinstance(other, Mismatch)
    assert other.fix == "open it with load_unclip"


def test_weights_that_are_pickles_are_refused(tmp_path: Path, run: FolderRun) -> None:
    folder = Path(shutil.copytree(unclip_folder("karlo"), tmp_path / "karlo"))
    weights = folder / "text_proj" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    fresh = FolderRun()
    model = unclip.load_unclip(fresh.model(folder), run=fresh)
    caption = unclip.encode_clip_text(model.encoder, "x", run=fresh).conditioning
    with pytest.raises(Invalid, match="is a pickle, which may run any code and is never read"):
        unclip.condition_decoder(model.decoder, caption=caption, run=fresh)


CAPTION = {"encoder": "model.encoder"}
FLOW: dict[str, dict[str, Any]] = {
    "model": {"use": "load_unclip", "with": {"name": "karlo"}},
    "caption": {"use": "encode_clip_text", "from": CAPTION, "with": {"text": "a red circle"}},
    "nothing": {"use": "encode_clip_text", "from": CAPTION, "with": {"text": ""}},
    "prior": {
        "use": "sample_prior",
        "from": {"prior": "model.prior", "positive": "caption.conditioning", "negative": "nothing.conditioning"},
        "with": {"steps": 2},
    },
    "told": {
        "use": "condition_decoder",
        "from": {
            "decoder": "model.decoder",
            "embedding": "prior.embedding",
            "caption": "caption.conditioning",
            "negative": "nothing.conditioning",
        },
        "with": {},
    },
    "canvas": {"use": "empty_latent", "from": {"model": "model.decoder"}, "with": {}},
    "sample": {
        "use": "sample_latent",
        "from": {
            "model": "model.decoder",
            "positive": "told.positive",
            "negative": "told.negative",
            "latent": "canvas.latent",
            "seed": "told.rng",
        },
        "with": {"steps": 2},
    },
}


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({}, ""),
        ({"prior": {"negative": None}}, "prior.from.negative"),
        ({"prior": {"negative": None, "guidance": 1}}, ""),
        ({"prior": {"seed": [1, 2]}}, "prior.with.seed"),
        ({"prior": {"steps": 1}}, "prior.with.steps"),
        ({"prior": {"batch": 2}, "canvas": {"batch": 2}}, ""),
        ({"prior": {"batch": 2}}, "sample.from.positive"),
        ({"caption": {"text": ["a", "b"]}, "prior": {"batch": 2}}, "prior.with.batch"),
        ({"caption": {"text": ["a", "b"]}, "canvas": {"batch": 2}}, ""),
        ({"nothing": {"text": ["a", "b"]}}, "prior.from.negative"),
        ({"caption": {"text": []}}, "caption.with.text"),
        ({"told": {"caption": None}}, "told.from.caption"),
        ({"told": {"embedding": None}}, ""),
        ({"told": {"negative": None}}, "sample.from.negative"),
        ({"told": {"negative": None}, "sample": {"guidance": 1}}, ""),
        ({"sample": {"steps": 1}}, "sample.with.steps"),
        ({"canvas": {"width": 15}}, "sample.from.latent"),
        ({"canvas": {"width": 18, "height": 10}}, ""),
    ],
)
def test_what_a_run_refuses_is_told_before(changes: dict[str, dict[str, Any]], where: str) -> None:
    unclip_folder("karlo")
    nodes = {name: {**one, "from": {**one.get("from", {})}, "with": {**one["with"]}} for name, one in FLOW.items()}
    for name, ports in changes.items():
        for port, value in ports.items():
            nodes[name]["from"].pop(port, None)
            nodes[name]["with"].update({} if value is None else {port: value})
    flow = {"nodes": nodes, "outputs": {"latent": "sample.latent"}}
    with Engine(models=[unclip_folder("karlo").parent], cache=False, device="cpu") as engine:
        assert [problem.where for problem in engine.check(flow)] == ([f"nodes.{where}"] if where else [])
        if not where:
            assert engine.run(flow).ok


# --- parts that cannot be used -------------------------------------------------------------


def configured(path: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / path).write_text(json.dumps(json.loads((folder / path).read_text()) | changes))

    return change


def removed(pattern: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in folder.glob(pattern):
            path.unlink()

    return change


def scheduled(part: str, family: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        configured(f"{part}/scheduler_config.json", _class_name=family)(folder)
        configured("model_index.json", **{part: ["diffusers", family]})(folder)

    return change


USES: dict[str, dict[str, Any]] = {
    "prior": {"prior": FLOW["prior"]},
    "encode_clip_text": {},
    "encode_clip_image": {"seen": {"use": "encode_clip_image", "from": {"encoder": "model.image_encoder"}}},
    "condition_decoder": {"told": {"use": "condition_decoder", "from": TOLD}},
    "encode_image": {
        "blank": {"use": "solid_image", "with": {"width": 32, "height": 32}},
        "drawn": {"use": "encode_image", "from": {"vae": "model.vae", "image": "blank.image"}},
    },
    "upsample": {
        "blank": {"use": "solid_image", "with": {"width": 32, "height": 32}},
        "large": {"use": "upsample_diffusion", "from": {"upsampler": "model.upsampler", "image": "blank.image"}},
    },
}
OUTPUTS = {
    "prior": "prior.embedding",
    "encode_clip_text": "caption.embedding",
    "encode_clip_image": "seen.embedding",
    "condition_decoder": "told.positive",
    "encode_image": "drawn.latent",
    "upsample": "large.image",
}
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("change", "use", "where", "text"),
    [
        (removed("prior/*.safetensors"), "prior", "prior.from.prior", f"has no weights: there is no prior/{WEIGHTS}"),
        (removed("prior_scheduler/*"), "prior", "prior.from.prior", "has no prior_scheduler: 'prior_scheduler/scheduler_config.json'"),
        (removed("text_encoder/*.safetensors"), "encode_clip_text", "caption.from.encoder", "no text_encoder/model.safetensors"),
        (removed("tokenizer/*"), "encode_clip_text", "caption.from.encoder", "the model has no tokenizer"),
        (removed("tokenizer/tokenizer.json"), "encode_clip_text", "caption.from.encoder", "the tokenizer of the model has no words"),
        (removed("image_encoder/*.safetensors"), "encode_clip_image", "seen.from.encoder", "no image_encoder/model.safetensors"),
        (removed("feature_extractor/*"), "encode_clip_image", "", ""),
        (removed("decoder/*.safetensors"), "condition_decoder", "told.from.decoder", f"there is no decoder/{WEIGHTS}"),
        (removed("text_proj/*.safetensors"), "condition_decoder", "told.from.decoder", f"there is no text_proj/{WEIGHTS}"),
        (removed("vae/*.safetensors"), "encode_image", "drawn.from.vae", f"there is no vae/{WEIGHTS}"),
        (removed("vae/config.json"), "encode_image", "drawn.from.vae", "the model has no vae: 'vae/config.json' is not there"),
        (removed("super_res_first/*.safetensors"), "upsample", "large.from.upsampler", f"there is no super_res_first/{WEIGHTS}"),
        (removed("super_res_last/*.safetensors"), "upsample", "large.from.upsampler", f"there is no super_res_last/{WEIGHTS}"),
        (removed("super_res_last/*"), "upsample", "", ""),
        (removed("super_res_scheduler/*"), "upsample", "large.from.upsampler", "the model has no super_res_scheduler"),
        (removed("super_res_*/*.safetensors"), "prior", "", ""),
        (
            configured("text_encoder/config.json", architectures=["T5EncoderModel"]),
            "encode_clip_text",
            "caption.from.encoder",
            "the text encoder of the model is a T5EncoderModel; this node drives CLIPTextModelWithProjection",
        ),
        (
            configured("image_encoder/config.json", architectures=["SiglipModel"]),
            "encode_clip_image",
            "seen.from.encoder",
            "the image encoder of the model is a SiglipModel; this node drives CLIPVisionModelWithProjection",
        ),
        (
            scheduled("prior_scheduler", "RePaintScheduler"),
            "prior",
            "prior.from.prior",
            "the scheduler of the model is a RePaintScheduler, whose steps need more than",
        ),
        (
            scheduled("prior_scheduler", "PNDMScheduler"),
            "prior",
            "prior.from.prior",
            "cannot use a model that predicts the clean sample",
        ),
        (
            scheduled("super_res_scheduler", "VQDiffusionScheduler"),
            "upsample",
            "large.from.upsampler",
            "the scheduler of the model is a VQDiffusionScheduler, whose steps need more than",
        ),
    ],
)
def test_parts_that_cannot_be_used_are_told_of_where_they_are(
    change: Callable[[Path], None], use: str, where: str, text: str, tmp_path: Path
) -> None:
    change(Path(shutil.copytree(unclip_folder("whole"), tmp_path / "models" / "karlo")))
    flow = {"nodes": {**{name: FLOW[name] for name in ("model", "caption", "nothing")}, **USES[use]}, "outputs": {"value": OUTPUTS[use]}}
    with Engine(models=[tmp_path / "models"], cache=False, device="cpu") as engine:
        found = engine.check(flow)
        assert all(text in problem.text and problem.fix for problem in found)
        assert [problem.where for problem in found][:1] == ([f"nodes.{where}"] if where else [])
        if not where:
            assert engine.run(flow).ok


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"crop_size": 16}, "the model prepares pictures of 16×16 for its image encoder, which takes 32×32"),
        ({"do_center_crop": False}, "the model prepares pictures of 64×32 for its image encoder, which takes 32×32"),
        ({"image_mean": [0.5]}, "what the model says of the preparation of pictures cannot be read: mean must have 3"),
        ({"rescale_factor": {}}, "what the model says of the preparation of pictures cannot be read: unsupported"),
    ],
)
def test_a_preparation_of_pictures_that_does_not_fit_is_told_of(changes: dict[str, Any], text: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(unclip_folder("kandinsky_prior"), tmp_path / "prior"))
    configured("image_processor/preprocessor_config.json", **changes)(folder)
    run = FolderRun()
    encoder = unclip.load_unclip(run.model(folder), run=run).image_encoder
    with pytest.raises(Invalid) as caught:
        unclip.encode_clip_image(encoder, Image(torch.rand(1, 3, 40, 80)), run=run)
    assert text in str(caught.value)
    assert caught.value.fix == "use the preprocessor_config.json that belongs to the image encoder"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("image_std", [0, 0, 0], "a number, or three, and none of them 0"),
        ("image_std", [0.5, 0.5], "a number, or three, and none of them 0"),
        ("image_std", [math.nan, 1, 1], "a number, or three, and none of them 0"),
        ("image_mean", [math.nan, 0, 0], "a number, or three"),
        ("image_mean", ["a"], "a number, or three"),
        ("rescale_factor", math.inf, "a number"),
        ("size", {"shortest_edge": 10**9}, "whole numbers from 1 to 10,000"),
        ("crop_size", {"height": 0, "width": -1}, "whole numbers from 1 to 10,000"),
    ],
)
def test_check_tells_of_a_preparation_of_pictures_that_cannot_be(name: str, value: Any, words: str, tmp_path: Path) -> None:
    """Such ones came to embeddings that are no numbers, or filled the memory."""
    folder = Path(shutil.copytree(unclip_folder("kandinsky_prior"), tmp_path / "models" / "prior"))
    path = "image_processor/preprocessor_config.json"
    flow = {"nodes": {"model": {"use": "load_unclip", "with": {"name": "prior"}}}}
    with Engine(models=[tmp_path / "models"], cache=False, device="cpu") as engine:
        assert engine.check(flow) == []
        configured(path, **{name: value})(folder)
        (problem,) = engine.check(flow)
    assert problem.text == f"{path!r} of the model says {name!r} is {json.dumps(value)}; it must be {words}"
    assert (problem.where, problem.fix) == ("nodes.model.with.name", "copy the model folder again")


def test_embeddings_that_are_no_numbers_are_told_of_where_they_arise(tmp_path: Path) -> None:
    """This scheduler goes from pictures to noise, and from noise beyond all bounds."""
    folder = Path(shutil.copytree(unclip_folder("kandinsky_prior"), tmp_path / "prior"))
    scheduled("scheduler", "DDIMInverseScheduler")(folder)
    run = FolderRun()
    model = unclip.load_unclip(run.model(folder), run=run)
    caption = unclip.encode_clip_text(model.encoder, "a red circle", run=run).conditioning
    with pytest.raises(Invalid, match="the prior came to values that are no numbers"):
        unclip.sample_prior(model.prior, caption, caption, steps=2, run=run)


def test_a_model_without_an_autoencoder_decodes_nothing() -> None:
    """The pixels themselves stand for a VAE only where the decoder paints them."""
    unclip_folder("kandinsky_prior")
    absent = of("kandinsky_prior")["vae"]
    found = facts.decode_latent(absent, Facts(space="movq-f2-c4", channels=4))
    assert found == Mismatch("vae", "the model has no vae", "take it from a model that has one")
    run = FolderRun()
    with pytest.raises(Invalid, match="the model has no vae"):
        nodes.decode_latent(parts(run, "kandinsky_prior").vae, Latent(torch.zeros(1, 4, 8, 8), "movq-f2-c4"), run=run)


def test_the_index_names_the_scheduler_of_an_upsampler(tmp_path: Path) -> None:
    """As in the pipelines: that is how people exchange it."""
    folder = Path(shutil.copytree(unclip_folder("karlo"), tmp_path / "karlo"))
    config = folder / "super_res_scheduler/scheduler_config.json"
    picture = Image(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)))

    def large() -> torch.Tensor:
        run = FolderRun()
        return unclip.upsample_diffusion(unclip.load_unclip(run.model(folder), run=run).upsampler, picture, steps=3, run=run).image.tensor()

    before = large()
    configured("model_index.json", super_res_scheduler=["diffusers", "DDIMScheduler"])(folder)
    named = large()
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_class_name": "DDIMScheduler"}))
    assert torch.equal(named, large())
    assert not torch.equal(named, before)
