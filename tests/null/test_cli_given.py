"""What is given to a run on the command line, as typed values."""

from __future__ import annotations

import json
import struct
from argparse import Namespace
from pathlib import Path
from typing import Annotated, Any

import pytest

from nodegraph import Field, File, node, types
from nodegraph.cli.given import Given, runs
from nodegraph.cli.media import Unreadable
from nodegraph.cli.typed import from_text
from nodegraph.errors import WorkflowInvalid
from nodegraph.registry import Registry
from nodegraph.spec import node_type
from nodegraph.workflow import Workflow


@node
def blend(value: float, names: list[str], note: str = "") -> float:
    return value


@node
def sized(
    size: Annotated[int, Field(ge=3, lt=56, multiple_of=8)],
    odd: Annotated[int, Field(gt=8, le=float("inf"))] = 9,
) -> int:
    return size


REGISTRY = Registry()
REGISTRY.add([node_type(blend, "test")], pack="test")
WORKFLOW = Workflow.of(
    {
        "inputs": {
            "prompt": {"type": "text", "default": ""},
            "steps": {"type": "int", "default": 20},
            "seed": {"type": "int", "default": 0, "min": 5, "max": 6},
            "between": {"type": "int", "default": 1, "min": 0.5, "max": 2.5},
            "guidance": {"type": "float", "default": 7.5},
            "tiled": {"type": "bool", "default": False},
            "sizes": {"type": "list[int]", "default": []},
            "extra": {"type": "json", "default": None},
            "picked": {"type": "int | none", "default": None},
            "config": {"type": "file", "default": None},
            "latent": {"type": "latent"},
        },
        "nodes": {
            "a": {"use": "blend", "with": {"value": 1.0, "names": []}},
            "b": {"use": {"inputs": {"x": {"type": "int"}}, "nodes": {}}},
        },
    }
)


def given(*sets: str, sweep: tuple[str, ...] = (), inputs: str = "", batch: str = "") -> list[Given]:
    return runs(Namespace(sets=list(sets), sweep=list(sweep), inputs=inputs, batch=batch), WORKFLOW, REGISTRY)


def one(*sets: str) -> dict[str, Any]:
    [single] = given(*sets)
    return {**single.inputs, **single.overrides}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("prompt=a, b = c", "a, b = c"),
        ("prompt=", ""),
        ("prompt=5", "5"),
        ("prompt=random", "random"),
        ("prompt=@@home", "@home"),
        ("steps=7", 7),
        ("steps=-7", -7),
        ("guidance=7", 7.0),
        ("guidance=1e-3", 0.001),
        ("tiled=true", True),
        ("tiled=False", False),
        ("sizes=[1, 2]", [1, 2]),
        ('extra={"a": [1]}', {"a": [1]}),
        ("picked=null", None),
        ("picked=3", 3),
    ],
)
def test_text_is_read_by_the_declared_type(text: str, value: Any) -> None:
    made = one(text)
    assert made == {text.partition("=")[0]: value}
    assert type(made[text.partition("=")[0]]) is type(value)


def test_literals_of_nodes_can_be_overridden() -> None:
    [made] = given("a.value=2", 'a.names=["x"]', "b.x=3", "steps=1")
    assert made == Given(
        {"steps": 1}, {"a.value": 2.0, "a.names": ["x"], "b.x": 3}, {"a.value": 2.0, "a.names": ["x"], "b.x": 3, "steps": 1}
    )


def test_text_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a fox\n", encoding="utf-8")
    assert one(f"prompt=@{tmp_path / 'p.txt'}") == {"prompt": "a fox\n"}


def test_a_file_is_trusted_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text("x")
    monkeypatch.chdir(tmp_path)
    assert one("config=c.yaml") == {"config": File.at(tmp_path / "c.yaml")}


def test_a_random_number_is_drawn_within_the_bounds_of_the_ports_it_is_for() -> None:
    nodes = {"a": {"use": "sized", "from": {"size": "inputs.size", "odd": "inputs.size"}}, "b": {"use": "sized", "with": {"size": 8}}}
    workflow = Workflow.of({"inputs": {"size": {"type": "int", "max": 40}}, "nodes": nodes})
    registry = Registry()
    registry.add([node_type(sized, "test")], pack="test")
    for name, drawn in (("size", {16, 24, 32, 40}), ("b.size", {8, 16, 24, 32, 40, 48})):
        arguments = Namespace(sets=[f"{name}=random"], sweep=[], inputs="", batch="")
        assert {runs(arguments, workflow, registry)[0].shown[name] for _ in range(200)} == drawn


