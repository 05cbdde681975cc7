"""Sweeps: what is run, the labelled picture, the table."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy
import PIL.Image
import pytest
from toys import PAINT, toys, write  # noqa: F401

from nodegraph import types
from nodegraph.cli import main
from nodegraph.cli.typed import span
from nodegraph.metadata import GRID_KEY
from nodegraph.plot import MAX_SIDE, Heading, plot, side_by_side

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _place(toys: Path) -> None:  # noqa: F811
    pass


def flat(level: float, width: int = 8, height: int = 8) -> Any:
    return PIL.Image.new("RGB", (width, height), (round(level * 255),) * 3)


def test_a_grid_shows_every_run_where_it_belongs() -> None:
    write(PAINT)
    assert main(["run", "w.json", "-q", "--sweep", "level=0,0.5,1", "--sweep", "dim.amount=0.1,0.8", "--grid", "grid.png"]) == 0
    with PIL.Image.open("grid.png") as picture:
        record = json.loads(picture.text[GRID_KEY])
        pixels = numpy.asarray(picture.convert("L")).astype(int)
    assert record["axes"] == [{"name": "level", "values": ["0", "0.5", "1"]}, {"name": "dim.amount", "values": ["0.1", "0.8"]}]
    assert [cell["at"] for cell in record["cells"]] == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]]
    height, width = pixels.shape
    cells = {}
    for cell in record["cells"]:
        with PIL.Image.open(Path("out") / cell["files"][0]) as single:
            cells[tuple(cell["at"])] = numpy.asarray(single.convert("L").resize((128, 128), PIL.Image.Resampling.NEAREST)).astype(int)
    right, bottom = width - 6 - 6, height - 6 - 6  # the last cell ends a gap before the edge, twice
    for (column, row), expected in cells.items():
        x, y = right - (3 - column) * 134 + 6, bottom - (2 - row) * 134 + 6
        assert abs(pixels[y : y + 128, x : x + 128] - expected).max() <= 1, (column, row)


def test_the_picture_is_the_same_for_the_same_sweep() -> None:
    write(PAINT)
    command = ["run", "w.json", "-q", "--sweep", "seed=0..2", "--grid"]
    assert main([*command, "a.png"]) == main([*command, "b.png", "--no-cache"]) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_a_third_axis_is_in_blocks_and_a_fourth_is_refused(capsys: Capture) -> None:
    write(PAINT)
    three = ["--sweep", "level=0,1", "--sweep", "seed=1,2", "--sweep", "dim.amount=0,1"]
    assert main(["run", "w.json", "-q", *three, "--grid", "grid.png"]) == 0
    assert len(json.loads(PIL.Image.open("grid.png").text[GRID_KEY])["cells"]) == 8
    assert main(["run", "w.json", "-q", *three, "--sweep", "paint.size=4,8", "--grid", "other.png"]) == 2
    assert "error[too-many-axes] a grid shows up to 3 sweeps, but there are 4" in capsys.readouterr().err
    assert not Path("other.png").exists()


def test_the_lines_of_a_batch_are_an_axis() -> None:
    write(PAINT)
    Path("rows.jsonl").write_text('{"level": 0}\n{"level": 1, "seed": 3}\n')
    assert main(["run", "w.json", "-q", "--batch", "rows.jsonl", "--grid", "grid.png"]) == 0
    assert json.loads(PIL.Image.open("grid.png").text[GRID_KEY])["axes"] == [{"name": "batch", "values": ["level=0", "level=1 seed=3"]}]


def test_a_grid_is_not_replayed(capsys: Capture) -> None:
    write(PAINT)
    assert main(["run", "w.json", "-q", "--sweep", "seed=0..1", "--grid", "grid.png"]) == 0
    assert main(["replay", "grid.png"]) == 2
    assert "error[no-metadata] 'grid.png' is the picture of a whole sweep" in capsys.readouterr().err


def test_tables_say_what_was_what() -> None:
    write(PAINT)
    sweeps = ["--set", "seed=7", "--sweep", "level=0.25,1"]
    for table in ("t.csv", "t.jsonl"):
        assert main(["run", "w.json", "-q", *sweeps, "--table", table]) == 0
    rows = list(csv.DictReader(Path("t.csv").read_text().splitlines()))
    assert [(row["run"], row["status"], row["level"], row["seed"]) for row in rows] == [("1", "ok", "0.25", "7"), ("2", "ok", "1.0", "7")]
    records = [json.loads(line) for line in Path("t.jsonl").read_text().splitlines()]
    assert [record["outputs"]["image"] for record in records] == [row["output.image"] for row in rows]
    assert all(Path(row["output.image"]).is_file() for row in rows)


def test_a_failed_run_is_in_grid_and_table() -> None:
    flow = {
        "inputs": {"at": {"type": "int", "default": 0}},
        "nodes": {
            "list": {"use": "integer_range", "with": {"stop": 2}},
            "item": {"use": "list_item", "from": {"items": "list.ints", "index": "inputs.at"}},
            "p": {"use": "paint", "from": {"seed": "item.value"}},
        },
        "outputs": {"image": "p.image"},
    }
    write(flow)
    assert main(["run", "w.json", "-q", "--sweep", "at=0,5", "--grid", "grid.png", "--table", "t.csv"]) == 1
    assert [row["status"] for row in csv.DictReader(Path("t.csv").read_text().splitlines())] == ["ok", "failed"]
    assert [cell["status"] for cell in json.loads(PIL.Image.open("grid.png").text[GRID_KEY])["cells"]] == ["ok", "failed"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--sweep", "level=0.5,7"], "error[out-of-range] 'level' must be at most 1, but is 7"),
        (["--sweep", "dim.amount=1,x"], "error[bad-value] 'dim.amount' must be a number, but is 'x'"),
        (["--sweep", "seed=3..1"], "error[bad-value] 'seed' is '3..1', which has nothing in it"),
        (["--sweep", "seed=1..x"], "error[bad-value] 'seed' cannot go through '1..x'"),
        (["--sweep", "level=0,1", "--grid", "grid.jpg"], "error[bad-value] a grid is a PNG, but is to be 'grid.jpg'"),
        (["--sweep", "level=0,1", "--grid", "no/grid.png"], "error[file-missing] there is no folder 'no' for 'grid.png'"),
        (["--sweep", "level=0,1", "--table", "t.xls"], "error[bad-value] a table is a .csv or .jsonl file"),
    ],
)
def test_nothing_runs_when_anything_is_wrong(flags: list[str], said: str, capsys: Capture) -> None:
    write(PAINT)
    assert main(["run", "w.json", *flags]) == 2
    assert said in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_grid_needs_a_picture(capsys: Capture) -> None:
    write({"nodes": {"r": {"use": "wait", "with": {"seconds": 0.0}}}, "outputs": {"s": "r.float"}})
    assert main(["run", "w.json", "--sweep", "r.seconds=0,0.01", "--grid", "grid.png"]) == 2
    assert "error[no-picture]" in capsys.readouterr().err


@pytest.mark.parametrize("asked", ["paint.image", "pass.value"])
def test_the_outputs_of_nodes_that_are_asked_for_are_in_grid_and_table(asked: str) -> None:
    same = {"use": "switch", "with": {"condition": True}, "from": {"on_true": "paint.image", "on_false": "dim.image"}}
    write({**PAINT, "nodes": {**PAINT["nodes"], "pass": same}})
    asked_for = ["--only", asked, "--only", "image", "--only", "dim"]
    assert main(["run", "w.json", "-q", *asked_for, "--sweep", "level=0,1", "--grid", "all.png", "--table", "all.csv"]) == 0
    assert json.loads(PIL.Image.open("all.png").text[GRID_KEY])["output"] == "image"
    with open("all.csv") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [["run", "status", "level", "output.image", f"output.{asked}", "seconds"]] * 2
    assert all(Path(row[f"output.{asked}"]).is_file() for row in rows)
    assert main(["run", "w.json", "-q", "--only", asked, "--sweep", "level=0,1", "--grid", "one.png"]) == 0
    assert json.loads(PIL.Image.open("one.png").text[GRID_KEY])["output"] == asked


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_table_that_cannot_be_written_is_told(capsys: Capture) -> None:
    write(PAINT)
    Path("full.csv").symlink_to("/dev/full")
    assert main(["run", "w.json", "-q", "--sweep", "level=0,1", "--table", "full.csv"]) == 1
    assert "error[not-written] cannot write 'full.csv': No space left on device\n  at  --table" in capsys.readouterr().err


def test_a_grid_that_cannot_be_written_leaves_nothing_behind(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, raw: bytes) -> None:
        self.touch()
        raise OSError(28, "No space left on device")

    write(PAINT)
    assert main(["run", "w.json", "-q", "--sweep", "level=0,1"]) == 0
    there = sorted(Path().iterdir())
    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["run", "w.json", "-q", "--sweep", "level=0,1", "--grid", "grid.png", "--table", "t.csv"]) == 1
    assert "error[not-written] cannot write 'grid.png': No space left on device\n  at  --grid" in capsys.readouterr().err
    assert sorted(Path().iterdir()) == sorted([*there, Path("t.csv")])


def test_lists_are_swept_as_json(capsys: Capture) -> None:
    flow = {"inputs": {"items": {"type": "list[int]"}}, "nodes": {"l": {"use": "list_length", "from": {"items": "inputs.items"}}}}
    write({**flow, "outputs": {"count": "l.int"}})
    assert main(["run", "w.json", "-q", "--sweep", "items=[[1], [1, 2], []]"]) == 0
    assert capsys.readouterr().out.splitlines() == ["1", "2", "0"]
    assert main(["run", "w.json", "-q", "--sweep", "items=[1, 2]"]) == 2
    assert "error[wrong-type] 'items' takes list[int], but 1 is an int" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0..3", ["0", "1", "2", "3"]),
        ("-1..1", ["-1", "0", "1"]),
        ("3..1..-1", ["3", "2", "1"]),
        ("0..1..0.25", ["0", "0.25", "0.5", "0.75", "1"]),
        ("0.1..0.35..0.1", ["0.1", "0.2", "0.3"]),
        ("1e2..3e2..100", ["100", "200", "300"]),
        ("7", []),
        ("1.5", []),
    ],
)
def test_spans(text: str, values: list[str]) -> None:
    assert span(types.FLOAT, text) == values
    assert span(types.TEXT, text) == []


@pytest.mark.parametrize("text", ["0..10..0", "0..1e9", "0..nan", "2..1"])
def test_spans_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"cannot go through|stands for|nothing in it"):
        span(types.INT, text)


def test_large_pictures_are_made_to_fit() -> None:
    cells = {(column, row, 0): flat(0.5, 3000, 2000) for column in range(9) for row in range(2)}
    made = plot([Heading("x", [str(one) for one in range(9)]), Heading("y", ["a", "b"])], cells, {})
    assert max(made.size) <= MAX_SIDE
    assert made.width > MAX_SIDE // 2


def test_what_the_lines_of_a_batch_give_is_not_swept(capsys: Capture) -> None:
    write(PAINT)
    Path("rows.jsonl").write_text('{"seed": 1}\n{"level": 0}\n')
    assert main(["run", "w.json", "-q", "--batch", "rows.jsonl", "--sweep", "level=0.5,1", "--grid", "grid.png"]) == 2
    assert "error[set-twice] 'level' is given by --batch and by --sweep\n  at  level\n  fix take" in capsys.readouterr().err
    assert main(["run", "w.json", "-q", "--batch", "rows.jsonl", "--sweep", "dim.amount=0.1,0.2"]) == 0


def test_batches_are_side_by_side() -> None:
    both = side_by_side([flat(0.0), flat(1.0)])
    assert both.size == (18, 8)
    assert both.getpixel((0, 0)) == (0, 0, 0)
    assert both.getpixel((17, 7)) == (255, 255, 255)


@pytest.mark.skipif(sys.platform != "linux", reason="needs names of files that are no text")
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_table_names_files_whose_names_are_no_text(suffix: str) -> None:
    write(PAINT)
    assert main(["run", "w.json", "-q", "--sweep", "level=0,1", "--output", os.fsdecode(b"o\xff"), "--table", f"t.{suffix}"]) == 0
    lines = Path(f"t.{suffix}").read_text(encoding="utf-8").splitlines()
    assert sum("o\\udcff/" in line for line in lines) == 2
