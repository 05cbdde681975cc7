"""nodegraph: typed node graphs for generative media. Workflows are JSON files, nodes are plain typed functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodegraph.context import Files, Run
from nodegraph.errors import Cancelled, Invalid, NodegraphError, OutOfMemory, PackInvalid, Problem, Problems, RunFailed, WorkflowInvalid
from nodegraph.events import Event
from nodegraph.facts import Facts, Mismatch
from nodegraph.handles import Denoiser, Handle, ImageEncoder, ModelRef, TextEncoder, Upscaler, Vae
from nodegraph.outcomes import Graph, Lazy, Need, Ref, Skip
from nodegraph.secret import Secret
from nodegraph.spec import Choices, Kind, NodeType, Port, Was, node
from nodegraph.values import Audio, Conditioning, Embedding, File, Image, Latent, Mask, Rng, Seed, Video

if TYPE_CHECKING:
    from pydantic import Field

    from nodegraph.engine import Engine, run
    from nodegraph.job import Job, Result
    from nodegraph.workflow import Workflow

__version__ = "0.1.0"

_LATE = {
    "Engine": "nodegraph.engine",
    "Field": "pydantic",
    "Job": "nodegraph.job",
    "Result": "nodegraph.job",
    "Workflow": "nodegraph.workflow",
    "run": "nodegraph.engine",
}


def __getattr__(name: str) -> Any:
    """Names whose modules are imported when they are first used, so that importing nodegraph stays cheap."""
    if name in _LATE:
        from importlib import import_module

        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module 'nodegraph' has no attribute {name!r}")


__all__ = [
    "Audio", "Cancelled", "Choices", "Conditioning", "Denoiser", "Embedding", "Engine", "Event", "Facts", "Field", "File",
    "Files", "Graph", "Handle", "Image", "ImageEncoder", "Invalid", "Job", "Kind", "Latent", "Lazy", "Mask", "Mismatch",
    "ModelRef", "Need", "NodeType", "NodegraphError", "OutOfMemory", "PackInvalid", "Port", "Problem", "Problems", "Ref", "Result",
    "Rng", "Run", "RunFailed", "Secret", "Seed", "Skip", "TextEncoder", "Upscaler", "Vae", "Video", "Was", "Workflow", "WorkflowInvalid",
    "node", "run",
]  # fmt: skip
