"""Models: the folders they lie in, their digests, and the weights that are resident now.

A model is a folder with `model_index.json` or `config.json`, or one `.safetensors` file. Its kind is `diffusion` for a folder
with `model_index.json`; otherwise what its `config.json` (`"nodegraph_kind"`) or the header of the file (`"kind"`) says.
A folder whose `model_index.json` names a `"nodegraph_base"` has the parts that it lacks from that folder, which lies beside it.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from nodegraph import looks
from nodegraph.context import Files
from nodegraph.errors import Problem, did_you_mean, listing
from nodegraph.handles import LEFT_OUT, FileDigests, Handle, ModelRef
from nodegraph.literals import Refused
from nodegraph.values import File

LINKS = 3
"""Links to folders that are followed one behind another: more are no model's, and where each folder has several they never end."""
SINGLE = "model.safetensors"
"""What the only file of a model that is one file is called inside of it."""
Stamps = dict[str, tuple[str, looks.Stamp]]
"""Where a model's files lie, and the stamp of each, by their names inside of it."""
Sight = tuple[Path, Stamps]
"""Where a model lies, and what tells whether its files are as they were."""
UNSAFE = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")
"""Files that are, or may be, pickles: never opened."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model that can be named in a workflow. `size` is in bytes."""

    name: str
    kind: str
    path: Path
    size: int


class _Known(NamedTuple):
    """What is known of a model: where its files lie, their stamps as they were digested, itself, their digests, and whether another
    change would show in the stamps."""

    paths: dict[str, str]
    stamps: Stamps
    reference: ModelRef
    digests: dict[str, bytes]
    settled: bool


