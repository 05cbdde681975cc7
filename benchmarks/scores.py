"""How the figures of `benchmarks/quality.py` are printed: each with its 95 % interval."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from icon_judge import Verdict, interval

Share = tuple[float, float, float]
"""A share, and the ends of its 95 % interval."""


def report(title: str, found: Mapping[str, Share]) -> None:
    """One line of percentages with their intervals."""
    columns = (f"{name} {100 * share:5.1f} ({100 * low:.0f}-{100 * high:.0f})" for name, (share, low, high) in found.items())
    print(f"{title:<38}" + "  ".join(columns), flush=True)


def share_of(right: Sequence[bool]) -> Share:
    """How many are true, with the interval of Wilson 1927."""
    return float(np.mean(right)), *interval(sum(right), len(right))


def decibels(values: Sequence[float]) -> str:
    """The mean of PSNRs with its interval, and the least."""
    reach = 1.96 * np.std(values) / len(values) ** 0.5
    return f"{np.mean(values):.1f} dB ({np.mean(values) - reach:.1f}-{np.mean(values) + reach:.1f}), least {min(values):.1f}"


def gains(verdicts: Sequence[Verdict], others: Sequence[Verdict]) -> dict[str, Share]:
    """By how much a share is higher than with others on the same captions, and the 95 % interval of that difference."""
    found = {}
    for name in ("top1", "top5", "style"):
        differences = np.array([getattr(one, name) - getattr(other, name) for one, other in zip(verdicts, others, strict=True)], float)
        mean, reach = differences.mean(), 1.96 * differences.std() / len(differences) ** 0.5
        found[name] = (mean, mean - reach, mean + reach)
    return found
