"""Programs that end without closing their engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import asyncio, os, sys, time
from nodegraph import Engine, Run, node

def called(name):
    with open(name, "a") as file:
        file.write(".")

@node
def quick(x: int) -> int:
    time.sleep(0.2)  # enough to be kept on disk for its own sake
    called("quick")
    return x + 1

@node
def slow(x: int, seconds: float) -> int:
    called("begun")
    time.sleep(seconds)
    called("slow")
    return x + 1

@node
async def later(x: int, seconds: float) -> int:
    called("begun")
    await asyncio.sleep(seconds)
    called("later")
    return x + 1

def engine():
    return Engine(nodes=[quick, slow, later], cache="cache")

def flow(use, **literals):
    nodes = {"a": {"use": "quick", "with": {"x": 1}}, "b": {"use": use, "from": {"x": "a.int"}, "with": literals}}
    return {"nodes": nodes, "outputs": {"out": "b.int"}}

def begun():
    while not os.path.exists("begun"):
        time.sleep(0.01)
"""


def run(folder: Path, code: str, timeout: float = 30.0) -> str:
    """What a program that ends well prints."""
    done = subprocess.run([sys.executable, "-c", CODE + code], cwd=folder, capture_output=True, text=True, timeout=timeout)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def calls(folder: Path, name: str) -> int:
    file = folder / name
    return len(file.read_text()) if file.exists() else 0


@pytest.mark.parametrize("program", ["print(engine().run({0}).outputs)", "open_ = engine()\nprint(open_.run({0}).outputs)"])
def test_an_engine_that_nobody_closes_keeps_its_results(program: str, tmp_path: Path) -> None:
    """They were lost: all that had been made in the last moment, and so everything of a short program."""
    for _ in range(3):
        assert run(tmp_path, program.format("flow('slow', seconds=0.01)")) == "{'out': 3}\n"
    assert (calls(tmp_path, "quick"), calls(tmp_path, "slow")) == (1, 1)


@pytest.mark.parametrize(("use", "seconds", "recorded"), [("slow", 0.3, True), ("slow", 60, False), ("later", 60, False)])
def test_a_program_that_ends_amid_a_run_waits_a_moment_and_no_longer(use: str, seconds: float, recorded: bool, tmp_path: Path) -> None:
    program = f"open_ = engine()\njob = open_.submit(flow({use!r}, seconds={seconds}))\nbegun()"
    run(tmp_path, program)
    assert calls(tmp_path, use) == recorded
    again = "with engine() as open_:\n    job = open_.submit(flow('slow', seconds=0.3))\n    print(job.result().outputs)"
    assert run(tmp_path, again) == "{'out': 3}\n"
    assert (calls(tmp_path, "quick"), calls(tmp_path, "slow")) == (1, 1)


def test_a_program_that_ends_amid_runs_of_several_engines_waits_once(tmp_path: Path) -> None:
    """It waited for each engine by itself: a second for each, and two where there were async steps."""
    program = """
import atexit, threading
ended = []
atexit._clear()  # what nodegraph does is called between these two
atexit.register(lambda: print(round(time.monotonic() - ended[0], 1) < 2.5, calls_of("later")))
atexit.register(ending._end)
atexit.register(lambda: ended.append(time.monotonic()))
engines = [Engine(nodes=[slow, later, quick], cache=f"cache{number}") for number in range(4)]
jobs = [one.submit(flow(use, seconds=30)) for one in engines for use in ("slow", "later")]
while calls_of("begun") < 8:
    time.sleep(0.01)
"""
    head = "from nodegraph import ending\ndef calls_of(name):\n    return len(open(name).read()) if os.path.exists(name) else 0\n"
    assert run(tmp_path, head + program) == "True 0\n"


def test_a_process_that_is_forked_off_closes_nothing(tmp_path: Path) -> None:
    program = """
open_ = engine()
open_.run(flow("slow", seconds=0.01))
if os.fork() == 0:
    sys.exit()
assert os.wait()[1] == 0
print(open_.run(flow("slow", seconds=0.02)).outputs)
"""
    assert run(tmp_path, program) == "{'out': 3}\n"
    assert calls(tmp_path, "quick") == 1


