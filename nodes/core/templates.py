"""Templates in nodes: what is wrong with one is told as Invalid, at its port."""

from __future__ import annotations

from collections.abc import Mapping

from nodegraph import Invalid

from .facts import templates
from .facts.templates import NoTemplate


def fields(template: str, port: str = "template") -> list[str]:
    """The names of the fields in order. Raises Invalid for what is no template."""
    try:
        return [name for _, name, _ in templates.template_fields(template) if name is not None]
    except NoTemplate as error:
        raise Invalid(str(error), fix=error.fix, port=port) from None


def fill(template: str, values: Mapping[str, object], port: str = "template") -> str:
    """The template with its fields replaced. Raises Invalid for a field without a value and for a format that does not fit."""
    try:
        return templates.filled(template, values)
    except NoTemplate as error:
        raise Invalid(str(error), fix=error.fix, port=port) from None
