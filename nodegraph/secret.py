"""Secrets: texts that nodes may use and nothing may show.

A workflow never holds one: it declares an input of type `secret`, and whoever runs it gives `--set token=@env:NAME`,
`--set token=@FILE`, the variable `NODEGRAPH_SECRET_TOKEN`, or in Python `token=Secret(…)`. A node gets the `Secret` and calls
`reveal()` where it needs the text.

Keys hold a secret as a digest under a random salt of the cache it works with. So a result that a token led to is found again,
another token never gets it, and neither keys nor file names tell the text to who can guess at it without the cache's folder. The
salt lies in that folder, readable by its owner alone; without a disk tier it lives as long as the process.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import urllib.parse
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nodegraph import keys, types

if TYPE_CHECKING:
    from nodegraph.spec import Port

VARIABLE = "NODEGRAPH_SECRET_"
"""An input `token` that is not given is taken from the variable of this name with `TOKEN` behind it."""
HIDDEN = "•••"
"""What stands for a secret wherever text is shown."""
SALT_FILE = "salt"
_SALT_BYTES = 32
_process_salt = os.urandom(_SALT_BYTES)
_alive: weakref.WeakValueDictionary[int, Secret] = weakref.WeakValueDictionary()


class Secret:
    """A text that shows itself to nobody but `reveal()`. Immutable; never empty; it has no form on disk and is never pickled."""

    __slots__ = ("__weakref__", "_salt", "_text")
    _salt: bytes
    _text: str

    def __init__(self, text: str, *, salt: bytes = b""):
        if not isinstance(text, str) or not text:
            raise ValueError("a secret is a text that is not empty")
        object.__setattr__(self, "_text", text)
        object.__setattr__(self, "_salt", salt or _process_salt)
        _alive[id(self)] = self

    def reveal(self) -> str:
        """The text. Whoever calls this keeps it to what it is for: never in an output, a message or a file's name."""
        return self._text

    def salted(self, salt: bytes) -> Secret:
        """The same secret as keys of one cache know it."""
        return Secret(self._text, salt=salt)

    def digest(self) -> bytes:
        return keys.digest(b"secret", self._salt, self._text.encode("utf-8", "surrogatepass"))

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    __str__ = __repr__

    def __format__(self, how: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self.digest())

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError("a Secret is immutable")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled")


def redact(text: str) -> str:
    """Text without any secret that is alive, also where it was quoted for a URL or for JSON."""
    for one in list(_alive.values()):
        for spelled in _spellings(one.reveal()):
            text = text.replace(spelled, HIDDEN)
    return text


def redacted(value: Any) -> Any:
    """Plain data without any secret in its texts."""
    if not _alive:
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redacted(key): redacted(item) for key, item in value.items()}
    return [redacted(item) for item in value] if isinstance(value, list | tuple) else value


def _spellings(text: str) -> list[str]:
    quoted = [urllib.parse.quote(text, safe=""), urllib.parse.quote_plus(text), json.dumps(text)[1:-1], repr(text)[1:-1]]
    return sorted({text, *quoted}, key=len, reverse=True)


# -- where secrets come from -------------------------------------------------------------------------------------------


def bound(ports: Mapping[str, Port], given: Mapping[str, Any], salt: bytes) -> dict[str, Any]:
    """The inputs of a run with its secrets as `Secret`: texts for ports of that type, and those that variables hold."""
    made = dict(given)
    for name, port in ports.items():
        if types.without_none(port.type) is not types.SECRET:
            continue
        value = made.get(name)
        if value is None and name not in made and (text := os.environ.get(variable(name))):
            value = text
        if isinstance(value, str) and value:
            value = Secret(value)
        if isinstance(value, Secret):
            made[name] = value.salted(salt)
    return made


def variable(name: str) -> str:
    """The environment variable of an input."""
    return VARIABLE + re.sub(r"\W", "_", name).upper()


def salt_of(folder: Path | None) -> bytes:
    """The salt of a cache folder, made when there is none; that of the process where nothing can be kept."""
    if folder is None:
        return _process_salt
    path = folder / SALT_FILE
    aside = folder / f".{SALT_FILE}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(os.urandom(_SALT_BYTES))
                os.link(aside, path)  # whoever comes first makes it; all others read it
            except FileExistsError:
                pass
            finally:
                aside.unlink(missing_ok=True)
        salt = path.read_bytes()
        return salt if len(salt) == _SALT_BYTES else _process_salt
    except OSError:
        return _process_salt


__all__ = ["HIDDEN", "VARIABLE", "Secret", "bound", "redact", "redacted", "salt_of", "variable"]
