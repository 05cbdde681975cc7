"""The memory that the system has left, as a limit of this process.

Linux promises more memory than it has, and ends the process that comes to use it. Below a limit of its own, the process is refused
instead: the node that asked is called again as a smaller variant, or fails and says so, and everything else goes on.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

GROUPS = {"": ("memory.max", "memory.current"), "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes")}
"""Where a control group tells its limit and its use, by the controllers that name it: version 2 and version 1."""
STACKS = 16 << 20
"""Bytes a processor that stacks of threads claim, and hardly use."""


class MemoryLimit:
    """Lets this process take the memory that is there when it is renewed, and no more, until it is left.

    Does nothing but on Linux; nor for a `device` other than the CPU, as its driver claims more memory than it uses; nor where a limit
    has been set (`ulimit -d`).
    """

    def __init__(self, device: str, root: Path = Path("/")):
        """`root`: where the system's own files lie."""
        self._root = root
        self._on = sys.platform == "linux" and device == "cpu"

    def __enter__(self) -> Self:
        if self._on:
            import resource

            self._before = resource.getrlimit(resource.RLIMIT_DATA)
            self._on = self._before[0] == resource.RLIM_INFINITY
        self.renew()
        return self

    def renew(self) -> None:
        """Look again at how much memory there is."""
        if self._on and (room := available(self._root)) is not None:
            import resource

            claimed = _field(self._root / "proc/self/status", "VmData") or 0
            stacks = (os.cpu_count() or 1) * STACKS
            resource.setrlimit(resource.RLIMIT_DATA, (claimed + room + stacks, self._before[1]))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._on:
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, self._before)


def available(root: Path = Path("/")) -> int | None:
    """The bytes that this process can still take without others being moved out; None where the system does not tell.

    That is what the kernel deems available, and swap, or what a control group (of a container, say) has left if that is less.
    """
    meminfo = root / "proc/meminfo"
    free = _field(meminfo, "MemAvailable")
    if free is None:
        return None
    return max(0, min([free + (_field(meminfo, "SwapFree") or 0), *_left_by_groups(root)]))


def _left_by_groups(root: Path) -> Iterator[int]:
    """What each control group that this process is in has left."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in GROUPS:
            continue
        top = root / "sys/fs/cgroup" / controllers
        inner = top / path.strip("/")
        for folder in (inner, *inner.parents):
            if not folder.is_relative_to(top):
                break
            limit, used = (_text(folder / name).strip() for name in GROUPS[controllers])
            if limit.isdigit() and used.isdigit():
                yield int(limit) - int(used) + _reclaimable(folder / "memory.stat")


def _reclaimable(stat: Path) -> int:
    """Bytes of files that a group has read and that would make room at once."""
    found = re.search(r"^(?:total_)?inactive_file (\d+)$", _text(stat), re.MULTILINE)
    return int(found[1]) if found else 0


def _field(path: Path, name: str) -> int | None:
    """A field of one of the kernel's tables, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", _text(path), re.MULTILINE)
    return int(found[1]) << 10 if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


__all__ = ["MemoryLimit", "available"]
