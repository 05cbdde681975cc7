"""What `check` says of diffusion workflows before any weight is read."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusers
import pytest

from nodegraph import Engine, Invalid
from nodegraph.facts import Facts, Mismatch
from nodegraph.packs import load_all
from nodegraph.registry import Registry
from nodes.diffusion import facts, nodes
from nodes.diffusion.facts import configurations, samplers
from nodes.diffusion.schedulers import SAMPLERS, _steps_alone, make_scheduler
from tests.cpu.tiny_models import FolderRun, copied, model_folder, root

KINDS = ("sd1", "sd2", "inpaint", "flow")


class Folders:
    """A `Look` at the tiny models."""

    def __init__(self, folder: Path):
        self.folder = folder

    def json(self, model: str, path: str) -> Mapping[str, Any] | None:
        target = self.folder / model / path
        return json.loads(target.read_text()) if target.is_file() else None

    def header(self, model: str, path: str = "") -> None:
        raise AssertionError("these facts need no weights")

    def files(self, model: str) -> list[str]:
        return [path.relative_to(self.folder / model).as_posix() for path in (self.folder / model).rglob("*") if path.is_file()]


def of(kind: str) -> dict[str, Facts]:
    model_folder(kind)
    found = facts.load_model(Folders(root()), Facts(value=kind))
    assert isinstance(found, dict)
    return found


def latent_of(kind: str) -> Facts:
    found = facts.empty_latent(of(kind)["denoiser"], Facts(), Facts(), Facts())
    assert isinstance(found, Facts)
    return found


def sampled(model: str, text: str = "", latent: Facts | str = "", **literals: str) -> Any:
    """The facts of sampling with parts of different models."""
    conditioning = facts.encode_text(of(text or model)["encoder"])
    given = latent if isinstance(latent, Facts) else latent_of(latent or model)
    options = {port: Facts(value=literals[port]) if port in literals else Facts() for port in ("sampler", "sigmas")}
    return facts.sample_latent(of(model)["denoiser"], conditioning, conditioning, given, **options, guide=Facts())


def test_a_model_is_known_from_its_configurations() -> None:
    assert of("sd2") == {
        "denoiser": {
            "network": "UNet2DConditionModel",
            "channels": 4,
            "latent_channels": 4,
            "text_width": 64,
            "factor": 4,
            "space": "kl-f4-c4-0.18215",
            "prediction": "v_prediction",
            "scheduler": "DDIMScheduler",
            "width": 32,
            "height": 32,
        },
        "vae": {"channels": 4, "factor": 4, "space": "kl-f4-c4-0.18215"},
        "encoder": {"network": "CLIPTextModel", "text_width": 64, "layers": 3},
    }
    assert of("flow")["denoiser"]["prediction"] == "flow_prediction"
    assert of("flow")["vae"]["space"] == "kl-f4-c4-0.18215+0.1"
    assert of("inpaint")["denoiser"]["channels"] == 9


@pytest.mark.parametrize("kind", KINDS)
def test_handles_know_the_same_as_check(kind: str) -> None:
    run = FolderRun()
    model = nodes.load_model(run.model(model_folder(kind)), run=run)
    assert {name: dict(handle.facts) for name, handle in model._asdict().items()} == of(kind)


@pytest.mark.parametrize(
    ("config", "space"),
    [
        ({"_class_name": "AutoencoderKL", "scaling_factor": 0.13025}, "kl-f8-c4-0.13025"),
        ({"_class_name": "AutoencoderKL"}, "kl-f8-c4-0.18215"),  # files of before there was a key for it
        ({"_class_name": "AsymmetricAutoencoderKL"}, "kl-f8-c4-0.18215"),
        ({"_class_name": "AutoencoderKL", "scaling_factor": 1.5305, "shift_factor": 0.0609}, "kl-f8-c4-1.5305+0.0609"),
        ({"_class_name": "AutoencoderTiny", "scaling_factor": 1.0}, None),
    ],
)
def test_spaces_of_latents(config: dict[str, Any], space: str | None) -> None:
    whole = {"block_out_channels": [1, 2, 4, 4], "latent_channels": 4, **config}
    found = configurations.vae_facts({"vae/config.json": whole}.get)
    assert (found["factor"], found["channels"], found.get("space")) == (8, 4, space)


def test_text_of_another_width() -> None:
    assert sampled("sd1", text="sd2") == Mismatch(
        "positive",
        "the text states are 64 wide, but this denoiser takes 32",
        fix="encode the text with the encoder of the same model",
    )


def test_latents_of_another_space() -> None:
    assert sampled("sd1", latent="flow") == Mismatch(
        "latent",
        "the latent is of the space 'kl-f4-c4-0.18215+0.1', but this denoiser works in 'kl-f4-c4-0.18215'",
        fix="use the VAE of the same model",
    )
    decoded = facts.decode_latent(of("sd1")["vae"], latent_of("flow"))
    assert isinstance(decoded, Mismatch)
    assert decoded.port == "latent"
    encoded = facts.encode_inpaint(of("sd1")["denoiser"], of("flow")["vae"], Facts())
    assert isinstance(encoded, Mismatch)
    assert encoded.port == "vae"


def test_inpainting_denoisers_take_what_encode_inpaint_makes() -> None:
    assert sampled("inpaint") == Mismatch(
        "latent",
        "this denoiser is for inpainting: it takes 9 channels, a latent of 4, a mask and a masked picture",
        fix="make the latent with encode_inpaint",
    )
    for kind in ("sd1", "inpaint"):
        model = of(kind)
        encoded = facts.encode_inpaint(model["denoiser"], model["vae"], Facts(width=64, height=32))
        assert isinstance(encoded, dict)
        assert encoded["latent"] == {"channels": 4, "space": "kl-f4-c4-0.18215", "width": 64, "height": 32, "inpaint": True}
        first = sampled(kind, latent=encoded["latent"])
        assert sampled(kind, latent=first["latent"]) == {"latent": encoded["latent"]}  # a sampling in two nodes
    other = Facts(channels=16)
    assert sampled("sd1", latent=other) == Mismatch(
        "latent", "the latent has 16 channels, but this denoiser takes 4", fix="use a latent of its own model"
    )


@pytest.mark.parametrize(
    ("model", "literals", "port"),
    [
        ("sd1", {"sampler": "ddim", "sigmas": "karras"}, "sigmas"),
        ("flow", {"sampler": "ddim"}, "sampler"),
        ("sd1", {"sampler": "euler", "sigmas": "karras"}, ""),
        ("flow", {"sampler": "euler"}, ""),
        *(("flow", {"sampler": "euler", "sigmas": sigmas}, "") for sigmas in ("karras", "exponential", "beta")),
        *(
            ("flow", {"sampler": sampler, "sigmas": sigmas}, "" if (sampler, sigmas) == ("unipc", "karras") else "sigmas")
            for sampler in ("dpm++_2m", "dpm++_2m_sde", "unipc", "heun")
            for sigmas in ("karras", "exponential", "beta")
        ),
        ("sd1", {"sigmas": "karras"}, ""),
    ],
)
def test_samplers(model: str, literals: dict[str, str], port: str) -> None:
    found = sampled(model, **literals)
    assert (found.port if isinstance(found, Mismatch) else "") == port


@pytest.mark.parametrize(
    ("literals", "port"),
    [
        ({"sampler": "heun"}, "with.sampler"),
        ({"sampler": "dpm2_ancestral", "sigmas": "karras"}, "with.sampler"),
        ({"sampler": "heun", "sigmas": "karras", "steps": 19}, "with.steps"),
        ({"sampler": "dpm2", "sigmas": "exponential", "steps": 8}, "with.steps"),
        ({"sampler": "lms", "sigmas": "beta"}, "with.sigmas"),
        ({"sampler": "unipc", "sigmas": "beta", "start": 5}, "with.sigmas"),
        ({"sampler": "heun", "sigmas": "karras"}, ""),
        ({"sampler": "dpm2"}, ""),
        ({"sampler": "dpm2_ancestral", "sigmas": "exponential"}, ""),
        ({"sampler": "heun", "strength": 0.7}, ""),
        ({"sampler": "heun", "start": 5}, ""),
        ({"sampler": "lms", "sigmas": "karras", "steps": 4}, ""),
    ],
)
def test_samplers_of_a_model_that_begins_at_much_noise(engine: Engine, literals: dict[str, Any], port: str) -> None:
    problems = engine.check(workflow("tiny-sd", **literals))
    assert [one.where for one in problems] == ([f"nodes.sample.{port}"] if port else [])
    assert all("the noise levels of this model begin at 20,291" in one.text and one.fix.startswith("use ") for one in problems)
    assert not engine.check(workflow("sd1", **literals))


@pytest.mark.parametrize(
    ("literals", "port"),
    [
        ({"strength": 0.01}, "with.strength"),
        ({"steps": 4, "start": 4}, "with.start"),
        ({"steps": 4, "start": 2, "end": 2}, "with.start"),
        ({"steps": 4, "start": 2, "strength": 0.5}, "with.start"),
        ({"steps": 4, "end": 5}, "with.end"),
        ({"steps": 4, "strength": 0.5, "end": 2}, "with.end"),
        ({"steps": 4, "strength": 0.5, "end": 3}, ""),
        ({"steps": 4, "start": 3}, ""),
    ],
)
def test_there_is_a_step_to_take(engine: Engine, literals: dict[str, Any], port: str) -> None:
    assert [one.where for one in engine.check(workflow("sd1", **literals))] == ([f"nodes.sample.{port}"] if port else [])


def test_the_strength_that_is_proposed_is_one_step() -> None:
    for steps in range(2, 1001):
        problem = samplers.steps_problem(steps, strength=0.5 / steps)
        assert problem is not None
        proposed = float(problem[2].removeprefix("use at least "))
        assert samplers.steps_problem(steps, strength=proposed) is None
        assert proposed < 1 / steps + 1e-3


@pytest.mark.parametrize("family", ["EulerDiscreteScheduler", "DDIMScheduler"])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("spacing", [{}, {"timestep_spacing": "linspace"}, {"timestep_spacing": "trailing"}])
def test_the_first_noise_level_is_that_of_diffusers(family: str, schedule: str, spacing: dict[str, Any]) -> None:
    config = {"_class_name": family, "beta_schedule": schedule, **spacing}
    scheduler = make_scheduler(config, "euler")
    scheduler.set_timesteps(20)
    first = float(scheduler.sigmas[0])
    assert configurations.noise_of(config) == (round(first) if first > samplers.MUCH_NOISE else None)


@pytest.mark.parametrize("sampler", samplers.NO_SAMPLE_PREDICTION)
def test_schedulers_of_models_that_cannot_use_what_they_predict(sampler: str) -> None:
    config = {"_class_name": SAMPLERS[sampler][0], "prediction_type": "sample"}
    model = configurations.denoiser_facts({"scheduler/scheduler_config.json": config}.get)
    found = samplers.sampler_problem("default", "default", model["prediction"], model["scheduler"])
    assert found == ("sampler", "the sampler 'default' cannot use a model that predicts the clean sample", "use 'ddim'")
    with pytest.raises(Invalid, match="predicts the clean sample"):
        make_scheduler(config)
    make_scheduler(config, "ddim")


def test_rescaled_noise_levels() -> None:
    """Only some samplers follow them; of those, some take other noise levels at all."""
    known = configurations.denoiser_facts({"scheduler/scheduler_config.json": {"rescale_betas_zero_snr": True}}.get)
    taken = {name: inspect.signature(getattr(diffusers, made).__init__).parameters for name, (made, _) in SAMPLERS.items()}
    wanted = {name for name, options in taken.items() if {"rescale_betas_zero_snr", "use_beta_sigmas"} <= {*options}}
    assert {name for name in SAMPLERS if samplers.noise_problem(known, name, "beta")} == wanted


def test_sizes() -> None:
    sd1 = of("sd1")
    assert facts.empty_latent(sd1["denoiser"], Facts(value=30), Facts(), Facts()) == Mismatch(
        "width", "30×32 is not in multiples of 4, the pixels of one latent cell of this model", fix="use 32×32, the nearest size"
    )
    image = Facts(width=32, height=34)
    assert facts.encode_image(sd1["vae"], image) == Mismatch(
        "image", "32×34 is not in multiples of 4, the pixels of one latent cell of this model", fix="use 32×32, the nearest size"
    )
    assert isinstance(facts.encode_inpaint(sd1["denoiser"], sd1["vae"], image), Mismatch)
    picture = facts.decode_latent(sd1["vae"], facts.encode_image(sd1["vae"], Facts(width=64, height=32, batch=2))["latent"])
    assert picture == {"width": 64, "height": 32, "batch": 2}


def test_what_is_unknown_is_no_mistake() -> None:
    nothing = Facts()
    assert facts.load_model(Folders(root()), nothing) == {}
    assert facts.encode_text(nothing) == {}
    assert facts.empty_latent(nothing, nothing, nothing, nothing) == {"empty": True}
    assert facts.sample_latent(*[nothing] * 7) == {"latent": {}}
    assert facts.decode_latent(nothing, nothing) == {}
    assert facts.encode_inpaint(nothing, nothing, nothing) == {"latent": {"inpaint": True}}


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    folder = copied("sd1", tmp_path)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    found = facts.load_model(Folders(tmp_path), Facts(value="sd1"))
    text = "'unet/diffusion_pytorch_model.bin' is a pickle, which may run any code and is never read"
    assert found == Mismatch("name", text, fix="convert it to safetensors")


BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("vae/config.json", {"scaling_factor": None}),
    ("vae/config.json", {"shift_factor": "0.1"}),
    ("vae/config.json", {"block_out_channels": 8}),
    ("vae/config.json", {"latent_channels": [4]}),
    ("unet/config.json", {"sample_size": [8, 8, 8]}),
    ("unet/config.json", {"in_channels": True}),
    ("scheduler/scheduler_config.json", {"trained_betas": 0.1}),
    ("scheduler/scheduler_config.json", {"num_train_timesteps": 0}),
    ("scheduler/scheduler_config.json", {"original_inference_steps": None}),
    ("scheduler/scheduler_config.json", {"original_inference_steps": "50"}),
    ("scheduler/scheduler_config.json", {"use_karras_sigmas": "yes"}),
    ("scheduler/scheduler_config.json", {"steps_offset": 1.5}),
    ("scheduler/scheduler_config.json", {"clip_sample_range": [None]}),
    ("scheduler/scheduler_config.json", {"shift_terminal": [1, 2]}),
    ("scheduler/scheduler_config.json", {"shift_terminal": 10**400}),
    ("text_encoder/config.json", {"architectures": 5}),
    ("text_encoder/config.json", {"architectures": "CLIPTextModel"}),
    ("text_encoder/config.json", {"architectures": [5]}),
    ("text_encoder/config.json", {"eos_token_id": [2, 3]}),
    ("text_encoder/config.json", {"eos_token_id": None}),
]


@pytest.mark.parametrize(("path", "changes"), BROKEN, ids=str)
@pytest.mark.parametrize("node", ["load_model", "load_unclip"])
def test_configurations_that_cannot_be_are_told_of_the_model(node: str, path: str, changes: dict[str, Any], tmp_path: Path) -> None:
    folder = copied("sd1", tmp_path)
    (folder / path).write_text(json.dumps(json.loads((folder / path).read_text()) | changes))
    found = getattr(facts, node)(Folders(tmp_path), Facts(value="sd1"))
    assert isinstance(found, Mismatch)
    assert (found.port, found.fix) == ("name", "copy the model folder again")
    assert found.text.startswith(f"{path!r} of the model says {next(iter(changes))!r} is ")


@pytest.mark.parametrize("name", ["unet.safetensors", "model.safetensors", "diffusion_pytorch_model.fp16.safetensors.old"])
def test_weights_of_another_name_are_none(name: str, tmp_path: Path) -> None:
    folder = copied("sd1", tmp_path)
    (folder / "unet/diffusion_pytorch_model.safetensors").rename(folder / "unet" / name)
    found = facts.load_model(Folders(tmp_path), Facts(value="sd1"))
    assert isinstance(found, Mismatch)
    assert found.text == "the unet of the model has no weights: there is no unet/diffusion_pytorch_model.safetensors"


# --- through the engine ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    for kind in KINDS:
        model_folder(kind)
    with Engine(models=[root()], cache=False, device="cpu") as made:
        yield made


def workflow(sampling: str, encoding: str = "", decoding: str = "", **literals: Any) -> dict[str, Any]:
    """Text to image with parts of different models; from a picture where steps are left out."""
    canvas: dict[str, Any] = {"use": "empty_latent", "from": {"model": "model.denoiser"}, "with": {"width": literals.pop("width", 32)}}
    if {"start", "strength"} & literals.keys():
        canvas = {"use": "encode_image", "from": {"vae": "third.vae", "image": "blank.image"}}
    models = {"model": sampling, "other": encoding or sampling, "third": decoding or sampling}
    links = {"model": "model.denoiser", "positive": "text.conditioning", "negative": "text.conditioning", "latent": "canvas.latent"}
    return {
        "nodegraph": 1,
        "nodes": {
            **{name: {"use": "load_model", "with": {"name": model}} for name, model in models.items()},
            "text": {"use": "encode_text", "from": {"encoder": "other.encoder"}, "with": {"text": "a red circle"}},
            "blank": {"use": "solid_image", "with": {"width": 32, "height": 32}},
            "canvas": canvas,
            "sample": {"use": "sample_latent", "from": links, "with": literals},
            "decode": {"use": "decode_latent", "from": {"vae": "third.vae", "latent": "sample.latent"}},
        },
        "outputs": {"image": "decode.image"},
    }


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"sampling": "sd1"}, []),
        ({"sampling": "sd1", "encoding": "sd2"}, ["nodes.sample.from.positive"]),
        ({"sampling": "sd1", "decoding": "flow"}, ["nodes.decode.from.latent"]),
        ({"sampling": "inpaint"}, ["nodes.sample.from.latent"]),
        ({"sampling": "sd1", "width": 33}, ["nodes.canvas.with.width"]),
        ({"sampling": "flow", "sampler": "lcm"}, ["nodes.sample.with.sampler"]),
        ({"sampling": "sd1", "encoding": "sd2", "width": 33}, ["nodes.canvas.with.width", "nodes.sample.from.positive"]),
    ],
)
def test_check(engine: Engine, given: dict[str, Any], where: list[str]) -> None:
    assert [problem.where for problem in engine.check(workflow(**given))] == where


# --- what a run refuses is told before it ------------------------------------------------------


def changed(kind: str, changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Text to image, or an inpainting, with other literals of nodes. A port that is None is not given at all."""
    model = {"model": "model.denoiser"}
    inputs = {**model, "positive": "positive.conditioning", "negative": "negative.conditioning", "latent": "canvas.latent"}
    painted = {"use": "encode_inpaint", "from": {**model, "vae": "model.vae", "image": "blank.image", "mask": "mask.mask"}}
    edited = {"use": "encode_edit", "from": {"vae": "model.vae", "image": "blank.image"}}
    nodes: dict[str, dict[str, Any]] = {
        "model": {"use": "load_model", "with": {"name": kind}},
        "positive": {"use": "encode_text", "from": {"encoder": "model.encoder"}, "with": {"text": "a red circle"}},
        "negative": {"use": "encode_text", "from": {"encoder": "model.encoder"}, "with": {"text": ""}},
        "blank": {"use": "solid_image", "with": {"width": 32, "height": 32}},
        "mask": {"use": "solid_mask", "with": {"width": 8, "height": 8}},
        "canvas": {"inpaint": painted, "edit": edited}.get(kind, {"use": "empty_latent", "from": model}),
        "sample": {"use": "sample_latent", "from": inputs, "with": {"steps": 2}},
    }
    for name, ports in changes.items():
        for port, value in ports.items():
            nodes[name].setdefault("from", {}).pop(port, None)
            nodes[name].setdefault("with", {}).update({} if value is None else {port: value})
    return {"nodes": nodes, "outputs": {"latent": "sample.latent"}}


