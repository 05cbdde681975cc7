"""What stands for modules that are not imported to read a pack: others' packages, and what of Python's own acts on the world."""

from __future__ import annotations

import importlib
import sys
import types as python_types
from typing import Any

_ACTING = """
_thread asyncio atexit code codeop concurrent ctypes curses dbm ensurepip faulthandler ftplib gc http idlelib imaplib logging
multiprocessing os pdb poplib posix pty resource runpy sched select selectors shelve shutil signal site smtplib socket socketserver
sqlite3 ssl subprocess sys telnetlib tempfile this threading time tkinter turtle urllib venv webbrowser xmlrpc antigravity
"""
_HARMLESS = {
    "os": "PathLike altsep curdir environ extsep fspath linesep name pardir path pathsep sep",
    "sys": "byteorder float_info hexversion implementation int_info maxsize maxunicode platform version version_info",
    "time": "struct_time",
}
"""What of them declares and does nothing."""
REAL = frozenset(sys.stdlib_module_names | {"nodegraph", "pydantic", "annotated_types", "typing_extensions"}) - set(_ACTING.split())
"""Top-level modules that are really imported."""
BUILTINS = ("breakpoint", "exit", "help", "input", "open", "print", "quit")
"""Functions of Python's own that do nothing."""


class Placeholder:
    """Stands for anything that is not there. Whatever is done to it gives a placeholder."""

    def __init__(self, name: str):
        self.__dict__["_name"] = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Placeholder(f"{self._name}.{name}")

    def __call__(self, *args: Any, **options: Any) -> Any:
        # as a decorator it leaves what it decorates as it is
        if len(args) == 1 and not options and isinstance(args[0], python_types.FunctionType | type):
            return args[0]
        return Placeholder(f"{self._name}(…)")

    def __getitem__(self, key: Any) -> Any:
        return Placeholder(f"{self._name}[…]")

    def __or__(self, other: Any) -> Any:
        return self

    __ror__ = __or__

    def __mro_entries__(self, bases: Any) -> tuple[type, ...]:
        return ()

    def __iter__(self) -> Any:
        return iter(())

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def __repr__(self) -> str:
        return str(self._name)

    @property
    def __name__(self) -> str:
        return str(self._name)


class _Tame(python_types.ModuleType):
    """A module of Python's own of which only what is harmless is real."""

    def __getattr__(self, name: str) -> Any:
        if name in _HARMLESS.get(self.__name__, "").split():
            return getattr(importlib.import_module(self.__name__), name)
        return Placeholder(f"{self.__name__}.{name}")


def stand_in(name: str, fromlist: bool) -> Any:
    """What `import name`, or `from name import …`, gives where the real module is not imported."""
    top = name.partition(".")[0]
    if top in _HARMLESS:
        module = _Tame(top)
        return getattr(module, name.partition(".")[2]) if fromlist and name != top else module
    return Placeholder(name if fromlist else top)


__all__ = ["BUILTINS", "REAL", "Placeholder", "stand_in"]
