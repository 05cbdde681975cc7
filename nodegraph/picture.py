"""An SVG as PNG bytes, by resvg (the extra `draw`)."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from nodegraph.errors import Problem, Problems


def png_of(svg: str, zoom: float = 2.0) -> bytes:
    """The PNG of an SVG, `zoom` times as large. Raises Problems when resvg is not installed."""
    try:
        import resvg_py
    except ImportError:
        fix = 'pip install "nodegraph[draw]", or write an SVG with --svg'
        raise Problems([Problem("not-installed", "--png", "a PNG of a graph needs resvg-py, which is not installed", fix)]) from None
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=zoom, font_files=_font_files(), sans_serif_family="Aileron"))


@functools.cache
def _font_files() -> list[str]:
    """The font that Pillow brings, as a file: so that there is text also where no fonts are installed."""
    import PIL.ImageFont

    raw = getattr(PIL.ImageFont.load_default(12), "font_bytes", b"")
    if not raw:
        return []
    folder = tempfile.TemporaryDirectory(prefix="nodegraph-font-")
    _keep.append(folder)
    path = Path(folder.name) / "aileron.otf"
    path.write_bytes(raw)
    return [str(path)]


_keep: list[tempfile.TemporaryDirectory[str]] = []
"""Folders that are to live as long as the process."""

__all__ = ["png_of"]
