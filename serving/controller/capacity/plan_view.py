"""Facts of the fleet from reports and rows, and a plan for it as the API shows it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from serving.capacity.curve import Curve
from serving.capacity.plan import FleetFacts, Goal, Outcome, Plan, Prediction, Sizes
from serving.capacity.sizing import added_seconds
from serving.contract import EngineReport
from serving.controller.capacity.adapter_table import VersionFacts
from serving.controller.capacity.schemas import (
    CurveOut,
    CurvePointOut,
    GoalOut,
    PlanOut,
    PlanWarningOut,
    PredictedOut,
    ShapeNowOut,
    ShapeOut,
)


def fleet_facts(reports: Sequence[EngineReport], versions: Iterable[VersionFacts]) -> FleetFacts:
    """The fleet as its reachable engines report it; where they differ, what most of them have.

    Raises:
        ValueError: there are no reports.
    """
    if not reports:
        raise ValueError("no reports")
    memory = next((report.memory for report in reports if report.memory is not None), None)
    return FleetFacts(
        n_engines=len(reports),
        gpu_slots=_usual([report.gpu_slots for report in reports]),
        cpu_slots=_usual([report.cpu_slots for report in reports]),
        max_rank=_usual([report.max_rank for report in reports]),
        ranks={v.name: v.rank for v in versions if v.is_live and v.rank is not None},
        tenant_shares=tenant_shares(reports),
        load_seconds=load_seconds(reports),
        hot_adapters=max((r.hot_90["5m"] for r in reports if "5m" in r.hot_90), default=None),
        slot_bytes=memory.slot_bytes if memory else None,
        kv_bytes_per_token=memory.kv_bytes_per_token if memory else None,
        kv_tokens=memory.kv_tokens if memory else None,
    )


def tenant_shares(reports: Iterable[EngineReport]) -> dict[str, float]:
    """Share of all counted requests by tenant; empty before the first request."""
    requests: Counter[str] = Counter()
    for report in reports:
        for count in report.counts:
            requests[count.name.partition("/")[0]] += count.requests
    total = requests.total()
    return {tenant: n / total for tenant, n in requests.items() if n} if total else {}


def load_seconds(reports: Iterable[EngineReport]) -> dict[str, float | None]:
    """Mean duration of a load by source over these engines; None where none happened."""
    means: dict[str, float | None] = {}
    times = [report.load_times for report in reports]
    for source in ("disk", "cache"):
        known = [item[source] for item in times if source in item]
        count = sum(item.count for item in known)
        means[source] = sum(item.total_seconds for item in known) / count if count else None
    return means


def curve_view(
    curve: Curve,
    *,
    cpu_slots: int,
    loads: Mapping[str, float | None],
    show_slots: Sequence[int] = (),
) -> CurveOut:
    """A curve for reading: up to all its names, or the slots that must be seen, with 1 point more.

    Each point's added seconds assume today's CPU cache, or one as large as the slots.
    """
    most = max(curve.n_names, *show_slots, 1) + 1
    return CurveOut(
        n_requests=curve.n_requests,
        n_names=curve.n_names,
        seconds=curve.seconds,
        points=[
            CurvePointOut.model_construct(
                slots=point.slots,
                miss_ratio=point.miss_ratio,
                loads_per_minute=point.loads_per_minute,
                added_seconds=added_seconds(
                    curve,
                    gpu_slots=point.slots,
                    cpu_slots=max(cpu_slots, point.slots),
                    load_seconds=loads,
                ),
            )
            for point in curve.points(most)
        ],
    )


def plan_view(plan: Plan, facts: FleetFacts) -> PlanOut:
    """A plan for reading."""
    is_reachable = {Outcome.REACHED: True, Outcome.UNREACHABLE: False}.get(plan.outcome)
    return PlanOut(
        goal=GoalOut(miss_ratio=plan.goal.miss_ratio, added_seconds=plan.goal.added_seconds),
        is_reachable=is_reachable,
        is_enough_data=plan.is_enough_data,
        now=ShapeNowOut(
            engines=facts.n_engines,
            gpu_slots=facts.gpu_slots,
            cpu_slots=facts.cpu_slots,
            max_rank=facts.max_rank,
            miss_ratio=plan.now.miss_ratio,
            loads_per_minute=plan.now.loads_per_minute,
            added_seconds=plan.now.added_seconds,
        ),
        recommended=_sizes(plan.recommended),
        predicted=_prediction(plan.predicted),
        reasons=list(plan.reasons),
        warnings=[
            PlanWarningOut(code=item.code, text=item.text, data=item.data) for item in plan.warnings
        ],
    )


def plan_without_engines(goal: Goal) -> PlanOut:
    """No engine is reachable, so nothing is known; not even today's sizes."""
    return PlanOut(
        goal=GoalOut(miss_ratio=goal.miss_ratio, added_seconds=goal.added_seconds),
        is_reachable=None,
        is_enough_data=False,
        now=ShapeNowOut(
            engines=0,
            gpu_slots=None,
            cpu_slots=None,
            max_rank=None,
            miss_ratio=None,
            loads_per_minute=None,
            added_seconds=None,
        ),
        recommended=None,
        predicted=None,
        reasons=["No engine is reachable, so there is nothing to plan from."],
        warnings=[],
    )


def _usual(values: Sequence[int]) -> int:
    return max(Counter(values).items(), key=lambda pair: (pair[1], pair[0]))[0]


def _sizes(sizes: Sizes | None) -> ShapeOut | None:
    if sizes is None:
        return None
    return ShapeOut(
        engines=sizes.engines,
        gpu_slots=sizes.gpu_slots,
        cpu_slots=sizes.cpu_slots,
        max_rank=sizes.max_rank,
    )


def _prediction(prediction: Prediction | None) -> PredictedOut | None:
    if prediction is None:
        return None
    return PredictedOut(
        miss_ratio=prediction.miss_ratio,
        loads_per_minute=prediction.loads_per_minute,
        added_seconds=prediction.added_seconds,
        slot_bytes=prediction.slot_bytes,
        kv_tokens_lost=prediction.kv_tokens_lost,
    )
