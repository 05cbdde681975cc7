"""Whether memory grows: thousands of runs with ever new models on one engine.

    python benchmarks/soak.py [--runs 2000]

Each run loads another model (a random network of 1 MB, written before the run and removed after it), computes pictures with it, keeps
them in a small cache in memory and on disk, and is forgotten. The budgets fill in the first quarter of the runs. From then on the resident
bytes of the process go up and down, as results wait for the disk and freed memory for the system: the medians of the second and the last
quarter are compared, and what they differ by, half of all runs apart, is told as growth over all runs.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
from pathlib import Path
from typing import Annotated

from measure import verdict

from nodegraph import Engine, Files, Image, Kind, ModelRef, Run, Upscaler, node

WIDTH = 512


def load_network(files: Files, device: str, dtype: str) -> object:
    import torch
    from safetensors.torch import load_file

    network = torch.nn.Linear(WIDTH, WIDTH)
    network.load_state_dict(load_file(files.path("model.safetensors")))
    return network.eval().requires_grad_(False)


@node
def soak_model(name: Annotated[ModelRef, Kind("soak")]) -> Upscaler:
    """A network by name."""
    return Upscaler.of(name)


@node
def soak_apply(model: Upscaler, seed: int, *, run: Run) -> Image:
    """A picture that a network made of noise."""
    import torch

    with run.use(model, load_network) as network:
        noise = torch.rand(1, 3, 64, WIDTH, generator=torch.Generator().manual_seed(seed))
        run.progress(1, 1)
        return Image(network(noise).sigmoid())


@node
def soak_mix(images: list[Image]) -> Image:
    """The mean of pictures."""
    import torch

    return Image(torch.stack([one.tensor() for one in images]).mean(0))


def write_model(folder: Path, number: int) -> Path:
    import torch
    from safetensors.torch import save_file

    drawn = torch.Generator().manual_seed(number)
    weights = {"weight": torch.randn(WIDTH, WIDTH, generator=drawn), "bias": torch.randn(WIDTH, generator=drawn)}
    path = folder / f"soak-{number}.safetensors"
    save_file(weights, path, metadata={"kind": "soak"})
    return path


def workflow(name: str, number: int) -> dict[str, object]:
    nodes: dict[str, object] = {"model": {"use": "soak_model", "with": {"name": name}}}
    for place in range(3):
        nodes[f"a{place}"] = {"use": "soak_apply", "from": {"model": "model.upscaler"}, "with": {"seed": number + place}}
    nodes["mix"] = {"use": "soak_mix", "from": {"images": [f"a{place}.image" for place in range(3)]}}
    return {"nodegraph": 1, "nodes": nodes, "outputs": {"image": "mix.image"}}


def resident() -> int:
    """Bytes of this process in memory now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def soak(runs: int) -> list[int]:
    """The resident bytes after each run."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = folder / "models"
        models.mkdir()
        budgets = {"memory": 16 << 20, "disk": 16 << 20, "weights": 4 << 20}
        with Engine(nodes=(soak_model, soak_apply, soak_mix), models=[models], cache=folder / "cache", **budgets) as engine:
            for number in range(runs):
                path = write_model(models, number)
                result = engine.run(workflow(path.stem, number))
                path.unlink()
                del result
                if number % 20 == 0:
                    gc.collect()
                found.append(resident())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    options = parser.parse_args()
    found = soak(options.runs)
    quarters = [statistics.median(found[part * options.runs // 4 : (part + 1) * options.runs // 4]) for part in range(4)]
    print("resident, medians of quarters: ", *(f"{one / 2**20:8.1f} MiB" for one in quarters))
    print(verdict(f"resident bytes after {options.runs} runs over those before them", 1 + 2 * (quarters[3] / quarters[1] - 1), 1.02))


if __name__ == "__main__":
    main()
