"""Packs: registering what they declare, and registering again those that have changed.

A pack is a folder with a `pack.toml`. It registers whole or not at all; one bad pack never hurts another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nodegraph import collector
from nodegraph.editions import Edition
from nodegraph.errors import PackInvalid, Problem
from nodegraph.pack_reader import PackInfo, PackMissing, PackReader
from nodegraph.registry import Deferred, Registry
from nodegraph.skeleton import findable
from nodegraph.spec_index import SpecIndex, look


@dataclass(frozen=True, slots=True)
class Reload:
    """What reading packs again has changed: names of packs. False when nothing has.

    `changed`: read again, new ones too. `removed`: no longer there. `problems`: of packs that could not be read now; those that
    were registered before stay as they were.
    """

    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed or self.problems)


def load_all(registry: Registry, folders: Iterable[Path], index: Path | None = None, versioned: Collection[Path] = ()) -> list[PackInfo]:
    """Register every pack of these folders, which are given as they really are. What cannot be registered is in the infos' problems,
    and in the registry's answers for its names.

    `index`: a folder that keeps what packs declare from one start to the next; any number of processes may share it. `versioned`:
    packs whose nodes keys know by their version, not by the bytes of their code.
    """
    paths = list(folders)
    findable.cache_clear()
    kept = SpecIndex(index, paths)
    loading = _Loading(registry, kept, Edition(), versioned)
    with collector.held():  # what is read makes no garbage that is worth looking for
        found = loading.load(paths)
    loading.commit()
    kept.save()
    return found


@dataclass(slots=True)
class _Loading:
    """Registers packs in order; a pack that imports from another one comes after it. `infos`: what is registered, by name."""

    registry: Registry
    index: SpecIndex
    edition: Edition
    versioned: Collection[Path] = ()
    infos: dict[str, PackInfo] = field(default_factory=dict)
    readers: list[PackReader] = field(default_factory=list)

    def load(self, folders: Iterable[Path], anew: bool = False) -> list[PackInfo]:
        """The infos in the order of the folders. `anew`: read them whatever their files' times say."""
        order = list(folders)
        found: dict[Path, PackInfo] = {}
        waiting = order
        while waiting:
            put_off: list[Path] = []
            for folder in waiting:
                reader = PackReader(folder, self.index, self.edition, folder in self.versioned)
                try:
                    found[folder] = self._one(reader, anew)
                except PackMissing as error:
                    put_off.append(folder)
                    found[folder] = self._failed(reader, error)
            waiting = put_off if len(put_off) < len(waiting) else []
        return [found[folder] for folder in order]

    def commit(self) -> None:
        """What modules import is what was read now."""
        for reader in self.readers:
            reader.commit()

    def _one(self, reader: PackReader, anew: bool) -> PackInfo:
        info = reader.info
        try:
            types = reader.read(self.infos, anew)
            self.registry.add(types, info.name, info.version, reader.facts if reader.has_facts else None)
        except PackMissing:
            raise
        except PackInvalid as error:
            return self._failed(reader, error)
        info.nodes = sorted(types.names if isinstance(types, Deferred) else (one.name for one in types))
        self.infos[info.name] = info
        self.readers.append(reader)
        return info

    def _failed(self, reader: PackReader, error: PackInvalid) -> PackInfo:
        info = reader.info
        info.problems, info.modules = list(error.problems), {}
        self.registry.broken(info.name, error.problems[0], reader.names())
        return info


def reload(
    registry: Registry,
    infos: Iterable[PackInfo],
    folders: Iterable[Path],
    index: Path | None = None,
    paths: Iterable[Path] | None = None,
    versioned: Collection[Path] = (),
) -> tuple[Registry, list[PackInfo], Reload]:
    """Read again what has changed: another registry, its packs, and what is new. The given registry stays as it is.

    `folders`: where packs are now. `paths`: only packs with one of these files or folders in them, and these whatever their
    times say. Packs that import from a changed one, and packs that had problems, are read again too.
    """
    known = {info.path: info for info in infos}
    there = [folder.resolve() for folder in folders]
    named = None if paths is None else [path.resolve() for path in paths]
    gone = [info for path, info in known.items() if path not in there and (named is None or _touched(path, named))]
    touched = {path for path in there if (path not in known and _is_new(path, named)) or (path in known and _changed(known[path], named))}
    if not touched and not gone:
        return registry, list(known.values()), Reload()
    touched |= {path for path in there if path in known and known[path].problems}
    touched |= _dependants(known, touched | {info.path for info in gone})
    findable.cache_clear()
    made = _Renewal(registry, SpecIndex(index), known, versioned)
    made.drop(gone)
    made.read([path for path in there if path in touched], named is not None)
    return made.registry, [made.infos[path] for path in there if path in made.infos], made.outcome()


