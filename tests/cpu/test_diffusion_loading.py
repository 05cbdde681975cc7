"""The component-wise loader: which files it reads, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nodegraph import Files, Invalid
from nodegraph.memory import is_out_of_memory
from nodes.diffusion import loading, nodes
from tests.cpu.tiny_models import FolderRun, copied, model_folder

WEIGHTS = "diffusion_pytorch_model"


def states_and_latent(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """What the weights of a text encoder and of a denoiser make."""
    run = FolderRun()
    model = nodes.load_model(run.model(folder), run=run)
    text = nodes.encode_text(model.encoder, "a red circle", run=run)
    latent = nodes.empty_latent(model.denoiser)
    return text.tensor("states"), nodes.sample_latent(model.denoiser, text, latent, steps=1, guidance=1.0, run=run).latent.tensor()


def use_every_part(folder: Path) -> None:
    run = FolderRun()
    model = nodes.load_model(run.model(folder), run=run)
    nodes.decode_latent(model.vae, nodes.empty_latent(model.denoiser), run=run)
    states_and_latent(folder)


def same(left: Path, right: Path) -> bool:
    """Up to the last bits: on a CPU they depend on where in memory weights lie, and so on their place in the file."""
    pairs = zip(states_and_latent(left), states_and_latent(right), strict=True)
    return all(torch.allclose(one, other, atol=1e-5 * float(one.abs().max())) for one, other in pairs)


def halve(folder: Path, part: str, stem: str) -> None:
    """Save the weights of a part in half precision as its fp16 variant."""
    tensors = load_file(folder / part / f"{stem}.safetensors")
    save_file({name: tensor.half() for name, tensor in tensors.items()}, folder / part / f"{stem}.fp16.safetensors", {"format": "pt"})


# --- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards(variant: str | None, tmp_path: Path) -> None:
    import diffusers
    import transformers

    folder = copied("sd1", tmp_path)
    for cls, part in ((diffusers.UNet2DConditionModel, "unet"), (transformers.CLIPTextModel, "text_encoder")):
        module = cls.from_pretrained(folder / part, local_files_only=True)
        for file in (folder / part).glob("*.safetensors"):
            file.unlink()
        module.save_pretrained(folder / part, max_shard_size="60KB", variant=variant)
        assert len(list((folder / part).glob("*.safetensors"))) > 1
        assert list((folder / part).glob(f"*.safetensors.index{'.fp16' if variant else ''}.json"))
    assert same(folder, model_folder("sd1"))
    next((folder / "unet").glob("*.safetensors")).unlink()
    with pytest.raises(Invalid, match="the weights of the model's unet cannot be read"):
        states_and_latent(folder)


def test_half_precision_variants_are_read_where_there_are_no_others(tmp_path: Path) -> None:
    both = copied("sd1", tmp_path / "both")
    for part, stem in (("unet", WEIGHTS), ("vae", WEIGHTS), ("text_encoder", "model")):
        halve(both, part, stem)
    assert same(both, model_folder("sd1"))
    halves = copied("sd1", tmp_path / "halves")
    for part, stem in (("unet", WEIGHTS), ("vae", WEIGHTS), ("text_encoder", "model")):
        halve(halves, part, stem)
        (halves / part / f"{stem}.safetensors").unlink()
    exact, halved = states_and_latent(model_folder("sd1")), states_and_latent(halves)
    for wanted, given in zip(exact, halved, strict=True):
        assert given.dtype == torch.float32
        difference = (given - wanted).abs().max() / wanted.abs().max()
        assert 1e-5 < difference < 0.05


def test_files_of_older_tokenizers(tmp_path: Path) -> None:
    """Folders of older libraries have vocab.json and merges.txt in place of tokenizer.json."""
    folder = copied("sd1", tmp_path)
    learned = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer" / "tokenizer.json").unlink()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(learned["vocab"]))
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in learned["merges"]]
    (folder / "tokenizer" / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    assert same(folder, model_folder("sd1"))


# --- refused ---------------------------------------------------------------------------------


def remove(*paths: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in paths:
            (folder / path).unlink()

    return change


def pickled(part: str, stem: str, pickle: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / part / f"{stem}.safetensors").rename(folder / part / pickle)

    return change


def configured(path: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / path).read_text())
        (folder / path).write_text(json.dumps(config | changes))

    return change


def written(path: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / path).write_text(text)

    return change


def other_words(folder: Path) -> None:
    """The tokenizer of a larger model."""
    path = folder / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"] = {word: number + 5000 for word, number in content["model"]["vocab"].items()}
    content["added_tokens"] = []
    path.write_text(json.dumps(content))


def lacking(folder: Path) -> None:
    path = folder / "unet" / f"{WEIGHTS}.safetensors"
    tensors = load_file(path)
    tensors.pop("conv_in.bias")
    save_file(tensors, path, {"format": "pt"})


def damaged(folder: Path) -> None:
    path = folder / "unet" / f"{WEIGHTS}.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def garbled(folder: Path) -> None:
    (folder / "vae" / "config.json").write_text('{"latent_channels": ')


def scheduled(family: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        configured("scheduler/scheduler_config.json", _class_name=family)(folder)
        configured("model_index.json", scheduler=["diffusers", family])(folder)

    return change


def renamed(path: str, name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / path).rename((folder / path).with_name(name))

    return change


def indexed(part: str, stem: str) -> Callable[[Path], None]:
    """Weights in shards, of which a list tells nothing."""

    def change(folder: Path) -> None:
        path = folder / part / f"{stem}.safetensors"
        path.rename(path.with_name(f"{stem}-00001-of-00001.safetensors"))
        path.with_name(f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": [1]}))

    return change


def single_file(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()
    (folder / "v1-5.ckpt").write_bytes(b"")


VAE, SCHEDULER, TOKENIZER = "vae/config.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"
REFUSED: list[tuple[Callable[[Path], None], str, str]] = [
    (pickled("unet", WEIGHTS, f"{WEIGHTS}.bin"), f"'unet/{WEIGHTS}.bin' is a pickle", "convert it to safetensors"),
    (pickled("text_encoder", "model", "pytorch_model.bin"), "'text_encoder/pytorch_model.bin' is a pickle", "convert it to safetensors"),
    (pickled("vae", WEIGHTS, "vae.ckpt"), "'vae/vae.ckpt' is a pickle", "convert it to safetensors"),
    (pickled("vae", WEIGHTS, "vae.old"), "the vae of the model has no weights", "copy the whole model folder"),
    (remove("vae/config.json"), "the model has no vae: 'vae/config.json' is not there", "copy the whole model folder"),
    (remove("tokenizer/tokenizer_config.json"), "the model has no tokenizer", "copy the whole model folder"),
    (remove("tokenizer/tokenizer.json"), "the tokenizer of the model has no words", "copy the whole model folder"),
    (written("tokenizer/tokenizer.json", '{"version"'), "the model's tokenizer cannot be read: ", "copy the model folder again"),
    (written("unet/config.json", "[1]"), "'unet/config.json' of the model is no JSON object", "copy the model folder again"),
    (other_words, "the tokenizer gives the token ", "use the tokenizer and the text encoder of one model"),
    (remove("scheduler/scheduler_config.json"), "the model has no scheduler", "copy the whole model folder"),
    (remove("unet/config.json", f"unet/{WEIGHTS}.safetensors"), "the model has no denoiser", "copy the whole model folder"),
    (remove("model_index.json"), "it has no 'model_index.json'", "convert it with diffusers"),
    (single_file, "it has 'v1-5.ckpt', a single-file checkpoint", "convert it with diffusers"),
    (garbled, "'vae/config.json' of the model is no JSON", "copy the model folder again"),
    (lacking, "the weights of the model's unet lack 1 tensors of its network, such as 'conv_in.bias'", "config.json"),
    (
        damaged,
        f"the weights of the model's unet cannot be read: Unable to load weights from checkpoint file for 'unet/{WEIGHTS}",
        "copy the model folder again",
    ),
    (configured(VAE, scaling_factor=None), "says 'scaling_factor' is null; it must be a number, and not 0", "copy the model folder again"),
    (configured(VAE, latent_channels="4"), "says 'latent_channels' is \"4\"; it must be a whole number from 1 on", "copy the model"),
    (configured(VAE, block_out_channels=8), "says 'block_out_channels' is 8; it must be a list of whole numbers", "copy the model"),
    (configured("unet/config.json", sample_size=-8), "says 'sample_size' is -8; it must be a whole number from 1 on, or two", "copy"),
    (configured(SCHEDULER, trained_betas=["a"]), "says 'trained_betas' is [\"a\"]; it must be a list of numbers from 0 to 1", "copy"),
    (
        configured(SCHEDULER, trained_betas=[0.1, 0.2]),
        "has 2 'trained_betas' for 1000 'num_train_timesteps'",
        "copy the model folder again",
    ),
    (configured(SCHEDULER, num_train_timesteps=10**9), "says 'num_train_timesteps' is 1000000000; it must be a whole", "copy the model"),
    (configured(TOKENIZER, model_max_length=0), "the model's tokenizer has no model_max_length of 3 or more", "write one into tokenizer/"),
    (configured(TOKENIZER, pad_token=None), "the model's tokenizer has no pad_token", "write one into tokenizer/tokenizer_config.json"),
    (renamed(f"unet/{WEIGHTS}.safetensors", "unet.safetensors"), "the unet of the model has no weights", "call 'unet/unet.safetensors' so"),
    (configured("unet/config.json", num_class_embeds=10), "the denoiser takes more than text states: 'num_class_embeds'", "other pack"),
    (configured("unet/config.json", in_channels=7), "takes 7 channels, but latents of this model have 4: what goes beside", "other pack"),
    (configured("unet/config.json", layers_per_block=10**8), "says 'layers_per_block' is 100000000; it must be a whole number", "copy"),
    (configured("unet/config.json", layers_per_block=[-1, 1]), "says 'layers_per_block' is [-1, 1]; it must be a whole number", "copy"),
    (configured("unet/config.json", attention_head_dim=0), "says 'attention_head_dim' is 0; it must be a whole number from 1", "copy"),
    (configured("unet/config.json", block_out_channels=[16, 10**9]), "says 'block_out_channels' is [16, 1000000000]; it must be", "copy"),
    (configured("text_encoder/config.json", intermediate_size=10**9), "says 'intermediate_size' is 1000000000; it must be a", "copy"),
    (configured("text_encoder/config.json", num_attention_heads=0), "says 'num_attention_heads' is 0; it must be a whole number", "copy"),
    (configured("text_encoder/config.json", num_hidden_layers=-1), "says 'num_hidden_layers' is -1; it must be a whole number", "copy"),
    (configured("text_encoder/config.json", vocab_size=-5), "says 'vocab_size' is -5; it must be a whole number from 1 to", "copy"),
    (indexed("unet", WEIGHTS), "the weights of the model's unet cannot be read", "copy the model folder again"),
    (indexed("text_encoder", "model"), "the weights of the model's text_encoder cannot be read", "copy the model folder again"),
    (configured("unet/config.json", down_block_types=3), "the weights of the model's unet cannot be read", "copy the model folder again"),
    (configured("vae/config.json", norm_num_groups=0), "says 'norm_num_groups' is 0; it must be a whole number from 1 to 100,000", "copy"),
    (configured("text_encoder/config.json", hidden_act="softest"), "the weights of the model's text_encoder cannot be read", ""),
    (configured("text_encoder/config.json", hidden_size="32"), "says 'hidden_size' is \"32\"; it must be a whole number from 1", "copy"),
    (
        configured("scheduler/scheduler_config.json", beta_start=-1),
        "the configuration of the model's scheduler cannot be used",
        "copy the model folder again",
    ),
    (configured("unet/config.json", block_out_channels=[16, 64]), "the weights of the model's unet cannot be read", ""),
    (
        configured("vae/config.json", _class_name="DiffusionPipeline"),
        "the vae of the model is a 'DiffusionPipeline', which is no model",
        "",
    ),
    (configured("vae/config.json", _class_name="__builtins__"), "the vae of the model is a '__builtins__', which is no model", ""),
    (configured("unet/config.json", _class_name="SD3Transformer2DModel"), "the denoiser is a SD3Transformer2DModel", "other pack"),
    (configured("unet/config.json", addition_embed_type="text_time"), "takes more than text states: 'text_time'", "other pack"),
    (configured("scheduler/scheduler_config.json", _class_name="UNet2DModel"), "the scheduler of the model is a 'UNet2DModel'", ""),
    (
        configured("scheduler/scheduler_config.json", beta_schedule="nope"),
        "the configuration of the model's scheduler cannot be used: nope",
        "copy the model folder again",
    ),
    (configured("scheduler/scheduler_config.json", _class_name=None), "the scheduler of the model is a 'None'", ""),
    (scheduled("RePaintScheduler"), "whose steps need more than a", "name another sampler"),
    (scheduled("ScoreSdeVeScheduler"), "whose steps need more than a", "another sampler"),
    (configured("text_encoder/config.json", architectures=["T5EncoderModel"]), "the text encoder of the model is a T5EncoderModel", ""),
    (configured("tokenizer/tokenizer_config.json", tokenizer_class="T5Tokenizer"), "the tokenizer of the model is a T5Tokenizer", ""),
]


@pytest.mark.parametrize(("change", "text", "fix"), REFUSED, ids=[text for _, text, _ in REFUSED])
def test_refused(change: Callable[[Path], None], text: str, fix: str, tmp_path: Path) -> None:
    folder = copied("sd1", tmp_path)
    change(folder)
    with pytest.raises(Invalid) as caught:
        use_every_part(folder)
    assert text in str(caught.value)
    if fix:
        assert fix.replace("other pack", "the pack for this model family") in caught.value.fix


@pytest.mark.parametrize("hidden", [False, True])
def test_memory_that_is_short_while_weights_are_read_is_no_damage(hidden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is made and they are read again; the libraries may tell of it by an error of their own."""

    def short(*_: Any, **__: Any) -> None:
        try:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        except RuntimeError:
            if hidden:
                raise OSError("Unable to load weights from checkpoint file") from None
            raise

    run = FolderRun()
    model = nodes.load_model(run.model(model_folder("sd1")), run=run)
    files = Files({name: run.paths[digest] for name, digest in model.denoiser.files})
    monkeypatch.setattr("diffusers.UNet2DConditionModel.from_pretrained", short)
    with pytest.raises(Invalid) as caught:
        loading.load_unet(files, "cpu", "float32")
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "fix"),
    [(RuntimeError("can't start new thread"), "more threads"), (OSError(24, "Too many open files", "config.json"), "open more files")],
)
def test_limits_of_the_process_are_no_damage(error: Exception, fix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The advice was to copy the model folder again."""

    def refused(*_: Any, **__: Any) -> None:
        try:
            raise error
        except Exception:
            raise OSError("Unable to load weights from checkpoint file") from None

    run = FolderRun()
    model = nodes.load_model(run.model(model_folder("sd1")), run=run)
    files = Files({name: run.paths[digest] for name, digest in model.denoiser.files})
    monkeypatch.setattr("diffusers.UNet2DConditionModel.from_pretrained", refused)
    with pytest.raises(Invalid) as caught:
        loading.load_unet(files, "cpu", "float32")
    assert fix in caught.value.fix


def test_handles_name_only_their_own_files() -> None:
    run = FolderRun()
    model = nodes.load_model(run.model(model_folder("sd1")), run=run)
    folders = [{path.partition("/")[0] for path, _ in handle.files} for handle in model]
    assert folders == [{"unet", "scheduler"}, {"vae"}, {"text_encoder", "tokenizer"}]
    again = nodes.load_model(FolderRun().model(model_folder("sd1")), run=run)
    assert [handle.digest() for handle in again] == [handle.digest() for handle in model]


def test_models_that_share_a_configuration_keep_their_own_weights(tmp_path: Path) -> None:
    """The files of a model are found by their bytes; those of a fine-tune lie among another's."""
    run, folder, other = FolderRun(), model_folder("sd1"), copied("sd1", tmp_path)
    path = other / "unet" / f"{WEIGHTS}.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    first, second = (nodes.load_model(run.model(one), run=run) for one in (folder, other))
    latents = []
    for model in (first, second):
        text = nodes.encode_text(model.encoder, "a red circle", run=run)
        empty = nodes.empty_latent(model.denoiser)
        latents.append(nodes.sample_latent(model.denoiser, text, empty, steps=1, guidance=1.0, run=run).latent.tensor())
    assert torch.equal(latents[0], states_and_latent(folder)[1])
    assert not torch.allclose(latents[0], latents[1])
