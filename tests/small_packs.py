"""Packs as tests write them: a few lines of text in a folder."""

from __future__ import annotations

import os
from pathlib import Path

HEAD = "from __future__ import annotations\nfrom typing import Any, NamedTuple\nfrom nodegraph import Graph, Run, Workflow, node\n"


def body(name: str, result: str, more: str = "", head: str = HEAD) -> str:
    return f"{head}{more}\n@node\ndef {name}(value: int = 1) -> int:\n    return {result}\n"


def both(first: str, second: str) -> str:
    """Two nodes in one module."""
    return body(first, "1") + body(second, "7", head="")


def write(folder: Path, **files: str) -> Path:
    """Write files, given by module name (`sub__init` is `sub/__init__.py`), with `pack.toml` beside them. Renamed over, as editors do,
    so that none is seen half."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {f"{name.replace('__', '/').replace('/init', '/__init__')}.py": text for name, text in files.items() if name != "toml"}
    if "toml" in files or not (folder / "pack.toml").exists():
        texts["pack.toml"] = files.get("toml", "")
    for name, text in texts.items():
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        aside = target.with_name(f"{target.name}.new")
        aside.write_text(text)
        os.replace(aside, target)
    return folder


def using(name: str, port: str = "int", **literals: object) -> dict[str, object]:
    return {"nodes": {"a": {"use": name, "with": literals}}, "outputs": {"out": f"a.{port}"}}
