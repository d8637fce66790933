"""A plan in words: why these sizes, why none, and what to know before following it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from serving.capacity.curve import Curve
from serving.capacity.plan_facts import FleetFacts, Goal, PlanWarning, Prediction, Sizes
from serving.capacity.sizing import CPU_SLOTS_PER_GPU_SLOT, padding_bytes

THRASH_RATIO = 0.3
"""Loads per request that are called thrash; arbitrary: every third request waits for a copy."""
PADDING_RATIO = 0.25
"""Of the slots' bytes, zeros that are worth a warning; arbitrary."""
DOMINANT_SHARE = 0.5
"""Of the requests by one tenant; arbitrary: the engine that it hashes to has half of all work."""


def unknown_reason(curve: Curve, facts: FleetFacts, goal: Goal) -> str | None:
    """Why the goal cannot be judged; None: it can."""
    if not curve.n_requests:
        return "Nothing was asked for in this window."
    unknown = [source for source in ("cache", "disk") if facts.load_seconds.get(source) is None]
    if goal.added_seconds is not None and unknown:
        return f"How long a load from {' or '.join(unknown)} takes was not seen yet."
    return None


def reasons_for(
    curve: Curve, chosen: Curve, facts: FleetFacts, sizes: Sizes, predicted: Prediction
) -> tuple[str, ...]:
    """Why these sizes. `curve`: today's engines, `chosen`: the recommended number of them."""
    reasons = [
        f"Of {curve.n_requests:,} requests in {_minutes(curve.seconds)}, "
        f"{_share(curve, facts.gpu_slots)} would miss with today's {facts.gpu_slots} slots, and "
        f"{_share(chosen, sizes.gpu_slots)} with {sizes.gpu_slots}."
    ]
    if chosen.n_cold:
        reasons.append(
            f"First uses are {_percent(chosen.n_cold / chosen.n_requests)} of the requests; "
            "they miss at every size."
        )
    if sizes.engines > facts.n_engines:
        reasons.append(
            f"{facts.n_engines} engines do not reach it with slots that fit; {sizes.engines} do, "
            "with each tenant's requests on one of them."
        )
    reasons.append(_cpu_reason(chosen, sizes))
    reasons.append(_rank_reason(facts, sizes))
    memory = _memory_reason(facts, sizes, predicted)
    return tuple(reasons) if memory is None else (*reasons, memory)


def unreachable_reasons(
    curves: Mapping[int, Curve], facts: FleetFacts, goal: Goal, limit: int | None
) -> tuple[str, ...]:
    """Why no sizes reach the goal."""
    curve = curves[facts.n_engines]
    reasons = []
    cold = curve.n_cold / curve.n_requests
    if goal.miss_ratio is not None and cold > goal.miss_ratio:
        reasons.append(
            f"First uses alone are {_percent(cold)} of {curve.n_requests:,} requests, more than "
            f"the goal of {_percent(goal.miss_ratio)}: they miss at every size."
        )
    elif goal.miss_ratio is not None and limit is not None:
        needed = curve.smallest_slots(goal.miss_ratio * curve.n_requests)
        if needed is not None and needed > limit:
            reasons.append(
                f"A miss ratio of {_percent(goal.miss_ratio)} takes {needed} slots on each of "
                f"{facts.n_engines} engines; more than {limit} would leave less than half of the "
                f"memory to the KV cache, and {max(curves)} engines do not help enough."
            )
    if goal.added_seconds is not None and not reasons:
        reasons.append(
            f"Loads would add more than {goal.added_seconds:.3g} s to a request at every size that "
            f"fits: first uses are {_percent(cold)} of the requests, and each is read from disk."
        )
    if not reasons:
        reasons.append(
            f"Not one slot for the ranks in use fits into half of an engine's memory for slots and "
            f"KV cache; {facts.gpu_slots} of rank {facts.max_rank} do today."
        )
    return tuple(reasons)


def warnings(
    curve: Curve, facts: FleetFacts, sizes: Sizes | None, is_enough: bool
) -> tuple[PlanWarning, ...]:
    """What to know: too little data, thrash, a hot set over the slots, padding, one tenant."""
    found = [
        None if is_enough else _little_data(curve),
        _thrash(curve, facts),
        _hot_set(facts, sizes),
        _mixed_ranks(facts, sizes),
        _dominant_tenant(facts),
    ]
    return tuple(warning for warning in found if warning is not None)


def _little_data(curve: Curve) -> PlanWarning:
    return PlanWarning(
        "little_data",
        f"Only {curve.n_requests} requests were seen: the numbers may be off by several points.",
        {"n_requests": curve.n_requests},
    )


