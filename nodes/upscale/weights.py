"""Reading super-resolution weights: headers, and networks ready to run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from nodegraph import Files, Invalid

from .facts import Layout, UnknownWeights, read_layout
from .networks import Network, build


def load_facts(files: Files, device: str, dtype: str) -> dict[str, Any]:
    """The facts of an upscaler's handle, from its header alone. Raises Invalid."""
    layout = _layout(_weights(files))
    return {"architecture": layout.architecture, "scale": layout.scale}


def load_network(files: Files, device: str, dtype: str) -> Network:
    """The network with its weights, in a dtype on a device, for inference. Raises Invalid."""
    path = _weights(files)
    layout = _layout(path)
    with torch.device("meta"):
        network = build(layout)
    kind = getattr(torch, dtype)
    with safe_open(path, framework="pt", device=device) as stored:
        tensors = {name: stored.get_tensor(name_in_file).to(kind) for name, name_in_file in layout.names.items()}
    network.load_state_dict(tensors, assign=True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on CPUs than the default
    return network.eval().requires_grad_(False)


def _weights(files: Files) -> Path:
    names = [name for name in files if name.endswith(".safetensors")]
    if len(names) != 1:
        raise Invalid(f"an upscaler is one .safetensors file; the model has {names or 'none'}", fix="keep one in the folder")
    return files.path(names[0])


def _layout(path: Path) -> Layout:
    try:
        with safe_open(path, framework="pt") as stored:
            header: dict[str, Any] = {"__metadata__": stored.metadata() or {}}
            for name in stored.keys():  # noqa: SIM118 (not a dict)
                part = stored.get_slice(name)
                header[name] = {"dtype": part.get_dtype(), "shape": part.get_shape()}
        return read_layout(header)
    except SafetensorError as error:
        raise Invalid(f"{path.name} is no safetensors file, or is damaged: {error}", fix="get the file anew") from error
    except UnknownWeights as error:
        raise Invalid(f"{path.name} cannot be used as an upscaler: {error}", fix=error.fix) from error