def test_a_random_seed_is_drawn_within_the_declared_range() -> None:
    drawn = {one("seed=random")["seed"] for _ in range(50)}
    assert drawn == {5, 6}
    assert {one("between=random")["between"] for _ in range(50)} == {1, 2}
    assert {type(one("steps=random")["steps"])} == {int}


def test_sweeps_make_one_run_for_each_combination() -> None:
    made = given("prompt=x", sweep=("steps=1,2", "guidance=3,4.5"))
    assert [run.shown for run in made] == [
        {"prompt": "x", "steps": steps, "guidance": guidance} for steps in (1, 2) for guidance in (3.0, 4.5)
    ]


def test_a_sweep_over_texts_with_commas_is_json() -> None:
    assert [run.inputs["prompt"] for run in given(sweep=('prompt=["a, b", "c"]',))] == ["a, b", "c"]
    assert [run.inputs["prompt"] for run in given(sweep=("prompt=a,b",))] == ["a", "b"]
    assert [run.inputs["sizes"] for run in given(sweep=("sizes=[[1], [2, 3]]",))] == [[1], [2, 3]]


@node
def filled(template: str, body: Workflow, **fields: Any) -> str:
    return template


def test_ports_of_a_node_that_takes_any_further_ones_are_read_by_their_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registry = Registry()
    registry.add([node_type(filled, "test")], pack="test")
    workflow = Workflow.of({"inputs": {"w": {"type": "workflow"}}, "nodes": {"f": {"use": "filled"}, "g": {"use": "unknown"}}})
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "in.json").write_text('{"w": "turn.json", "f.body": "./turn.json"}')
    sets = ["f.template=123", "f.first=123", "f.second=b", "g.any=true"]
    [made] = runs(Namespace(sets=sets, sweep=[], inputs="sub/in.json", batch=""), workflow, registry)
    turn = str((tmp_path / "sub" / "turn.json").resolve())
    assert made.overrides == {"f.body": turn, "f.template": "123", "f.first": 123, "f.second": "b", "g.any": True}
    assert made.inputs == {"w": turn}