NO_NEGATIVE = {"negative": None}


@pytest.mark.parametrize(
    ("kind", "changes", "where"),
    [
        ("sd1", {"sample": NO_NEGATIVE}, "sample.from.negative"),
        ("sd1", {"sample": {**NO_NEGATIVE, "guidance": 1}}, ""),
        ("distilled", {"sample": {**NO_NEGATIVE, "steps": 4}}, ""),
        ("edit", {"sample": NO_NEGATIVE}, "sample.from.negative"),
        ("edit", {"sample": {**NO_NEGATIVE, "image_guidance": 0.5}}, ""),
        ("inpaint", {"sample": {**NO_NEGATIVE, "image_guidance": 0.5}}, "sample.from.negative"),
        ("sd1", {"sample": {"seed": [1, 2, 3]}}, "sample.with.seed"),
        ("sd1", {"sample": {"seed": [1, 2, 3]}, "canvas": {"batch": 3}}, ""),
        ("sd1", {"sample": {"seed": [1]}, "canvas": {"batch": 2}}, "sample.with.seed"),
        ("sd1", {"positive": {"text": ["a", "b"]}, "canvas": {"batch": 3}}, "sample.from.positive"),
        ("sd1", {"negative": {"text": ["a", "b"]}}, "sample.from.negative"),
        ("sd1", {"positive": {"text": ["a", "b"]}, "canvas": {"batch": 2}}, ""),
        ("sd1", {"positive": {"text": []}}, "positive.with.text"),
        ("sd1", {"positive": {"text": "a (red"}}, "positive.with.text"),
        ("sd1", {"positive": {"text": "((c:90000):90000)"}}, "positive.with.text"),
        ("sd1", {"positive": {"text": "a (red", "emphasis": False}}, ""),
        ("sd1", {"positive": {"clip_skip": 2}}, "positive.with.clip_skip"),
        ("sd1", {"positive": {"clip_skip": 1}}, ""),
        ("sd1", {"sample": {"strength": 0.5}}, "sample.from.latent"),
        ("sd1", {"sample": {"start": 1}}, "sample.from.latent"),
        ("sd1", {"sample": {"add_noise": False}}, "sample.from.latent"),
        ("edit", {"sample": {"start": 1}}, "sample.from.latent"),
        ("inpaint", {"sample": {"strength": 0.5}}, "sample.from.latent"),
        ("inpaint", {"sample": {"strength": 0.5}, "canvas": {"strength": 0.5}}, ""),
        ("inpaint", {"mask": {"batch": 2}}, "canvas.from.mask"),
        ("inpaint", {"mask": {"batch": 2}, "blank": {"batch": 2}}, ""),
        ("inpaint", {"canvas": {"seed": [1, 2]}}, "canvas.with.seed"),
        ("sd1", {"sample": {"sigmas": "karras"}}, "sample.with.sigmas"),
        ("flow", {"sample": {"sigmas": "karras"}}, ""),
        ("sd1", {"sample": {"sampler": "lcm", "steps": 51}}, "sample.with.steps"),
        ("sd1", {"sample": {"sampler": "tcd", "steps": 51}}, "sample.with.steps"),
        ("sd1", {"sample": {"sampler": "lcm", "steps": 50}}, ""),
        ("learned", {}, "sample.from.sampler"),
        ("learned", {"sample": {"sampler": "ddpm"}}, "sample.with.sampler"),
        ("learned", {"sample": {"sampler": "ddim"}}, ""),
        ("learned", {"sample": {"sampler": "euler"}}, ""),
        ("sd1", {"sample": {"sampler": "ddpm"}}, ""),
    ],
)
def test_what_a_run_refuses_is_told_before(engine: Engine, kind: str, changes: dict[str, dict[str, Any]], where: str) -> None:
    model_folder(kind)
    flow = changed(kind, changes)
    assert [problem.where for problem in engine.check(flow)] == ([f"nodes.{where}"] if where else [])
    if not where:
        assert engine.run(flow).ok


