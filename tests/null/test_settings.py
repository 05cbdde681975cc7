"""Settings: which place wins, and what is said of mistakes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nodegraph import Engine
from nodegraph.settings import Settings, SettingsInvalid, builtin_packs, packs_in, parse_size


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "deep" / "er"
    folder.mkdir(parents=True)
    return folder


def write(project: Path, text: str) -> Path:
    file = project.parent.parent / "nodegraph.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_flags_come_before_variables_before_the_file(project: Path) -> None:
    file = write(project, 'device = "cpu"\ndtype = "float16"\noutput = "out"\n')
    variables = {"NODEGRAPH_DTYPE": "bfloat16", "NODEGRAPH_OUTPUT": "from_variable", "HOME": "/x"}
    found = Settings.load({"output": "from_flag", "cache": None}, variables, project)
    assert (found.device, found.dtype, found.output) == ("cpu", "bfloat16", project / "from_flag")
    assert found.file == file


def test_paths_in_the_file_start_from_the_file(project: Path) -> None:
    file = write(project, 'packs = ["mine", "/abs"]\ncache = "c"\n')
    found = Settings.load({}, {}, project)
    assert found.packs == (file.parent / "mine", Path("/abs"))
    assert found.cache == file.parent / "c"


def test_a_list_replaces_the_list_behind_it(project: Path) -> None:
    write(project, 'models = ["a"]')
    assert Settings.load({}, {"NODEGRAPH_MODELS": f"/x{__import__('os').pathsep}y"}, project).models == (Path("/x"), project / "y")


@pytest.mark.skipif(os.name != "posix", reason="a folder in use is not removed elsewhere")
def test_a_working_folder_that_was_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SettingsInvalid, match="the working folder is no longer there"):
        Settings.load()


def test_without_anything_the_users_folders_are_used(project: Path) -> None:
    found = Settings.load({}, {}, project)
    assert "nodegraph" in str(found.cache)
    assert found.models[0].name == "models"
    assert found.packs[0].name == "packs"
    assert found.output == Path("output")
    assert found.memory is None
    assert found.file is None


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("12", 12), ("1k", 1024), ("1KB", 1000), ("1 KiB", 1024), ("1.5G", 3 << 29), ("8GiB", 8 << 30), ("2t", 2 << 40), ("7b", 7)],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == count


def test_a_size_may_be_larger_than_any_disk() -> None:
    assert parse_size("9" * 400) > 10**390


@pytest.mark.parametrize(("name", "value"), [("weights", -1), ("weights", 1.5), ("weights", True), ("memory", -1), ("disk", -1)])
def test_an_engine_refuses_what_is_no_size(name: str, value: object) -> None:
    with pytest.raises(SettingsInvalid, match=f"'{name}' must be a size, but is {value}"):
        Engine(**{name: value})


@pytest.mark.parametrize("name", ["packs", "models", "roots"])
def test_an_engine_refuses_a_path_in_place_of_a_list(name: str) -> None:
    for path in ("one", Path("one"), 5):
        with pytest.raises(SettingsInvalid, match=f"'{name}' must be a list of paths"):
            Engine(**{name: path})


@pytest.mark.parametrize("text", ["", "x", "-1", "1x", "1.5.5G", "GiB", "1kk"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        parse_size(text)


def test_every_mistake_is_reported_at_once(project: Path) -> None:
    file = write(project, 'modles = ["x"]\nthreads = 0\ndevice = "gpu"\ncache = 5\nstrict = "perhaps"\n')
    with pytest.raises(SettingsInvalid) as caught:
        Settings.load({"memory": "lots"}, {"NODEGRAPH_DTYPES": "x", "NODEGRAPH_ZZZ": "1"}, project)
    assert str(caught.value).splitlines() == [
        "error[bad-setting] 'memory' must be a size, but is 'lots'",
        "  at  --memory",
        "  fix write it like 8GiB",
        "error[unknown-setting] there is no setting 'NODEGRAPH_DTYPES'",
        "  at  NODEGRAPH_DTYPES",
        "  fix variables are named NODEGRAPH_…: did you mean 'dtype'?",
        "error[unknown-setting] there is no setting 'modles'",
        f"  at  {file}: modles",
        "  fix did you mean 'models'?",
        "error[bad-setting] 'threads' must be a whole number of at least 1, but is 0",
        f"  at  {file}: threads",
        "error[bad-setting] 'device' must be auto, cpu, cuda or cuda:0, but is 'gpu'",
        f"  at  {file}: device",
        "error[bad-setting] 'cache' must be a path, but is 5",
        f"  at  {file}: cache",
        "  fix write it in quotes",
        "error[bad-setting] 'strict' must be true or false, but is 'perhaps'",
        f"  at  {file}: strict",
        "7 problems",
    ]


def test_a_file_that_is_no_toml(project: Path) -> None:
    file = write(project, "device = cpu")
    with pytest.raises(SettingsInvalid, match="this is not TOML"):
        Settings.load({}, {}, project)
    file.write_bytes(b"\xff\xff")
    with pytest.raises(SettingsInvalid, match="this is not TOML"):
        Settings.load({}, {}, project)


@pytest.mark.parametrize("text", ["off", "False", "none"])
def test_the_cache_can_be_off(project: Path, text: str) -> None:
    assert Settings.load({}, {"NODEGRAPH_CACHE": text}, project).cache is False


@pytest.mark.parametrize("text", ["", "a\0b", "~nobody-of-this-name/x"])
@pytest.mark.parametrize("name", ["cache", "output", "packs"])
def test_what_is_no_path(project: Path, name: str, text: str) -> None:
    """Nothing would be the working folder: a cache would be made, and cleared, among somebody's files."""
    if name == "packs" and not text:
        assert Settings.load({name: [text]}, {}, project).packs == ()  # as in PATH
        return
    with pytest.raises(SettingsInvalid) as refused:
        Settings.load({name: [text] if name == "packs" else text}, {}, project)
    [problem] = refused.value.problems
    assert problem.code == "bad-setting"
    assert problem.text.startswith(f"{name!r} must be a path")
    assert problem.fix


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_devices(project: Path, device: str) -> None:
    assert Settings.load({"device": device}, {}, project).device == device


@pytest.mark.parametrize("device", ["", "cpu:0", "cuda:", "cuda:x", "cuda:²", "tpu"])
def test_what_is_no_device(project: Path, device: str) -> None:
    with pytest.raises(SettingsInvalid):
        Settings.load({"device": device}, {}, project)


def test_a_pack_folder_is_a_pack_or_holds_packs(tmp_path: Path) -> None:
    for name in ("b", "a", "no"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        (tmp_path / name / "pack.toml").write_text("")
    assert packs_in(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert packs_in(tmp_path / "a") == [tmp_path / "a"]
    assert packs_in(tmp_path / "missing") == [tmp_path / "missing"]  # so that somebody says that it is not there
    assert packs_in(Settings.load({}, {}, tmp_path).packs[0]) == []  # nobody has to have a folder of their own


def test_the_built_in_packs_come_last(tmp_path: Path) -> None:
    (tmp_path / "pack.toml").write_text("")
    folders = Settings(packs=(tmp_path,)).pack_folders
    assert folders[0] == tmp_path
    assert folders[1:] == packs_in(builtin_packs())
