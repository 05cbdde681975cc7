"""Reading workflow files, and what a workflow knows of itself. What can be wrong with one is in test_check."""

from __future__ import annotations

import json
import os

import pytest
from cases import ADD_ONE, bare_engine, using

from nodegraph import Engine, Workflow, WorkflowInvalid
from nodegraph.workflow import is_path


def test_what_is_read_is_written():
    record = {
        "nodegraph": 1, "name": "n", "doc": "d", "requires": {"core": ">=1"},
        "inputs": {"x": {"type": "int", "default": None, "min": 1.0}},
        "nodes": {"a": {"use": "add", "from": {"a": "inputs.x"}, "each": {"b": [1, 2]}}, "b": {"use": {"nodegraph": 1, "nodes": {}}}},
        "outputs": {"out": ["a.int"]},
    }  # fmt: skip
    assert Workflow.of(record).to_json() == record
    assert Workflow.read(json.dumps(record)).to_json() == record


def test_texts_for_people_and_layout_are_no_part_of_the_digest():
    one = Workflow.read(json.dumps(ADD_ONE))
    other = Workflow.read(json.dumps({**ADD_ONE, "name": "other", "doc": "x"}, indent=4))
    changed = Workflow.of({**ADD_ONE, "outputs": {}})
    assert one.digest() == other.digest() != changed.digest()


