"""A working folder with a pack of small nodes: what tests of the command line and of saved files work with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

PACK = '''\
"""Small nodes."""

import time
from typing import Annotated

from nodegraph import Audio, Field, File, Image, Invalid, Run, Secret, Seed, Skip, node


@node
def paint(level: Annotated[float, Field(ge=0, le=1)] = 0.5, seed: Seed = 0, size: int = 8) -> Image:
    """A grey picture with noise."""
    import numpy

    pixels = numpy.random.default_rng(seed).random((1, 3, size, size), dtype=numpy.float32) * 0.2 + level * 0.8
    return Image(pixels.astype(numpy.float32))


@node
def tone(hertz: float = 440.0) -> Audio:
    """A tenth of a second of a tone."""
    import numpy

    return Audio(numpy.sin(2 * numpy.pi * hertz * numpy.arange(800) / 8000, dtype=numpy.float64).astype(numpy.float32)[None, None], 8000)


@node
def darker(image: Image, amount: float = 0.5) -> Image:
    """A darker picture."""
    return Image(image.numpy() * (1 - amount))


@node
def read(file: File) -> str:
    """The text of a file."""
    return open(file.path).read()


@node
def fetch(url: str, token: Secret) -> str:
    """Something behind a token."""
    return f"{url}: {len(token.reveal())}"


@node
def spill(token: Secret, how: str = "raise", *, run: Run) -> str:
    """A node that is careless with its token."""
    if how == "raise":
        raise RuntimeError(f"401 for https://example.org/?key={token.reveal()}")
    if how == "cause":
        try:
            raise ValueError(token.reveal())
        except ValueError as error:
            raise RuntimeError("it failed") from error
    if how == "invalid":
        raise Invalid(f"{token.reveal()!r} is refused", fix=f"not {token.reveal()}", port="token", seen=[token.reveal()])
    if how == "progress":
        run.progress(1, 2, f"with {token.reveal()}")
    return f"{token} {token!r} {token:>9}"


@node
def develop(image: Image, steps: int = 50, *, run: Run) -> Image:
    """The picture, after a while, with previews."""
    for step in range(1, steps + 1):
        run.progress(step, steps, preview=Image(image.numpy() * step / steps) if steps else None)
        time.sleep(0.02)
    return image


@node
def wait(seconds: float, *, run: Run) -> float:
    """Waits, in steps of a hundredth of a second."""
    for step in range(int(seconds * 100)):
        run.progress(step, int(seconds * 100))
        time.sleep(0.01)
    return seconds
'''


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with the pack, and settings that lead nowhere else."""
    pack = tmp_path / "packs" / "toy"
    pack.mkdir(parents=True)
    (pack / "pack.toml").write_text('name = "toy"\nversion = 3\ndoc = "A toy."\nnumerics = ["numpy"]\n')
    (pack / "toys.py").write_text(PACK)
    for name, value in {"PACKS": tmp_path / "packs", "MODELS": tmp_path / "models", "CACHE": tmp_path / "cache", "OUTPUT": "out"}.items():
        monkeypatch.setenv(f"NODEGRAPH_{name}", str(value))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(data: Any, name: str = "w.json") -> str:
    """Write a workflow (or any JSON). Returns its path."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(data if isinstance(data, str) else json.dumps(data, indent=2), encoding="utf-8")
    return name


PAINT: dict[str, Any] = {
    "name": "grey",
    "inputs": {"level": {"type": "float", "default": 0.5, "doc": "How light it is."}, "seed": {"type": "seed", "default": 0}},
    "nodes": {
        "paint": {"use": "paint", "from": {"level": "inputs.level", "seed": "inputs.seed"}},
        "dim": {"use": "darker", "from": {"image": "paint.image"}, "with": {"amount": 0.25}},
    },
    "outputs": {"image": "dim.image"},
}