def test_engines_that_are_dropped_end_their_threads_and_close_their_files(tmp_path: Path) -> None:
    """Each left three threads and five open files behind: a program that made some hundred engines could open no more."""
    program = """
import threading
def held():
    until = time.monotonic() + 10
    while (found := (threading.active_count(), len(os.listdir("/proc/self/fd")))) > before and time.monotonic() < until:
        time.sleep(0.01)
    return found
before = threading.active_count(), len(os.listdir("/proc/self/fd"))
results = []
for turn in range(10):
    results.append(engine().run(flow("later", seconds=turn / 1000)))
    job = engine().submit(flow("slow", seconds=turn / 1000))  # it keeps its engine while it runs
    results.append(job.result())
del job
print(held() <= before, len(results), {result.outputs["out"] for result in results}, results[0].metadata("out")["machine"]["device"])
"""
    assert run(tmp_path, program) == "True 20 {3} cpu\n"
    assert calls(tmp_path, "quick") == 1


def test_a_run_goes_on_when_its_engine_is_dropped(tmp_path: Path) -> None:
    program = "job = engine().submit(flow('slow', seconds=0.3))\nimport gc\ngc.collect()\nprint(job.result().outputs)"
    assert run(tmp_path, program) == "{'out': 3}\n"


def test_a_lock_is_held_by_who_drops_an_engine(tmp_path: Path) -> None:
    """The garbage collector comes at any moment, in any thread, also in one that has a lock of the engine or of threading."""
    program = """
import threading
for turn in range(5):
    one = engine()
    one.run(flow("later", seconds=0.001))
    with threading._active_limbo_lock, one._lanes["cpu"]._wake, one.store._lock, one.store._room:
        del one
print("done")
"""
    assert run(tmp_path, program) == "done\n"


def test_a_process_that_is_forked_off_needs_an_engine_of_its_own(tmp_path: Path) -> None:
    """A run in it never ended, as it has none of the threads; nor did leaving the `with` amid a run of the other process."""
    program = """
with engine() as open_:
    job = open_.submit(flow("slow", seconds=0.5))
    begun()
    if os.fork() == 0:
        for call in (open_.run, open_.plan):
            try:
                call(flow("slow", seconds=0))
            except RuntimeError as error:
                print(error, flush=True)
        with engine() as own:
            print(own.run(flow("slow", seconds=0)).outputs, flush=True)
        sys.exit()
    assert os.wait()[1] == 0
    print(job.result().outputs)
"""
    refused = "the engine is of the process that this one was forked off from: make another engine here\n"
    assert run(tmp_path, program) == refused * 2 + "{'out': 3}\n" * 2


def test_a_process_that_is_forked_off_does_not_wait_for_a_run_of_the_other(tmp_path: Path) -> None:
    """Its result and its events were waited for without end."""
    program = """
open_ = engine()
job = open_.submit(flow("slow", seconds=0.5))
begun()
async def awaited():
    return await job
if os.fork() == 0:
    for call in (job.result, job.events, job.cancel, lambda: asyncio.run(awaited())):
        try:
            call()
        except RuntimeError as error:
            print(error, flush=True)
    sys.exit()
assert os.wait()[1] == 0
print(job.result().outputs, flush=True)
if os.fork() == 0:
    print(job.result().outputs, len(list(job.events())), asyncio.run(awaited()).outputs, flush=True)
    sys.exit()
assert os.wait()[1] == 0
"""
    refused = "the run is at work in the process that this one was forked off from: wait for it there\n"
    assert run(tmp_path, program) == refused * 4 + "{'out': 3}\n{'out': 3} 6 {'out': 3}\n"


def test_what_other_threads_do_while_a_process_is_forked_off_does_not_stay(tmp_path: Path) -> None:
    """The garbage collector stayed held, and so did locks under which packs are read and imported."""
    program = """
import gc, threading
from nodegraph import collector, editions, skeleton
ready, over = threading.Event(), threading.Event()
def other():
    with collector.held(), editions._importing.held(), skeleton._looking.held():
        ready.set()
        over.wait()
thread = threading.Thread(target=other)
thread.start()
ready.wait()
def tell():
    print(gc.isenabled(), *(one._lock.acquire(timeout=0.1) for one in (editions._importing, skeleton._looking)), flush=True)
child = os.fork()
if child == 0:
    tell()
    os._exit(0)
assert os.wait()[1] == 0
tell()
over.set()
thread.join()
print(gc.isenabled())
"""
    assert run(tmp_path, program) == "True True True\nFalse False False\nTrue\n"


