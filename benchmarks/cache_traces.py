"""What the cache's eviction saves: our policy beside LRU, LFU and GreedyDual-Size-Frequency, on seeded editing sessions.

    python benchmarks/cache_traces.py [--sessions 12] [--edits 240]

Each policy plays the same sessions (see `traces`): demand goes backward from the output, what is missing is computed and kept, what
does not fit is let go by the policy. Printed is the share of all seconds of computing (those without a cache) that is saved. Budgets
are parts of the working set, which is counted in two ways: the bytes of all results that are asked for again when nothing is ever let
go, and the bytes of all results whatever. Sessions with seeds below 100 are for tuning; the tables are of seeds from 100 on. Ours is
the class that the engine runs, `nodegraph.eviction.Eviction`, evicting in waves as the engine's cache does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator

from measure import verdict
from traces import Result, session

from nodegraph.cache import KEEP
from nodegraph.eviction import Eviction

BUDGETS = (0.05, 0.1, 0.2, 0.35, 0.5)
Runs = list[list[Result]]


class LRU:
    """The longest unused leaves first."""

    keep = 1.0

    def __init__(self) -> None:
        self.clock = 0

    def admitted(self, item: Result) -> None:
        item.uses = 0
        self.used(item)

    def used(self, item: Result) -> None:
        self.clock += 1
        item.uses += 1
        item.age = self.clock

    def rank(self, item: Result) -> tuple[float, ...]:
        return (item.age,)

    def leaving(self, items: Iterable[Result]) -> Iterator[Result]:
        yield from sorted(items, key=self.rank)


class LFU(LRU):
    """The least used leaves first, the longest unused among equals."""

    def rank(self, item: Result) -> tuple[float, ...]:
        return item.uses, item.age


class GDSF(LRU):
    """GreedyDual-Size-Frequency as it is written down, evicting just what it must."""

    def __init__(self) -> None:
        super().__init__()
        self.inflation = 0.0

    def used(self, item: Result) -> None:
        item.uses += 1
        item.age = self.inflation + item.uses * item.seconds / item.nbytes

    def leaving(self, items: Iterable[Result]) -> Iterator[Result]:
        for item in super().leaving(items):
            self.inflation = max(self.inflation, item.age)
            yield item


class Ours(Eviction):
    """The engine's policy."""

    keep = KEEP


POLICIES: dict[str, Callable[[], LRU | Ours]] = {"LRU": LRU, "LFU": LFU, "GDSF": GDSF, "ours": Ours}


class Tier:
    """One tier under a policy; what steps of the run hold on to stays, and is beyond the budget."""

    def __init__(self, policy: LRU | Ours, budget: float):
        self.policy, self.budget, self.used = policy, budget, 0
        self.items: dict[str, Result] = {}

    def put(self, item: Result, pinned: set[str]) -> None:
        self.items[item.key] = item
        self.used += item.nbytes
        self.policy.admitted(item)
        self.settle(pinned)

    def settle(self, pinned: set[str]) -> None:
        free = self.used - sum(self.items[key].nbytes for key in pinned if key in self.items)
        if free <= self.budget:
            return
        leaving = self.policy.leaving([item for item in self.items.values() if item.key not in pinned])
        while free > self.budget * self.policy.keep and (item := next(leaving, None)) is not None:
            del self.items[item.key]
            self.used -= item.nbytes
            free -= item.nbytes


def demand(run: list[Result], has: Callable[[str], bool]) -> tuple[list[int], list[int]]:
    """The places in a run of what must be computed, in order, and of what is found."""
    missing, found, seen, stack = [], [], set(), [len(run) - 1]
    while stack:
        at = stack.pop()
        if at in seen:
            continue
        seen.add(at)
        if has(run[at].key):
            found.append(at)
        else:
            missing.append(at)
            stack += run[at].sources
    return sorted(missing), found


def play(runs: Runs, policy: LRU | Ours, budget: float) -> float:
    """Seconds of computing in a session under a policy and a budget."""
    tier, spent = Tier(policy, budget), 0.0
    for run in runs:
        missing, found = demand(run, tier.items.__contains__)
        for at in found:
            policy.used(tier.items[run[at].key])
        waiting = [at for one in missing for at in run[one].sources]
        for at in missing:
            spent += run[at].seconds
            tier.put(run[at], {run[one].key for one in waiting})
            for source in run[at].sources:
                waiting.remove(source)
        tier.settle(set())
    return spent


def needs(runs: Runs) -> tuple[float, float, float]:
    """Seconds of a session without a cache, and its working set in bytes: what is asked for again, and everything."""
    seconds, known, again = 0.0, {}, {}
    for run in runs:
        seconds += sum(run[at].seconds for at in demand(run, lambda key: False)[0])
        missing, found = demand(run, known.__contains__)
        again.update({run[at].key: run[at].nbytes for at in found})
        known.update({run[at].key: run[at].nbytes for at in missing})
    return seconds, float(sum(again.values())), float(sum(known.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=12)
    parser.add_argument("--edits", type=int, default=240)
    parser.add_argument("--first", type=int, default=100, help="the first session's seed; below 100 are those for tuning")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.sessions)
    known = {seed: needs(session(seed, options.edits)) for seed in seeds}
    total = sum(needed[0] for needed in known.values())
    print(f"{options.sessions} sessions of {options.edits} edits, {total / 3600:.1f} hours of computing without a cache")
    for which, words in enumerate(("asked for again", "of any result"), 1):
        saved: dict[tuple[str, float], float] = {}
        gigabytes = sum(needed[which] for needed in known.values()) / 1e9
        print(f"budgets as parts of the bytes {words} ({gigabytes:.0f} GB):")
        print(f"{'budget':>8}{'none':>8}" + "".join(f"{name:>8}" for name in POLICIES) + f"{'ours/LRU':>10}")
        for part in (*BUDGETS, float("inf")):
            for name, policy in POLICIES.items():
                saved[name, part] = total - sum(play(session(seed, options.edits), policy(), known[seed][which] * part) for seed in seeds)
            shares = "".join(f"{saved[name, part] / total:8.1%}" for name in POLICIES)
            ratio = saved["ours", part] / saved["LRU", part]
            print(f"{'all' if part > 1 else f'{part:.0%}':>8}{0:8.1%}{shares}{ratio:10.2f}", flush=True)
        ratio, most = (saved["ours", part] / saved["LRU", 0.1] for part in (0.1, float("inf")))
        print(verdict(f"seconds saved at 10 % of the bytes {words}, ours over LRU's", ratio, 1.3, at_least=True))
        print(f"  where nothing is ever let go that is {most:.2f}: no policy can do better\n")


if __name__ == "__main__":
    main()
