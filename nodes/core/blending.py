"""Blend modes of W3C "Compositing and Blending Level 1" (sections 10.1 and 10.2), on opaque sRGB pixels [B,3,H,W].

Each function takes the backdrop Cb and the source Cs, and gives the blended colour B(Cb, Cs).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .pixels import Array


def multiply(backdrop: Array, source: Array) -> Array:
    return backdrop * source


def screen(backdrop: Array, source: Array) -> Array:
    return backdrop + source - backdrop * source


def hard_light(backdrop: Array, source: Array) -> Array:
    return np.where(source <= 0.5, multiply(backdrop, 2 * source), screen(backdrop, 2 * source - 1))


def overlay(backdrop: Array, source: Array) -> Array:
    return hard_light(source, backdrop)


def color_dodge(backdrop: Array, source: Array) -> Array:
    lifted = np.minimum(1, backdrop / np.maximum(1 - source, np.finfo(np.float32).tiny))
    return np.where(backdrop == 0, np.float32(0), np.where(source == 1, np.float32(1), lifted))


def color_burn(backdrop: Array, source: Array) -> Array:
    return 1 - color_dodge(1 - backdrop, 1 - source)


def soft_light(backdrop: Array, source: Array) -> Array:
    curve = np.where(backdrop <= 0.25, ((16 * backdrop - 12) * backdrop + 4) * backdrop, np.sqrt(backdrop))
    darker = backdrop - (1 - 2 * source) * backdrop * (1 - backdrop)
    return np.where(source <= 0.5, darker, backdrop + (2 * source - 1) * (curve - backdrop))


def exclusion(backdrop: Array, source: Array) -> Array:
    return backdrop + source - 2 * backdrop * source


def hue(backdrop: Array, source: Array) -> Array:
    return _with_lum(_with_saturation(source, _saturation(backdrop)), _lum(backdrop))


def saturation(backdrop: Array, source: Array) -> Array:
    return _with_lum(_with_saturation(backdrop, _saturation(source)), _lum(backdrop))


def color(backdrop: Array, source: Array) -> Array:
    return _with_lum(source, _lum(backdrop))


def luminosity(backdrop: Array, source: Array) -> Array:
    return _with_lum(backdrop, _lum(source))


def _lum(pixels: Array) -> Array:
    return 0.3 * pixels[:, 0:1] + 0.59 * pixels[:, 1:2] + 0.11 * pixels[:, 2:3]


def _saturation(pixels: Array) -> Array:
    return pixels.max(1, keepdims=True) - pixels.min(1, keepdims=True)


def _with_saturation(pixels: Array, wanted: Array) -> Array:
    """SetSat: the least channel becomes 0, the greatest the wanted saturation, the middle one keeps its place between them."""
    present = _saturation(pixels)
    spread = pixels - pixels.min(1, keepdims=True)
    return np.where(present > 0, spread / np.where(present > 0, present, 1), 0) * wanted


def _with_lum(pixels: Array, wanted: Array) -> Array:
    """SetLum and ClipColor: shifted to the wanted lum, and drawn towards it as far as a channel lies outside of 0..1."""
    shifted = pixels + (wanted - _lum(pixels))
    least, most = shifted.min(1, keepdims=True), shifted.max(1, keepdims=True)
    lum = np.clip(wanted, 0, 1)  # that of `shifted` may be rounded to its least or greatest channel, which leaves nothing to divide by
    with np.errstate(divide="ignore", invalid="ignore"):
        raised = np.where(least < 0, lum + (shifted - lum) * lum / (lum - least), shifted)
        return np.where(most > 1, lum + (raised - lum) * (1 - lum) / (most - lum), raised)


MODES: dict[str, Callable[[Array, Array], Array]] = {
    "normal": lambda backdrop, source: source,
    "multiply": multiply,
    "screen": screen,
    "overlay": overlay,
    "darken": np.minimum,
    "lighten": np.maximum,
    "color_dodge": color_dodge,
    "color_burn": color_burn,
    "hard_light": hard_light,
    "soft_light": soft_light,
    "difference": lambda backdrop, source: np.abs(backdrop - source),
    "exclusion": exclusion,
    "hue": hue,
    "saturation": saturation,
    "color": color,
    "luminosity": luminosity,
    "add": lambda backdrop, source: np.minimum(backdrop + source, 1),
    "subtract": lambda backdrop, source: np.maximum(backdrop - source, 0),
}
