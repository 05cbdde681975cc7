"""What saved pictures tell of their making, and running them again."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy
import PIL.Image
import pytest
from PIL.PngImagePlugin import PngInfo
from toys import PAINT, toys, write  # noqa: F401

from nodegraph import Engine, Image, WorkflowInvalid, kinds, metadata
from nodegraph.cli import main
from nodegraph.replay import prepare

SAVED = {**PAINT, "nodes": {**PAINT["nodes"], "save": {"use": "save_image", "from": {"image": "dim.image"}}}}
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _place(toys: Path) -> None:  # noqa: F811
    pass


def run(flow: Any, *flags: str, name: str = "w.json") -> None:
    assert main(["run", write(flow, name), "-q", *flags]) == 0


def pictures(folder: str = "out") -> list[Path]:
    return sorted(Path(folder).iterdir())


def saved(format: str, **more: Any) -> Path:
    """A picture that a node saved in a format."""
    flow = {**SAVED, "nodes": {**SAVED["nodes"], "save": {**SAVED["nodes"]["save"], "with": {"format": format, **more}}}, "outputs": {}}
    run(flow, "--set", "level=0.75")
    [path] = pictures()
    return path


def test_a_picture_tells_everything_of_its_making() -> None:
    run(PAINT, "--set", "level=0.75")
    [path] = pictures()
    record = metadata.read(path)
    with Engine() as engine:
        identity = {one.name: one.identity for one in engine.registry}
        assert record["packs"] == {"toy": {"version": 3, "nodes": {name: identity[name] for name in ("darker", "paint")}}}
    assert record["workflow"] == {"nodegraph": 1, **PAINT}
    assert record["inputs"] == {"level": 0.75, "seed": 0}
    assert record["seeds"] == {"paint.seed": 0}
    assert list(record["keys"]) == ["paint", "dim"]
    assert sorted(record["versions"]) == ["numpy", "pillow"]
    assert record["machine"] == {"device": "cpu", "dtype": "float32"}
    assert record["output"] == "image"
    assert path.name == f"grey-image-{record['key'][:8]}.png"


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_every_format_is_replayed_to_the_same_bytes(format: str, capsys: Capture) -> None:
    path = saved(format)
    record = metadata.read(path)
    assert record["node"] == "save"
    assert record["inputs"]["level"] == 0.75
    before = path.read_bytes()
    assert main(["replay", str(path), "--output", "again"]) == 0
    said = capsys.readouterr()
    [made] = pictures("again")
    assert made.read_bytes() == before
    assert said.out.splitlines()[-1] == str(made)
    assert f"identical to {path}" in said.err


@pytest.mark.parametrize("command", ["run", "check", "plan", "show"])
def test_a_picture_is_no_workflow_but_can_be_replayed(command: str, capsys: Capture) -> None:
    path = saved("png")
    assert main([command, str(path)]) == 2
    said = "".join(capsys.readouterr())
    assert f"{str(path)!r} is a picture or a sound, not a workflow" in said
    assert f"fix to make it again: nodegraph replay {path}" in said


GIVEN = [
    numpy.full((1, 3, 4, 4), 0.5, numpy.float32),
    Image(numpy.full((1, 3, 4, 4), 0.5, numpy.float32)),
    PIL.Image.new("RGB", (4, 4), (128, 128, 128)),
]


@pytest.mark.parametrize("picture", GIVEN, ids=lambda one: type(one).__name__)
def test_values_of_numpy_and_pictures_of_pil_are_told_as_what_they_are_read_as(picture: Any) -> None:
    inputs = {
        "picture": {"type": "image"},
        "seed": {"type": "seed"},
        "n": {"type": "int"},
        "some": {"type": "list[float]"},
        "all": {"type": "json"},
    }
    nodes = {"save": {"use": "save_image", "from": {"image": "inputs.picture"}}}
    whole: dict[str, Any] = {"a": [1]}
    given = {"picture": picture, "seed": numpy.uint64(7), "n": numpy.int64(3), "some": (1, 0.5), "all": whole}
    with Engine() as engine:
        job = engine.submit({"inputs": inputs, "nodes": nodes, "outputs": {"picture": "inputs.picture"}}, given)
        whole["a"].append(2)
        result = job.result()
    assert result.problems == ()
    told = metadata.read(result.files[0])["inputs"]
    assert told.pop("picture") == {"type": "image", "digest": kinds.content(result.outputs["picture"]).hex()}
    assert told == {"seed": 7, "n": 3, "some": [1.0, 0.5], "all": {"a": [1]}}


def test_sound_is_replayed_too(capsys: Capture) -> None:
    flow = {"nodes": {"t": {"use": "tone", "with": {"hertz": 440.0}}}, "outputs": {"sound": "t.audio"}}
    run(flow, name="beep.json")
    [path] = pictures()
    assert metadata.read(path)["workflow"]["nodes"] == flow["nodes"]
    with wave.open(str(path)) as reader:  # the comment disturbs no reader
        assert (reader.getnframes(), reader.getframerate()) == (800, 8000)
    assert main(["replay", str(path), "-q"]) == 0
    run(flow, "--set", "t.hertz=220", name="beep.json")
    capsys.readouterr()
    assert main(["diff", *map(str, pictures())]) == 1
    assert "t.hertz" in capsys.readouterr().out


def test_a_long_record_fits_into_a_jpeg() -> None:
    long = {**SAVED, "doc": "word " * 20_000, "outputs": {}}
    long["nodes"] = {**SAVED["nodes"], "save": {**SAVED["nodes"]["save"], "with": {"format": "jpeg"}}}
    run(long)
    [path] = pictures()
    assert metadata.read(path)["workflow"]["doc"] == long["doc"]


def test_workflows_and_files_inside_are_told_whole(capsys: Capture) -> None:
    Path("sub").mkdir()
    Path("sub/note.txt").write_text("hello")
    inner = {
        "nodes": {"r": {"use": "read", "with": {"file": "note.txt"}}, "p": {"use": "paint"}},
        "outputs": {"text": "r.text", "image": "p.image"},
    }
    write(inner, "sub/inner.json")
    run({"nodes": {"in": {"use": "./sub/inner.json"}}, "outputs": {"image": "in.image"}}, name="outer.json")
    [path] = pictures()
    record = metadata.read(path)
    assert record["workflow"]["name"] == "outer"
    assert record["workflow"]["nodes"]["in"]["use"]["nodes"]["r"]["with"] == {"file": "sub/note.txt"}
    assert list(record["files"]) == ["in/r.file"]
    Path("outer.json").unlink()
    Path("sub/inner.json").unlink()
    assert main(["replay", str(path), "-q"]) == 0
    Path("sub/note.txt").write_text("other")
    assert main(["replay", str(path), "-q"]) == 2
    assert "error[input-differs] the file 'sub/note.txt' with the digest" in capsys.readouterr().err


def test_pictures_that_were_given_are_found_by_their_content(capsys: Capture) -> None:
    run(PAINT)
    [given] = pictures()
    given.rename("given.png")
    flow = {"inputs": {"image": {"type": "image"}, "file": {"type": "file"}}, "nodes": {}, "outputs": {"image": "d.image"}}
    flow["nodes"] = {"d": {"use": "darker", "from": {"image": "inputs.image"}}, "r": {"use": "load_image", "from": {"file": "inputs.file"}}}
    run(flow, "--set", "image=given.png", "--set", "file=given.png")
    [path] = pictures()
    told = metadata.read(path)["inputs"]
    assert [(one["type"], one["from"]) for one in told.values()] == [("image", "given.png"), ("file", "given.png")]
    assert main(["replay", str(path), "-q"]) == 0
    Path("given.png").rename("renamed.png")
    assert main(["replay", str(path), "-q"]) == 2
    assert "fix give the one that was used: --set image=PATH" in capsys.readouterr().err
    assert main(["replay", str(path), "-q", "--set", "image=renamed.png", "--set", "file=renamed.png"]) == 1  # another name in the record
    assert "the same pixels" in capsys.readouterr().err


def test_lists_of_pictures_are_found_by_their_content(capsys: Capture) -> None:
    for name, level in (("one.png", "0.25"), ("two.png", "0.75")):
        run(PAINT, "--set", f"level={level}")
        [given] = pictures()
        given.rename(name)
    flow = {"inputs": {"list": {"type": "list[image]"}}, "nodes": {"d": {"use": "darker", "each": {"image": "inputs.list"}}}}
    run({**flow, "outputs": {"images": "d.image"}}, "--set", 'list=["one.png", "two.png"]')
    path = pictures()[0]
    assert main(["replay", str(path), "-q"]) == 0
    Path("one.png").rename("other.png")
    assert main(["replay", str(path), "-q"]) == 2
    assert """fix give the one that was used: --set list='["PATH", …]'""" in capsys.readouterr().err
    assert main(["replay", str(path), "-q", "--set", 'list=["other.png", "two.png"]']) == 1  # other names in the record
    assert "the same pixels" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--inputs", "--batch"])
def test_pictures_named_in_a_file_of_inputs_are_found_where_it_lies(flag: str) -> None:
    run(PAINT)
    [given] = pictures()
    Path("sub").mkdir()
    given.rename("sub/given.png")
    Path("sub/inputs.json").write_text('{"image": "given.png", "list": ["given.png"], "none": null}')
    inputs = {"image": {"type": "image"}, "list": {"type": "list[image]"}, "none": {"type": "image | none", "default": None}}
    nodes = {"d": {"use": "darker", "each": {"image": "inputs.list"}}, "e": {"use": "darker", "from": {"image": "inputs.image"}}}
    run({"inputs": inputs, "nodes": nodes, "outputs": {"all": "d.image", "one": "e.image"}}, flag, "sub/inputs.json")
    path = pictures()[0]
    told = metadata.read(path)["inputs"]
    assert [told[name]["from"] for name in ("image", "list")] == ["sub/given.png", '["sub/given.png"]']
    assert main(["replay", str(path), "-q"]) == 0


def test_a_list_of_pictures_that_a_file_names_is_told_as_the_list() -> None:
    run(PAINT)
    [given] = pictures()
    given.rename("given.png")
    Path("list.json").write_text('["given.png"]')
    flow = {"inputs": {"list": {"type": "list[image]"}}, "nodes": {"d": {"use": "darker", "each": {"image": "inputs.list"}}}}
    run({**flow, "outputs": {"images": "d.image"}}, "--set", "list=@list.json")
    [path] = pictures()
    assert metadata.read(path)["inputs"]["list"]["from"] == '["given.png"]'
    assert main(["replay", str(path), "-q"]) == 0


@pytest.mark.parametrize("said", ["~nobody-of-this-name/x", "x" * 5000, "a\0b", ["a"], 5, "[" * 5000, "[5]", '["~nobody-of-this-name"]'])
@pytest.mark.parametrize("kind", ["image", "list[image]"])
def test_a_record_may_say_that_inputs_lie_anywhere(said: Any, kind: str) -> None:
    told = {"type": kind.partition("[")[0], "digest": "00", "from": said}
    record = {"workflow": {"inputs": {"i": {"type": kind}}, "nodes": {}}, "inputs": {"i": told}}
    with pytest.raises(WorkflowInvalid, match="is not here"):
        prepare(record, [Path()], lambda kind, path: None, {})


def test_what_changed_is_named(capsys: Capture, toys: Path) -> None:  # noqa: F811
    run(PAINT)
    [path] = pictures()
    capsys.readouterr()
    module = toys / "packs" / "toy" / "toys.py"
    module.write_text(module.read_text().replace("level * 0.8", "level * 0.7"))
    assert main(["replay", str(path), "--check"]) == 1
    checked = capsys.readouterr().out
    assert checked.splitlines()[0].startswith("  code of darker other (toy 3)")
    assert main(["replay", str(path), "-q", "--output", "again"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"different from {path}:\n  code of darker other (toy 3)")
    assert main(["replay", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "different"


def test_what_can_be_another_though_all_that_is_recorded_is_the_same(capsys: Capture, toys: Path, monkeypatch: Any) -> None:  # noqa: F811
    module = toys / "packs" / "toy" / "toys.py"
    module.write_text(module.read_text().replace("level * 0.8", "level * float(__import__('os').environ['LEVEL'])"))
    monkeypatch.setenv("LEVEL", "0.8")
    run(PAINT)
    [path] = pictures()
    monkeypatch.setenv("LEVEL", "0.7")
    assert main(["replay", str(path), "--check"]) == 0
    capsys.readouterr()
    assert main(["replay", str(path), "-q", "--output", "again"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"different from {path}:\n  workflow, inputs, packs, models and versions are as they were.")
    assert "OMP_NUM_THREADS" in said
    monkeypatch.setenv("LEVEL", "0.8")
    with PIL.Image.open(path) as picture:
        told = PngInfo()
        for name, text in picture.text.items():  # type: ignore[attr-defined]
            told.add_text(name, text)
        picture.save(path, pnginfo=told, compress_level=0)
    assert main(["replay", str(path), "-q", "--output", "again"]) == 1
    assert "another program may have written the file anew" in capsys.readouterr().err


def test_a_replay_sets_values_of_nodes_too(capsys: Capture) -> None:
    run(PAINT)
    [path] = pictures()
    capsys.readouterr()
    assert main(["replay", str(path), "--check", "--set", "dim.amount=0.5", "--set", "paint.level=0.75"]) == 1
    assert capsys.readouterr().out.splitlines() == ["  paint.level 0.5 (input level) → 0.75", "  dim.amount 0.25 → 0.5"]
    assert main(["replay", str(path), "-q", "--set", "dim.amount=0.5", "--output", "again"]) == 1
    run(PAINT, "--set", "dim.amount=0.5", "--output", "meant")
    assert pictures("again")[0].read_bytes() == pictures("meant")[0].read_bytes()


def test_check_runs_nothing(capsys: Capture) -> None:
    run(PAINT)
    [path] = pictures()
    assert main(["replay", str(path), "--check", "--output", "again"]) == 0
    assert not Path("again").exists()
    assert "are as they were" in capsys.readouterr().err


def test_what_tells_nothing_is_refused(capsys: Capture) -> None:
    Image.from_pil(PIL.Image.new("RGB", (4, 4))).pil()[0].save("plain.png")
    Path("text.png").write_text("no picture")
    for name in ("plain.png", "text.png"):
        assert main(["replay", name]) == 2
        assert f"error[no-metadata] '{name}' does not tell of its making" in capsys.readouterr().err
    assert main(["replay", "missing.png"]) == 2
    assert "error[file-missing]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "record",
    [
        [],
        {"workflow": []},
        {"workflow": {}, "inputs": 5},
        {"workflow": {}, "files": {"a": {"path": 5, "digest": ""}}},
        {"workflow": {}, "files": {"a": 5}},
        {"workflow": {}, "models": {"a": 5}},
        {"workflow": {}, "packs": {"a": 5}},
        {"workflow": {"nodes": {"a": 5}}},
        {"workflow": {"nodes": {}, "inputs": {"x": {"type": "image"}}}, "inputs": {"x": {"type": [], "from": 5}}},
        {"workflow": {"nodes": {}}, "smaller": 5},
    ],
)
def test_whatever_a_file_tells_is_refused_in_words(record: Any, capsys: Capture) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("nodegraph", json.dumps(record))
    PIL.Image.new("RGB", (4, 4)).save("odd.png", pnginfo=info)
    for command in (["replay", "odd.png"], ["diff", "odd.png", "odd.png"]):
        code = main(command)
        said = capsys.readouterr().err
        assert "error[internal]" not in said
        assert code == 2 or (command[0] == "diff" and code == 0)


@pytest.mark.parametrize("command", [["replay", "cut.png"], ["diff", "cut.png", "cut.png"]])
def test_a_damaged_picture_is_told_from_one_that_is_not_there(command: list[str], capsys: Capture) -> None:
    run(PAINT)
    Path("cut.png").write_bytes(pictures()[0].read_bytes()[:300])
    assert main(command) == 2
    assert "error[no-metadata] 'cut.png' is damaged: Truncated File Read\n  fix get the file again" in capsys.readouterr().err
    Path("cut.png").unlink()
    assert main(command) == 2
    assert "error[file-missing] " in capsys.readouterr().err


def test_the_record_does_not_depend_on_the_cache() -> None:
    with Engine() as engine:
        first = engine.run(PAINT).metadata("image")
    with Engine() as engine:
        assert engine.run(PAINT).metadata("image") == first
    with Engine(cache=False) as engine:
        assert engine.run(PAINT).metadata("image") == first


def test_files_and_workflows_that_are_defaults_inside_are_told_whole(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """They were named as they are from the folder of the inner workflow, and nothing told whether they are what they were."""
    Path("sub").mkdir()
    for name in ("note", "one", "other", "unused"):
        Path(f"sub/{name}.txt").write_text(name)
    turn = {"inputs": {"value": {"type": "text"}}, "nodes": {"r": {"use": "read", "with": {"file": "note.txt"}}}}
    write({**turn, "outputs": {"value": "r.text"}}, "sub/turn.json")
    names = {"file": "note.txt", "given": "unused.txt"}
    inner = {
        "inputs": {
            **{name: {"type": "file", "default": path} for name, path in names.items()},
            "body": {"type": "workflow", "default": "./turn.json"},
        },
        "nodes": {
            "r": {"use": "read", "from": {"file": "inputs.file"}},
            "g": {"use": "read", "from": {"file": "inputs.given"}},
            "m": {"use": "read", "each": {"file": ["one.txt", "other.txt"]}},
            "loop": {"use": "repeat", "from": {"body": "inputs.body"}, "with": {"value": ""}},
            "p": {"use": "paint"},
        },
        "outputs": {"text": "r.text", "loop": "loop.value", "image": "p.image"},
    }
    write(inner, "sub/inner.json")
    run({"nodes": {"in": {"use": "./sub/inner.json", "with": {"given": "sub/one.txt"}}}, "outputs": {"image": "in.image"}})
    [path] = pictures()
    files = metadata.read(path)["files"]
    assert files.keys() == {"in.given", "in/m.file[0]", "in/m.file[1]", "in/inputs.file", "in/inputs.body/r.file"}
    assert {one["path"] for one in files.values()} == {"sub/note.txt", "sub/one.txt", "sub/other.txt"}
    for name in ("w.json", "sub/inner.json", "sub/turn.json", "sub/unused.txt"):
        Path(name).unlink()
    assert main(["replay", str(path), "-q"]) == 0
    Path("out/sub").symlink_to(toys / "sub")
    (toys / "away").mkdir()
    monkeypatch.chdir(toys / "away")
    assert main(["replay", f"../{path}", "-q"]) == 0
    (toys / "sub/note.txt").write_text("another")
    assert main(["replay", f"../{path}", "-q"]) == 2


def test_a_workflow_that_is_an_input_is_told_whole(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Its path was told, and that of a value as the whole path on the machine, and nobody else could run it again."""
    turn = {"inputs": {"value": {"type": "text"}}, "nodes": {"r": {"use": "read", "with": {"file": "note.txt"}}}}
    Path("sub").mkdir()
    Path("sub/note.txt").write_text("note")
    write({**turn, "outputs": {"value": "r.text"}}, "sub/turn.json")
    write({"inputs": turn["inputs"], "nodes": {}, "outputs": {"value": "inputs.value"}}, "plain.json")
    loop = {"use": "repeat", "from": {"body": "inputs.body"}, "with": {"value": ""}}
    flow = {"inputs": {"body": {"type": "workflow", "default": "plain.json"}}, "nodes": {"loop": loop, "p": {"use": "paint"}}}
    flow["outputs"] = {"text": "loop.value", "image": "p.image"}
    for number, given in enumerate([(), ("--set", "body=sub/turn.json")]):
        run(flow, "--output", f"out{number}", *given)
        [path] = pictures(f"out{number}")
        assert metadata.read(path)["inputs"]["body"]["inputs"] == turn["inputs"]
        assert str(toys) not in json.dumps(metadata.read(path))
        assert main(["replay", str(path), "-q"]) == 0
    Path("sub/turn.json").unlink()
    Path("plain.json").unlink()
    for number in range(2):
        [path] = [one for one in pictures(f"out{number}") if one.suffix == ".png"]
        assert main(["replay", str(path), "-q"]) == 0
        Path(f"out{number}/sub").symlink_to(toys / "sub")
        (toys / "away").mkdir(exist_ok=True)
        with monkeypatch.context() as away:
            away.chdir(toys / "away")
            assert main(["replay", f"../{path}", "-q"]) == 0