@pytest.mark.parametrize("kind", ["inpaint", "edit"])
@pytest.mark.parametrize(("end", "where"), [(None, "again.from.latent"), (2, "again.from.latent"), (1, "")])
def test_only_a_sampling_that_is_cut_goes_on_with_mask_or_picture(engine: Engine, kind: str, end: int | None, where: str) -> None:
    model_folder(kind)
    flow = changed(kind, {"sample": {} if end is None else {"end": end}})
    again = {**flow["nodes"]["sample"], "with": {"steps": 2, "start": 1, "add_noise": False}}
    again["from"] = {**again["from"], "latent": "sample.latent", "seed": "sample.rng"}
    flow = {"nodes": {**flow["nodes"], "again": again}, "outputs": {"latent": "again.latent"}}
    assert [problem.where for problem in engine.check(flow)] == ([f"nodes.{where}"] if where else [])
    if not where:
        assert engine.run(flow).ok


@pytest.mark.parametrize(
    ("kind", "text"),
    [("sd1", ""), ("inpaint", "takes 9 channels"), ("edit", "takes 8 channels"), ("flow", "noise levels are not those of DDIM")],
)
def test_only_what_ddim_samples_alone_is_inverted(engine: Engine, kind: str, text: str) -> None:
    model_folder(kind)
    flow = changed(kind, {})
    links = {"model": "model.denoiser", "positive": "positive.conditioning", "latent": "canvas.latent"}
    inverted = {"use": "invert_ddim", "from": links, "with": {"steps": 2}}
    flow = {"nodes": {**flow["nodes"], "inverted": inverted}, "outputs": {"latent": "inverted.latent"}}
    found = engine.check(flow)
    assert [problem.where for problem in found] == (["nodes.inverted.from.model"] if text else [])
    assert all(text in problem.text for problem in found)
    if not text:
        assert engine.run(flow).ok


