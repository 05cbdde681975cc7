"""Differences in the words of the graph."""

from __future__ import annotations

import json
import os
import threading
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from toys import PAINT, toys, write  # noqa: F401

from nodegraph import Engine
from nodegraph.cli import main
from nodegraph.difference import differences


@pytest.fixture(scope="module")
def registry() -> Any:
    with Engine(cache=False, packs=[]) as engine:
        return engine.registry


BASE: dict[str, Any] = {
    "workflow": {
        "inputs": {"guidance": {"type": "float", "default": 5.0}, "prompt": {"type": "text", "default": "a fox"}},
        "nodes": {
            "model": {"use": "load_model", "with": {"name": "tiny-sd"}},
            "text": {"use": "encode_text", "from": {"encoder": "model.encoder", "text": "inputs.prompt"}},
            "sample": {
                "use": "sample_latent",
                "from": {"model": "model.denoiser", "positive": "text.conditioning", "guidance": "inputs.guidance"},
                "with": {"steps": 10},
            },
        },
        "outputs": {"latent": "sample.latent"},
    },
    "inputs": {"guidance": 7.5},
    "models": {"tiny-sd": "aaaaaaaaaa"},
    "packs": {"diffusion": {"version": 1, "nodes": {"sample_latent": "1" * 40}}},
    "versions": {"torch": "2.13.0"},
    "nodegraph": "0.1.0",
    "machine": {"device": "cpu"},
    "files": {"load.file": {"path": "x.png", "digest": "cccccccccc"}},
}


def changed(*path: str, to: Any) -> dict[str, Any]:
    """BASE with one thing changed; None takes it away."""
    record = deepcopy(BASE)
    place = record
    for step in path[:-1]:
        place = place.setdefault(step, {})
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return record


SAMPLE = ("workflow", "nodes", "sample")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (changed("inputs", "guidance", to=9), ["sample.guidance 7.5 → 9"]),
        (changed("inputs", "guidance", to=7.50), []),
        (changed("inputs", "prompt", to="a dog"), ['text.text "a fox" → "a dog" (input prompt)']),
        (changed(*SAMPLE, "with", "steps", to=20), ["sample.steps 10 → 20"]),
        (changed(*SAMPLE, "with", "sampler", to="euler"), ['sample.sampler "default" → "euler"']),
        (changed(*SAMPLE, "with", "sampler", to="default"), []),  # what is the default need not be written
        (changed(*SAMPLE, "from", "guidance", to="other.float"), ["sample.guidance 7.5 (input guidance) → other.float"]),
        (changed(*SAMPLE, "from", "model", to=["a.x", "b.y"]), ["sample.model model.denoiser → [a.x, b.y]"]),
        (changed(*SAMPLE, "each", to={"seed": [1, 2]}), ["sample.seed 0 → each [1, 2]"]),
        (changed(*SAMPLE, "use", to="other"), ["sample uses sample_latent → other"]),
        (changed("workflow", "nodes", "up", to={"use": "upscale"}), ["up added (upscale)"]),
        (changed("workflow", "nodes", "text", to=None), ["text removed (encode_text)"]),
        (changed("workflow", "inputs", "size", to={"type": "int"}), ["inputs.size added (int)"]),
        (changed("workflow", "inputs", "guidance", "max", to=9), ["inputs.guidance max null → 9"]),
        (changed("workflow", "outputs", "latent", to="text.conditioning"), ["outputs.latent sample.latent → text.conditioning"]),
        (changed("models", "tiny-sd", to="bbbbbbbbbb"), ["model tiny-sd other weights (aaaaaaaa → bbbbbbbb)"]),
        (changed("files", "load.file", "digest", to="dddddddddd"), ["load.file other content (cccccccc → dddddddd)"]),
        (
            changed("packs", "diffusion", to={"version": 2, "nodes": {"sample_latent": "2"}}),
            ["code of sample_latent other (diffusion 1 → 2)"],
        ),
        (changed("versions", "torch", to="2.14"), ["torch 2.13.0 → 2.14"]),
        (changed("nodegraph", to="0.2"), ["nodegraph 0.1.0 → 0.2"]),
        (changed("machine", "device", to="cuda"), ["device cpu → cuda"]),
        (changed("workflow", "doc", to="Other words."), []),
    ],
)
def test_each_difference_is_said_once(other: dict[str, Any], said: list[str], registry: Any) -> None:
    assert list(map(str, differences(BASE, other, registry))) == said
    assert differences(BASE, deepcopy(BASE), registry) == differences(other, deepcopy(other), registry) == []


