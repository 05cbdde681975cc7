"""Which files have changed: of packs, workflows and inputs, gathered until nothing more changes.

with PackWatcher(engine) as watcher:
    watcher.watch(["flow.json", "photo.png"])
    for changed in watcher:
        engine.reload(changed)
        engine.run("flow.json")
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.polling import PollingObserver

if TYPE_CHECKING:
    from nodegraph.engine import Engine

QUIET = 0.02
"""Seconds without a further change after which changes are told: longer than an editor takes between the steps of one save."""
LONGEST = 0.5
"""Seconds after which they are told in any case."""
_CHANGES = ("created", "modified", "moved", "deleted", "closed")
"""Kinds of events that are changes; opening and reading is none."""
_PASSING = ("~", ".swp", ".swx", ".tmp", ".part", ".pyc", ".crdownload")
"""Endings of files that come and go beside those that are meant."""


class Watcher:
    """Tells which of some files, and which files in some folders, have changed. A context manager; iterating ends with `close`.

    A file is watched through its folder: so it may be renamed over, deleted and made again, or be made later. Where there is no
    folder, that is told when it is made; `watch` then watches it.
    """

    def __init__(self, paths: Iterable[str | Path] = (), quiet: float = QUIET, longest: float = LONGEST):
        self._quiet, self._longest = quiet, longest
        self._changed: dict[Path, None] = {}
        self._last = 0.0
        self._wake = threading.Condition()
        self._closed = False
        self._files: frozenset[Path] = frozenset()
        self._folders: tuple[Path, ...] = ()
        self._watches: dict[tuple[Path, bool], Any] = {}
        self._observer: Any = Observer()
        self._observer.daemon = True
        self._start()
        self.watch(paths)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[frozenset[Path]]:
        while changed := self.changes():
            yield changed

    def watch(self, paths: Iterable[str | Path]) -> None:
        """Watch these files and folders, and no others. What is a folder now is watched with all that is, or will be, in it."""
        resolved = [Path(path).resolve() for path in paths]
        self._set([path for path in resolved if not path.is_dir()], [path for path in resolved if path.is_dir()])

    def changes(self, timeout: float | None = None) -> frozenset[Path]:
        """Wait for changes, and until no more come. Resolved paths; none when `timeout` seconds pass or the watcher is closed."""
        with self._wake:
            if not self._wake.wait_for(lambda: self._changed or self._closed, timeout):
                return frozenset()
            begun = time.monotonic()
            while not self._closed:
                now = time.monotonic()
                left = min(self._last + self._quiet, begun + self._longest) - now
                if left <= 0:
                    break
                self._wake.wait(left)
            found = frozenset(self._changed)
            self._changed.clear()
            return frozenset() if self._closed else found

    def close(self) -> None:
        """Stop watching. Idempotent; may be called from any thread."""
        with self._wake:
            closed, self._closed = self._closed, True
            self._wake.notify_all()
        if not closed:
            self._observer.stop()
            self._observer.join()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _matters(self, path: Path) -> bool:
        """Whether a path is one of those that are watched."""
        if path in self._files:
            return True
        folder = next((one for one in self._folders if one == path or one in path.parents), None)
        if folder is None:
            return False
        inside = path.relative_to(folder).parts
        return not (path.name.endswith(_PASSING) or any(part.startswith(".") or part in ("__pycache__", "node_modules") for part in inside))

    def _set(self, files: Iterable[Path], folders: Iterable[Path]) -> None:
        self._files, self._folders = frozenset(files), tuple(folders)
        wanted = {(folder, True) for folder in self._folders}
        wanted |= {(_nearest(file), False) for file in self._files if not any(one in file.parents for one in self._folders)}
        watched = {emitter.watch for emitter in self._observer.emitters if emitter.is_alive()}  # one ends when its folder is removed
        for place, (watch, inode) in list(self._watches.items()):
            if place not in wanted or watch not in watched or inode != _inode(place[0]):
                with contextlib.suppress(KeyError):  # closed meanwhile
                    self._observer.unschedule(watch)
                del self._watches[place]
        for folder, deep in sorted(wanted - self._watches.keys()):
            if folder.is_dir():
                self._schedule(folder, deep)

    def _schedule(self, folder: Path, deep: bool) -> None:
        try:
            self._watches[folder, deep] = self._observer.schedule(_Handler(self), str(folder), recursive=deep), _inode(folder)
        except OSError:
            if self._closed or isinstance(self._observer, PollingObserver) or not folder.is_dir():
                return  # it has gone meanwhile, or nobody looks any more
            self._look_again_and_again()
            self._schedule(folder, deep)

    def _look_again_and_again(self) -> None:
        """The system watches no more folders for us: look at their files ourselves."""
        self._observer.stop()
        self._observer = PollingObserver(timeout=0.2)
        self._observer.daemon = True
        self._observer.start()
        for folder, deep in list(self._watches):
            self._schedule(folder, deep)

    def _start(self) -> None:
        try:
            self._observer.start()
        except OSError:
            self._look_again_and_again()

    def _saw(self, event: FileSystemEvent) -> None:
        if event.event_type not in _CHANGES or (event.is_directory and event.event_type in ("modified", "closed")):
            return
        paths = [Path(str(path)) for path in (event.src_path, event.dest_path) if path]
        seen = [path for path in paths if self._matters(path) or (event.is_directory and any(path in one.parents for one in self._files))]
        if seen:
            with self._wake:
                self._changed.update(dict.fromkeys(seen))
                self._last = time.monotonic()
                self._wake.notify_all()


def _nearest(file: Path) -> Path:
    """The folder of a file, or the nearest one above that is there."""
    return next(folder for folder in file.parents if folder.is_dir() or folder == folder.parent)


def _inode(folder: Path) -> int:
    """Tells a folder from another one that has taken its name."""
    with contextlib.suppress(OSError):
        return folder.stat().st_ino
    return 0


class _Handler(FileSystemEventHandler):
    """Hands what it is told to a watcher."""

    def __init__(self, watcher: Watcher):
        self._watcher = watcher

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._watcher._saw(event)


class PackWatcher(Watcher):
    """Tells which modules of an engine's packs have changed, and with `watch`, which other files. New packs are seen too.

    From here on, what runs ends with the code it began with (`Engine.keep_code`); hand the changes to `Engine.reload`.
    """

    def __init__(self, engine: Engine, files: Iterable[str | Path] = (), quiet: float = QUIET, longest: float = LONGEST):
        self._engine = engine
        self._packs: tuple[Path, ...] = ()
        engine.keep_code()
        super().__init__(files, quiet, longest)

    def watch(self, paths: Iterable[str | Path]) -> None:
        """Watch these files and folders beside the packs, and no others."""
        found = [*self._engine.settings.packs, *(pack.path for pack in self._engine.packs)]
        packs = {path.resolve() for path in found if path.is_dir()}
        self._packs = tuple(path for path in packs if not packs.intersection(path.parents))
        resolved = [Path(path).resolve() for path in paths]
        others = [path for path in resolved if path.is_dir()]
        self._set([path for path in resolved if not path.is_dir()], [*others, *self._packs])

    def _matters(self, path: Path) -> bool:
        if not super()._matters(path):
            return False
        if path in self._files or not any(one == path or one in path.parents for one in self._packs):
            return True
        with contextlib.suppress(OSError):
            return path.suffix in (".py", ".toml") or path.is_dir() or not path.suffix
        return False


__all__ = ["PackWatcher", "Watcher"]
