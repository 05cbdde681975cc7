"""Files are looked at once in a moment, and anew in the next."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter

import pytest
from cases import bare_engine

from nodegraph import ModelRef, looks, node


@node
def name_of(model: ModelRef, add: int = 0) -> str:
    return f"{model.name}{add}"


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
