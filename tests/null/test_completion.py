"""Completion, driven as a person drives it: by the TAB key in real shells. And a workflow's inputs as a form."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toys import PAINT, toys, write  # noqa: F401

from nodegraph.cli import main

PATIENCE = 30.0


@pytest.fixture(autouse=True)
def _place(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A `nodegraph` on the path that is this checkout."""
    program = toys / "bin" / "nodegraph"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nodegraph "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    write(PAINT)


def asked(line: str) -> set[str]:
    """The words that a shell is told for a line, by the protocol of argcomplete."""
    told = Path("told.txt")
    variables = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "bash", "_ARGCOMPLETE_STDOUT_FILENAME": str(told)}
    point = {"COMP_LINE": line, "COMP_POINT": str(len(line.encode()))}
    subprocess.run([sys.executable, "-m", "nodegraph"], env={**os.environ, **variables, **point}, timeout=PATIENCE, check=False)
    return {word.strip() for word in told.read_text().split("\n")} if told.exists() else set()


@pytest.mark.skipif(sys.platform != "linux", reason="needs names of files that are no text")
def test_a_name_that_is_no_text_does_not_keep_others_from_being_told() -> None:
    for name in ("one.json", os.fsdecode(b"on\xff.json"), "on\ntwo.json"):
        Path(name).write_text("{}")
    assert asked("nodegraph run on") == {"one.json"}
    assert asked("nodegraph run w.json --inputs on") == {"one.json"}
    assert asked("nodegraph packs check on") == {"one.json"}


class Terminal:
    """A shell in a pseudo-terminal."""

    def __init__(self, *command: str):
        self.pid, self.screen = pty.fork()
        if not self.pid:
            os.environ.update({"TERM": "dumb", "PS1": "$ ", "HOME": os.getcwd()})
            os.execvp(command[0], command)
        self.seen = ""

    def type(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def read_until(self, pattern: str) -> str:
        """What has been shown since the last time, up to a pattern."""
        until = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < until, f"{pattern!r} was not shown, but {self.seen!r}"
            if select.select([self.screen], [], [], 0.1)[0]:
                self.seen += os.read(self.screen, 4096).decode(errors="replace")
        shown, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return shown

    def close(self) -> None:
        os.close(self.screen)
        os.waitpid(self.pid, 0)


def shell(name: str, *flags: str) -> Terminal:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return Terminal(name, *flags)


def test_bash_completes_what_is_then_run() -> None:
    bash = shell("bash", "--norc", "--noprofile", "-i")
    bash.type('eval "$(nodegraph completion bash)"; echo rea""dy\n')
    bash.read_until("ready")
    for keys, shown in (
        ("nodegraph run w", "w.json "),
        ("--set lev", "level="),
        ("1 --set dim.am", "amount="),
        ("0 --onl", "--only "),
        ("ima", "image "),
    ):
        bash.type(keys + "\t")
        bash.read_until(re.escape(shown))
    bash.type("--json\n")
    record = json.loads(re.search(r"\{.*\}", bash.read_until(r'\{"event": "done".*\}'))[0])  # type: ignore[index]
    assert record["inputs"] == {"level": 1.0, "dim.amount": 0.0}
    assert record["status"] == "ok"
    bash.type("exit\n")
    bash.close()


def test_bash_lists_what_there_is() -> None:
    bash = shell("bash", "--norc", "--noprofile", "-i")
    bash.type('eval "$(nodegraph completion bash)"; bind "set show-all-if-ambiguous on"; echo rea""dy\n')
    bash.read_until("ready")
    bash.type("nodegraph run w.json --set \t")
    shown = bash.read_until(r"seed=[^$]*\$ nodegraph run w.json --set ")
    assert {"level=", "paint.", "dim."} <= set(shown.split())
    bash.type("level=1 --set paint.\t")
    shown = bash.read_until(r"paint\.size=")
    assert "paint.seed=" in shown
    bash.type("\x15nodegraph nodes dark\t")
    bash.read_until("darker ")
    bash.type("\x15nodegraph pa\t")
    bash.read_until("packs ")
    bash.type("\x15exit\n")
    bash.close()


def test_zsh_completes() -> None:
    zsh = shell("zsh", "-f", "-i")
    zsh.type('autoload -U compinit; compinit -u -D; eval "$(nodegraph completion zsh)"; echo rea""dy\n')
    zsh.read_until("ready")
    zsh.type("nodegraph run w.json --set lev\t")
    zsh.read_until("level=")
    zsh.type("1 -q\n")
    zsh.read_until(r"out/grey-image-\w+\.png")
    zsh.type("exit\n")
    zsh.close()


def test_fish_completes() -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    script = 'nodegraph completion fish | source; complete -C "nodegraph run w.json --set le"; complete -C "nodegraph nodes dar"'
    asked = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert asked.stdout.splitlines() == ["level=\tfloat = 0.5: How light it is. (0 to 1)", "darker\tA darker picture."]


def completed(line: str) -> list[str]:
    """What the program answers a shell for a line with the cursor at its end."""
    told = {"COMP_LINE": line, "COMP_POINT": str(len(line.encode())), "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n"}
    path = Path("answer")
    environment = {**os.environ, **told, "_ARGCOMPLETE_STDOUT_FILENAME": str(path), "_ARGCOMPLETE_COMP_WORDBREAKS": " "}
    subprocess.run([sys.executable, "-m", "nodegraph"], env=environment, check=True, timeout=60, capture_output=True)
    return path.read_text().splitlines()


CHOICES = {
    "inputs": {
        "sampler": {"type": "text", "default": "a", "choices": ["a", "b"]},
        "tiled": {"type": "bool", "default": False},
        "model": {"type": "model"},
        "photo": {"type": "file"},
        "token": {"type": "secret"},
    },
    "nodes": {},
}


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        ("--set sampler=", ["sampler=a", "sampler=b"]),
        ("--set tiled=t", ["tiled=true "]),
        ("--set model=tiny-s", ["model=tiny-sd", "model=tiny-sd-inpainting", "model=tiny-sd-instruction"]),
        ("--set model=tiny-sd-inp", ["model=tiny-sd-inpainting "]),
        ("--set photo=ch", ["photo=choices.json "]),
        ("--set sampler=a --set sam", []),
        ("--set token=@env:MY_", ["token=@env:MY_TOKEN "]),
        ("--device cu", ["cuda", "cuda:1"]),
    ],
)
def test_values_that_can_be_chosen(words: str, answers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "x")
    assert sorted(completed(f"nodegraph run {write(CHOICES, 'choices.json')} {words}")) == answers


