"""`nodegraph watch`: saves of every kind, what runs again, what is shown."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from toys import PAINT, toys, write  # noqa: F401

from nodegraph import Engine, Workflow, metadata
from nodegraph.cli import main
from nodegraph.cli.watching import _Row, tree_of
from nodegraph.events import Event
from nodegraph.live import Live, Round

PATIENCE = 30.0


class Recorder:
    """A view that remembers what it was told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.begun: list[Round] = []
        self.events: list[tuple[int, Event]] = []
        self.ended: list[Any] = []
        self.problems: list[tuple[list[str], bool]] = []
        self._news = threading.Condition()

    def begin(self, this: Round) -> None:
        self._note(self.begun, this)

    def event(self, this: Round, event: Event) -> None:
        self._note(self.events, (this.number, event))

    def end(self, this: Round, result: Any, files: Mapping[str, list[Path]], seconds: float) -> None:
        self._note(self.ended, (this, result, files))

    def wrong(self, problems: Any, kept: bool) -> None:
        self._note(self.problems, ([problem.code for problem in problems], kept))

    def _note(self, where: list[Any], what: Any) -> None:
        with self._news:
            where.append(what)
            self._news.notify_all()

    def wait_for(self, ready: Callable[[], Any], patience: float = PATIENCE) -> None:
        with self._news:
            assert self._news.wait_for(ready, patience), "it did not come"

    def round(self, number: int) -> tuple[dict[str, str], Any, Mapping[str, list[Path]]]:
        """The states of the steps of the n-th round that ended, its result and its files."""
        self.wait_for(lambda: len(self.ended) >= number)
        this, result, files = self.ended[number - 1]
        kinds = {event.node: event.kind for at, event in self.events if at == this.number and event.node}
        return kinds, result, files


@pytest.fixture
def watched(toys: Path) -> Iterator[Callable[..., Recorder]]:  # noqa: F811
    """Watches a workflow in a thread: `watched("w.json", level=0.5)`."""
    lives: list[tuple[Live, threading.Thread, Engine]] = []

    def start(path: str, files: tuple[str, ...] = (), **inputs: Any) -> Recorder:
        engine, view = Engine(), Recorder()

        def read(workflow: Workflow) -> Any:
            return workflow, inputs, inputs, {}, [Path(one) for one in files]

        live = Live(engine, Path(path), read, [view], Path("out"))
        thread = threading.Thread(target=live.forever, daemon=True)
        thread.start()
        lives.append((live, thread, engine))
        return view

    yield start
    for live, thread, engine in lives:
        live.close()
        thread.join(PATIENCE)
        engine.close()
        assert not thread.is_alive()


def saved(data: Any, name: str = "w.json") -> None:
    """Save as many editors do: write aside, and rename."""
    write(data, f".{name}.aside")
    os.replace(f".{name}.aside", name)


def replaced(text: str, name: str) -> None:
    """The same with any text: nobody sees the file while it is empty."""
    Path(".aside").write_text(text)
    os.replace(".aside", name)


def changed(amount: float) -> dict[str, Any]:
    return {**PAINT, "nodes": {**PAINT["nodes"], "dim": {**PAINT["nodes"]["dim"], "with": {"amount": amount}}}}


def test_only_what_changed_runs_again(watched: Callable[..., Recorder]) -> None:
    write(PAINT)
    view = watched("w.json")
    assert view.round(1)[0] == {"paint": "finished", "dim": "finished"}
    saved(changed(0.5))
    kinds, _, files = view.round(2)
    assert kinds == {"paint": "cached", "dim": "finished"}
    assert files == {"image": [Path("out/grey-image.png")]}
    assert metadata.read(files["image"][0])["workflow"]["nodes"]["dim"]["with"] == {"amount": 0.5}
    write(changed(0.25))  # written in place, and as it was before
    assert view.round(3)[0] == {"dim": "cached"}
    assert [path.name for path in Path("out").iterdir()] == ["grey-image.png"]


