"""Texts with fields in braces: `{name}` and `{name:format}`. Unlike str.format, a field reaches no attribute and no item."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from string import Formatter

from nodegraph import Invalid

MAX_WIDTH = 1000
"""The widest a field may ask to be, so that a short template cannot ask for gigabytes."""


def fields(template: str, port: str = "template") -> Iterator[tuple[str, str | None, str]]:
    """(text before the field, its name or None at the end, its format) in order. Raises Invalid for what is no template."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise Invalid(f"{template!r} is no template: {error}", fix="write {{ and }} for braces themselves", port=port) from None
    for before, name, form, conversion in parts:
        if name is not None and (not name.isidentifier() or conversion or "{" in (form or "")):
            raise Invalid(f"the template has a field {name!r}", fix="a field is {name} or {name:format}", port=port)
        yield before, name, form or ""


def fill(template: str, values: Mapping[str, object], port: str = "template") -> str:
    """The template with its fields replaced. Raises Invalid for a field without a value and for a format that does not fit."""
    filled = []
    for before, name, form in fields(template, port):
        filled.append(before)
        if name is not None:
            filled.append(_field(name, form, values, port))
    return "".join(filled)


def _field(name: str, form: str, values: Mapping[str, object], port: str) -> str:
    if name not in values:
        known = ", ".join(f"{{{known}}}" for known in values) or "none"
        raise Invalid(f"the template has a field {{{name}}} without a value", fix=f"known fields: {known}", port=port)
    if any(len(digits) > 9 or int(digits) > MAX_WIDTH for digits in re.findall(r"\d+", form)):
        raise Invalid(f"the format {form!r} of {{{name}}} is too wide", fix=f"use at most {MAX_WIDTH}", port=port)
    try:
        filled = format(values[name], form)
        filled.encode()  # `c` spells half a character for some numbers, which no file, tokenizer or terminal takes
        return filled
    except (ValueError, TypeError, OverflowError) as error:
        raise Invalid(
            f"{{{name}:{form}}} does not fit {values[name]!r}: {error}", fix="see Python's format mini-language", port=port
        ) from None
