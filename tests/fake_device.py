"""A device with an allocator and a limit, for machines without a GPU: what is on it holds bytes until it is gone or moved."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np

from nodegraph import OutOfMemory

NAME = "fake:0"


class FakeDevice:
    """Lends `limit` bytes. `peak` is the most that was ever lent."""

    def __init__(self, limit: int):
        self.limit, self.used, self.peak = limit, 0, 0
        self._lock = threading.RLock()

    def take(self, nbytes: int) -> None:
        with self._lock:
            if self.used + nbytes > self.limit:
                raise OutOfMemory(f"tried to allocate {nbytes} bytes with {self.used} of {self.limit} in use")
            self.used += nbytes
            self.peak = max(self.peak, self.used)

    def give(self, nbytes: int) -> None:
        with self._lock:
            self.used -= nbytes

    def lend(self, owner: Any, nbytes: int) -> None:
        """Bytes that are taken as long as the owner is there. Raises OutOfMemory."""
        self.take(nbytes)
        owner.release = weakref.finalize(owner, self.give, nbytes)


class FakeArray(np.ndarray):
    """An array on a fake device."""

    fake: FakeDevice
    release: Any = None

    @property
    def device(self) -> str:  # type: ignore[override]
        return NAME if self.release is not None else "cpu"

    def cpu(self) -> np.ndarray:
        return np.array(self, copy=True, subok=False)


def on_device(fake: FakeDevice, array: np.ndarray) -> FakeArray:
    """A copy on the device. Raises OutOfMemory."""
    made = np.array(array, copy=True).view(FakeArray)
    fake.lend(made, made.nbytes)
    return made


class FakeWeights:
    """Weights of so many bytes that can move."""

    def __init__(self, fake: FakeDevice, nbytes: int):
        self.fake, self._array = fake, np.zeros(nbytes, np.uint8)
        self._on: FakeArray | None = None
        self.to(NAME)

    def parameters(self) -> list[np.ndarray]:
        return [self._array]

    def buffers(self) -> list[np.ndarray]:
        return []

    def to(self, place: str) -> FakeWeights:
        self._on = on_device(self.fake, self._array) if place == NAME else None
        return self
