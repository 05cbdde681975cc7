"""The command line: what goes to stdout, what to stderr, and how it exits."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from nodegraph.cli import main

ROOT = Path(__file__).resolve().parents[2]

PACK = '''\
"""Nodes to try the command line with."""

import time

from nodegraph import Image, Invalid, Latent, Run, Skip, node


@node
def add(a: int, b: int = 1) -> int:
    """The sum of two numbers."""
    return a + b


@node
def halve(value: float) -> float:
    """Half of a number."""
    if value < 0:
        raise Invalid(f"{value:g} is below 0", fix="use 0", port="value")
    return value / 2


@node
def shout(text: str) -> str:
    return text.upper()


@node
def square(level: float = 0.5, count: int = 1) -> Image:
    """Grey pictures."""
    import numpy

    return Image(numpy.full((count, 3, 2, 2), level, dtype=numpy.float32))


@node
def noise() -> Latent:
    import numpy

    return Latent(numpy.zeros((1, 4, 2, 2), dtype=numpy.float32), "sd1")


@node
def nothing(text: str) -> str:
    return Skip("there is nothing")


@node
def wait(seconds: float, *, run: Run) -> float:
    for step in range(int(seconds * 100)):
        run.progress(step, int(seconds * 100))
        time.sleep(0.01)
    return seconds


@node
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@node
def broken(text: str) -> str:
    raise ZeroDivisionError("oh")
'''


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a pack, and settings that lead nowhere else."""
    pack = tmp_path / "packs" / "toy"
    pack.mkdir(parents=True)
    (pack / "pack.toml").write_text('name = "toy"\nversion = 3\ndoc = "A toy."\n')
    (pack / "toys.py").write_text(PACK)
    for name, value in {"PACKS": tmp_path / "packs", "MODELS": tmp_path / "models", "CACHE": tmp_path / "cache", "OUTPUT": "out"}.items():
        monkeypatch.setenv(f"NODEGRAPH_{name}", str(value))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(data: Any, name: str = "w.json") -> str:
    Path(name).write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return name


SUM = {
    "inputs": {"a": {"type": "int", "default": 1, "max": 100}, "seed": {"type": "int", "default": 0}},
    "nodes": {"sum": {"use": "add", "from": {"a": "inputs.a"}, "with": {"b": 2}}},
    "outputs": {"sum": "sum.int"},
}
PICTURE = {
    "name": "grey",
    "inputs": {"level": {"type": "float", "default": 0.5}},
    "nodes": {"p": {"use": "square", "from": {"level": "inputs.level"}}},
    "outputs": {"image": "p.image"},
}
HALVES = {
    "inputs": {"value": {"type": "float"}},
    "nodes": {"h": {"use": "halve", "from": {"value": "inputs.value"}}, "s": {"use": "add", "with": {"a": 1}}},
    "outputs": {"half": "h.float", "two": "s.int"},
}

Capture = pytest.CaptureFixture[str]


def out(capsys: Capture) -> list[str]:
    return capsys.readouterr().out.splitlines()


# -- run ---------------------------------------------------------------------------------------------------------------


def test_results_are_on_stdout_and_the_rest_on_stderr(capsys: Capture) -> None:
    assert main(["run", write(SUM)]) == 0
    said = capsys.readouterr()
    assert said.out == "3\n"
    assert said.err == "ok: 1 step run, 0 from the cache\n"


def test_quiet_says_nothing_but_results(capsys: Capture) -> None:
    assert main(["run", write(SUM), "-q"]) == 0
    assert capsys.readouterr() == ("3\n", "")


def test_the_second_time_comes_from_the_cache(capsys: Capture) -> None:
    slow = write({"nodes": {"w": {"use": "wait", "with": {"seconds": 0.1}}}, "outputs": {"w": "w.float"}})
    main(["run", slow])
    main(["run", slow])
    said = capsys.readouterr()
    assert said.out == "0.1\n0.1\n"
    assert said.err.splitlines()[-1] == "ok: 0 steps run, 1 from the cache"
    main(["run", slow, "--no-cache"])
    assert capsys.readouterr().err.splitlines()[-1] == "ok: 1 step run, 0 from the cache"


def test_inputs_and_literals_can_be_set(capsys: Capture) -> None:
    assert main(["run", write(SUM), "-q", "--set", "a=10", "--set", "sum.b=5"]) == 0
    assert out(capsys) == ["15"]