def test_files_of_inputs_come_before_what_is_set(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("x")
    base, batch = tmp_path / "base.json", tmp_path / "batch.jsonl"
    base.write_text(json.dumps({"prompt": "base", "steps": 1, "config": "c", "a.value": 3}))
    batch.write_text('{"steps": 2}\n\n{"steps": 3, "guidance": 1}\n')
    made = given("guidance=9", inputs=str(base), batch=str(batch), sweep=("seed=5,6",))
    assert [(run.inputs["prompt"], run.inputs["steps"], run.inputs["guidance"], run.inputs["seed"]) for run in made] == [
        ("base", 2, 9.0, 5), ("base", 2, 9.0, 6), ("base", 3, 9.0, 5), ("base", 3, 9.0, 6)
    ]  # fmt: skip
    assert made[0].inputs["config"] == File.at(tmp_path / "c")
    assert made[0].overrides == {"a.value": 3}
    assert made[0].files == [tmp_path / "c"]


def test_every_file_that_inputs_were_read_from_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `watch` needs them."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in "abc":
        (tmp_path / name).write_text(name)
    (tmp_path / "in.json").write_text('{"one": "a", "home": "~/b"}')
    declared = {"one": "file", "home": "file | none", "many": "list[file]", "lines": "list[text]"}
    workflow = Workflow.of({"inputs": {name: {"type": kind} for name, kind in declared.items()}, "nodes": {}})
    sets = [f'many=["~/b", "{tmp_path}/c"]', 'lines=["a"]']
    [made] = runs(Namespace(sets=sets, sweep=[], inputs=str(tmp_path / "in.json"), batch=""), workflow, REGISTRY)
    assert made.files == [tmp_path / name for name in "abbc"]


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["prompt"], "error[bad-set] 'prompt' is not NAME=VALUE\n  at  --set\n  fix write --set prompt=VALUE"),
        (["promt=x"], "error[unknown-input] the workflow has no input 'promt'\n  at  --set promt\n  fix did you mean 'prompt'?"),
        (["a.valu=x"], "error[unknown-input] 'a' has no input 'valu'\n  at  --set a.valu\n  fix did you mean 'value'?"),
        (["b.y=x"], "error[unknown-input] 'b' has no input 'y'\n  at  --set b.y\n  fix its inputs are 'x'"),
        (["steps=2.5"], "error[bad-value] 'steps' must be a whole number, but is '2.5'\n  at  --set steps\n  fix write it in digits"),
        (
            ["picked=none"],
            "error[bad-value] 'picked' must be a whole number, but is 'none'\n"
            "  at  --set picked\n  fix write it in digits, or null for none",
        ),
        (
            ["sizes=@no/file"],
            "error[bad-value] 'sizes' is '@no/file', but that file cannot be read: No such file or directory\n  at  --set sizes\n"
            "  fix name a file that is there; for text",
        ),
        (["guidance=x"], "error[bad-value] 'guidance' must be a number, but is 'x'\n  at  --set guidance\n  fix write it like 7.5"),
        (["tiled=1"], "error[bad-value] 'tiled' must be true or false, but is '1'\n  at  --set tiled\n  fix write true or false"),
        (
            ["sizes=1,2"],
            "error[bad-value] 'sizes' must be a JSON list, but cannot be read: Extra data: line 1 column 2 (char 1)\n  at  --set sizes",
        ),
        (
            ["sizes={}"],
            "error[bad-value] 'sizes' must be a JSON list, but is '{}'\n  at  --set sizes\n  fix write it like [1, 2] or [\"a\", \"b\"]",
        ),
        (
            ["prompt=@/no/file"],
            "error[bad-value] 'prompt' is '@/no/file', but that file cannot be read: No such file or directory\n  at  --set prompt",
        ),
        (["config=/no/file"], "error[bad-value] cannot read '/no/file': No such file or directory\n  at  --set config\n  fix give"),
        (
            ['extra={"a": 1, "a": 2}'],
            "error[bad-value] 'extra' must be JSON, but cannot be read: the key 'a' stands in it twice\n  at  --set extra",
        ),
        (
            ["sizes=@~nobody-of-this-name/x"],
            "error[bad-value] 'sizes' is '@~nobody-of-this-name/x', but there is no home of that name here\n",
        ),
        (["config=~nobody-of-this-name/x"], "error[bad-value] cannot read '~nobody-of-this-name/x': there is no home of that name here\n"),
        (
            ["extra=[1e999]"],
            "error[bad-value] 'extra' must be JSON, but cannot be read: 1e999 is too large for a number\n  at  --set extra",
        ),
        (["extra=[NaN]"], "error[bad-value] 'extra' must be JSON, but cannot be read: NaN is no number in JSON\n  at  --set extra"),
        (
            ["extra=" + "[" * 9000],
            "error[bad-value] 'extra' must be JSON, but is nested too deeply\n  at  --set extra\n  fix write it flatter",
        ),
        (["latent=x"], "error[bad-value] 'latent' takes latent, which cannot be given on the command line\n  at  --set latent"),
        (["a.=1"], "error[unknown-input] the workflow has no input 'a.'\n  at  --set a."),
        (["steps=1", "steps=2"], "error[set-twice] 'steps' is given twice\n  at  steps\n  fix keep one of them"),
    ],
)
def test_mistakes(texts: list[str], told: str) -> None:
    with pytest.raises(WorkflowInvalid) as caught:
        given(*texts)
    assert caught.value.problems[0].render().startswith(told)


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        ("steps=[]", "error[no-runs] 'steps' has no values\n  at  --sweep steps\n  fix write --sweep steps=1,2,3"),
        ("steps=3..1", "error[bad-value] 'steps' is '3..1', which has nothing in it\n  at  --sweep steps\n  fix write FIRST..LAST..STEP"),
        ("steps=1,", "error[bad-value] 'steps' must be a whole number, but is ''\n  at  --sweep steps\n  fix write it in digits"),
    ],
)
def test_mistakes_of_sweeps(sweep: str, told: str) -> None:
    with pytest.raises(WorkflowInvalid) as caught:
        given(sweep=(sweep,))
    [problem] = caught.value.problems
    assert problem.render().startswith(told)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    batch = tmp_path / "b.jsonl"
    batch.write_text('{"steps": 1}\n[1]\n{"stepz": 1}\n{\n')
    with pytest.raises(WorkflowInvalid) as caught:
        given("promt=x", batch=str(batch), sweep=("steps", "seed=1,x"), inputs=str(tmp_path / "none.json"))
    assert [(problem.code, problem.line) for problem in caught.value.problems] == [
        ("file-missing", 0), ("bad-json", 2), ("unknown-input", 3), ("bad-json", 4), ("unknown-input", 0), ("bad-set", 0), ("bad-value", 0)
    ]  # fmt: skip


