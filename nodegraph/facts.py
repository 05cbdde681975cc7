"""Facts: what is known of a value without computing it (family, channels, embedding width, size).

A pack may have a `facts.py`: functions named like its node types, which take facts of the inputs to facts of the outputs,
or to a `Mismatch`. It is the only pack module that `check` imports, and may import the standard library and this module alone.
Facts in several files are a folder: `facts/__init__.py` has those functions, and imports its siblings (`from .rules import …`).

    def encode_text(encoder, text):
        return Facts(width=encoder.get("width"))

    def sample_latent(look, model, positive, **rest):
        if differ(model.get("cross_width"), positive.get("width")):
            return Mismatch("positive", "...", fix="...")
        return {"latent": Facts(channels=model.get("channels"))}

Parameters are ports by name; `look`, if there, reads configurations of model folders. A literal is `Facts(value=…)`; what is
linked but unknown is empty, and so is null, left out or written, whose `null` is true. A function for a node with one output
returns its Facts, otherwise a dict by output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Facts(dict[str, Any]):
    """Known facts of one value, by name. Unknown ones are absent. `null`: whether the value is null, and not merely unknown."""

    null = False

    def __init__(self, **known: Any):
        super().__init__({name: value for name, value in known.items() if value is not None})


class _Null(Facts):
    null = True


NULL = _Null()
"""What is known of null."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The inputs do not go together: which port is wrong, why, and how to mend it."""

    port: str
    text: str
    fix: str = ""


class Look(Protocol):
    """How facts of models are read: configurations and headers only, never weights."""

    def json(self, model: str, path: str) -> Mapping[str, Any] | None:
        """A JSON file inside of a model folder, or None if there is none."""

    def header(self, model: str, path: str = "") -> Mapping[str, Any] | None:
        """The header of a safetensors file (tensor names, shapes, `__metadata__`), or None."""

    def files(self, model: str) -> list[str]:
        """The paths of a model's files."""


def differ(*values: Any) -> bool:
    """Whether at least two of the values are known and not equal."""
    known = [value for value in values if value is not None]
    return any(value != known[0] for value in known)
