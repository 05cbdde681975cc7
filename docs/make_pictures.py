"""Makes the pictures of the README: `python docs/make_pictures.py`. Each comes out of a workflow, like anybody's."""

from __future__ import annotations

import tempfile
from pathlib import Path

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


def prompts(engine: Engine) -> None:
    """Eight prompts, each enlarged without smoothing so that every pixel is seen."""
    workflow = {
        "nodegraph": 1,
        "nodes": {
            "paint": {"use": str(ROOT / "workflows" / "txt2img.json"), "each": {"prompt": PROMPTS}, "with": {"seed": 3}},
            "large": {"use": "resize", "each": {"image": "paint.image"}, "with": {"width": 192, "height": 192, "method": "nearest"}},
            "sheet": {"use": "image_grid", "from": {"images": "large.image"}, "with": {"columns": 4, "gap": 8}},
        },
        "outputs": {"image": "sheet.image"},
    }
    save(engine, workflow, "txt2img.png")


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


def save(engine: Engine, workflow: dict, name: str, **inputs: object) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    engine.run(workflow, inputs).outputs["image"].pil()[0].save(PICTURES / name, optimize=True)
    print(PICTURES / name)


def main() -> None:
    from PIL import Image
    from skimage.data import chelsea

    with tempfile.TemporaryDirectory() as folder, Engine(cache=False, roots=[ROOT]) as engine:
        photo = Path(folder) / "cat.png"
        Image.fromarray(chelsea()[60:220, 110:310]).resize((200, 160)).save(photo)
        graph(engine)
        prompts(engine)
        upscaling(engine, photo)


if __name__ == "__main__":
    main()
