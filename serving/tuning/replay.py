"""Replays a window against a candidate, and against the current one: runs until it is decided.

Starts engines with the rig, or asks one that runs. What the runs mean, `replay_verdict` decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from adapters.parity.verdict import VerdictKind
from serving.engine.profile import EngineProfile
from serving.tuning.generator import Progress, Target, run_load
from serving.tuning.load_shape import Shape
from serving.tuning.measure import LoadResult
from serving.tuning.replay_order import Chosen, Order
from serving.tuning.replay_verdict import Judged, Rules, Runs, judge
from serving.tuning.rig import LOG, EngineFailed, running_engine
from serving.tuning.round_values import values_of, warm_up_of
from serving.tuning.slo import Slos

CANDIDATE, CURRENT = "candidate", "current"
Say = Callable[[str, float], None]
"""Gets what is going on, and the share of it that is done."""


class SideFailed(Exception):
    """One of the engines did not start; `side` says which, `hint` what to do."""

    def __init__(self, side: str, failure: EngineFailed) -> None:
        self.side, self.hint = side, failure.hint or f"Its log: {failure.log}"
        cause = f": {failure.cause}" if failure.cause else "."
        super().__init__(f"{failure.problem}{cause}")


class EngineUnanswering(Exception):
    """One of the engines answered none of the requests of the warm-up; `side` says which.

    `log` is the file to look into; None: an engine that was not started here.
    """

    def __init__(self, side: str, url: str, reason: str, *, log: Path | None) -> None:
        self.side, self.url, self.reason, self.log = side, url, reason, log
        super().__init__(f"{url}: {reason}")


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: an engine to start, or one that runs."""

    name: str
    profile: EngineProfile | None = None
    """To start one of."""
    target: Target | None = None
    """That runs already."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What is replayed, against whom, and what they must keep."""

    shape: Shape
    candidate: Side
    current: Side | None
    slos: Slos
    order: Chosen
    folder: Path
    runs: int = 3
    most_runs: int = 6
    """Runs of each side, if the first `runs` do not decide it."""
    rank: int = 8
    seed: int = 0

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of runs after which the verdict is asked for."""
        return (self.runs,) if self.most_runs <= self.runs else (self.runs, self.most_runs)

    @property
    def sides(self) -> tuple[Side, ...]:
        """The current one first, as its figures are what the others are held against."""
        return (self.candidate,) if self.current is None else (self.current, self.candidate)


@dataclass(slots=True)
class Replayed:
    """All that was measured, and what it means."""

    replay: Replay
    results: dict[str, list[LoadResult]] = field(default_factory=dict)
    """By the side's name, in the order of runs."""
    judged: Judged | None = None


class Engines:
    """The engines of a replay, started when they are first wanted, and warmed up then."""

    def __init__(self, replay: Replay, say: Say) -> None:
        self._replay, self._say = replay, say
        self._running: dict[str, tuple[Target, ExitStack]] = {}

    def hold(self, side: Side) -> Target:
        """A warm engine of this side; where one alone fits, the other one ends first.

        Raises:
            SideFailed, EngineUnanswering: it does not start, or does not answer.
            ProfileInvalid, BaseModelError: as `running_engine`.
        """
        if side.name not in self._running:
            if self._replay.order.order is Order.IN_TURN:
                self.end()
            with ExitStack() as stack:
                try:
                    target = side.target or stack.enter_context(self._start(side))
                except EngineFailed as exc:
                    raise SideFailed(side.name, exc) from exc
                self._warm_up(side, target)
                self._running[side.name] = (target, stack.pop_all())
        return self._running[side.name][0]

    def _warm_up(self, side: Side, target: Target) -> None:
        # Prompts of its own: they must not be in the prefix cache of a run.
        shape = warm_up_of(self._replay.shape)
        result = self.offer(target, shape, seed=-1, stage=f"{side.name}: warm-up")
        if not result.answered:
            first = next((sample.error for sample in result.samples), None)
            log = self._replay.folder / side.name / LOG if side.target is None else None
            raise EngineUnanswering(
                side.name, target.url, first or "no request was answered", log=log
            )

    @contextmanager
    def _start(self, side: Side) -> Iterator[Target]:
        if side.profile is None:
            raise ValueError(f"{side.name} has neither a profile nor a running engine")
        with running_engine(
            side.profile,
            n_adapters=max(1, self._replay.shape.n_adapters),
            folder=self._replay.folder / side.name,
            rank=min(self._replay.rank, side.profile.max_rank),
            on_stage=lambda stage, seconds: self._say(
                f"{side.name}: {stage}, {seconds:.0f} s", 0.0
            ),
        ) as target:
            yield target

    def offer(self, target: Target, shape: Shape, *, seed: int, stage: str) -> LoadResult:
        """One load, its prompts drawn for `seed`."""

        def tell(progress: Progress) -> None:
            self._say(stage, progress.n_done / max(1, progress.n_requests))

        # Apart, so that neighbouring seeds share no prompt; a seed is not negative.
        number = 1000 * self._replay.seed + 1 + seed
        return asyncio.run(run_load(target, shape, on_progress=tell, seed=number))

    def end(self) -> None:
        """End those that were started here."""
        while self._running:
            _, (_, stack) = self._running.popitem()
            stack.close()


