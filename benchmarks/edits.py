"""Whether an edit changes what it is asked to change and leaves the rest, for `benchmarks/quality.py --edits`.

Each edit runs through its shipped workflow on drawn pictures whose edited form is known, too. Concept, style and
background are named by `tests/icon_judge.py`, shapes by `tests/pictures.py`. `kept` is the PSNR against the source over
the pixels that the edit should leave as they are (at most 60 dB counts); `undone` lines are what leaving the picture as
it is would score.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from enlarging import decoded
from painting import WORKFLOWS, engine_of
from PIL import Image
from scores import Share, decibels, report, share_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from icon_judge import Expected, Judge, Verdict
from pictures import check

from nodegraph import Engine
from training.edits import Edit, draw_edit, draw_shape_edit, picture
from training.icons import LAYOUTS, IconCaption, Icons, Scene, canvas_place, draw_scene, to_words
from training.shapes import BACKGROUNDS, Caption, Thing

ALIKE = 2
"""Greatest difference, of 255, of pixels that count as equal."""
BEST = 60.0
"""PSNR, dB, of equal pictures, so that means stay finite."""
AMOUNTS = (0.0, 0.4, 0.6, 0.8)
"""How far `text_diff` moves an embedding along the difference of two captions."""


class Editor:
    """Runs workflows on pictures, uint8 [3, h, w]."""

    def __init__(self, engine: Engine, folder: Path, options: argparse.Namespace):
        self.engine, self.options, self._folder = engine, options, folder

    def run(self, workflow: str, model: Path, pictures: Mapping[str, torch.Tensor], **inputs: Any) -> Mapping[str, Any]:
        """The outputs of a workflow that reads its pictures from files; guidance and steps are the workflow's, or the options'."""
        files = {name: self._written(name, content) for name, content in pictures.items()}
        asked = {name: value for name in ("steps", "guidance") if (value := getattr(self.options, name)) is not None}
        return self.engine.run(WORKFLOWS / f"{workflow}.json", model=model.name, **files, **inputs, **asked).outputs

    def _written(self, name: str, content: torch.Tensor) -> str:
        file = self._folder / f"{name}.png"
        Image.fromarray(content.permute(1, 2, 0).numpy()).save(file)
        return str(file)


def judge_edits(icons: Icons, judge: Judge, options: argparse.Namespace) -> None:
    """Every kind of edit whose model there is."""
    with engine_of(options) as engine, tempfile.TemporaryDirectory() as folder:
        editor = Editor(engine, Path(folder), options)
        judge_variations(editor, icons)
        judge_text_diff(editor, icons, judge)
        judge_interpolation(editor, icons, judge)
        if options.inpaint.is_dir():
            judge_inpainting(editor, icons, judge)
        if options.instruct.is_dir():
            judge_instructions(editor, icons, judge)
            judge_shape_instructions(editor, icons)


# --- by an embedding ----------------------------------------------------------------


def judge_variations(editor: Editor, icons: Icons) -> None:
    """How near `variations` at strength 0 comes to its picture, beside what the autoencoder alone loses."""
    rng = np.random.default_rng([editor.options.seed, 1])
    pictures = [picture(icons, draw_scene(icons, rng)) for _ in range(editor.options.count)]
    small = torch.stack(pictures).float() / 255
    alone = 255 * decoded(editor.engine, editor.options.model.name, small)
    again = [editor.run("variations", editor.options.model, {"image": one}, strength=0.0, count=1)["image"] for one in pictures]
    for name, found in (("autoencoder alone", alone), ("variations at 0", [torch.from_numpy(pixels(one)) for one in again])):
        nearness = [psnr(one, true) for one, true in zip(found, pictures, strict=True)]
        report(name, {"30 dB and better": share_of([value >= 30 for value in nearness])})
        print(f"{'':<38}{decibels(nearness)}", flush=True)


def judge_text_diff(editor: Editor, icons: Icons, judge: Judge) -> None:
    """Whether moving along the difference of two captions changes style or background, and nothing else."""
    edits = drawn_edits(icons, editor.options, (("style",), ("background",)))
    found: dict[float, list[np.ndarray]] = {amount: [] for amount in AMOUNTS}
    for edit in edits:
        texts = {"source": words(icons, edit.source), "target": words(icons, edit.target)}
        images = editor.run("text_diff", editor.options.model, {"image": picture(icons, edit.source)}, amounts=list(AMOUNTS), **texts)
        for amount, image in zip(AMOUNTS, images["images"], strict=True):
            found[amount].append(pixels(image))
    for kind in ("style", "background"):
        chosen = [number for number, edit in enumerate(edits) if changes(edit) == (kind,)]
        for amount, results in found.items():
            report_edits(f"text-diff {amount:g}", icons, judge, [edits[one] for one in chosen], [results[one] for one in chosen])


def judge_interpolation(editor: Editor, icons: Icons, judge: Judge) -> None:
    """Whether the ends of an interpolation show what its pictures show."""
    rng = np.random.default_rng([editor.options.seed, 3])
    pairs = [(draw_scene(icons, rng), draw_scene(icons, rng)) for _ in range(editor.options.count // 2)]
    verdicts = []
    for first, second in pairs:
        ends = {"first": picture(icons, first), "second": picture(icons, second)}
        images = editor.run("interpolate", editor.options.model, ends, amounts=[0.0, 1.0])["images"]
        verdicts += judged(judge, [pixels(image) for image in images], [first, second])
    report("interpolate: ends", facts(verdicts))


# --- by a mask ----------------------------------------------------------------------


def judge_inpainting(editor: Editor, icons: Icons, judge: Judge) -> None:
    """Whether the hole shows what is asked for, and all around it is as it was.

    `another thing`: the whole drawing is masked and another concept asked for. `the missing half`: half of the drawing is.
    """
    rng = np.random.default_rng([editor.options.seed, 4])
    scenes = [draw_scene(icons, rng) for _ in range(editor.options.count)]
    others = [replace(scene, concept=int(rng.integers(len(icons.concepts)))) for scene in scenes]
    for kind, wanted, hole in (("another thing", others, drawing_mask), ("the missing half", scenes, half_mask)):
        painted, same, filled = [], [], []
        for source, target in zip(scenes, wanted, strict=True):
            before, mask = picture(icons, source), hole(source.layout, rng)
            asked = {"image": before, "mask": (255 * mask).byte().expand(3, -1, -1)}
            after = pixels(editor.run("inpaint", editor.options.inpaint, asked, prompt=words(icons, target))["image"])
            painted.append(after)
            inside = mask[0].bool().numpy()
            difference = np.abs(after.astype(int) - before.numpy().astype(int))[:, ~inside]
            same.append(bool((difference <= ALIKE).all()))
            filled.append(psnr(after[:, inside], picture(icons, target).numpy()[:, inside]))
        found = facts(judged(judge, painted, wanted)) | {"rest equal": share_of(same)}
        report(f"inpaint: {kind}", found)
        print(f"{'':<38}in the hole {decibels(filled)}", flush=True)


def drawing_mask(layout: int, rng: np.random.Generator) -> torch.Tensor:
    """The square of the drawing: float [1, 32, 32], 1 where it is."""
    x, y, extent = canvas_place(layout, 32)
    mask = torch.zeros(1, 32, 32)
    mask[:, y : y + extent, x : x + extent] = 1
    return mask


def half_mask(layout: int, rng: np.random.Generator) -> torch.Tensor:
    """The upper, lower, left or right half of that square."""
    x, y, extent = canvas_place(layout, 32)
    mask, half = drawing_mask(layout, rng), extent // 2
    across, after = rng.integers(2), rng.integers(2)
    begin = (x if across else y) + (half if after else 0)
    keep = torch.zeros(32, dtype=torch.bool)
    keep[begin : begin + half] = True
    return mask * (keep[None, None, :] if across else keep[None, :, None])


# --- by an instruction --------------------------------------------------------------


def judge_instructions(editor: Editor, icons: Icons, judge: Judge) -> None:
    """Whether an instruction is followed, by what it asks for: style, background, layout, or several of them."""
    edits = drawn_edits(icons, editor.options)
    results = [instructed(editor, edit, icons) for edit in edits]
    kinds: dict[str, list[int]] = {}
    for number, edit in enumerate(edits):
        asked = changes(edit)
        kinds.setdefault(asked[0] if len(asked) == 1 else "several", []).append(number)
    for kind, numbers in sorted(kinds.items()):
        report_edits("instruct", icons, judge, [edits[one] for one in numbers], [results[one] for one in numbers], kind=kind)
    report_edits("instruct", icons, judge, edits, results, kind="all")
    report_edits("undone", icons, judge, edits, [picture(icons, edit.source).numpy() for edit in edits], kind="all")


def judge_shape_instructions(editor: Editor, icons: Icons) -> None:
    """Whether the colour of a shape, or its background, or both, become what is asked for."""
    rng = np.random.default_rng([editor.options.seed, 6])
    edits = [draw_shape_edit(rng) for _ in range(editor.options.count)]
    pictures = {"instruct": [instructed(editor, edit, icons) for edit in edits]}
    pictures["undone"] = [picture(icons, edit.source).numpy() for edit in edits]
    for name, results in pictures.items():
        right = []
        for edit, result in zip(edits, results, strict=True):
            (figure,) = edit.target.figures
            wanted = Caption((Thing(figure.shape, figure.colour),), edit.target.background)
            right.append(check(result.transpose(1, 2, 0), wanted))
        found = {fact: share_of([one[fact] for one in right]) for fact in ("shape", "colour", "background", "all")}
        report(f"{name}: shapes", found)
        print(f"{'':<38}kept {decibels([kept(icons, *pair) for pair in zip(edits, results, strict=True)])}", flush=True)


def instructed(editor: Editor, edit: Edit, icons: Icons) -> np.ndarray:
    """What the model of instructions makes of an edit's source."""
    before = {"image": picture(icons, edit.source)}
    return pixels(editor.run("instruct_edit", editor.options.instruct, before, instruction=edit.instruction)["image"])


