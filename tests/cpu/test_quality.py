"""How benchmarks/quality.py judges: what a perfect painter and one that changes nothing score, and every kind of edit on tiny models."""

from __future__ import annotations

import edits as edits_judge
import numpy as np
import pytest
import torch
from icon_data import write_icons
from icon_judge import Judge
from painting import draw_prompts
from quality import parse_arguments, sweep_points
from scores import decibels

from tests.cpu.tiny_models import model_folder
from training.edits import draw_edit, draw_shape_edit, picture
from training.icons import LAYOUTS, Icons, Scene


@pytest.fixture(scope="module")
def icons(tmp_path_factory) -> Icons:
    return Icons.load(write_icons(tmp_path_factory.mktemp("icons") / "icons.npz"), 3)


def some_edits(icons: Icons, count: int = 40) -> list:
    rng = np.random.default_rng(0)
    return [draw_edit(icons, rng) for _ in range(count)]


def shares_of(printed: str) -> dict[str, float]:
    """Name -> per cent, of the first line that was printed."""
    words = printed.splitlines()[0].split(", ", 1)[1].split()[1:]
    return dict(zip(words[::3], map(float, words[1::3]), strict=True))


def test_edits_that_are_done_are_right(icons, capsys):
    edits = some_edits(icons)
    edits_judge.report_edits("done", icons, Judge(icons), edits, [picture(icons, edit.target).numpy() for edit in edits], kind="all")
    printed = capsys.readouterr().out
    assert shares_of(printed) == dict.fromkeys(("top1", "style", "background", "layout", "all"), 100.0)
    assert float(printed.split("least ")[1]) > 42  # dB, of pixels that differ by 2 of 255


def test_edits_that_are_left_undone_are_not(icons, capsys):
    edits = some_edits(icons)
    edits_judge.report_edits("undone", icons, Judge(icons), edits, [picture(icons, edit.source).numpy() for edit in edits], kind="all")
    printed = capsys.readouterr().out
    assert shares_of(printed)["all"] == 0
    assert "least 60.0" in printed


def test_what_an_edit_should_keep_is_compared_with_the_source():
    rng = np.random.default_rng(1)
    edit = next(edit for edit in (draw_shape_edit(rng) for _ in range(50)) if edit.source.background == edit.target.background)
    target = picture(None, edit.target).numpy()
    assert edits_judge.kept(None, edit, target) == edits_judge.BEST
    worse = target.copy()
    worse[:, 0, 0] ^= 255  # a corner, which is background
    assert edits_judge.kept(None, edit, worse) < 40


@pytest.mark.parametrize("layout", range(len(LAYOUTS)))
def test_half_masks_are_half_of_the_drawing(icons, layout):
    rng = np.random.default_rng(layout)
    whole = edits_judge.drawing_mask(layout, rng)
    half = edits_judge.half_mask(layout, rng)
    assert half.sum() == whole.sum() / 2
    assert ((half == 1) <= (whole == 1)).all()
    drawn = picture(icons, Scene(1, 0, layout, 0)).float() != torch.tensor([250.0, 250.0, 250.0])[:, None, None]
    assert (drawn.any(0) <= (whole[0] == 1)).all()


def test_psnr_of_pixels():
    one = np.zeros((3, 4, 4), np.uint8)
    assert edits_judge.psnr(one, one) == edits_judge.BEST
    assert edits_judge.psnr(one, one + 255) == 0
    assert edits_judge.psnr(one, one + 1) == pytest.approx(48.13, abs=0.01)
    assert decibels([30.0, 32.0]).startswith("31.0 dB (29.6-32.4), least 30.0")


def test_sweeps_are_every_combination():
    assert sweep_points([]) == [{}]
    assert sweep_points(["guidance=2,4", "steps=10"]) == [{"guidance": 2.0, "steps": 10}, {"guidance": 4.0, "steps": 10}]
    with pytest.raises(SystemExit, match="expected steps=… or guidance=…, got 'seed'"):
        sweep_points(["seed=1"])


def test_prompts_of_held_out_wordings_hold_them(icons):
    prompts = draw_prompts(icons, 8, held_out=True)
    assert all("coin" in text or "parcel" in text for text in prompts.texts)
    meant = {"coin": frozenset([0, 1]), "parcel": frozenset([1])}
    for text, expected in zip(prompts.texts, prompts.expected, strict=True):
        assert expected.concepts == next(numbers for word, numbers in meant.items() if word in text)


def test_edits_run_through_the_workflows(icons, capsys):
    """Models of random weights follow nothing; what they leave is told all the same."""
    folders = ["--inpaint", str(model_folder("inpaint")), "--instruct", str(model_folder("edit"))]
    edits_judge.judge_edits(icons, Judge(icons), parse_arguments(["--count", "2", "--steps", "2", *folders]))
    told = {line.split("  ")[0].split(",")[0] for line in capsys.readouterr().out.splitlines()}
    assert {"autoencoder alone", "variations at 0", "interpolate: ends"} <= told
    assert {"inpaint: another thing", "inpaint: the missing half", "instruct: all", "undone: all", "instruct: shapes"} <= told