def test_a_broken_file_shows_its_problems_and_waits(watched: Callable[..., Recorder]) -> None:
    write("{")
    view = watched("w.json")
    view.wait_for(lambda: view.problems)
    saved({**PAINT, "outputs": {"image": "dim.imag"}})
    view.wait_for(lambda: len(view.problems) == 2)
    assert view.problems == [(["bad-json"], False), (["unknown-output"], False)]
    saved(PAINT)
    assert view.round(1)[1].ok


def test_a_file_that_vanishes_is_waited_for(watched: Callable[..., Recorder]) -> None:
    write(PAINT)
    view = watched("w.json")
    view.round(1)
    Path("w.json").unlink()
    view.wait_for(lambda: view.problems)
    assert view.problems == [(["file-missing"], False)]
    write(changed(0.75))
    view.round(2)


def test_a_save_cancels_the_run(watched: Callable[..., Recorder]) -> None:
    slow = {"nodes": {"w": {"use": "wait", "with": {"seconds": 600.0}}}, "outputs": {"s": "w.float"}}
    write(slow)
    view = watched("w.json")
    view.wait_for(lambda: any(event.kind == "progress" for _, event in view.events))
    saved({**slow, "nodes": {"w": {"use": "wait", "with": {"seconds": 0.01}}}})
    _, result, _ = view.round(1)
    assert result.outputs == {"s": 0.01}
    assert len(view.begun) == 2


def test_workflows_inside_and_files_are_watched(watched: Callable[..., Recorder]) -> None:
    Path("note.txt").write_text("one")
    Path("given.txt").write_text("a")
    inner = {"nodes": {"r": {"use": "read", "with": {"file": "note.txt"}}}, "outputs": {"text": "r.text"}}
    write(inner, "inner.json")
    flow = {
        "inputs": {"file": {"type": "file"}},
        "nodes": {"in": {"use": "./inner.json"}, "g": {"use": "read", "from": {"file": "inputs.file"}}},
        "outputs": {"text": "in.text", "given": "g.text"},
    }
    write(flow)
    view = watched("w.json", files=("given.txt",), file="given.txt")
    assert view.round(1)[1].outputs == {"text": "one", "given": "a"}
    replaced("other", "note.txt")
    assert view.round(2)[1].outputs == {"text": "other", "given": "a"}
    replaced("bc", "given.txt")
    assert view.round(3)[1].outputs == {"text": "other", "given": "bc"}
    saved({**inner, "outputs": {"text": "r.text"}, "doc": "saved"}, "inner.json")
    assert view.round(4)[1].ok


def test_what_a_workflow_names_is_waited_for_while_it_is_broken_or_missing(watched: Callable[..., Recorder]) -> None:
    inner = {"nodes": {"r": {"use": "read", "with": {"file": "note.txt"}}}, "outputs": {"text": "r.text"}}
    flow = {"nodes": {"in": {"use": "./inner.json"}}, "outputs": {"text": "in.text"}}
    write(flow)
    view = watched("w.json")
    codes = lambda: [codes[0] for codes, _ in view.problems]  # noqa: E731
    view.wait_for(lambda: codes() == ["file-missing"])
    replaced("{", "inner.json")
    view.wait_for(lambda: codes() == ["file-missing", "bad-json"])
    saved(inner, "inner.json")
    view.wait_for(lambda: codes() == ["file-missing", "bad-json", "file-missing"])
    replaced("one", "note.txt")
    assert view.round(1)[1].outputs == {"text": "one"}
    Path("note.txt").unlink()
    view.wait_for(lambda: len(view.problems) == 4)
    replaced("other", "note.txt")
    assert view.round(2)[1].outputs == {"text": "other"}


