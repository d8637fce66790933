"""The capacity page's prediction: what other slot counts would do, and what slots cost."""

from __future__ import annotations

from bench.grafana.model import Panel, Query, Row, or_none

_E = '{instance=~"$engine"}'
_R = "[$__rate_interval]"

_TODAY = 'count_values("slots", max(loraplane_configured_slots{level="gpu"}))'

SIZING = Row(
    "How many slots",
    (
        Panel(
            "Predicted miss ratio by slots",
            "Share of requests that would find their adapter in no slot, had each engine so many: "
            "exact for LRU on the requests that were seen. Empty until something was seen.",
            "percentunit",
            (Query("max by (slots) (loraplane_slot_miss_ratio)", "{{slots}}"),),
            kind="barchart",
            by="slots",
        ),
        Panel(
            "Predicted loads per minute by slots",
            "Loads into slots per minute over the fleet, had each engine so many slots.",
            "opm",
            (Query("max by (slots) (loraplane_slot_loads_per_minute)", "{{slots}}"),),
            kind="barchart",
            by="slots",
        ),
        Panel(
            "Recommended and configured slots",
            "By level: gpu is slots in a batch, cpu is places in memory. Recommended above "
            "configured for an hour is LoraplaneSlotsUndersized.",
            "none",
            (
                Query("max by (level) (loraplane_recommended_slots)", "{{level}} recommended"),
                Query("max by (level) (loraplane_configured_slots)", "{{level}} configured"),
            ),
        ),
        Panel(
            "Miss ratio: measured and predicted at today's slots",
            "Loads into a slot per finished request, and what the curve says for the configured "
            "slots. They part while the gate runs (its loads count, its requests do not), when a "
            "batch needs more adapters than there are slots, and after a restart.",
            "percentunit",
            (
                Query(
                    'sum(rate(loraplane_adapter_loads_total{source="cache"}[$__rate_interval])) / '
                    "(sum(rate(loraplane_adapter_requests_total[$__rate_interval])) > 0)",
                    "measured",
                ),
                Query(
                    f"max by (slots) (loraplane_slot_miss_ratio) and on (slots) {_TODAY}",
                    "predicted at {{slots}} slots",
                ),
            ),
            width=12,
        ),
        Panel(
            "What the prediction rests on",
            "Requests in the curve's window, events that the controller has not read yet from each "
            "engine's access trace, and events that the engines wrote per second.",
            "none",
            (
                Query("max(loraplane_capacity_requests)", "requests in the window"),
                Query(
                    "max by (engine) (loraplane_capacity_observer_lag_events)", "{{engine}} unread"
                ),
                Query(
                    f"sum by (instance) (rate(loraplane_trace_events_total{_E}{_R}))",
                    "{{instance}} written per second",
                ),
            ),
            width=12,
        ),
    ),
)

MEMORY = Row(
    "What slots cost",
    (
        Panel(
            "Memory of the slots",
            "Slots times bytes per slot, per GPU. A slot is sized for the largest rank that is "
            "allowed, whatever is in it.",
            "bytes",
            (
                Query(
                    f"loraplane_slot_bytes{_E} * on (instance) loraplane_adapter_slots{_E}",
                    "{{instance}} all slots",
                ),
                Query(f"loraplane_slot_bytes{_E}", "{{instance}} one slot"),
            ),
        ),
        Panel(
            "KV cache",
            "Tokens that the KV cache holds, and how many more it would hold without any slots.",
            "none",
            (
                Query(f"loraplane_kv_tokens{_E}", "{{instance}} tokens"),
                Query(
                    f"loraplane_slot_bytes{_E} * on (instance) loraplane_adapter_slots{_E} "
                    f"/ on (instance) loraplane_kv_bytes_per_token{_E}",
                    "{{instance}} tokens' worth of slots",
                ),
            ),
        ),
        Panel(
            "Prefetches",
            "Adapters brought into memory ahead of their first request, because their tenant's "
            "burst had begun: per second, by what came of it.",
            "ops",
            (
                Query(
                    f"sum by (outcome) (rate(loraplane_prefetches_total{_E}{_R})) "
                    f"{or_none('outcome')}",
                    "{{outcome}}",
                ),
            ),
        ),
    ),
)
