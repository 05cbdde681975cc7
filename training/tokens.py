"""The tokenizer of `tiny-unclip`: byte pairs in CLIP's form whose pieces are whole common words."""

from __future__ import annotations

import heapq
from collections import Counter
from itertools import pairwise

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from training import shapes

WORD_END = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"
COMMON_WORDS = 10000
"""How many words of a general vocabulary are one token each, beside those of the captions."""


def learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first, until every word is one piece.

    Ties go to the first pair in alphabetical order: the `tokenizers` trainer breaks
    them differently from call to call.
    """
    rows = [[*word[:-1], word[-1] + WORD_END] for word in words]
    counts, holders = Counter(), {}
    for number, row in enumerate(rows):
        for pair in pairwise(row):
            counts[pair] += 1
            holders.setdefault(pair, set()).add(number)
    queue = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(queue)
    merges = []
    while queue:
        count, best = heapq.heappop(queue)
        if count != -counts[best] or not counts[best]:
            continue  # an outdated entry; the pair's present count is in the queue too
        merges.append(best)
        changed = set()
        for number in holders.pop(best):
            before, after = rows[number], merge_pair(rows[number], best)
            for pair in pairwise(before):
                counts[pair] -= 1
                changed.add(pair)
            for pair in pairwise(after):
                counts[pair] += 1
                holders.setdefault(pair, set()).add(number)
                changed.add(pair)
            rows[number] = after
        for pair in changed:
            if counts[pair]:
                heapq.heappush(queue, (-counts[pair], pair))
    return merges


def merge_pair(row: list[str], pair: tuple[str, str]) -> list[str]:
    """The row with every occurrence of the pair, from the left, made one piece."""
    merged = []
    for piece in row:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def caption_words(phrases: list[str], styles: list[str]) -> set[str]:
    """The words of training captions whose wordings are these phrases."""
    return {word for phrase in [*phrases, *styles, *shapes.vocabulary(), "style"] for word in phrase.split()}


def common_words(vocabulary: list[str]) -> list[str]:
    """The first words of a general vocabulary in order of frequency.

    They become tokens, so that a word which training never saw is still one with a
    meaning. Held-out wordings have no part in the choice.
    """
    return [word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 1][:COMMON_WORDS]


def pieces_of(merges: list[tuple[str, str]]) -> list[str]:
    """Every token in order of its number: bytes, bytes at a word's end, merged pieces, start, end."""
    alphabet = sorted(ByteLevel.alphabet())
    pieces = [*alphabet, *(byte + WORD_END for byte in alphabet), *(left + right for left, right in merges)]
    return [*dict.fromkeys(pieces), START, END]


def piece_texts(merges: list[tuple[str, str]]) -> list[str]:
    """What each token reads as, without the mark of a word's end."""
    return [piece.removesuffix(WORD_END) for piece in pieces_of(merges)]


def make_tokenizer(merges: list[tuple[str, str]], length: int) -> CLIPTokenizer:
    """CLIP's tokenizer with these merges; rows of `length`. Every byte is a token, so any text can be written.

    The end token comes last, where both of CLIP's ways of finding it look.
    """
    numbers = {piece: number for number, piece in enumerate(pieces_of(merges))}
    return CLIPTokenizer(vocab=numbers, merges=[tuple(pair) for pair in merges], model_max_length=length)
