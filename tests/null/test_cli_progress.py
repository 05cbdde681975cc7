"""What a person sees while a run is at work."""

from __future__ import annotations

from typing import Any

import pytest

from nodegraph.cli.common import human_bytes, human_seconds, line, plain, table
from nodegraph.cli.progress import Bars, Lines, Silent, progress
from nodegraph.events import Event, Kind


def event(kind: Kind, node: str = "", **data: Any) -> Event:
    return Event(kind, "r", 1, 0.0, node, data or None)


EVENTS = [
    event("planned", total=4),
    event("cached", "a"),
    event("started", "b"),
    event("progress", "b", step=1, total=20),
    event("progress", "b", step=10, total=20, text="denoising"),
    event("progress", "b", step=11, total=20),
    event("finished", "b", seconds=61.2),
    event("started", "c"),
    event("finished", "c", seconds=0.01),
    event("skipped", "c", reason="no"),
    event("failed", "d"),
    event("done", status="failed"),
]


def test_plain_lines_tell_little() -> None:
    times = iter([0.0, 1.0, 6.0, 6.0, 7.0, 8.0, 9.0])
    said: list[str] = []
    lines = Lines(said.append, lambda: next(times))
    lines.begin("run 1/2: a=1")
    for one in EVENTS:
        lines.show(one)
    assert said == [
        "run 1/2: a=1",
        "b: 10/20 denoising",
        "[2/4] b (1 min 1 s)",
        "[3/4] c skipped",
        "[4/4] d failed",
        "failed: 2 steps run, 1 from the cache",
    ]


def test_bars_take_every_event(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars()
    for label in ("", "run 2/2: a=[2]"):
        bars.begin(label)
        for one in EVENTS:
            bars.show(one)
    bars.close()
    said = [text for text in capsys.readouterr().err.splitlines() if "steps run" in text]
    assert said == [
        "failed: 2 steps run, 1 from the cache",
        "run 2/2: a=[2]: failed: 2 steps run, 1 from the cache",
    ]


def test_quiet_is_silent_and_a_pipe_gets_lines() -> None:
    assert isinstance(progress(quiet=True), Silent)
    assert isinstance(progress(quiet=False), Lines)


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (3 << 40, "3.0 TiB")])
def test_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (60, "1 min 0 s"), (3725, "1 h 2 min")])
def test_seconds(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb", "a\nb"),
        (1, "1"),
        (0.5, "0.5"),
        (True, "true"),
        (None, "null"),
        ([1, "é"], '[1, "é"]'),
        (float("nan"), "null"),
        (b"x", "b'x'"),
    ],
)
def test_results_as_lines(value: Any, text: str) -> None:
    assert line(value) == text


def test_plain_data_holds_only_what_json_has() -> None:
    assert plain({1: (float("inf"), {"a": range(2)})}) == {"1": [None, {"a": [0, 1]}]}


def test_tables_are_as_wide_as_they_must_be() -> None:
    assert table([("a", "bb", "c"), ("aaa", "", "")]) == "a    bb  c\naaa"
