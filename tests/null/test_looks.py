"""Files are looked at once in a moment, and anew in the next."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from unittest.mock import Mock

import pytest
from cases import bare_engine

from nodegraph import ModelRef, Workflow, looks, node


@node
def name_of(model: ModelRef, add: int = 0) -> str:
    return f"{model.name}{add}"


@node
def counted(value: int) -> int:
    return value


def test_a_moment_stands_still(tmp_path):
    file, missing = tmp_path / "here", tmp_path / "missing"
    file.write_text("1")
    with looks.Moment():
        assert (looks.stat(file).st_size, looks.exists(missing)) == (1, False)
        file.write_text("more")
        missing.mkdir()
        with looks.Moment():
            assert (looks.stat(str(file)).st_size, looks.is_dir(missing)) == (1, False)
        assert (looks.stat(file).st_size, looks.exists(missing)) == (1, False)
        with pytest.raises(FileNotFoundError) as raised:
            looks.stat(missing)
        assert (raised.value.errno, raised.value.filename) == (2, str(missing))
        seen: list[int] = []
        other = threading.Thread(target=lambda: seen.append(looks.stat(file).st_size))
        other.start()
        other.join()
        assert seen == [4]  # the moment is this thread's alone
    assert looks.stat(file).st_size == 4
    assert (looks.is_file(file), looks.is_dir(missing), looks.is_file(missing), looks.exists(missing)) == (True, True, False, True)
    assert not looks.is_file("no\0path")


def test_a_run_looks_at_each_file_of_a_model_once(tmp_path, monkeypatch):
    for part in ("unet", "vae"):
        (tmp_path / "models" / "tiny" / part).mkdir(parents=True)
        (tmp_path / "models" / "tiny" / part / "config.json").write_text("{}")
    (tmp_path / "models" / "tiny" / "model_index.json").write_text("{}")
    flow = {
        "inputs": {"model": {"type": "model", "default": "tiny"}, "add": {"type": "int", "default": 0}},
        "nodes": {"a": {"use": "name_of", "from": {"model": "inputs.model", "add": "inputs.add"}}},
        "outputs": {"text": "a.text"},
    }
    (tmp_path / "flow.json").write_text(json.dumps(flow))
    looked: Counter[str] = Counter()
    real = os.stat

    def stat(path, *arguments, **options):
        looked[str(getattr(path, "path", path))] += 1
        return real(path, *arguments, **options)

    with bare_engine(nodes=[name_of], models=[tmp_path / "models"]) as engine:
        assert engine.run(tmp_path / "flow.json").outputs["text"] == "tiny0"
        monkeypatch.setattr(os, "stat", stat)
        job = engine.submit(tmp_path / "flow.json", {"add": 1})
        monkeypatch.undo()
        assert job.result().outputs["text"] == "tiny1"
    inside = {path: count for path, count in looked.items() if path.startswith(str(tmp_path / "models"))}
    assert set(inside) >= {str(tmp_path / "models" / "tiny" / file) for file in ("model_index.json", "unet/config.json")}
    assert set(inside.values()) == {1}


def test_a_workflow_that_was_written_long_ago_is_not_read_again(tmp_path, monkeypatch):
    path, long_ago = tmp_path / "flow.json", 10**18
    path.write_text('{"nodegraph": 1, "doc": "one"}')
    fresh = Workflow.load(path)
    path.write_text('{"nodegraph": 1, "doc": "two"}')
    os.utime(path, ns=(long_ago, fresh._stamp[1].mtime_ns))
    assert Workflow.load(path, fresh).doc == "two", "what has only just changed may change again without another time"

    os.utime(path, ns=(long_ago, long_ago))
    settled = Workflow.load(path)
    opened = Mock(wraps=open)
    monkeypatch.setattr("builtins.open", opened)
    assert Workflow.load(path, settled) is settled
    opened.assert_not_called()
    os.utime(path, ns=(long_ago, long_ago + 1))
    assert Workflow.load(path, settled) is settled, "the text is the same"
    opened.assert_called_once()
    monkeypatch.undo()

    (tmp_path / "other").mkdir()
    os.link(path, tmp_path / "other" / "flow.json")
    (tmp_path / "here").symlink_to(tmp_path)
    through = Workflow.load(tmp_path / "here" / "flow.json")
    (tmp_path / "here").unlink()
    (tmp_path / "here").symlink_to(tmp_path / "other")
    moved = Workflow.load(tmp_path / "here" / "flow.json", through)
    assert (through.folder, moved.folder) == (tmp_path, tmp_path / "other"), "its paths start from another folder now"
    path.write_text('{"nodegraph": 1, "doc": "six"}')
    assert Workflow.load(path, settled).doc == "six"


@pytest.mark.parametrize("grain", [1, 10**9])
def test_a_used_workflow_that_changes_at_once_is_read_again(tmp_path, monkeypatch, grain):
    """Also where the clock of files goes in steps."""

    def coarse(path):
        found = looks.stat(path)
        times = (found.st_ctime_ns // grain * grain, found.st_mtime_ns // grain * grain)
        return looks.Stamp(found.st_dev, found.st_ino, found.st_size, *times)

    monkeypatch.setattr(looks, "stamp", coarse)
    inner, outer = tmp_path / "inner.json", tmp_path / "outer.json"

    def write(value):
        record = {"nodegraph": 1, "nodes": {"a": {"use": "counted", "with": {"value": value}}}, "outputs": {"int": "a.int"}}
        inner.write_text(json.dumps(record))
        if grain == 1:
            os.utime(inner, ns=(10**18, 10**18))

    outer.write_text(json.dumps({"nodegraph": 1, "nodes": {"b": {"use": "./inner.json"}}, "outputs": {"int": "b.int"}}))
    with bare_engine(nodes=[counted]) as engine:
        for value in (3, 4, 5):
            write(value)
            assert engine.run(outer).outputs == {"int": value}
