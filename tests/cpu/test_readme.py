"""Every example of the README runs, and every shipped workflow checks clean."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nodegraph import Engine

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_that_runs_a_workflow(tmp_path):
    (tmp_path / "workflows").symlink_to(ROOT / "workflows")
    done = subprocess.run([sys.executable, "-c", blocks("python")[0]], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^sample \d+ of 20$", done.stdout, re.MULTILINE), "a slow reader misses steps, never all"
    assert (tmp_path / "circle.png").stat().st_size > 100


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("nodegraph ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_run(line, tmp_path, monkeypatch):
    """As they stand, in the checkout; the schema is written elsewhere, and the photo is one of our own pictures."""
    words = shlex.split(line, comments=True)[1:]
    paths = [path for word in words for path in (sorted(map(str, ROOT.glob(word))) if "*" in word else [word])]
    photo = ROOT / "docs" / "pictures" / "txt2img.png"
    given = [word.replace("photo.png", str(photo)) for word in paths]
    given = [str(tmp_path / word) if word in ("workflow.schema.json", "grid.png", "graph.png") else word for word in given]
    monkeypatch.chdir(ROOT)
    done = subprocess.run([sys.executable, "-m", "nodegraph", *given], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_node_is_found_in_a_pack(tmp_path):
    pack = tmp_path / "my_packs" / "mine"
    pack.mkdir(parents=True)
    (pack / "pack.toml").write_text('name = "mine"\nversion = 1\n')
    (pack / "nodes.py").write_text(blocks("python")[1])
    workflow = {
        "nodes": {
            "white": {"use": "solid_image", "with": {"width": 4, "height": 4, "color": "#ffffff"}},
            "dark": {"use": "fade", "from": {"image": "white.image"}, "with": {"amount": 0.25}},
        },
        "outputs": {"image": "dark.image"},
    }
    with Engine(packs=[tmp_path / "my_packs"], cache=False) as engine:
        assert engine.check(workflow) == []
        assert engine.run(workflow).outputs["image"].numpy().flat[0] == pytest.approx(0.75)


def test_the_workflow_runs():
    workflow = json.loads(blocks("json")[0])
    workflow["nodes"]["paint"]["use"] = str(ROOT / "workflows" / "txt2img.json")
    with Engine(cache=False, roots=[ROOT]) as engine:
        assert engine.check(workflow) == []
        picture = engine.run(workflow, seeds=[5, 6]).outputs["image"]
    assert picture.width > picture.height


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda path: path.stem)
def test_shipped_workflows_check_clean(path):
    with Engine(cache=False) as engine:
        assert engine.check(path) == []


def test_every_file_the_readme_names_is_there():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