class ModelFolder:
    """Finds models in roots, in order: the first root that has a name wins. `digest(path)` gives a file's digest."""

    def __init__(self, roots: Iterable[Path], digest: Callable[[Path], bytes]):
        self.roots = [Path(root) for root in roots]
        self._digest = digest
        self._known: dict[Path, _Known] = {}  # as they were when they were asked for
        self._lock = threading.Lock()
        self._crowded = 64  # when so many are known, those that are gone are forgotten

    def list(self) -> list[ModelInfo]:
        """Every model, by name."""
        found: dict[str, ModelInfo] = {}
        for root in self.roots:
            for path in _candidates(root):
                name = path.name.removesuffix(".safetensors") if os.path.isfile(path) else path.name
                if name not in found and (kind := _kind(path)) is not None:
                    found[name] = ModelInfo(name, kind, path, _size(path))
        return sorted(found.values(), key=lambda one: one.name)

    def find(self, name: str) -> Path | None:
        """The path of a model by name. A name never leads out of the roots."""
        if not _is_name(name):
            return None
        for root in self.roots:
            for path in (f"{root}/{name}", f"{root}/{name}.safetensors"):
                if looks.exists(path) and _kind(path) is not None:
                    return Path(path)
        return None

    def model(self, name: str, kind: str) -> str:
        """The name, if there is such a model of that kind (any, if it is empty). Raises Refused."""
        path = self.find(name)
        if path is None:
            raise self._unknown(name, kind)
        if (base := _base(path)) and not looks.is_dir(base):
            text = f"the model {name!r} has its other parts from {base.name!r}, which is not beside it"
            raise Refused("model-incomplete", text, f"put {base.name!r} into {str(path.parent)!r} too")
        found = _kind(path)
        if kind and found != kind:
            others = [one.name for one in self.list() if one.kind == kind]
            raise Refused(
                "wrong-model",
                f"the model {name!r} is of kind {found!r}, but {kind!r} is needed",
                f"models of that kind: {listing(others)}" if others else "",
            )
        return name

    def _unknown(self, name: str, kind: str) -> Refused:
        if os.sep in name and os.path.exists(path := os.path.expanduser(name)) and _kind(path) is not None:
            import shlex

            parent, own = os.path.split(os.path.abspath(path))
            fix = f"call it {own.removesuffix('.safetensors')!r}, and name the folder it lies in: --models {shlex.quote(parent)}"
            return Refused("unknown-model", f"a model is given by its name, but {name!r} is a path", fix)
        for root in self.roots:
            unsafe = [one for suffix in UNSAFE if os.path.isfile(one := root / (name if name.endswith(suffix) else name + suffix))]
            if unsafe:
                return Refused(
                    "unsafe-weights",
                    f"{unsafe[0].name!r} may be a pickle, which can run any code when it is opened",
                    "convert it to safetensors on a machine you trust",
                )
            folder = root / name
            within = bool(name) and "/" not in name
            closed = [(one, why) for one in (folder, root / f"{name}.safetensors") if within and (why := _unreadable(one))]
            if closed and not _unreadable(root):
                text = f"the model {name!r} cannot be read: {closed[0][1]}: {str(closed[0][0])!r}"
                return Refused("model-incomplete", text, "let its files be read and its folders be entered, or name another model")
            if within and os.path.isdir(folder):
                return Refused(
                    "model-incomplete",
                    f"the folder {name!r} holds no model: it has neither model_index.json nor config.json",
                    "add the missing parts, or name another model",
                )
        for root in self.roots:
            if why := _unreadable(root):
                text = f"there is no model {name!r}, but the folder of models {str(root)!r} cannot be read: {why}"
                return Refused("unknown-model", text, "let it be read and entered, or name another folder: --models DIR")
        known = [one.name for one in self.list() if not kind or one.kind == kind]
        fix = did_you_mean(name, known) or (
            f"models {f'of kind {kind!r} ' if kind else ''}here: {listing(known)}" if known else "add one with: nodegraph models add PATH"
        )
        return Refused("unknown-model", f"there is no model {name!r}", fix)

    def sight(self, name: str) -> Sight | None:
        """A look at a model of that name, if there is one."""
        path = self.find(name)
        return None if path is None else (path, _stamps(path))

    def ref(self, name: str, seen: Sight | None = None) -> ModelRef:
        """The model with the digests of its files, now or as it was `seen` a moment ago. Reads each file once ever."""
        seen = seen or self.sight(name)
        if seen is None:
            raise self._unknown(name, "")
        path, stamps = seen
        if path in self._known and self._known[path].settled and self._known[path].stamps == stamps:
            return self._known[path].reference
        paths = {file: found for file, (found, _) in stamps.items()}
        files = tuple((file, self._digest(Path(found))) for file, found in paths.items())
        made = ModelRef(name, files)
        settled = looks.is_settled(*(stamp for _, stamp in stamps.values()))
        with self._lock:
            known = self._known
            if len(known) >= self._crowded:
                known = {one: what for one, what in known.items() if os.path.exists(one)}
                self._crowded = max(64, 2 * len(known))
            # a new one, as other threads walk through the old
            self._known = {**known, path: _Known(paths, stamps, made, dict(files), settled)}
        return made

    def locate(self, files: FileDigests) -> Files | None:
        """Where files lie now: all in one model, whose name does not matter. None when no model has them all."""
        paths = self._paths(files)
        return None if paths is None else Files({name: Path(path) for name, path in paths.items()})

    def _paths(self, files: FileDigests) -> dict[str, str] | None:
        for known in reversed(self._known.values()):
            if all(known.digests.get(name) == digest for name, digest in files):
                paths = {name: known.paths[name] for name, _ in files}
                if all(map(looks.is_file, paths.values())):
                    return paths
        return None

    def holds(self, files: FileDigests, located: Files) -> bool:
        """Whether files that were located are still those of the digests: they may be replaced at any time."""
        try:
            return all(self._is_same(name, digest, located.path(name)) for name, digest in files)
        except OSError:
            return False

    def _is_same(self, name: str, digest: bytes, path: Path) -> bool:
        """Reads a file again only where its stamp is another one than when it had this digest."""
        found = str(path)
        knowing = (one for one in list(self._known.values()) if one.paths.get(name) == found and one.digests.get(name) == digest)
        return any(one.stamps[name][1] == looks.stamp(path) for one in knowing) or self._digest(path) == digest

    def valid(self, value: Any) -> bool:
        """Whether a value that stands for something outside still does."""
        if isinstance(value, File):
            return value.still_valid()
        if isinstance(value, Handle):
            return self._paths(value.files) is not None
        return True

    # -- what facts may look at ------------------------------------------------------------------------------------

    def json(self, model: str, path: str) -> Mapping[str, Any] | None:
        """A JSON file inside of a model folder, or None."""
        root = self.find(model)
        if root is None or os.path.isabs(path) or ".." in path.replace(os.sep, "/").split("/"):
            return None
        return _read_json(str(_at(root, path)))

    def header(self, model: str, path: str = "") -> Mapping[str, Any] | None:
        """The header of a safetensors file, or None."""
        root = self.find(model)
        return read_header(_at(root, path) if path else root) if root else None

    def files(self, model: str) -> Sequence[str]:
        """The paths of a model's files."""
        root = self.find(model)
        if root is None:
            return []
        return list(_paths(root))

    # -- for people ------------------------------------------------------------------------------------------------

    def add(self, path: Path, name: str | None = None) -> ModelInfo:
        """Copy a model into the first root. Raises Refused."""
        source = Path(path)
        if source.suffix in UNSAFE:
            raise Refused(
                "unsafe-weights",
                f"{source.name!r} may be a pickle, which can run any code when it is opened",
                "convert it to safetensors on a machine you trust",
            )
        if why := _unreadable(source):
            raise Refused("no-model", f"{str(path)!r} cannot be read: {why}", "let it be read and entered, or give another one")
        if not source.exists() or _kind(source) is None:
            raise Refused(
                "no-model",
                f"{str(path)!r} is no model folder and no safetensors file",
                "give a folder with model_index.json, or a .safetensors file",
            )
        name = name or Path(os.path.abspath(source)).name.removesuffix(".safetensors")
        if not _is_name(name):
            raise Refused("bad-name", f"{name!r} is no name for a model", "give a --name without slashes that does not begin with a dot")
        target = self.roots[0] / (name if source.is_dir() else f"{name}.safetensors")
        if self.find(name) or os.path.lexists(target):
            raise Refused("model-exists", f"there is a model {name!r} already", "give another --name")
        try:
            _copy(source, target)
        except OSError as error:
            why = error.strerror or error.args[0][0][-1]  # of a folder, that of the first file
            text = f"{name!r} cannot be written into {str(self.roots[0])!r}: {why}"
            raise Refused("not-written", text, "make room there, or name another folder: --models DIR") from None
        return ModelInfo(name, _kind(target) or "", target, _size(target))

    def info(self, name: str) -> dict[str, Any]:
        """Everything known of a model, for `models show`. Raises Refused."""
        path = self.find(name)
        if path is None:
            raise self._unknown(name, "")
        ref = self.ref(name)
        sizes = _sizes(path)
        files = [{"file": file, "digest": digest.hex(), "bytes": sizes[file]} for file, digest in ref.files]
        return {
            "name": name,
            "kind": _kind(path),
            "path": str(path),
            "digest": ref.digest().hex(),
            "bytes": sum(sizes.values()),
            "files": files,
        }

    def verify(self, name: str) -> Sequence[Problem]:
        """Read every file again: damaged safetensors and pickles are problems. Raises Refused."""
        path = self.find(name)
        if path is None:
            raise self._unknown(name, "")
        problems = []
        for file in map(Path, _paths(path).values()):
            if file.suffix in UNSAFE:
                problems.append(
                    Problem("unsafe-weights", file.name, f"{file.name!r} may be a pickle", "convert it to safetensors and remove it")
                )
            elif file.suffix == ".safetensors" and not _header_fits(file):
                problems.append(Problem("damaged-weights", file.name, f"{file.name!r} is no whole safetensors file", "get it again"))
        return problems


