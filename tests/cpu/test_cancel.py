"""A run that is cancelled anywhere ends within one step, leaves nothing behind, and does not disturb the next."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, heap
from nodegraph.job import Job
from nodegraph.kinds import content
from nodegraph.resident import Resident

WORKFLOW = json.loads((Path(__file__).resolve().parents[2] / "workflows" / "txt2img.json").read_text())
WORKFLOW["nodes"]["save"] = {"use": "save_image", "from": {"image": "decode.image"}, "with": {"name": "picture"}}
INPUTS = {"prompt": "a large red circle on the left on a white background", "steps": 12, "sampler": "euler_ancestral"}


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


@pytest.fixture
def engine(tmp_path, monkeypatch) -> Iterator[Engine]:
    """An engine whose threads are all gone after it is closed."""
    monkeypatch.setattr(heap, "QUIET", 0.01)
    before = set(threading.enumerate())
    with Engine(cache=tmp_path / "cache", output=tmp_path / "output") as made:
        yield made
    wait_for(lambda: set(threading.enumerate()) <= before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[bytes, dict[str, bytes]]:
    """The picture of an undisturbed run, and the files it saves."""
    folder = tmp_path_factory.mktemp("whole")
    with Engine(cache=False, output=folder) as undisturbed:
        return content(undisturbed.run(WORKFLOW, INPUTS).outputs["image"]), files(folder)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}


def busy(engine: Engine) -> int:
    """The workers that are at a step."""
    return sum(len(lane._workers) - lane._idle for name, lane in engine._lanes.items() if name != "async")


def nothing_is_left(engine: Engine) -> None:
    """No worker at work, no claim, no lease, no weights in use, no result pinned, no damaged entry."""
    shared = engine._ready()
    wait_for(lambda: busy(engine) == 0)
    engine.store.flush()
    wait_for(lambda: not shared._leased)
    assert (shared.claims, shared.waiters, shared.leases._waiting) == ({}, {}, {})
    assert not any(weights.users for weights in engine.resident._loaded.values())
    assert not any(entry.pins for entry in engine.cache._entries.values())
    assert engine.store.verify()["damaged"] == 0


class Hook:
    """A function that cancels the first job that comes through it, and then does its work."""

    def __init__(self, called: Callable[..., Any], jobs: list[Job]):
        self.called, self.jobs, self.hit = called, jobs, False

    def __call__(self, *args: Any, **named: Any) -> Any:
        if not self.hit:
            self.hit = True
            wait_for(lambda: self.jobs)
            self.jobs[0].cancel()
        return self.called(*args, **named)


def hooked(monkeypatch: pytest.MonkeyPatch, place: str, jobs: list[Job]) -> list[Hook]:
    """Cancel in the midst of loading weights, of decoding, or of saving; in every copy of the pack that is loaded."""
    if place == "load":
        hook = Hook(Resident._load, jobs)
        monkeypatch.setattr(Resident, "_load", lambda *args: hook(*args))
        return [hook]
    module, name = {"decode": ("diffusion.latents", "decode"), "save": ("core.saving", "encode")}[place]
    hooks = []
    for owner in [one for known, one in sys.modules.items() if known.endswith(module)]:
        hooks.append(Hook(getattr(owner, name), jobs))
        monkeypatch.setattr(owner, name, hooks[-1])
    return hooks


@pytest.mark.parametrize("place", ["load", "decode", "save"])
def test_cancelled_while_it_loads_decodes_or_saves(place, engine, whole, monkeypatch, tmp_path):
    jobs: list[Job] = []
    hooks = hooked(monkeypatch, place, jobs)
    jobs.append(engine.submit(WORKFLOW, INPUTS))
    wait_for(lambda: any(hook.hit for hook in hooks))
    second = engine.submit(WORKFLOW, INPUTS)  # at once: the first may still be at its node
    result = jobs[0].result(timeout=30)
    assert result.status == "cancelled" or (place == "save" and result.ok), "a save that has begun is the end of the run"
    begun = {event.node for event in jobs[0].events() if event.kind == "started"}
    after = {"load": {"sample", "decode", "save"}, "decode": {"save"}, "save": set()}[place]
    assert not begun & after, "nothing is begun after that"
    assert content(second.result(timeout=60).outputs["image"]) == whole[0]
    assert files(tmp_path / "output") == whole[1]
    nothing_is_left(engine)


@pytest.mark.parametrize("after", [1, 6])
def test_a_cancelled_sampling_takes_no_second_step_more(after, engine, whole, tmp_path):
    job = engine.submit(WORKFLOW, INPUTS)
    for event in job.events():
        if event.kind == "progress" and event.node == "sample" and event.data["step"] >= after:
            break
    job.cancel()
    taken = last_step(job)
    second = engine.submit(WORKFLOW, INPUTS)
    assert job.result(timeout=30).status == "cancelled"
    assert last_step(job) <= taken + 1
    assert content(second.result(timeout=60).outputs["image"]) == whole[0]
    assert files(tmp_path / "output") == whole[1]
    nothing_is_left(engine)


def last_step(job: Job) -> int:
    """The last step of the sampling that has been reported, read or not."""
    records = job._log._records
    return max(data["step"] for kind, data in zip(records[::4], records[3::4], strict=True) if kind == "progress")
