"""Claims between processes that share a cache folder: a long node is computed by one of them, the others wait for its result.

A lease is a lock on a file, which the system takes from a process that dies: a killed holder cannot keep it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger("nodegraph.leases")
SLOTS = 3
"""Hexadecimal digits of a key that choose its lock file: 4,096 files at most, and two keys that share one only wait for each other."""
POLL = 0.03
"""Seconds between looks at leases that other processes hold."""
MOST = 64
"""Leases that one process holds at once: each holds a file open. What is begun beside so many is begun without one."""
LONG = 0.05
"""A node that took at least so many seconds is worth a lease; so is one that has not been seen yet."""


@dataclass(frozen=True, slots=True)
class Waiter:
    """What to call when a lease may be free, and whether that is still wanted."""

    call: Callable[[], None]
    wanted: Callable[[], bool]


class Leases:
    """Leases on work keys in one cache folder. Thread-safe."""

    def __init__(self, folder: Path):
        self._folder = folder / "leases"
        self._waiting: dict[bytes, list[Waiter]] = {}
        self._lock = threading.Lock()
        self._watcher: threading.Thread | None = None
        self._broken = False
        self._held: set[Any] = set()

    def take(self, key: bytes) -> Callable[[], None] | None:
        """Take the lease on a key: what gives it back. None when another process has it."""
        if self._broken or len(self._held) >= MOST:
            return _nothing
        import filelock

        lock = filelock.FileLock(self._folder / f"{key.hex()[:SLOTS]}.lock", thread_local=False)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            finally:
                _refuse_marker(lock)
        except filelock.Timeout:
            return None
        except (OSError, NotImplementedError) as error:
            self._broken = True
            log.warning("the cache folder takes no locks, so processes that share it may compute the same: %s", error)
            return _nothing
        self._held.add(lock)
        return lambda: self._give_back(lock)

    def _give_back(self, lock: Any) -> None:
        self._held.discard(lock)
        lock.release()

    def wait(self, key: bytes, call: Callable[[], None], wanted: Callable[[], bool]) -> None:
        """Have something called soon after the lease on a key has come free, or its holder has died, unless it is wanted no longer."""
        with self._lock:
            self._waiting.setdefault(key, []).append(Waiter(call, wanted))
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="nodegraph-leases", daemon=True)
                self._watcher.start()

    def _watch(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(POLL)
            with self._lock:
                waiting = {key: [one for one in waiters if one.wanted()] for key, waiters in self._waiting.items()}
                self._waiting = {key: waiters for key, waiters in waiting.items() if waiters}
            for key in list(self._waiting):
                give_back: Any = self.take(key)
                if give_back is not None:
                    give_back()
                    with self._lock:
                        waiters = self._waiting.pop(key)
                    for waiter in waiters:
                        try:
                            waiter.call()
                        except Exception:  # one waiter's trouble must not strand the others
                            log.exception("a step that waited for a lease could not go on")
            with self._lock:
                if not self._waiting:
                    self._watcher = None
                    return


def _refuse_marker(lock: Any) -> None:
    """Raise NotImplementedError for what stands in for a lock where the file system has none: the mark of a process on another host that
    was killed would be waited for without end."""
    import filelock

    if isinstance(lock, filelock.SoftFileLock):
        lock.release()
        raise NotImplementedError("the file system has no locks")


def _nothing() -> None:
    """Gives back no lease."""
