"""What the graph adds to a model's own time and memory: txt2img.json against diffusers' pipeline on the same weights.

    python benchmarks/model_time.py [--models tiny-sd sd15-unet] [--processes 6] [--rounds 9] [--device cpu]

Both are warm, each in processes of its own, which take turns: within one process they share a heap, and how one has left it is up to a
fifth of the other's time. Each picture is of another prompt and seed, so that neither can answer from what it has computed before; the
first is compared bit for bit. `sd15-unet` is a folder of random weights with the denoiser of Stable Diffusion 1.5 (860 million
parameters) between a small text encoder and a small VAE; it is made for the run, needs 4 GB of disk and about as much memory, and is
sampled at 256x256 with two steps. Peaks of memory are those of further processes, from the import to one picture, in three pairs: those
of a large model vary by 2 % with the holes that malloc happens to leave. On a GPU also the share of the sampling during which it is
busy, from torch's profiler.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import ROOT, alternating, figure, in_new_process, median, paired_ratio, peak_rss, verdict

WORKFLOW = ROOT / "workflows" / "txt2img.json"
TINY = ROOT / "nodes" / "diffusion" / "models" / "tiny-sd"
OPTIONS = {"tiny-sd": {"steps": 20, "guidance": 5.0}, "sd15-unet": {"steps": 2, "guidance": 5.0, "width": 256, "height": 256}}


def make_sd15(folder: Path) -> None:
    """A model folder whose denoiser has the size of Stable Diffusion 1.5's. Small weights, so that numbers stay finite."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    shutil.copytree(TINY / "tokenizer", folder / "tokenizer")
    shutil.copytree(TINY / "scheduler", folder / "scheduler")
    shutil.copy(TINY / "model_index.json", folder)
    vocabulary = json.loads((TINY / "text_encoder" / "config.json").read_text())
    text = CLIPTextConfig(**{**vocabulary, "hidden_size": 768, "intermediate_size": 768, "num_hidden_layers": 1, "num_attention_heads": 12})
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    channels = (16, 16, 32, 32)
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    AutoencoderKL(block_out_channels=channels, norm_num_groups=8, **kinds).save_pretrained(folder / "vae")
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    unet = unet.to_empty(device="cpu")
    for weight in unet.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    unet.save_pretrained(folder / "unet")


class Graph:
    """The workflow on an engine."""

    def __init__(self, model: Path, device: str, cache: Path | bool):
        from nodegraph import Engine

        self.engine = Engine(models=[model.parent], device=device, dtype="float32", cache=cache)
        self.fixed = {"model": model.name, "negative": "black", **OPTIONS[model.name]}

    def picture(self, number: int) -> Any:
        return self.engine.run(WORKFLOW, prompt=prompt(number), seed=number, **self.fixed).outputs["image"].tensor()


class Pipeline:
    """What a user of diffusers would write."""

    def __init__(self, model: Path, device: str):
        import torch
        from diffusers import StableDiffusionPipeline
        from diffusers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False, "local_files_only": True}
        self.pipeline = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32, **options).to(device)
        self.pipeline.set_progress_bar_config(disable=True)
        names = {"steps": "num_inference_steps", "guidance": "guidance_scale"}
        self.fixed = {names.get(name, name): value for name, value in OPTIONS[model.name].items()}

    def picture(self, number: int) -> Any:
        import torch

        drawn = [torch.Generator().manual_seed(number)]
        return self.pipeline(prompt(number), negative_prompt="black", generator=drawn, output_type="pt", **self.fixed).images


def prompt(number: int) -> str:
    shapes, colours = ("circle", "square", "triangle"), ("red", "blue", "green", "yellow", "black")
    return f"a large {colours[number % 5]} {shapes[number % 3]} on the left on a white background"


