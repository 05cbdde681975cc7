"""Kill it anywhere: real runs are killed (SIGKILL) in every phase, and the same command is given again.

After each kill: no output is half-written, the cache verifies clean, and the second run ends with the bytes of an undisturbed one,
having lost at most a second of finished sampling. Each kill waits for the phase to begin, and a random moment more.

    python benchmarks/kill.py [--count 200] [--seed 0] [--steps 60] [--samplers euler ddim …]

The runs are forked from a process that has imported the libraries and read the packs already, so that a trial takes seconds; each is a
process of its own. Seconds during which this program itself was stopped (^Z, a batch system) would look lost: such a trial is made again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SAMPLERS = ("euler", "euler_ancestral", "ddim", "ddpm", "dpm++_2m", "dpm++_2m_sde", "dpm2", "lms", "pndm", "unipc")
PHASES = {
    "loading": ("planned", "", 0.5),
    "sampling": ("progress", "sample", 1.0),
    "writing to disk": ("finished", "sample", 0.02),
    "decoding": ("started", "decode", 0.05),
    "saving outputs": ("finished", "decode", 0.03),
}
"""Phase → the event that it begins with, the node of that event, and the most seconds that are waited from there."""
STOPS: list[int] = []
"""Grows each time that this program goes on after it was stopped."""
PROMPT = "a large red circle on the left on a white background"


@dataclass
class Child:
    """A forked run of the command line, and the events it has printed: (seconds, event)."""

    pid: int
    pipe: int
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    _rest: bytes = b""

    def read(self) -> bool:
        """Wait for more events. False at the end."""
        data = os.read(self.pipe, 1 << 16)
        now = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.events += [(now, json.loads(line)) for line in lines]
        return bool(data)

    def reach(self, kind: str, node: str, skip: int = 0) -> bool:
        """Wait for an event, leaving out some of its kind. False when the run ends before."""
        while True:
            found = [event for _, event in self.events if event["event"] == kind and event.get("node", "") == node]
            if len(found) > skip:
                return True
            if not self.read():
                return False

    def end(self) -> int:
        """Read to the end. Returns the exit code; negative for a signal."""
        while self.read():
            pass
        os.close(self.pipe)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def steps(self) -> list[tuple[float, int]]:
        """When which step of the sampling was done."""
        return [(when, event["step"]) for when, event in self.events if event["event"] == "progress" and event.get("node") == "sample"]


def start(folder: Path, sampler: str, steps: int) -> Child:
    """Fork a process that paints the picture."""
    given = {"prompt": PROMPT, "sampler": sampler, "steps": steps, "seed": 3}
    flags = [part for name, value in given.items() for part in ("--set", f"{name}={value}")]
    places = ["--cache", str(folder / "cache"), "--output", str(folder / "output"), "--device", "cpu"]  # a GPU does not survive a fork
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return Child(pid, reading)
    try:
        os.dup2(writing, 1)
        sys.stdout = os.fdopen(1, "w")  # the parent's may have been a file
        from nodegraph.cli import main

        os._exit(main(["run", "txt2img", *flags, *places, "--events", "jsonl", "--quiet"]))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(70)


def outputs(folder: Path) -> dict[str, bytes]:
    """The files that a person sees."""
    found = sorted((folder / "output").glob("*")) if (folder / "output").is_dir() else []
    return {path.name: path.read_bytes() for path in found if not path.name.startswith(".")}


def verify(folder: Path) -> int:
    """Damaged results in the cache, by the command that people use."""
    from nodegraph.store import Store

    store = Store(folder / "cache", 1 << 30)
    try:
        return int(store.verify()["damaged"])
    finally:
        store.close()


@dataclass
class Trial:
    """One kill: what it hit, and what the second run made of it."""

    phase: str
    sampler: str
    faults: list[str]
    lost: float = 0.0
    resumed: bool = False


def trial(draw: random.Random, phase: str, sampler: str, steps: int, whole: dict[str, bytes]) -> Trial | None:
    """Kill one run in a phase. None when it had ended before the kill, or was stopped so that the seconds say nothing."""
    kind, node, most = PHASES[phase]
    stops = len(STOPS)
    skip = draw.randrange(steps - 1) if phase == "sampling" else 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        killed = start(folder, sampler, steps)
        if killed.reach(kind, node, skip):
            time.sleep(draw.uniform(0, most if phase != "sampling" else 0.05))
        os.kill(killed.pid, signal.SIGKILL)
        when = time.monotonic()
        if killed.end() != -signal.SIGKILL:
            return None
        made = Trial(phase, sampler, [])
        if any(whole.get(file) != data for file, data in outputs(folder).items()):
            made.faults.append("an output is half-written")
        if damaged := verify(folder):
            made.faults.append(f"{damaged} results in the cache are damaged")
        again = start(folder, sampler, steps)
        if code := again.end():
            made.faults.append(f"the second run exits with {code}")
        if outputs(folder) != whole:
            made.faults.append("the second run gives other bytes")
        made.lost, made.resumed = _lost(killed, again, when)
        if made.lost > 1.0 and len(STOPS) > stops and not made.faults:
            return None
        if made.lost > 1.0:
            made.faults.append(f"{made.lost:.2f} s of finished sampling are lost")
        return made


def _lost(killed: Child, again: Child, when: float) -> tuple[float, bool]:
    """Seconds of finished sampling that had to be done again, and whether the second run went on from a checkpoint."""
    before, after = killed.steps(), again.steps()
    if not before or not after:  # nothing was finished, or the result was on disk
        return 0.0, not after
    kept = after[0][1] - 1  # steps that the second run did not take
    done_again = [moment for moment, step in before if step > kept]
    if not done_again:
        return 0.0, kept > 0
    since = max((moment for moment, step in before if step <= kept), default=before[0][0])
    return min(when, before[-1][0]) - since, kept > 0


def trials(options: argparse.Namespace) -> Iterator[Trial]:
    """All kills, spread over phases and samplers."""
    draw = random.Random(options.seed)
    wholes: dict[str, dict[str, bytes]] = {}
    done = 0
    while done < options.count:
        sampler = options.samplers[done % len(options.samplers)]
        phase = list(PHASES)[(done // len(options.samplers)) % len(PHASES)] if done % 2 else "sampling"
        if sampler not in wholes:
            folder = Path(tempfile.mkdtemp())
            if code := start(folder, sampler, options.steps).end():
                raise SystemExit(f"an undisturbed run with {sampler} exits with {code}")
            wholes[sampler] = outputs(folder)
            shutil.rmtree(folder)
        made = trial(draw, phase, sampler, options.steps, wholes[sampler])
        if made is not None:
            done += 1
            yield made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--steps", type=int, default=60, help="of sampling in each run")
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS)
    options = parser.parse_args()
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: F401  # here once, so that forked runs need not
    from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

    import nodegraph.cli

    nodegraph.Engine(cache=False).close()  # what packs declare lasts as long as the process
    torch.set_num_threads(1)  # threads do not survive a fork
    signal.signal(signal.SIGCONT, lambda number, frame: STOPS.append(number))
    counts: Counter[str] = Counter()
    faults, lost, resumed = [], 0.0, 0
    for number, one in enumerate(trials(options), 1):
        counts[one.phase] += 1
        lost, resumed = max(lost, one.lost), resumed + one.resumed
        faults += [f"kill {number} ({one.phase}, {one.sampler}): {fault}" for fault in one.faults]
        if number % 20 == 0 or one.faults:
            print(f"{number} kills, {len(faults)} faults, at most {lost:.2f} s lost", *faults[-len(one.faults) :], flush=True)
    print(", ".join(f"{phase} {count}" for phase, count in counts.items()))
    print(f"{len(options.samplers)} samplers; {resumed} runs went on from a checkpoint or a result; at most {lost:.2f} s of sampling lost")
    raise SystemExit("\n".join(faults) if faults else 0)


if __name__ == "__main__":
    main()