@pytest.mark.parametrize("use", ["encode_inpaint", "encode_edit"])
@pytest.mark.parametrize(("end", "where"), [(None, ""), (1, "from.latent"), (0, "from.latent")])
def test_only_a_latent_alone_is_inverted(engine: Engine, use: str, end: int | None, where: str) -> None:
    """As it is (`end` 0), after a sampling to its end, and after one that was cut, which keeps a mask but no picture to edit."""
    model_folder("sd1")
    flow = changed("sd1", {"sample": {} if not end else {"end": end}})
    links = {"encode_inpaint": {"model": "model.denoiser", "mask": "mask.mask"}, "encode_edit": {}}[use]
    flow["nodes"]["canvas"] = {"use": use, "from": {"vae": "model.vae", "image": "blank.image", **links}}
    links = {"model": "model.denoiser", "positive": "positive.conditioning", "latent": "canvas.latent" if end == 0 else "sample.latent"}
    inverted = {"use": "invert_ddim", "from": links, "with": {"steps": 2}}
    flow = {"nodes": {**flow["nodes"], "inverted": inverted}, "outputs": {"latent": "inverted.latent"}}
    refused = where and not (end and use == "encode_edit")
    assert [problem.where for problem in engine.check(flow)] == ([f"nodes.inverted.{where}"] if refused else [])
    if not refused:
        assert engine.run(flow).ok


