"""What people call the concepts: names and keywords, and the fixed split that keeps some wordings from training."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

LARGEST_SHARE = 3
"""A keyword of more concepts than this says too little of any ("face", "animal") and is left out."""


@dataclass(frozen=True)
class Words:
    """A concept's name and keywords, normalised, and its emoji group number."""

    name: str
    keywords: tuple[str, ...]
    group: int | None = None


def normalise(text: str) -> str:
    """Lower-case letters, digits and single spaces."""
    plain = re.sub(r"[^a-z0-9 ]+", " ", text.lower().replace("’", "").replace("'", "").replace("_", " "))
    return re.sub(r"\s+", " ", plain).strip()


def words_of(node_modules: Path) -> dict[str, Words]:
    """Icon key -> words, from emojibase-data (labels, tags) and emojilib (keywords)."""
    entries = json.loads((node_modules / "emojibase-data/en/data.json").read_text())
    library = json.loads((node_modules / "emojilib/dist/emoji-en-US.json").read_text())
    keywords = {_bare(emoji): words for emoji, words in library.items()}
    found = {}
    for entry in entries:
        name = normalise(entry["label"])
        raw = [*entry.get("tags", []), *keywords.get(_bare(entry["emoji"]), [])]
        words = tuple(word for word in dict.fromkeys(map(normalise, raw)) if len(word) > 1 and word != name)
        found[name.replace(" ", "-")] = Words(name, words, entry.get("group"))
    return found


def _bare(emoji: str) -> str:
    return emoji.replace("\ufe0f", "")


def is_held_out(wording: str) -> bool:
    """Whether training never sees a wording: a fixed quarter of them, by hash."""
    return hashlib.sha1(wording.encode()).digest()[-1] % 4 == 0


def split_wordings(keys: list[str], entries: dict[str, Words]) -> list[dict]:
    """Per key its name and its keywords, `train` and `held` out.

    A wording held out is used for no concept, a name never is held out, and a training
    keyword never holds a held-out wording among its words.
    """
    plain = {key: entries.get(key) or Words(key.replace("-", " "), ()) for key in keys}
    names = {words.name for words in plain.values()}
    counts = Counter(word for words in plain.values() for word in words.keywords)
    usable = {word for word, count in counts.items() if count <= LARGEST_SHARE and word not in names}
    held = {word for word in usable if is_held_out(word)}
    concepts = []
    for key, words in plain.items():
        kept = [word for word in words.keywords if word in usable]
        train = [word for word in kept if not contains_any(word, held)]
        concepts.append({"key": key, "name": words.name, "train": train, "held": [word for word in kept if word in held]})
    return concepts


def contains_any(wording: str, others: set[str]) -> bool:
    """Whether a run of the wording's words, or all of them, is one of the others."""
    words = wording.split()
    runs = (" ".join(words[start:end]) for start in range(len(words)) for end in range(start + 1, len(words) + 1))
    return any(run in others for run in runs)
