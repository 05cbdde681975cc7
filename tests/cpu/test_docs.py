"""The pages of docs/: every block of code runs, in the order of its page, in an empty folder of its own; what is generated is current.

A block behind `<!-- file: PATH -->` is written to that file. Python without a file is executed. Of shell blocks each line is run. What
a `nodegraph watch` is to see is the block behind it.
"""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nodegraph.cli import main
from nodegraph.codes import CODES, EXAMPLES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GENERATED = ("reference.md", "errors.md", "workflows.md")
PAGES = sorted(path.name for path in DOCS.glob("*.md") if path.name not in GENERATED)
BLOCK = re.compile(r"(?:<!-- (file: (?P<file>\S+)|not run: [^>]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)```", re.DOTALL)


class Page:
    """Goes through a page."""

    def __init__(self, folder: Path, capsys):
        self.folder, self.capsys = folder, capsys
        self.watching: subprocess.Popen | None = None
        self.seen: list[str] = []

    def block(self, match: re.Match) -> None:
        text, language = match["text"], match["language"]
        if (match[1] or "").startswith("not run"):
            return
        if match["file"]:
            self.write(match["file"], text)
        elif language == "sh":
            for line in text.splitlines():
                self.shell(line)
        elif language == "python":
            self.process([sys.executable, "-c", text])
        else:
            raise AssertionError(f"what is to be done with this block?\n{text}")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = len(self.seen)
        path.write_text(text)
        if path.suffix == ".json":
            json.loads(text)
        if self.watching is not None:
            self.wait(lambda: any("ok in" in line for line in self.seen[before:]))
            assert any("saved:" in line and Path(name).name in line for line in self.seen[before:]), self.seen

    def shell(self, line: str) -> None:
        words = [path for word in shlex.split(line) for path in (sorted(glob.glob(word)) if "*" in word else [word])]
        if words[:2] == ["nodegraph", "watch"]:
            self.watch(words)
        elif words[0] == "nodegraph":
            code = main(words[1:])
            said = self.capsys.readouterr()
            assert code == 0, f"{line}\n{said.out}{said.err}"
            assert said.out.strip() or said.err.strip() or words[1] in ("check", "fmt", "packs"), line
        else:
            assert words[0] == "pytest", line
            self.process([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words[1:]])

    def process(self, words: list[str]) -> None:
        done = subprocess.run(words, cwd=self.folder, env=variables(), capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def watch(self, words: list[str]) -> None:
        command = [sys.executable, "-m", "nodegraph", *words[1:]]
        self.watching = subprocess.Popen(
            command, cwd=self.folder, env=variables(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=lambda: [self.seen.append(line) for line in self.watching.stdout], daemon=True).start()
        self.wait(lambda: any("ok in" in line for line in self.seen))

    def wait(self, for_what) -> None:
        """Up to two minutes, which is long enough for a machine that is busy."""
        ended = threading.Event()
        for _ in range(1200):
            if for_what():
                return
            assert self.watching.poll() is None, self.seen
            ended.wait(0.1)
        raise AssertionError(self.seen)

    def close(self) -> None:
        if self.watching is not None:
            self.watching.send_signal(signal.SIGINT)
            self.watching.wait(30)


def variables() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.parametrize("name", PAGES)
def test_every_block_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = Page(tmp_path, capsys)
    try:
        for match in BLOCK.finditer((DOCS / name).read_text(encoding="utf-8")):
            page.block(match)
    finally:
        page.close()


def test_the_walk_goes_where_it_says():
    """Its three nodes are one with a torch model, one with a lazy input, and one that returns a graph."""
    text = (DOCS / "walk_through.md").read_text(encoding="utf-8")
    for word in (
        "torch.nn.Module",
        "Lazy[Image]",
        "return graph.give(",
        "show fox.json --svg",
        "--grid",
        "nodegraph replay",
        "nodegraph watch",
    ):
        assert word in text


@pytest.mark.parametrize("name", GENERATED)
def test_what_is_generated_is_current(name):
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / name).read_text(encoding="utf-8") == module.FILES[name](), "run: python docs/make_reference.py"


def test_every_code_is_in_the_table():
    """And nothing else is: codes are found in the sources as they are written there."""
    pattern = re.compile(r'(?:Problem|report|Refused|problem|_fail|(?<!-)code=)\(?\s*"([a-z]+(?:-[a-z]+)+|cycle|usage|system|internal)"')
    sources = [path.read_text(encoding="utf-8") for folder in ("nodegraph", "nodes") for path in (ROOT / folder).rglob("*.py")]
    used = {code for text in sources for code in pattern.findall(text)}
    assert used - set(CODES) == set()
    assert {code for code in CODES if not any(f'"{code}"' in text for text in sources if '"Files": FILES' not in text)} == set()
    assert set(EXAMPLES) <= set(CODES)


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (DOCS / target).exists(), target
