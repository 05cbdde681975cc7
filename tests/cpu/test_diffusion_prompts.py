"""The prompt language, and text states against those of diffusers' pipeline."""

from __future__ import annotations

from functools import cache
from typing import Any

import diffusers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nodegraph import Invalid
from nodes.diffusion import nodes
from nodes.diffusion.prompts import chunks, parse
from tests.cpu.tiny_models import TOKENS, FolderRun, model_folder

RUN = FolderRun()


@cache
def pipeline(kind: str = "sd1") -> Any:
    return diffusers.StableDiffusionPipeline.from_pretrained(model_folder(kind), local_files_only=True)


def encode(text: str | list[str], kind: str = "sd1", **options: Any) -> torch.Tensor:
    encoder = nodes.load_model(RUN.model(model_folder(kind)), run=RUN).encoder
    return nodes.encode_text(encoder, text, run=RUN, **options).tensor("states")


# --- the language ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("", []),
        ("a cat", [("a cat", 1.0)]),
        ("(cat)", [("cat", 1.1)]),
        ("[cat]", [("cat", 1 / 1.1)]),
        ("a (red) cat", [("a ", 1.0), ("red", 1.1), (" cat", 1.0)]),
        ("((cat))", [("cat", 1.1 * 1.1)]),
        ("[[cat]]", [("cat", 1 / 1.1 / 1.1)]),
        ("([cat])", [("cat", 1.0)]),
        ("(cat:1.5)", [("cat", 1.5)]),
        ("(cat:.5)", [("cat", 0.5)]),
        ("(cat : 2 )", [("cat ", 2.0)]),
        ("(cat:-1)", [("cat", -1.0)]),
        ("(cat:0)", [("cat", 0.0)]),
        ("(a (b:3) c:0.5)", [("a ", 0.5), ("b", 1.5), (" c", 0.5)]),
        ("(a:b:2)", [("a:b", 2.0)]),
        ("(a: b)", [("a: b", 1.1)]),
        ("ratio 16:9", [("ratio 16:9", 1.0)]),
        ("[a:2]", [("a:2", 1 / 1.1)]),
        (r"a \(cat\)", [("a (cat)", 1.0)]),
        (r"\[a\] \\ b\c", [(r"[a] \ b\c", 1.0)]),
        (r"(\(cat\):1.2)", [("(cat)", 1.2)]),
        ("()", []),
        ("(a)(b)", [("ab", 1.1)]),
    ],
)
def test_parse(prompt: str, pieces: list[tuple[str, float]]) -> None:
    parsed = parse(prompt)
    assert [text for text, _ in parsed] == [text for text, _ in pieces]
    assert [weight for _, weight in parsed] == pytest.approx([weight for _, weight in pieces])


@pytest.mark.parametrize(
    ("prompt", "bracket", "place"), [("a (cat", "(", 3), ("a cat)", ")", 6), ("(a [cat)", ")", 8), ("[a:1.2)", ")", 7), ("[", "[", 1)]
)
def test_unpaired_brackets(prompt: str, bracket: str, place: int) -> None:
    with pytest.raises(Invalid) as caught:
        parse(prompt)
    assert str(caught.value) == f"the bracket {bracket!r} at character {place} of the prompt has no partner: {prompt!r}"
    assert caught.value.fix == f"close it, write \\{bracket} if it is meant as such, or set emphasis to false"
    assert caught.value.port == "text"


@pytest.mark.parametrize("prompt", ["a (cat:9999999)", "(dog (cat:2000):-2000)", "(" * 200 + "cat" + ")" * 200, f"(cat:{'9' * 400})"])
def test_weights_that_numbers_do_not_hold(prompt: str) -> None:
    with pytest.raises(Invalid, match="'cat' has the weight") as caught:
        parse(prompt)
    assert caught.value.port == "text"


@given(st.text(alphabet="ab ()[]\\:1.", max_size=30))
def test_escaped_text_is_itself(text: str) -> None:
    escaped = "".join(f"\\{char}" if char in "()[]\\" else char for char in text)
    assert "".join(piece for piece, _ in parse(escaped)) == text
    assert {weight for _, weight in parse(escaped)} <= {1.0}


