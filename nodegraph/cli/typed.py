"""Text and JSON as values of a type: how a person writes one value on the command line or in a file of inputs."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from nodegraph import types
from nodegraph.cli import media
from nodegraph.secret import Secret
from nodegraph.types import Type

ENVIRONMENT = "@env:"
"""What begins the name of a variable that holds a secret."""
FIX_AT = "name a file that is there; for text that starts with @, write @@"


def from_text(kind: Type, text: str) -> Any:
    """The value that a text typed for a type stands for. Raises ValueError(what is wrong, how to mend it)."""
    if kind.kind == "union":
        return _union(kind, text)
    if kind.kind == "list":
        return from_json(kind, listed(text))
    if kind in _SCALARS:
        return _SCALARS[kind](text)
    if media.is_media(kind.name):
        return media.read(kind.name, Path(text))
    if kind is types.ANY or kind.kind == "var":
        try:
            return parse_json(text)
        except ValueError:
            return text
    raise ValueError(f"takes {kind}, which cannot be given on the command line", "make it in the workflow, or use Python")


def listed(text: str) -> list[Any]:
    """The JSON list that a text, or the file it names, holds. Raises ValueError."""
    return list(parse_json(_content(text), list))


def from_json(kind: Type, given: Any) -> Any:
    """A JSON value for a type: paths of files become what they hold. Raises ValueError."""
    if isinstance(given, list) and kind.kind == "list":
        return [from_json(kind.args[0], item) for item in given]
    plain = types.without_none(kind)
    if plain is types.SECRET and given is not None:
        return _secret(given if isinstance(given, str) else "")
    if plain is not kind and given is not None:
        return from_json(plain, given)
    return media.read(kind.name, Path(given)) if isinstance(given, str) and media.is_media(kind.name) else given


def from_folder(kind: Type, given: Any, folder: Path) -> Any:
    """A JSON value with its paths of files, which start from `folder`, as they are written in the working folder."""
    plain = types.without_none(kind)
    if isinstance(given, list) and plain.kind == "list":
        return [from_folder(plain.args[0], item, folder) for item in given]
    if not isinstance(given, str) or given.startswith("~"):
        return given
    if plain is types.WORKFLOW:
        return str((folder / given).resolve())
    return str(folder / given) if media.is_media(plain.name) else given


def _union(kind: Type, text: str) -> Any:
    """The first member that can read the text; `null` is none unless text is taken."""
    optional = kind.optional and types.TEXT not in kind.args
    if text == "null" and optional:
        return None
    refused: ValueError | None = None
    for member in sorted(kind.args, key=lambda one: one is types.TEXT):  # text takes everything, so it comes last
        if member is not types.NONE:
            try:
                return from_text(member, text)
            except ValueError as error:
                refused = refused or error
    if refused and optional and len(refused.args) == 2:
        raise ValueError(refused.args[0], f"{refused.args[1]}, or null for none") from None
    raise refused or ValueError(f"takes {kind}")


def _content(text: str) -> str:
    """The text itself; the content of the file for `@FILE`; `@…` for `@@…`."""
    if not text.startswith("@") or text.startswith("@@"):
        return text.replace("@@", "@", 1) if text.startswith("@@") else text
    try:
        return Path(text[1:]).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"is {text!r}, but that file is not UTF-8 text", "save it as UTF-8") from None
    except OSError as error:
        raise ValueError(f"is {text!r}, but that file cannot be read: {error.strerror}", FIX_AT) from None
    except RuntimeError:  # of a home that is not known
        raise ValueError(f"is {text!r}, but there is no home of that name here", FIX_AT) from None


def _secret(text: str) -> Secret:
    """The secret that `@env:NAME` or `@FILE` names. What was typed is never repeated: it may be the secret itself."""
    if not text.startswith("@"):
        fix = "write @env:NAME for a variable of the environment, or @FILE"
        raise ValueError("is a secret, which does not belong on a command line or into a file of inputs", fix)
    if not text.startswith(ENVIRONMENT):
        if not (content := _content(text).rstrip("\r\n")):
            raise ValueError(f"is {text!r}, but that file is empty", "write the secret into it")
        return Secret(content)
    name = text.removeprefix(ENVIRONMENT)
    if not os.environ.get(name):
        raise ValueError(f"is {text!r}, but there is no such variable in the environment", f"set it: export {name}=…")
    return Secret(os.environ[name])


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"must be a whole number, but is {text!r}", "write it in digits") from None


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"must be a number, but is {text!r}", "write it like 7.5") from None


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"must be true or false, but is {text!r}", "write true or false")
    return text.lower() == "true"


def _seed(text: str) -> Any:
    return parse_json(text, list) if text.startswith("[") else _int(text)


def parse_json(text: str, wanted: type | None = None) -> Any:
    """A JSON value, of a Python type if one is wanted. Raises ValueError(what is wrong, how to mend it)."""
    words: dict[type | None, str] = {list: "a JSON list", dict: "a JSON object", None: "JSON"}
    examples: dict[type | None, str] = {
        list: 'write it like [1, 2] or ["a", "b"]',
        dict: 'write it like {"a": 1}',
        None: "text in JSON has quotes: '\"text\"'",
    }
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError(f"must be {words[wanted]}, but is nested too deeply", "write it flatter") from None
    except ValueError as error:
        raise ValueError(f"must be {words[wanted]}, but cannot be read: {error}", examples[wanted]) from None
    if wanted and not isinstance(value, wanted):
        raise ValueError(f"must be {words[wanted]}, but is {text[:60]!r}", examples[wanted])
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys do not repeat: one of the two values would be lost."""
    record: dict[str, Any] = {}
    for key, value in pairs:
        if key in record:
            raise ValueError(f"the key {key!r} stands in it twice")
        record[key] = value
    return record


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large for a number")
    return number


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number in JSON")


