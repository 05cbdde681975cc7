"""Where packs are found, and how a new one begins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_packs import body, write

from nodegraph import Engine, distributions
from nodegraph.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def names(tmp_path, monkeypatch, capsys):
    """The names of the packs that are found from a folder with the given flags."""
    monkeypatch.chdir(tmp_path)

    def find(*flags: str) -> dict[str, str]:
        assert main(["packs", "list", "--json", *flags]) == 0
        return {pack["name"]: pack["path"] for pack in json.loads(capsys.readouterr().out)}

    return find


def test_folders_of_packs(names, tmp_path, monkeypatch):
    """Flag, environment, nodegraph.toml, the user's folder: each replaces the list of the places behind it, as PATH does."""
    for number, place in enumerate(("flag", "variable", "project", "data/nodegraph/packs")):
        write(tmp_path / place / f"pack_{number}", nodes=body(f"node_{number}", "1"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert "pack_3" in names()
    (tmp_path / "nodegraph.toml").write_text('packs = ["project"]\n')
    assert {"pack_2", "core"} <= set(found := names())
    assert "pack_3" not in found
    monkeypatch.setenv("NODEGRAPH_PACKS", os.pathsep.join([str(tmp_path / "variable"), str(tmp_path / "project" / "pack_2")]))
    assert {"pack_1", "pack_2"} <= set(names())
    assert {"pack_0"} == {name for name in names("--packs", "flag") if name.startswith("pack_")}
    assert {"pack_0", "pack_3"} == {
        name for name in names("--packs", "flag", "--packs", "data/nodegraph/packs") if name.startswith("pack_")
    }


def test_a_pack_named_twice_is_one(names, tmp_path):
    write(tmp_path / "mine", nodes=body("plum", "1"))
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with Engine(packs=[tmp_path, tmp_path / "mine", tmp_path / "link"], cache=False) as engine:
        assert not any(info.problems for info in engine.packs)
        assert [info.name for info in engine.packs].count("mine") == 1


def test_folder_that_is_not_there(names, tmp_path, capsys):
    assert main(["packs", "list", "--packs", "no/such"]) == 0
    assert f"error[no-pack] there is no folder '{tmp_path}/no/such'" in capsys.readouterr().err


def test_a_pack_to_check_is_named_by_its_folder(tmp_path, monkeypatch, capsys):
    """It was told to be taken out of a setting that did not name it, also where an installed one has that name."""
    found = [distributions.InstalledPack(tmp_path / "site" / "my pack", "mine", editable=False)]
    monkeypatch.setattr(distributions, "installed_packs", lambda: found)
    for name, fix in {"my pack": f"name its folder: '{tmp_path}/site/my pack'", "other": "name a folder with a pack.toml"}.items():
        assert main(["packs", "check", name]) == 1
        assert capsys.readouterr().out == f"error[no-pack] there is no folder {name!r}\n  fix {fix}\n1 problem\n"


PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "some-nodes"
version = "1.2"
[project.entry-points."nodegraph.packs"]
installed = "some_nodes.installed"
absent = "some_nodes.absent"
[tool.hatch.build.targets.wheel]
packages = ["some_nodes"]
"""


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """A folder in which a distribution with a pack is really installed, on sys.path."""
    project = tmp_path / "project"
    write(project / "some_nodes" / "installed", nodes=body("plum", "value + 1", "print('imported')"), toml="version = 4")
    (project / "some_nodes" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (project / "pyproject.toml").write_text(PROJECT)
    target = tmp_path / "site"
    flags = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *flags, str(project)], check=True, timeout=300)
    monkeypatch.syspath_prepend(str(target))
    return target


def test_installed_distribution(site, names, capsys):
    found = names()
    assert found["installed"] == str(site / "some_nodes" / "installed")
    assert main(["nodes", "plum"]) == 0
    said = capsys.readouterr()
    assert "plum  (pack installed, version 1)" in said.out
    assert "imported" not in said.out
    assert main(["packs", "list"]) == 0
    said = capsys.readouterr().err
    assert f"there is no folder '{site}/some_nodes/absent'" in said
    assert "fix mend the entry point of 'some_nodes', or uninstall it" in said
    with Engine(cache=False) as engine:
        result = engine.run({"nodes": {"a": {"use": "plum"}}, "outputs": {"out": "a.int"}})
        assert result.outputs == {"out": 2}
        assert engine.registry.get("plum").key_name == "installed/plum@1"  # its version counts, not the bytes of its code


def test_editable_installation_is_known_by_its_code(site):
    (info,) = site.glob("*.dist-info")
    (info / "direct_url.json").write_text('{"url": "file:///x", "dir_info": {"editable": true}}')
    distributions._found.clear()
    with Engine(cache=False) as engine:
        identity = engine.registry.get("plum").identity
        file = site / "some_nodes" / "installed" / "nodes.py"
        file.write_text(file.read_text().replace("value + 1", "value + 2"))
        assert engine.reload([file])
        assert engine.registry.get("plum").identity not in ("", identity)


# -- a new pack ----------------------------------------------------------------------------------------------------------


def test_new_pack_is_found_and_its_tests_pass(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["packs", "new", "my_pack", "--at", "packs"]) == 0
    said = capsys.readouterr()
    assert said.out == "packs/my_pack\n"
    assert "--packs packs" in said.err
    assert sorted(path.name for path in (tmp_path / "packs" / "my_pack").rglob("*.*")) == ["nodes.py", "pack.toml", "test_nodes.py"]
    assert main(["nodes", "my_pack_fade", "--packs", "packs"]) == 0
    assert "Make a picture darker." in capsys.readouterr().out
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    test, show = (line.split() for line in said.err.partition("try it:\n")[2].splitlines())
    assert (test[0], show[0]) == ("pytest", "nodegraph")
    assert main(show[1:]) == 0
    done = subprocess.run(
        [sys.executable, "-m", *test, "-q", "-p", "no:cacheprovider"],
        env=variables, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("my pack", "bad-name", "'my pack' is no name for a new pack"),
        ("class", "bad-name", "'class' is no name"),
        ("core", "pack-clash", "there is a pack 'core' already"),
        ("there", "file-exists", "is there already"),
        ("file", "file-exists", "is there already"),
    ],
)
def test_new_pack_that_cannot_be_made(name, code, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    assert main(["packs", "new", name]) == 2
    error = capsys.readouterr().err
    assert f"error[{code}]" in error
    assert said in error
    assert len(list(tmp_path.rglob("*"))) == 3


def test_a_new_pack_is_not_made_in_another(tmp_path, monkeypatch, capsys):
    assert main(["packs", "new", "outer", "--at", str(tmp_path)]) == 0
    monkeypatch.chdir(tmp_path / "outer" / "tests")
    capsys.readouterr()
    assert main(["packs", "new", "inner"]) == 2
    assert capsys.readouterr().err == (
        "error[file-exists] '.' lies in the pack 'outer', which would take the nodes of the new one for its own\n"
        "  at  inner\n  fix make it beside that one: --at ../..\n1 problem\n"
    )
    assert main(["packs", "new", "inner", "--at", "../.."]) == 0
    assert main(["packs", "check", "../pack.toml"]) == 1
    assert "there is no folder '../pack.toml'\n  fix name a folder with a pack.toml" in capsys.readouterr().out


SMALLEST = """\
from nodegraph import Image, node
@node
def negative(image: Image) -> Image:
    return Image(1 - image.numpy())
"""


def test_the_smallest_node(tmp_path):
    """Four lines, and an empty pack.toml."""
    from nodegraph.testing import Pack

    assert len(SMALLEST.splitlines()) <= 4
    write(tmp_path / "small", nodes=SMALLEST)
    pack = Pack(tmp_path / "small")
    assert [problem.code for problem in pack.check()] == ["no-doc"]