# --- what they share ----------------------------------------------------------------


def drawn_edits(icons: Icons, options: argparse.Namespace, kinds: Collection[tuple[str, ...]] = ()) -> list[Edit]:
    """As many edits as the options say, the same for every model; if `kinds` are given, only of those `changes`."""
    rng = np.random.default_rng([options.seed, 2])
    edits = (draw_edit(icons, rng) for _ in itertools.count())
    return list(itertools.islice((edit for edit in edits if not kinds or changes(edit) in kinds), options.count))


def changes(edit: Edit) -> tuple[str, ...]:
    """What is different between the ends of an edit of an icon: style, layout, background."""
    return tuple(name for name in ("style", "layout", "background") if getattr(edit.source, name) != getattr(edit.target, name))


def words(icons: Icons, scene: Scene) -> str:
    """A caption that says all of a scene, its concept by name."""
    size, place = LAYOUTS[scene.layout]
    background = list(BACKGROUNDS)[scene.background]
    return to_words(IconCaption(icons.concepts[scene.concept].name, icons.styles[scene.style], size, place, background))


def judged(judge: Judge, results: Sequence[np.ndarray], scenes: Sequence[Scene]) -> list[Verdict]:
    """Verdicts on pictures uint8 [3, 32, 32] that should show scenes."""
    expected = [Expected(frozenset([scene.concept]), scene.style, scene.layout, scene.background) for scene in scenes]
    return judge.judge(np.stack(results).transpose(0, 2, 3, 1), expected)