_SCALARS: Mapping[Type, Callable[[str], Any]] = {
    types.TEXT: _content,
    types.INT: _int,
    types.FLOAT: _float,
    types.BOOL: _bool,
    types.SEED: _seed,
    types.JSON: lambda text: parse_json(_content(text)),
    types.MODEL: str,
    types.SECRET: lambda text: _secret(text),
    types.WORKFLOW: lambda text: str(Path(text).resolve()),
}


MAX_SPAN = 10_000


def span(kind: Type, text: str) -> list[str]:
    """The numbers that `FIRST..LAST` (both are in it) or `FIRST..LAST..STEP` stands for; none for any other text or type.

    Raises ValueError(what is wrong, how to mend it).
    """
    numbers = types.without_none(kind)
    found = re.fullmatch(r"([^.]\S*?)\.\.([^.]\S*?)(?:\.\.(\S+))?", text.strip())
    if numbers not in (types.INT, types.FLOAT, types.SEED) or not found:
        return []
    try:
        first, last, step = (Decimal(part) for part in (*found.groups()[:2], found[3] or "1"))
        count = int((last - first) / step) + 1
    except (ArithmeticError, ValueError):
        raise ValueError(f"cannot go through {text!r}", "write FIRST..LAST, or FIRST..LAST..STEP: 0..3, or 1..9..2") from None
    if not 0 < count <= MAX_SPAN:
        what = f"stands for {count} values" if count > 0 else "has nothing in it"
        raise ValueError(f"is {text!r}, which {what}", f"write FIRST..LAST..STEP with 1 to {MAX_SPAN} values")
    values = [first + number * step for number in range(count)]
    return [str(value.quantize(Decimal(1)) if value == value.to_integral_value() else value.normalize()) for value in values]


def takes_random(kind: Type) -> bool:
    """Whether `random` stands for a drawn number."""
    return types.without_none(kind) in (types.INT, types.SEED)
