"""The prompt language: `(word)` 1.1 times, `[word]` 1/1.1 times, `(words:1.4)` 1.4 times as much; `\\(` is a bracket.

The syntax is that of the AUTOMATIC1111 web UI.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from nodegraph import Invalid

from .facts.prompts import Piece, WrongPrompt, read_prompt

Token = tuple[int, float]
"""A token number and its weight."""


def parse(prompt: str) -> list[Piece]:
    """The prompt as pieces of one weight each, in order; nested weights multiply.

    Raises Invalid where brackets do not pair, and for weights beyond MOST_WEIGHT.
    """
    try:
        return read_prompt(prompt)
    except WrongPrompt as error:
        raise Invalid(str(error), fix=error.fix, port="text") from None


def chunks(tokens: Sequence[Token], size: int) -> list[list[Token]]:
    """The tokens in chunks of at most `size`; at least one chunk, which may be empty."""
    return [list(tokens[first : first + size]) for first in range(0, max(len(tokens), 1), size)]


def common_length(lengths: Iterable[int]) -> int:
    """The length to which token sequences are repeated so that they fit into one batch.

    Cross-attention takes text states as a set: repeating all of them leaves its result as it is, so that a sequence of
    one chunk goes with one of three by standing three times.
    """
    return math.lcm(*lengths)
