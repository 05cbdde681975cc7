"""Modules that a library imports at once and hardly ever needs: loaded when something of them is used, not when they are named.

Python's own `importlib.util.LazyLoader` does not do: the next `import` of the module looks at its spec, and so loads it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any

_LOCK = threading.Lock()


def defer_scipy_stats() -> None:
    """Let `import scipy.stats` cost nothing until something of it is used. Call it before what imports diffusers' classes.

    Every scheduler of diffusers imports it, for noise levels that are quantiles of a beta distribution; with what it imports itself
    it takes 20 MiB and 0.4 s.
    """
    _defer("scipy.stats")


def _defer(name: str) -> None:
    """Does nothing for a module that is loaded, deferred or not installed."""
    if name in sys.modules:
        return
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # not even the package that it is in
        return
    if spec is not None:
        sys.modules.setdefault(name, _Late(importlib.util.module_from_spec(spec)))


class _Late(ModuleType):
    """Stands for a module, knows where it lies, and loads it when asked for anything else."""

    def __init__(self, blank: ModuleType):
        super().__init__(blank.__name__)
        self.__dict__.update(vars(blank))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":  # those who look through all modules ask for such
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with _LOCK:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)
