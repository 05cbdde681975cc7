"""The wheel works from an empty environment in another folder: packs, workflows and weights are in it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """A fresh environment that has the wheel, and this one's third-party packages but not its nodegraph."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], check=True, timeout=300
    )
    wheel = next(folder.glob("nodegraph-*.whl"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True, timeout=120)
    fresh = folder / "env" / "bin" / "python"
    site = next((folder / "env" / "lib").glob("python*/site-packages"))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)], check=True, timeout=300
    )
    # third-party packages by path, without the editable install's own .pth files
    (site / "third_party.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return fresh


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(python), "-m", "nodegraph", *arguments], capture_output=True, text=True, timeout=120, cwd=folder, env=variables
    )


def test_it_is_the_wheel_that_runs(python, tmp_path):
    done = subprocess.run([str(python), "-c", "import nodegraph; print(nodegraph.__file__)"], capture_output=True, text=True, cwd=tmp_path)
    assert str(python.parent.parent) in done.stdout, done.stderr


def test_the_page_and_the_mark_of_types_are_in_it(python, tmp_path):
    code = "import nodegraph.cli.page as page; assert page.HTML.is_file(); assert (page.HTML.parents[1] / 'py.typed').is_file()"
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, cwd=tmp_path, env=variables)
    assert done.returncode == 0, done.stderr


def test_packs_workflows_and_weights_are_in_it(python, tmp_path):
    assert "tiny-sd" in run(python, tmp_path, "models", "list").stdout
    assert "sample_latent" in run(python, tmp_path, "nodes").stdout
    done = run(python, tmp_path, "run", "txt2img", "--set", "prompt=a red circle", "--set", "steps=4", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path / done.stdout.strip()).is_file()
