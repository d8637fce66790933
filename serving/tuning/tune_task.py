"""From what was asked for to a plan: settings worth a start, and what rounds are of. Pure.

Draws the shapes of the rounds to learn what of the load decides (longest prompt, adapters).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.engine.profile import EngineProfile
from serving.engine.vllm_flags import WITHHELD
from serving.tuning.goals import CAPACITY, GoalInvalid, Goals
from serving.tuning.load_shape import Shape
from serving.tuning.profile_file import profile_fields
from serving.tuning.race import Rules
from serving.tuning.round_values import load_of
from serving.tuning.search import Costs, Plan
from serving.tuning.space import (
    LeftOut,
    Load,
    Setting,
    Space,
    choose_candidates,
    default_space,
    reference_of,
)

_CPU_BUDGET, _GPU_BUDGET = 2048, 8192
"""vLLM 0.32's own max_num_batched_tokens of a server: on processors, and on a card of 70 GB or
more (engine/arg_utils.py, get_batch_defaults; smaller cards have 2048)."""
_CPU_START_SECONDS, _GPU_START_SECONDS = 50.0, 150.0
_DRAIN = 1.1
"""A round lasts a little longer than its last request is due."""
_PACKED = 0.6
"""All at once a round's requests take about this share of the time over which they are offered."""


@dataclass(frozen=True, slots=True)
class Task:
    """What was asked for."""

    profile: EngineProfile
    """The start."""
    draw: Callable[[int], Shape]
    """The load of each round."""
    goals: Goals
    rules: Rules = field(default_factory=Rules)
    space: Space | None = None
    """None: the usual axes."""
    has_reference: bool = True
    has_capacity: bool = True
    budget_seconds: float = 3600.0
    min_gain: float = 0.02
    seed: int = 0
    rank: int = 8


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan and what it left out before anything was started."""

    plan: Plan
    left_out: tuple[LeftOut, ...]
    load: Load
    shape: Shape
    """Of the first round."""
    assumed: Costs


def prepare(task: Task, *, is_cpu: bool) -> Prepared:
    """The plan of a task.

    Raises:
        GoalInvalid: a class that the load does not have, a figure that is not measured, an empty
            round, or a request that no engine of this profile takes.
        ProfileInvalid: the start has a memory share that is no number.
    """
    shapes = [task.draw(n) for n in range(max(task.rules.max_rounds, task.rules.start_rounds))]
    if not all(shape.arrivals for shape in shapes):
        raise GoalInvalid("a round of the load has no request: let it last longer")
    kinds = {kind for shape in shapes for kind in shape.kinds}
    if task.goals.kind is not None and task.goals.kind not in kinds:
        known = ", ".join(sorted(kinds))
        raise GoalInvalid(f"the load has no {task.goals.kind!r} requests; it has {known}")
    metrics = (task.goals.metric, *(bound.metric for bound in task.goals.bounds))
    if CAPACITY in metrics and not task.has_capacity:
        raise GoalInvalid("capacity is asked for and not measured: leave out --no-capacity")
    load = _widest([load_of(shape) for shape in shapes])
    _check_length(task.profile, load)
    start = Setting.of(task.profile)
    space = task.space or default_space(task.profile, is_cpu=is_cpu, load=load)
    candidates, left_out = choose_candidates(space.settings(start), start, task.profile, load)
    plan = Plan(
        start=start,
        candidates=candidates,
        load=load,
        goals=task.goals,
        reference=reference_of(start, task.profile, load) if task.has_reference else None,
        rules=task.rules,
        budget_seconds=task.budget_seconds,
        min_gain=task.min_gain,
        assumed_budget=_CPU_BUDGET if is_cpu else _GPU_BUDGET,
    )
    return Prepared(plan, left_out, load, shapes[0], _assumed(task, shapes[0], is_cpu=is_cpu))


def _check_length(profile: EngineProfile, load: Load) -> None:
    longest = profile.max_model_len
    if longest is not None and load.longest_request > longest:
        raise GoalInvalid(
            f"the load's longest request has {load.longest_request} tokens, and the profile's "
            f"max_model_len is {longest}: raise it, or take a load without such requests"
        )


def _widest(loads: list[Load]) -> Load:
    """What holds for each round's load."""
    names = [one.name for one in dataclasses.fields(Load)]
    return Load(**{name: max(getattr(load, name) for load in loads) for name in names})


def _assumed(task: Task, shape: Shape, *, is_cpu: bool) -> Costs:
    share = _DRAIN + (_PACKED if task.has_capacity else 0.0)
    start = _CPU_START_SECONDS if is_cpu else _GPU_START_SECONDS
    return Costs(start=start + 0.25 * shape.seconds, round=share * shape.seconds)


def subject_of(
    task: Task,
    prepared: Prepared,
    *,
    base: str,
    machine: str,
    versions: Mapping[str, str],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """All that makes rounds comparable; a record of another subject is not gone on with.

    `environment`: of this process, from which engines inherit.
    """
    inherited = {
        name: value
        for name, value in sorted(environment.items())
        if (name.startswith("VLLM_") and name not in WITHHELD) or name == "OMP_NUM_THREADS"
    }
    return {
        "base": base,
        "profile": {k: v for k, v in profile_fields(task.profile).items() if k != "model"},
        "load": prepared.shape.name,
        "load digest": shape_digest(task),
        "class": task.goals.kind,
        "all at once": task.has_capacity,
        "seed": task.seed,
        "rank": task.rank,
        "machine": machine,
        "versions": dict(versions),
        # Only where there are some: what was measured without any keeps its subject.
        **({"environment": inherited} if inherited else {}),
    }


def shape_digest(task: Task) -> str:
    """Of the requests of the first two rounds: what differs there differs everywhere."""
    rows = [
        [
            # Shared beginnings only where there are some: what has none keeps its digest.
            [a.at, a.n_prompt, a.n_output, a.adapter, a.kind, *([a.n_shared] if a.n_shared else [])]
            for a in task.draw(number).arrivals
        ]
        for number in range(2)
    ]
    return "sha256:" + hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