@pytest.mark.parametrize("name", ["", "no/folder.json"])
def test_a_trace_that_cannot_be_written_is_refused_before_anything_runs(capsys: Capture, place: Path, name: str) -> None:
    assert main(["run", write(SUM), "--json", "--profile", str(place / name)]) == 2
    [line] = out(capsys)
    assert json.loads(line)["problems"][0]["code"] == "not-written"


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (["show", "w.json"], "--svg"),
        (["show", "w.json"], "--png"),
        (["schema"], "--output"),
        (["packs", "lock", "w.json"], "--output"),
        (["stubs"], "--output"),
        (["packs", "new", "fresh"], "--at"),
    ],
)
def test_a_file_that_cannot_be_written_is_told_with_its_flag(command: list[str], flag: str, capsys: Capture, place: Path) -> None:
    write(SUM)
    (place / "file").write_text("")
    assert main([*command, flag, "file/within"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error[not-written] cannot write 'file/within")
    assert f"\n  at  {flag}\n  fix make room there, or name a file in a folder that is there\n" in said


def test_pictures_are_written_to_the_output_folder(capsys: Capture, place: Path) -> None:
    assert main(["run", write(PICTURE), "-q"]) == 0
    [line] = out(capsys)
    assert Path(line).parent == Path("out")
    assert Path(line).name.startswith("grey-image-")
    assert Path(line).is_file()
    assert main(["run", "w.json", "-q", "--output", "else", "--set", "level=0.25"]) == 0
    assert Path(out(capsys)[0]).parent.name == "else"


def test_pictures_tell_of_their_making() -> None:
    import PIL.Image

    main(["run", write(PICTURE), "-q", "--set", "level=0.75"])
    [path] = Path("out").iterdir()
    with PIL.Image.open(path) as picture:
        told = json.loads(picture.text["nodegraph"])
    assert told["inputs"] == {"level": 0.75}
    assert told["workflow"]["nodes"] == PICTURE["nodes"]
    assert told["packs"]["toy"]["version"] == 3


def test_the_same_result_is_the_same_file(capsys: Capture) -> None:
    for options in ([], ["--no-cache"]):
        main(["run", write(PICTURE), "-q", *options])
    first, second = out(capsys)
    assert first == second
    assert len(list(Path("out").iterdir())) == 1


def test_json_prints_one_object_at_the_end(capsys: Capture) -> None:
    flow = {**PICTURE, "nodes": {**PICTURE["nodes"], "t": {"use": "shout", "with": {"text": "hé"}}, "n": {"use": "noise"}}}
    flow["outputs"] = {"image": "p.image", "text": "t.text", "noise": "n.latent"}
    assert main(["run", write(flow), "--json", "--set", "level=0.5"]) == 0
    [line] = out(capsys)
    record = json.loads(line)
    assert next(iter(record)) == "event"
    assert record["event"] == "done"
    assert record["status"] == "ok"
    assert record["outputs"]["text"] == "HÉ"
    assert record["outputs"]["image"] == record["files"][0]
    assert record["outputs"]["noise"] == "Latent(1×4×2×2 float32)"
    assert record["inputs"] == {"level": 0.5}
    assert Path(record["files"][0]).is_file()


@pytest.mark.parametrize("flag", ["--locked", "--inputs", "--batch", "--grid", "--table", "--profile", "--output", "--cache", "--memory"])
def test_a_flag_whose_value_is_empty_is_not_one_that_was_not_given(capsys: Capture, flag: str) -> None:
    """As in `--locked "$LOCK"` where there is no such variable."""
    assert main(["run", write(SUM), flag, ""]) == 2
    assert f"error[usage] {flag} is empty\n  at  {flag}\n  fix give it a value, or leave it away" in capsys.readouterr().err
    assert main(["run", write(SUM), f"{flag}="]) == 2
    assert sorted(path.name for path in Path().iterdir() if path.name not in ("packs", "nodegraph.toml")) == ["w.json"]


@pytest.mark.parametrize("flags", [["--output", "w.json"], ["--sweep", "level=0,1", "--table", "table.csv"]])
@pytest.mark.parametrize("form", [["--json"], ["--events", "jsonl"]])
def test_the_end_is_told_though_what_comes_out_cannot_be_written(capsys: Capture, flags: list[str], form: list[str]) -> None:
    os.symlink("no/where", "table.csv")
    assert main(["run", write(PICTURE), "-q", *form, *flags]) == 1
    said = capsys.readouterr()
    end = json.loads(said.out.splitlines()[-1])
    assert (end["event"], end["status"], len(end["problems"])) == ("done", "failed", 1)
    assert end["problems"][0]["message"] in said.err


def test_an_output_folder_that_cannot_be_is_named(capsys: Capture) -> None:
    assert main(["run", write(PICTURE), "-q", "--output", "w.json"]) == 1
    assert capsys.readouterr().err == (
        "error[not-written] the outputs cannot be written into 'w.json': File exists\n"
        "  at  --output\n  fix make room there, or name another folder with --output\n1 problem\n"
    )


def test_a_batch_of_pictures_is_a_list_of_files(capsys: Capture) -> None:
    main(["run", write({"nodes": {"p": {"use": "square", "with": {"count": 2}}}, "outputs": {"image": "p.image"}}), "--json"])
    record = json.loads(out(capsys)[0])
    assert len(record["outputs"]["image"]) == 2
    assert record["outputs"]["image"] == record["files"]


def test_events_are_one_object_a_line(capsys: Capture) -> None:
    assert main(["run", write(SUM), "--events", "jsonl"]) == 0
    said = capsys.readouterr()
    events = [json.loads(line) for line in said.out.splitlines()]
    assert [event["event"] for event in events] == ["planned", "started", "finished", "done"]
    assert events[0]["total"] == 1
    assert events[1]["node"] == "sum"
    assert all(event["v"] == 1 and event["seq"] == number for number, event in enumerate(events, 1))
    assert events[-1]["outputs"] == {"sum": 3}
    assert events[-1]["files"] == []
    assert said.err == ""


def test_only_computes_what_is_asked_for(capsys: Capture) -> None:
    assert main(["run", write(HALVES), "-q", "--set", "value=-1", "--only", "two"]) == 0
    assert out(capsys) == ["2"]


def test_a_failing_node_exits_with_1_and_the_rest_is_given(capsys: Capture) -> None:
    assert main(["run", write(HALVES), "-q", "--set", "value=-1"]) == 1
    said = capsys.readouterr()
    assert said.out == "2\n"
    assert said.err == "error[invalid-value] -1 is below 0\n  at  h.value\n  fix use 0\n1 problem\n"


def test_a_failing_node_as_json(capsys: Capture) -> None:
    assert main(["run", write(HALVES), "--json", "--set", "value=-1"]) == 1
    record = json.loads(out(capsys)[0])
    assert record["status"] == "failed"
    assert record["outputs"] == {"two": 2}
    assert [problem["code"] for problem in record["problems"]] == ["invalid-value"]


def test_a_node_that_raises_shows_no_traceback_of_the_engine(capsys: Capture) -> None:
    assert main(["run", write({"nodes": {"b": {"use": "broken", "with": {"text": ""}}}, "outputs": {"t": "b.text"}}), "-q"]) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "oh" in said
    assert "nodegraph/execution.py" not in said


def test_what_is_skipped_is_said(capsys: Capture) -> None:
    assert main(["run", write({"nodes": {"n": {"use": "nothing", "with": {"text": ""}}}, "outputs": {"t": "n.text"}})]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "skipped t: there is nothing" in said.err


def test_a_drawn_seed_is_printed_and_recorded(capsys: Capture) -> None:
    main(["run", write(SUM), "-q", "--set", "seed=random"])
    name, _, value = capsys.readouterr().err.strip().partition(" = ")
    assert name == "seed"
    assert value.isdigit()
    main(["run", "w.json", "--json", "--set", "seed=random"])
    assert type(json.loads(out(capsys)[0])["inputs"]["seed"]) is int


def test_a_sweep_is_one_run_for_each_combination(capsys: Capture) -> None:
    assert main(["run", write(SUM), "--sweep", "a=1,2", "--sweep", "sum.b=10,20"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == ["11", "21", "12", "22"]
    assert said.err.splitlines()[:2] == ["run 1/4: a=1 sum.b=10", "ok: 1 step run, 0 from the cache"]


def test_a_batch_is_one_run_for_each_line(capsys: Capture) -> None:
    write('{"a": 5}\n{"a": 6, "sum.b": 0}\n', "rows.jsonl")
    assert main(["run", write(SUM), "--json", "--batch", "rows.jsonl"]) == 0
    assert [(record["outputs"]["sum"], record["inputs"]) for record in map(json.loads, out(capsys))] == [
        (7, {"a": 5}),
        (6, {"a": 6, "sum.b": 0}),
    ]


def test_more_runs_than_are_submitted_at_once(capsys: Capture) -> None:
    write("\n".join(json.dumps({"a": number % 100}) for number in range(150)), "rows.jsonl")
    assert main(["run", write(SUM), "-q", "--batch", "rows.jsonl"]) == 0
    assert out(capsys) == [str(number % 100 + 2) for number in range(150)]


def test_one_failing_run_does_not_stop_the_others(capsys: Capture) -> None:
    assert main(["run", write(HALVES), "-q", "--sweep", "value=2,-1,4"]) == 1
    assert out(capsys) == ["1.0", "2", "2", "2.0", "2"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "w.json", "--set", "a=101"], "error[out-of-range] 'a' must be at most 100, but is 101"),
        (["run", "w.json", "--set", "aa=1"], "error[unknown-input] the workflow has no input 'aa'"),
        (["run", "w.json", "--only", "sun"], "error[unknown-output] there is no output 'sun'"),
        (["run", "w.jsn"], "error[file-missing] there is no workflow 'w.jsn'\n  fix did you mean 'w.json'?"),
        (["run", "packs/../w.jsn"], "error[file-missing] there is no workflow 'packs/../w.jsn'\n  fix did you mean 'packs/../w.json'?"),
        (
            ["run", "dangling-link.json"],
            "error[file-missing] there is no workflow 'dangling-link.json'\n  fix give the path of a workflow file",
        ),
        (["run", "a" * 252], f"error[file-missing] cannot read '{'a' * 252}': File name too long\n  fix give the path of a workflow file"),
        (["run", "w.json", "--set", "a=1", "--set", ""], "error[usage] --set is empty\n  at  --set\n  fix give it a value, or leave it"),
        (["run", "w.json", "--packs", ""], "error[usage] --packs is empty"),
        (["run", "upscal"], "error[file-missing] there is no workflow 'upscal'\n  fix did you mean 'upscale'?"),
        (["run", "packs"], "error[file-missing] 'packs' is a folder"),
        (["run"], "error[usage] run needs a WORKFLOW"),
        (["run", "w.json", "--sett", "a=1"], "error[usage] nodegraph run does not know '--sett'\n  fix did you mean '--set'"),
        (["run", "w.json", "--events", "xml"], "error[usage] argument --events: invalid choice: 'xml'"),
        (
            ["run", "w.json", "--device", "gpu"],
            "error[bad-setting] 'device' must be auto, cpu, cuda or cuda:0, but is 'gpu'\n  at  --device",
        ),
        (["-q", "run", "w.json"], "error[usage] '-q' stands before the command\n  fix write it behind: nodegraph COMMAND -q …"),
        (["--packs", "packs", "run", "w.json"], "error[usage] '--packs' stands before the command\n"),
        (
            ["packs", "--json", "list"],
            "error[usage] '--json' stands before the command\n  fix write it behind: nodegraph packs list --json",
        ),
        (["run", "w.json", "v.json"], "error[usage] nodegraph run does not know 'v.json'\n  fix see: nodegraph run --help"),
        (["rum", "w.json"], "error[usage] nodegraph has no command 'rum'\n  fix did you mean 'run'"),
        (["models", "lst"], "error[usage] nodegraph models has no command 'lst'\n  fix did you mean 'list'?"),
        (["models", "show", "x"], "error[unknown-model] there is no model 'x'\n  at  x\n  fix models here: '"),
        (["nodes", "squar"], "error[unknown-node] there is no node 'squar'\n  fix did you mean 'square'"),
        (["cache", "info", "--cache", "off"], "error[no-cache] the cache on disk is off"),
        *(
            (
                ["cache", *command, "--cache", "resluts"],
                "error[no-cache] there is no cache in 'resluts'\n  at  --cache\n  fix name the folder",
            )
            for command in (["info"], ["verify"], ["prune", "1GiB"], ["clear"])
        ),
        (["cache", "prune", "much"], "error[usage] 'much' must be a size; write it like 8GiB"),
    ],
)
def test_a_wrong_call_exits_with_2_and_tells_how_to_mend_it(arguments: list[str], told: str, capsys: Capture) -> None:
    write(SUM)
    Path("dangling-link.json").symlink_to("nowhere")
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith(told)
    assert said.err.endswith("1 problem\n")
    assert said.out == ""
    assert "Traceback" not in said.err
    assert not Path("resluts").exists()


def test_a_wrong_call_as_json_still_ends_with_done(capsys: Capture) -> None:
    for flags in (["--json"], ["--events", "jsonl"]):
        assert main(["run", write(SUM), "--set", "a=x", *flags]) == 2
        record = json.loads(out(capsys)[-1])
        assert record["event"] == "done"
        assert record["status"] == "failed"
        assert record["problems"][0]["code"] == "bad-value"


def test_help_is_there_for_every_command(capsys: Capture) -> None:
    from nodegraph.cli import COMMANDS

    for command in ("", *COMMANDS):
        assert main([*command.split(), "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"usage: nodegraph {command}".rstrip())
    assert main(["--version"]) == 0
    assert main([]) == 0


def test_help_of_a_workflow_lists_its_inputs(capsys: Capture) -> None:
    assert main(["run", write(SUM), "--help"]) == 0
    said = capsys.readouterr().out
    assert "  a     int  = 1  (at most 100)" in said
    assert "  sum" in said


def test_a_mistake_in_nodegraph_is_told_shortly(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: object) -> int:
        raise KeyError("x")

    monkeypatch.setattr("nodegraph.cli.files.show", fail)
    assert main(["show", write(SUM)]) == 1
    assert capsys.readouterr().err == "error[internal] KeyError: 'x'\n  fix run it again with --traceback, and report what it prints\n"
    with pytest.raises(KeyError):
        main(["show", "w.json", "--traceback"])


# -- check, plan, fmt, show --------------------------------------------------------------------------------------------


def test_check(capsys: Capture) -> None:
    assert main(["check", write(SUM), write(PICTURE, "p.json")]) == 0
    assert capsys.readouterr() == ("", "2 workflows checked, no problems\n")


def test_check_tells_every_problem_of_every_file(capsys: Capture) -> None:
    write('{\n  "nodes": {"a": {"use": "squar"}},\n  "outputs": {"x": "b.int"}\n}', "bad.json")
    assert main(["check", write(SUM), "bad.json", "none.json"]) == 2
    said = capsys.readouterr().out
    assert said.startswith("error[unknown-node] there is no node 'squar'\n  at  bad.json:2:26: nodes.a.use\n  fix did you mean 'square'")
    assert said.endswith("3 problems\n")


def test_check_as_json(capsys: Capture) -> None:
    write({"nodes": {"a": {"use": "ad"}}}, "bad.json")
    assert main(["check", "--json", "bad.json"]) == 2
    [problem] = json.loads(capsys.readouterr().out)
    assert {"code", "message", "file", "line", "path", "fix"} <= set(problem)
    assert (problem["code"], problem["file"], problem["line"], problem["path"]) == ("unknown-node", "bad.json", 1, "nodes.a.use")
    assert main(["check", "--json", write(SUM)]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_plan(capsys: Capture) -> None:
    slow = write(
        {
            "inputs": {"s": {"type": "float", "default": 0.1}},
            "nodes": {"w": {"use": "wait", "from": {"seconds": "inputs.s"}}},
            "outputs": {"w": "w.float"},
        }
    )
    assert main(["plan", slow]) == 0
    assert capsys.readouterr() == ("run  w  wait\n", "1 step: 1 would run\n")
    main(["run", slow, "-q"])
    capsys.readouterr()
    main(["plan", slow, "--json"])
    assert json.loads(capsys.readouterr().out) == [{"node": "w", "use": "wait", "state": "cached"}]
    main(["plan", slow, "--set", "w.seconds=0.3"])
    assert out(capsys) == ["run  w  wait"]


def test_fmt(capsys: Capture, place: Path) -> None:
    write(SUM)
    before = (place / "w.json").read_text()
    assert main(["fmt", "--check", "w.json"]) == 1
    assert out(capsys) == ["w.json"]
    assert (place / "w.json").read_text() == before
    (place / "w.json").chmod(0o640)
    assert main(["fmt", "w.json"]) == 0
    assert (place / "w.json").read_text() != before
    assert (place / "w.json").stat().st_mode & 0o777 == 0o640
    assert main(["fmt", "--check", "w.json"]) == 0
    write("{", "bad.json")
    assert main(["fmt", "w.json", "bad.json"]) == 2
    assert "bad.json:1:2" in capsys.readouterr().err
    assert sorted(path.name for path in place.glob("*.json")) == ["bad.json", "w.json"]


def test_fmt_follows_a_link(place: Path) -> None:
    write(SUM, "real.json")
    (place / "link.json").symlink_to("real.json")
    main(["fmt", "link.json"])
    assert (place / "link.json").is_symlink()
    assert main(["fmt", "--check", "real.json"]) == 0


def test_show(capsys: Capture) -> None:
    assert main(["show", write(SUM)]) == 0
    assert capsys.readouterr().out.endswith("sum ← sum.int  add(b=2)\n└─ a ← inputs.a\n")
    assert main(["show", "w.json", "--mermaid"]) == 0
    assert capsys.readouterr().out.startswith("flowchart LR\n")


# -- what is installed -------------------------------------------------------------------------------------------------


def test_nodes(capsys: Capture) -> None:
    assert main(["nodes"]) == 0
    said = capsys.readouterr().out
    assert "toy\n" in said
    assert "  The sum of two numbers.\n" in said
    assert "core\n" in said
    assert main(["nodes", "add"]) == 0
    assert out(capsys)[:7] == [
        "add  (pack toy, version 1)",
        "",
        "The sum of two numbers.",
        "",
        "inputs",
        "  a  int  required",
        "  b  int  = 1",
    ]
    assert main(["nodes", "add", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["inputs"][1] == {"name": "b", "type": "int", "required": False, "doc": "", "default": 1}
    assert main(["nodes", "--json"]) == 0
    assert "add" in [one["name"] for one in json.loads(capsys.readouterr().out)]


def test_types(capsys: Capture) -> None:
    assert main(["types", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert "square" in found["image"]["given_by"]
    assert "add" in found["int"]["taken_by"]


def test_schema(capsys: Capture, place: Path) -> None:
    assert main(["schema", "-o", "schema.json"]) == 0
    schema = json.loads((place / "schema.json").read_text(encoding="utf-8"))
    assert "node.add" in schema["definitions"]
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema


def test_packs(capsys: Capture, place: Path) -> None:
    (place / "packs" / "bad").mkdir()
    (place / "packs" / "bad" / "pack.toml").write_text('name = "bad"\n')
    (place / "packs" / "bad" / "bad.py").write_text("from nodegraph import node\n@node\ndef odd(:\n")
    assert main(["packs", "list"]) == 0
    said = capsys.readouterr()
    assert "toy" in said.out
    assert "9 nodes" in said.out
    assert "broken" in said.out
    assert "bad.py:3" in said.err
    assert main(["packs", "list", "--json"]) == 0
    packs = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert packs["toy"]["version"] == 3
    assert packs["bad"]["problems"][0]["code"] == "bad-module"
    assert main(["nodes", "odd"]) == 2
    assert "'odd' is in the pack 'bad', which could not be loaded" in capsys.readouterr().err


# -- models and cache --------------------------------------------------------------------------------------------------


def weights(path: Path) -> Path:
    header = json.dumps({"__metadata__": {"kind": "upscaler"}, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return path


def test_models(capsys: Capture, place: Path) -> None:
    source = weights(place / "net.safetensors")
    assert main(["models", "add", str(source), "--name", "mine"]) == 0
    assert out(capsys) == [str(place / "models" / "mine.safetensors")]
    assert main(["models", "add", str(source), "--name", "mine"]) == 2
    assert main(["models", "list", "--json"]) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert listed["mine"]["kind"] == "upscaler"
    assert main(["models", "list"]) == 0
    assert main(["models", "show", "mine", "--json"]) == 0
    shown = json.loads(out(capsys)[-1])
    assert shown["path"] == str(place / "models" / "mine.safetensors")
    assert shown["files"][0]["bytes"] == source.stat().st_size
    assert main(["models", "show", "mine"]) == 0
    assert main(["models", "verify", "mine"]) == 0
    (place / "models" / "mine.safetensors").write_bytes(source.read_bytes()[:-1])
    capsys.readouterr()
    assert main(["models", "verify", "mine"]) == 1
    assert "error[damaged-weights]" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["../mine", "a/mine", ".mine", "..", "a\\b"])
def test_a_model_is_added_by_a_name_alone(name: str, capsys: Capture, place: Path) -> None:
    source = weights(place / "net.safetensors")
    there = sorted(place.rglob("*"))
    assert main(["models", "add", str(source), "--name", name]) == 2
    assert f"error[bad-name] {name!r} is no name for a model\n" in capsys.readouterr().err
    assert sorted(one for one in place.rglob("*") if "cache" not in one.parts) == [one for one in there if "cache" not in one.parts]


def test_the_folder_that_a_person_is_in_is_added_by_its_name(
    capsys: Capture, place: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("made") / "painter"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    monkeypatch.chdir(folder)
    assert main(["models", "add", "."]) == 0
    assert out(capsys) == [str(place / "models" / "painter")]
    assert (place / "models" / "painter" / "model_index.json").is_file()


def test_a_model_that_cannot_be_copied_leaves_nothing_behind(capsys: Capture, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    assert main(["models", "add", str(weights(place / "net.safetensors"))]) == 2
    assert "error[not-written] 'net' cannot be written into " in capsys.readouterr().err
    assert list((place / "models").iterdir()) == []
    (place / "models" / "net.safetensors").write_text("of somebody")
    assert main(["models", "add", str(place / "net.safetensors")]) == 2
    assert (place / "models" / "net.safetensors").read_text() == "of somebody"


def test_models_that_cannot_be_added(capsys: Capture, place: Path) -> None:
    (place / "bad.ckpt").write_bytes(b"x")
    assert main(["models", "add", "bad.ckpt"]) == 2
    assert capsys.readouterr().err.startswith("error[unsafe-weights]")


def test_a_cache_that_another_process_writes_to(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodegraph.store.PATIENCE", 0.1)
    main(["run", write(SUM)])
    other = sqlite3.connect(tmp_path / "cache" / "index.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for command in (["verify"], ["prune", "1"], ["clear"]):
        capsys.readouterr()
        assert main(["cache", *command]) == 2
        said = capsys.readouterr()
        assert not said.out
        assert "error[no-cache] cannot " in said.err
        assert "database is locked" in said.err
        assert "fix try again when no other process writes to it" in said.err
    other.close()
    assert main(["cache", "clear"]) == 0


def test_cache(capsys: Capture) -> None:
    main(["run", write({"nodes": {"w": {"use": "wait", "with": {"seconds": 0.1}}}, "outputs": {"w": "w.float"}}), "-q"])
    capsys.readouterr()
    assert main(["cache", "info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == 1
    assert main(["cache", "verify"]) == 0
    assert main(["cache", "prune", "1GiB"]) == 0
    assert main(["cache", "clear", "--json"]) == 0
    assert json.loads(out(capsys)[-1])["removed"] == 1
    assert main(["cache", "info"]) == 0


# -- as a process ------------------------------------------------------------------------------------------------------


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """Leave no process behind, whatever a test finds."""
    yield
    for running in STARTED:
        running.kill()
        running.wait()
    STARTED.clear()


def process(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    made = subprocess.Popen([sys.executable, *arguments], **pipes, **options)
    STARTED.append(made)
    return made


def read_until(running: subprocess.Popen[str], text: str) -> None:
    """Read lines of stdout up to one that holds the text."""
    assert running.stdout is not None
    assert any(text in line for line in running.stdout), f"it ended without {text}"


def imported(*arguments: str) -> set[str]:
    """The top-level modules that a command imports."""
    made = process("-X", "importtime", "-m", "nodegraph", *arguments)
    _, err = made.communicate(timeout=120)
    assert made.returncode == 0, err
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in err.splitlines() if line.startswith("import time:")}


HEAVY = {"torch", "diffusers", "transformers", "scipy", "skimage", "rich"}


def test_help_imports_next_to_nothing() -> None:
    assert imported("--help").isdisjoint({*HEAVY, "pydantic", "asyncio", "numpy", "PIL", "sqlite3"})


@pytest.mark.parametrize("command", [["check", "w.json"], ["nodes"], ["plan", "w.json"], ["fmt", "w.json"], ["show", "w.json"]])
def test_what_runs_nothing_imports_nothing_heavy(command: list[str]) -> None:
    write(SUM)
    assert imported(*command).isdisjoint({*HEAVY, "numpy", "PIL"})


def test_a_cached_run_does_not_import_torch() -> None:
    write(
        {
            **PICTURE,
            "nodes": {**PICTURE["nodes"], "w": {"use": "wait", "with": {"seconds": 0.1}}},
            "outputs": {"image": "p.image", "w": "w.float"},
        }
    )
    main(["run", "w.json", "-q"])
    assert imported("run", "w.json").isdisjoint(HEAVY)


def test_ctrl_c_cancels_and_exits_with_130() -> None:
    write({"nodes": {"w": {"use": "wait", "with": {"seconds": 60.0}}}, "outputs": {"w": "w.float"}})
    running = process("-m", "nodegraph", "run", "w.json", "--events", "jsonl")
    assert running.stdout is not None
    read_until(running, '"progress"')
    os.kill(running.pid, signal.SIGINT)
    said, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert json.loads(said.splitlines()[-1])["status"] == "cancelled"
    assert "Traceback" not in err
    assert "cancelling" in err


def test_ctrl_c_again_ends_at_once() -> None:
    write({"nodes": {"s": {"use": "sleep", "with": {"seconds": 60.0}}}, "outputs": {"s": "s.float"}})
    running = process("-m", "nodegraph", "run", "w.json", "--events", "jsonl")
    assert running.stdout is not None
    assert running.stderr is not None
    read_until(running, '"started"')
    os.kill(running.pid, signal.SIGINT)
    assert "cancelling" in running.stderr.readline()
    os.kill(running.pid, signal.SIGINT)
    running.communicate(timeout=20)
    assert running.returncode == 130


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_on_a_terminal_bars_go_to_stderr_and_results_to_stdout() -> None:
    import pty

    write({"nodes": {"w": {"use": "wait", "with": {"seconds": 0.3}}}, "outputs": {"w": "w.float"}})
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "nodegraph", "run", "w.json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True, env={**os.environ, "TERM": "xterm"}) as running:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while more := os.read(ours, 4096):
                seen += more
        said, _ = running.communicate(timeout=60)
    os.close(ours)
    assert (running.returncode, said) == (0, "0.3\n")
    assert b"ok: 1 step run, 0 from the cache" in seen


def test_a_reader_that_goes_away_ends_a_run_quietly() -> None:
    write(SUM)
    running = process("-m", "nodegraph", "nodes", "--json")
    assert running.stdout is not None
    running.stdout.close()
    running.stdout = None
    _, err = running.communicate(timeout=60)
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def test_a_terminal_without_utf_8_shows_what_it_can() -> None:
    write({"nodes": {"t": {"use": "shout", "with": {"text": "é"}}}, "outputs": {"t": "t.text"}})
    running = process("-m", "nodegraph", "run", "w.json", "-q", env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    said, err = running.communicate(timeout=60)
    assert (running.returncode, said, err) == (0, "\\xc9\n", "")


@pytest.mark.parametrize(
    "command", [["run", "w.json", "--json"], ["run", "w.json", "--events", "jsonl"], ["run", "w.json", "--help", "--json"], ["schema"]]
)
def test_json_is_json_where_stdout_lacks_characters(command: list[str]) -> None:
    """`\\xe9` and `\\U0001f98a` are what Python writes for them, and JSON has neither."""
    doc = {"inputs": {"text": {"type": "text", "default": "é → 🦊", "doc": "é 🦊"}}}
    write({**doc, "nodes": {"t": {"use": "shout", "from": {"text": "inputs.text"}}}, "outputs": {"t": "t.text"}})
    running = process("-m", "nodegraph", *command, env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    said, _ = running.communicate(timeout=60)
    told = [json.loads(said)] if command == ["schema"] else [json.loads(line) for line in said.splitlines()]
    if "--help" not in command and command != ["schema"]:
        assert told[-1]["outputs"] == {"t": "É → 🦊"}


def test_a_drawing_as_png_goes_to_stdout_too(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["show", write(SUM), "--png", "-"]) == 0
    assert capfdbinary.readouterr().out.startswith(b"\x89PNG")
    assert not Path("-").exists()


def test_a_drawing_is_whole_where_stdout_lacks_characters() -> None:
    write({"doc": "é", "nodes": {"t": {"use": "shout", "with": {"text": "🦊"}}}, "outputs": {"é": "t.text"}})
    running = process("-m", "nodegraph", "show", "w.json", "--svg", "-", env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    said, _ = running.communicate(timeout=60)
    assert "é" in "".join(ElementTree.fromstring(said).itertext())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_what_cannot_be_printed_ends_the_process_with_a_problem():
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-m", "nodegraph", "nodes"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 1
    assert "No space left" in ended.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_what_is_told_beside_results_may_be_lost():
    write(SUM)
    command = [sys.executable, "-m", "nodegraph", "run", "w.json"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, text=True)
        assert (ended.returncode, ended.stdout) == (0, "3\n")
        assert subprocess.run([*command, "--set", "a=x"], stderr=full).returncode == 2


def test_who_reads_what_is_told_may_go_away_and_ctrl_c_still_cancels():
    write({"nodes": {"w": {"use": "wait", "with": {"seconds": 60.0}}}, "outputs": {"w": "w.float"}})
    running = process("-m", "nodegraph", "run", "w.json", "--events", "jsonl")
    running.stderr.close()
    running.stderr = None
    read_until(running, '"progress"')
    os.kill(running.pid, signal.SIGINT)
    said, _ = running.communicate(timeout=30)
    assert running.returncode == 130
    assert json.loads(said.splitlines()[-1])["status"] == "cancelled"


def test_a_file_among_the_results_is_its_path(capsys):
    choose = {"use": "switch", "with": {"condition": True}, "from": {"on_true": "inputs.f", "on_false": "inputs.f"}}
    many = {"use": "make_list", "from": {"items": ["inputs.f"]}}
    write({"inputs": {"f": {"type": "file"}}, "nodes": {"c": choose, "l": many}, "outputs": {"one": "c.value", "list": "l.value"}})
    path = str(Path("w.json").resolve())
    assert main(["run", "w.json", "--set", "f=w.json"]) == 0
    assert capsys.readouterr().out == f'{path}\n["{path}"]\n'
    assert main(["run", "w.json", "--set", "f=w.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == {"one": path, "list": [path]}


@pytest.mark.skipif(os.name == "nt", reason="a shell closes them")
@pytest.mark.parametrize(("closed", "said", "told"), [(">&-", "", True), ("2>&-", "3\n", False), ("<&- >&- 2>&-", "", False)])
def test_streams_that_are_closed_from_the_start(closed, said, told):
    write(SUM)
    command = ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-m", "nodegraph", "run", "w.json"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, said)
    assert ("ok: 1 step run" in ended.stderr) == told


def test_the_process_calls_what_libraries_have_registered_for_its_end():
    code = "import atexit; atexit.register(print, 'registered'); from nodegraph.cli import program; program()"
    ended = subprocess.run([sys.executable, "-c", code, "types"], capture_output=True, text=True)
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-1] == "registered"


def test_the_process_waits_for_threads_that_a_pack_has_left_at_work():
    code = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from nodegraph.cli import program
ThreadPoolExecutor().submit(lambda: (time.sleep(0.3), sys.stdout.write("pooled\\n")))
threading.Thread(target=lambda: (time.sleep(0.3), sys.stdout.write("threaded\\n"))).start()
program()
"""
    ended = subprocess.run([sys.executable, "-c", code, "types"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0
    assert {"pooled", "threaded"} <= set(ended.stdout.splitlines())


def test_an_int_of_any_size_is_printed():
    """Python itself refuses to write more than 4300 digits."""
    count = 5000
    write({"inputs": {"n": {"type": "int"}}, "nodes": {"w": {"use": "integer", "from": {"value": "inputs.n"}}}, "outputs": {"n": "w.int"}})
    said = subprocess.run([sys.executable, "-m", "nodegraph", "run", "w.json", "--set", f"n={'7' * count}"], capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "7" * count + "\n")


def test_a_value_that_cannot_be_read_is_told_of_and_not_what_it_was_to_replace(capsys: Capture) -> None:
    """What was said was that the default is not here, to somebody who had given a file and misspelled it."""
    inputs = {"file": {"type": "file", "default": "gone.txt"}, "other": {"type": "file", "default": "gone.txt"}}
    path = write({"inputs": inputs, "nodes": {"same": {"use": "load_text", "with": {"file": "lost.txt"}}}})
    Path("here.txt").write_text("here")
    command = ["run", path, "--set", "other=here.txt"]
    for wrong, where in ((["--set", "file=typo.txt"], "--set file"), (["--sweep", "file=here.txt,typo.txt"], "--sweep file")):
        assert main([*command, "--set", "same.file=here.txt", *wrong]) == 2
        assert problem_lines(capsys) == ["error[bad-value] cannot read 'typo.txt': No such file or directory", f"  at  {where}"]
    assert main([*command, "--set", "file=typo.txt"]) == 2
    assert problem_lines(capsys) == ["error[file-missing] there is no file 'lost.txt'", "  at  w.json:1:169: nodes.same.with.file"]


def problem_lines(capsys: Capture) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith(("error", "  at"))]