def test_byte_order_mark_is_read(tmp_path):
    (tmp_path / "w.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(ADD_ONE).encode())
    assert Workflow.load(tmp_path / "w.json").folder == tmp_path.resolve()


def test_python_names_of_fields_are_no_keys():
    with pytest.raises(WorkflowInvalid, match="'from_' is no key here"):
        Workflow.of({"nodes": {"a": {"use": "add", "from_": {}}}})


@pytest.mark.parametrize(
    ("use", "path"), [("add", False), ("pack/add", False), ("a.json", True), ("./a", True), ("../a", True), ("/a", True)]
)
def test_what_names_a_file(use, path):
    assert is_path(use) == path


@pytest.mark.parametrize(("limit", "given"), [("1e999", "inf"), ("-1e999", "-inf"), ("9" * 400, "a number of 1329 bits")])
def test_bounds_of_inputs_are_finite(limit, given):
    with pytest.raises(WorkflowInvalid) as caught:
        Workflow.read('{"inputs": {"a": {"type": "int", "max": LIMIT}}}'.replace("LIMIT", limit))
    [found] = caught.value.problems
    assert (found.where, found.text) == ("inputs.a.max", f"'inputs.a.max' must be a finite number, but is {given}")
    assert found.fix == "leave it out, or write a number between -1e308 and 1e308"


# -- what is looked up again ---------------------------------------------------------------------------------------


def test_a_changed_file_is_read_again(tmp_path):
    """Also one that is used by a file that has not changed."""
    parent = {"nodes": {"a": {"use": "./mid.json"}}}
    (tmp_path / "main.json").write_text(json.dumps(parent))
    (tmp_path / "mid.json").write_text(json.dumps({"nodes": {"a": {"use": "./leaf.json", "with": {"n": 1}}}}))
    (tmp_path / "leaf.json").write_text(json.dumps(ADD_ONE))
    with bare_engine() as engine:
        main = Workflow.load(tmp_path / "main.json")
        assert engine.check(main) == []
        (tmp_path / "leaf.json").write_text(json.dumps({**ADD_ONE, "nodes": {"add": using("ad", a=1)}, "name": "longer"}))
        assert [problem.code for problem in engine.check(main)] == ["unknown-node"]
        (tmp_path / "leaf.json").write_text(json.dumps(ADD_ONE))
        assert engine.check(main) == []


def test_many_uses_of_one_file_are_compiled_once(tmp_path):
    """Files that each use the next one twice: linear, not exponential."""
    for number in range(30):
        twice = {name: {"use": f"./w{number + 1}.json", "with": {"n": 1}} for name in ("a", "b")}
        record = {"inputs": {"n": {"type": "int", "default": 0}}, "nodes": twice if number < 29 else {}}
        (tmp_path / f"w{number}.json").write_text(json.dumps(record))
    with bare_engine() as engine:
        assert engine.check(tmp_path / "w0.json") == []


def test_links_out_of_the_folder_are_followed_to_where_they_lead(tmp_path):
    (tmp_path / "secret").write_text("x")
    folder = tmp_path / "here"
    folder.mkdir()
    os.symlink(tmp_path / "secret", folder / "link")
    os.symlink(tmp_path, folder / "up")
    os.symlink(folder / "circle", folder / "circle")
    nodes = {name: using("open_file", file=path) for name, path in {"a": "link", "b": "up/secret", "c": "circle"}.items()}
    (folder / "main.json").write_text(json.dumps({"nodes": nodes}))
    with bare_engine() as engine:
        assert [problem.code for problem in engine.check(folder / "main.json")] == ["path-outside", "path-outside", "file-missing"]
    with bare_engine(roots=[tmp_path]) as engine:
        assert [problem.code for problem in engine.check(folder / "main.json")] == ["file-missing"]


def looped(place: str) -> dict:
    """A loop whose body, which reads a file beside it, is written as a literal, as a default, or in a file."""
    turn = {"inputs": {"value": {"type": "text"}}, "nodes": {"t": {"use": "load_text"}}, "outputs": {"value": "t.text"}}
    if place == "default inside":
        turn["inputs"]["file"] = {"type": "file", "default": "a.txt"}
        turn["nodes"]["t"]["from"] = {"file": "inputs.file"}
    else:
        turn["nodes"]["t"]["with"] = {"file": "a.txt"}
    body = {"nodes": {"it": {"use": turn, "from": {"value": "inputs.value"}}}, "inputs": {"value": {"type": "text"}}}
    body["outputs"] = {"value": "it.value"}
    loop = {"use": "repeat", "with": {"value": "", "count": 2, "body": body}}
    flow = {"nodegraph": 1, "nodes": {"loop": loop}, "outputs": {"text": "loop.value"}}
    if place == "default":
        del loop["with"]["body"]
        loop["from"] = {"body": "inputs.body"}
        flow["inputs"] = {"body": {"type": "workflow", "default": body}}
    return flow


@pytest.mark.parametrize("place", ["literal", "default", "default inside"])
def test_a_workflow_that_is_a_value_reads_the_files_of_its_own_folder(tmp_path, monkeypatch, place):
    """One of the same words in another folder gave what the first had given; as a default it read those of the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "other", "."):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "a.txt").write_text(f"in {name}")
        (tmp_path / name / "flow.json").write_text(json.dumps(looped(place)))
    with Engine(cache=False) as engine:
        for name in ("one", "other", "one"):
            assert engine.run(f"{name}/flow.json").outputs == {"text": f"in {name}"}


def test_very_many_problems_take_linear_time():
    """One mistake in each of 20,000 nodes; seconds, not hours."""
    nodes = {f"n{number}": using("cut", from_={"image": f"n{number - 1}.mask"}) for number in range(1, 20_001)}
    nodes["n0"] = using("number")
    text = json.dumps({"nodes": nodes}, indent=1)
    with bare_engine() as engine:
        problems = engine.check(Workflow.read(text))
    assert len(problems) == 20_000
    assert problems[-1].line > problems[0].line > 1


def test_a_file_that_cannot_be_read_is_not_what_was_meant(tmp_path):
    (tmp_path / "main.json").mkdir()
    with pytest.raises(WorkflowInvalid) as caught:
        Workflow.load(tmp_path / "main.json")
    assert [(one.code, one.fix) for one in caught.value.problems] == [("file-missing", "give the path of a workflow file")]
    (tmp_path / "mian.json").write_text("{}")
    with pytest.raises(WorkflowInvalid, match=r"did you mean 'mian\.json'"):
        Workflow.load(tmp_path / "main.json")


# --- literals that are set -----------------------------------------------------------------------------------------


def test_a_workflow_with_literals_set_is_still_of_its_file(tmp_path):
    """Its problems had no line, and workflows inside of it looked for files in the working folder."""
    (tmp_path / "text.txt").write_text("here")
    inner = {"nodes": {"load": {"use": "load_text", "with": {"file": "text.txt"}}}, "outputs": {"text": "load.text"}}
    nodes = {"inner": {"use": inner}, "other": {"use": "load_text", "with": {"file": "text.txt"}}}
    path = tmp_path / "flow.json"
    path.write_text(json.dumps({"nodegraph": 1, "nodes": nodes, "outputs": {"text": "inner.text"}}, indent=1))
    with Engine(cache=False) as engine:
        result = engine.submit(path, overrides={"other.file": "./text.txt"}).result()
        assert (result.outputs, result.problems) == ({"text": "here"}, ())
        with pytest.raises(WorkflowInvalid) as caught:
            engine.submit(path, overrides={"other.file": "nowhere.txt"})
    [problem] = caught.value.problems
    line = path.read_text().splitlines()[problem.line - 1]
    assert (problem.code, problem.file, line.strip()) == ("file-missing", str(path), '"file": "text.txt"')