def _thrash(curve: Curve, facts: FleetFacts) -> PlanWarning | None:
    ratio = curve.miss_ratio(facts.gpu_slots)
    if ratio is None or ratio < THRASH_RATIO or facts.gpu_slots >= curve.n_names:
        return None
    return PlanWarning(
        "thrash",
        f"With today's {facts.gpu_slots} slots {_percent(ratio)} of the requests load an adapter.",
        {"loads_per_request": ratio, "threshold": THRASH_RATIO, "gpu_slots": facts.gpu_slots},
    )


def _hot_set(facts: FleetFacts, sizes: Sizes | None) -> PlanWarning | None:
    slots = sizes.gpu_slots if sizes else facts.gpu_slots
    if facts.hot_adapters is None or facts.hot_adapters <= slots:
        return None
    return PlanWarning(
        "hot_set_over_slots",
        f"90 % of five minutes' requests of one engine went to {facts.hot_adapters} adapters, for "
        f"which there {'would be' if sizes else 'are'} {slots} slots: they push each other out.",
        {"hot_adapters": facts.hot_adapters, "gpu_slots": slots},
    )


def _mixed_ranks(facts: FleetFacts, sizes: Sizes | None) -> PlanWarning | None:
    ranks = list(facts.ranks.values())
    max_rank = sizes.max_rank if sizes else facts.max_rank
    slots = sizes.gpu_slots if sizes else facts.gpu_slots
    if len(set(ranks)) < 2:
        return None
    ratio = sum(max(0, max_rank - rank) for rank in ranks) / (max_rank * len(ranks))
    if ratio < PADDING_RATIO:
        return None
    wasted = None
    if facts.slot_bytes is not None:
        bytes_of_slot = facts.slot_bytes * max_rank // facts.max_rank
        padding = padding_bytes(ranks, max_rank=max_rank, bytes_of_slot=bytes_of_slot)
        wasted = padding * slots // len(ranks)
    n_lower = sum(rank < max_rank for rank in ranks)
    size = "" if wasted is None else f", {_mebibytes(wasted)} of each engine"
    return PlanWarning(
        "mixed_ranks",
        f"{n_lower} of {len(ranks)} versions have a lower rank than the slots' {max_rank}: "
        f"{_percent(ratio)} of the slots' memory{size}, stays empty.",
        {
            "max_rank": max_rank,
            "versions_by_rank": {str(rank): n for rank, n in sorted(Counter(ranks).items())},
            "wasted_ratio": ratio,
            "wasted_bytes": wasted,
        },
    )


def _dominant_tenant(facts: FleetFacts) -> PlanWarning | None:
    if len(facts.tenant_shares) < 2:
        return None
    tenant, share = max(facts.tenant_shares.items(), key=lambda pair: (pair[1], pair[0]))
    if share < DOMINANT_SHARE:
        return None
    return PlanWarning(
        "dominant_tenant",
        f"Tenant {tenant} sends {_percent(share)} of the requests: engines that tenants are hashed "
        "to would not share the work evenly.",
        {"tenant": tenant, "share": share},
    )


def _cpu_reason(curve: Curve, sizes: Sizes) -> str:
    disk = (curve.misses(sizes.cpu_slots) - curve.n_cold) / curve.n_requests
    is_rule = sizes.cpu_slots == CPU_SLOTS_PER_GPU_SLOT * sizes.gpu_slots
    why = f"{CPU_SLOTS_PER_GPU_SLOT} for each slot" if is_rule else "as many as repeated uses need"
    return (
        f"{sizes.cpu_slots} places in CPU memory, {why}: beside first uses {_percent(disk)} of the "
        "requests would read from disk."
    )


def _rank_reason(facts: FleetFacts, sizes: Sizes) -> str:
    if not facts.ranks:
        return f"No version is in use, so the rank stays {facts.max_rank}."
    largest = max(facts.ranks.values())
    if sizes.max_rank == facts.max_rank:
        return f"The largest rank in use is {largest}, which max_rank {facts.max_rank} carries."
    return (
        f"The largest rank in use is {largest}: max_rank {sizes.max_rank} is the smallest that "
        f"carries it, today's is {facts.max_rank}."
    )


def _memory_reason(facts: FleetFacts, sizes: Sizes, predicted: Prediction) -> str | None:
    lost = predicted.kv_tokens_lost
    if predicted.slot_bytes is None or lost is None:
        return None
    of = f" of {facts.kv_tokens:,}" if facts.kv_tokens is not None else ""
    change = f"{lost:,} tokens of KV cache fewer" if lost > 0 else f"{-lost:,} more tokens"
    return (
        f"A slot takes {_mebibytes(predicted.slot_bytes)}; against today's {facts.gpu_slots}, "
        f"{sizes.gpu_slots} leave each engine {change}{of}."
    )


def _share(curve: Curve, slots: int) -> str:
    return _percent(curve.misses(slots) / curve.n_requests)


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


def _mebibytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.1f} MiB"