def _is_name(name: str) -> bool:
    """Whether a model can be named so: it leads out of no root, and is not hidden in it."""
    return bool(name) and "/" not in name and "\\" not in name and not name.startswith(".")


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a folder at once, so that what is there is whole. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, aside)
        aside.rename(target)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def _candidates(root: Path) -> list[Path]:
    """What may be a model in a root; nothing where that cannot be looked into."""
    try:
        found = [one for one in sorted(root.iterdir()) if not one.name.startswith(".")]
    except OSError:
        return []
    return [one for one in found if os.path.isdir(one) or one.suffix == ".safetensors"]


def _unreadable(path: Path) -> str:
    """Why a folder cannot be looked into or entered, or a file not be read; nothing where it can, or there is none."""
    try:
        if os.path.isdir(path):
            os.listdir(path)
            os.stat(path / ".")
        else:
            open(path, "rb").close()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def _paths(path: Path) -> dict[str, str]:
    """The files that make a model what it is, by their names inside of it, and where they lie: no cards, pictures, hidden files."""
    if looks.is_file(path):
        return {SINGLE: str(path)}
    top = str(path)
    found = {file: f"{top}/{file}" for file in _inside(top)}
    if base := _base(path):
        present = {file.partition("/")[0] for file in found}
        found |= {file: f"{base}/{file}" for file in _inside(str(base)) if file.partition("/")[0] not in present}
    return dict(sorted(found.items()))