def test_the_file_of_an_input_that_nobody_gives_is_watched(watched: Callable[..., Recorder]) -> None:
    replaced("one", "note.txt")
    inputs = {"file": {"type": "file", "default": "note.txt"}}
    write({"inputs": inputs, "nodes": {"r": {"use": "read", "from": {"file": "inputs.file"}}}, "outputs": {"text": "r.text"}})
    view = watched("w.json")
    assert view.round(1)[1].outputs == {"text": "one"}
    replaced("other", "note.txt")
    assert view.round(2)[1].outputs == {"text": "other"}


def test_a_folder_that_is_made_again_is_watched_again(watched: Callable[..., Recorder]) -> None:
    Path("in").mkdir()
    replaced("0", "in/note.txt")
    write({"nodes": {"r": {"use": "read", "with": {"file": "in/note.txt"}}}, "outputs": {"text": "r.text"}})
    view = watched("w.json")
    assert view.round(1)[1].outputs == {"text": "0"}
    for number in (1, 2):
        shutil.rmtree("in")
        view.wait_for(lambda many=number: len(view.problems) == many)
        Path("in").mkdir()
        replaced(f"{number}", "in/note.txt")
        view.wait_for(lambda text=f"{number}": view.ended[-1][1].outputs == {"text": text})


def test_a_save_just_after_the_first_result_is_seen(watched: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are watched before a run reads them, not when it is under way."""
    submit = Live._submit

    def slow(self: Live, *given: Any) -> Any:
        this = submit(self, *given)
        time.sleep(0.3)
        return this

    monkeypatch.setattr(Live, "_submit", slow)
    Path("note.txt").write_text("one")
    write({"nodes": {"r": {"use": "read", "with": {"file": "note.txt"}}}, "outputs": {"text": "r.text"}})
    view = watched("w.json")
    assert view.round(1)[1].outputs == {"text": "one"}
    replaced("two", "note.txt")
    assert view.round(2)[1].outputs == {"text": "two"}


def test_a_saved_pack_runs_again_and_a_broken_one_stays_as_it_was(watched: Callable[..., Recorder], toys: Path) -> None:  # noqa: F811
    write(PAINT)
    view = watched("w.json")
    first = view.round(1)[1].outputs["image"].numpy()
    module = toys / "packs" / "toy" / "toys.py"
    text = module.read_text()
    module.write_text(text.replace("image.numpy() * (1 - amount)", "image.numpy() * 0"))
    assert view.round(2)[1].outputs["image"].numpy().max() == 0 < first.max()
    module.write_text(text + "\n\ndef (")
    view.wait_for(lambda: view.problems)
    assert view.problems == [(["bad-module"], True)]
    module.write_text(text)
    view.wait_for(lambda: len(view.ended) >= 3)
    assert (view.ended[-1][1].outputs["image"].numpy() == first).all()


@pytest.mark.parametrize("more", ["", "\n\ndef ("])
def test_a_pack_that_is_saved_as_it_was_or_broken_cancels_nothing(more: str, watched: Callable[..., Recorder], toys: Path) -> None:  # noqa: F811
    module = toys / "packs" / "toy" / "toys.py"
    text = module.read_text()
    write({"nodes": {"w": {"use": "wait", "with": {"seconds": 2.0}}}, "outputs": {"s": "w.float"}})
    view = watched("w.json")
    view.wait_for(lambda: any(event.kind == "progress" for _, event in view.events))
    module.write_text(text + more)
    if more:
        view.wait_for(lambda: view.problems)
    assert view.round(1)[1].outputs == {"s": 2.0}
    assert len(view.begun) == 1


def test_a_workflow_that_reads_what_it_wrote_comes_to_rest(watched: Callable[..., Recorder]) -> None:
    flow = {
        "name": "loop",
        "nodes": {"own": {"use": "load_image", "with": {"file": "out/loop-image.png"}}, "p": {"use": "paint"}},
        "outputs": {"image": "p.image", "before": "own.image"},
    }
    Path("out").mkdir()
    PIL.Image.new("RGB", (8, 8)).save("out/loop-image.png")
    write(flow)
    view = watched("w.json")
    view.round(1)
    with pytest.raises(AssertionError, match="it did not come"):
        view.wait_for(lambda: len(view.ended) >= 2, 1.0)
    PIL.Image.new("RGB", (8, 8), "red").save("out/loop-image.png")  # somebody else's change counts
    view.round(2)


def test_fewer_pictures_leave_none_behind(watched: Callable[..., Recorder]) -> None:
    flow = {"name": "many", "nodes": {"p": {"use": "paint", "each": {"level": [0.1, 0.2, 0.3]}}}, "outputs": {"images": "p.image"}}
    write(flow)
    view = watched("w.json")
    view.round(1)
    assert len(list(Path("out").iterdir())) == 3
    saved({**flow, "nodes": {"p": {"use": "paint", "each": {"level": [0.1]}}}})
    view.round(2)
    assert [path.name for path in Path("out").iterdir()] == ["many-images-01.png"]


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_the_tree_of_nodes() -> None:
    from rich.console import Console

    rows = {
        "model": _Row("cached", "cached", "1.2 KiB"),
        "paint": _Row("running"),
        "late": _Row(),
        "paint/sample": _Row("running", "12/20"),
        "paint/decode": _Row("failed"),
    }
    console = Console(file=io.StringIO(), width=60)
    console.print(tree_of("flow", rows, ["ok in 1.00 s"]))
    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == [  # type: ignore[attr-defined]
        "flow",
        "├── ● model  cached  1.2 KiB",
        "├── ▶ paint",
        "│   ├── ✗ decode",
        "│   └── ▶ sample  12/20",
        "└── ○ late",
        "ok in 1.00 s",
    ]


def test_the_command(toys: Path) -> None:  # noqa: F811
    write(PAINT)
    command = [sys.executable, "-m", "nodegraph", "watch", "w.json", "--set", "level=1", "--set", "seed=random"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None

    def until(text: str) -> list[str]:
        seen = []
        for line in running.stdout or ():
            seen.append(line.rstrip())
            if text in line:
                return seen
        raise AssertionError(f"it ended without {text!r}, after {seen}")

    first = until("image:")
    assert first[-1] == "  image: out/grey-image.png"
    assert "2 steps run, 0 from the cache" in first[-2]
    saved(changed(0.9))
    again = until("image:")
    assert again[0] == "saved: w.json"
    assert "1 step run, 1 from the cache" in again[-2]
    saved("{")
    assert until("waiting")[-1] == "waiting for a save"
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0
    assert said.startswith("seed = ")
    with PIL.Image.open("out/grey-image.png") as picture:
        assert picture.size == (8, 8)


@pytest.mark.parametrize("port", ["taken", "99999"])
def test_a_port_that_cannot_be_had(port: str, toys: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1]) if port == "taken" else port
        Path("w.json").write_text('{"nodegraph": 1, "nodes": {}}')
        assert main(["watch", "w.json", "--port", port]) == 2
    assert f"error[bad-value] the page cannot be served at port {port}: " in capsys.readouterr().err


@pytest.mark.parametrize(("reader", "code", "told"), [("gone", 0, ""), ("full", 1, "error[system] No space left on device\n")])
def test_the_command_ends_when_nobody_can_read_it(toys: Path, reader: str, code: int, told: str) -> None:  # noqa: F811
    write(PAINT)
    if reader == "full" and not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    stdout = subprocess.PIPE if reader == "gone" else os.open("/dev/full", os.O_WRONLY)
    running = subprocess.Popen([sys.executable, "-m", "nodegraph", "watch", "w.json"], stdout=stdout, stderr=subprocess.PIPE, text=True)
    if running.stdout is not None:
        running.stdout.close()
        running.stdout = None
    else:
        os.close(stdout)
    try:
        _, said = running.communicate(timeout=PATIENCE)
    finally:
        running.kill()
    assert (running.returncode, said) == (code, told)
