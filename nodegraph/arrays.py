"""Tensors without torch: what the engine must know of a torch tensor or a numpy array, importing neither to ask.

An array is a `torch.Tensor` or a `numpy.ndarray`. It is never changed in place once it is in a value.
"""

from __future__ import annotations

import sys
from typing import Any

NUMPY_NAMES = frozenset(
    ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
    + ["complex64", "complex128"]
)


def is_torch(array: Any) -> bool:
    # another thread may be importing torch right now: then it has no Tensor yet, and this is none
    kind = getattr(sys.modules.get("torch"), "Tensor", None)
    return kind is not None and isinstance(array, kind)


def is_array(array: Any) -> bool:
    kind = getattr(sys.modules.get("numpy"), "ndarray", None)
    return is_torch(array) or (kind is not None and isinstance(array, kind))


def is_ndarray(array: Any) -> bool:
    """Whether an array is one of numpy itself, which is what its bytes, shape and dtype say; others have a mask, say."""
    import numpy

    return type(array) in (numpy.ndarray, numpy.memmap)


def dtype_name(array: Any) -> str:
    """`float32`, `bfloat16`, …"""
    return str(array.dtype).removeprefix("torch.")


def nbytes(array: Any) -> int:
    return int(array.nbytes)


def storage(array: Any) -> tuple[int, int]:
    """(identity, bytes) of the memory behind an array, the same for every view of it."""
    if is_torch(array):
        whole = array.untyped_storage()
        return whole.data_ptr(), whole.nbytes()
    while getattr(array, "base", None) is not None and hasattr(array.base, "nbytes"):
        array = array.base
    return id(array), int(array.nbytes)


def device_of(array: Any) -> str:
    return str(getattr(array, "device", "cpu"))


def contiguous(array: Any) -> Any:
    """The array in C order: itself, or a copy."""
    if is_torch(array):
        return array.contiguous()
    if array.flags.c_contiguous:
        return array
    import numpy

    return numpy.ascontiguousarray(array)


def compact(array: Any) -> Any:
    """The array itself, or a copy when it is a view of less than half of its storage."""
    if array.nbytes * 2 >= storage(array)[1]:
        return array
    return copied(array)


def copied(array: Any) -> Any:
    """A copy of the array in its layout, on its device."""
    return array.clone() if is_torch(array) else array.copy(order="K")


def to_host(array: Any) -> Any:
    return array if device_of(array) == "cpu" else array.cpu()


def raw(array: Any) -> memoryview:
    """The bytes of an array in C order, without a copy where possible."""
    if is_torch(array):
        import torch

        host = array.detach().cpu().contiguous()
        return memoryview(host.reshape(-1).view(torch.uint8).numpy()).cast("B")
    import numpy

    return memoryview(numpy.ascontiguousarray(array).reshape(-1).view(numpy.uint8)).cast("B")


def is_plain(array: Any) -> bool:
    """Whether `from_raw` gives the array back: numbers of a size that every machine has, and no array of another class."""
    return is_torch(array) or (is_ndarray(array) and dtype_name(array) in NUMPY_NAMES)


def from_raw(buffer: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    """The array that `raw` took apart, as a read-only numpy array over `buffer`; torch for a dtype numpy lacks.

    Raises ValueError for a dtype that neither has.
    """
    if dtype in NUMPY_NAMES:
        import numpy

        array = numpy.empty(shape, dtype) if 0 in shape else numpy.frombuffer(buffer, dtype=dtype).reshape(shape)
        array.flags.writeable = False
        return array
    import torch

    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"there are no arrays of {dtype}")
    if 0 in shape:
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(bytearray(buffer), dtype=kind).reshape(shape)


def tensor(array: Any, device: str = "cpu", dtype: Any = None) -> Any:
    """The array as a torch tensor on a device. Shares memory where it can: never change it in place."""
    import torch

    if not is_torch(array):
        # torch warns about read-only memory, but values are never changed in place
        array = torch.from_numpy(array if array.flags.writeable else array.copy())
    return array.to(device=device, dtype=dtype)


def to_numpy(array: Any) -> Any:
    """The array as a numpy array in host memory; bfloat16 and smaller floats become float32."""
    if not is_torch(array):
        return array
    host = array.detach().cpu()
    return (host if dtype_name(host) in NUMPY_NAMES else host.float()).numpy()


def extent(array: Any) -> tuple[float, float]:
    """The least and the greatest of the numbers of an array, which is not empty; NaN if there is one among them."""
    if is_torch(array) and (device_of(array) != "cpu" or dtype_name(array) not in NUMPY_NAMES):
        least, most = array.detach().aminmax()
        return float(least), float(most)
    plain = to_numpy(array)
    return float(plain.min()), float(plain.max())


def surely_within(array: Any, most: float) -> bool:
    """Whether all numbers of an array, which is not empty, are from 0 to `most`, told by its bits in half the time of `extent`. False
    tells nothing.

    The bits of floats from 0 on are in the order of the numbers, and below those of NaN, of infinity and of all with a sign.
    """
    if device_of(array) != "cpu" or dtype_name(array) != "float32":
        return False
    import numpy

    return bool(to_numpy(array).view(numpy.uint32).max() <= numpy.float32(most).view(numpy.uint32))


def settle(device: str) -> None:
    """Wait until a device, such as `cuda:0`, has done all that was asked of it."""
    accelerator: Any = getattr(sys.modules.get("torch"), "accelerator", None)
    here = accelerator and accelerator.current_accelerator()
    if here and device.startswith(here.type):
        accelerator.synchronize(device)


def release(device: str) -> None:
    """Give memory that torch holds for nothing back to a device."""
    backend = _backend(device)
    if hasattr(backend, "empty_cache"):  # a CPU has none
        backend.empty_cache()


def in_use(device: str) -> int:
    """Bytes of a device that tensors hold; 0 where torch does not count them, as on a CPU."""
    backend = _backend(device)
    return int(backend.memory_allocated(device)) if hasattr(backend, "memory_allocated") else 0


def devices(kind: str) -> int | None:
    """How many devices of a kind torch can use, such as `cuda`; None where it does not count them, as on a CPU."""
    backend = _backend(kind)
    return int(backend.device_count()) if hasattr(backend, "device_count") and kind != "cpu" else None


def _backend(device: str) -> Any:
    """torch's module of a kind of device, such as torch.cuda; None where there is none, or torch is not imported."""
    return getattr(sys.modules.get("torch"), device.partition(":")[0], None)
