"""Mistakes of the engine itself, wherever they are made: a run ends, with a problem if need be, and nobody waits for ever."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from engine_nodes import NODES, flow

from nodegraph import Engine, node, recording
from nodegraph.cache import Cache
from nodegraph.execution import Execution
from nodegraph.job import Job, Result
from nodegraph.store import Store

PLACES: list[tuple[Any, str]] = [
    *((Store, name) for name in ("put", "get", "linked", "link", "read", "refresh", "may_have", "when_written", "_write", "_write_link")),
    *((Cache, name) for name in ("put", "put_plain", "get", "linked", "link", "keep", "load", "unpinned", "settle", "may_have", "_let_go")),
    *((Execution, name) for name in ("_record", "record_plain", "_done", "_settle_inputs", "_close_sink", "_unpin", "take_hit")),
    (recording, "keep"),
]
KINDS = (AttributeError, KeyError, RuntimeError, OSError, sqlite3.OperationalError, MemoryError, AssertionError)


@node
def wide_text(number: int) -> str:
    """So large that it is pinned while steps wait for it, and soon has to leave a small tier."""
    return f"{number:08d}" * 2000


@node
def length(text: str, more: int = 0) -> int:
    return len(text) + more


def every_path(salt: int) -> dict[str, Any]:
    """Plain steps, texts, lists known late, graphs, lazy inputs, async steps, effects."""
    nodes: dict[str, Any] = {
        "a": {"use": "plus", "with": {"a": salt, "b": 1}},
        "text": {"use": "wide_text", "each": {"number": [salt, salt + 1, salt + 2, salt + 3]}},
        "sizes": {"use": "length", "each": {"text": "text.text"}, "from": {"more": "a.int"}},
        "sum": {"use": "total", "from": {"items": "sizes.int"}},
        "late": {"use": "count_up", "with": {"n": 3}},
        "each": {"use": "plus", "each": {"a": "late.ints"}, "from": {"b": "a.int"}},
        "loop": {"use": "repeat_plus", "from": {"value": "sum.int"}, "with": {"count": 2}},
        "even": {"use": "is_even", "from": {"a": "a.int"}},
        "pick": {"use": "pick", "from": {"condition": "even.bool", "on_true": "loop.int", "on_false": "a.int"}},
        "soon": {"use": "slow_async", "from": {"a": "pick.value"}, "with": {"seconds": 0.0}},
        "file": {"use": "write_text", "from": {"text": "soon.int"}, "with": {"name": "number.txt"}},
    }
    return flow(nodes, {"value": "soon.int", "each": "each.int", "texts": "text.text"})


class Fault:
    """Calls of one function, of which the one at a place raises, or every one from there on."""

    def __init__(self, called: Callable[..., Any], at: int, always: bool):
        self.called, self.at, self.always = called, at, always
        self.calls, self.lock = 0, threading.Lock()

    def __call__(self, *args: Any, **named: Any) -> Any:
        with self.lock:
            number, self.calls = self.calls, self.calls + 1
        if number == self.at or (self.always and number > self.at):
            raise KINDS[number % len(KINDS)]("injected")
        return self.called(*args, **named)


@contextmanager
def faulty(monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str], at: int, always: bool = False) -> Iterator[Fault]:
    owner, name = place
    fault = Fault(getattr(owner, name), at, always)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, lambda *args, **named: fault(*args, **named))
        yield fault


def ended(engine: Engine, folder: Any, salt: int) -> list[Result]:
    """Two runs at once of which one waits for the other's claims, each to its end."""
    jobs: list[Job] = []
    for _ in range(2):
        try:
            jobs.append(engine.submit(every_path(salt), output=folder / "output"))
        except KINDS:
            continue  # whoever submits is told at once
    return [job.result(timeout=20) for job in jobs]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0].__name__}.{place[1]}")
def test_no_mistake_hangs_a_run_or_what_waits_for_it(place, tmp_path, monkeypatch):
    options: dict[str, Any] = {"nodes": [*NODES, wide_text, length], "memory": 40_000}
    with Engine(cache=False, **options) as engine:
        expected = engine.run(every_path(7), output=tmp_path / "output").outputs

    def play(folder: Path, at: int, always: bool = False) -> int:
        """Runs with everything fresh, in memory and on disk, under a fault, and a last one without. How often its place was reached."""
        with Engine(cache=folder, **options) as first:
            with faulty(monkeypatch, place, at, always) as fault:
                results = [*ended(first, tmp_path, 8), *ended(first, tmp_path, 7), *ended(first, tmp_path, 7)]
                with suppress(*KINDS):
                    first.store.flush()  # the writer lets results gather for a while
            whole_again(first)
        with Engine(cache=folder, **options) as second:
            with faulty(monkeypatch, place, at - fault.calls, always) as later:
                results += ended(second, tmp_path, 7)
            whole_again(second)
        for result in results:
            assert result.status in ("ok", "failed")
            assert all(problem.code == "internal" for problem in result.problems)
        return fault.calls + later.calls

    def whole_again(engine: Engine) -> None:
        shared = engine._ready()
        until = time.monotonic() + 20
        while (shared.claims or shared.waiters or shared._leased) and time.monotonic() < until:
            time.sleep(0.001)  # a run that was broken off has ended, but the call that it was in comes back a little later
        assert not shared.claims, "every claim is given up"
        assert not shared.waiters
        assert not shared._leased
        assert engine.run(every_path(7), output=tmp_path / "output").outputs == expected

    reached = play(tmp_path / "whole", -1)
    assert reached, "a place that is never reached shows nothing"
    for at in range(0, reached, max(1, reached // 12)):
        play(tmp_path / f"cache{at}", at)
    play(tmp_path / "always", 0, always=True)
