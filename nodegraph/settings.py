"""What a person has set: flags, then NODEGRAPH_* variables, then nodegraph.toml, then the platform's user folders.

A flag is what a command line gives, under the same names. nodegraph.toml is the nearest one from the working folder upward;
paths in it are relative to it. A list that is set in one place replaces the list of the places behind it, as PATH does.

    # nodegraph.toml
    packs = ["my_packs"]
    models = ["models", "/srv/models"]
    device = "cuda:1"
    memory = "16GiB"
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nodegraph.distributions import installed_packs
from nodegraph.errors import Problem, Problems, did_you_mean

FILE = "nodegraph.toml"
PREFIX = "NODEGRAPH_"
PACK_FILE = "pack.toml"
SECRETS = f"{PREFIX}SECRET_"
"""Variables of this beginning hold secrets, and are no settings."""
DEVICES = "auto, cpu, cuda or cuda:0"


class SettingsInvalid(Problems):
    """A setting is unknown or its value is wrong."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, resolved. What is None is left to the engine.

    `packs` and `models`: folders of a person's own, before the built-in ones. `cache`: the folder of the disk tier, or False
    for none. `output`: where files of outputs go. `threads`: of CPU nodes. `memory` and `disk`: budgets in bytes. `roots`:
    folders that paths inside of workflow files may point into. `strict`: the machine enters keys. `debug`: find nodes that
    change their inputs. `file`: the nodegraph.toml
    that was read, if any.
    """

    packs: tuple[Path, ...] = ()
    models: tuple[Path, ...] = ()
    cache: Path | bool = False
    output: Path = Path("output")
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    memory: int | None = None
    disk: int | None = None
    roots: tuple[Path, ...] = ()
    strict: bool = False
    debug: bool = False
    file: Path | None = field(default=None, compare=False)

    @classmethod
    def load(
        cls, flags: Mapping[str, Any] | None = None, variables: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> Settings:
        """Resolve all settings. A flag that is None is not given. Raises SettingsInvalid with everything that is wrong."""
        folder = folder or _working_folder()
        file = nearest(folder)
        problems: list[Problem] = []
        layers = (
            _read(dict(flags or {}), folder, problems, _flag_place),
            _read(_from_variables(os.environ if variables is None else variables, problems), folder, problems, _variable_place),
            _read(_from_file(file, problems), file.parent if file else folder, problems, _FilePlace(file)),
        )
        if problems:
            raise SettingsInvalid(problems)
        merged: dict[str, Any] = {}
        for layer in reversed(layers):
            merged.update(layer)
        for name, default in _USER_FOLDERS.items():
            if name not in merged:
                merged[name] = default()
        return cls(**merged, file=file)

    @property
    def pack_folders(self) -> list[Path]:
        """Every pack to load, once: a person's own, then installed ones, then the built-in ones. A folder is a pack or holds packs."""
        folders = (*self.packs, *(one.path for one in installed_packs()), *_existing(builtin_packs()))
        return list(dict.fromkeys(pack for folder in folders for pack in packs_in(folder)))

    @property
    def versioned_packs(self) -> frozenset[Path]:
        """The packs among them that keys know by the version of their nodes, not by the bytes of their code: installed ones, unless
        they are installed to be worked on."""
        return frozenset(pack for one in installed_packs() if not one.editable for pack in packs_in(one.path))


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        text = "the working folder is no longer there: it was removed"
        raise SettingsInvalid([Problem("file-missing", "", text, "go to one that is there: cd DIR")]) from None


def nearest(folder: Path) -> Path | None:
    """The nodegraph.toml of a folder or of the nearest one above it."""
    return next((path for parent in (folder.resolve(), *folder.resolve().parents) if os.path.isfile(path := parent / FILE)), None)


