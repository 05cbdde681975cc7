"""Makes the pictures of the README and of docs/workflows.md: `python docs/make_pictures.py`.

Each comes out of a workflow, like anybody's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

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


def shipped(engine: Engine, photo: Path, folder: Path) -> None:
    """One picture of each shipped workflow that runs with the models that come with nodegraph, for docs/workflows.md."""
    large = {"width": 192, "height": 192, "method": "nearest"}
    start, hole = folder / "start.png", folder / "hole.png"
    painted = engine.run(ROOT / "workflows" / "txt2img.json", prompt=PROMPTS[0], seed=3).outputs["image"]
    painted.pil()[0].save(start)
    white = PIL.Image.new("L", (32, 32), 0)
    white.paste(255, (0, 0, 18, 32))
    white.save(hole)
    after = {"image": str(start), "prompt": "a large green cross on the left on a white background", "seed": 1}
    runs = {
        "txt2img": {"prompt": PROMPTS[0], "seed": 3},
        "img2img": {**after, "strength": 0.75},
        "inpaint": {**after, "mask": str(hole)},
        "outpaint": {"image": str(start), "prompt": PROMPTS[0], "seed": 2},
        "hires": {"prompt": PROMPTS[0], "seed": 3},
        "photo_edit": {"photo": str(photo), "size": 200},
        "contact_sheet": {"photo": str(photo), "size": 96},
        "droste": {"photo": str(photo), "turns": 5},
        "upscale": {"image": str(start)},
    }
    for name, inputs in runs.items():
        used = {"use": str(ROOT / "workflows" / f"{name}.json"), "from": {port: f"inputs.{port}" for port in inputs}}
        declared = Workflow.load(used["use"]).inputs
        workflow = {"nodegraph": 1, "inputs": {port: {"type": declared[port].type} for port in inputs}, "nodes": {"it": used}}
        if name in ("txt2img", "img2img", "inpaint", "outpaint"):  # small ones are shown with their pixels
            workflow["nodes"]["large"] = {"use": "resize", "from": {"image": "it.image"}, "with": {**large, "fit": "contain"}}
        workflow["outputs"] = {"image": "large.image" if "large" in workflow["nodes"] else "it.image"}
        save(engine, workflow, f"workflow_{name}.png", 400, **inputs)


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
        prompts(engine, "txt2img.json", PROMPTS, "txt2img.png")
        prompts(engine, "unclip.json", ICONS, "unclip.png")
        upscaling(engine, photo)
        shipped(engine, photo, Path(folder))


if __name__ == "__main__":
    main()