def test_a_negative_that_a_child_may_be_given(engine: Engine) -> None:
    """An input that is null by default is not known to be null; one that is left out is."""
    child = changed("sd1", {})
    child["inputs"] = {"negative": {"type": "conditioning | none", "default": None}}
    child["nodes"]["sample"]["from"]["negative"] = "inputs.negative"
    del child["nodes"]["negative"]
    assert engine.check(child) == []
    flow = changed("sd1", {})
    nodes = {**{name: flow["nodes"][name] for name in ("model", "negative")}, "child": {"use": child}}
    assert [one.where for one in engine.check({"nodes": nodes, "outputs": {"latent": "child.latent"}})] == [
        "nodes.child.use.nodes.sample.from.negative"
    ]
    nodes["child"] = {"use": child, "from": {"negative": "negative.conditioning"}}
    assert engine.check({"nodes": nodes, "outputs": {"latent": "child.latent"}}) == []


def test_the_schedulers_that_can_be_respaced_are_those_of_diffusers() -> None:
    classes = {name: getattr(diffusers, name) for name in dir(diffusers) if name.endswith("Scheduler")}
    taken = {name: inspect.signature(cls.__init__).parameters for name, cls in classes.items() if inspect.isclass(cls)}
    respaced = {name for name, parameters in taken.items() if "use_karras_sigmas" in parameters}
    assert respaced == samplers.RESPACED
    assert all({"use_exponential_sigmas", "use_beta_sigmas"} <= taken[name].keys() for name in respaced)