def test_what_is_set_for_a_port_can_be_had_again(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was set was told of by its digest in the place of its path, and a picture as text that is none."""
    flow = {"nodes": {"r": {"use": "read", "with": {"file": "lost.txt"}}, "p": {"use": "paint"}}}
    flow["nodes"]["d"] = {"use": "darker", "from": {"image": "p.image"}}
    flow["outputs"] = {"image": "d.image", "text": "r.text"}
    Path("sub").mkdir()
    Path("sub/note.txt").write_text("note")
    run(flow, "--set", "r.file=sub/note.txt")
    [path] = pictures()
    record = metadata.read(path)
    assert record["workflow"]["nodes"]["r"]["with"] == {"file": record["files"]["r.file"]["path"]} == {"file": "sub/note.txt"}
    assert main(["replay", str(path), "-q"]) == 0
    monkeypatch.chdir("sub")
    assert main(["replay", f"../{path}", "-q"]) == 2
    assert main(["replay", f"../{path}", "-q", "--check", "--set", "r.file=note.txt"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == '  r.file "sub/note.txt" → "note.txt"'
    monkeypatch.chdir("..")
    run(flow, "--set", "r.file=sub/note.txt", "--set", f"d.image={path}", "--output", "set")
    [made] = pictures("set")
    assert metadata.read(made)["literals"].keys() == {"d.image"}
    capsys.readouterr()
    assert main(["replay", str(made), "-q"]) == 2
    assert capsys.readouterr().err.splitlines()[1:3] == ["  at  d.image", "  fix give the one that was used: --set d.image=PATH"]
    assert main(["replay", str(made), "-q", "--set", f"d.image={path}"]) == 0
