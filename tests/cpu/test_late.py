"""Modules that are loaded when something of them is used: they look like themselves, are loaded once, and a picture needs none."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nodes.diffusion import late

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "import time\ntime.sleep(0.2)\nloads.append(1)\n__all__ = ['value']\nvalue = 7\nhidden = 8\n".replace(
    "loads", "__import__('sys').loads"
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `outside.inner` that counts how often it is loaded, deferred."""
    inner = tmp_path / "outside" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "outside" / "__init__.py").write_text("")
    (inner / "__init__.py").write_text(PACKAGE)
    (inner / "part.py").write_text("own = 9\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "loads", [], raising=False)
    late._defer("outside.inner")
    yield sys.loads
    for name in [name for name in sys.modules if name.partition(".")[0] == "outside"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("naming", "using"),
    [
        ("import outside.inner as it", "assert it.value == 7"),
        ("from outside import inner", "assert inner.value == 7 and inner.hidden == 8"),
        ("import outside.inner", "from outside.inner import value\nassert value == 7"),
        ("import outside.inner", "from outside.inner import *\nassert value == 7 and 'hidden' not in dir()"),
    ],
)
def test_loaded_when_used(naming, using, package):
    exec(naming, {})
    assert package == []
    for _ in range(2):
        exec(f"{naming}\n{using}", {})
    assert package == [1]
    assert not isinstance(sys.modules["outside.inner"], late._Late)


def test_looking_through_all_modules_loads_nothing(package):
    assert inspect.getmodule(late.defer_scipy_stats) is late
    module = sys.modules["outside.inner"]
    assert module.__file__.endswith("__init__.py")
    assert not hasattr(module, "__warningregistry__")
    assert importlib.import_module("outside.inner.part").own == 9
    assert package == []


def test_loaded_once_by_many_threads(package):
    module, found = sys.modules["outside.inner"], []
    threads = [threading.Thread(target=lambda: found.append(module.value)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [7] * 8
    assert package == [1]


def test_what_is_loaded_or_absent_stays_so(package):
    importlib.import_module("outside.inner").value  # noqa: B018
    module = sys.modules["outside.inner"]
    late._defer("outside.inner")
    late._defer("outside.absent")
    late._defer("nowhere.absent")
    assert sys.modules["outside.inner"] is module
    assert "outside.absent" not in sys.modules
    assert "nowhere.absent" not in sys.modules


def test_a_picture_needs_no_statistics(tmp_path):
    code = f"""
import sys
from nodegraph import Engine
with Engine(device="cpu", cache=False, output=r"{tmp_path}") as engine:
    engine.run("workflows/txt2img.json", prompt="a red circle", steps=2, sampler="euler")
    print("diffusers.schedulers.scheduling_euler_discrete" in sys.modules, "scipy.stats._distn_infrastructure" in sys.modules)
    engine.run("workflows/txt2img.json", prompt="a red circle", steps=2, sampler="dpm++_2m_sde")
import scipy.stats
print(scipy.stats.norm.cdf(0.0), "scipy.stats._distn_infrastructure" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["True False", "0.5 True"]
