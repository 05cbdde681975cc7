"""A workflow that runs again on every save: of itself, of workflows it uses, of packs, and of files that are given or named.

Only what changed runs, as everything else is in the cache. A file that is broken for now shows its problems and waits. A save
during a run cancels the run, unless it changes nothing, or breaks a pack.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nodegraph.errors import Problem, Problems
from nodegraph.literals import Refused
from nodegraph.output import is_file_output, safe_name, save_value
from nodegraph.template import Template
from nodegraph.watch import PackWatcher
from nodegraph.workflow import Workflow

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.events import Event
    from nodegraph.job import Job, Result

PATIENCE = 0.2
"""Seconds that the next run waits for a cancelled one: what does not look up sooner ends beside it."""


@dataclass(frozen=True, slots=True)
class Round:
    """What is run this time: the workflow as it was read, its inputs, and the files that stand for them."""

    number: int
    workflow: Workflow
    template: Template
    inputs: Mapping[str, Any]
    shown: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    changed: tuple[Path, ...] = ()


class View(Protocol):
    """Somebody who is told what happens. Calls come one at a time."""

    def begin(self, this: Round) -> None:
        """A run has been submitted."""

    def event(self, this: Round, event: Event) -> None:
        """Something happened in it."""

    def end(self, this: Round, result: Result, files: Mapping[str, list[Path]], seconds: float) -> None:
        """It is over, `seconds` after the save was seen."""

    def wrong(self, problems: list[Problem], kept: bool) -> None:
        """There is nothing to run: the problems of the file, or of a pack whose last good version is `kept`."""


Given = tuple[Workflow, Mapping[str, Any], Mapping[str, Any], Mapping[str, str], Iterable[Path]]
"""The workflow with its literals set, inputs, what a person typed, where inputs were read from, and further files to watch."""
Stamp = tuple[int, int]
"""(mtime_ns, size) of a file."""
Read = Callable[[Workflow], Given]
"""Reads what is given to a run, anew for each. Raises Problems."""


class Live:
    """Watches and runs until it is closed, from one thread: `for _ in live: …` or `live.forever()`."""

    def __init__(self, engine: Engine, path: Path, read: Read, views: Iterable[View], output: Path, only: Iterable[str] = ()):
        self.engine, self.path, self.output = engine, path, output
        self._read, self._views, self._only = read, list(views), tuple(only)
        self._number = 0
        self._job: Job | None = None
        self._follower: threading.Thread | None = None
        self._failed: Exception | None = None  # of a view
        self._lock = threading.Lock()
        self._extra: list[Path] = []
        self._stamps: dict[Path, Stamp | None] = {}  # of all files that are watched, as the last round read them
        self._before: dict[Path, Stamp | None] = {}  # as they were before it read anything
        self._read_stamps: dict[Path, Stamp] = {}  # of workflows, exactly as they were read
        self._made: dict[str, list[Path]] = {}
        self.watcher = PackWatcher(engine, [path])

    def forever(self) -> None:
        """Run, and run again on every save, until `close` is called from elsewhere. Raises what a view raises."""
        for _ in self:
            pass

    def __iter__(self) -> Iterator[Round | None]:
        """Every round as it is submitted; None for a save that leaves nothing to run."""
        changed: frozenset[Path] = frozenset()
        try:
            while True:
                yield self._round(changed)
                while changed := self.watcher.changes():
                    if self._new(changed):
                        break
                else:
                    break
        finally:
            self.close()
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """Cancel what runs, and stop watching. Idempotent; from any thread."""
        self.watcher.close()
        self._cancel()

    # -- one round -------------------------------------------------------------------------------------------------

    def _round(self, changed: frozenset[Path]) -> Round | None:
        begun = time.perf_counter()
        while self._reloaded(changed):  # or else what runs is not touched: it is what would run again
            self._cancel()
            self._number += 1
            this, self._before = None, {path: _stamp(path) for path in (*self._stamps, self.path.resolve())}
            try:
                this = self._submit(changed, begun)
            except (Problems, Refused, OSError) as error:
                self._stamps.update(self._before)
                self._wrong(_problems_of(error), kept=False)
            if this is None or all(_unchanged(one.workflow) for one in _templates(this.template)):
                return this
            changed, begun = frozenset([self.path.resolve()]), time.perf_counter()  # saved while it was read
        return None

    def _reloaded(self, changed: frozenset[Path]) -> bool:
        """Read packs again that have changed. Whether there is anything to run."""
        if not changed:
            return True
        outcome = self.engine.reload(changed)
        if outcome.problems:
            self._wrong(outcome.problems, kept=True)
        packs = [pack.path.resolve() for pack in self.engine.packs]
        others = [path for path in changed if not any(pack in path.parents for pack in packs)]
        return bool(outcome.changed or outcome.removed or others)

    def _submit(self, changed: frozenset[Path], begun: float) -> Round:
        workflow = Workflow.load(self.path)
        try:
            workflow, inputs, shown, origins, extra = self._read(workflow)
        except Problems as error:
            _, problems, files = self._checked(workflow, {})
            self._watch_files(files)
            raise Problems(problems or error.problems) from None
        self._extra = [Path(one) for one in extra]
        template, problems, files = self._checked(workflow, inputs)
        self._watch_files(files)  # before anything reads them: what is saved from now on is seen
        if problems:
            raise Problems(problems)
        job = self.engine.submit(workflow, inputs, origins=origins, only=self._only)
        this = Round(self._number, workflow, template, inputs, shown, origins, tuple(sorted(changed)))
        self._job = job
        self._tell(lambda view: view.begin(this))
        follower = threading.Thread(target=self._follow, args=(this, job, begun), daemon=True, name="nodegraph-watch")
        follower.start()
        self._follower = follower  # not before: another thread that closes this joins it
        return this

    def _follow(self, this: Round, job: Job, begun: float) -> None:
        """Hand on what happens in a run, as long as it is the newest."""
        try:
            self._show_all(this, job, begun)
        except Exception as error:  # of a view, as when who reads it has gone: there is nobody left to run for
            self._failed = error
            self.watcher.close()

    def _show_all(self, this: Round, job: Job, begun: float) -> None:
        for event in job.events():
            self._tell(partial(_show, this, event), this)
        result = job.result()
        if this.number == self._number:
            try:
                files = self._publish(this, result)
            except OSError as error:  # a disk that is full, a folder that may not be written
                self._wrong(_problems_of(error), kept=False)
                return
            seconds = time.perf_counter() - begun
            self._tell(lambda view: view.end(this, result, files, seconds), this)

    def _wrong(self, problems: Iterable[Problem], kept: bool) -> None:
        listed = list(problems)
        self._tell(lambda view: view.wrong(listed, kept))

    def _tell(self, say: Callable[[View], None], this: Round | None = None) -> None:
        with self._lock:
            if this is None or this.number == self._number:
                for view in self._views:
                    say(view)

    def _cancel(self) -> None:
        job, self._job = self._job, None
        follower, self._follower = self._follower, None
        self._number += 1  # what is left of it is told to nobody
        if job is not None:
            job.cancel()
        if follower is not None and follower is not threading.current_thread():
            follower.join(PATIENCE)

    def _new(self, changed: frozenset[Path]) -> bool:
        """Whether files differ from what the last round read: a slow save is told of more than once."""
        return any(path not in self._stamps or self._stamps[path] != _stamp(path) for path in changed)

    # -- files -----------------------------------------------------------------------------------------------------

    def _watch_files(self, files: Iterable[Path]) -> None:
        """Watch everything that a round reads."""
        watched = [path.resolve() for path in (self.path, *self._extra, *files)]
        known = {**self._before, **self._read_stamps}
        self._stamps = {path: known[path] if path in known else _stamp(path) for path in watched}
        self.watcher.watch(watched)

    def _checked(self, workflow: Workflow, given: Mapping[str, Any]) -> tuple[Template, list[Problem], list[Path]]:
        """What check makes of a workflow, what is wrong with it, and the files that it read or looked for: workflows that are used, and
        files that are named in them. One that is missing or broken is mended by a save, too."""
        with self.engine._lock:
            template, problems = self.engine._judged(workflow, given, self.engine.checker)
            files = self.engine.checker.world.files_asked()
        self._read_stamps.clear()
        for one in _templates(template):
            if one.workflow._stamp is not None:
                name, seen = one.workflow._stamp
                files.append(Path(name))
                self._read_stamps[Path(name)] = seen.mtime_ns, seen.size
        return template, problems, files

    def _publish(self, this: Round, result: Result) -> dict[str, list[Path]]:
        """Write outputs under names that stay the same, so that a viewer shows the newest: `txt2img-image.png`."""
        written = {}
        name = safe_name(this.workflow.name or self.path.stem)
        for output, value in result.outputs.items():
            if is_file_output(value):
                written[output] = self._replace(value, f"{name}-{safe_name(output)}", result.metadata(output))
                for old in set(self._made.get(output, ())) - set(written[output]):
                    old.unlink(missing_ok=True)
        self._made.update(written)
        for path in (*result.files, *(one for made in written.values() for one in made)):
            if (place := path.resolve()) in self._stamps:  # a workflow that reads what it wrote would never come to rest
                self._stamps[place] = _stamp(place)
        return written

    def _replace(self, value: Any, stem: str, metadata: Mapping[str, Any]) -> list[Path]:
        self.output.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".watch-", dir=self.output))
        try:
            made = []
            for path in save_value(value, aside, stem, metadata):
                target = self.output / path.name
                made.append(target)
                if not (target.is_file() and filecmp.cmp(path, target, shallow=False)):  # viewers are told of news alone
                    os.replace(path, target)
            return made
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _show(this: Round, event: Event, view: View) -> None:
    view.event(this, event)


def _problems_of(error: Exception) -> list[Problem]:
    if isinstance(error, Problems):
        return list(error.problems)
    if isinstance(error, Refused):
        return [Problem(error.code, "", error.text, error.fix)]
    return [Problem("system", str(getattr(error, "filename", None) or ""), getattr(error, "strerror", None) or str(error))]


def _templates(template: Template) -> list[Template]:
    """A template and all that are used in it, each once."""
    found = [template]
    for one in found:
        found += [child for child in one.children if not any(child is known for known in found)]
    return found


def _unchanged(workflow: Workflow) -> bool:
    if workflow._stamp is None:
        return True
    name, seen = workflow._stamp
    return _stamp(Path(name)) == (seen.mtime_ns, seen.size)


def _stamp(path: Path) -> Stamp | None:
    """Time and size of a file, or None when there is none."""
    with contextlib.suppress(OSError):
        stat = path.stat()
        return stat.st_mtime_ns, stat.st_size
    return None


__all__ = ["Live", "Round", "View"]
