"""What files and packs say reaches a person as text: no character of it steers the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nodegraph.cli import main
from nodegraph.cli.common import json_text
from nodegraph.cli.printing import give, visible
from nodegraph.cli.progress import Bars
from nodegraph.cli.watching import _Row, tree_of
from nodegraph.collecting import summary
from nodegraph.events import Event

Capture = pytest.CaptureFixture[str]
HOSTILE = "\x1b]0;owned\x07\x9b31m\r\x7f\u202e"
SHOWN = "\\u001b]0;owned\\u0007\\u009b31m\\u000d\\u007f\\u202e"
PACK = """
from nodegraph import node

@node
def ring(text: str = "a") -> str:
    '''Rings \\x1b[31m.'''
    return "\\x1b[1m" + text
"""
WORKFLOW = {
    "name": f"w{HOSTILE}",
    "doc": HOSTILE,
    "inputs": {"text": {"type": "text", "default": HOSTILE, "doc": HOSTILE}},
    "nodes": {"r": {"use": "ring", "from": {"text": "inputs.text"}}},
    "outputs": {"text": "r.text"},
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = tmp_path / "packs" / "bells"
    pack.mkdir(parents=True)
    (pack / "pack.toml").write_text('name = "bells"\nversion = 1\ndoc = "A bell \\u001B[5m."\n')
    (pack / "bells.py").write_text(PACK)
    for name in ("packs", "models", "cache", "output"):
        monkeypatch.setenv(f"NODEGRAPH_{name.upper()}", str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    Path("w.json").write_text(json.dumps(WORKFLOW))
    Path("bad.json").write_text(json.dumps({**WORKFLOW, "nodes": {f"r{HOSTILE}": {"use": "ring", "with": {HOSTILE: 1}}}}))


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x7f", "\x85", "\x9b", "\u202e", "\u2066", "\r"])
def test_control_characters_are_shown_as_in_json(character: str) -> None:
    assert json.loads(f'"{visible(character)}"') == character != visible(character)


@pytest.mark.parametrize("text", ["", "one\n\ttwo\r\n", "Grüße 👩‍🚀 שלום"])
def test_all_other_text_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    "call",
    [
        ["show", "w.json"],
        ["show", "w.json", "--mermaid"],
        ["show", "w.json", "--python"],
        ["run", "w.json", "--help"],
        ["plan", "w.json"],
        ["run", "w.json", "--set", "text=b", "--sweep", 'text="a","\x1b[3m"'],
        ["nodes"],
        ["nodes", "ring"],
        ["packs", "list"],
        ["check", "bad.json"],
        ["run", "bad.json"],
        ["run", "w.json", "--log", "debug"],
        ["run", "\x1b[31m.json"],
    ],
)
def test_nothing_that_is_printed_for_people_steers_the_terminal(capsys: Capture, monkeypatch: pytest.MonkeyPatch, call: list[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    main(call)
    said = "".join(capsys.readouterr())
    assert said
    assert visible(said) == said


def test_a_result_is_given_raw_to_what_reads_it(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    give(HOSTILE)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    give(HOSTILE)
    assert capsys.readouterr().out == f"{HOSTILE}\n{SHOWN}\n"


def test_json_holds_what_the_file_says(capsys: Capture) -> None:
    main(["run", "w.json", "--help", "--json"])
    assert json.loads(capsys.readouterr().out)["doc"] == HOSTILE


def test_bars_and_trees_show_no_control_characters(capsys: Capture) -> None:
    from rich.console import Console

    def event(kind: Any, **data: Any) -> Event:
        return Event(kind, "r", 1, 0.0, f"n{HOSTILE}", data)

    bars = Bars()
    bars.begin(HOSTILE)
    for one in (event("progress", step=1, total=2, text=HOSTILE), event("done", status="ok")):
        bars.show(one)
    bars.close()
    Console(width=200).print(tree_of(HOSTILE, {HOSTILE: _Row("failed", HOSTILE)}, [HOSTILE]))
    said = "".join(capsys.readouterr())
    assert said.count("owned") >= 4
    assert visible(said) == said


class Plain:
    def parts(self):
        return {}, {}


class Told(Plain):
    def __repr__(self):
        return "told"


def test_a_value_of_a_pack_without_a_text_of_its_own_is_told_by_its_type():
    """Not by its place in memory, which is another one in each run."""
    assert json_text({"plain": Plain(), "told": [Told()]}) == '{"plain": "a Plain", "told": ["told"]}'
    assert (summary(Plain()), summary([Told()])) == ("a Plain", ["told"])
