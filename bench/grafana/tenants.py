"""The tenants page: what each tenant asks for, what it waits, and what it is refused."""

from __future__ import annotations

from bench.grafana.model import ADAPTER, ENGINE, TENANT, Dashboard, Panel, Query, Row, or_none

_R = "[$__rate_interval]"
_T = '{instance=~"$engine",tenant=~"$tenant",adapter=~"$adapter"}'
_A = '{instance=~"$engine",adapter=~"$adapter",adapter=~"($tenant)(/.*)?"}'
"""For metrics without a `tenant` label: an adapter's name begins with its tenant's."""


def _by_tenant(rate: str, *labels: str) -> str:
    """Sum a rate by tenant, which is read from the adapter's name."""
    by = ", ".join(("tenant", *labels))
    return f'sum by ({by}) (label_replace({rate}, "tenant", "$1", "adapter", "([^/]+)(/.*)?"))'


def _quantiles(metric: str, label: str) -> tuple[Query, ...]:
    rate = f"rate({metric}_bucket{_A}{_R})"
    summed = _by_tenant(rate, "le") if label == "tenant" else f"sum by (le, adapter) ({rate})"
    pick = "" if label == "tenant" else "topk(10, "
    end = "" if label == "tenant" else ")"
    return tuple(
        Query(
            f"{pick}histogram_quantile({quantile}, {summed}){end}",
            f"{{{{{label}}}}} {name}",
        )
        for quantile, name in ((0.5, "p50"), (0.99, "p99"))
    )


_USAGE = Row(
    "Usage",
    (
        Panel(
            "Requests by tenant",
            "Finished requests per second. The parity gate's own requests and the probes are "
            "nobody's traffic and not among them.",
            "reqps",
            (
                Query(
                    f"sum by (tenant) (rate(loraplane_adapter_requests_total{_T}{_R}))",
                    "{{tenant}}",
                ),
            ),
            is_stacked=True,
        ),
        Panel(
            "Tokens by tenant",
            "Tokens of finished requests per second: prompt and completion.",
            "none",
            (
                Query(
                    f"sum by (tenant, kind) (rate(loraplane_adapter_tokens_total{_T}{_R}))",
                    "{{tenant}} {{kind}}",
                ),
            ),
        ),
        Panel(
            "Requests by outcome",
            "How requests ended: stop and length are answers, abort is a client that went away.",
            "reqps",
            (
                Query(
                    f"sum by (outcome) (rate(loraplane_adapter_requests_total{_T}{_R}))",
                    "{{outcome}}",
                ),
            ),
            is_stacked=True,
        ),
        Panel(
            "Usage against earlier",
            "Each tenant's requests per second now and $ago before.",
            "reqps",
            (
                Query(
                    f"sum by (tenant) (rate(loraplane_adapter_requests_total{_T}{_R}))",
                    "{{tenant}} now",
                ),
                Query(
                    f"sum by (tenant) (rate(loraplane_adapter_requests_total{_T}{_R} offset $ago))",
                    "{{tenant}} $ago before",
                ),
            ),
            width=12,
        ),
        Panel(
            "Growth against earlier",
            "Requests per second now divided by those $ago before; LoraplaneUsageSpike looks for 3 "
            "against 2 h. A gap: the tenant asked for nothing then, or nobody measured.",
            "none",
            (
                Query(
                    f"sum by (tenant) (rate(loraplane_adapter_requests_total{_T}{_R})) / (sum by "
                    f"(tenant) (rate(loraplane_adapter_requests_total{_T}{_R} offset $ago)) > 0)",
                    "{{tenant}}",
                ),
            ),
            width=12,
        ),
    ),
)

_LATENCY = Row(
    "Latency",
    (
        Panel(
            "Time to the first token by tenant",
            "Median and 99th percentile, waits for an adapter's slot included.",
            "s",
            _quantiles("loraplane_adapter_ttft_seconds", "tenant"),
        ),
        Panel(
            "Time between tokens by tenant",
            "Median and 99th percentile over requests of the mean time between two tokens.",
            "s",
            _quantiles("loraplane_adapter_inter_token_seconds", "tenant"),
        ),
        Panel(
            "Time to the last token by tenant",
            "Median and 99th percentile.",
            "s",
            _quantiles("loraplane_adapter_e2e_seconds", "tenant"),
        ),
        Panel(
            "Time to the first token, slowest adapters",
            "The ten adapters with the largest values.",
            "s",
            _quantiles("loraplane_adapter_ttft_seconds", "adapter"),
            width=12,
        ),
        Panel(
            "Time between tokens, slowest adapters",
            "The ten adapters with the largest values.",
            "s",
            _quantiles("loraplane_adapter_inter_token_seconds", "adapter"),
            width=12,
        ),
    ),
)

_REFUSED = Row(
    "Refused and moved",
    (
        Panel(
            "Refused requests by reason",
            "Requests turned away per second. adapters_busy: no room for the adapter in time; "
            "adapter_not_ready: the engine does not serve it.",
            "reqps",
            (
                Query(
                    "sum by (reason) "
                    f'(rate(loraplane_admission_rejections_total{{instance=~"$engine"}}{_R})) '
                    f"{or_none('reason')}",
                    "{{reason}}",
                ),
            ),
        ),
        Panel(
            "Loads into a slot by tenant",
            "Per second: whose requests make adapters move.",
            "ops",
            (
                Query(
                    _by_tenant(f'rate(loraplane_adapter_loads_total{{source="cache",{_A[1:]}{_R})'),
                    "{{tenant}}",
                ),
            ),
            is_stacked=True,
        ),
        Panel(
            "Evictions by tenant",
            "Per second: whose adapters have to make room, by level.",
            "ops",
            (
                Query(
                    _by_tenant(f"rate(loraplane_adapter_evictions_total{_A}{_R})", "level"),
                    "{{tenant}} {{level}}",
                ),
            ),
        ),
    ),
)

_TOP = Row(
    "Top adapters",
    (
        Panel(
            "Top 20 adapters",
            "By requests over the page's time. `other` is every adapter beyond the engine's limit "
            "of series.",
            "none",
            (
                Query(
                    "topk(20, sum by (tenant, adapter) "
                    f"(increase(loraplane_adapter_requests_total{_T}[$__range])))",
                    "requests",
                ),
            ),
            kind="table",
            by="adapter",
            width=12,
            height=10,
        ),
        Panel(
            "Top 20 adapters by tokens",
            "Prompt and completion tokens over the page's time.",
            "none",
            (
                Query(
                    "topk(20, sum by (tenant, adapter) "
                    f"(increase(loraplane_adapter_tokens_total{_T}[$__range])))",
                    "tokens",
                ),
            ),
            kind="table",
            by="adapter",
            width=12,
            height=10,
        ),
    ),
)

TENANTS = Dashboard(
    uid="loraplane-tenants",
    title="loraplane: tenants",
    description="What each tenant asks for, how long it waits, and what it is refused.",
    variables=(ENGINE, TENANT, ADAPTER),
    rows=(_USAGE, _LATENCY, _REFUSED, _TOP),
    has_ago=True,
)
