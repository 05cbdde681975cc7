"""Packs that change over time: what keeps its keys and results, what keeps working, what is said, and locks."""

# ruff: noqa: E501  (small packs in a few lines)
from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_packs import HEAD, body, using, write

from nodegraph import Engine, pack_record
from nodegraph.cli import main
from nodegraph.errors import PackInvalid

MORE = HEAD + "from typing import Annotated\nfrom nodegraph import Image, Lazy, Was\n"


@pytest.fixture
def versioned(tmp_path, monkeypatch):
    """A pack whose nodes keys know by their version, as of an installed distribution."""
    folder = tmp_path / "mine"
    monkeypatch.setattr("nodegraph.settings.Settings.versioned_packs", property(lambda self: frozenset([folder])))
    return folder


def engine_of(folder: Path, **options) -> Engine:
    return Engine(packs=[folder], cache=str(folder.parent / "cache"), **options)


def states(engine: Engine, flow) -> list[str]:
    return [step.state for step in engine.plan(flow).steps]


def test_new_input_with_a_default_keeps_keys_and_results(versioned):
    write(versioned, nodes=body("plum", "value + 1"))
    with engine_of(versioned) as engine:
        assert engine.run(using("plum", value=4)).outputs == {"out": 5}
    grown = "@node\ndef plum(value: int = 1, more: int = 0, mode: str = 'plain') -> int:\n    return value + 1 + more\n"
    write(versioned, nodes=HEAD + grown)
    with engine_of(versioned) as engine:
        assert states(engine, using("plum", value=4)) == ["cached"]
        assert states(engine, using("plum", value=4, more=0)) == ["cached"]
        assert states(engine, using("plum", value=4, more=2)) == ["run"]
        assert engine.run(using("plum", value=4, more=2)).outputs == {"out": 7}
    write(versioned, nodes=HEAD + grown.replace("@node", "@node(version=2)"))
    with engine_of(versioned) as engine:
        assert states(engine, using("plum", value=4)) == ["run"]


def test_folder_packs_are_known_by_their_code(tmp_path):
    write(tmp_path / "mine", nodes=body("plum", "value + 1"))
    with engine_of(tmp_path / "mine") as engine:
        engine.run(using("plum", value=4))
    write(tmp_path / "mine", nodes=body("plum", "value + 1") + "# a remark\n")
    with engine_of(tmp_path / "mine") as engine:
        assert states(engine, using("plum", value=4)) == ["run"]


def test_former_names_of_nodes_and_ports(tmp_path):
    text = MORE + (
        "class Two(NamedTuple):\n    low: Annotated[int, Was('small')]\n    high: int\n"
        "@node(was=('old',))\ndef plum(value: Annotated[int, Was('number', 'n')] = 1, more: int = 0) -> Two:\n    return Two(value, value + more)\n"
    )
    write(tmp_path / "mine", nodes=text)
    flow = {
        "inputs": {"many": {"type": "list[int]"}},
        "nodes": {
            "a": {"use": "old", "with": {"number": 7, "more": 1}},
            "b": {"use": "plum", "from": {"n": "a.small"}},
            "c": {"use": "mine/plum", "each": {"number": "inputs.many"}},
            "d": {"use": "old", "each": {"n": [5, 6]}, "from": {"more": "a.high"}},
        },
        "outputs": {"low": "b.small", "high": "a.high", "many": "c.small", "d": "d.high"},
    }
    with engine_of(tmp_path / "mine") as engine:
        assert engine.check(flow) == []
        assert engine.run(flow, many=[2, 3]).outputs == {"low": 7, "high": 8, "many": [2, 3], "d": [13, 14]}
        present = {"nodes": {"a": {"use": "plum", "with": {"value": 7}}}, "outputs": {"o": "a.low"}}
        former = {"nodes": {"a": {"use": "old", "with": {"number": 7}}}, "outputs": {"o": "a.small"}}
        engine.run(present)
        assert states(engine, former) == ["cached"]  # it is the same work
        (problem,) = engine.check({"nodes": {"a": {"use": "old", "with": {"number": "x"}}}, "outputs": {"o": "a.small"}})
        assert "takes an int" in problem.text
        both = {"nodes": {"a": {"use": "plum", "with": {"value": 1, "number": 2}}}}
        assert [problem.code for problem in engine.check(both)] == ["unknown-input"]
        assert [problem.code for problem in engine.check({"nodes": {"a": {"use": "plum", "with": {"numbr": 2}}}})] == ["unknown-input"]


def test_former_port_names_survive_the_index(tmp_path):
    write(tmp_path / "mine", nodes=MORE + "@node\ndef plum(value: Annotated[int, Was('n')] = 1) -> int:\n    return value\n")
    for _ in range(2):
        with engine_of(tmp_path / "mine") as engine:
            assert engine.run(using("plum", n=3)).outputs == {"out": 3}


# -- pack.lock -------------------------------------------------------------------------------------------------------------


