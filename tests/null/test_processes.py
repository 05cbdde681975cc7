"""Several processes on one cache folder, and processes that are killed."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import long_nodes
import pytest

from nodegraph import Engine, node
from nodegraph.checkpoints import Checkpoints
from nodegraph.leases import MOST, Leases
from nodegraph.store import Store

SCRIPT = Path(long_nodes.__file__)


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """The lines that calls have written so far."""
    file = tmp_path / "calls.txt"
    file.touch()
    monkeypatch.setenv("CALLS", str(file))
    return lambda: file.read_text(encoding="utf-8").splitlines()


def start(cache: Path, name: str, **inputs) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(SCRIPT), str(cache), name, json.dumps(inputs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def output(process: subprocess.Popen) -> dict:
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return json.loads(text)


def wait_for(condition, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def test_a_long_node_is_computed_by_one_process_of_many(tmp_path, calls):
    processes = [start(tmp_path / "cache", "slow_number", value=7) for _ in range(4)]
    assert [output(process) for process in processes] == [{"int": 8}] * 4
    assert calls() == ["slow_number 7"]


def test_a_killed_holder_cannot_keep_its_lease(tmp_path, calls):
    holder = start(tmp_path / "cache", "slow_number", value=1, seconds=60)
    wait_for(calls)
    waiter = start(tmp_path / "cache", "slow_number", value=1, seconds=60)
    time.sleep(1.0)
    assert len(calls()) == 1, "the second process waits"
    holder.kill()
    wait_for(lambda: len(calls()) == 2)
    waiter.kill()
    holder.wait()
    waiter.wait()


def test_a_failed_holder_leaves_the_work_to_the_next(tmp_path, calls):
    """The claim of a cancelled run is given up: another process computes."""
    with Engine(nodes=[long_nodes.slow_sum], cache=tmp_path / "cache") as engine:
        job = engine.submit(long_nodes.workflow("slow_sum", {"count": 2000}))
        wait_for(calls)
        other = start(tmp_path / "cache", "slow_sum", count=2000)
        time.sleep(1.0)
        job.cancel()
        assert job.result().status == "cancelled"
        wait_for(lambda: len(calls()) == 2)
        other.kill()
        other.wait()


def test_nobody_looks_at_a_lease_that_nobody_waits_for(tmp_path, calls):
    holder = start(tmp_path / "cache", "slow_number", value=1, seconds=60)
    wait_for(calls)
    with Engine(nodes=[long_nodes.slow_number], cache=tmp_path / "cache") as engine:
        jobs = [engine.submit(long_nodes.workflow("slow_number", {"value": 1, "seconds": 60})) for _ in range(2)]
        leases = engine._ready().leases
        wait_for(lambda: leases._waiting)
        jobs[0].cancel()
        assert jobs[0].result(timeout=10).status == "cancelled"
        time.sleep(0.2)
        assert leases._waiting, "the other still waits"
        jobs[1].cancel()
        assert jobs[1].result(timeout=10).status == "cancelled"
        wait_for(lambda: leases._watcher is None, seconds=5)
        assert not leases._waiting
    assert calls() == ["slow_number 1"]
    holder.kill()
    holder.wait()


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_where_the_file_system_has_no_locks_nobody_waits_for_a_mark(tmp_path, monkeypatch, caplog):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    holder, other = Leases(tmp_path), Leases(tmp_path)
    assert holder.take(b"key") is not None
    assert other.take(b"key") is not None
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted in /proc")
def test_many_async_nodes_hold_few_files_open(tmp_path):
    seen = []

    @node
    async def wait_for_others(number: int) -> int:
        await asyncio.sleep(0.2)  # until all have begun
        seen.append(len(os.listdir("/proc/self/fd")))
        return number

    mapped = {"use": "wait_for_others", "each": {"number": list(range(400))}}
    with Engine(nodes=[wait_for_others], cache=tmp_path) as engine:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(2):  # all are given back
            assert engine.run({"nodes": {"a": mapped}, "outputs": {"ints": "a.int"}}).ok
            engine.store.clear()
            engine.cache.clear()
        engine.store.flush()
        assert not engine._ready().leases._held
    assert max(seen) <= before + MOST + 20


def test_a_killed_node_goes_on_from_its_checkpoint(tmp_path, calls):
    killed = start(tmp_path / "cache", "slow_sum", count=80)
    wait_for(lambda: list((tmp_path / "cache" / "checkpoints").glob("*.ng")))
    time.sleep(0.5)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert output(start(tmp_path / "cache", "slow_sum", count=80)) == {"int": sum(range(80))}
    first, second = calls()
    assert first == "slow_sum from 0"
    assert int(second.rpartition(" ")[2]) >= 5
    assert not list((tmp_path / "cache" / "checkpoints").glob("*")), "it is let go when the result lies on disk"
    store = Store(tmp_path / "cache", 1 << 30)
    assert store.verify()["damaged"] == 0
    store.close()


def test_a_cancelled_run_goes_on_where_it_was(tmp_path, calls):
    with Engine(nodes=[long_nodes.slow_sum], cache=tmp_path / "cache") as engine:
        job = engine.submit(long_nodes.workflow("slow_sum", {"count": 40}))
        wait_for(lambda: list((tmp_path / "cache" / "checkpoints").glob("*.ng")))
        job.cancel()
        assert job.result().status == "cancelled"
        assert engine.run(long_nodes.workflow("slow_sum", {"count": 40})).outputs == {"int": sum(range(40))}
    assert calls()[1] != "slow_sum from 0"


def test_a_damaged_checkpoint_is_none(tmp_path):
    store = Store(tmp_path, 1 << 30)
    checkpoints = Checkpoints(store)
    checkpoints.save(b"k" * 20, {"step": 3})
    store.flush()
    assert checkpoints.load(b"k" * 20) == {"step": 3}
    (path,) = (tmp_path / "checkpoints").glob("*.ng")
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert checkpoints.load(b"k" * 20) is None
    assert checkpoints.load(b"x" * 20) is None
    store.close()


def test_without_a_cache_nothing_is_kept(tmp_path, calls):
    with Engine(nodes=[long_nodes.slow_sum], cache=False) as engine:
        assert engine.run(long_nodes.workflow("slow_sum", {"count": 12})).ok


def test_a_checkpoint_that_cannot_be_written_costs_itself_alone(tmp_path, calls, caplog):
    folder = tmp_path / "cache"
    Store(folder, 1 << 30).close()
    (folder / "checkpoints").write_text("in the way")
    with caplog.at_level("WARNING", logger="nodegraph"), Engine(nodes=[long_nodes.slow_sum], cache=folder) as engine:
        assert engine.run(long_nodes.workflow("slow_sum", {"count": 30})).outputs == {"int": sum(range(30))}
        assert not engine.store.trouble
    assert len([record for record in caplog.records if "checkpoints cannot be written" in record.message]) == 1


def test_what_a_resumed_call_saves_is_all_of_the_work(tmp_path, calls):
    with Engine(nodes=[long_nodes.slow_sum], cache=tmp_path / "cache") as engine:
        job = engine.submit(long_nodes.workflow("slow_sum", {"count": 30}))
        wait_for(lambda: list((tmp_path / "cache" / "checkpoints").glob("*.ng")))
        job.cancel()
        job.result()
        profile = engine.profile()
        done = engine.submit(long_nodes.workflow("slow_sum", {"count": 30}))
        spent = next(event.data["seconds"] for event in done.events() if event.kind == "finished")
        profile.write(tmp_path / "trace.json")
    assert int(calls()[1].rpartition(" ")[2]) > 0
    assert spent > 30 * 0.05, "the steps before the checkpoint count"
    (span,) = (event for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"] if event["ph"] == "X")
    assert span["dur"] / 1e6 < spent, "but a trace shows what happened now"


@pytest.mark.parametrize("shape", ["chain", "fan"])
def test_a_killed_run_loses_at_most_a_second_of_small_work(tmp_path, calls, shape):
    """No result of these is worth the disk by itself."""
    count, seconds = {"chain": (70, 0.05), "fan": (400, 0.01)}[shape]
    killed = start(tmp_path / "cache", shape, count=count)
    wait_for(lambda: len(calls()) * seconds > 2.7)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = calls()
    assert len(before) < count
    whole = {"chain": 12_000_000, "fan": sum(range(count))}[shape]
    assert output(start(tmp_path / "cache", shape, count=count)) == {"int": whole}
    again = [call for call in calls()[len(before) :] if call in before]
    assert len(again) * seconds <= 1.0, f"{len(again)} of {len(before)} calls were made again"
    assert len(set(calls())) == count
    store = Store(tmp_path / "cache", 1 << 30)
    assert store.verify()["damaged"] == 0
    store.close()
