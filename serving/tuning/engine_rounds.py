"""Rounds on real engines: starts one per setting with the rig, warms it up, offers it the load."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.engine.profile import EngineProfile
from serving.tuning.generator import Progress, Target, run_load
from serving.tuning.load_shape import Shape
from serving.tuning.measure import LoadResult
from serving.tuning.rig import LOG, EngineFailed, running_engine
from serving.tuning.round_values import packed, values_of, warm_up_of
from serving.tuning.space import Setting
from serving.tuning.tuner import Say, SettingFailed, Warm

_PACKED_SEED = 1_000_003
"""Added to a round's seed for the second of its loads, whose prompts must not be cached ones."""


@dataclass(frozen=True, slots=True)
class EngineRounds:
    """`draw` gives the shape of each round; the same number, the same shape."""

    profile: EngineProfile
    draw: Callable[[int], Shape]
    n_adapters: int
    kind: str | None
    folder: Path
    seed: int = 0
    rank: int = 8
    has_capacity: bool = True
    """Whether each round also offers all its requests at once."""

    @contextmanager
    def warm_engine(self, setting: Setting, say: Say) -> Iterator[Warm]:
        """An engine of the setting, its warm-up behind it.

        The next one uses its adapters again. The log of one that failed is kept under its name.
        """
        profile = setting.apply(self.profile)
        folder = self.folder / "engine"
        try:
            with running_engine(
                profile,
                n_adapters=self.n_adapters,
                folder=folder,
                rank=min(self.rank, profile.max_rank),
                on_stage=lambda stage, seconds: say(f"{stage}, {seconds:.0f} s", 0.0),
            ) as target:
                # Its own seed: what it asks must not be in the prefix cache of a round.
                load = warm_up_of(self.draw(0), n_adapters=self.n_adapters)
                self.offer(target, load, -1, "warm-up", say)
                yield _WarmEngine(self, target)
        except EngineFailed as exc:
            if exc.log.exists():
                shutil.copyfile(exc.log, self.folder / log_name(setting))
            raise SettingFailed(str(exc).splitlines()[0]) from exc
        except SettingFailed:
            shutil.copyfile(folder / LOG, self.folder / log_name(setting))
            raise

    def offer(self, target: Target, shape: Shape, number: int, stage: str, say: Say) -> LoadResult:
        """One load, its prompts drawn for `number`."""

        def tell(progress: Progress) -> None:
            say(stage, progress.n_done / max(1, progress.n_requests))

        seed = self.seed + 1 + number
        return asyncio.run(run_load(target, shape, on_progress=tell, seed=seed))


def log_name(setting: Setting) -> str:
    """File of the log of an engine that failed: `failed-tokens-128-slots-8.log`."""
    return "failed-" + re.sub(r"[^a-z0-9.]+", "-", setting.name) + ".log"


@dataclass(frozen=True, slots=True)
class _WarmEngine:
    rounds: EngineRounds
    target: Target

    def measure(self, number: int, say: Say) -> Mapping[str, float]:
        """The figures of one round, at the offered load and, if wanted, with all at once."""
        shape = self.rounds.draw(number)
        offered = self.rounds.offer(self.target, shape, number, "offered load", say)
        if not offered.answered:
            first = next((sample.error for sample in offered.samples), "the load has no request")
            raise SettingFailed(f"nothing of round {number} was answered: {first}")
        at_once = None
        if self.rounds.has_capacity:
            at_once = self.rounds.offer(
                self.target, packed(shape), _PACKED_SEED + number, "all at once", say
            )
        return values_of(offered, at_once, kind=self.rounds.kind)
