"""What programs copy, pickle and send to other processes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy
import pytest

from nodegraph import (
    Audio,
    Conditioning,
    Embedding,
    Engine,
    File,
    Image,
    Invalid,
    Latent,
    Mask,
    Rng,
    RunFailed,
    Video,
    WorkflowInvalid,
    node,
)
from nodegraph.kinds import content
from nodegraph.settings import SettingsInvalid

COPIES = [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]
PIXELS = numpy.linspace(0, 1, 48, dtype=numpy.float32).reshape(1, 3, 4, 4)


@node
def grey(level: float) -> Image:
    return Image(PIXELS * level)


@node
def fails(level: float) -> float:
    raise Invalid("too bright", fix="use less", port="level")


def flow(use: str, port: str) -> Any:
    return {"name": "x", "nodes": {"a": {"use": use, "with": {"level": 0.5}}}, "outputs": {"out": f"a.{port}"}}


def ran(use: str, port: str) -> Any:
    with Engine(nodes=[grey, fails], cache=False) as engine:
        return engine.run(flow(use, port))


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize(
    "value",
    [
        Image(PIXELS),
        Mask(PIXELS[:, :1]),
        Latent(PIXELS, "sd1", {"noise": PIXELS * 2}),
        Embedding(PIXELS[0, 0], "clip"),
        Audio(PIXELS[0], 8000),
        Video(PIXELS, 25),
        Conditioning({"states": PIXELS[0]}, "clip"),
        Rng((b"state",)),
        File("somewhere", b"digest", 3, 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_copy_of_a_value_is_that_value(value: Any, copied: Any) -> None:
    """Those that hold arrays could not be copied: nothing can be set in them."""
    made = copied(value)
    assert (type(made), content(made)) == (type(value), content(value))


@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_of_a_result_tells_the_same(copied: Any) -> None:
    result = ran("grey", "image")
    made = copied(result)
    assert content(made.outputs["out"]) == content(result.outputs["out"])
    assert (made.ok, made.keys, made.metadata("out")) == (True, result.keys, result.metadata("out"))


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("use", ["fails", "nothing"])
def test_a_copy_of_an_error_has_its_problems(copied: Any, use: str) -> None:
    with pytest.raises((RunFailed, WorkflowInvalid)) as caught:
        ran(use, "float")
    made = copied(caught.value)
    assert (type(made), str(made), made.problems) == (caught.type, str(caught.value), caught.value.problems)
    if use == "fails":
        assert made.result.status == "failed"


def test_errors_come_back_from_other_processes(tmp_path: Path) -> None:
    """The pool was broken by each, and what else was to be done in it was lost."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        wrong = pool.submit(ran, "nothing", "float").exception(60)
        failed = pool.submit(ran, "fails", "float").exception(60)
        refused = pool.submit(Engine, device="nowhere").exception(60)
        assert pool.submit(ran, "grey", "image").result(60).metadata("out")["workflow"]["name"] == "x"
    assert isinstance(wrong, WorkflowInvalid)
    assert isinstance(failed, RunFailed)
    assert isinstance(refused, SettingsInvalid)
    assert (wrong.problems[0].code, failed.problems[0].fix, refused.problems[0].code) == ("unknown-node", "use less", "bad-setting")