def test_only_a_line_feed_ends_a_line_of_a_batch(tmp_path: Path) -> None:
    batch = tmp_path / "b.jsonl"
    batch.write_bytes('{"prompt": "a\u2028b"}\r\n{"prompt": "c\x85d"}\n'.encode())
    assert [run.inputs["prompt"] for run in given(batch=str(batch))] == ["a\u2028b", "c\x85d"]


def test_a_batch_without_lines_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(WorkflowInvalid, match="has no lines"):
        given(batch=str(tmp_path / "empty.jsonl"))


def test_pictures_are_read_from_their_files(tmp_path: Path) -> None:
    import PIL.Image

    path = tmp_path / "p.png"
    PIL.Image.new("RGB", (3, 2), (255, 0, 0)).save(path)
    assert from_text(types.parse("image"), str(path)).shape == (1, 3, 2, 3)
    assert from_text(types.parse("mask | none"), str(path)).shape == (1, 1, 2, 3)
    assert len(from_text(types.parse("list[image]"), json.dumps([str(path)] * 2))) == 2
    (tmp_path / "no.png").write_text("x")
    (tmp_path / "half.png").write_bytes(path.read_bytes()[:45])
    PIL.Image.new("F", (2, 2), 300.0).save(tmp_path / "wide.tif")
    for name, told, fix in (
        ("no.png", "is no picture", "give a picture, as PNG or JPEG say"),
        ("half.png", "is damaged: ", "get the file again"),
        ("wide.tif", "has values from 300 to 300, but white is 1", "save it as a PNG of 8 or 16 bits a channel"),
        ("nothing.png", "cannot read ", "give the path of a file"),
    ):
        with pytest.raises(Unreadable, match=told) as caught:
            from_text(types.parse("image"), str(tmp_path / name))
        assert caught.value.fix == fix


def test_a_picture_of_one_plane_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    import numpy
    import PIL.Image

    values = numpy.arange(12, dtype=numpy.uint8).reshape(3, 4)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(values).save(tmp_path / "turned.tif", exif=exif)
    read = from_text(types.parse("mask"), str(tmp_path / "turned.tif"))
    assert numpy.array_equal(read.bytes_hwc()[0, :, :, 0], numpy.rot90(values, -1))


@pytest.mark.parametrize(("tag", "value", "told"), [(262, 0, "is a TIFF whose 0 is white"), (258, 12, "is a TIFF of 12 bits")])
def test_grey_pictures_that_pillow_takes_for_others(tmp_path: Path, tag: int, value: int, told: str) -> None:
    import numpy
    import PIL.Image

    path = tmp_path / "grey.tif"
    PIL.Image.fromarray(numpy.zeros((4, 4), numpy.uint16)).save(path)
    entry = struct.pack("<HHI", tag, 3, 1)
    before, found, after = path.read_bytes().partition(entry)
    path.write_bytes(before + found + struct.pack("<H", value) + after[2:])
    with pytest.raises(Unreadable, match=told):
        from_text(types.parse("image"), str(path))


def test_sound_is_read_from_a_wav_file(tmp_path: Path) -> None:
    import numpy

    from nodegraph import Audio
    from nodegraph.output import save_value

    written = Audio(numpy.array([[[0.0, 0.5, -1.0, 1.0]]], dtype=numpy.float32), rate=8000)
    [path] = save_value(written, tmp_path, "a", {})
    read = from_text(types.parse("audio"), str(path))
    assert read.rate == 8000
    numpy.testing.assert_allclose(read.numpy(), written.numpy(), atol=1 / 32767)
