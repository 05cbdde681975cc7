"""These tests need no torch, and prove it: whoever imports it in one of them fails."""

from __future__ import annotations

import importlib.util
import sys

import pytest


class NoTorch:
    """Finds torch and does not import it: it is installed, but nobody may want it."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        return importlib.util.spec_from_loader(name, NoTorch) if name == "torch" else None

    @staticmethod
    def create_module(spec):
        raise ImportError("torch was imported in tests/null")

    @staticmethod
    def exec_module(module):
        raise ImportError("torch was imported in tests/null")


@pytest.fixture(autouse=True)
def _no_torch():
    """Block torch, unless tests that need it have run in this process before."""
    blocked = "torch" not in sys.modules
    if blocked:
        sys.meta_path.insert(0, NoTorch)
    yield
    if blocked:
        sys.meta_path.remove(NoTorch)
