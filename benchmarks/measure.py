"""What the benchmarks share: contenders that take turns, medians, and figures that print a dash where there is none."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
Timed = Callable[[], float | None]
"""Does a piece of work and returns its seconds; None when it cannot be done."""


def alternating(contenders: Mapping[str, Timed], rounds: int) -> dict[str, list[float]]:
    """The seconds of each contender. They take turns, so that a busy machine slows all of them alike; who fails once is out."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    out: set[str] = set()
    for number in range(rounds):
        names = [name for name in contenders if name not in out]
        for name in names if number % 2 == 0 else reversed(names):
            seconds = contenders[name]()
            if seconds is None:
                out.add(name)
            else:
                taken[name].append(seconds)
    return {name: [] if name in out else seconds for name, seconds in taken.items()}


def median(samples: Sequence[float]) -> float | None:
    return statistics.median(samples) if samples else None


def paired_ratio(of: Sequence[float], to: Sequence[float]) -> float | None:
    """The median of the ratios of neighbours in time: what slows the machine for a while cancels out."""
    return statistics.median(one / other for one, other in zip(of, to, strict=True)) if of and to else None


def seconds_of(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def figure(value: float | None, form: str = "{:.2f}") -> str:
    return "-" if value is None else form.format(value)


def verdict(what: str, value: float | None, aim: float, form: str = "{:.3f}", at_least: bool = False) -> str:
    """One line: a figure, its aim, and whether it is met."""
    sign = ">=" if at_least else "<="
    met = value is not None and (value >= aim if at_least else value <= aim)
    return f"{what:58} {figure(value, form):>9}  aim {sign} {form.format(aim)}  {'met' if met else 'MISSED' if value is not None else '-'}"


def peak_rss() -> int:
    """The most bytes of memory that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def in_new_process(script: str, *arguments: str) -> Any:
    """Run a benchmark with arguments in a process of its own; what its last line of output says, as JSON."""
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} {' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def command(*arguments: str, **environment: str) -> tuple[float, float, str]:
    """Run `python ARGUMENTS` to its end: wall seconds, processor seconds, and what it printed. Ends this program if it fails."""
    full = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **environment}
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as told, tempfile.TemporaryFile("w+") as complained:
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=full, stdout=told, stderr=complained)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0), complained.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(arguments)} failed:\n{complained.read()[-4000:]}{told.read()[-2000:]}")
        return wall, usage.ru_utime + usage.ru_stime, told.read()
