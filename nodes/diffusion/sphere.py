"""Directions: cosines and great circles, for rows of vectors [n,D]."""

from __future__ import annotations

import numpy as np

Rows = np.ndarray


def lengths(rows: Rows) -> Rows:
    """[n,1], in double precision."""
    return np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)


def directions(rows: Rows) -> Rows:
    """Rows of length 1; a row of zeros stays."""
    long = lengths(rows)
    return rows / np.where(long == 0, 1, long)


def cosines(first: Rows, second: Rows) -> Rows:
    """[n]"""
    return (directions(first) * directions(second)).sum(axis=1)


def slerp(first: Rows, second: Rows, amount: float) -> Rows:
    """Directions on the great circles between rows (Shoemake 1985), in double precision.

    Where no circle is given by them (one direction, or opposite ones) the way is straight, at any amount of opposite ones but
    the middle, where the first stays.
    """
    a, b = directions(first), directions(second)
    angle = np.arccos(np.clip((a * b).sum(axis=1, keepdims=True), -1, 1))
    sine = np.sin(angle)
    with np.errstate(divide="ignore", invalid="ignore"):
        round_way = (np.sin((1 - amount) * angle) * a + np.sin(amount * angle) * b) / sine
    mixed = (1 - amount) * a + amount * b
    straight = directions(np.where(lengths(mixed) < 1e-9, a, mixed))
    return np.where(sine < 1e-6, straight, round_way)
