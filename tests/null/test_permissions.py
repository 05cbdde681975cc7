"""Files and folders that whoever runs this may not read or enter: told where they are named, and in the way of nothing else."""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, cli
from nodegraph.literals import Refused
from nodegraph.models import ModelFolder
from nodegraph.replay import _holds
from nodegraph.settings import nearest


@pytest.fixture
def close(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a folder one that may not be entered, for the superuser too."""

    def closing(folder: Path) -> None:
        def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
            def asked(path: Any = ".", *args: Any, **named: Any) -> Any:
                text = "" if isinstance(path, int) else os.fspath(path)
                if text.startswith(f"{folder}/") or (text == str(folder) and call in looking):
                    raise PermissionError(13, "Permission denied", text)
                return call(path, *args, **named)

            return asked

        looking = (os.listdir, os.scandir)
        for owner, name in ((os, "stat"), (os, "lstat"), (os, "listdir"), (os, "scandir"), (builtins, "open")):
            monkeypatch.setattr(owner, name, guarded(getattr(owner, name)))

    return closing


def test_a_closed_folder_of_models_hides_no_others(tmp_path, close):
    for path in (tmp_path / "closed" / "one", tmp_path / "open" / "two", tmp_path / "open" / "shut"):
        path.mkdir(parents=True)
        (path / "config.json").write_text('{"nodegraph_kind": "toy"}', encoding="utf-8")
    close(tmp_path / "closed")
    close(tmp_path / "open" / "shut")
    models = ModelFolder([tmp_path / "closed", tmp_path / "open"], lambda path: b"")
    assert [one.name for one in models.list()] == ["two"]
    assert models.model("two", "toy") == "two"
    with pytest.raises(Refused, match=f"but the folder of models '{tmp_path}/closed' cannot be read: Permission denied"):
        models.model("one", "")
    with pytest.raises(Refused, match="the model 'shut' cannot be read: Permission denied"):
        models.model("shut", "")
    with pytest.raises(Refused, match="cannot be read: Permission denied"):
        models.add(tmp_path / "closed" / "one")
    workflow = {"nodes": {"model": {"use": "load_model", "with": {"name": "one"}}}, "outputs": {"vae": "model.vae"}}
    with Engine(cache=False, models=[tmp_path / "closed"]) as engine:
        (problem,) = engine.check(workflow)
    assert problem.code == "unknown-model"


def test_a_settings_file_is_looked_for_where_that_is_allowed(tmp_path, close):
    (tmp_path / "closed" / "within").mkdir(parents=True)
    (tmp_path / "nodegraph.toml").touch()
    close(tmp_path / "closed")
    assert nearest(tmp_path / "closed" / "within") == tmp_path / "nodegraph.toml"


def test_a_workflow_in_a_closed_folder_is_told_as_one_that_cannot_be_read(tmp_path, close, capsys):
    path = tmp_path / "closed" / "a.json"
    path.parent.mkdir()
    path.write_text("{}", encoding="utf-8")
    close(path.parent)
    assert cli.main(["check", str(path), "--json"]) == cli.WRONG
    (problem,) = json.loads(capsys.readouterr().out)
    assert problem["code"] == "file-missing"
    assert problem["message"] == f"cannot read '{path}': Permission denied"


def test_a_recorded_file_that_may_not_be_read_is_not_here(tmp_path, close):
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "a.png").touch()
    close(tmp_path / "closed")
    assert not _holds(tmp_path / "closed" / "a.png", "00")
