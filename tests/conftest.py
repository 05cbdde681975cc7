"""Every test has settings of its own: nothing of the person who runs them is read, and nothing of theirs is written."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch, tmp_path_factory):
    """No NODEGRAPH_* variables; the user's folders, the cache among them, in a temporary folder. Who does not ask for a GPU has none."""
    for name in [name for name in os.environ if name.startswith("NODEGRAPH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NODEGRAPH_DEVICE", "cpu")  # what is expected are the bytes of the CPU
    home = tmp_path_factory.mktemp("home")
    for name, folder in {"XDG_DATA_HOME": "data", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config"}.items():
        monkeypatch.setenv(name, str(home / folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