@given(st.lists(st.just((1, 1.0)), max_size=40), st.integers(1, 9))
def test_chunks_hold_every_token(tokens: list[tuple[int, float]], size: int) -> None:
    cut = chunks(tokens, size)
    assert [token for chunk in cut for token in chunk] == tokens
    assert all(len(chunk) <= size for chunk in cut)
    assert len(cut) == max(1, -(-len(tokens) // size))


# --- text states -----------------------------------------------------------------------------

PLAIN = [
    "a red circle",
    "",
    "A Photo, of THE sea -- 42!",
    "naïve 🙂",
    "  two   spaces\n",
    "a red circle and a blue square on white",
    "x" * 14,
]
"""Prompts that are full of what tokenizers treat apart, and fit into one chunk; the last one fills it."""


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
@pytest.mark.parametrize("prompt", PLAIN)
def test_a_plain_prompt_is_encoded_as_by_the_pipeline(kind: str, prompt: str) -> None:
    states, uncond = pipeline(kind).encode_prompt(prompt, "cpu", 1, True, "")
    assert len(pipeline(kind).tokenizer(prompt).input_ids) <= TOKENS
    assert torch.equal(encode(prompt, kind), states)
    assert torch.equal(encode("", kind), uncond)


def test_a_batch_is_one_call_as_in_the_pipeline() -> None:
    prompts = ["a red circle", "a photo of the green square", ""]
    states, _ = pipeline().encode_prompt(prompts, "cpu", 1, False)
    assert torch.equal(encode(prompts), states)


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_clip_skip(clip_skip: int) -> None:
    pipe = pipeline("sd2")
    pipe.text_encoder.__dict__.setdefault("text_model", pipe.text_encoder)  # where diffusers 0.42 looks for the final norm
    states, _ = pipe.encode_prompt("a red circle", "cpu", 1, False, clip_skip=clip_skip)
    assert torch.equal(encode("a red circle", "sd2", clip_skip=clip_skip), states)
    assert not torch.equal(encode("a red circle", "sd2"), states)
    with pytest.raises(Invalid, match="clip_skip 3 is too much for a text encoder of 3 layers"):
        encode("a red circle", "sd2", clip_skip=3)


def test_long_prompts_are_encoded_in_chunks() -> None:
    words = ["red", "circle", "on", "white", "and", "blue", "square"] * 5  # one token each
    size = TOKENS - 2
    states = encode(" ".join(words))
    assert states.shape == (1, 3 * TOKENS, 32)
    parts = [encode(" ".join(words[first : first + size])) for first in range(0, len(words), size)]
    assert torch.allclose(states, torch.cat(parts, dim=1), atol=1e-5)


def test_rows_of_different_lengths_stand_repeated() -> None:
    both = encode(["red " * 20, "blue"])
    assert both.shape == (2, 2 * TOKENS, 32)
    assert torch.equal(both[1, :TOKENS], both[1, TOKENS:])


def test_weights_move_states_away_from_the_empty_prompt() -> None:
    plain, empty = encode("a red circle"), encode("")
    heavy, light, none = (encode(f"a (red:{weight}) circle") for weight in (1.5, 0.5, 0))
    place = 2  # start, a, red
    others = [index for index in range(TOKENS) if index != place]
    assert torch.allclose(heavy[:, others], plain[:, others], atol=1e-5)
    assert torch.allclose(heavy[0, place], empty[0, place] + 1.5 * (plain - empty)[0, place], atol=1e-4)
    assert torch.allclose((heavy + light)[0, place] / 2, plain[0, place], atol=1e-4)
    assert torch.allclose(none[0, place], empty[0, place], atol=1e-5)
    assert torch.equal(encode("(a red circle:1.0)"), plain)


def test_emphasis_can_be_off() -> None:
    states, _ = pipeline().encode_prompt("a :) cat", "cpu", 1, False)
    assert torch.equal(encode("a :) cat", emphasis=False), states)
    with pytest.raises(Invalid, match="has no partner"):
        encode("a :) cat")


def test_no_text_at_all() -> None:
    with pytest.raises(Invalid, match="there is no text to encode"):
        encode([])
