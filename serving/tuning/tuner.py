"""Carries a search out: asks `search` for the next round, has it measured, puts it on the disk.

Knows engines only through `Rig`: the real one is `engine_rounds`, tests have one of arithmetic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Protocol

from serving.tuning.journal import Journal
from serving.tuning.search import Costs, Measure, Plan, State, Stop, next_step
from serving.tuning.space import Setting

Say = Callable[[str, float], None]
"""Gets the stage, and which share of it is done (0 to 1)."""


class SettingFailed(Exception):
    """An engine of this setting did not start, or did not answer; the text says why."""


class Warm(Protocol):
    """An engine that is up and warm."""

    def measure(self, number: int, say: Say) -> Mapping[str, float]:
        """The figures of one round.

        Raises:
            SettingFailed: nothing was answered.
        """
        ...


class Rig(Protocol):
    """Starts engines of settings, one at a time."""

    def warm_engine(self, setting: Setting, say: Say) -> AbstractContextManager[Warm]:
        """A started and warmed-up engine, until the block ends.

        Raises:
            SettingFailed: it did not come up.
        """
        ...


@dataclass(frozen=True, slots=True)
class Told:
    """Where a search is: for the progress line."""

    setting: Setting
    number: int
    why: str
    stage: str
    share: float
    """Of the stage that is done."""
    state: State


@dataclass
class Tuner:
    """One search. `clock` gives seconds; only differences of it are used."""

    plan: Plan
    rig: Rig
    journal: Journal
    assumed: Costs
    tell: Callable[[Told], None]
    clock: Callable[[], float] = time.monotonic
    choose: Callable[[Plan, State], Measure | Stop] = next_step

    def run(self) -> Stop:
        """Measure until the search says stop; the engine of the last round is gone then.

        Interrupted anywhere, the record has all finished rounds, and another run goes on.
        """
        step = self._next(None)
        while isinstance(step, Measure):
            step = self._with_engine(step)
        return step

    def _next(self, running: Setting | None) -> Measure | Stop:
        return self.choose(self.plan, self.journal.state(self.assumed, running=running))

    def _with_engine(self, step: Measure) -> Measure | Stop:
        """All rounds that are wanted of one setting in a row, on one engine."""
        setting, since = step.setting, self.clock()
        try:
            with ExitStack() as stack:
                warm = stack.enter_context(self.rig.warm_engine(setting, self._say(step)))
                since = self._log("start", setting, since)
                following: Measure | Stop = step
                while isinstance(following, Measure) and following.setting == setting:
                    values = warm.measure(following.number, self._say(following))
                    since = self._log(
                        "round", setting, since, number=following.number, values=dict(values)
                    )
                    following = self._next(setting)
        except SettingFailed as exc:
            self._log("failed", setting, since, reason=str(exc))
        else:
            self._log("stop", setting, since)
        # Asked again: with no engine up, the next round costs a start.
        return self._next(None)

    def _log(self, event: str, setting: Setting, since: float, **facts: object) -> float:
        now = self.clock()
        self.journal.append(
            {"event": event, "setting": setting.to_json(), "seconds": now - since, **facts}
        )
        return now

    def _say(self, step: Measure) -> Say:
        state = self.journal.state(self.assumed)

        def say(stage: str, share: float) -> None:
            self.tell(Told(step.setting, step.number, step.why, stage, share, state))

        return say