class _Renewal:
    """Another registry, in which some packs are removed or read again."""

    def __init__(self, registry: Registry, index: SpecIndex, known: Mapping[Path, PackInfo], versioned: Collection[Path]):
        self.registry, self._versioned = registry.copy(), versioned
        self.infos = dict(known)
        self._index, self._before = index, known
        self._edition = Edition(source for info in known.values() for source in info.modules.values())
        self._gone: list[str] = []
        self._read: list[Path] = []

    def drop(self, gone: Iterable[PackInfo]) -> None:
        for info in gone:
            del self.infos[info.path]
            self._forget(self.registry, info)
            self._edition.drop(info.name)
            self._gone.append(info.name)

    def read(self, folders: list[Path], anew: bool) -> None:
        """All together, as they may have changed together; those that cannot be registered stay as they were."""
        self._read = folders
        batch = folders
        while batch:
            trial = self.registry.copy()
            for folder in batch:
                if folder in self.infos:
                    self._forget(trial, self.infos[folder])
            others = {info.name: info for path, info in self.infos.items() if path not in batch and _is_registered(info)}
            loading = _Loading(trial, self._index, self._edition, self._versioned, others)
            found = dict(zip(batch, loading.load(batch, anew), strict=True))
            failed = {folder: info for folder, info in found.items() if info.problems}
            # what only lacks a pack that failed may do with the last good version of that pack
            failed = {folder: info for folder, info in failed.items() if info.problems[0].code != "pack-missing"} or failed
            for folder, info in failed.items():
                self._keep(folder, info)
            batch = [folder for folder in batch if folder not in failed]
            if not failed:
                loading.commit()
                self.registry = trial
                self.infos.update(found)
                for info in found.values():
                    self._edition.keep(info.name)
                return

    def _keep(self, folder: Path, now: PackInfo) -> None:
        """The last good version stays, with the problems of the present one."""
        before = self._before.get(folder)
        names = PackReader.of(now, self._index, self._edition).names()
        if before is not None and _is_registered(before):
            self.registry.broken(before.name, now.problems[0], names)
            self.infos[folder] = replace(before, problems=now.problems, files=now.files)
            return
        self._forget(self.registry, before or now)
        self.registry.broken(now.name, now.problems[0], names)
        self.infos[folder] = now

    def _forget(self, registry: Registry, info: PackInfo) -> None:
        """Take out what a folder has registered; its name may be that of another folder's pack."""
        if _is_registered(info) or not any(one.name == info.name and _is_registered(one) for one in self.infos.values()):
            registry.remove(info.name)

    def outcome(self) -> Reload:
        changed, problems = [], []
        for path in self._read:
            before, now = self._before.get(path), self.infos[path]
            problems += now.problems
            if not now.problems and (before is None or before.problems or _content(before) != _content(now)):
                changed.append(now.name)
            if before is not None and before.name != now.name and _is_registered(before):
                self._gone.append(before.name)
        return Reload(tuple(changed), tuple(self._gone), tuple(problems))


def _is_registered(info: PackInfo) -> bool:
    return bool(info.modules) or not info.problems


def _content(info: PackInfo) -> object:
    return info.name, info.version, info.doc, info.nodes, {name: source.identity for name, source in info.modules.items()}


def _touched(pack: Path, paths: Iterable[Path]) -> bool:
    return any(path == pack or pack in path.parents or path in pack.parents for path in paths)


def _changed(info: PackInfo, paths: list[Path] | None) -> bool:
    return look(str(info.path))[0] != info.files if paths is None else _touched(info.path, paths)


def _is_new(pack: Path, paths: list[Path] | None) -> bool:
    return paths is None or _touched(pack, paths)


def _dependants(known: Mapping[Path, PackInfo], touched: set[Path]) -> set[Path]:
    """The packs that import from touched ones. What they need is transitive already."""
    names = {known[path].name for path in touched if path in known}
    return {path for path, info in known.items() if names.intersection(info.needs)} - touched


__all__ = ["PackInfo", "Reload", "load_all", "reload"]
