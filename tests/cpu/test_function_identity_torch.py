"""What keys know of torch in functions that are in no pack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nodegraph.function_identity import identity_of


def layer(weight: float) -> torch.nn.Module:
    made = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(made.weight, weight)
    torch.nn.init.constant_(made.bias, 0)
    return made


def closure(given: Any) -> Callable[[int], Any]:
    def f(x: int) -> Any:
        return given

    return f


@pytest.mark.parametrize(
    ("one", "again", "other"),
    [
        (torch.sin, torch.sin, torch.cos),
        (torch.float32, torch.float32, torch.float16),
        (layer(1), layer(1), layer(2)),
        (torch.ones(2).to_sparse(), torch.ones(2).to_sparse(), torch.zeros(2).to_sparse()),
        (torch.ones(2, device="meta"), torch.zeros(2, device="meta"), torch.ones(3, device="meta")),
        (torch.ones(2, dtype=torch.complex64).conj(), torch.ones(2, dtype=torch.complex64).conj(), torch.zeros(2).cfloat().conj()),
    ],
    ids=["function", "dtype", "module", "sparse", "meta", "conjugated"],
)
def test_what_torch_holds_counts(one: Any, again: Any, other: Any) -> None:
    """Two functions, dtypes or layers were one; a sparse tensor was a RuntimeError."""
    assert identity_of(closure(one)) == identity_of(closure(again)) != identity_of(closure(other))