def run_replay(replay: Replay, *, say: Say) -> Replayed:
    """Make runs until the verdict is PASS or FAIL, or there were `most_runs` of each side.

    Raises:
        SideFailed, EngineUnanswering, ProfileInvalid, BaseModelError: as `Engines.hold`.
    """
    found = Replayed(replay, {side.name: [] for side in replay.sides})
    engines = Engines(replay, say)
    try:
        done = 0
        for look, number in enumerate(replay.looks):
            for side, run in turns(replay, range(done, number), is_reversed=look % 2 == 1):
                result = engines.offer(
                    engines.hold(side),
                    replay.shape,
                    seed=run,
                    stage=f"{side.name}: run {run + 1} of {number}",
                )
                found.results[side.name].append(result)
            done = number
            found.judged = judge(replay.slos, runs_of(found), Rules(n_looks=len(replay.looks)))
            if found.judged.verdict is not VerdictKind.INCONCLUSIVE:
                break
    finally:
        engines.end()
    return found


def turns(replay: Replay, runs: Sequence[int], *, is_reversed: bool) -> Iterator[tuple[Side, int]]:
    """Who has which run when. Pure.

    Interleaved, sides take turns, and who begins alternates. In turn, one has all its runs, then
    the other; the second time in the reverse order, so that a machine that slows down steadily
    does not speak against the one that comes last, and one start is saved.
    """
    if replay.order.order is Order.IN_TURN:
        sides = replay.sides[::-1] if is_reversed else replay.sides
        yield from ((side, run) for side in sides for run in runs)
        return
    for run in runs:
        yield from ((side, run) for side in replay.sides[:: -1 if run % 2 else 1])


def runs_of(found: Replayed) -> Runs:
    """The figures of what was measured, for `judge`. Pure."""
    kinds: tuple[str | None, ...] = (None, *found.replay.shape.kinds)

    def figures(results: Sequence[LoadResult]) -> dict[str | None, list[dict[str, float]]]:
        return {kind: [values_of(one, None, kind=kind) for one in results] for kind in kinds}

    mine = found.results[CANDIDATE]
    return Runs(
        candidate=figures(mine),
        current=figures(found.results[CURRENT]) if found.replay.current else None,
        is_paired=found.replay.order.order is Order.INTERLEAVED,
        n_failed=sum(one.n_failed for one in mine),
        n_requests=sum(len(one.samples) for one in mine),
        failed_ratio={kind: _failed_ratio(mine, kind) for kind in kinds},
        n_failed_current=sum(one.n_failed for one in found.results.get(CURRENT, ())),
    )


def _failed_ratio(results: Sequence[LoadResult], kind: str | None) -> float:
    samples = [s for one in results for s in one.samples if kind is None or s.kind == kind]
    return sum(not sample.is_answered for sample in samples) / len(samples) if samples else 0.0
