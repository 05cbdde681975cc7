"""The C library's heap: what threads share of it, and what goes back to the system."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
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


FREED = """
import threading
import psutil
from nodegraph.heap import WORK, Heap

def resident():
    return psutil.Process().memory_info().rss >> 20

heap = Heap()
blocks = [b"x" * 100_000 for _ in range(1000)]
before = resident()
blocks = blocks[::10]  # what is left lies between what is free
for seconds in (WORK / 2, WORK / 4, WORK / 4):
    heap.worked(seconds)
    [one.join() for one in threading.enumerate() if one.name == "nodegraph-heap"]
    print(before - resident())
"""
KEPT = """
import ctypes
import resource
import threading
import psutil
from nodegraph import heap

heap.QUIET = 0.2
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        block = ctypes.c_void_p(libc.malloc(64 << 20))
        libc.memset(block, 1, 64 << 20)
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return psutil.Process().memory_info().rss >> 20

before = resident()
with heap.HEAP.kept():
    faults()
    print(faults(), resident() - before)
[one.join() for one in threading.enumerate() if one.name == "nodegraph-heap"]
print(resident() - before)
faults()
print(resident() - before)
with heap.HEAP.kept(), heap.HEAP.kept():
    faults()
    print(faults())
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heap is glibc's")


@glibc
@pytest.mark.parametrize(("outside", "shared"), [({}, True), ({"MALLOC_ARENA_MAX": "4"}, False)])
def test_threads_share_one_arena_unless_told_otherwise(outside, shared, tmp_path):
    """What is free in the arena of one thread is of no use to another, and a model's peak is higher for it."""
    done = _run(CODE, tmp_path, outside)
    assert done.stdout == "100000\n"
    assert "Arena 0:" in done.stderr
    assert ("Arena 1:" not in done.stderr) == shared


@glibc
def test_what_a_few_seconds_of_runs_have_freed_goes_back_to_the_system(tmp_path):
    """It stayed with the process: 805 MiB were resident after pictures of several sizes where 516 were in use."""
    before, still, after = map(int, _run(FREED, tmp_path).stdout.split())
    assert before < 20
    assert still < 20
    assert 70 < after < 100


@glibc
def test_large_blocks_are_kept_while_weights_are_in_use(tmp_path):
    """Each page of each was cleared by the system for each use: that was a fifth of the time of a large model's layers."""
    within, after, without, again = _run(KEPT, tmp_path).stdout.splitlines()
    faults, resident = map(int, within.split())
    assert faults < 200  # of 163,840
    assert 60 < resident < 100
    assert int(after) < 20
    assert int(without) < 20
    assert int(again) < 200


@glibc
def test_who_has_set_the_heap_from_outside_is_left_alone(tmp_path):
    faults, _ = _run(KEPT, tmp_path, {"MALLOC_MMAP_MAX_": "65536"}).stdout.splitlines()[0].split()
    assert int(faults) > 100_000


def _run(code: str, folder: Path, outside: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    free = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_") and name != "GLIBC_TUNABLES"}
    script = folder / "script.py"
    script.write_text(code)
    environment = {**free, "PYTHONPATH": str(Path(__file__).parents[2]), **(outside or {})}
    return subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=environment)
