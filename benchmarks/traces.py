"""Editing sessions from a seed: what people at one engine ask for, edit after edit, and what each node costs.

Seconds and bytes of nodes are log-normal around figures for 512x512 on one mid-size GPU; a session draws them once for each
workflow, with its own area and batch. An edit turns a knob (mostly the one that was turned last; a fourth of the time back to a value
that was tried), or undoes or redoes one, or goes back to a state that was marked, or goes on in another workflow.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass

COSTS = {
    "load_image": (0.05, 3.1), "encode_text": (0.15, 0.5), "empty_latent": (0.001, 0.07), "encode_image": (0.5, 0.07),
    "sample": (8.0, 0.07), "decode": (0.7, 3.1), "upscale": (3.0, 40.0), "resize": (0.04, 6.0), "adjust": (0.06, 3.1),
    "blur": (0.2, 3.1), "find_mask": (0.9, 1.0), "grow_mask": (0.05, 1.0), "composite": (0.05, 3.1), "grid": (0.1, 20.0),
    "embed": (0.3, 0.003), "prior": (2.5, 0.005), "sample_video": (60.0, 4.0), "decode_video": (8.0, 380.0),
    "grade_video": (2.5, 380.0), "interpolate": (7.0, 760.0),
}  # fmt: skip
"""Median seconds and megabytes of a node's result."""
SMALL = ("encode_text", "embed", "prior")
"""Nodes whose results do not grow with the picture."""
_TEXTS = ["positive encode_text : prompt*4", "negative encode_text : prompt*1"]
FLOWS = {
    "txt2img": [*_TEXTS, "canvas empty_latent : size*0.3", "sample sample positive negative canvas : seed*6 guidance*2 steps*1 sampler*1",
                "decode decode sample", "colour adjust decode : contrast*2", "up upscale colour : model*0.7"],
    "twice": [*_TEXTS, "canvas empty_latent : size*0.3", "first sample positive negative canvas : seed*5 guidance*2", "rough decode first",
              "large resize rough : factor*0.5", "again encode_image large", "second sample positive negative again : strength*3 steps*1",
              "decode decode second", "sharp blur decode : radius*2"],
    "inpaint": ["photo load_image : file*0.7", "found find_mask photo : text*1", "grown grow_mask found : pixels*2",
                "latent encode_image photo grown", _TEXTS[0], "sample sample positive latent : seed*5 strength*2 guidance*1",
                "decode decode sample", "soft blur grown : radius*2", "over composite photo decode soft : mode*1"],
    "retouch": ["photo load_image : file*1", "size resize photo : width*1", "colour adjust size : contrast*4 hue*2",
                "glow blur colour : radius*3", "blend composite colour glow : opacity*3", "up upscale blend : model*0.5"],
    "unclip": ["photo load_image : file*1", "seen embed photo", "said embed : prompt*3", "prior prior said : seed*3 guidance*1",
               "mixed prior seen prior : weight*4", "sample sample mixed : seed*4 guidance*1", "decode decode sample",
               "up upscale decode : model*0.5"],
    "video": [*_TEXTS, "sample sample_video positive negative : seed*4 guidance*2 steps*1", "decode decode_video sample",
              "grade grade_video decode : contrast*3", "smooth interpolate grade : rate*1"],
    "sheet": [*_TEXTS, *(line for n in range(6) for line in (f"s{n} sample positive negative : seed*0.8", f"d{n} decode s{n}")),
              "grid grid d0 d1 d2 d3 d4 d5 : columns*2"],
}  # fmt: skip
"""`name kind sources : knob*how often it is turned`, in the order of the data; the last gives the output."""
SWITCH = (0.08, 0.3, 0.8)
"""How often an edit is in another workflow: one person at work, one who compares, several people at one engine."""
Knob = tuple[str, str]


@dataclass(slots=True)
class Result:
    """What a node gives in one run: its work key, what it costs, and the places in the run of what it takes."""

    key: str
    seconds: float
    nbytes: int
    sources: tuple[int, ...]
    stored: bool = False
    age: float = 0.0
    uses: int = 1


