"""Which device and dtype `auto` means on this machine, and how that is known without importing torch."""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
from pathlib import Path

from nodegraph import keys, looks

SEEN = "gpu"
"""The file in the cache's folder that says as what torch has seen a GPU."""
_DRIVER = "/proc/driver/nvidia/version"


def choose_device(device: str, dtype: str, folder: Path | None = None) -> tuple[str, str]:
    """The device and dtype that `auto` means here. Imports torch only where it must look for a GPU, and once finding one is remembered in
    the `folder`, if there is one: to import it takes longer than a run whose results are all cached."""
    if device == "auto":
        device = "cuda:0" if _has_nvidia() and _sees_cuda(folder) else "cpu"
    elif device == "cuda":
        device = "cuda:0"
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "float16"
    return device, dtype


def _has_nvidia() -> bool:
    """Whether there is an NVIDIA driver at all: a cheap question that spares importing torch."""
    return any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/dxg", r"C:\Windows\System32\nvcuda.dll"))


def _sees_cuda(folder: Path | None) -> bool:
    seen = _circumstances() if folder else ""
    if folder and seen:
        with contextlib.suppress(OSError, ValueError):
            if (folder / SEEN).read_text(encoding="utf-8") == seen:
                return True
    if not _torch_sees_cuda():
        return False
    if folder and seen:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / SEEN).write_text(seen, encoding="utf-8")
    return True


def _circumstances() -> str:
    """A digest of what torch's answer depends on: its build, the driver, the GPUs there are, and those it may see. Empty where that is
    not known."""
    with contextlib.suppress(OSError, ValueError):
        found = importlib.util.find_spec("torch")
        if found is not None and found.origin:
            build = [found.origin, str(looks.stamp(Path(found.origin).with_name("version.py")))]
            driver = Path(_DRIVER).read_text(encoding="utf-8")
            visible = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(("CUDA_", "NVIDIA_", "PYTORCH_"))]
            facts = [*build, driver, *sorted(glob.glob("/dev/nvidia[0-9]*")), *visible]
            return keys.digest(b"gpu", *(fact.encode() for fact in facts)).hex()
    return ""


def _torch_sees_cuda() -> bool:
    with contextlib.suppress(ImportError):
        import torch

        return bool(torch.cuda.is_available())
    return False
