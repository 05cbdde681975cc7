"""The command line: `nodegraph run`, `check`, `plan`, `fmt`, `show`, `nodes`, …

Exit codes: 0 done, 1 a node failed, 2 the file or the call is wrong, 130 cancelled. Results go to stdout, everything else to
stderr. Modules of commands are imported when they are asked for, so that `--help` is there at once.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from nodegraph.cli.printing import Told, heedless, tell
from nodegraph.errors import Problem, Problems, RunFailed, render

DONE, FAILED, WRONG, CANCELLED = 0, 1, 2, 130
"""Exit codes."""

COMMANDS = {
    "run": "nodegraph.cli.run:run",
    "check": "nodegraph.cli.files:check",
    "plan": "nodegraph.cli.files:plan",
    "fmt": "nodegraph.cli.files:fmt",
    "show": "nodegraph.cli.files:show",
    "watch": "nodegraph.cli.watching:watch",
    "replay": "nodegraph.cli.history:replay",
    "diff": "nodegraph.cli.history:diff",
    "nodes": "nodegraph.cli.installed:nodes",
    "types": "nodegraph.cli.installed:types",
    "completion": "nodegraph.cli.completion:completion",
    "stubs": "nodegraph.cli.installed:write_stubs",
    "schema": "nodegraph.cli.installed:schema",
    "packs list": "nodegraph.cli.installed:packs_list",
    "packs new": "nodegraph.cli.packs:new",
    "packs check": "nodegraph.cli.packs:check",
    "packs lock": "nodegraph.cli.packs:lock",
    "packs verify": "nodegraph.cli.packs:verify",
    "models list": "nodegraph.cli.stock:models_list",
    "models add": "nodegraph.cli.stock:models_add",
    "models show": "nodegraph.cli.stock:models_show",
    "models verify": "nodegraph.cli.stock:models_verify",
    "cache info": "nodegraph.cli.stock:cache_info",
    "cache verify": "nodegraph.cli.stock:cache_verify",
    "cache prune": "nodegraph.cli.stock:cache_prune",
    "cache clear": "nodegraph.cli.stock:cache_clear",
}
"""Command → the function `(arguments) -> exit code` that does it."""


def program() -> NoReturn:
    """`main` as a process of its own, which begins and ends sooner than Python would by itself."""
    gc.set_threshold(100_000, 10, 10)  # looking for garbage among modules takes a fifth of their import
    sys.set_int_max_str_digits(0)  # ints of nodes are of any size, and so must be what is printed of them
    if told := sys.stderr:
        sys.stderr = heedless(told)
    code = main()
    threading._shutdown()  # type: ignore[attr-defined]  # what Python does at its end: wait for threads that packs have left at work, …
    atexit._run_exitfuncs()  # … then do what was registered
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # all is written, closed and joined; taking thousands of modules of torch apart would take another second


def main(argv: Sequence[str] | None = None) -> int:
    """Do what a command line says. Returns the exit code; prints problems and never a traceback unless asked for one."""
    given = list(sys.argv[1:] if argv is None else argv)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started this; in this order the number goes to no other file
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115 (until the end)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character must not end a run
    try:
        code = _do(given)
        sys.stdout.flush()
        return code
    except SystemExit as end:  # after --help and --version
        return int(end.code or DONE)
    except BrokenPipeError:
        # who read the results has gone, which is no mistake; keep Python from saying so at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Problems as error:
        tell(render(error.problems), sys.stderr)
        return FAILED if isinstance(error, RunFailed) else WRONG
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr)
        return CANCELLED
    except Exception as error:  # the outermost edge: a mistake in nodegraph itself, or a disk that is full
        if "--traceback" in given:
            raise
        tell(problem_of(error).render(), sys.stderr)
        return FAILED


def _do(given: list[str]) -> int:
    from nodegraph.cli.parser import parse

    arguments = parse(given)
    if arguments.log:
        import logging

        logging.basicConfig(level=arguments.log.upper(), format="%(levelname)s %(name)s: %(message)s", stream=Told())
        logging.getLogger("nodegraph").setLevel(arguments.log.upper())
    module, _, function = COMMANDS[arguments.command].partition(":")
    return int(getattr(import_module(module), function)(arguments))


def problem_of(error: Exception) -> Problem:
    """What a person is told of an error that no problem was made of."""
    if isinstance(error, OSError) and error.strerror:
        return Problem("system", str(error.filename or ""), error.strerror)
    return Problem("internal", "", f"{type(error).__name__}: {error}", "run it again with --traceback, and report what it prints")


__all__ = ["CANCELLED", "COMMANDS", "DONE", "FAILED", "WRONG", "main"]