def _inside(top: str) -> Iterator[str]:
    """The paths of the files in a folder, those in linked folders too."""
    folders: list[tuple[str, tuple[str, ...]]] = [("", ())]
    while folders:
        inside, through = folders.pop()
        with suppress(OSError), os.scandir(f"{top}/{inside}") as entries:
            for one in entries:
                if one.name.startswith("."):
                    continue
                if one.is_dir():
                    links = _followed(top, one, through) if one.is_symlink() else through
                    if links is not None:
                        folders.append((f"{inside}{one.name}/", links))
                elif not one.name.endswith(LEFT_OUT) and (os.path.isfile(one) if one.is_symlink() else one.is_file()):
                    yield f"{inside}{one.name}"


def _followed(top: str, link: os.DirEntry[str], through: tuple[str, ...]) -> tuple[str, ...] | None:
    """The folders that links have led to, with that of one more link; None if it leads back to where they came from, or too far."""
    if len(through) == LINKS:
        return None
    target = os.path.realpath(link.path)
    passed = (os.path.realpath(top), os.path.realpath(os.path.dirname(link.path)), *through)
    return None if any(one == target or one.startswith(f"{target}{os.sep}") for one in passed) else (*through, target)


def _base(path: Path) -> Path | None:
    """The folder beside a model that has the parts which the model itself does not; it has no base of its own."""
    name = (_read_json(f"{path}/model_index.json") or {}).get("nodegraph_base")
    if not isinstance(name, str) or not name or name.startswith(".") or "/" in name or "\\" in name or name == path.name:
        return None
    return path.with_name(name)


def _stamps(path: Path) -> Stamps:
    """What tells whether the files of a model are as they were."""
    stamps = {}
    for file, found in _paths(path).items():
        with suppress(FileNotFoundError):  # it has vanished since it was listed
            stamps[file] = (found, looks.stamp(found))
    return stamps


def _at(path: Path, file: str) -> Path:
    """Where a file of a model lies, if it is there."""
    if not looks.is_dir(path):
        return path
    base = _base(path)
    return base / file if base and not _has_part(path / file.partition("/")[0]) else path / file


def _has_part(path: Path) -> bool:
    """Whether a model itself has a part, a file or a folder with files, so that its base does not give it."""
    return any(True for _ in _inside(str(path))) if looks.is_dir(path) else looks.exists(path)


def _size(path: Path) -> int:
    """Bytes of a model."""
    return sum(_sizes(path).values())


def _sizes(path: Path) -> dict[str, int]:
    """Bytes of each file of a model."""
    return {file: stamp.size for file, (_, stamp) in _stamps(path).items()}


def _kind(path: Path | str) -> str | None:
    """The kind of a model, or None if this is none."""
    name = str(path)
    if looks.is_file(f"{name}/model_index.json"):
        return "diffusion"
    if (config := _read_json(f"{name}/config.json")) is not None:
        return str(config.get("nodegraph_kind", "model"))
    if not name.endswith(".safetensors"):
        return None
    header = read_header(Path(path))
    return None if header is None else str(header.get("__metadata__", {}).get("kind", "weights"))


def _read_json(path: str) -> Mapping[str, Any] | None:
    """The object in a JSON file, or None when it is none. Nobody changes it."""
    try:
        return _parsed(path, looks.stamp(path))
    except (OSError, ValueError, RecursionError):
        return None


@lru_cache(maxsize=256)
def _parsed(path: str, seen: looks.Stamp) -> Mapping[str, Any]:
    with open(path, encoding="utf-8") as file:
        data = json.load(file)
    if not isinstance(data, dict):
        raise ValueError("no object")
    return data


def read_header(path: Path) -> Mapping[str, Any] | None:
    """The header of a safetensors file, or None when it is none."""
    try:
        return _header(str(path), looks.stamp(path))
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=256)
def _header(path: str, seen: looks.Stamp) -> Mapping[str, Any]:
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(seen.size - 8, 100 << 20):
            raise ValueError("no safetensors file")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("no safetensors file")
    return header


def _header_fits(path: Path) -> bool:
    header = read_header(path)
    if header is None:
        return False
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
    ends = [one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"]
    return path.stat().st_size == start + max(ends, default=0)