@pytest.mark.parametrize("line", ["nodegraph run missing.json --set ", "nodegraph run packs --only x", "nodegraph nodes --packs nowhere x"])
def test_what_cannot_be_completed_is_silent(line: str) -> None:
    assert completed(line) == []


def test_files_and_built_in_workflows() -> None:
    Path("flows").mkdir()
    write(PAINT, "flows/inner.json")
    assert completed("nodegraph check flows/") == ["flows/inner.json "]
    assert "txt2img " in completed("nodegraph show txt2")
    assert completed("nodegraph models show tiny-sd-inp") == ["tiny-sd-inpainting "]
    assert completed("nodegraph packs check flo") == ["flows/"]
    assert completed("nodegraph packs check . --node dark") == ["darker "]
    assert completed("nodegraph packs new dark") == []


# -- the form ----------------------------------------------------------------------------------------------------------


def test_the_form_says_types_ranges_defaults_docs_and_outputs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "w.json", "--help"]) == 0
    assert capsys.readouterr().out == (
        "grey\n"
        "\ninputs, given with --set NAME=VALUE:\n"
        "  level  float  = 0.5  How light it is. (0 to 1)\n"
        "  seed   seed   = 0\n"
        "\noutputs:\n"
        "  image  image\n"
        "\nnodegraph run w.json\n"
        "flags: nodegraph run --help\n"
    )


def test_the_form_shows_how_a_secret_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    write({"inputs": {"token": {"type": "secret"}, "n": {"type": "int"}}, "nodes": {}})
    assert main(["run", "w.json", "--help"]) == 0
    assert "\nnodegraph run w.json --set token=@env:… --set n=…\n" in capsys.readouterr().out


def test_the_form_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "w.json", "--help", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    level = {"name": "level", "type": "float", "required": False, "doc": "How light it is.", "default": 0.5}
    assert record["inputs"][0] == {**level, "minimum": 0, "maximum": 1, "choices": []}
    assert record["outputs"] == [{"name": "image", "type": "image"}]


def test_the_form_of_a_workflow_with_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    write({**PAINT, "outputs": {"image": "nothing.image"}})
    assert main(["run", "w.json", "--help"]) == 2
    said = capsys.readouterr()
    assert "level  float  = 0.5" in said.out
    assert "error[unknown-reference]" in said.err
