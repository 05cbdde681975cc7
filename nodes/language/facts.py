"""What is known of sentence encoders from their configurations, and the facts of this pack's nodes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nodegraph.facts import Facts, Look, Mismatch

WORDINGS = "wordings.json"
"""The file of a model that says which wordings it knows."""


def encoder_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """`embedding_width` and `space`."""
    return {name: config[name] for name in ("embedding_width", "space") if name in config}


def wordings_problem(files: Iterable[str]) -> tuple[str, str] | None:
    """Why a model does not say which wordings it knows, as (text, fix); None if it does."""
    if WORDINGS in files:
        return None
    return f"the model has no {WORDINGS!r}, which says what it knows", "use a model that has one, or give a list of wordings"


def read_wordings(content: Any) -> tuple[list[str], list[str], str]:
    """The wordings of a `wordings.json` in order, beside each the name of what it means, and the pattern of captions.

    The file is an object with `wordings`: a list of texts, each a name; or an object of names, each with the list of its
    other wordings. And perhaps with `pattern`, a regular expression whose group `wording` is the part of a caption that is
    one. Raises ValueError for anything else.
    """
    described = content if isinstance(content, dict) else {}
    known, pattern = described.get("wordings"), described.get("pattern", "")
    meant = dict.fromkeys(known, ()) if isinstance(known, list) and all(isinstance(one, str) for one in known) else known
    lists = list(meant.values()) if isinstance(meant, dict) else []
    others = [one for each in lists for one in (each if isinstance(each, list | tuple) else [None])]
    if not lists or not all(isinstance(one, str) for one in others) or not isinstance(pattern, str):
        raise ValueError("it must be an object with 'wordings', texts or names with lists of texts, and perhaps 'pattern', a text")
    pairs = [(wording, name) for name, each in meant.items() for wording in (name, *each)]
    return [wording for wording, _ in pairs], [name for _, name in pairs], pattern


def pattern_problem(pattern: str) -> tuple[str, str] | None:
    """Why a pattern cannot find a wording in a caption, as (text, fix); None if it can, or is empty."""
    if not pattern:
        return None
    try:
        groups = re.compile(pattern).groupindex
    except (re.error, OverflowError, RecursionError, ValueError) as error:  # a count that is too large, brackets too deep
        return f"the pattern is no regular expression: {error}", "mend it, or leave it out"
    return None if "wording" in groups else ("the pattern has no group 'wording'", "mark the part with (?P<wording>…)")


NO_TEXT = ("there is no sentence to embed", "give at least one, which may be empty")
"""What is wrong with an empty list of sentences, as (text, fix)."""
NO_WORDING = ("there is no known wording", "give at least one")
"""What is wrong with an empty list of wordings, as (text, fix)."""


def names_problem(names: Sequence[str], wordings: Sequence[str]) -> tuple[str, str] | None:
    """Why names do not go with wordings, as (text, fix); None if they do, or there are none."""
    if not names or (len(names) == len(wordings) and set(names) <= set(wordings)):
        return None
    return "the names do not go with the wordings", "give one of the wordings for each of them"


def phrase_problem(phrase: str) -> tuple[str, str] | None:
    """Why texts cannot be put into a phrase, as (text, fix); None if they can."""
    return None if "{}" in phrase else (f"the phrase {phrase!r} has no {{}} for the text", "write {} where the text goes")


def _phrase(phrase: Facts) -> Mismatch | None:
    problem = phrase_problem(phrase.get("value", "{}"))
    return Mismatch("phrase", *problem) if problem else None


def load_sentence_encoder(look: Look, name: Facts) -> Facts:
    model = name.get("value")
    config = look.json(model, "config.json") if isinstance(model, str) else None
    return Facts(**encoder_facts(config or {}))


def embed_sentences(encoder: Facts, text: Facts, phrase: Facts) -> Facts | Mismatch:
    if text.get("value") == []:
        return Mismatch("text", *NO_TEXT)
    return _phrase(phrase) or Facts(embedding_width=encoder.get("embedding_width"), space=encoder.get("space"))


def known_wordings(look: Look, name: Facts) -> dict[str, Facts] | Mismatch:
    model = name.get("value")
    if not isinstance(model, str):
        return {}
    if problem := wordings_problem(look.files(model)):
        return Mismatch("name", *problem)
    try:
        wordings, _, pattern = read_wordings(look.json(model, WORDINGS))
    except ValueError as error:
        return Mismatch("name", f"the {WORDINGS!r} of the model cannot be used: {error}", "mend the file")
    return {**dict.fromkeys(("wordings", "names"), Facts(count=len(wordings))), "pattern": Facts(value=pattern)}


def resolve_wording(encoder: Facts, pattern: Facts, wordings: Facts, names: Facts) -> dict[str, Facts] | Mismatch:
    problem = pattern_problem(pattern["value"]) if isinstance(pattern.get("value"), str) else None
    if problem:
        return Mismatch("pattern", *problem)
    known, named = wordings.get("value"), names.get("value")
    if known == []:
        return Mismatch("wordings", *NO_WORDING)
    if known and named and (problem := names_problem(named, known)):
        return Mismatch("names", *problem)
    return {}
