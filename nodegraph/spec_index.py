"""The spec index: what a pack declares, kept as plain JSON from one start to the next, so that its sources are not read again.

One file for each pack, named by the pack's folder, written aside and renamed: processes never see half of one. A file that is
damaged, or does not fit the sources as they are now, is none.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nodegraph import keys, types
from nodegraph.spec import REQUIRED, NodeType, Port
from nodegraph.types import Type

Record = dict[str, Any]
Stamps = dict[str, list[int]]
"""Size and modification time by path inside of the pack."""
_READERS = ("spec", "skeleton", "declarations", "placeholders", "pack_reader", "spec_index", "types", "kinds", "values", "handles")
"""The modules of nodegraph that decide what is read from a pack."""


SETTLED = 2_000_000_000
"""Nanoseconds after which a further change of a file is sure to have another time."""
_REMEMBERED: dict[Path, tuple[Stamps, Record]] = {}
"""What this process has read, so that its engines share it."""


class SpecIndex:
    """What packs declared when they were read last. Without a folder it lasts as long as the process."""

    def __init__(self, folder: Path | None):
        self._folder = folder / "packs" if folder else None
        self._code = _code_stamp() if folder else ""

    def get(self, pack: Path, stamps: Stamps) -> Record | None:
        """The record of a pack whose files are still as they were, or None."""
        remembered = _REMEMBERED.get(pack)
        if remembered is not None and remembered[0] == stamps:
            return remembered[1]
        if self._folder is None:
            return None
        try:
            digest, _, text = self._file(pack).read_text(encoding="utf-8").partition("\n")
            if digest != _digest(text):
                return None
            record: Record = json.loads(text)
            if record["code"] != self._code or record["files"] != stamps:
                return None
            return record
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, pack: Path, stamps: Stamps, record: Record) -> None:
        """Keep the record of a pack. What cannot be written is not kept."""
        if time.time_ns() - max((changed for _, changed in stamps.values()), default=0) > SETTLED:
            _REMEMBERED[pack] = stamps, record
        if self._folder is None:
            return
        target = self._file(pack)
        aside = target.with_name(f"{target.name}.{os.getpid()}.part")
        with contextlib.suppress(OSError, ValueError, TypeError):
            text = json.dumps({**record, "code": self._code, "files": stamps}, ensure_ascii=True, separators=(",", ":"))
            target.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(f"{_digest(text)}\n{text}", encoding="utf-8")
            os.replace(aside, target)

    def _file(self, pack: Path) -> Path:
        assert self._folder is not None  # callers have looked
        return self._folder / f"{keys.digest(b'pack', os.fsencode(pack)).hex()}.json"


def _digest(text: str) -> str:
    return keys.digest(b"spec-index", text.encode()).hex()


def _code_stamp() -> str:
    """Changes with nodegraph itself, so that a record made by other code is none."""
    here = Path(__file__).parent
    stats = [(here / f"{name}.py").stat() for name in _READERS]
    return repr([(stat.st_size, stat.st_mtime_ns) for stat in stats])


# -- node types as plain data --------------------------------------------------------------------------------------

_PORT_DEFAULTS = {name: field.default for name, field in Port.__dataclass_fields__.items() if name not in ("name", "type", "default")}
_FLAGS = ("effect", "volatile", "stateful", "asynchronous", "single")
_PLAIN_FIELDS = ("name", "doc", "version", "identity", "takes_run", "lane", "smaller", *_FLAGS)


class NotPlain(ValueError):
    """Something of a node type, such as a default of a class of its own, cannot be kept as plain data."""


def pack_type(one: NodeType, module: str, function: str, fingerprint: str) -> Record:
    """A node type as plain data. Raises NotPlain."""
    record: Record = {name: getattr(one, name) for name in _PLAIN_FIELDS}
    record.update({"was": list(one.was), "module": module, "function": function, "fingerprint": fingerprint})
    record["inputs"] = [_pack_port(port) for port in one.inputs.values()]
    record["outputs"] = [_pack_port(port) for port in one.outputs.values()]
    record["open"] = _pack_port(one.open) if one.open else None
    return record


def unpack_type(record: Mapping[str, Any], pack: str, numerics: bytes, late: Callable[[str, str], Callable[..., Any]]) -> NodeType:
    """The node type of a record. `late(module, function)` gives what it calls."""
    return NodeType(
        **{name: record[name] for name in _PLAIN_FIELDS},
        inputs={port["name"]: _unpack_port(port) for port in record["inputs"]},
        outputs={port["name"]: _unpack_port(port) for port in record["outputs"]},
        open=_unpack_port(record["open"]) if record["open"] else None,
        was=tuple(record["was"]),
        call=late(record["module"], record["function"]),
        fingerprint=late(record["module"], record["fingerprint"]) if record["fingerprint"] else None,
        pack=pack,
        numerics=numerics,
    )


def _pack_port(port: Port) -> Record:
    record: Record = {"name": port.name, "type": _pack_kind(port.type)}
    for name, default in _PORT_DEFAULTS.items():
        value = getattr(port, name)
        if value != default:
            record[name] = list(value) if isinstance(value, tuple) else value
    if port.default is not REQUIRED:
        record["default"] = port.default
    if not _is_plain(record):
        raise NotPlain(port.name)
    return record


def _unpack_port(record: Mapping[str, Any]) -> Port:
    fields: dict[str, Any] = {name: tuple(value) if name in ("choices", "was") else value for name, value in record.items()}
    fields["type"] = _unpack_kind(record["type"])
    return Port(**fields)


def _is_plain(value: Any) -> bool:
    """Whether JSON gives back exactly this."""
    if type(value) is list:
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(type(key) is str and _is_plain(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, float, str)


def _pack_kind(kind: Type) -> list[Any]:
    return [kind.kind, kind.name, [_pack_kind(arg) for arg in kind.args]]


def _unpack_kind(record: list[Any]) -> Type:
    kind, name, args = record
    if kind == "name":
        return types.named(name)
    if kind == "var":
        return types.variable(name)
    if kind == "any":
        return types.ANY
    inner = [_unpack_kind(arg) for arg in args]
    return types.list_of(inner[0]) if kind == "list" else types.union(inner)


__all__ = ["NotPlain", "SpecIndex", "Stamps", "pack_type", "unpack_type"]