class _Flow:
    """A workflow in a session: its nodes, what they cost here, and how its knobs stand."""

    def __init__(self, name: str, draw: random.Random):
        self.name = name
        self.nodes: list[tuple[str, str, list[str], list[str]]] = []
        weights: dict[Knob, float] = {}
        for line in FLOWS[name]:
            head, _, tail = line.partition(":")
            node, kind, *sources = head.split()
            knobs = [knob.split("*") for knob in tail.split()]
            self.nodes.append((node, kind, sources, [knob for knob, _ in knobs]))
            weights.update({(node, knob): float(weight) for knob, weight in knobs})
        self.weights = weights
        self.values: dict[Knob, int] = dict.fromkeys(weights, 0)
        self.tried: dict[Knob, int] = dict.fromkeys(weights, 0)
        self.last: Knob | None = None
        area, batch = draw.choice([1.0, 1.0, 1.5, 2.25, 4.0]), draw.choice([1, 1, 2, 4]) if name not in ("video", "retouch") else 1
        self.costs = {}
        for node, kind, _, _ in self.nodes:
            seconds, megabytes = COSTS[kind]
            grown = 1.0 if kind in SMALL else area * batch
            self.costs[node] = (
                seconds * grown**0.9 * math.exp(draw.gauss(0, 0.5)),
                megabytes * 1e6 * grown * math.exp(draw.gauss(0, 0.35)),
            )

    def turn(self, draw: random.Random) -> None:
        """Turn one knob."""
        if self.last is None or draw.random() > 0.55:
            self.last = draw.choices(list(self.weights), list(self.weights.values()))[0]
        most = self.tried[self.last]
        if most and draw.random() < 0.25:
            self.values[self.last] = draw.randint(max(0, most - 4), most)
        else:
            self.tried[self.last] = self.values[self.last] = most + 1

    def run(self) -> list[Result]:
        """Every node as it stands now."""
        made: dict[str, int] = {}
        results: list[Result] = []
        for node, kind, sources, knobs in self.nodes:
            parts = [
                self.name,
                node,
                kind,
                *(f"{knob}={self.values[node, knob]}" for knob in knobs),
                *(results[made[one]].key for one in sources),
            ]
            key = hashlib.blake2b("|".join(parts).encode(), digest_size=12).hexdigest()
            seconds, nbytes = self.costs[node]
            made[node] = len(results)
            varied = seconds * math.exp(random.Random(key).gauss(0, 0.1))
            results.append(Result(key, varied, int(nbytes) + 300, tuple(made[one] for one in sources)))
        return results


def session(seed: int, edits: int = 240) -> list[list[Result]]:
    """A run for each edit of a session."""
    draw = random.Random(seed)
    switch = SWITCH[seed % len(SWITCH)]
    flows = [_Flow(name, draw) for name in draw.sample(list(FLOWS), draw.randint(3, 6))]
    current, at = flows[0], -1
    states: list[tuple[_Flow, dict[Knob, int]]] = []
    marked: list[tuple[_Flow, dict[Knob, int]]] = []
    runs = []

    def restored(state: tuple[_Flow, dict[Knob, int]]) -> _Flow:
        state[0].values = dict(state[1])
        return state[0]

    for _ in range(edits):
        chance = draw.random()
        if chance < 0.10 and at > 0:
            at -= 1
            current = restored(states[at])
        elif 0.10 <= chance < 0.14 and at < len(states) - 1:
            at += 1
            current = restored(states[at])
        else:
            if 0.14 <= chance < 0.18 and marked:
                current = restored(draw.choice(marked))
            else:
                current = draw.choice(flows) if draw.random() < switch else current
                current.turn(draw)
            del states[at + 1 :]
            states.append((current, dict(current.values)))
            at += 1
            if draw.random() < 0.06:
                marked.append(states[at])
        runs.append(current.run())
    return runs
