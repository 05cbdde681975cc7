"""Installed distributions: their versions, and the packs in them, read from the folders that pip writes, without importing any."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

GROUP = "nodegraph.packs"
"""The entry points by which a distribution says that there are packs in it: `my_pack = "my_package.my_pack"`."""
_listings: dict[str, tuple[int, dict[str, str]]] = {}
_found: dict[str, tuple[int, list[InstalledPack]]] = {}


@dataclass(frozen=True, slots=True)
class InstalledPack:
    """A pack, or a folder of packs, in an installed distribution. `editable`: its files are those that somebody works on."""

    path: Path
    distribution: str
    editable: bool


def installed_packs() -> list[InstalledPack]:
    """What installed distributions say in their entry points, in the order of sys.path."""
    found: dict[Path, InstalledPack] = {}
    for folder in sys.path:
        for one in _packs_in(folder or "."):
            found.setdefault(one.path, one)
    return list(found.values())


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
        raise ValueError(f"{requirement!r} is no requirement: {str(error).partition(chr(10))[0]}") from None
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


def _packs_in(folder: str) -> list[InstalledPack]:
    """The packs of what is installed in a folder; looked for again only when the folder has changed."""
    try:
        stamp = os.stat(folder).st_mtime_ns
        known = _found.get(folder)
        if known is None or known[0] != stamp:
            names = sorted(name for name in os.listdir(folder) if name.endswith(".dist-info"))
            known = _found[folder] = stamp, [one for name in names for one in _declared(os.path.join(folder, name))]
        return known[1]
    except OSError:
        return []


def _declared(info: str) -> list[InstalledPack]:
    """The packs that one distribution declares."""
    try:
        with open(os.path.join(info, "entry_points.txt"), "rb") as file:
            raw = file.read()
    except OSError:
        return []
    if GROUP.encode() not in raw:
        return []
    section, declared = "", []
    for line in raw.decode("utf-8", "replace").splitlines():
        if line.strip().startswith("["):
            section = line.strip().strip("[]").strip()
        elif section == GROUP and "=" in line:
            declared.append(line.partition("=")[2].strip())
    name = os.path.basename(info).partition("-")[0]
    return [InstalledPack(_folder_of(value), name, _is_editable(info)) for value in declared]


def _folder_of(value: str) -> Path:
    """The folder of a package, without importing it. One that is not there is what its name says, for the problem to tell."""
    top, *inside = re.split(r"[:\[]", value)[0].strip().split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0] if places else top, *inside)


def _is_editable(info: str) -> bool:
    try:
        with open(os.path.join(info, "direct_url.json"), encoding="utf-8") as file:
            return bool(json.load(file).get("dir_info", {}).get("editable"))
    except (OSError, ValueError, AttributeError):
        return False


__all__ = ["GROUP", "InstalledPack", "installed_packs", "installed_version", "missing", "normal"]
