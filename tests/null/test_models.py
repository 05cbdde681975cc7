"""Models that have parts of another, which lies beside them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

from nodegraph import Engine, Files, Handle, Kind, ModelRef, Run, node
from nodegraph.literals import Refused
from nodegraph.models import ModelFolder

BASE = {"model_index.json": {"unet": 1}, "unet/config.json": {"of": "base"}, "vae/config.json": {"of": "base"}}
VARIANT = {"model_index.json": {"nodegraph_base": "base"}, "unet/config.json": {"of": "variant"}}


def write(folder: Path, files: dict) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))


@pytest.fixture
def models(tmp_path):
    write(tmp_path / "base", BASE)
    write(tmp_path / "base/unet", {"only_of_base.json": {}})
    write(tmp_path / "variant", VARIANT)
    return ModelFolder([tmp_path], lambda path: path.read_bytes()[:8] + str(path).encode())


def test_a_model_has_the_parts_that_it_lacks_from_its_base(models):
    assert models.files("variant") == ["model_index.json", "unet/config.json", "vae/config.json"]
    assert models.json("variant", "unet/config.json") == {"of": "variant"}
    assert models.json("variant", "vae/config.json") == {"of": "base"}
    assert models.json("variant", "unet/only_of_base.json") is None  # a part is of one of them, whole


def test_its_files_are_found_where_they_lie(models, tmp_path):
    reference = models.ref("variant")
    located = models.locate(reference.files)
    assert located.path("unet/config.json") == tmp_path / "variant/unet/config.json"
    assert located.path("vae/config.json") == tmp_path / "base/vae/config.json"
    assert models.info("variant")["bytes"] == sum(located.path(name).stat().st_size for name in models.files("variant"))
    (tmp_path / "base/vae/config.json").unlink()
    assert models.locate(reference.files) is None


def test_one_that_is_not_there_gives_nothing(models, tmp_path):
    write(tmp_path / "alone", {"model_index.json": {"nodegraph_base": "nowhere"}})
    assert models.files("alone") == ["model_index.json"]
    assert models.json("alone", "vae/config.json") is None
    with pytest.raises(Refused, match="has its other parts from 'nowhere', which is not beside it"):
        models.model("alone", "diffusion")
    assert models.model("variant", "diffusion") == "variant"


def test_folders_that_are_linked_are_parts_too(models, tmp_path):
    write(tmp_path / "linked", {"model_index.json": {}})
    for part in ("unet", "vae"):
        (tmp_path / "linked" / part).symlink_to(Path("..", "base", part))
    assert models.files("linked") == ["model_index.json", "unet/config.json", "unet/only_of_base.json", "vae/config.json"]
    located = models.locate(models.ref("linked").files)
    assert located.json("vae/config.json") == {"of": "base"}


def test_links_that_lead_back_are_not_followed(models, tmp_path):
    before = models.files("base")
    for place, target in (("loop", "base"), ("vae/up", "base"), ("vae/same", "base/vae"), ("unet/round", "elsewhere")):
        (tmp_path / "base" / place).symlink_to(tmp_path / target)
    write(tmp_path / "elsewhere", {"a.json": {}})
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "base")
    assert models.files("base") == sorted([*before, "unet/round/a.json"])


def test_links_that_fan_out_are_not_followed_for_ever(models, tmp_path):
    """Each folder leads to the next one twice, and none back."""
    for number in range(40):
        write(tmp_path / f"away/s{number}", {"config.json": {"number": number}})
        for name in "ab":
            (tmp_path / f"away/s{number}" / name).symlink_to(tmp_path / f"away/s{number + 1}")
    write(tmp_path / "fan", {"model_index.json": {}})
    (tmp_path / "fan/unet").symlink_to(tmp_path / "away/s0")
    assert [name for name in models.files("fan") if name.count("/") < 3] == [
        "model_index.json",
        "unet/a/config.json",
        "unet/b/config.json",
        "unet/config.json",
    ]
    assert len(models.files("fan")) == 1 + 1 + 2 + 4


@pytest.mark.parametrize("name", ["variant", "../base", "..", "", "a\\b", 3, None])
def test_a_base_is_another_folder_beside_the_model(models, tmp_path, name):
    write(tmp_path / "variant", {"model_index.json": {"nodegraph_base": name}})
    assert models.files("variant") == ["model_index.json", "unet/config.json"]


def test_a_file_that_vanishes_while_it_is_looked_at_is_not_there(models, monkeypatch):
    from nodegraph import models as looked_at

    listed = looked_at._paths

    def late(path: Path) -> dict[str, str]:
        return {**listed(path), "vae/gone.json": f"{path}/vae/gone.json"}

    monkeypatch.setattr(looked_at, "_paths", late)
    (found,) = (one for one in models.list() if one.name == "base")
    assert found.size == sum(file.stat().st_size for file in found.path.rglob("*.json"))
    assert "vae/gone.json" not in looked_at._stamps(found.path)


@pytest.mark.parametrize("end", ["", "/", "/../base"])
def test_a_model_given_by_its_path_is_told_how_it_is_named(models, tmp_path, end):
    with pytest.raises(Refused) as refused:
        models.model(f"{tmp_path}/base{end}", "diffusion")
    assert (refused.value.code, "is a path" in refused.value.text) == ("unknown-model", True)
    assert refused.value.fix == f"call it 'base', and name the folder it lies in: --models {tmp_path}"


def test_what_is_only_like_a_path_is_an_unknown_name(models):
    for name in ("/none", "~nobody/x", 300 * "a", "a/" + 5000 * "b", "a/\0"):
        with pytest.raises(Refused) as refused:
            models.model(name, "diffusion")
        assert "is a path" not in refused.value.text


def test_a_configuration_that_is_replaced_is_read_again_whatever_its_size_and_time(models, tmp_path):
    config = tmp_path / "base/vae/config.json"
    weights = tmp_path / "base/vae/weights.safetensors"
    for of in ("this", "that"):
        config.write_text(json.dumps({"of": of}))
        header = json.dumps({"__metadata__": {"of": of}}).encode()
        weights.write_bytes(len(header).to_bytes(8, "little") + header)
        for path in (config, weights):
            os.utime(path, ns=(1, 1))
        assert models.json("base", "vae/config.json") == {"of": of}
        assert models.header("base", "vae/weights.safetensors") == {"__metadata__": {"of": of}}


# --- weights that are replaced while a run is under way ----------------------------------------

MEDDLE: list[Callable[[], None]] = []


def load_said(files: Files, device: str, dtype: str) -> str:
    if "meanwhile" in (said := files.path("config.json").read_text()):
        MEDDLE.pop()()
    return json.loads(said)["of"]


@node
def meddle(number: int) -> int:
    """Somebody replaces a file."""
    while MEDDLE:
        MEDDLE.pop()()
    return number


@node
def say(name: Annotated[ModelRef, Kind("said")], number: int, *, run: Run) -> str:
    """What the weights say."""
    with run.use(Handle.of(name), load_said) as said:
        return said


SAYING = {
    "nodegraph": 1,
    "nodes": {
        "first": {"use": "meddle", "with": {"number": 1}},
        "say": {"use": "say", "from": {"number": "first.int"}, "with": {"name": "mine"}},
    },
    "outputs": {"said": "say.text"},
}


def write_said(folder: Path, said: str, **further: str) -> None:
    """Put a file in the place of another, as programs that copy models do."""
    aside = folder / ".aside"
    aside.write_text(json.dumps({"nodegraph_kind": "said", "of": said, **further}))
    os.replace(aside, folder / "config.json")


@pytest.mark.parametrize("age", [0, 60], ids=["new", "old"])
@pytest.mark.parametrize("cached", [False, True])
def test_weights_that_are_replaced_before_they_are_read_make_no_result_of_those_they_were(tmp_path, age, cached):
    folder = tmp_path / "models/mine"
    folder.mkdir(parents=True)
    write_said(folder, "one")
    os.utime(folder / "config.json", (time.time() - age,) * 2)
    with Engine(models=[tmp_path / "models"], nodes=[meddle, say], cache=tmp_path / "cache" if cached else False) as engine:
        MEDDLE.append(lambda: write_said(folder, "two"))
        job = engine.submit(SAYING)
        assert [(one.code, one.text) for one in job.result().problems] == [
            ("model-gone", "the files of the model have changed since they were looked at")
        ]
        assert engine.run(SAYING).outputs["said"] == "two"
        write_said(folder, "one")
        assert engine.run(SAYING).outputs["said"] == "one"


def test_weights_that_are_replaced_while_they_are_read_are_not_taken(tmp_path):
    folder = tmp_path / "models/mine"
    folder.mkdir(parents=True)
    write_said(folder, "one", when="meanwhile")
    with Engine(models=[tmp_path / "models"], nodes=[say], cache=False) as engine:
        MEDDLE.append(lambda: write_said(folder, "two"))
        saying = {"nodegraph": 1, "nodes": {"say": {"use": "say", "with": {"name": "mine", "number": 1}}}, "outputs": {"said": "say.text"}}
        assert [one.code for one in engine.submit(saying).result().problems] == ["model-gone"]
        assert engine.run(saying).outputs["said"] == "two"


def test_weights_that_are_written_again_as_they_were_are_the_same(tmp_path):
    folder = tmp_path / "models/mine"
    folder.mkdir(parents=True)
    write_said(folder, "one")
    with Engine(models=[tmp_path / "models"], nodes=[meddle, say], cache=False) as engine:
        MEDDLE.append(lambda: write_said(folder, "one"))
        assert engine.run(SAYING).outputs["said"] == "one"


LOADING: list[int] = []


def load_slowly(files: Files, device: str, dtype: str) -> int:
    LOADING.append(1)
    time.sleep(0.05)
    return LOADING.pop() + len(LOADING)


@node
def count_loads(name: Annotated[ModelRef, Kind("said")], *, run: Run) -> int:
    """How many weights were being loaded when these were."""
    with run.use(Handle.of(name), load_slowly) as count:
        return count


def test_weights_are_loaded_one_after_another(tmp_path):
    """Libraries change torch for all threads while they load, and what two at once change back in the wrong order stays changed."""
    for name in ("one", "two"):
        (tmp_path / "models" / name).mkdir(parents=True)
        write_said(tmp_path / "models" / name, name)
    nodes = {name: {"use": "count_loads", "with": {"name": name}} for name in ("one", "two")}
    flow = {"nodegraph": 1, "nodes": nodes, "outputs": {name: f"{name}.int" for name in nodes}}
    engines = [Engine(models=[tmp_path / "models"], nodes=[count_loads], cache=False) for _ in range(2)]
    jobs = [engine.submit(flow) for engine in engines]
    assert [job.result().outputs for job in jobs] == [{"one": 1, "two": 1}] * 2
    for engine in engines:
        assert engine.resident.clear() == 0
        assert not engine.resident._loaded, "what counts no bytes goes too"
        engine.close()


class Mapped:
    """Weights that lie in their file, as those do that torch reads from safetensors."""

    def __init__(self, path: Path):
        self.numbers = np.memmap(path, np.uint8, "r")

    def parameters(self) -> list[np.ndarray]:
        return [self.numbers]

    def buffers(self) -> list[np.ndarray]:
        return []

    def to(self, place: str) -> Mapped:
        return self


def load_mapped(files: Files, device: str, dtype: str) -> Mapped:
    return Mapped(files.path("weights.bin"))


@node
def add_up(name: Annotated[ModelRef, Kind("said")], number: int, *, run: Run) -> int:
    """The sum of all weights, and a number."""
    with run.use(Handle.of(name), load_mapped) as weights:
        return number + int(weights.numbers.sum())


def adding(number: int) -> dict:
    nodes = {
        "first": {"use": "meddle", "with": {"number": number}},
        "add": {"use": "add_up", "from": {"number": "first.int"}, "with": {"name": "mine"}},
    }
    return {"nodegraph": 1, "nodes": nodes, "outputs": {"sum": "add.int"}}


def test_weights_that_are_written_over_while_they_are_in_use_make_no_result(tmp_path):
    folder = tmp_path / "models/mine"
    folder.mkdir(parents=True)
    write_said(folder, "nothing")
    (folder / "weights.bin").write_bytes(bytes([1] * 100))
    aside = tmp_path / "aside"
    with Engine(models=[tmp_path / "models"], nodes=[meddle, add_up], cache=False) as engine:

        def write_over() -> None:
            with (folder / "weights.bin").open("r+b") as file:
                file.write(bytes([2] * 100))

        def replace() -> None:
            aside.write_bytes(bytes([3] * 100))
            os.replace(aside, folder / "weights.bin")

        assert engine.run(adding(0)).outputs["sum"] == 100
        MEDDLE.append(write_over)
        assert [one.code for one in engine.submit(adding(1)).result().problems] == ["model-gone"]
        assert engine.run(adding(1)).outputs["sum"] == 201
        MEDDLE.append(replace)
        assert engine.run(adding(2)).outputs["sum"] == 202  # those that are loaded are whole
        assert engine.run(adding(3)).outputs["sum"] == 303


@pytest.mark.parametrize("part", ["model_index.json", "unet/config.json"])
def test_a_model_that_there_is_no_room_for_leaves_nothing(models, tmp_path, monkeypatch, part):
    copy = shutil.copyfile

    def full(source, target, **options):
        if os.fspath(source).endswith(part):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(source))
        return copy(source, target, **options)

    stock = ModelFolder([tmp_path / "stock"], lambda path: b"")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", full)
        with pytest.raises(Refused, match=r"'base' cannot be written into .*No space left on device") as caught:
            stock.add(tmp_path / "base")
    assert caught.value.code == "not-written"
    assert os.listdir(tmp_path / "stock") == []
    assert stock.add(tmp_path / "base").path == tmp_path / "stock" / "base"


def test_a_model_is_added_under_a_name_and_over_nothing(models, tmp_path):
    (tmp_path / "stock" / "mine").mkdir(parents=True)
    stock = ModelFolder([tmp_path / "stock"], lambda path: b"")
    for name, code in (("mine", "model-exists"), ("../mine", "bad-name"), (".mine", "bad-name")):
        with pytest.raises(Refused) as caught:
            stock.add(tmp_path / "base", name)
        assert caught.value.code == code
    assert os.listdir(tmp_path / "stock" / "mine") == []
