"""Arithmetic in the joint space of texts and pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nodegraph import Embedding, Image, Invalid
from nodes.diffusion.embeddings import interpolate_embeddings, rank_by_similarity, rerank, shift_embedding
from nodes.diffusion.sphere import directions, lengths

ROWS = arrays(np.float32, (2, 5), elements=st.floats(-100, 100, width=32))
AMOUNTS = st.floats(0, 1)


def embedding(*rows: list[float]) -> Embedding:
    return Embedding(np.array(rows, np.float32), "clip-2")


def test_halfway_between_two_directions() -> None:
    mixed = interpolate_embeddings(embedding([2, 0]), embedding([0, 4]), 0.5).numpy()
    assert np.allclose(mixed, [[3 / 2**0.5, 3 / 2**0.5]]), "on the circle, of the mean length"


def test_a_third_of_the_angle() -> None:
    mixed = interpolate_embeddings(embedding([1, 0]), embedding([0, 1]), 1 / 3).numpy()
    assert np.allclose(mixed, [[np.cos(np.pi / 6), np.sin(np.pi / 6)]])


@given(ROWS, ROWS)
def test_the_ends_are_the_embeddings(first: np.ndarray, second: np.ndarray) -> None:
    a, b = Embedding(first), Embedding(second)
    assert np.allclose(interpolate_embeddings(a, b, 0.0).numpy(), first, rtol=1e-5, atol=1e-5 * np.abs(first).max() + 1e-30)
    opposite = (directions(first) * directions(second)).sum(axis=1) < -0.999999
    last = interpolate_embeddings(a, b, 1.0).numpy()
    assert np.allclose(last[~opposite], second[~opposite], rtol=1e-4, atol=1e-4 * np.abs(second).max() + 1e-30)


@given(ROWS, ROWS, AMOUNTS)
def test_lengths_go_linearly(first: np.ndarray, second: np.ndarray, amount: float) -> None:
    mixed = interpolate_embeddings(Embedding(first), Embedding(second), amount).numpy()
    assert np.isfinite(mixed).all()
    wanted = (1 - amount) * lengths(first) + amount * lengths(second)
    whole = (lengths(first) > 1e-3) & (lengths(second) > 1e-3)
    assert np.allclose(lengths(mixed)[whole], wanted[whole], rtol=1e-3)


def test_opposite_directions_have_no_circle() -> None:
    assert np.allclose(interpolate_embeddings(embedding([1, 0]), embedding([-1, 0]), 0.5).numpy(), [[1, 0]])


def test_a_text_diff_turns_towards_the_difference_and_keeps_the_length() -> None:
    moved = shift_embedding(embedding([3, 0]), source=embedding([5, 5]), target=embedding([5, 7]), amount=0.5).numpy()
    assert np.allclose(moved, [[3 / 2**0.5, 3 / 2**0.5]])
    whole = shift_embedding(embedding([3, 0]), embedding([5, 5]), embedding([5, 7]), 1.0).numpy()
    assert np.allclose(whole, [[0, 3]], atol=1e-6)


def test_equal_captions_change_nothing() -> None:
    start = embedding([3, 1], [2, 2])
    assert np.array_equal(shift_embedding(start, embedding([1, 1]), embedding([1, 1]), 0.7).numpy(), start.numpy())


def test_captions_that_are_equal_change_nothing_beside_others() -> None:
    moved = shift_embedding(embedding([3, 1]), embedding([1, 1]), embedding([1, 1], [0, 1]), 0.5).numpy()
    assert np.array_equal(moved[0], [3, 1])
    assert np.allclose(np.linalg.norm(moved, axis=1), 10**0.5), "lengths stay"
    assert not np.allclose(moved[1], [3, 1])


def test_one_embedding_goes_with_a_batch() -> None:
    mixed = interpolate_embeddings(embedding([1, 0]), embedding([0, 1], [1, 0], [-1, 1]), 0.5)
    assert mixed.shape == (3, 2)
    assert mixed.space == "clip-2"


def test_ranking_is_by_cosine() -> None:
    order, similarities = rank_by_similarity(embedding([0, 9], [1, 1], [0.1, 0], [2, 2]), embedding([5, 0]))
    assert order == [2, 1, 3, 0], "lengths do not count, and equal ones keep their order"
    assert similarities == pytest.approx([1, 0.5**0.5, 0.5**0.5, 0])


def test_the_best_pictures_first() -> None:
    pictures = np.stack([np.full((3, 2, 2), value, np.float32) for value in (0.1, 0.2, 0.3)])
    best = rerank(Image(pictures), embedding([0, 1], [1, 0], [1, 1]), embedding([1, 0]), count=2)
    assert best.order == [1, 2]
    assert best.image.numpy()[:, 0, 0, 0] == pytest.approx([0.2, 0.3])
    assert best.similarities == pytest.approx([1, 0.5**0.5])


def test_what_does_not_go_together() -> None:
    with pytest.raises(Invalid, match="this embedding is 3 wide, the other 2"):
        interpolate_embeddings(embedding([1, 0]), embedding([1, 0, 0]))
    with pytest.raises(Invalid, match="3 embeddings cannot go with 2"):
        interpolate_embeddings(embedding([1, 0], [1, 0]), embedding([1, 0], [1, 0], [1, 0]))
    with pytest.raises(Invalid, match="3 embeddings cannot go with 2") as refused:
        shift_embedding(embedding([1, 0]), embedding([1, 0], [1, 0]), embedding([1, 0], [1, 0], [1, 0]))
    assert (refused.value.port, refused.value.fix) == ("target", "give 1 or 2")
    with pytest.raises(Invalid, match="there are 2 targets to rank by"):
        rank_by_similarity(embedding([1, 0]), embedding([1, 0], [0, 1]))
    pictures = Image(np.zeros((1, 3, 2, 2), np.float32))
    with pytest.raises(Invalid, match="2 embeddings cannot rank 1 pictures"):
        rerank(pictures, embedding([1, 0], [1, 0]), embedding([1, 0]))
    with pytest.raises(Invalid, match="2 of 1 pictures cannot be kept"):
        rerank(pictures, embedding([1, 0]), embedding([1, 0]), count=2)
