"""What long nodes keep while they work, by work key, so that a run that was killed goes on from there.

One file a checkpoint, replaced atomically by the store's writer: the digest of a packed record, and the record. A checkpoint is
let go when the result it led to lies on disk, and after a week otherwise.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from nodegraph import keys
from nodegraph.packing import Packed, Unpackable, unpack
from nodegraph.store import Store

log = logging.getLogger("nodegraph.checkpoints")
EVERY = 0.4
"""Seconds between the checkpoints of one node: with a step and the writing it loses less than a second."""
KEPT = 7 * 86400
"""Seconds after which a checkpoint that nobody came back for is removed."""


class Checkpoints:
    """The checkpoints beside one disk tier. Thread-safe."""

    def __init__(self, store: Store):
        self._store, self._folder = store, store.folder / "checkpoints"
        self._forget_old()

    def save(self, key: bytes, state: Any) -> None:
        """Write soon, in the store's thread. `state` is JSON-like data and arrays that nobody changes. Raises Unpackable."""
        packed = Packed(state)
        self._store.later(lambda: self._write(key, packed))

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

    def drop(self, key: bytes) -> None:
        """Remove a checkpoint once everything the store has been given so far lies on disk."""
        self._store.when_written(lambda written: self._path(key).unlink(missing_ok=True) if written else None)

    def _write(self, key: bytes, packed: Packed) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}.part")
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
                if abs(time.time() - path.stat().st_mtime) > KEPT:
                    path.unlink(missing_ok=True)
        except OSError:
            return  # none yet, or another process was faster
