"""The prompt language: `(word)` 1.1 times, `[word]` 1/1.1 times, `(words:1.4)` 1.4 times as much; `\\(` is a bracket.

The syntax is that of the AUTOMATIC1111 web UI.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from nodegraph import Invalid

Piece = tuple[str, float]
"""A stretch of a prompt and its weight."""
Token = tuple[int, float]
"""A token number and its weight."""

ROUND, SQUARE = 1.1, 1 / 1.1
MOST = 1e6
"""The largest weight, of either sign: beyond it come numbers that float32 does not hold."""
_TOKEN = re.compile(r"\\[()\[\]\\]|\\|[(\[\])]|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|:|[^\\()\[\]:]+")
_CLOSES = {")": "(", "]": "["}


def parse(prompt: str) -> list[Piece]:
    """The prompt as pieces of one weight each, in order; nested weights multiply.

    Raises Invalid where brackets do not pair, and for weights beyond MOST.
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
    if beyond := next((piece for piece in pieces if abs(piece[1]) > MOST), None):
        words, weight = beyond
        raise Invalid(f"{words[:20]!r} has the weight {weight:g}", fix=f"use {MOST:,.0f} at most; 1.4 is much already", port="text")
    return _merged(pieces)


def _merged(pieces: Iterable[Piece]) -> list[Piece]:
    """Neighbours of one weight as one piece."""
    merged: list[Piece] = []
    for text, weight in pieces:
        if merged and merged[-1][1] == weight:
            text = merged.pop()[0] + text
        merged.append((text, weight))
    return merged


def _unpaired(prompt: str, place: int) -> Invalid:
    bracket = prompt[place]
    return Invalid(
        f"the bracket {bracket!r} at character {place + 1} of the prompt has no partner: {prompt[max(0, place - 20) : place + 20]!r}",
        fix=f"close it, write \\{bracket} if it is meant as such, or set emphasis to false",
        port="text",
    )


def chunks(tokens: Sequence[Token], size: int) -> list[list[Token]]:
    """The tokens in chunks of at most `size`; at least one chunk, which may be empty."""
    return [list(tokens[first : first + size]) for first in range(0, max(len(tokens), 1), size)]


def common_length(lengths: Iterable[int]) -> int:
    """The length to which token sequences are repeated so that they fit into one batch.

    Cross-attention takes text states as a set: repeating all of them leaves its result as it is, so that a sequence of
    one chunk goes with one of three by standing three times.
    """
    return math.lcm(*lengths)