def packs_in(folder: Path) -> list[Path]:
    """The packs of a folder in the order of their names: itself, if it is one. A folder that is not there counts as a pack, so that
    somebody says so; but for the user's own folder, which nobody has to have."""
    top = os.path.realpath(folder)
    try:
        with os.scandir(top) as entries:
            found = {entry.name: os.path.realpath(entry.path) if entry.is_symlink() else entry.path for entry in entries}
    except OSError:
        return [] if (folder,) == _user_data("packs") else [Path(top)]
    if PACK_FILE in found:
        return [Path(top)]
    return [Path(path) for name, path in sorted(found.items()) if name[0] != "." and os.path.isfile(f"{path}/{PACK_FILE}")]


def builtin_packs() -> Path:
    """Where the packs that come with nodegraph lie: `nodes` beside the package in a checkout, inside of it when installed."""
    return _beside("nodes", "_packs")


def builtin_workflows() -> Path:
    """Where the workflows that come with nodegraph lie."""
    return _beside("workflows", "_workflows")


def _beside(checkout: str, installed: str) -> Path:
    package = Path(__file__).resolve().parent
    return package / installed if (package / installed).is_dir() else package.parent / checkout


def _existing(folder: Path) -> list[Path]:
    return [folder] if folder.is_dir() else []


# -- where settings come from ------------------------------------------------------------------------------------------

Place = Callable[[str], dict[str, Any]]
"""Where a setting stands, as the fields of a Problem."""


def _flag_place(name: str) -> dict[str, Any]:
    return {"where": f"--{name}"}


def _variable_place(name: str) -> dict[str, Any]:
    return {"where": PREFIX + name.upper()}


class _FilePlace:
    """Places in a nodegraph.toml."""

    def __init__(self, file: Path | None):
        self.file = file

    def __call__(self, name: str) -> dict[str, Any]:
        return {"where": name, "file": str(self.file or "")}


def _from_variables(variables: Mapping[str, str], problems: list[Problem]) -> dict[str, Any]:
    """The settings among the environment's variables; an empty one is not set. A misspelt name is a problem, a foreign one is not."""
    found: dict[str, Any] = {}
    for variable, text in variables.items():
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or variable.startswith(SECRETS) or not text:
            continue
        if name not in _READERS:
            if near := did_you_mean(name, _READERS):  # without the prefix, which makes everything look alike
                problems.append(
                    Problem("unknown-setting", variable, f"there is no setting {variable!r}", f"variables are named {PREFIX}…: {near}")
                )
        else:
            found[name] = text.split(os.pathsep) if _READERS[name] is _paths else text
    return found


def _from_file(file: Path | None, problems: list[Problem]) -> dict[str, Any]:
    if file is None:
        return {}
    import tomllib

    try:
        data = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(Problem("bad-toml", "", f"this is not TOML: {error}", "mend the file", str(file)))
        return {}
    except OSError as error:
        problems.append(Problem("file-missing", "", f"cannot read it: {error.strerror}", "", str(file)))
        return {}
    unknown = [name for name in data if name not in _READERS]
    for name in unknown:
        fix = did_you_mean(name, _READERS) or f"the settings are {', '.join(_READERS)}"
        problems.append(Problem("unknown-setting", name, f"there is no setting {name!r}", fix, str(file)))
    return {name: value for name, value in data.items() if name in _READERS}


def _read(given: Mapping[str, Any], folder: Path, problems: list[Problem], place: Place) -> dict[str, Any]:
    """Settings of one layer as values; paths start from `folder`."""
    read: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        try:
            read[name] = _READERS[name](value, folder)
        except _Refused as error:
            problems.append(Problem("bad-setting", text=f"{name!r} {error}, but is {value!r}", fix=error.fix, **place(name)))
    return read


# -- values ------------------------------------------------------------------------------------------------------------


class _Refused(Exception):
    """A value does not fit: what it must be, and how to write it."""

    def __init__(self, must: str, fix: str = ""):
        super().__init__(must)
        self.fix = fix


