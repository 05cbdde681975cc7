"""Lanes as threads of a process: what they share."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import ctypes
from nodegraph import Engine, node

@node
def large(size: int) -> int:
    return len(bytes(size))

with Engine(nodes=[large], cache=False) as engine:
    nodes = {"large": {"use": "large", "with": {"size": 100_000}}}
    print(engine.run({"nodes": nodes, "outputs": {"length": "large.int"}}).outputs["length"])
    ctypes.CDLL(None).malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
@pytest.mark.parametrize(("outside", "shared"), [({}, True), ({"MALLOC_ARENA_MAX": "4"}, False)])
def test_threads_share_one_arena_unless_told_otherwise(outside, shared, tmp_path):
    """What is free in the arena of one thread is of no use to another, and a model's peak is higher for it."""
    free = {name: value for name, value in os.environ.items() if name not in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")}
    script = tmp_path / "large.py"
    script.write_text(CODE)
    environment = {**free, "PYTHONPATH": str(Path(__file__).parents[2]), **outside}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "100000\n"
    assert "Arena 0:" in done.stderr
    assert ("Arena 1:" not in done.stderr) == shared
