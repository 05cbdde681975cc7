"""Looks at files: within a moment each path is looked at once, so that all who ask are told the same, and a slow disk is asked little."""

from __future__ import annotations

import os
import stat as modes
import threading
import time
from typing import Any, NamedTuple

SETTLED = 2_000_000_000
"""Nanoseconds after which a file that is written again is sure to have another time."""
_this = threading.local()


class Stamp(NamedTuple):
    """What tells whether a file is as it was. Times are in nanoseconds: of any change, and of the last one of its bytes."""

    device: int
    inode: int
    size: int
    ctime_ns: int
    mtime_ns: int


class Moment:
    """In this thread, for as long as it lasts, files are as they were when they were first looked at. A moment within a moment is the
    same."""

    def __enter__(self) -> None:
        self._within = getattr(_this, "seen", None) is not None
        if not self._within:
            _this.seen = {}

    def __exit__(self, *error: object) -> None:
        if not self._within:
            _this.seen = None


def stat(path: str | os.PathLike[str]) -> os.stat_result:
    """As `os.stat`. Raises OSError and ValueError as that does."""
    seen: dict[str, Any] | None = getattr(_this, "seen", None)
    if seen is None:
        return os.stat(path)
    name = os.fspath(path)
    found = seen.get(name)
    if found is None:
        try:
            found = os.stat(name)
        except OSError as error:
            found = error.errno, error.strerror
        seen[name] = found
    if not isinstance(found, os.stat_result):
        raise OSError(*found, name)  # as the kind of error that belongs to its number
    return found


def stamp(path: str | os.PathLike[str]) -> Stamp:
    """What tells whether a file is as it was. Raises OSError and ValueError as `os.stat` does."""
    found = stat(path)
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns, found.st_mtime_ns)


def changed_ns(found: os.stat_result) -> int:
    """When a file was changed last in any way: archives give all of their files one time of writing, and the next file may get the
    inode of the last one. On Windows only the time of writing tells of changes, beside that of its making."""
    return max(found.st_mtime_ns, found.st_ctime_ns)


def is_settled(*stamps: Stamp) -> bool:
    """Whether files were written so long ago that writing them again shows in their stamps."""
    return time.time_ns() - max((one.mtime_ns for one in stamps), default=0) > SETTLED


def is_file(path: str | os.PathLike[str]) -> bool:
    """As `os.path.isfile`."""
    return modes.S_ISREG(_mode(path))


def is_dir(path: str | os.PathLike[str]) -> bool:
    """As `os.path.isdir`."""
    return modes.S_ISDIR(_mode(path))


def exists(path: str | os.PathLike[str]) -> bool:
    """As `os.path.exists`."""
    return _mode(path) != 0


def _mode(path: str | os.PathLike[str]) -> int:
    """The mode of a file, 0 when there is none."""
    try:
        return stat(path).st_mode
    except (OSError, ValueError):
        return 0


__all__ = ["SETTLED", "Moment", "Stamp", "changed_ns", "exists", "is_dir", "is_file", "is_settled", "stamp", "stat"]
