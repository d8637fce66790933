"""The capacity page: how many adapters are hot, what their moves cost, how many slots would do."""

from __future__ import annotations

from bench.grafana.model import ADAPTER, ENGINE, TENANT, Dashboard, Panel, Query, Row, or_none
from bench.grafana.sizing import MEMORY, SIZING

_E = '{instance=~"$engine"}'
_R = "[$__rate_interval]"


_NOW = Row(
    "Slots now",
    (
        Panel(
            "GPU slots configured",
            "Adapters that one batch of an engine may mix: vLLM's max_loras, per engine.",
            "none",
            (Query('max(loraplane_configured_slots{level="gpu"})', "configured"),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "GPU slots recommended",
            "The fewest slots per engine that meet the goal, read off the miss-ratio curve. "
            "Unknown until the curve has seen enough requests.",
            "none",
            (Query('max(loraplane_recommended_slots{level="gpu"})', "recommended"),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Engines recommended",
            "Engines that meet the goal with the recommended slots, tenants spread by hash.",
            "none",
            (Query("max(loraplane_recommended_engines)", "recommended"),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Adapters that carry 90 %",
            "The smallest set of adapters with 90 % of the last 5 minutes' requests, summed over "
            "engines.",
            "none",
            (Query('sum(loraplane_hot_set_adapters{instance=~"$engine",window="5m"})', "hot"),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Slot loads per request",
            "Loads into a slot divided by tenants' finished requests: the measured miss ratio; "
            "while the gate runs its loads are in it. 0.05 is the goal that a plan starts from.",
            "percentunit",
            (
                Query(
                    f'sum(rate(loraplane_adapter_loads_total{{instance=~"$engine",source="cache"}}'
                    f"{_R})) / (sum(rate(loraplane_adapter_requests_total{_E}{_R})) > 0)",
                    "measured",
                ),
            ),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Loads inside a step",
            "Reads from disk inside an engine step since the engines started. Each stalls every "
            "tenant; more than 0 is a fault.",
            "none",
            (Query(f"sum(loraplane_adapter_loads_in_step{_E})", "in a step"),),
            kind="stat",
            width=4,
            height=4,
            bad_from=1,
        ),
    ),
)

_HOT = Row(
    "Hot set",
    (
        Panel(
            "Distinct adapters used, and slots",
            "Adapters with at least one request in the window, against the engine's slots. Above "
            "the slots every round of traffic evicts.",
            "none",
            (
                Query(f"loraplane_hot_adapters{_E}", "{{instance}} {{window}}"),
                Query(f"loraplane_adapter_slots{_E}", "{{instance}} slots"),
            ),
        ),
        Panel(
            "Smallest set with 90 % of requests, and slots",
            "How many adapters carry 90 % of the window's requests. Slots for these, and the rest "
            "is a long tail that may miss.",
            "none",
            (
                Query(f"loraplane_hot_set_adapters{_E}", "{{instance}} {{window}}"),
                Query(f"loraplane_adapter_slots{_E}", "{{instance}} slots"),
            ),
        ),
        Panel(
            "Adapters in a slot and in memory, kept ones",
            "What each engine holds now, and how many of the hot adapters the worker keeps in a "
            "slot on the controller's wish.",
            "none",
            (
                Query(f"loraplane_adapters_resident{_E}", "{{instance}} {{level}}"),
                Query(f"loraplane_pinned_adapters{_E}", "{{instance}} kept"),
            ),
        ),
    ),
)

_MOVES = Row(
    "Loads and evictions",
    (
        Panel(
            "Loads by source",
            "From disk into memory, and from memory (cache) into a slot, per second.",
            "ops",
            (
                Query(
                    f"sum by (instance, source) (rate(loraplane_adapter_loads_total{_E}{_R}))",
                    "{{instance}} {{source}}",
                ),
            ),
        ),
        Panel(
            "Evictions by level",
            "Adapters that had to leave a slot or memory for another one, per second. Removals and "
            "failed loads are not evictions.",
            "ops",
            (
                Query(
                    f"sum by (instance, level) (rate(loraplane_adapter_evictions_total{_E}{_R}))",
                    "{{instance}} {{level}}",
                ),
            ),
        ),
        Panel(
            "Removals and failed loads",
            "Since the engines started: adapters taken out because they were retired (removal) or "
            "because a load failed (failure), and failed fetches and loads by reason.",
            "none",
            (
                Query(
                    f"sum by (cause) (loraplane_adapter_removals_total{_E}) {or_none('cause')}",
                    "out by {{cause}}",
                ),
                Query(
                    f"sum by (reason) (loraplane_adapter_load_failures_total{_E}) "
                    f"{or_none('reason')}",
                    "failed: {{reason}}",
                ),
            ),
        ),
        Panel(
            "Duration of loads",
            "Loads by duration, both sources together.",
            "s",
            (
                Query(
                    "sum by (le) "
                    f"(increase(loraplane_adapter_load_seconds_bucket{_E}[$__rate_interval]))",
                    "{{le}}",
                ),
            ),
            kind="heatmap",
        ),
        Panel(
            "Duration of a load by source",
            "Median, 99th percentile and mean. A gap: nothing was loaded.",
            "s",
            (
                *(
                    Query(
                        f"histogram_quantile({quantile}, sum by (le, source) "
                        f"(rate(loraplane_adapter_load_seconds_bucket{_E}{_R})))",
                        f"{{{{source}}}} {name}",
                    )
                    for quantile, name in ((0.5, "p50"), (0.99, "p99"))
                ),
                Query(
                    f"sum by (source) (rate(loraplane_adapter_load_seconds_sum{_E}{_R})) / "
                    f"sum by (source) (rate(loraplane_adapter_load_seconds_count{_E}{_R}))",
                    "{{source}} mean",
                ),
            ),
        ),
        Panel(
            "Wait for memory and for a slot",
            "How long requests waited until their adapter was in memory, and then in the engine's "
            "queue for a slot and a turn: what thrash costs a tenant.",
            "s",
            tuple(
                Query(
                    f"histogram_quantile({quantile}, sum by (le, stage) "
                    f"(rate(loraplane_adapter_wait_seconds_bucket{_E}{_R})))",
                    f"{{{{stage}}}} {name}",
                )
                for quantile, name in ((0.5, "p50"), (0.99, "p99"))
            ),
        ),
    ),
)

_A = '{instance=~"$engine",adapter=~"$adapter",adapter=~"($tenant)(/.*)?"}'

_ADAPTERS = Row(
    "Adapters",
    (
        Panel(
            "Time in a slot, the longest 15",
            "Engines on which the adapter held a slot, on average: 1 is always on one engine.",
            "none",
            (
                Query(
                    "topk(15, sum by (adapter) "
                    f"(rate(loraplane_adapter_slot_seconds_total{_A}{_R})))",
                    "{{adapter}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "In a slot now",
            "Adapters that hold a slot, and on how many engines.",
            "none",
            (Query(f"sum by (adapter) (loraplane_adapter_in_slot{_A})", "engines"),),
            kind="table",
            by="adapter",
            width=6,
        ),
        Panel(
            "Most loads into a slot",
            "Adapters by loads into a slot over the page's time: who moves most.",
            "none",
            (
                Query(
                    "topk(15, sum by (adapter) (increase(loraplane_adapter_loads_total"
                    f'{{source="cache",{_A[1:]}[$__range])))',
                    "loads",
                ),
            ),
            kind="table",
            by="adapter",
            width=6,
        ),
    ),
)

CAPACITY = Dashboard(
    uid="loraplane-capacity",
    title="loraplane: capacity",
    description="How many adapters are hot at once, what thrash costs, how many slots would do.",
    variables=(ENGINE, TENANT, ADAPTER),
    rows=(_NOW, _HOT, _MOVES, SIZING, MEMORY, _ADAPTERS),
)
