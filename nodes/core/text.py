"""Text: joining, templates, splitting, replacing, and files of lines."""

from __future__ import annotations

import re
from math import isfinite, nan
from typing import Annotated, Literal

from nodegraph import Field, File, Invalid, node

from .templates import fill

MAX_BYTES = 1 << 26
"""The largest text file that is read."""

Pattern = Annotated[str, "a regular expression of Python's re module"]
Encoding = Annotated[str, "the encoding of the file; a byte order mark is dropped"]


@node
def concatenate_text(first: str = "", second: str = "", separator: Annotated[str, "what stands between the two"] = "") -> str:
    """Two texts, one after the other."""
    return first + separator + second


@node
def join_text(
    texts: list[str],
    separator: str = ", ",
    skip_empty: Annotated[bool, "leave out texts that are empty or only white space"] = True,
) -> str:
    """All texts as one, with a separator between them."""
    return separator.join(part for part in texts if part.strip() or not skip_empty)


@node
def format_text(
    template: Annotated[str, "a text with fields such as {subject} or {strength:.2f}; {{ and }} are braces"],
    **values: Annotated[str | int | float | bool, "the value of the field of this name"],
) -> str:
    """A template with its fields replaced by the inputs of the same names."""
    return fill(template, values)


@node
def split_text(
    text: str,
    separator: Annotated[str, Field(min_length=1), "where to cut; a line break by default"] = "\n",
    strip: Annotated[bool, "drop white space around each part"] = True,
    keep_empty: bool = False,
) -> list[str]:
    """The parts of a text between separators."""
    parts = [part.strip() if strip else part for part in text.split(separator)]
    return [part for part in parts if part or keep_empty]


@node
def replace_text(
    text: str,
    find: Annotated[str, Field(min_length=1), "what to replace"],
    replacement: Annotated[str, "what to put there; with regex, \\1 and \\g<name> stand for groups"] = "",
    regex: Annotated[bool, "take `find` as a regular expression of Python's re module"] = False,
    ignore_case: bool = False,
) -> str:
    """The text with every occurrence replaced."""
    pattern = _compiled(find if regex else re.escape(find), "find", ignore_case)
    try:
        return pattern.sub(replacement if regex else lambda match: replacement, text)
    except (re.error, IndexError) as error:
        raise Invalid(f"the replacement {replacement!r} is wrong: {error}", fix="name groups that `find` has", port="replacement") from None


@node
def find_text(
    text: str,
    pattern: Pattern,
    group: Annotated[int, Field(ge=0), "which group of each match; 0 is the whole match"] = 0,
    ignore_case: bool = False,
) -> list[str]:
    """Every match of a regular expression, in order. A group that took no part in its match is empty."""
    compiled = _compiled(pattern, "pattern", ignore_case)
    if group > compiled.groups:
        raise Invalid(f"the pattern has no group {group}", fix=f"use at most {compiled.groups}", port="group")
    return [match[group] or "" for match in compiled.finditer(text)]


def _compiled(pattern: str, port: str, ignore_case: bool) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except (re.error, OverflowError, RecursionError, ValueError) as error:  # a count too large, brackets too deep
        raise Invalid(f"{pattern!r} is no regular expression: {error}", fix="escape special characters with \\", port=port) from None


@node
def strip_text(text: str, characters: Annotated[str, "what to drop; white space if empty"] = "") -> str:
    """The text without white space, or certain characters, at both ends."""
    return text.strip(characters or None)


@node
def change_case(text: str, case: Literal["lower", "upper", "title", "sentence"] = "lower") -> str:
    """The text in lower case, upper case, with Every Word Capitalized, or with the first letter alone a capital."""
    change = {"lower": str.lower, "upper": str.upper, "title": str.title, "sentence": str.capitalize}[case]
    return change(text)


@node
def text_length(text: str) -> int:
    """How many characters a text has."""
    return len(text)


@node
def number_to_text(
    number: float,
    decimals: Annotated[int | None, Field(ge=0, le=100), "digits after the point; none writes as many as the number needs"] = None,
) -> str:
    """A number as text. Whole numbers have no point unless decimals are asked for."""
    if decimals is not None:
        return f"{number:.{decimals}f}"
    return str(int(number)) if float(number).is_integer() else repr(float(number))


@node
def text_to_number(text: str) -> float:
    """The number that a text spells, such as '7.5' or '1e-3'."""
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not isfinite(number):
        raise Invalid(f"{text!r} is no finite number", fix="write it like 7.5", port="text")
    return number


@node
def text_to_integer(text: str) -> int:
    """The whole number that a text spells."""
    try:
        return int(text)
    except ValueError:
        raise Invalid(f"{text!r} is no whole number", fix="write it like 42", port="text") from None


@node
def load_text(file: File, encoding: Encoding = "utf-8") -> str:
    """The text of a file. Line breaks of all systems become \\n."""
    if file.size > MAX_BYTES:
        raise Invalid(f"{file.path!r} has {file.size:,} bytes", fix=f"use a text file of at most {MAX_BYTES:,}", port="file")
    try:
        with open(file, encoding=encoding) as opened:
            text = opened.read().removeprefix("\ufeff")
        text.encode()  # utf-7 and the escapes of Python can spell half a character, which is no text
        return text
    except UnicodeError:
        raise Invalid(f"{file.path!r} is no text in {encoding}", fix="set the encoding it was saved in", port="file") from None
    except (LookupError, ValueError):
        raise Invalid(f"there is no encoding {encoding!r}", fix="use 'utf-8' or 'latin-1'", port="encoding") from None
    except OSError as error:
        raise Invalid(f"{file.path!r} cannot be read: {error.strerror}", fix="check the path", port="file") from None


@node
def load_lines(
    file: File,
    encoding: Encoding = "utf-8",
    comment: Annotated[str, "leave out lines that begin with this; empty keeps all"] = "#",
) -> list[str]:
    """The lines of a text file, stripped, without empty ones: one prompt a line, say."""
    lines = (line.strip() for line in load_text(file, encoding).splitlines())
    return [line for line in lines if line and not (comment and line.startswith(comment))]
