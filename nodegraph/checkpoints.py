"""What long nodes keep while they work, by work key, so that a run that was killed goes on from there.

One file a checkpoint, replaced atomically: the digest of a packed record, and the record. A checkpoint is let go when the result it
led to lies on disk, and after a week otherwise.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nodegraph import keys
from nodegraph.entries import Entry
from nodegraph.packing import Packed, Unpackable, unpack
from nodegraph.store import AGAIN, Store

log = logging.getLogger("nodegraph.checkpoints")
EVERY = 0.4
"""Seconds between the checkpoints of one node: with a step and the writing it loses less than a second."""
SHARE = 20
"""A checkpoint that took long to write is followed by so many times that time without one."""
KEPT = 7 * 86400
"""Seconds after which a checkpoint that nobody came back for is removed."""


@dataclass
class Kept:
    """The checkpoints of one step of a run: their keys, and whether it has gone on from one."""

    keys: set[bytes] = field(default_factory=set)
    resumed: bool = False


class Checkpoints:
    """The checkpoints beside one disk tier. Thread-safe."""

    def __init__(self, store: Store):
        self._store, self._folder = store, store.folder / "checkpoints"
        self._again = 0.0  # when to write them again after trouble with the disk, by time.monotonic
        self._forget_old()

    def save(self, key: bytes, state: Any) -> float:
        """Write JSON-like data and arrays, here and now. Returns the seconds until the next one is due. Raises Unpackable."""
        begun = time.monotonic()
        if begun >= self._again:
            try:
                self._write(key, Packed(state))
            except OSError as error:
                self._again = begun + AGAIN
                if not self._store.trouble:  # or else that has been said
                    log.warning("checkpoints cannot be written, so a run that is killed starts over: %s", error)
        return max(EVERY, SHARE * (time.monotonic() - begun))

    def load(self, key: bytes) -> Any:
        """What was kept last under a work key, or None. A damaged file is none."""
        try:
            data = memoryview(self._path(key).read_bytes())
            if keys.digest(b"checkpoint", data[keys.SIZE :]) != data[: keys.SIZE]:  # type: ignore[arg-type]
                raise ValueError("the bytes are not those that were written")
            return unpack(data[keys.SIZE :])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, Unpackable) as error:
            log.warning("a checkpoint cannot be read, so its node starts over: %s", error)
            return None

    def drop(self, key: bytes, result: Entry | None) -> None:
        """Remove a checkpoint: at once, or when the result that it led to lies on disk."""
        if result is None:
            self._remove(key, True)
        else:
            self._store.when_written(lambda written: self._remove(key, written and result.stored))

    def _remove(self, key: bytes, certain: bool) -> None:
        if certain:
            try:
                self._path(key).unlink(missing_ok=True)
            except OSError as error:
                log.warning("a checkpoint cannot be removed: %s", error)

    def _write(self, key: bytes, packed: Packed) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
        body = b"".join(packed.chunks())
        try:
            aside.write_bytes(keys.digest(b"checkpoint", body) + body)
            os.replace(aside, path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise

    def _path(self, key: bytes) -> Path:
        return self._folder / f"{key.hex()}.ng"

    def _forget_old(self) -> None:
        try:
            for path in self._folder.iterdir():
                if time.time() - path.stat().st_mtime > KEPT:
                    path.unlink(missing_ok=True)
        except OSError:
            return  # none yet, or another process was faster
