"""Arithmetic in the joint space of texts and pictures: between two embeddings, along a difference of captions, nearest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

from nodegraph import Embedding, Field, Image, Invalid, node

from .facts import rules

if TYPE_CHECKING:
    import numpy


@node(lane="cpu")
def interpolate_embeddings(
    first: Embedding,
    second: Embedding,
    amount: Annotated[float, Field(ge=0, le=1), "0 gives the first, 1 the second."] = 0.5,
) -> Embedding:
    """An embedding between two: on the great circle from one direction to the other, the lengths linearly between.

    As in arXiv:2204.06125, section 3.2. Either may be one embedding for a batch of the other.
    """
    from .sphere import lengths, slerp

    a, b = _matched(first, second=second)
    along = slerp(a, b, amount) * ((1 - amount) * lengths(a) + amount * lengths(b))
    return Embedding(along.astype(a.dtype), first.space)


@node(lane="cpu")
def shift_embedding(
    embedding: Annotated[Embedding, "Of a picture."],
    source: Annotated[Embedding, "Of a caption of the picture as it is, or of an empty one."],
    target: Annotated[Embedding, "Of a caption of the picture as it shall be."],
    amount: Annotated[float, Field(ge=0, le=1), "How far towards the difference of the captions; 0.25 to 0.5 is usual."] = 0.35,
) -> Embedding:
    """Move a picture's embedding along the difference of two captions.

    The text diff of arXiv:2204.06125, section 3.3: by slerp towards the direction of the difference; the length stays.
    Captions that are equal give no direction, and the embedding as it is.
    """
    import numpy

    from .sphere import lengths, slerp

    here, away, towards = _matched(embedding, source=source, target=target)
    difference = towards - away
    moved = slerp(here, difference, amount) * lengths(here)
    directed = difference.any(axis=1, keepdims=True)
    return Embedding(numpy.where(directed, moved, here).astype(here.dtype), embedding.space)


class Ranking(NamedTuple):
    """Places in a batch, the most similar first, and the similarity of each."""

    order: Annotated[list[int], "Places in the batch, from 0."]
    similarities: Annotated[list[float], "The cosine of each, in this order."]


@node(lane="cpu")
def rank_by_similarity(embedding: Annotated[Embedding, "A batch."], target: Annotated[Embedding, "What to be near to: one."]) -> Ranking:
    """Order a batch of embeddings by their cosine similarity with another, such as that of a caption. Equal ones keep their order."""
    import numpy

    from .sphere import cosines

    if problem := rules.targets_problem(len(target)):
        raise _invalid("target", problem)
    found = cosines(*_matched(embedding, target=target))
    order = numpy.argsort(-found, kind="stable")
    return Ranking([int(place) for place in order], [float(found[place]) for place in order])


class Best(NamedTuple):
    """The pictures that are kept, the most similar first."""

    image: Image
    order: Annotated[list[int], "Their places in the batch, from 0."]
    similarities: Annotated[list[float], "The cosine of each with the target."]


@node(lane="cpu")
def rerank(
    image: Annotated[Image, "A batch."],
    embedding: Annotated[Embedding, "Of the same pictures, from encode_clip_image."],
    target: Annotated[Embedding, "Of a caption or of a picture."],
    count: Annotated[int, Field(ge=1, le=4096), "How many are kept."] = 1,
) -> Best:
    """Keep the pictures of a batch that are nearest to a caption, in order."""
    if problem := rules.pictured_problem(len(embedding), len(image)):
        raise _invalid("embedding", problem)
    if problem := rules.kept_problem(count, len(image)):
        raise _invalid("count", problem)
    order, similarities = rank_by_similarity(embedding, target)
    return Best(Image(image.numpy()[order[:count]]), order[:count], similarities[:count])


def _matched(embedding: Embedding, **others: Embedding) -> list[numpy.ndarray]:
    """All as [n,D] of one n and at least single precision. Raises Invalid where they do not go together."""
    import numpy

    count = len(embedding)
    for port, other in others.items():
        if embedding.shape[1] != other.shape[1]:
            text = f"this embedding is {other.shape[1]} wide, the other {embedding.shape[1]}"
            raise Invalid(text, fix="encode both with the encoders of one model", port=port)
        if count > 1 and (problem := rules.batches_problem(port, len(other), count)):
            raise _invalid(port, problem)
        count = max(count, len(other))
    return [numpy.broadcast_to(_single(one), (count, one.shape[1])) for one in (embedding, *others.values())]


def _invalid(port: str, problem: tuple[str, str]) -> Invalid:
    text, fix = problem
    return Invalid(text, fix=fix, port=port)


def _single(embedding: Embedding) -> numpy.ndarray:
    import numpy

    array = embedding.tensor().float().numpy() if str(embedding.data.dtype).endswith("bfloat16") else embedding.numpy()
    return array.astype(numpy.float32) if array.dtype.itemsize < 4 else array
