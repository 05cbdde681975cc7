"""The spec index: what packs declare, kept as plain JSON from one start to the next, so that their sources are not read again.

Two kinds of files, written aside and renamed, so that processes never see half of one. A catalog for each set of packs says of each
whether it is as it was (sizes and times of its files and folders) and the names of its nodes: all that a start needs. A record for
each pack holds the node types themselves, read when one of them is asked for. A file that is damaged, or does not fit the sources
as they are now, is none.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from nodegraph import keys, types
from nodegraph.looks import SETTLED
from nodegraph.spec import REQUIRED, NodeType, Port
from nodegraph.types import Type

Record = dict[str, Any]
Stamps = dict[str, list[int]]
"""Size, time of the last change of the bytes, and of any change, by path inside of the pack: what is put in the place of a file may
have its size and the first of these times, as `cp -p` gives it, but not the other."""
_READERS = (
    "spec",
    "skeleton",
    "declarations",
    "placeholders",
    "pack_reader",
    "spec_index",
    "limits",
    "types",
    "kinds",
    "values",
    "handles",
)
"""The modules of nodegraph that decide what is read from a pack."""
_NOT_MODULES = {"tests", "models", "__pycache__", "node_modules"}
FILE = "pack.toml"

_REMEMBERED: dict[Path, tuple[Stamps, Record]] = {}
"""What this process has read, so that its engines share it."""


class SpecIndex:
    """What packs declared when they were read last. Without a folder it lasts as long as the process. `packs`: those of the catalog."""

    def __init__(self, folder: Path | None, packs: Iterable[Path] = ()):
        self._folder = folder
        self._code = _code_stamp() if folder else ""
        self._packs = [str(pack) for pack in packs]
        self._catalog: dict[str, Record] = self._read_catalog() if folder and self._packs else {}
        self._kept: dict[str, Record] = {}
        self._changed = False

    def find(self, pack: Path, anew: bool = False) -> tuple[Stamps, Record | None]:
        """The files of a pack as they are now, and what is known of them: its record, or what the catalog says. `anew`: nothing."""
        known = self._catalog.get(str(pack))
        if known is not None and not anew and _is_as_it_was(str(pack), known):
            self._kept[str(pack)] = known
            return known["files"], known
        files, folders = look(str(pack))
        if anew:
            return files, None
        if known is not None and known["files"] == files:
            self.keep(pack, files, known, folders)
            return files, known
        record = self._record(pack, files)
        if record is not None:
            self.keep(pack, files, record, folders)
        return files, record

    def nodes(self, pack: Path, files: Stamps) -> list[Record] | None:
        """The node types of a pack whose files are still these, or None."""
        record = self._record(pack, files)
        return record["nodes"] if record else None

    def put(self, pack: Path, files: Stamps, record: Record) -> None:
        """Keep the record of a pack. What cannot be written is not kept."""
        if _is_settled(changed for _, *times in files.values() for changed in times):
            _REMEMBERED[pack] = files, record
        if self._folder is not None:
            self.keep(pack, files, record, look(str(pack))[1])
            self._write(self._file(pack), {**record, "code": self._code, "files": files})

    def keep(self, pack: Path, files: Stamps, record: Record, folders: Mapping[str, int]) -> None:
        """Note a pack for the catalog. Folders that have only just changed are looked into again the next time."""
        summary = {name: value for name, value in record.items() if name not in ("nodes", "code")}
        summary.update({"files": files, "folders": folders if _is_settled(folders.values()) else {}})
        self._kept[str(pack)] = summary
        self._changed = self._changed or self._catalog.get(str(pack)) != summary

    def save(self) -> None:
        """Write the catalog if it says something new."""
        if self._folder is not None and self._packs and (self._changed or self._kept.keys() != self._catalog.keys()):
            self._write(self._catalog_file(), {"code": self._code, "packs": self._kept})
            self._catalog, self._changed = dict(self._kept), False

    def _record(self, pack: Path, files: Stamps) -> Record | None:
        remembered = _REMEMBERED.get(pack)
        if remembered is not None and remembered[0] == files:
            return remembered[1]
        record = self._read(self._file(pack)) if self._folder else None
        return record if record is not None and record.get("files") == files else None

    def _read_catalog(self) -> dict[str, Record]:
        found = self._read(self._catalog_file())
        return dict(found["packs"]) if found is not None and "packs" in found else {}

    def _read(self, file: Path) -> Record | None:
        """A file of the index, or None when it is damaged, or other code wrote it."""
        try:
            digest, _, text = file.read_text(encoding="utf-8").partition("\n")
            if digest != _digest(text):
                return None
            found: Record = json.loads(text)
            return found if found["code"] == self._code else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, target: Path, value: Record) -> None:
        aside = target.with_name(f"{target.name}.{os.getpid()}.part")
        with contextlib.suppress(OSError, ValueError, TypeError):
            text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                aside.write_text(f"{_digest(text)}\n{text}", encoding="utf-8")
                os.replace(aside, target)
            except OSError:
                aside.unlink(missing_ok=True)  # on a full disk each process would leave another
                raise

    def _file(self, pack: Path) -> Path:
        assert self._folder is not None  # callers have looked
        return self._folder / "packs" / f"{keys.digest(b'pack', os.fsencode(pack)).hex()}.json"

    def _catalog_file(self) -> Path:
        assert self._folder is not None  # callers have looked
        return self._folder / "catalogs" / f"{keys.digest(b'catalog', *map(os.fsencode, self._packs)).hex()}.json"


def look(pack: str) -> tuple[Stamps, dict[str, int]]:
    """Size and time of a pack's own files, and the times of its folders, by their path inside of it."""
    files: Stamps = {}
    folders: dict[str, int] = {}
    stack = [""]
    while stack:
        inside = stack.pop()
        try:
            with os.scandir(os.path.join(pack, inside)) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
            folders[inside] = os.stat(os.path.join(pack, inside)).st_mtime_ns
        except OSError:
            continue
        for entry in entries:
            path = f"{inside}/{entry.name}" if inside else entry.name
            if entry.is_dir():
                if entry.name not in _NOT_MODULES and not entry.name.startswith("."):
                    stack.append(path)
            elif (path.endswith(".py") and not entry.name.startswith(".")) or path == FILE:
                with contextlib.suppress(OSError):
                    stat = os.stat(os.path.join(pack, path))
                    files[path] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    return dict(sorted(files.items())), folders


def _is_as_it_was(pack: str, known: Record) -> bool:
    """Whether the sizes and times of a pack's files and folders are those that are known."""
    if not known["folders"]:
        return False
    try:
        for inside, changed in known["folders"].items():
            if os.stat(f"{pack}/{inside}").st_mtime_ns != changed:
                return False
        for inside, seen in known["files"].items():
            stat = os.stat(f"{pack}/{inside}")
            if [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] != seen:
                return False
    except OSError:
        return False
    return True


def _is_settled(changed: Iterable[int]) -> bool:
    return time.time_ns() - max(changed, default=0) > SETTLED


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


__all__ = ["FILE", "NotPlain", "SpecIndex", "Stamps", "look", "pack_type", "unpack_type"]
