"""Rules that several nodes share, or a node and its facts."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def batches_problem(batches: Mapping[str, int], masks: Collection[str] = ()) -> tuple[str, str, str] | None:
    """Why pictures of these batches, by their ports, do not go together, as (port, text, fix); None if they do.

    One picture goes with every batch. Pictures set it, if there are any, and masks follow.
    """
    batch = max([count for port, count in batches.items() if port not in masks] or batches.values())
    for port, count in batches.items():
        if count not in (1, batch):
            fix = f"give {f'1 or {batch}' if batch > 1 else 'one'}, with repeat_batch or unbatch say"
            return port, f"{port!r} is a batch of {count}, but the others are a batch of {batch}", fix
    return None


NO_SIZE = ("there is neither a width nor a height", "give at least one of them")
"""What is wrong with a resizing to no size, as (text, fix)."""


def references_problem(references: int, pictures: int) -> tuple[str, str] | None:
    """Why so many references cannot go with so many pictures, as (text, fix); None if they can."""
    if references in (1, pictures):
        return None
    return f"there are {pictures} pictures and {references} references", "give one reference, or one for each picture"


WINDOW = 11
"""The side of the window of `ssim`, in pixels."""


def window_problem(width: int, height: int) -> tuple[str, str] | None:
    """Why pictures of a size are too small for `ssim`, as (text, fix); None if they are not."""
    if min(width, height) >= WINDOW:
        return None
    text = f"the pictures have {width}×{height} pixels, less than the window of {WINDOW}×{WINDOW}"
    return text, "compare larger pictures, or use psnr"


def box_problem(left: int, top: int, right: int, bottom: int) -> tuple[str, str, str] | None:
    """Why there is nothing in a box, as (port, text, fix); None if there is something."""
    for port, first, last in (("right", left, right), ("bottom", top, bottom)):
        if last <= first:
            return port, f"{port} {last} does not lie behind {first}", f"use at least {first + 1}"
    return None


def levels_problem(black: float, white: float) -> tuple[str, str, str] | None:
    """Why values cannot be stretched from black to white, as (port, text, fix); None if they can."""
    if white - black > 2.0**-150:  # less is 0 in the precision of pixels
        return None
    return "white", f"white {white:g} does not lie above black {black:g}", "use a black below white"


def choice_problem(choice: str, options: Collection[str]) -> tuple[str, str] | None:
    """Why `choose` cannot, as (text, fix); None if there is an input of that name."""
    if choice in options:
        return None
    fix = f"choose one of {', '.join(map(repr, options))}" if options else "link what there is to choose from"
    return f"there is no input {choice!r} to choose", fix
