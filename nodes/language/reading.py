"""Small files of models, for `run.use`: configurations and known wordings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodegraph import Files, Invalid

from .facts import WORDINGS, read_wordings


def load_config(files: Files, device: str = "", dtype: str = "") -> Mapping[str, Any]:
    """The configuration of a sentence encoder. Raises Invalid."""
    content = _read(files, "config.json") if "config.json" in files else None
    if not isinstance(content, dict):
        raise Invalid("the model has no configuration of a sentence encoder", fix="use a model of kind sentence_encoder")
    return content


def load_wordings(files: Files, device: str = "", dtype: str = "") -> tuple[list[str], list[str], str]:
    """The wordings that a model knows, the names of what they mean, and the pattern of its captions. Raises Invalid."""
    try:
        return read_wordings(_read(files, WORDINGS))
    except ValueError as error:
        raise Invalid(f"the {WORDINGS!r} of the model cannot be used: {error}", fix="mend the file", port="name") from error


def _read(files: Files, name: str) -> Any:
    try:
        return files.json(name)
    except ValueError as error:
        raise Invalid(f"{name!r} of the model is no JSON: {error}", fix="get the file anew") from error