FADE = MORE + (
    "@node{options}\ndef {name}(value: int, amount: {amount}{more}) -> {gives}:\n    'Fade.'\n    return {result}\n"
    "@node\ndef other(value: int = 1) -> int:\n    'Other.'\n    return value\n"
)
BEFORE = {"options": "", "name": "fade", "amount": "float = 0.5", "more": "", "gives": "float", "result": "value * amount"}
CHANGES = {
    "nothing": ({}, []),
    "new port with a default": ({"more": ", mode: str = 'plain'"}, []),
    "new port without": ({"more": ", *, mode: str"}, ["port-required"]),
    "default": ({"amount": "float = 0.25"}, ["version-not-raised"]),
    "default and version": ({"amount": "float = 0.25", "options": "(version=2)"}, []),
    "meaning": ({"result": "value * amount * 2"}, ["version-not-raised"]),
    "meaning and version": ({"result": "value * amount * 2", "options": "(version=2)"}, []),
    "renamed": ({"name": "fade_out"}, ["node-gone"]),
    "renamed, and says so": ({"name": "fade_out", "options": "(was=('fade',))"}, []),
    "port renamed": ({"amount": "float = 0.5, by: float = 0.5"}, []),
    "output changed": ({"gives": "int", "result": "value", "options": "(version=2)"}, ["port-gone"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_change_breaks(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    change, codes = CHANGES[name]
    write(tmp_path / "mine", nodes=FADE.format(**BEFORE))
    assert main(["packs", "check", "mine", "--record"]) == 0
    assert "written to mine/pack.lock" in capsys.readouterr().err
    write(tmp_path / "mine", nodes=FADE.format(**{**BEFORE, **change}))
    assert main(["packs", "check", "mine", "--json"]) == (1 if codes else 0)
    problems = json.loads(capsys.readouterr().out)
    assert [problem["code"] for problem in problems] == codes
    assert all(problem["fix"] for problem in problems)


def test_results_of_another_machine_are_not_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine", nodes=FADE.format(**BEFORE))
    assert main(["packs", "check", "mine", "--record"]) == 0
    file = tmp_path / "mine" / "pack.lock"
    file.write_text(file.read_text().replace('"processor": "', '"processor": "another '))
    write(tmp_path / "mine", nodes=FADE.format(**{**BEFORE, "result": "value * amount * 2"}))
    assert main(["packs", "check", "mine"]) == 0
    file.write_text("{}")
    assert main(["packs", "check", "mine"]) == 2
    assert "error[bad-lock] pack.lock cannot be read" in capsys.readouterr().err


def test_the_fix_for_a_record_that_cannot_be_read_works(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine", nodes=FADE.format(**BEFORE))
    assert main(["packs", "check", "mine", "--record"]) == 0
    file = tmp_path / "mine" / "pack.lock"
    whole = json.loads(file.read_text())
    port = {**whole, "nodes": {**whole["nodes"], "fade": {**whole["nodes"]["fade"], "inputs": {"value": 3}}}}
    wrong = [
        "<<<<<<< HEAD\n",
        "[" * 100_000,
        json.dumps({"nodegraph-pack": 1}),
        json.dumps({**whole, "made-on": 3}),
        json.dumps({**whole, "nodes": []}),
        json.dumps({**whole, "nodes": {"fade": {}}}),
        json.dumps({**whole, "nodes": {"fade": {**whole["nodes"]["fade"], "version": "1"}}}),
        json.dumps(port),
    ]
    for text in wrong:
        file.write_text(text)
        assert main(["packs", "check", "mine"]) == 2
        assert "  fix write it anew with: nodegraph packs check PATH --record" in capsys.readouterr().err
        assert main(["packs", "check", "mine", "--record"]) == 0
        assert json.loads(file.read_text()) == whole
        assert [one.name for one in file.parent.glob("*pack.lock*")] == ["pack.lock"]


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    write(tmp_path / "mine", nodes=FADE.format(**BEFORE))
    (tmp_path / "mine" / "pack.lock").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        pack_record.write(tmp_path / "mine", {"nodes": {"fade": "\udcff"}})
    assert (tmp_path / "mine" / "pack.lock").read_text() == "old"
    assert not list((tmp_path / "mine").glob(".pack*"))


@pytest.mark.parametrize(("flags", "text"), [(["--record", "--node", "other"], "--record writes"), (["--cases", "0"], "there are 0 cases")])
def test_a_record_of_less_than_all_is_refused(flags, text, tmp_path, monkeypatch, capsys):
    """It would take the place of what was recorded of the other nodes."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine", nodes=FADE.format(**BEFORE))
    assert main(["packs", "check", "mine", *flags]) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "mine" / "pack.lock").exists()


def test_a_pack_that_keeps_another_from_being_loaded_is_told_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine", nodes=body("resize", "1"))
    assert main(["packs", "check", "mine", "--record"]) == 1
    said = "error[node-clash] 'resize' is a node of the pack 'core' too, which cannot be loaded beside this one"
    assert said in capsys.readouterr().out
    assert not (tmp_path / "mine" / "pack.lock").exists()


def test_packs_check_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine", nodes=body("plum", "1 // 0") + "@node\ndef pear(handle: Upscaler) -> int:\n    'A.'\n    return 1\n".replace("Upscaler", "Thing") + "class Thing: ...\n")  # fmt: skip
    assert main(["packs", "check", "mine", "--cases", "1"]) == 1
    said = capsys.readouterr()
    assert "error[node-failed] 'plum' failed: ZeroDivisionError" in said.out
    assert "error[no-doc] 'plum' does not say what it does" in said.out
    assert "note[not-tried] 'mine/pear' could not be tried" in said.err
    assert "mine: 1 node tried on 0 samples, 1 could not be" in said.err
    assert main(["packs", "check", "mine", "--node", "pear"]) == 0
    assert main(["packs", "check", "mine", "--node", "per"]) == 2
    assert "did you mean 'pear'?" in capsys.readouterr().err
    assert main(["packs", "check", str(tmp_path / "nothing")]) == 1
    (tmp_path / "empty").mkdir()
    assert main(["packs", "check", "empty"]) == 2


# -- locks of workflows ----------------------------------------------------------------------------------------------------


@pytest.fixture
def locked(tmp_path, monkeypatch, capsys):
    """A workflow that uses a pack, which imports from another, and its lock. Gives the pack's folder."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "packs" / "base", helpers="STEP = 1\n")
    text = body("plum", "value + STEP", "from ..base.helpers import STEP")
    write(tmp_path / "packs" / "mine", nodes=text, toml='version = 3\npacks = ["base"]\nnumerics = ["numpy"]\n')
    write(tmp_path / "packs" / "unused", nodes=body("pear", "1"))
    (tmp_path / "nodegraph.toml").write_text('packs = ["packs"]\n')
    (tmp_path / "flow.json").write_text(json.dumps(using("plum", value=4)))
    assert main(["packs", "lock", "flow.json", "-o", "flow.lock"]) == 0
    assert "2 packs locked in flow.lock" in capsys.readouterr().err
    return tmp_path / "packs" / "mine"


def test_lock_and_verify(locked, capsys):
    found = json.loads(Path("flow.lock").read_text())
    assert list(found["packs"]) == ["base", "mine"]
    assert found["packs"]["mine"]["version"] == 3
    assert list(found["packs"]["mine"]["numerics"]) == ["numpy"]
    assert main(["packs", "verify", "flow.lock"]) == 0
    assert main(["run", "flow.json", "--locked", "flow.lock"]) == 0
    assert main(["packs", "lock", "flow.json"]) == 0
    assert json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""])) == found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("code", "error[pack-differs] the pack 'mine' is version 3 here as in the lock, but its code is not the same"),
        ("helper", "error[pack-differs] the pack 'base' is version 1 here as in the lock"),
        ("version", "error[pack-version] the pack 'mine' is version 4 here, and version 3 in the lock"),
        ("gone", "error[pack-missing] the pack 'mine' is not here"),
        ("broken", "error[pack-missing] the pack 'mine' could not be loaded"),
        ("numerics", "error[numerics-differ] the numbers of the pack 'mine' depend on numpy, which is "),
        ("unreadable", "error[bad-lock] 'flow.lock' cannot be read"),
        ("no lock", "error[bad-lock] 'flow.lock' cannot be read: it is no lock"),
        ("no pack", "error[bad-lock] 'flow.lock' cannot be read: it is no lock"),
        ("no numerics", "error[bad-lock] 'flow.lock' cannot be read: it is no lock"),
        ("deep", "error[bad-lock] 'flow.lock' cannot be read: maximum recursion depth"),
    ],
)
def test_what_is_different_is_refused(change, said, locked, capsys):
    lock = Path("flow.lock")
    if change == "code":
        write(locked, nodes=body("plum", "value + 2"))
    elif change == "helper":
        write(locked.parent / "base", helpers="STEP = 2\n")
    elif change == "version":
        write(locked, toml='version = 4\npacks = ["base"]\nnumerics = ["numpy"]\n')
    elif change == "gone":
        (locked / "pack.toml").unlink()
    elif change == "broken":
        write(locked, nodes="def (")
    elif change == "numerics":
        found = json.loads(lock.read_text())
        found["packs"]["mine"]["numerics"]["numpy"] = "0.1"
        lock.write_text(json.dumps(found))
    elif change in ("no pack", "no numerics"):
        found = json.loads(lock.read_text())
        found["packs"]["mine"] = 3 if change == "no pack" else {**found["packs"]["mine"], "numerics": ["numpy"]}
        lock.write_text(json.dumps(found))
    else:
        lock.write_text({"unreadable": "{", "no lock": "{}", "deep": "[" * 100_000}[change])
    for command in (["packs", "verify", "flow.lock"], ["run", "flow.json", "--locked", "flow.lock"]):
        assert main(command) == 2
        said_now = capsys.readouterr()
        assert said in said_now.err
        assert "\n  fix " in said_now.err
        assert not said_now.out


def test_lock_of_a_workflow_that_is_wrong(locked):
    from nodegraph import WorkflowInvalid, locks

    with Engine(cache=False) as engine:
        with pytest.raises(WorkflowInvalid):
            locks.lock(engine, using("no_such_node"))
        with pytest.raises(PackInvalid, match="cannot be read"):
            locks.read(Path("no.lock"))
