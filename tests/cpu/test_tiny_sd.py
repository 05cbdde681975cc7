"""The built-in model from the command line: what it paints, what a second process computes, what changes a key."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from icon_judge import Expected, Judge
from pictures import accuracy, graph_painter, painted, rejection
from PIL import Image

from nodegraph import Engine, Workflow
from training.edits import draw_edit, picture
from training.icons import Icons, Scene, describe, draw_scene, to_words
from training.shapes import draw_captions, parse

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "nodes" / "diffusion" / "models" / "tiny-sd"
TXT2IMG = ROOT / "workflows" / "txt2img.json"
PROMPT = "a large red circle on the left on a white background"
SEED = int(os.environ.get("PICTURES_SEED", "11"))
NO_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "diffusers", "transformers", "safetensors"):
            raise ImportError(f"{name} must not be imported")
sys.meta_path.insert(0, Blocked())
from nodegraph.cli import main
sys.exit(main())
"""


def nodegraph(*arguments, code=None, **variables) -> subprocess.CompletedProcess:
    command = [sys.executable, *(["-c", code] if code else ["-m", "nodegraph"]), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, **variables}, cwd=os.environ["NODEGRAPH_OUTPUT"]
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where pictures and results of this test go."""
    output = tmp_path / "output"
    output.mkdir()
    monkeypatch.setenv("NODEGRAPH_OUTPUT", str(output))
    monkeypatch.setenv("NODEGRAPH_CACHE", str(tmp_path / "cache"))
    return output


def painted_by(done: subprocess.CompletedProcess) -> tuple[Path, dict]:
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    return Path(told["files"][0]), told


def test_the_demo_paints_and_a_new_process_answers_from_disk_without_torch(folder):
    picture, _ = painted_by(nodegraph("run", TXT2IMG, "--set", f"prompt={PROMPT}", "--json"))
    from pictures import check

    assert all(check(Image.open(picture), parse(PROMPT)).values())
    before = picture.read_bytes()
    again = nodegraph("run", TXT2IMG, "--set", f"prompt={PROMPT}", "--events", "jsonl", code=NO_TORCH)
    same, _ = painted_by(again)
    kinds = [json.loads(line)["event"] for line in again.stdout.splitlines()]
    assert kinds == ["planned", "cached", "done"]
    assert (same, same.read_bytes()) == (picture, before)


def test_torchsde_says_nothing_of_rounded_noise_levels(folder):
    pytest.importorskip("torchsde")
    options = [f"prompt={PROMPT}", "sampler=dpm++_sde", "steps=3"]
    done = nodegraph("run", TXT2IMG, *(part for option in options for part in ("--set", option)))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


def events(folder, workflow: Path, code=None, **variables) -> dict[str, list[str]]:
    done = nodegraph("run", workflow, "--set", f"prompt={PROMPT}", "--events", "jsonl", code=code, **variables)
    assert done.returncode == 0, done.stderr
    seen: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        event = json.loads(line)
        seen.setdefault(event["event"], []).append(event.get("node", ""))
    return seen


def test_names_wrapping_and_the_models_folder_change_nothing_but_one_byte_does(folder, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(MODEL, models / "first-name")
    record = json.loads(TXT2IMG.read_text())
    record["inputs"]["model"]["default"] = "first-name"
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(record))
    variables = {"NODEGRAPH_MODELS": str(models)}
    assert len(events(folder, mine, **variables)["finished"]) == 6

    def renamed(reference):
        return (
            [renamed(one) for one in reference]
            if isinstance(reference, list)
            else reference
            if reference.startswith("inputs.")
            else f"my_{reference}"
        )

    other = dict(
        record,
        nodes={
            f"my_{name}": {**node, "from": {port: renamed(ref) for port, ref in node["from"].items()}}
            for name, node in record["nodes"].items()
        },
    )
    other["outputs"] = {"picture": renamed(record["outputs"]["image"])}
    (tmp_path / "renamed.json").write_text(json.dumps(other))
    assert events(folder, tmp_path / "renamed.json", NO_TORCH, **variables) == {"planned": [""], "cached": ["my_decode"], "done": [""]}

    wrapped = {
        "inputs": {"prompt": {"type": "text"}},
        "nodes": {"inner": {"use": "./mine.json", "from": {"prompt": "inputs.prompt"}}},
        "outputs": {"image": "inner.image"},
    }
    (tmp_path / "wrapped.json").write_text(json.dumps(wrapped))
    assert events(folder, tmp_path / "wrapped.json", NO_TORCH, **variables)["cached"] == ["inner/decode"]

    (models / "first-name").rename(models / "second-name")
    record["inputs"]["model"]["default"] = "second-name"
    mine.write_text(json.dumps(record))
    assert events(folder, mine, NO_TORCH, **variables)["cached"] == ["decode"]

    weights = models / "second-name" / "unet" / "diffusion_pytorch_model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    seen = events(folder, mine, **variables)
    assert {"model", "sample", "decode"} <= set(seen["finished"])
    assert "positive" in seen["cached"], "the text encoder and its tokenizer are the same bytes still"


def test_one_literal_runs_only_what_is_behind_it(folder):
    with Engine() as engine:
        workflow = Workflow.load(TXT2IMG)

        def finished(**inputs):
            job = engine.submit(workflow, prompt=PROMPT, steps=4, **inputs)
            seen = [event.node for event in job.events() if event.kind == "finished"]
            assert job.result().ok, job.result().problems
            return sorted(seen)

        assert finished() == ["canvas", "decode", "model", "negative", "positive", "sample"]
        assert finished(guidance=3.0) == ["decode", "sample"]
        assert finished(negative="dark") == ["decode", "negative", "sample"]
        assert finished(guidance=3.0) == []


@pytest.mark.parametrize("things", [1, 2])
def test_pictures_show_what_the_captions_say(things):
    """200 captions of one thing: at least 95 % right in everything; two things are measured beside it."""
    torch.set_num_threads(max(1, os.cpu_count() or 1))
    count = 200 if things == 1 else 100
    captions = draw_captions(count, SEED, things)
    with Engine(cache=False, device="cpu") as engine:
        pictures = painted(graph_painter(engine), captions, SEED)
    shares = accuracy(pictures, captions)
    print(f"{things} thing(s), captions of seed {SEED}:", {name: round(100 * share, 1) for name, share in shares.items()})
    assert shares["all"] >= (0.95 if things == 1 else 0.9)
    assert min(rejection(pictures, captions, SEED).values()) >= 0.99


PIPELINES = {"txt2img": "StableDiffusionPipeline", "img2img": "StableDiffusionImg2ImgPipeline", "inpaint": "StableDiffusionInpaintPipeline"}


@pytest.mark.parametrize(("name", "strength"), [("txt2img", None), ("img2img", 0.6), ("inpaint", 1.0), ("inpaint", 0.7)])
def test_bit_identical_to_the_pipeline_on_the_real_weights(name, strength, tmp_path, monkeypatch):
    import diffusers

    kind = getattr(diffusers, PIPELINES[name])
    pipeline = kind.from_pretrained(MODEL, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    options = {"prompt": PROMPT, "negative_prompt": "", "num_inference_steps": 8, "guidance_scale": 4.0}
    given = {}
    if strength is not None:
        pixels = numpy.random.default_rng(1).integers(0, 256, (32, 32, 3), numpy.uint8)
        Image.fromarray(pixels).save(tmp_path / "start.png")
        # a tensor, as a PIL picture would reach the encoder channels last, which changes its last bits
        picture = torch.from_numpy(pixels.astype(numpy.float32) / 255).permute(2, 0, 1)[None].contiguous()
        options.update(image=picture, strength=strength)
        given.update(image=tmp_path / "start.png", strength=strength)
    if name == "inpaint":
        hole = numpy.zeros((32, 32), numpy.uint8)
        hole[8:24, 4:20] = 255
        Image.fromarray(hole).save(tmp_path / "mask.png")
        options.update(mask_image=torch.from_numpy(hole.astype(numpy.float32) / 255)[None, None], height=32, width=32)
        given.update(mask=tmp_path / "mask.png", model="tiny-sd")
    expected = pipeline(**options, generator=[torch.Generator().manual_seed(5)], output_type="pt").images
    if name == "inpaint":  # the workflow keeps what is around the mask
        expected = torch.where(options["mask_image"] >= 0.5, expected, picture)
    monkeypatch.setattr(kind, "__call__", None)
    with Engine(cache=False, device="cpu") as engine:
        result = engine.run(ROOT / "workflows" / f"{name}.json", prompt=PROMPT, steps=8, guidance=4.0, seed=5, **given)
    assert torch.equal(result.outputs["image"].tensor(), expected)


@pytest.fixture(scope="module")
def icons():
    return Icons.load(ROOT / "tests" / "data" / "icons.npz", 131)


def save_picture(picture: torch.Tensor, file: Path) -> Path:
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(file)
    return file


def test_captions_of_things_show_them(icons):
    rng = numpy.random.default_rng(SEED)
    scenes = [draw_scene(icons, rng) for _ in range(40)]
    with Engine(cache=False, device="cpu") as engine:
        captions = [to_words(describe(icons, scene, rng)) for scene in scenes]
        pictures = [engine.run(TXT2IMG, prompt=text, seed=seed).outputs["image"].bytes_hwc() for seed, text in enumerate(captions)]
    asked = [Expected(frozenset([scene.concept]), scene.style, scene.layout, scene.background) for scene in scenes]
    found = Judge(icons).judge(numpy.concatenate(pictures), asked)
    assert sum(one.top1 and one.style and one.background for one in found) >= 34


def test_instructions_are_followed(icons, tmp_path):
    """Styles and backgrounds are changed, the thing stays what it is."""
    rng, edits = numpy.random.default_rng(SEED), []
    while len(edits) < 20:
        edit = draw_edit(icons, rng)
        if "style" in edit.instruction or "background" in edit.instruction:
            edits.append(edit)
    with Engine(cache=False, device="cpu") as engine:
        pictures = []
        for edit in edits:
            source = save_picture(picture(icons, edit.source), tmp_path / "source.png")
            edited = engine.run(ROOT / "workflows" / "instruct_edit.json", image=source, instruction=edit.instruction)
            pictures.append(edited.outputs["image"].bytes_hwc())
    asked = [Expected(frozenset([edit.target.concept]), edit.target.style, edit.target.layout, edit.target.background) for edit in edits]
    found = Judge(icons).judge(numpy.concatenate(pictures), asked)
    assert sum(one.background for one in found) >= 18
    assert sum(one.top1 and one.style for one in found) >= 12


def test_a_hole_is_filled_with_what_is_asked_for(icons, tmp_path):
    """Another thing is painted where the first was; all around it every pixel is as it was."""
    rng = numpy.random.default_rng(SEED)
    scenes = [Scene(*rng.integers((131, 2, 1, 4))) for _ in range(20)]
    others = [replace(scene, concept=(scene.concept + 40) % 131) for scene in scenes]
    hole = torch.zeros(3, 32, 32, dtype=torch.uint8)
    hole[:, 2:30, 2:30] = 255
    mask = save_picture(hole, tmp_path / "mask.png")
    with Engine(cache=False, device="cpu") as engine:
        pictures = []
        for source, target in zip(scenes, others, strict=True):
            image = save_picture(picture(icons, source), tmp_path / "source.png")
            prompt = to_words(describe(icons, target, rng))
            filled = engine.run(ROOT / "workflows" / "inpaint.json", image=image, mask=mask, prompt=prompt).outputs["image"].bytes_hwc()
            around = hole[0].numpy() == 0
            assert (filled[0][around] == picture(icons, source).permute(1, 2, 0).numpy()[around]).all()
            pictures.append(filled)
    asked = [Expected(frozenset([scene.concept]), scene.style, scene.layout, scene.background) for scene in others]
    found = Judge(icons).judge(numpy.concatenate(pictures), asked)
    assert sum(one.top1 for one in found) >= 12
