"""Reads prompts with weights."""

from __future__ import annotations

import re
from collections.abc import Iterable

Piece = tuple[str, float]
"""A stretch of a prompt and its weight."""
ROUND, SQUARE = 1.1, 1 / 1.1
MOST_WEIGHT = 1e6
"""The largest weight, of either sign: beyond it come numbers that float32 does not hold."""
_TOKEN = re.compile(r"\\[()\[\]\\]|\\|[(\[\])]|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|:|[^\\()\[\]:]+")
_CLOSES = {")": "(", "]": "["}


class WrongPrompt(ValueError):
    """A prompt cannot be read; `fix` says what would do."""

    def __init__(self, text: str, fix: str):
        super().__init__(text)
        self.fix = fix


def read_prompt(prompt: str) -> list[Piece]:
    """The prompt as pieces of one weight each, in order; nested weights multiply. The language is that of `prompts`.

    Raises WrongPrompt where brackets do not pair, and for weights beyond MOST_WEIGHT.
    """
    pieces: list[Piece] = []
    opened: list[tuple[str, int, int]] = []  # bracket, its place in the prompt, pieces before it
    for match in _TOKEN.finditer(prompt):
        text, weight = match.group(), match.group(1)
        if text in ("(", "["):
            opened.append((text, match.start(), len(pieces)))
        elif text in _CLOSES or weight:
            bracket, _, first = opened.pop() if opened else ("", 0, 0)
            if bracket != ("(" if weight else _CLOSES[text]):
                raise _unpaired(prompt, match.end() - 1)
            factor = float(weight) if weight else (ROUND if bracket == "(" else SQUARE)
            pieces[first:] = [(words, old * factor) for words, old in pieces[first:]]
        else:
            pieces.append((text[1:] if len(text) > 1 and text[0] == "\\" else text, 1.0))
    if opened:
        raise _unpaired(prompt, opened[-1][1])
    if beyond := next((piece for piece in pieces if abs(piece[1]) > MOST_WEIGHT), None):
        words, weight = beyond
        raise WrongPrompt(f"{words[:20]!r} has the weight {weight:g}", f"use {MOST_WEIGHT:,.0f} at most; 1.4 is much already")
    return _merged(pieces)


def _merged(pieces: Iterable[Piece]) -> list[Piece]:
    """Neighbours of one weight as one piece."""
    merged: list[Piece] = []
    for text, weight in pieces:
        if merged and merged[-1][1] == weight:
            text = merged.pop()[0] + text
        merged.append((text, weight))
    return merged


def _unpaired(prompt: str, place: int) -> WrongPrompt:
    bracket = prompt[place]
    return WrongPrompt(
        f"the bracket {bracket!r} at character {place + 1} of the prompt has no partner: {prompt[max(0, place - 20) : place + 20]!r}",
        f"close it, write \\{bracket} if it is meant as such, or set emphasis to false",
    )
