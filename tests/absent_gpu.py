"""A GPU that is not there: its tensors say that they lie on it, are computed on the CPU, and refuse what a GPU's would refuse.

What is run on it shows where tensors are put: what would mix devices, or hand the device's memory to numpy, fails as it would there, and
the bytes must be those of the CPU. It shows nothing of a GPU's own arithmetic and speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from nodegraph import arrays, engine
from nodegraph.calling import Call

PLACE = torch.device("cuda", 0)
_aten = torch.ops.aten
_BETWEEN = {_aten._to_copy.default, _aten.copy_.default, _aten.copy.default}
"""What may bring tensors of two devices together."""
_INDEXING = {_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default, _aten._index_put_impl_.default}
"""What takes indexes that lie on the host, but not the other way round."""
_READING = {_aten._local_scalar_dense.default, _aten.nonzero.default, _aten.equal.default}
"""What gives the host something that it must wait for."""


class Waits:
    """How often the host has waited for all work of the device: to read a number of it, or to copy a tensor between them, which waits
    for the stream in both directions (`memcpy_and_sync`) where it is not asked not to."""

    count = 0


class OnGpu(torch.Tensor):
    """A tensor on the device. `held`: its values, on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnGpu:
        made = torch.Tensor._make_subclass(cls, held.detach(), False)
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return PLACE

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def get_device(self) -> int:
        return 0

    def numpy(self, *arguments: Any, **options: Any) -> NoReturn:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def cpu(self, *arguments: Any, **options: Any) -> torch.Tensor:
        Waits.count += 1
        return self.held.clone()

    def to(self, *arguments: Any, **options: Any) -> torch.Tensor:
        copy = options.pop("copy", False)
        if arguments and isinstance(other := arguments[0], torch.Tensor):
            arguments, options = (other.device, *arguments[1:]), {"dtype": other.dtype, **options}
        device, dtype, _, layout = torch._C._nn._parse_to(*arguments, **options)
        here = device is None or device.type == PLACE.type
        held = self.held.to(dtype=dtype or self.dtype, memory_format=layout or torch.preserve_format, copy=copy or not here)
        Waits.count += not here
        return held if not here else self if held is self.held else OnGpu(held)

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        return _computed(function, arguments, options or {})


class _Made(TorchFunctionMode):
    """`torch.tensor` makes its values without asking anybody else."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options = options or {}
        if function is torch.tensor and options.get("device") is not None and torch.device(options["device"]).type == PLACE.type:
            return torch.tensor(*arguments, **{**options, "device": "cpu"}).to(PLACE)
        return function(*arguments, **options)


class _Computed(TorchDispatchMode):
    """Everything else, also what has no tensor among its arguments."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        return _computed(function, arguments, options or {})


def _computed(function: Any, arguments: Any, options: dict[str, Any]) -> Any:
    given = tree_leaves((arguments, options))
    there = any(isinstance(one, OnGpu) for one in given)
    makes = options.get("device") is not None and torch.device(options["device"]).type == PLACE.type
    if (there or makes) and any(isinstance(one, torch.Generator) for one in given):  # there are none of a GPU here
        raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' ({function})")
    on_host = [one for one in given if isinstance(one, torch.Tensor) and not isinstance(one, OnGpu) and one.dim()]
    if there and on_host and function not in _BETWEEN and not (function in _INDEXING and isinstance(arguments[0], OnGpu)):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({function})")
    Waits.count += there and function in _READING
    if function is _aten._to_copy.default:
        Waits.count += makes and not options.get("non_blocking")
    elif function is _aten.copy_.default:
        Waits.count += there and not all(isinstance(one, OnGpu) for one in arguments[:2]) and not (len(arguments) > 2 and arguments[2])
    if options.get("device") is not None:
        there = makes
        options = {**options, "device": torch.device("cpu")} if there else options
    elif function is _aten.copy_.default:
        there = isinstance(arguments[0], OnGpu)
    if options.get("pin_memory"):  # which only a GPU's driver can do
        options = {**options, "pin_memory": False}
    plain, named = tree_map(lambda one: one.held if isinstance(one, OnGpu) else one, (arguments, options))
    made = function(*plain, **named)
    for one, held in zip(tree_leaves(arguments), tree_leaves(plain), strict=True):
        if made is held and one is not held:
            return one  # it was changed in place
    return tree_map(lambda one: OnGpu(one) if there and isinstance(one, torch.Tensor) else one, made)


@contextmanager
def absent_gpu(dtype: str = "float32") -> Iterator[None]:
    """Engines that are made here choose the device, and their nodes find it."""
    called = Call._call

    def call(self: Call, inputs: Any) -> Any:
        with _Made(), _Computed():
            return called(self, inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(engine, "choose_device", lambda *asked: (str(PLACE), dtype))
        patch.setattr(arrays, "settle", lambda device: None)
        patch.setattr(arrays, "devices", lambda kind: 1)
        patch.setattr(Call, "_call", call)
        swaps = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            yield
        finally:
            torch.__future__.set_swap_module_params_on_conversion(swaps)


def held(value: Any) -> torch.Tensor:
    """The values of an array, wherever it lies."""
    return value.held if isinstance(value, OnGpu) else arrays.tensor(value)
