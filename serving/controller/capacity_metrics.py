"""Gauges of capacity. What is not known has no series: a predicted 0 would be a lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

SHOWN_SLOTS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Slot counts that always have a series; today's and the recommended one come on top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityGauges:
    """What one scrape shows; None and empty: unknown."""

    miss_ratio: Mapping[int, float] = field(default_factory=dict)
    """By slots of each engine; `loads_per_minute` too."""
    loads_per_minute: Mapping[int, float] = field(default_factory=dict)
    recommended_slots: Mapping[str, int] = field(default_factory=dict)
    """By level: `gpu`, `cpu`; `configured_slots` too."""
    configured_slots: Mapping[str, int] = field(default_factory=dict)
    recommended_engines: int | None = None
    requests: int | None = None
    lag_events: Mapping[str, int] = field(default_factory=dict)
    """By engine."""


class CapacityCollector(Collector):
    """Exposes the gauges that were set last: at most 10 slot counts and one lag per engine."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.gauges = CapacityGauges()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every family, also those without a series."""
        now = self.gauges
        yield _family(
            "slot_miss_ratio",
            "Predicted share of requests that find their adapter in no slot, by slots per engine.",
            "slots",
            now.miss_ratio,
        )
        yield _family(
            "slot_loads_per_minute",
            "Predicted loads into slots, by slots per engine.",
            "slots",
            now.loads_per_minute,
        )
        yield _family(
            "recommended_slots",
            "Places per engine that meet the goal.",
            "level",
            now.recommended_slots,
        )
        yield _family("configured_slots", "Places per engine today.", "level", now.configured_slots)
        yield _bare("recommended_engines", "Engines that meet the goal.", now.recommended_engines)
        yield _bare(
            "capacity_requests",
            "Requests in the window that curve and plan are made from.",
            now.requests,
        )
        yield _family(
            "capacity_observer_lag_events",
            "Events of an engine's access trace that this controller has not read yet.",
            "engine",
            now.lag_events,
        )


def _family(
    name: str, meaning: str, label: str, values: Mapping[int, float] | Mapping[str, int]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"loraplane_{name}", meaning, labels=[label])
    for key, value in values.items():
        family.add_metric([str(key)], value)
    return family


def _bare(name: str, meaning: str, value: float | None) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"loraplane_{name}", meaning, labels=[])
    if value is not None:
        family.add_metric([], value)
    return family
