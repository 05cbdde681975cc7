"""Texts with fields in braces: `{name}` and `{name:format}`. Unlike str.format, a field reaches no attribute and no item."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Formatter

MAX_WIDTH = 1000
"""The widest a field may ask to be, so that a short template cannot ask for gigabytes."""


class NoTemplate(ValueError):
    """A text is no template, or a field of it cannot be filled; `fix` says what would do."""

    def __init__(self, text: str, fix: str):
        super().__init__(text)
        self.fix = fix


def template_fields(template: str) -> list[tuple[str, str | None, str]]:
    """(text before the field, its name or None at the end, its format) in order. Raises NoTemplate."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise NoTemplate(f"{template!r} is no template: {error}", "write {{ and }} for braces themselves") from None
    for _, name, form, conversion in parts:
        if name is not None and (not name.isidentifier() or conversion or "{" in (form or "")):
            raise NoTemplate(f"the template has a field {name!r}", "a field is {name} or {name:format}")
    return [(before, name, form or "") for before, name, form, _ in parts]


def filled(template: str, values: Mapping[str, object]) -> str:
    """The template with its fields replaced. Raises NoTemplate, also for a field without a value and a format that does not fit."""
    parts = template_fields(template)
    return "".join(before + ("" if name is None else filled_field(name, form, values)) for before, name, form in parts)


def filled_field(name: str, form: str, values: Mapping[str, object]) -> str:
    if name not in values:
        known = ", ".join(f"{{{known}}}" for known in values) or "none"
        raise NoTemplate(f"the template has a field {{{name}}} without a value", f"known fields: {known}")
    if any(len(digits) > 9 or int(digits) > MAX_WIDTH for digits in re.findall(r"\d+", form)):
        raise NoTemplate(f"the format {form!r} of {{{name}}} is too wide", f"use at most {MAX_WIDTH}")
    try:
        text = format(values[name], form)
        text.encode()  # `c` spells half a character for some numbers, which no file, tokenizer or terminal takes
        return text
    except (ValueError, TypeError, OverflowError) as error:
        raise NoTemplate(f"{{{name}:{form}}} does not fit {values[name]!r}: {error}", "see Python's format mini-language") from None