def test_a_process_is_forked_off_when_no_weights_are_being_made(tmp_path: Path) -> None:
    """What libraries had put in the place of torch's own functions stayed there: modules of the other process lost their weights.
    What takes too long is not waited for."""
    program = """
import threading, time
from nodegraph import ending, resident
from concurrent.futures.thread import ThreadPoolExecutor
changed = []
def load(lock, seconds):
    with lock.held():
        changed.append(1)
        ready.set()
        time.sleep(seconds)
        with ThreadPoolExecutor() as pool:
            pool.submit(changed.clear).result()
for lock, seconds in (resident._building, 0.3), (ending.ForkSafeLock(0.1), 1.0):
    ready = threading.Event()
    thread = threading.Thread(target=load, args=(lock, seconds))
    thread.start()
    ready.wait()
    if os.fork() == 0:
        print(changed, lock._lock.acquire(timeout=0.1), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
    thread.join()
    with lock.held():
        thread = threading.Thread(target=lambda: print(lock._lock.acquire(timeout=0.1)))
        thread.start()
        thread.join()
    print(lock._lock.acquire(timeout=0.1))
"""
    assert run(tmp_path, program) == "[] True\nFalse\nTrue\n[1] True\nFalse\nTrue\n"


def test_a_call_at_the_end_that_comes_behind_the_engines_is_told(tmp_path: Path) -> None:
    """What was to be called at the end before nodegraph was imported is called after engines have ended: a run in it never did."""
    program = """
import atexit
def last():
    try:
        kept.run(flow("slow", seconds=0.02))
    except RuntimeError as error:
        print(error)
    with engine() as other:
        print(other.run(flow("slow", seconds=0.02)).outputs)
atexit.register(last)
"""
    path = tmp_path / "program.py"
    path.write_text(f"{program}{CODE}kept = engine()\nprint(kept.run(flow('slow', seconds=0.01)).outputs)")
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    ended = "the program has ended, and this engine with it: run workflows before that, or make another engine here"
    assert (done.stdout, done.stderr) == (f"{{'out': 3}}\n{ended}\n{{'out': 3}}\n", "")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("how", ["threading.Thread(target=runs).start()", "pool.append(ThreadPoolExecutor(2)); pool[0].submit(runs)"])
def test_a_process_of_multiprocessing_waits_for_its_threads(method: str, how: str, tmp_path: Path) -> None:
    """Its engines were ended while threads had still something to run: the next run never ended, nor did the process."""
    (tmp_path / "program.py").write_text(f"""{CODE}
import multiprocessing, threading
from concurrent.futures import ThreadPoolExecutor

kept, pool = [], []

def runs():
    for turn in range(4):
        print(kept[0].run(flow("slow", seconds=0.1 + turn / 1000)).outputs, flush=True)

def work():
    kept.append(engine())
    kept[0].run(flow("slow", seconds=0))
    {how}

if __name__ == "__main__":
    process = multiprocessing.get_context({method!r}).Process(target=work)
    process.start()
    process.join(20)
    process.kill()
    print(process.exitcode)
""")
    for _ in range(2):
        done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == ("{'out': 3}\n" * 4 + "0\n", "")
    assert calls(tmp_path, "slow") == 5


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("program", ["print(engine().run({0}).outputs)", "kept.append(engine())\n    print(kept[0].run({0}).outputs)"])
def test_a_process_of_multiprocessing_keeps_its_results(method: str, program: str, tmp_path: Path) -> None:
    """One that is forked off calls nothing that was to be called at its end, but what multiprocessing itself knows of."""
    flow = "flow('slow', seconds=0.01)"
    (tmp_path / "program.py").write_text(f"""{CODE}
import multiprocessing

kept = []

def work():
    {program.format(flow)}
    sys.stdout.flush()

if __name__ == "__main__":
    for _ in range(3):
        process = multiprocessing.get_context({method!r}).Process(target=work)
        process.start()
        process.join()
""")
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{'out': 3}\n" * 3, "")
    assert (calls(tmp_path, "quick"), calls(tmp_path, "slow")) == (1, 1)