def test_the_schedulers_that_step_otherwise_are_those_of_diffusers() -> None:
    known = {name for name in dir(diffusers) if name.endswith("Scheduler") and inspect.isclass(getattr(diffusers, name))}
    assert known >= samplers.OTHER_STEPS
    assert {name for name in known if not _steps_alone(getattr(diffusers, name))} <= samplers.OTHER_STEPS
    untold = {name for name in known if any(map(_is_needed, inspect.signature(getattr(diffusers, name).__init__).parameters.values()))}
    assert untold == samplers.UNTOLD


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.name != "self" and parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD


@pytest.mark.parametrize(
    ("family", "sampler", "port"),
    [
        ("RePaintScheduler", "default", "sampler"),
        ("RePaintScheduler", "ddim", ""),
        ("DDPMWuerstchenScheduler", "default", "sampler"),
        ("VQDiffusionScheduler", "default", "model"),
        ("VQDiffusionScheduler", "ddim", "model"),
        ("UNet2DModel", "ddim", "model"),
        (None, "default", "model"),
        (5, "default", "model"),
    ],
)
def test_schedulers_that_cannot_step_are_told_of(family: Any, sampler: str, port: str, tmp_path: Path) -> None:
    folder = copied("sd1", tmp_path / "models")
    path = folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": family}))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "scheduler": ["diffusers", family]}))
    graph = changed("sd1", {"sample": {"sampler": sampler}})
    with Engine(models=[folder.parent], cache=False, device="cpu") as engine:
        found = engine.check(graph)
        assert [problem.where.rpartition(".")[2] for problem in found] == ([port] if port else [])
        if not port:
            assert engine.run(graph).ok


