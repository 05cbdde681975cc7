"""Sentences by their meaning: embeddings, and the nearest of known wordings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, NamedTuple

from nodegraph import Embedding, Field, Handle, Invalid, Kind, ModelRef, Run, TextEncoder, node

from . import facts

Phrase = Annotated[str, "What is embedded, with the text in place of {}; `a picture of {}` asks for what a word looks like."]


@node
def load_sentence_encoder(
    name: Annotated[ModelRef, Kind("sentence_encoder"), "A sentence encoder, such as the built-in minilm-l6."], *, run: Run
) -> TextEncoder:
    """Find an encoder of sentences. Its weights are read when a node uses them."""
    from .reading import load_config

    with run.use(Handle(name.part("config.json")), load_config) as config:
        return TextEncoder.of(name, facts=facts.encoder_facts(config))


@node
def embed_sentences(
    encoder: Annotated[TextEncoder, "From load_sentence_encoder."],
    text: Annotated[str | list[str], "One sentence or many; any language, though the built-in encoder knows English best."],
    phrase: Phrase = "{}",
    *,
    run: Run,
) -> Embedding:
    """Turn sentences into unit vectors; the cosine of two says how near their meanings are. Long texts are cut off."""
    from .minilm import load_encoder

    texts = _phrased([text] if isinstance(text, str) else text, phrase)
    if not texts:
        raise _invalid("text", facts.NO_TEXT)
    with run.use(encoder, load_encoder) as module:
        return Embedding(module.encode(texts, lambda done: run.progress(done, len(texts))), encoder.facts.get("space", ""))


class Known(NamedTuple):
    """What a model was trained to understand."""

    wordings: list[str]
    names: Annotated[list[str], "For each wording the name of what it means, which is a wording, too."]
    pattern: Annotated[str, "A regular expression whose group `wording` is the part of a caption that is one; may be empty."]


@node
def known_wordings(
    name: Annotated[ModelRef, Kind("diffusion"), "A model with a `wordings.json`."],
    *,
    run: Run,
) -> Known:
    """The wordings that a model knows, for resolve_wording."""
    from .reading import load_wordings

    if problem := facts.wordings_problem([path for path, _ in name.files]):
        raise _invalid("name", problem)
    with run.use(Handle(name.part(facts.WORDINGS)), load_wordings) as (wordings, names, pattern):
        return Known(list(wordings), list(names), pattern)


class Resolved(NamedTuple):
    """A text that a model understands better."""

    text: Annotated[str, "The text with the known wording in it; as it was where there is none near enough."]
    wording: Annotated[str, "The known wording; empty where there is none."]
    similarity: Annotated[float, "Of the two wordings; 1 for one that is known."]


@node
def resolve_wording(
    encoder: Annotated[TextEncoder, "From load_sentence_encoder."],
    text: Annotated[str, "A wording, or a caption that holds one."],
    wordings: Annotated[list[str], "What is known, from known_wordings or written down."],
    pattern: Annotated[str, "A regular expression whose group `wording` is the part to resolve; without one, the whole text is."] = "",
    least: Annotated[float, Field(ge=-1, le=1), "Below this similarity the text stays as it is."] = 0.2,
    known: Annotated[Embedding | None, "embed_sentences of the wordings, of the same phrase: saves embedding them for each text."] = None,
    names: Annotated[list[str] | None, "For each wording the name of what it means, from known_wordings; else each is a name."] = None,
    phrase: Phrase = "{}",
    rank: Annotated[int, Field(ge=0), "Which meaning is taken: 0 the nearest, 1 the next one, ..."] = 0,
    *,
    run: Run,
) -> Resolved:
    """Say it in words that are known: replaces a wording by the name of the known one of the nearest meaning.

    Nearness is the cosine of two wordings, averaged with that of the wording's name. A wording that is known, whatever its
    capitals and spaces, stays; ranks from 1 on give other meanings. A text that the pattern does not fit stays, too.
    """
    if problem := facts.pattern_problem(pattern):
        raise _invalid("pattern", problem)
    if not wordings:
        raise _invalid("wordings", facts.NO_WORDING)
    if problem := facts.names_problem(names or (), wordings):
        raise _invalid("names", problem)
    if known is not None and len(known) != len(wordings):
        found = f"{len(known)} embeddings cannot go with {len(wordings)} wordings"
        raise Invalid(found, fix="link embed_sentences of the same list", port="known")
    match = re.search(pattern or r"(?s)(?P<wording>\S(?:.*\S)?)", text)
    wording = match["wording"] if match else None
    if not match or not wording or not wording.strip():
        return Resolved(text, "", 0.0)
    named, plain = list(names or wordings), _plain(wording)
    same = next((place for place, one in enumerate(wordings) if _plain(one) == plain), None)
    if same is not None and rank == 0:
        return Resolved(text, wordings[same], 1.0)
    near = _nearness(named, wordings, _cosines(encoder, wording, list(wordings), phrase, known, run))
    if same is not None:
        near[named[same]] = 2.0  # it is the first, however near another one may be
    if rank >= len(near):
        raise Invalid(f"there is no rank {rank} among {len(near)} meanings", fix=f"use at most {len(near) - 1}", port="rank")
    best = sorted(near, key=near.__getitem__, reverse=True)[rank]
    similarity = near[best]
    if similarity < least:
        return Resolved(text, "", similarity)
    return Resolved(text[: match.start("wording")] + best + text[match.end("wording") :], best, similarity)


def _nearness(names: list[str], wordings: list[str], cosines: list[float]) -> dict[str, float]:
    """Name -> how near it is, by the nearest of its wordings."""
    near: dict[str, float] = {}
    own = dict(zip(reversed(wordings), reversed(cosines), strict=True))  # of the first wording that is a name
    for name, cosine in zip(names, cosines, strict=True):
        near[name] = max(near.get(name, -1.0), (cosine + own[name]) / 2)
    return near


def _cosines(encoder: TextEncoder, wording: str, wordings: list[str], phrase: str, known: Embedding | None, run: Run) -> list[float]:
    """Of a wording with each of the known ones."""
    from .minilm import load_encoder

    with run.use(encoder, load_encoder) as module:
        (vector,) = module.encode(_phrased([wording], phrase))
        rows = module.encode(_phrased(wordings, phrase)) if known is None else known.tensor().float()
    if rows.shape[1] != len(vector):
        text = f"the embeddings of the wordings are {rows.shape[1]} wide, but this encoder makes {len(vector)}"
        raise Invalid(text, fix="make them with the same encoder", port="known")
    return (rows @ vector).tolist()


def _phrased(texts: Iterable[str], phrase: str) -> list[str]:
    """Raises Invalid for a phrase without a place for the text."""
    if problem := facts.phrase_problem(phrase):
        raise _invalid("phrase", problem)
    return [phrase.replace("{}", text) for text in texts]


def _plain(wording: str) -> str:
    return " ".join(wording.casefold().split())


def _invalid(port: str, problem: tuple[str, str]) -> Invalid:
    text, fix = problem
    return Invalid(text, fix=fix, port=port)