def test_a_rename_is_a_rename(registry: Any) -> None:
    text = json.dumps(BASE["workflow"]).replace('"model"', '"m"').replace('"model.', '"m.').replace('"sample', '"draw')
    other = {
        **BASE,
        "workflow": json.loads(text.replace('"m": "m.denoiser"', '"model": "m.denoiser"').replace("draw_latent", "sample_latent")),
    }
    assert list(map(str, differences(BASE, other, registry))) == ["model is now called m", "sample is now called draw"]


def test_inner_workflows_are_compared_inside(registry: Any) -> None:
    def outer(steps: int) -> dict[str, Any]:
        inner = {"nodes": {"s": {"use": "sample_latent", "with": {"steps": steps}}}}
        return {"workflow": {"nodes": {"paint": {"use": inner}}}}

    assert list(map(str, differences(outer(5), outer(6), registry))) == ["paint/s.steps 5 → 6"]


def test_long_texts_are_shown_where_they_differ(registry: Any) -> None:
    one, other = (changed("inputs", "prompt", to=f"{'word ' * 40}{end}") for end in ("red", "blue"))
    [change] = differences(one, other, registry)
    assert str(change) == 'text.text "…d word word red" → "…d word word blue" (input prompt)'


@pytest.mark.parametrize("bound", [False, True])
def test_long_lists_are_shown_where_they_differ(registry: Any, bound: bool) -> None:
    def flow(last: int) -> dict[str, Any]:
        items = [*range(100, 140), last, 5]
        if bound:
            node = {"use": "make_list", "from": {"items": "inputs.numbers"}}
            return {"workflow": {"inputs": {"numbers": {"type": "list[int]", "default": items}}, "nodes": {"a": node}}}
        return {"workflow": {"nodes": {"a": {"use": "make_list", "with": {"items": items}}}}}

    [change] = differences(flow(7), flow(8), registry)
    assert str(change).startswith("a.items …, 138, 139, 7, 5] → …, 138, 139, 8, 5]")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_what_is_compared_may_come_through_pipes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in `nodegraph diff <(git show HEAD:w.json) w.json`."""
    for name, count in (("one", 1), ("two", 2)):
        os.mkfifo(tmp_path / name)
        text = json.dumps({"nodes": {"a": {"use": "repeat_item", "with": {"value": 1, "count": count}}}})
        threading.Thread(target=(tmp_path / name).write_text, args=(text,), daemon=True).start()
    assert main(["diff", str(tmp_path / "one"), str(tmp_path / "two")]) == 1
    assert capsys.readouterr().out == "a.count 1 → 2\n"


def test_on_the_command_line(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    write(PAINT)
    for level in ("0.25", "1"):
        assert main(["run", "w.json", "-q", "--set", f"level={level}"]) == 0
    first, second = (line for line in capsys.readouterr().out.splitlines())
    assert main(["diff", first, second]) == 1
    assert capsys.readouterr().out == "paint.level 0.25 → 1.0\n"
    assert main(["diff", first, first]) == 0
    assert main(["diff", "w.json", first, "--json"]) == 1
    [change] = json.loads(capsys.readouterr().out)
    assert change == {"kind": "input", "where": "paint.level", "text": "0.5 → 0.25", "before": 0.5, "after": 0.25}
    assert main(["diff", "w.json", "missing.json"]) == 2