def wall(which: str, model: Path, device: str, rounds: int) -> dict[str, Any]:
    """Seconds of a picture in this process, the first one's digest, and how busy a GPU is with the graph."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        maker = Graph(model, device, Path(folder)) if which == "graph" else Pipeline(model, device)
        first = maker.picture(0).cpu().float().contiguous().numpy().tobytes()

        def timed(number: int) -> float:
            begun = time.perf_counter()
            maker.picture(number)
            if device != "cpu":
                torch.cuda.synchronize(device)
            return time.perf_counter() - begun

        seconds = median([timed(1 + number) for number in range(rounds)])
        busy = gpu_busy(maker) if isinstance(maker, Graph) and device != "cpu" else None
        if isinstance(maker, Graph):
            maker.engine.close()
    return {"seconds": seconds, "digest": hashlib.sha256(first).hexdigest(), "busy": busy}


def gpu_busy(graph: Graph) -> float:
    """The share of the time between the first and the last kernel of a run during which a kernel is at work."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        graph.picture(1_000_003)
    spans = sorted((one.time_range.start, one.time_range.end) for one in profiled.events() if one.device_type == DeviceType.CUDA)
    at_work, until = 0.0, spans[0][0]
    for start, end in spans:
        at_work += max(0.0, end - max(start, until))
        until = max(until, end)
    return at_work / (until - spans[0][0])


def memory(which: str, model: Path, device: str) -> dict[str, int]:
    """The peak of this process after one picture: of device memory on a GPU, otherwise resident bytes."""
    maker = Graph(model, device, False) if which == "graph" else Pipeline(model, device)
    maker.picture(0)
    if device == "cpu":
        return {"bytes": peak_rss()}
    import torch

    return {"bytes": torch.cuda.max_memory_allocated(device)}


def report(model: Path, device: str, rounds: int, processes: int) -> None:
    """Print the figures of one model, each taken in processes of its own."""
    fixed = ("--device", device, "--folder", str(model))
    told: dict[str, list[dict[str, Any]]] = {"graph": [], "pipeline": []}

    def walled(which: str) -> float:
        told[which].append(in_new_process("model_time.py", *fixed, "--part", "wall", "--which", which, "--rounds", str(rounds)))
        return told[which][-1]["seconds"]

    taken = alternating({which: lambda which=which: walled(which) for which in told}, processes)
    if len({one["digest"] for several in told.values() for one in several}) > 1:
        raise SystemExit("graph and pipeline differ: their times cannot be compared")
    held = {which: lambda which=which: in_new_process("model_time.py", *fixed, "--part", which)["bytes"] for which in ("graph", "pipeline")}
    peaks = alternating(held, 3)
    print(f"{model.name}:", ", ".join(f"{which} {figure(median(taken[which]), '{:.3f}')} s" for which in taken), "a picture; ", end="")
    print("peaks", " and ".join("/".join(f"{nbytes / 2**20:.0f}" for nbytes in taken) for taken in peaks.values()), "MiB")
    pairs = zip(taken["graph"], taken["pipeline"], strict=True)
    print(f"{model.name}: time of the graph over the pipeline's, pair by pair:", " ".join(f"{one / other:.3f}" for one, other in pairs))
    print(verdict(f"{model.name}: time of the graph over the pipeline's", paired_ratio(taken["graph"], taken["pipeline"]), 1.01))
    print(verdict(f"{model.name}: peak memory of the graph over the pipeline's", paired_ratio(peaks["graph"], peaks["pipeline"]), 1.0))
    if device != "cpu":
        busy = median([one["busy"] for one in told["graph"]])
        print(verdict(f"{model.name}: share of the sampling with the GPU busy", busy, 0.97, at_least=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(OPTIONS), default=list(OPTIONS))
    parser.add_argument("--rounds", type=int, default=9, help="pictures of each process; sd15-unet makes a third of them")
    parser.add_argument("--processes", type=int, default=6, help="of each of the two; the median of the ratios of neighbours counts")
    parser.add_argument("--device", default="")
    parser.add_argument("--part", choices=["wall", "graph", "pipeline"], help=argparse.SUPPRESS)
    parser.add_argument("--which", choices=["graph", "pipeline"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        fixed = options.folder, options.device
        found = wall(options.which, *fixed, options.rounds) if options.part == "wall" else memory(options.part, *fixed)
        print(json.dumps(found))
        return
    import torch

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    print(f"device {device}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            model = TINY if name == "tiny-sd" else Path(folder, name)
            if name != "tiny-sd":
                make_sd15(model)
            report(model, device, options.rounds if name == "tiny-sd" else max(1, options.rounds // 3), options.processes)


if __name__ == "__main__":
    main()
