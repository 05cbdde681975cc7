"""Installed distributions: their versions, read from the names of folders alone, which is fast."""

from __future__ import annotations

import os
import re
import sys

_listings: dict[str, tuple[int, dict[str, str]]] = {}


def installed_version(distribution: str) -> str:
    """The version of an installed distribution, or `none`."""
    wanted = normal(distribution)
    for folder in sys.path:
        if found := _versions(folder or ".").get(wanted):
            return found
    return "none"


def missing(requirement: str) -> str:
    """What keeps a requirement (`torchsde >= 0.2`) from being met: `is not installed`, `is 0.1 here`; nothing if it is met.

    Raises ValueError when it is no requirement.
    """
    name, *limits = re.split(r"(?=[ <>=!~;\[(])", requirement.strip(), maxsplit=1)
    if not re.fullmatch(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?", name):
        raise ValueError(f"{requirement!r} is no requirement")
    have = installed_version(name)
    if not limits:
        return "is not installed" if have == "none" else ""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(requirement)
    except InvalidRequirement as error:
        raise ValueError(f"{requirement!r} is no requirement: {error}") from None
    if wanted.marker is not None and not wanted.marker.evaluate():
        return ""
    if have == "none":
        return "is not installed"
    return "" if wanted.specifier.contains(have, prereleases=True) else f"is {have} here"


def normal(name: str) -> str:
    """The one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "_", name).lower()


def _versions(folder: str) -> dict[str, str]:
    """The versions of what is installed in a folder, by normal name; read again only when the folder has changed."""
    try:
        stamp = os.stat(folder).st_mtime_ns
        known = _listings.get(folder)
        if known is None or known[0] != stamp:
            stems = [name.removesuffix(".dist-info").partition("-") for name in os.listdir(folder) if name.endswith(".dist-info")]
            known = _listings[folder] = stamp, {normal(name): version for name, _, version in stems}
        return known[1]
    except OSError:
        return {}


__all__ = ["installed_version", "missing", "normal"]
