"""The tokenizer of tiny-unclip."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from training.shapes import vocabulary
from training.tokens import WORD_END, caption_words, common_words, learn_merges, make_tokenizer, merge_pair, pieces_of

WORDS = sorted({*vocabulary(), "octopus", "octagon", "banana", "aaaa"})


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(learn_merges(WORDS), 32)


def plain_merges(words: list[str]) -> list[tuple[str, str]]:
    rows = [[*word[:-1], word[-1] + WORD_END] for word in words]
    merges = []
    while any(len(row) > 1 for row in rows):
        pairs = Counter(pair for row in rows for pair in pairwise(row))
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        rows = [merge_pair(row, merges[-1]) for row in rows]
    return merges


def test_merges_are_those_of_the_plain_method():
    assert learn_merges(WORDS) == plain_merges(WORDS)


def test_every_learned_word_is_one_token(tokenizer):
    assert {len(tokenizer(word).input_ids) for word in WORDS} == {3}


@pytest.mark.parametrize("text", ["", "🐙", "красный круг", "赤い丸", "ünïcödé", "\u0000\ufffd", "x" * 10_000, "octopus " * 2_000])
def test_any_text_makes_a_row(tokenizer, text):
    row = tokenizer(text, padding="max_length", max_length=32, truncation=True).input_ids
    assert len(row) == 32
    assert row[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id in row
    assert tokenizer.unk_token_id == tokenizer.eos_token_id
    assert set(row) <= set(range(len(tokenizer)))


def test_other_scripts_are_spelled_not_lost(tokenizer):
    assert tokenizer.decode(tokenizer("красный 🐙").input_ids, skip_special_tokens=True).strip() == "красный 🐙"


def test_the_end_token_has_the_greatest_number(tokenizer):
    assert tokenizer.eos_token_id == len(tokenizer) - 1 == len(pieces_of(learn_merges(WORDS))) - 1


def test_common_words_are_the_first_of_plain_letters():
    vocabulary = ["[PAD]", "a", "the", "##ing", "naïve", "2024", "and"]
    assert common_words(vocabulary) == ["the", "and"]


def test_words_of_captions():
    assert {"ice", "cream", "noto", "style", "background", "large"} <= caption_words(["ice cream"], ["noto"])
