"""Which adapters an engine shall keep in a slot: those that LRU would lose although they are hot.

A soft pin pays where many cold adapters pass by, each seldom; on uniform traffic nothing is pinned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

from serving.capacity.companions import Bursts

HOT_RATIO = 2.0
"""A hot adapter's rate over the mean rate of those that would get its slot; arbitrary."""
HYSTERESIS = 1.5
"""Factor between entering late, entering at first, and leaving. Rates that are off by 10 % to
either side, twice, differ by (1.1 / 0.9)^2 = 1.494: such noise changes no choice."""
_SIGMAS = 3.0
"""Beyond the counting noise of the window: uniform traffic has no hot adapter."""
MIN_DWELL_SECONDS = 60.0
"""A choice stays at least so long; arbitrary, longer than a burst of scans."""
MAX_COMPANIONS = 4


@dataclass(frozen=True, slots=True)
class ResidencyState:
    """What the next choice must know of this one."""

    hot: tuple[str, ...] = ()
    changed_at: float | None = None


@dataclass(frozen=True, slots=True)
class ResidencyChoice:
    """`hot`: hottest first when they were chosen; equal to the previous one unless it changed."""

    hot: tuple[str, ...]
    state: ResidencyState
    is_changed: bool
    reason: str


def choose_hot(
    previous: ResidencyState,
    rates: Mapping[str, float],
    *,
    gpu_slots: int,
    now: float,
    window_seconds: float = 300.0,
    min_dwell_seconds: float = MIN_DWELL_SECONDS,
) -> ResidencyChoice:
    """Hot adapters of one engine with `gpu_slots`, from its requests per second by adapter.

    At least a quarter of the slots, and one, stay free for the others. `window_seconds`: what the
    rates were counted over.
    """
    is_young = previous.changed_at is not None and now - previous.changed_at < min_dwell_seconds
    if is_young:
        return ResidencyChoice(previous.hot, previous, False, "the choice is young")
    hot, reason = _choose(previous.hot, rates, gpu_slots, window_seconds)
    if set(hot) == set(previous.hot):
        return ResidencyChoice(previous.hot, previous, False, reason)
    return ResidencyChoice(hot, ResidencyState(hot, now), True, reason)


def choose_companions(
    bursts: Bursts, *, max_companions: int = MAX_COMPANIONS
) -> dict[str, tuple[str, ...]]:
    """By tenant, versions to bring into CPU memory when its next burst begins.

    Those in at least half of its last bursts, of which there must be two.
    """
    found = bursts.together(min_share=0.5, min_bursts=2)
    return {tenant: names[:max_companions] for tenant, names in sorted(found.items())}


def _choose(
    before: tuple[str, ...], rates: Mapping[str, float], gpu_slots: int, window_seconds: float
) -> tuple[tuple[str, ...], str]:
    ranked = sorted(rates, key=lambda name: (-rates[name], name))
    others = ranked[gpu_slots:]
    room = gpu_slots - max(1, gpu_slots // 4)
    if not others:
        return (), f"all {len(ranked)} adapters in use fit into {gpu_slots} slots"
    if room < 1:
        return (), "one slot alone is left to the traffic"
    reference = sum(rates[name] for name in others) / len(others)
    mean = HOT_RATIO * reference
    threshold = mean + _SIGMAS * sqrt(mean / window_seconds)
    enter = threshold * HYSTERESIS if before else threshold
    kept = [name for name in ranked if name in before and rates[name] >= threshold / HYSTERESIS]
    for name in ranked:
        if name in before or rates[name] < enter:
            continue
        if len(kept) < room:
            kept.append(name)
            continue
        weakest = min(kept, key=rates.__getitem__)
        if rates[name] >= HYSTERESIS * rates[weakest]:
            kept.remove(weakest)
            kept.append(name)
    kept.sort(key=lambda name: (-rates[name], name))
    return tuple(kept[:room]), f"{len(kept)} adapters are asked for more than {threshold:.3g}/s"