def _path(value: Any, folder: Path) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise _Refused("must be a path", "write it in quotes")
    if value == "":  # or else it would be the working folder, which nobody has named
        raise _Refused("must be a path", "write . for the working folder")
    if "\0" in os.fspath(value):
        raise _Refused("must be a path, which has no null character", "remove it")
    try:
        return folder / Path(value).expanduser()
    except RuntimeError:
        raise _Refused("must be a path whose home is known here", "write it out instead of ~") from None


def _paths(value: Any, folder: Path) -> tuple[Path, ...]:
    if not isinstance(value, list | tuple):
        raise _Refused("must be a list of paths", "write it in square brackets")
    return tuple(_path(one, folder) for one in value if one != "")


def parse_cache(value: Any, folder: Path) -> Path | Literal[False]:
    """A folder, or false for none."""
    if value is False or (isinstance(value, str) and value.lower() in ("off", "no", "none", "false", "0")):
        return False
    return _path(value, folder)


def _device(value: Any, folder: Path) -> str:
    kind, colon, number = value.partition(":") if isinstance(value, str) else ("", "", "")
    if (kind not in ("auto", "cpu") or colon) and (
        kind not in ("cuda", "mps", "xpu") or (colon and not (number.isascii() and number.isdigit()))
    ):
        raise _Refused(f"must be {DEVICES}")
    return str(value)


DTYPES = ("auto", "float32", "float16", "bfloat16")


def _dtype(value: Any, folder: Path) -> str:
    if value not in DTYPES:
        raise _Refused(f"must be one of {', '.join(DTYPES)}", did_you_mean(str(value), DTYPES))
    return str(value)


def _count(value: Any, folder: Path) -> int:
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if type(value) is not int or value < 1:
        raise _Refused("must be a whole number of at least 1")
    return value


_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)(i?b)?")


def size(value: Any, folder: Path | None = None) -> int:
    """Bytes from `1000000`, `8GiB`, `8G` (powers of 1024) or `500MB` (powers of 1000)."""
    if type(value) is int and value >= 0:
        return value
    match = _SIZE.fullmatch(value.lower().replace(" ", "")) if isinstance(value, str) else None
    if match is None:
        raise _Refused("must be a size", "write it like 8GiB")
    from decimal import Decimal  # a float has no room for hundreds of digits

    amount, unit, tail = match.groups()
    return int(Decimal(amount) * (1000 if tail == "b" else 1024) ** ("kmgt".index(unit) + 1 if unit else 0))


def parse_size(text: str) -> int:
    """Bytes as a person writes them. Raises ValueError."""
    try:
        return size(text)
    except _Refused as error:
        raise ValueError(f"{text!r} {error}; {error.fix}") from None


def size_given(name: str, value: Any) -> int:
    """Bytes that an engine is given and that are no setting. Raises SettingsInvalid."""
    try:
        return size(value)
    except _Refused as error:
        raise SettingsInvalid([Problem("bad-setting", name, f"{name!r} {error}, but is {value!r}", error.fix)]) from None


def _flag(value: Any, folder: Path) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in words:
        raise _Refused("must be true or false")
    return words[value.lower()]


_READERS: dict[str, Callable[[Any, Path], Any]] = {
    "packs": _paths,
    "models": _paths,
    "cache": parse_cache,
    "output": _path,
    "device": _device,
    "dtype": _dtype,
    "threads": _count,
    "memory": size,
    "disk": size,
    "roots": _paths,
    "strict": _flag,
    "debug": _flag,
}


# -- the user's folders ------------------------------------------------------------------------------------------------


def _user_data(name: str) -> tuple[Path, ...]:
    import platformdirs

    return (platformdirs.user_data_path("nodegraph", appauthor=False) / name,)


def _user_cache() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("nodegraph", appauthor=False)


_USER_FOLDERS: dict[str, Callable[[], Any]] = {
    "packs": lambda: _user_data("packs"),
    "models": lambda: _user_data("models"),
    "cache": _user_cache,
}


__all__ = ["FILE", "Settings", "SettingsInvalid", "builtin_packs", "builtin_workflows", "nearest", "packs_in", "parse_size", "size_given"]
