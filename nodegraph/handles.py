"""Handles: small immutable descriptions of model weights. Weights themselves are never values in the graph.

A handle names files by digest, not by path: a renamed model folder is the same model, one changed byte is another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from nodegraph import keys

Parts = tuple[dict[str, Any], dict[str, Any]]
FileDigests = tuple[tuple[str, bytes], ...]
"""(path inside the model, digest of the bytes) of each file, in order of the paths."""
LEFT_OUT = (".md", ".txt.bak", ".png", ".jpg", ".gitattributes", ".gitignore")
"""Endings of files in a model's folder that are no files of the model; hidden ones are none either."""


def is_model_file(path: str) -> bool:
    """Whether a file at a path inside of a model counts as one of its files."""
    return not path.endswith(LEFT_OUT) and not any(part == "" or part.startswith(".") for part in path.split("/"))


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model as a workflow names it: a folder or a file of weights in a model root. Only its files are its identity."""

    name: str = field(compare=False)
    files: FileDigests = ()

    def part(self, *components: str) -> FileDigests:
        """The files of some components (sub-folders, or files by name)."""
        return tuple((path, digest) for path, digest in self.files if any(path == c or path.startswith(c + "/") for c in components))

    def digest(self) -> bytes:
        return keys.merkle(b"model", self.files)

    def parts(self) -> Parts:
        return {"name": self.name, "files": [list(file) for file in self.files]}, {}

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> ModelRef:
        return cls(meta["name"], tuple((path, digest) for path, digest in meta["files"]))


@dataclass(frozen=True, slots=True)
class Handle:
    """Weights of one component: the files they are read from, a component name, a dtype (`auto` is the engine's choice),
    adapters laid over them in order (digest, strength), and facts (plain JSON) for the nodes that use them.
    """

    files: FileDigests
    component: str = ""
    dtype: str = "auto"
    adapters: tuple[tuple[bytes, float], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)

    @classmethod
    def of(cls, model: ModelRef, *components: str, facts: Mapping[str, Any] | None = None, **options: Any) -> Self:
        """The handle of some components of a model; the first one names it. No component: the whole model."""
        files = model.part(*components) if components else model.files
        return cls(files, components[0] if components else "", facts=dict(facts or {}), **options)

    def digest(self) -> bytes:
        adapters = [[raw, strength] for raw, strength in self.adapters]
        what = keys.canonical([type(self).__name__, self.component, self.dtype, adapters, dict(self.facts)])
        return keys.digest(b"handle", what, keys.merkle(b"model", self.files))

    def parts(self) -> Parts:
        meta = {
            "files": [list(file) for file in self.files],
            "component": self.component,
            "dtype": self.dtype,
            "adapters": [list(adapter) for adapter in self.adapters],
            "facts": dict(self.facts),
        }
        return meta, {}

    @classmethod
    def from_parts(cls, meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> Self:
        files = tuple((path, digest) for path, digest in meta["files"])
        adapters = tuple((raw, strength) for raw, strength in meta["adapters"])
        return cls(files, meta["component"], meta["dtype"], adapters, meta["facts"])


class Denoiser(Handle):
    """A network that predicts noise, velocity or the clean sample, with its scheduler's configuration."""

    __slots__ = ()


class Vae(Handle):
    """A variational autoencoder between pixels and latents."""

    __slots__ = ()


class TextEncoder(Handle):
    """A text encoder with its tokenizer."""

    __slots__ = ()


class ImageEncoder(Handle):
    """A network from pictures to embeddings."""

    __slots__ = ()


class Upscaler(Handle):
    """A super-resolution network; facts has `scale`."""

    __slots__ = ()


HANDLES: dict[type, str] = {
    ModelRef: "model",
    Denoiser: "denoiser",
    Vae: "vae",
    TextEncoder: "text_encoder",
    ImageEncoder: "image_encoder",
    Upscaler: "upscaler",
}
