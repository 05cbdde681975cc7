"""What `auto` means where there is an NVIDIA driver, and how often torch is imported to say so."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from nodegraph import Engine, devices

GPU, CPU = ("cuda:0", "float16"), ("cpu", "float32")


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a driver and a torch; the file that says which driver it is."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text("cuda = '13.0'")
    (tmp_path / "version").write_text("driver 1")
    monkeypatch.setattr(devices, "_has_nvidia", lambda: True)
    monkeypatch.setattr(devices, "_DRIVER", str(tmp_path / "version"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "torch" / "__init__.py")))
    return tmp_path / "version"


@pytest.fixture
def torch_says(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], list[bool]]:
    """Sets what torch says from now on; returns a list with what it has been asked."""

    def says(there: bool) -> list[bool]:
        asked: list[bool] = []
        monkeypatch.setattr(devices, "_torch_sees_cuda", lambda: asked.append(there) or there)
        return asked

    return says


def test_torch_is_asked_once_as_long_as_all_stays_as_it_was(driver, torch_says, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    asked = torch_says(True)
    assert [devices.choose_device("auto", "auto", folder) for _ in range(3)] == [GPU] * 3
    assert len(asked) == 1
    driver.write_text("driver 2")
    assert devices.choose_device("auto", "auto", folder) == GPU
    assert len(asked) == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    asked = torch_says(False)
    assert [devices.choose_device("auto", "auto", folder) for _ in range(2)] == [CPU] * 2
    assert len(asked) == 2, "a GPU that is not seen may be seen the next time"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert devices.choose_device("auto", "auto", folder) == GPU
    (tmp_path / "torch" / "version.py").write_text("cuda = None")
    assert devices.choose_device("auto", "auto", folder) == CPU
    assert len(asked) == 3


def test_without_a_folder_or_what_tells_of_the_driver_it_is_asked_each_time(driver, torch_says, tmp_path):
    asked = torch_says(True)
    (tmp_path / "file").write_text("in the way")
    for folder in (None, None, tmp_path / "file", tmp_path / "file"):
        assert devices.choose_device("auto", "auto", folder) == GPU
    driver.unlink()
    for _ in range(2):
        assert devices.choose_device("auto", "auto", tmp_path / "cache") == GPU
    assert len(asked) == 6


def test_engines_of_one_cache_ask_once(driver, torch_says, tmp_path, monkeypatch):
    monkeypatch.delenv("NODEGRAPH_DEVICE")
    asked = torch_says(True)
    for _ in range(2):
        with Engine(cache=tmp_path / "cache") as engine:
            assert engine.device == "cuda:0"
    assert len(asked) == 1


@pytest.mark.parametrize(("given", "chosen"), [("cuda", GPU), ("cuda:1", ("cuda:1", "float16")), ("cpu", CPU)])
def test_nobody_is_asked_for_a_device_that_is_named(driver, torch_says, tmp_path, given, chosen):
    asked = torch_says(True)
    assert devices.choose_device(given, "auto", tmp_path) == chosen
    assert asked == []
