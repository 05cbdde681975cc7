"""A secret is used by nodes, and shown nowhere: not in files, caches, events, errors or what is printed."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from toys import toys, write  # noqa: F401

import nodegraph
from nodegraph import Engine, Secret, WorkflowInvalid, secret
from nodegraph.cli import main

TOKEN = 'hunter2/ä+ "quoted"'
FETCH: dict[str, Any] = {
    "inputs": {"token": {"type": "secret"}, "url": {"type": "text", "default": "https://example.org"}},
    "nodes": {
        "fetch": {"use": "fetch", "from": {"token": "inputs.token", "url": "inputs.url"}},
        "picture": {"use": "paint", "with": {"size": 4}},
        "save": {"use": "save_image", "from": {"image": "picture.image"}},
    },
    "outputs": {"text": "fetch.text", "image": "picture.image"},
}


@pytest.fixture(autouse=True)
def _place(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("MY_TOKEN", TOKEN)


def spellings() -> list[bytes]:
    return [one.encode() for one in secret._spellings(TOKEN)] + [TOKEN.encode("utf-16-le"), b"hunter2"]


def assert_nowhere(folder: Path, *texts: str) -> None:
    """No file below the folder and none of the texts has the secret."""
    held = [text.encode() for text in texts] + [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert len(held) > len(texts)
    for raw in held:
        assert not any(spelled in raw for spelled in spellings())


def test_a_run_leaves_the_secret_nowhere(toys: Path, capfd: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    assert main(["run", write(FETCH), "--set", "token=@env:MY_TOKEN", "--json"]) == 0
    assert main(["run", "w.json", "--set", "token=@env:MY_TOKEN", "--events", "jsonl"]) == 0
    assert main(["plan", "w.json", "--set", "token=@env:MY_TOKEN"]) == 0
    said = capfd.readouterr()
    assert json.loads(said.out.splitlines()[0])["outputs"]["text"] == f"https://example.org: {len(TOKEN)}"
    assert len(list(Path("out").iterdir())) == 2
    assert_nowhere(toys, said.out, said.err)


@pytest.mark.parametrize("how", ["raise", "cause", "invalid", "progress", "format"])
def test_a_careless_node_does_not_show_it(how: str, toys: Path, capfd: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    flow = {
        "inputs": {"token": {"type": "secret"}},
        "nodes": {"s": {"use": "spill", "from": {"token": "inputs.token"}, "with": {"how": how}}},
        "outputs": {"text": "s.text"},
    }
    fails = how in ("raise", "cause", "invalid")
    for flags in (["--json"], ["--events", "jsonl"], []):
        assert main(["run", write(flow), "--no-cache", "--set", "token=@env:MY_TOKEN", *flags]) == (1 if fails else 0)
    said = capfd.readouterr()
    assert secret.HIDDEN in said.out + said.err
    assert_nowhere(toys, said.out, said.err)


def test_a_file_holds_it_too_and_a_variable_of_its_own(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    flow = {**FETCH, "nodes": {"fetch": FETCH["nodes"]["fetch"]}, "outputs": {"text": "fetch.text"}}
    Path("token.txt").write_text("12345\n")
    assert main(["run", write(flow), "-q", "--set", "token=@token.txt"]) == 0
    monkeypatch.setenv("NODEGRAPH_SECRET_TOKEN", "123")
    assert main(["run", "w.json", "-q"]) == 0
    assert capfd.readouterr().out.splitlines() == ["https://example.org: 5", "https://example.org: 3"]


def test_it_is_refused_where_others_could_read_it(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", write(FETCH), "--set", f"token={TOKEN}"]) == 2
    assert main(["run", "w.json", "--set", "token=@env:NO_SUCH"]) == 2
    write({"token": TOKEN}, "in.json")
    assert main(["run", "w.json", "--inputs", "in.json"]) == 2
    literal = {"nodes": {"f": {"use": "fetch", "with": {"url": "", "token": TOKEN}}}}
    default = {"inputs": {"token": {"type": "secret", "default": TOKEN}}, "nodes": {}}
    for flow in (literal, default):
        assert main(["check", write(flow, "bad.json")]) == 2
    said = capfd.readouterr()
    assert said.err.count("error[bad-value]") == 3
    assert said.out.count("error[secret-literal] 'token' takes a secret, which is never written down in a workflow") == 2
    assert not any(spelled.decode() in said.out + said.err for spelled in spellings()[:1])
    with pytest.raises(WorkflowInvalid, match="secret-literal"), Engine(cache=False) as engine:
        engine.run(FETCH, {"token": "x"}, overrides={"fetch.token": Secret(TOKEN)})


def test_the_fix_of_a_missing_one_is_how_it_is_given(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", write(FETCH)]) == 2
    assert "fix give it: --set token=@env:NAME" in capfd.readouterr().err


def test_only_the_same_secret_finds_what_it_led_to() -> None:
    flow = {**FETCH, "nodes": {"fetch": FETCH["nodes"]["fetch"]}, "outputs": {"text": "fetch.text"}}

    def states(token: str) -> list[str]:
        with Engine() as engine:
            before = [step.state for step in engine.plan(flow, token=token).steps]
            engine.run(flow, {"token": Secret(token)})
            return before

    assert states("first") == ["run"]
    assert states("first") == ["cached"]  # also in another engine
    assert states("second") == ["run"]
    salt = Path("cache", "salt")
    assert salt.stat().st_mode & 0o777 == 0o600
    salt.write_bytes(bytes(32))
    assert states("first") == ["run"]  # another salt, other keys


def test_the_metadata_says_that_there_was_one() -> None:
    with Engine() as engine:
        result = engine.run({**FETCH, "nodes": {name: FETCH["nodes"][name] for name in ("fetch", "picture")}}, {"token": TOKEN})
        assert result.metadata("image")["inputs"] == {"token": {"type": "secret"}, "url": "https://example.org"}


def test_the_id_of_a_run_is_never_a_secret_by_mistake() -> None:
    with Engine(cache=False) as engine, pytest.raises(WorkflowInvalid, match="ambiguous-input"):
        engine.run(FETCH, token=TOKEN)


def test_the_value_shows_itself_to_nobody() -> None:
    one = Secret(TOKEN)
    for shown in (repr(one), str(one), f"{one}", f"{one!r:>40}", "%s" % one, json.dumps([one], default=str)):  # noqa: UP031
        assert TOKEN not in shown
    assert one == Secret(TOKEN) != Secret("other")
    assert one.reveal() == TOKEN
    for forbidden in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            forbidden(one)
    with pytest.raises(AttributeError):
        one.text = ""  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="not empty"):
        Secret("")
    assert nodegraph.Secret is Secret


def test_text_is_freed_of_every_spelling() -> None:
    kept = Secret(TOKEN)
    text = " ".join(secret._spellings(kept.reveal()))
    assert secret.redact(text).replace(secret.HIDDEN, "").strip() == ""
    assert secret.redacted({"a": [TOKEN, 5]}) == {"a": [secret.HIDDEN, 5]}
