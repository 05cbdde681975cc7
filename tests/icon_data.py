"""A little world of made-up drawings in the form that `training.prepare` writes, for tests without network or data."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from training.tokens import caption_words, learn_merges, piece_texts

CONCEPTS = (
    {"key": "disc", "name": "disc", "train": ["round plate"], "held": ["coin"]},
    {"key": "box", "name": "box", "train": ["crate"], "held": ["parcel", "coin"]},
    {"key": "arch", "name": "arch", "train": [], "held": []},
)
STYLES = ("noto", "fluent")
COLOURS = {"noto": "#d03030", "fluent": "#3050d0"}
SIDE = 64


def draw_concept(key: str, style: str) -> Image.Image:
    """One drawing, RGBA."""
    picture = Image.new("RGBA", (SIDE, SIDE))
    pen = ImageDraw.Draw(picture)
    {"disc": pen.ellipse, "box": pen.rectangle, "arch": pen.arc}[key]((4, 4, 59, 59), **_options(key, COLOURS[style]))
    return picture


def _options(key: str, colour: str) -> dict:
    return {"start": 180, "end": 360, "fill": colour, "width": 12} if key == "arch" else {"fill": colour}


def write_icons(file: Path) -> Path:
    """The data file."""
    pictures = []
    for concept in CONCEPTS:
        for style in STYLES:
            buffer = io.BytesIO()
            draw_concept(concept["key"], style).save(buffer, "WEBP", lossless=True)
            pictures.append(buffer.getvalue())
    phrases = [phrase for concept in CONCEPTS for phrase in (concept["name"], *concept["train"])]
    merges = learn_merges(sorted(caption_words(phrases, list(STYLES))))
    vectors = np.random.default_rng(0).normal(size=(len(piece_texts(merges)), 128))
    np.savez(
        file,
        concepts=json.dumps(CONCEPTS),
        styles=json.dumps(STYLES),
        merges=json.dumps(merges),
        word_vectors=vectors.astype(np.float16),
        pictures=np.frombuffer(b"".join(pictures), np.uint8),
        offsets=np.cumsum([0, *map(len, pictures)]),
    )
    return file
