"""What is known of each node of a workflow right now, without running anything: state, cost, and small pictures of kept results."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nodegraph import kinds
from nodegraph.boxes import Look
from nodegraph.sources import steps_in
from nodegraph.values import Image, Mask, Video

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.entries import Entry
    from nodegraph.plan import Plan
    from nodegraph.workflow import Workflow

THUMBNAIL = 240
"""The most pixels of a side of a small picture: twice what is drawn, for screens of high density."""
_WORST = ("", "idle", "skipped", "cached", "done", "effect", "run", "running", "failed")
"""States, the one that says most last: a node that is used for several items has the last of theirs."""


@dataclass(frozen=True, slots=True)
class Glance:
    """One step: `cached`, `run`, `effect`, or `idle` (nothing needs it).

    Of a kept result: the seconds it took, its bytes, and the first picture in it.
    """

    path: str
    use: str
    state: str
    seconds: float = 0.0
    nbytes: int = 0
    picture: tuple[str, int, int] | None = None


def glance(
    engine: Engine, workflow: Workflow, inputs: Mapping[str, Any], *, only: Iterable[str] = (), pictures: bool = True
) -> list[Glance]:
    """Every step of the plan; `only` as `submit` takes it. Raises WorkflowInvalid when there is none: mistakes, or inputs that are
    missing."""
    plan, outputs, effects, *_ = engine._plan(workflow, inputs, tuple(only))
    engine.cache.refresh()
    needed = _needed(engine, plan, [*(step for source in outputs.values() for step in steps_in(source)), *effects])
    asked = {*effects} & {*plan.effects}
    return [_step(engine, plan, step, step in needed, step in asked, pictures) for step in range(len(plan))]


def _needed(engine: Engine, plan: Plan, roots: Iterable[int]) -> set[int]:
    """The steps that a run would ask for: backward from what is asked, up to what is kept."""
    found: set[int] = set()
    stack = list(roots)
    while stack:
        step = stack.pop()
        if step in found:
            continue
        found.add(step)
        key = plan.keys[step]
        if key is None or engine.cache.linked(key) is None:
            stack.extend(before for source in plan.sources[step].values() for before in steps_in(source))
    return found


def _step(engine: Engine, plan: Plan, step: int, needed: bool, asked: bool, pictures: bool) -> Glance:
    path, use = plan.path(step), getattr(plan.types[step], "name", "each")
    key = plan.keys[step]
    if asked:
        return Glance(path, use, "effect")
    found = engine.cache.linked(key) if key is not None else None
    if found is None:
        return Glance(path, use, "run" if needed else "idle")
    entry = found[0]
    return Glance(path, use, "cached", entry.seconds, _bytes_of(entry), _picture_of(engine, plan, step, entry) if pictures else None)


def _bytes_of(entry: Entry) -> int:
    """The bytes of a kept result: on disk if it lies there alone, in memory with its arrays."""
    return entry.nbytes + (sum(array.nbytes for array in kinds.arrays_in(entry.values)) if entry.values is not None else 0)


def _picture_of(engine: Engine, plan: Plan, step: int, entry: Entry) -> tuple[str, int, int] | None:
    """A small picture of a kept result; nothing is read from disk of what holds none."""
    used = plan.types[step]
    outputs = getattr(used, "outputs", {})
    if entry.kind != "values" or not any(name in str(port.type) for port in outputs.values() for name in ("image", "mask", "video")):
        return None
    return thumbnail(engine.cache.load(entry) or ())


def thumbnail(values: Iterable[Any]) -> tuple[str, int, int] | None:
    """(data URL, width, height) of the first picture among values: small ones as they are, large ones made smaller."""
    import PIL.Image

    picture = next((one for value in values for one in _first_picture(value)), None)
    if picture is None:
        return None
    shown = picture.convert("RGB")
    if max(shown.size) > THUMBNAIL:
        shown.thumbnail((THUMBNAIL, THUMBNAIL), PIL.Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shown.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"), shown.width, shown.height


def _first_picture(value: Any) -> list[Any]:
    if isinstance(value, Image | Mask):
        return type(value)(value.data[:1]).pil() if len(value) else []
    if isinstance(value, Video):
        return Image(value.data[:1]).pil() if len(value) else []
    return _first_picture(value[0]) if isinstance(value, list) and value else []


def looks(glances: Iterable[Glance]) -> dict[str, Look]:
    """What is drawn of nodes by their paths: steps of one node (for items of a list, inside of a workflow) are shown together."""
    found: dict[str, Look] = {}
    for one in glances:
        for path in _nodes_of(one.path):
            known = found.get(path, Look())
            state = max(known.state, one.state, key=_WORST.index)
            own = path == _plain(one.path)
            note = _note(one) if own and "[" not in one.path else known.note
            found[path] = Look(state, note, known.picture or (one.picture if own else None))
    return found


def _nodes_of(path: str) -> list[str]:
    """The node of a path, and the nodes that it is in: `paint`, `paint/sample` for `paint[0]/sample`."""
    parts = _plain(path).split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _plain(path: str) -> str:
    return "/".join(part.partition("[")[0] for part in path.split("/"))


def _note(one: Glance) -> str:
    return f"{one.seconds:.1f} s" if one.state == "cached" and one.seconds >= 0.05 else ""


__all__ = ["Glance", "glance", "looks", "thumbnail"]