def test_facts_are_named_like_nodes() -> None:
    registry = Registry()
    load_all(registry, [Path(facts.__file__).parents[1]])
    own = {name for name, value in vars(facts).items() if inspect.isfunction(value) and value.__module__ == facts.__name__}
    assert {name for name in own if name[0] != "_"} <= set(registry.names())


@pytest.mark.parametrize(("kind", "steps", "sampler", "around", "refused"), [
    ("outdated-pndm", 3, "default", False, True),
    ("outdated-pndm", 4, "default", False, False),
    ("outdated-pndm", 3, "pndm", False, False),
    ("outdated-pndm", 3, "default", True, False),
    ("sd1", 3, "default", False, False),
])  # fmt: skip
def test_too_few_steps_for_those_of_runge_kutta(kind: str, steps: int, sampler: str, around: bool, refused: bool) -> None:
    """They were refused when the sampler began, with all weights read. Around a mask the pipeline takes no such steps."""
    latent = Facts(**latent_of(kind), inpaint=around or None)
    given = {"sampler": Facts(value=sampler), "steps": Facts(value=steps), "strength": Facts(value=1.0), "start": Facts(value=0)}
    known = facts.encode_text(of(kind)["encoder"])
    found = facts.sample_latent(of(kind)["denoiser"], known, known, latent, sigmas=Facts(), guide=Facts(), **given)
    assert found == Mismatch("steps", *samplers.FOUR_STEPS) if refused else isinstance(found, dict)


def test_a_picture_from_a_file_takes_one_seed(tmp_path: Path) -> None:
    nodes = {"load": {"use": "load_image", "with": {"file": "a.png"}}, "model": {"use": "load_model", "with": {"name": "sd1"}}}
    linked = {"vae": "model.vae", "image": "load.image"}
    nodes["encode"] = {"use": "encode_image", "from": linked, "with": {"seed": [1, 2]}}  # type: ignore[dict-item]
    (tmp_path / "a.png").touch()
    model_folder("sd1")
    with Engine(models=[root()], cache=False, roots=[tmp_path]) as engine:
        nodes["load"]["with"]["file"] = str(tmp_path / "a.png")  # type: ignore[index]
        (problem,) = engine.check({"nodes": nodes, "outputs": {"latent": "encode.latent"}})
    assert (problem.where, problem.text) == ("nodes.encode.with.seed", "a batch of 1 takes a seed for each picture, but 2 were given")
