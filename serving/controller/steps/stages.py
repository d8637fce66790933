"""The stages of one evaluation: timed, shown as progress, and kept once they are finished.

A stage's result is kept by everything that it depends on, so a controller that is killed goes on
with the first stage that was not finished, and what depends on content alone (the standalone side's
view of an adapter, the live version's answers) is computed once for all evaluations.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from adapters.results import ResultStore, result_key
from serving.controller.steps.lease import Lease
from serving.controller.steps.metrics import Stopwatch

STAGES: Mapping[str, float] = {
    "fetch": 1.0,
    "reference": 12.0,
    "runner": 15.0,
    "load": 5.0,
    "candidate": 45.0,
    "live": 12.0,
    "noise": 8.0,
    "verify": 14.0,
    "continue": 2.0,
    "judge": 1.0,
}
"""In order, with the share of the time that each usually takes (of a 135M base on two cores)."""
_FORMAT = 1
"""Part of every key: raised when a stage's result changes its meaning."""
_Result = TypeVar("_Result")


class Stages:
    """Carries one evaluation through its stages."""

    def __init__(self, results: ResultStore, watch: Stopwatch, lease: Lease) -> None:
        self._results, self._watch, self._lease = results, watch, lease
        self._plan = [{"name": name, "weight": weight} for name, weight in STAGES.items()]
        self.reused: list[str] = []
        """Stages whose result was there already."""
        self.spent: list[str] = []
        """Keys of results that no other evaluation can use: to forget once this one is over."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds by stage so far."""
        return self._watch.seconds

    def progress(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Tell people how far the evaluation is; a pause keeps the place of the stage before."""
        index = list(STAGES).index(stage) if stage in STAGES else None
        self._lease.progress(stage, done, total, stages=self._plan, index=index)

    def wait(self, stage: str, why: str) -> None:
        """Tell people what holds the evaluation up, and why, in one sentence."""
        reasons = [{"code": stage, "text": why}]
        self._lease.progress(stage, stages=self._plan, index=None, reasons=reasons)

    async def run(self, stage: str, compute: Callable[[], Awaitable[_Result]]) -> _Result:
        """Run a stage that is not kept."""
        self.progress(stage)
        with self._watch.stage(stage):
            return await compute()

    async def has(self, stage: str, parts: Mapping[str, Any], kind: type[Any]) -> bool:
        """Whether the stage's result for these `parts` is there already."""
        return await self._results.find(_key(stage, parts), kind) is not None

    async def once(
        self,
        stage: str,
        parts: Mapping[str, Any],
        kind: type[_Result],
        compute: Callable[[], Awaitable[_Result]],
        *,
        is_for_all: bool = True,
    ) -> _Result:
        """The kept result of the stage for these `parts`, or that of `compute`, which is then kept.

        Raises:
            StoreUnavailable: the store does not answer; whatever `compute` raises.
        """
        key = _key(stage, parts)
        if not is_for_all:
            self.spent.append(key)
        self.progress(stage)
        with self._watch.stage(stage):
            kept = await self._results.find(key, kind)
            if kept is not None:
                self.reused.append(stage)
                return kept
            result = await compute()
            await self._results.keep(key, result)
            return result


def _key(stage: str, parts: Mapping[str, Any]) -> str:
    return result_key(f"gate/{stage}/{_FORMAT}", parts)
