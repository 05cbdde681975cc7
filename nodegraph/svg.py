"""The shapes and words that pictures of graphs are made of: colours of types, text that fits, tags, ports and curves as SVG."""

from __future__ import annotations

import functools
import json
import re
from html import escape
from typing import Any

from nodegraph import types
from nodegraph.types import Type

FONT = "Aileron, Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
INK, MUTED, FRAME, CARD, PAPER, BOX = "#1f2328", "#656d76", "#d0d7de", "#ffffff", "#f6f8fa", "#eef1f4"

COLORS = {
    "image": "#bf3989", "mask": "#6e7781", "video": "#a40e26", "audio": "#bc4c00", "latent": "#8250df", "conditioning": "#bf8700",
    "embedding": "#7d4e00", "text": "#1a7f37", "int": "#1b7c83", "float": "#1b7c83", "bool": "#57606a", "seed": "#cf222e", "rng": "#cf222e",
    "model": "#0550ae", "denoiser": "#0969da", "vae": "#218bff", "text_encoder": "#0a3069", "image_encoder": "#0a3069",
    "upscaler": "#0969da", "file": "#953800", "secret": "#24292f", "json": "#57606a",
}  # fmt: skip
OTHERS = ("#3d5a80", "#5f0f40", "#386641", "#9a031e", "#4a4e69", "#7f5539")
"""Colours of types that packs bring, by their names."""


def color_of(kind: Type) -> str:
    """The colour of a type: that of the values in it."""
    name = str(plain_type(kind))
    if name in COLORS:
        return COLORS[name]
    return OTHERS[sum(name.encode()) % len(OTHERS)] if "/" in name else "#8c959f"


def plain_type(kind: Type) -> Type:
    """The type inside of lists and unions."""
    while kind.kind in ("list", "union"):
        kind = types.without_none(kind) if kind.optional and kind.kind == "union" and len(kind.args) > 1 else kind.args[0]
    return kind if kind.kind == "name" else types.ANY


@functools.cache
def font_of(size: int) -> Any:
    import PIL.ImageFont

    return PIL.ImageFont.load_default(size)


@functools.lru_cache(maxsize=20_000)
def text_width(text: str, size: int = 12) -> float:
    """About how wide a text is in pixels: browsers' own fonts are a little wider than the one it is measured in."""
    return float(font_of(size).getlength(text)) * 1.06


def tag_width(text: str) -> float:
    return text_width(text, 11) + 18


def fitting(text: str, width: float, size: int = 12) -> str:
    """The text, or its beginning with an ellipsis."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[: max(0, min(len(text) - 1, int(len(text) * width / text_width(text + "…", size))))]
    return text.rstrip() + "…"


def short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=lambda one: f"a {type(one).__name__}")
    return " ".join(text.split()) if text else '""'


def rect(x: float, y: float, width: float, height: float, fill: str, stroke: str, radius: float) -> str:
    size = f'width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} rx="{radius}" fill="{fill}" stroke="{stroke}"/>'


_NO_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def escaped(text: str) -> str:
    """A text as it stands in XML; a character that XML cannot hold in any way becomes U+FFFD."""
    return escape(_NO_XML.sub("\ufffd", text))


def text_at(x: float, y: float, text: str, size: int, color: str, *, weight: int = 400, anchor: str = "start", css: str = "") -> str:
    style = f' class="{css}"' if css else ""
    return (
        f'<text{style} x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{color}" text-anchor="{anchor}" '
        f'xml:space="preserve">{escaped(text)}</text>'
    )


def curve(start: tuple[float, float], end: tuple[float, float]) -> str:
    """A curve that leaves and arrives level; a straight line where there is nothing to bend."""
    (x0, y0), (x1, y1) = start, end
    if abs(y0 - y1) < 0.5:
        return f"L{x1:.1f} {y1:.1f}"
    reach = max(abs(x1 - x0) / 2, 24.0)
    return f"C{x0 + reach:.1f} {y0:.1f} {x1 - reach:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"


def port_dot(x: float, y: float, kind: Type, mapped: bool) -> str:
    """A dot in the colour of the type; a list is a ring around it, an optional type is hollow."""
    color, inner = color_of(kind), types.without_none(kind)
    fill = CARD if kind.optional else color
    ring = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="{CARD}" stroke="{color}" stroke-width="1.2"/>'
        if inner.kind == "list" or mapped
        else ""
    )
    dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.2" fill="{fill}" stroke="{color}" stroke-width="1.6">'
    return f"{ring}{dot}<title>{escaped(str(kind))}</title></circle>"


def tag_at(x: float, y: float, width: float, text: str, color: str) -> str:
    shape = rect(x, y - 9, width, 18, CARD, color, 9)
    return shape + text_at(x + width / 2, y + 4, text, 11, INK, anchor="middle")


__all__ = [
    "BOX", "CARD", "COLORS", "FONT", "FRAME", "INK", "MUTED", "PAPER", "color_of", "curve", "escaped", "fitting", "plain_type", "port_dot",
    "rect", "short", "tag_at", "tag_width", "text_at", "text_width",
]  # fmt: skip
