"""What is seen of files that change, with the file system's own events."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from cases import bare_engine
from small_packs import body, using, write

from nodegraph.watch import PackWatcher, Watcher

LONG = 10.0
"""Seconds to wait for what must come. What must not come is shown by what comes after it."""


def gathered(watcher: Watcher, *wanted: Path) -> set[Path]:
    """All changes until those that are wanted have come."""
    seen: set[Path] = set()
    while not seen.issuperset(wanted):
        changed = watcher.changes(LONG)
        assert changed, f"never saw {set(wanted) - seen}, but {seen}"
        seen |= changed
    return seen


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "flow.json").write_text("{}")
    return tmp_path.resolve()


def test_files_and_folders(folder):
    with Watcher([folder / "flow.json", folder / "later.txt", folder / "in"]) as watcher:
        (folder / "beside.txt").write_text("nobody asked")
        (folder / "in" / "deep" / "a.txt").write_text("1")
        (folder / "later.txt").write_text("it is here now")
        aside = folder / "flow.json.new"
        aside.write_text('{"a": 1}')
        os.replace(aside, folder / "flow.json")
        wanted = {folder / "flow.json", folder / "later.txt", folder / "in" / "deep" / "a.txt"}
        assert gathered(watcher, *wanted) == wanted
        (folder / "in" / "deep" / "a.txt").unlink()
        assert gathered(watcher, folder / "in" / "deep" / "a.txt") == {folder / "in" / "deep" / "a.txt"}


def test_reading_and_passing_files_are_no_changes(folder):
    with Watcher([folder / "in", folder / "flow.json"]) as watcher:
        (folder / "flow.json").read_text()
        for name in (".hidden", "notes.txt~", ".notes.txt.swp", "x.part"):
            (folder / "in" / name).write_text("x")
        (folder / "in" / "__pycache__").mkdir()
        (folder / "in" / "__pycache__" / "a.pyc").write_text("x")
        (folder / "in" / "last.txt").write_text("x")
        assert gathered(watcher, folder / "in" / "last.txt") == {folder / "in" / "last.txt"}


def test_changes_come_together(folder):
    """Saves in a row are told at once, when all is quiet; however long it goes on, they are told at some time."""
    with Watcher([folder / "in"], quiet=0.3) as watcher:
        files = [folder / "in" / f"{number}.txt" for number in range(50)]
        for file in files:
            file.write_text("x")
        assert watcher.changes(LONG) == set(files)
    with Watcher([folder / "in"], quiet=60, longest=0.2) as watcher:
        files[0].write_text("y")
        assert watcher.changes(LONG) == {files[0]}


def test_other_paths_from_now_on(folder):
    with Watcher([folder / "flow.json"]) as watcher:
        watcher.watch([folder / "in" / "deep" / "b.txt"])
        (folder / "flow.json").write_text("1")
        (folder / "in" / "deep" / "b.txt").write_text("1")
        assert gathered(watcher, folder / "in" / "deep" / "b.txt") == {folder / "in" / "deep" / "b.txt"}


def test_waiting_ends(folder):
    with Watcher([folder]) as watcher:
        assert watcher.changes(timeout=0.01) == frozenset()
        closer = threading.Timer(0.05, watcher.close)
        closer.start()
        assert list(watcher) == []
        watcher.close()
    assert watcher.changes(LONG) == frozenset()


def test_where_the_system_watches_nothing(folder, monkeypatch):
    """As when the limit of watches is reached: files are looked at again and again."""
    from watchdog.observers.api import BaseObserver

    import nodegraph.watch

    class Refuses(BaseObserver):
        def __init__(self):
            super().__init__(object)

        def schedule(self, *args, **options):
            raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(nodegraph.watch, "Observer", Refuses)
    with Watcher([folder / "flow.json"]) as watcher:
        (folder / "flow.json").write_text("changed, and longer")
        assert watcher.changes(LONG) == {folder / "flow.json"}


def test_saved_pack_runs_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("nodegraph.settings.builtin_packs", lambda: tmp_path / "none")
    packs = tmp_path.resolve() / "packs"
    write(packs / "mine", nodes=body("plum", "value + 1"))
    flow = tmp_path.resolve() / "flow.json"
    flow.write_text("{}")
    with bare_engine(packs=[packs]) as engine, PackWatcher(engine, [flow]) as watcher:
        assert engine.run(using("plum")).outputs["out"] == 2
        (packs / "mine" / "README.md").write_text("no code")
        write(packs / "mine", nodes=body("plum", "value + 5"))
        changed = gathered(watcher, packs / "mine" / "nodes.py")
        assert packs / "mine" / "README.md" not in changed
        assert engine.reload(changed).changed == ("mine",)
        assert engine.run(using("plum")).outputs["out"] == 6
        write(packs / "fresh", nodes=body("pear", "7"))
        flow.write_text("{ }")
        changed = gathered(watcher, packs / "fresh" / "nodes.py", packs / "fresh" / "pack.toml", flow)
        assert engine.reload(changed).changed == ("fresh",)
        assert engine.run(using("pear")).outputs["out"] == 7
        assert not engine.reload([flow])