def facts(verdicts: Sequence[Verdict]) -> dict[str, Share]:
    """What is right in pictures of which everything is known."""
    return {name: share_of([getattr(one, name) for one in verdicts]) for name in ("top1", "top5", "style", "background")}


def report_edits(name: str, icons: Icons, judge: Judge, edits: Sequence[Edit], results: Sequence[np.ndarray], kind: str = "") -> None:
    """One line on edits of icons: what is right, whether the layout is nearer to the asked one, and how much stayed."""
    if not edits:
        return
    verdicts = judged(judge, results, [edit.target for edit in edits])
    placed = [nearer(icons, edit, result) for edit, result in zip(edits, results, strict=True)]
    found = {fact: share_of([getattr(one, fact) for one in verdicts]) for fact in ("top1", "style", "background")}
    found["layout"] = share_of(placed)
    found["all"] = share_of([one.top1 and one.style and one.background and put for one, put in zip(verdicts, placed, strict=True)])
    report(f"{name}: {kind or '+'.join(changes(edits[0]))}, {len(edits)}", found)
    print(f"{'':<38}kept {decibels([kept(icons, edit, result) for edit, result in zip(edits, results, strict=True)])}", flush=True)


def nearer(icons: Icons, edit: Edit, result: np.ndarray) -> bool:
    """Whether a result is nearer to the asked scene than to that scene in the layout of the source, where they differ."""
    if edit.source.layout == edit.target.layout:
        return True
    asked, unmoved = (picture(icons, scene) for scene in (edit.target, replace(edit.target, layout=edit.source.layout)))
    return psnr(result, asked) > psnr(result, unmoved)


def kept(icons: Icons, edit: Edit, result: np.ndarray) -> float:
    """PSNR of a result against the source over the pixels that the edit should not touch."""
    before, after = (picture(icons, scene).numpy() for scene in (edit.source, edit.target))
    same = (np.abs(before.astype(int) - after.astype(int)) <= ALIKE).all(0)
    return psnr(result[:, same], before[:, same]) if same.any() else BEST


def psnr(one: Any, other: Any) -> float:
    """Peak signal-to-noise ratio, dB, of pixels in 0..255; at most `BEST`."""
    error = np.square(np.asarray(one, np.float64) - np.asarray(other, np.float64)).mean()
    return min(BEST, float(10 * np.log10(255**2 / error))) if error else BEST


def pixels(image: Any) -> np.ndarray:
    """The only picture of an image value, uint8 [3, h, w]."""
    (one,) = image.bytes_hwc()
    return one.transpose(2, 0, 1)
