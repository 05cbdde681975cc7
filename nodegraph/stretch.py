"""A stretch: plain steps of a run in an order in which what each takes comes before it. One worker does them one after another.

What a run keeps of a step so that any worker may do it at any moment (who waits for it, how many it waits for) costs as much as a
small node. The first nodes of a workflow that `check` has settled link back only, so their order is known before anything runs, and
of those that are plain nothing else needs to be kept. Whatever does not fit, be it found out before or on the way, goes the way of
any step; and when the worker of a stretch is stuck in one step, all that are left do.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from nodegraph import plain
from nodegraph.entries import PINNED, PLAIN, Entry
from nodegraph.leases import LONG
from nodegraph.sources import steps_in
from nodegraph.states import DONE, IDLE, WAITING

if TYPE_CHECKING:
    from nodegraph.execution import Execution

GO_ON, HAND_OUT = -1, -2
"""What stands in a lane in place of a step: doing the next steps of a stretch; and giving up the rest of it, which another worker
comes upon only when the first is stuck."""


class Stretch:
    """What is left of a stretch. `watched`: whether other steps may wait for its steps by now."""

    def __init__(self, run: Execution, steps: list[int]):
        self.run, self.lane, self.watched = run, run.shared.lanes["cpu"], False
        self._left = deque(steps)
        self._at = steps[0]
        self._handed_out = False

    def begin(self) -> None:
        """Under the run's lock: go to work."""
        self.lane.push(self.run, [GO_ON, HAND_OUT])
        self.run.active += 1

    def execute(self, what: int) -> int | None:
        """Do what stands in the lane. Returns the next for the same lane."""
        run, left, compute = self.run, self._left, self.run.compute
        if what == HAND_OUT:
            try:
                self._hand_out()
            except Exception as error:  # a mistake of the engine must not hang the run, nor end the lane's worker
                run.break_off_all(error)
            return None
        done, state, dependents, roots = run.done, run.state, run.dependents, run.roots
        for _ in range(plain.AT_ONCE):
            if run.cancelled or not left:
                run.leave()
                return None
            try:
                step = self._at = left.popleft()
            except IndexError:  # they were handed out just now
                continue
            try:
                value = None if self._handed_out else compute(step)
                if value.__class__ in PLAIN:
                    done[step], state[step] = value, DONE
                    # asked after the state is set: who wants to wait for a step sets `watched` before looking at its state
                    if not self.watched and dependents[step] is None and step not in roots:
                        continue
                following = self._tell(step, value)
            except Exception as error:  # nor fail more than the step
                following = self._give_up(step, error)
            if following is not None:
                self.lane.push(run, [GO_ON])  # the newest first, as everywhere in a lane
                return following
        return GO_ON

    def _tell(self, step: int, value: Any) -> int | None:
        """Record what a step gave, as for any step; or call it as any step if nothing has been done yet."""
        run = self.run
        with run.lock:
            if value is None and (self._handed_out or not self._has_inputs(step)):
                self._demand([step])
                return None
            run.active += 1
        if value is None:
            return run.call(step)
        try:
            return run.record_plain(step, value, self.lane) if value.__class__ in PLAIN else plain.record_call(run, step, value)
        except Exception as error:  # see above
            return run.give_up(step, None, error)

    def _give_up(self, step: int, error: Exception) -> int | None:
        with self.run.lock:
            self.run.active += 1
        return self.run.give_up(step, None, error)

    def _hand_out(self) -> None:
        with self.run.lock:
            self._handed_out = True
            steps = []
            while self._left:
                try:
                    steps.append(self._left.popleft())
                except IndexError:
                    break
            if steps:
                self.run.traits[self._at].took(LONG)  # it may be less, but others of its type must not be waited for either
                self._demand(steps)

    def _has_inputs(self, step: int) -> bool:
        """Whether all that a step takes is there as it is."""
        run = self.run
        given = [one for source in run.plan.sources[step].values() for one in steps_in(source)]
        return all(run.state[one] == DONE and run.done[one].__class__ is not dict for one in given)

    def _demand(self, steps: list[int]) -> None:
        """Under the lock: have steps of the stretch computed as any others."""
        for step in steps:
            self.run.state[step] = IDLE
        self.run.demand(steps)


def begin(run: Execution) -> None:
    """Under the lock, when all else has been demanded: find out which of the steps set aside are missing, and what they need. Those that
    make a stretch go to work, the others are demanded as any step."""
    aside, state, may_link = run.aside, run.state, run.shared.cache.may_link
    all_traits, sources = run.traits, run.plan.sources
    keys: list[Any] = run.plan.keys  # none of these steps is without one
    steps: list[int] = []
    lowest_other = run.below
    step = aside.rfind(1)
    while step >= 0:
        traits = all_traits[step]
        if not traits.quick:
            run.look_up()
        if traits.plain and traits.seconds < LONG and not may_link(keys[step]):  # it is missing, so what it takes is needed
            for source in sources[step].values():
                if source.__class__ is tuple:
                    aside[source[0]] = 1
                else:
                    for one, _ in source:
                        aside[one] = 1
            steps.append(step)
            state[step] = WAITING
        else:
            aside[step] = 0
            lowest_other = run.below = step
            run.demand([step])
        step = aside.rfind(1, 0, step)
    run.below = 0
    steps.reverse()
    if steps and lowest_other < steps[-1]:
        steps = _leaving_others(run, steps)
    if steps:
        run.stretch = Stretch(run, steps)
        run.stretch.begin()


def _leaving_others(run: Execution, steps: list[int]) -> list[int]:
    """The steps that take from others of the stretch alone, or from small results that are there; the rest is demanded as any step."""
    aside, done, fitting, others = run.aside, run.done, [], []
    for step in steps:
        for one in [one for source in run.plan.sources[step].values() for one in steps_in(source)]:
            given = done[one]
            if not aside[one] and not (isinstance(given, Entry) and given.nbytes <= PINNED):
                aside[step] = 0
                run.state[step] = IDLE
                others.append(step)
                break
        else:
            fitting.append(step)
    if others:
        run.demand(others)
    return fitting
