"""Makes the pictures of the README and of docs/workflows.md: `python docs/make_pictures.py`.

Each comes out of a workflow, like anybody's.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL.Image

from nodegraph import Engine, Workflow
from nodegraph.drawing import draw
from nodegraph.glance import glance, looks
from nodegraph.picture import png_of

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
PROMPTS = [
    "a large red circle on the left on a white background",
    "a small blue square at the top on a pink background",
    "a large yellow triangle in the center on a gray background",
    "a small purple cross on the right on a cyan background",
    "a large green cross at the bottom on a white background",
    "a small black circle in the center on a pink background",
    "a large orange square on the right on a gray background",
    "a small red triangle at the bottom on a cyan background",
]

ICONS = [
    "an octopus, noto style on a cyan background",
    "a red apple, fluent style",
    "a cactus, noto style on a pink background",
    "a rocket, fluent style on a gray background",
    "a hamburger, noto style",
    "a guitar, fluent style on a pink background",
    "an owl, noto style on a gray background",
    "a castle, fluent style on a cyan background",
]
PAINTED = [
    "a panda, noto style on a pink background",
    "a large rocket, fluent style, at the top on a cyan background",
    "a birthday cake, fluent style",
    PROMPTS[0],
    "a small owl, noto style, on the left on a gray background",
    "a strawberry, fluent style on a cyan background",
    "a blue square at the top and a yellow circle at the bottom on a pink background",
    "a snowman, noto style on a gray background",
]
"""What tiny-sd paints for the README."""
INSTRUCTIONS = ["in noto style", "on a cyan background", "make it small", "in noto style and on a gray background"]
WORDINGS = ["an ocean animal with tentacles", "a sweet yellow fruit", "a house for a king", "a thing that flies to the moon"]
"""Words for things that tiny-unclip knows by others."""


def prompts(engine: Engine, paint: str, given: list[str], name: str) -> None:
    """Eight prompts, each enlarged without smoothing so that every pixel is seen."""
    workflow = {
        "nodegraph": 1,
        "nodes": {
            "paint": {"use": str(ROOT / "workflows" / paint), "each": {"prompt": given}, "with": {"seed": 3}},
            "large": {"use": "resize", "each": {"image": "paint.image"}, "with": {"width": 192, "height": 192, "method": "nearest"}},
            "sheet": {"use": "image_grid", "from": {"images": "large.image"}, "with": {"columns": 4, "gap": 8}},
        },
        "outputs": {"image": "sheet.image"},
    }
    save(engine, workflow, name)


def upscaling(engine: Engine, photo: Path) -> None:
    """A part of a photo: enlarged by interpolation, and by waifu2x."""
    workflow = {
        "nodegraph": 1,
        "inputs": {"photo": {"type": "file"}},
        "nodes": {
            "load": {"use": "load_image", "from": {"file": "inputs.photo"}},
            "bicubic": {"use": "scale", "from": {"image": "load.image"}, "with": {"factor": 2, "method": "bicubic"}},
            "model": {"use": "load_upscaler", "with": {"name": "waifu2x-photo-x2"}},
            "waifu2x": {"use": "upscale", "from": {"model": "model.upscaler", "image": "load.image"}},
            "sheet": {"use": "image_grid", "from": {"images": ["bicubic.image", "waifu2x.image"]}, "with": {"columns": 2, "gap": 8}},
        },
        "outputs": {"image": "sheet.image"},
    }
    save(engine, workflow, "upscale.png", photo=str(photo))


def graph(engine: Engine) -> None:
    """The graph of txt2img as `nodegraph show` draws it, with what was kept of a run."""
    workflow, inputs = Workflow.load(ROOT / "workflows" / "txt2img.json"), {"prompt": PROMPTS[4], "seed": 3}
    engine.run(workflow, {**inputs, "prompt": PROMPTS[0]})  # what is slow the first time is not in the picture
    engine.run(workflow, inputs)
    svg = draw(workflow, engine._template(workflow), looks(glance(engine, workflow, inputs)), inputs)
    (PICTURES / "graph.png").write_bytes(png_of(svg, 1.25))
    print(PICTURES / "graph.png")


@dataclass(frozen=True)
class Shown:
    """What a workflow is shown with: its inputs, and the one that differs from picture to picture; `zoom` makes small pixels seen."""

    inputs: dict[str, Any]
    each: dict[str, list] = field(default_factory=dict)
    zoom: int = 4


def shipped(engine: Engine, photo: Path, folder: Path) -> None:
    """A grid of each shipped workflow that paints and runs with the models that come with nodegraph, for docs/workflows.md."""
    start, icon, other, hole = (folder / f"{name}.png" for name in ("start", "icon", "other", "hole"))
    for file, name, prompt in ((start, "txt2img", PROMPTS[0]), (icon, "unclip", ICONS[1]), (other, "unclip", ICONS[7])):
        painted = engine.run(ROOT / "workflows" / f"{name}.json", prompt=prompt, seed=3).outputs["image"]
        painted.pil()[0].save(file)
    white = PIL.Image.new("L", (32, 32), 0)
    white.paste(255, (0, 0, 18, 32))
    white.save(hole)
    after = {"image": str(start), "prompt": "a large green cross on the left on a white background"}
    icons = {"prompt": ICONS[:4]}
    runs = {
        "txt2img": Shown({"seed": 3}, {"prompt": PAINTED[4:]}),
        "img2img": Shown({**after, "seed": 1}, {"strength": [0.25, 0.5, 0.75, 1.0]}),
        "inpaint": Shown({**after, "mask": str(hole)}, {"seed": [1, 2, 3, 4]}),
        "instruct_edit": Shown({"image": str(icon), "seed": 3}, {"instruction": INSTRUCTIONS}),
        "outpaint": Shown({"image": str(start), "prompt": PROMPTS[0]}, {"seed": [1, 2, 3, 4]}, 2),
        "hires": Shown({"seed": 3}, {"prompt": PROMPTS[:4]}, 2),
        "photo_edit": Shown({"photo": str(photo), "size": 160}, {"saturation": [0.0, 0.7, 1.15, 1.6]}, 1),
        "contact_sheet": Shown({"photo": str(photo), "size": 96}, zoom=1),
        "droste": Shown({"photo": str(photo)}, {"turns": [1, 2, 4, 8]}, 1),
        "upscale": Shown({"image": str(icon)}, {"model": ["realesr-animevideo-x4", "realesrgan-anime-x4"]}, 1),
        "unclip": Shown({"seed": 3}, icons),
        "unclip_text_embedding": Shown({"seed": 3}, icons),
        "unclip_caption_only": Shown({"seed": 3}, icons),
        "unclip_resolved": Shown({"seed": 3}, {"prompt": [f"{wording}, noto style" for wording in WORDINGS]}),
        "unclip_large": Shown({"seed": 3}, icons, 1),
        "unclip_huge": Shown({"seed": 3}, {"prompt": ICONS[1:2]}, 1),
        "upscale_diffusion": Shown({"image": str(icon)}, {"steps": [2, 7]}, 1),
        "variations": Shown({"image": str(icon)}, {"strength": [0.0, 0.4, 0.8]}),
        "interpolate": Shown({"first": str(icon), "second": str(other)}),
        "interpolate_prompts": Shown({"first": ICONS[0], "second": ICONS[3], "seed": 3}),
        "text_diff": Shown({"image": str(icon), "source": ICONS[1], "target": ICONS[1] + " on a cyan background"}),
        "imagine": Shown({"prompt": ICONS[2], "seed": 3}, {"action": ["grid", "vary"]}),
        "rerank": Shown({"prompt": PROMPTS[4], "keep": 4, "seed": 3}),
        "classifier_guidance": Shown({"prompt": "an octopus", "seed": 3}, {"label": ["noto", "fluent"]}),
    }
    for name, shown in runs.items():
        path = str(ROOT / "workflows" / f"{name}.json")
        declared = Workflow.load(path).inputs
        it = {"use": path, "each": shown.each, "from": {port: f"inputs.{port}" for port in shown.inputs}}
        painted = {"use": "unbatch", "each": {"image": "it.image"}} if shown.each else {"use": "unbatch", "from": {"image": "it.image"}}
        nodes = {"it": it, "painted": painted}
        rows = "painted.images"
        if shown.each:
            nodes["row"] = {"use": "image_grid", "each": {"images": rows}, "with": {"columns": 2, "gap": 2}}
            rows = "row.image"
        nodes["sheet"] = {"use": "image_grid", "from": {"images": rows}, "with": {"columns": 4, "gap": 2}}
        nodes["large"] = {"use": "scale", "from": {"image": "sheet.image"}, "with": {"factor": float(shown.zoom), "method": "nearest"}}
        inputs = {port: {"type": declared[port].type} for port in shown.inputs}
        workflow = {"nodegraph": 1, "inputs": inputs, "nodes": nodes, "outputs": {"image": "large.image"}}
        save(engine, workflow, f"workflow_{name}.png", 560, **shown.inputs)


def save(engine: Engine, workflow: dict, name: str, longest: int = 1000, **inputs: object) -> None:
    """Write what a workflow paints, its longer side at most that many pixels."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    picture = engine.run(workflow, inputs).outputs["image"].pil()[0]
    picture.thumbnail((longest, longest))
    picture.save(PICTURES / name, optimize=True)
    print(PICTURES / name)


def main() -> None:
    from skimage.data import chelsea

    with tempfile.TemporaryDirectory() as folder, Engine(cache=False, roots=[ROOT]) as engine:
        photo = Path(folder) / "cat.png"
        PIL.Image.fromarray(chelsea()[60:220, 110:310]).resize((200, 160)).save(photo)
        graph(engine)
        prompts(engine, "txt2img.json", PAINTED, "txt2img.png")
        prompts(engine, "unclip.json", ICONS, "unclip.png")
        upscaling(engine, photo)
        shipped(engine, photo, Path(folder))


if __name__ == "__main__":
    main()
