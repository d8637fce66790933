"""What the tenant hashing benchmark makes of traffic, counters and the chart's front."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.chart_fleet import RELEASE, other_front, parse_counts
from bench.fleet import FleetFailed
from bench.kubelet.chart import CPU_PROFILE, render
from bench.many_adapters import Tenant
from bench.scenarios.tenant_hashing import figures_of, plan_traffic

TENANTS = [Tenant(f"tenant{number:02d}", "key") for number in range(24)]
PAGE = """\
# TYPE loraplane_adapter_loads_total counter
loraplane_adapter_loads_total{adapter="a/x@1",source="cache"} 3.0
loraplane_adapter_loads_total{adapter="b/x@1",source="cache"} 4.0
loraplane_adapter_loads_total{adapter="b/x@1",source="disk"} 1.0
loraplane_adapter_evictions_total{adapter="a/x@1",level="slot"} 2.0
loraplane_adapter_requests_total{adapter="a/x@1",outcome="ok",tenant="a"} 9.0
loraplane_adapter_load_seconds_bucket{le="0.1",source="disk"} 1.0
loraplane_adapter_probes_total{outcome="passed"} 7.0
"""


def test_counters_are_summed_over_adapters_and_nothing_else_is_counted() -> None:
    assert parse_counts(PAGE) == {
        "loads_cache": 7,
        "loads_disk": 1,
        "evictions_slot": 2,
        "evictions_cache": 0,
        "requests": 9,
    }


def test_the_same_seed_is_the_same_traffic_and_the_first_tenants_ask_most() -> None:
    plan = plan_traffic(TENANTS, rate=50, seconds=200, seed=3)

    counts = Counter(due.tenant.name for due in plan)
    assert plan == plan_traffic(TENANTS, rate=50, seconds=200, seed=3)
    assert len(plan) == pytest.approx(50 * 200, rel=0.05)
    # 1/r over 24 ranks: the first has 26.5 % of all, the second half of that.
    assert counts["tenant00"] / len(plan) == pytest.approx(0.265, rel=0.1)
    assert counts["tenant01"] / counts["tenant00"] == pytest.approx(0.5, rel=0.15)


def row(number: int, mode: str, loads: int) -> dict[str, Any]:
    times = {f"{name}_{level}_ms": 10.0 for name in ("ttft", "e2e") for level in ("p50", "p99")}
    counts = dict.fromkeys(("loads_disk", "evictions_slot", "evictions_cache"), 0)
    return {"run": number, "mode": mode, "loads_cache": loads, **counts, **times}


def test_a_ratio_is_taken_within_a_run_and_nothing_divided_by_nothing_is_no_number() -> None:
    unbound = "hashing without bound"
    rows = [
        *(row(1, "hashing", 2), row(1, unbound, 1), row(1, "round robin", 10)),
        # Runs begin with another mode each.
        *(row(2, "round robin", 20), row(2, "hashing", 4), row(2, unbound, 2)),
    ]

    found = {(figure.name, figure.group): figure for figure in figures_of(rows)}

    assert found["hashing", "loads into slots"].values == (2.0, 4.0)
    ratio = found["hashing / round robin", "loads into slots"]
    assert (ratio.values, ratio.unit) == ((0.2, 0.2), "x")
    assert found[f"{unbound} / round robin", "loads into slots"].values == (0.1, 0.1)
    assert found["hashing / round robin", "reads from disk"].defined == ()
    assert found["hashing / round robin", "TTFT p99"].median == 1.0


def test_the_other_front_differs_in_its_policy_alone(tmp_path: Path) -> None:
    values = {"front": {"mode": "envoy"}}
    objects = render(
        RELEASE, namespace="fleet", files=[CPU_PROFILE], values=values, folder=tmp_path
    )

    config, deployment = other_front(objects, "ROUND_ROBIN")

    (own,) = (
        body
        for body in objects
        if (body["kind"], body["metadata"]["name"]) == ("ConfigMap", f"{RELEASE}-front")
    )
    before, after = (yaml.safe_load(body["data"]["envoy.yaml"]) for body in (own, config))
    engines = before["static_resources"]["clusters"][0]
    assert engines["lb_policy"] == "MAGLEV"
    engines["lb_policy"] = "ROUND_ROBIN"
    del engines["common_lb_config"]["consistent_hashing_lb_config"]
    assert after == before
    mounted = [
        each["configMap"]["name"] for each in deployment["spec"]["template"]["spec"]["volumes"]
    ]
    assert mounted == [config["metadata"]["name"]]


def test_a_front_that_does_not_hash_is_no_base_for_a_comparison(tmp_path: Path) -> None:
    objects = render(
        RELEASE,
        namespace="fleet",
        files=[CPU_PROFILE],
        values={"front": {"mode": "envoy"}},
        folder=tmp_path,
    )
    objects += other_front(objects, "ROUND_ROBIN")
    renamed = [
        {**body, "metadata": {**body["metadata"], "name": f"{RELEASE}-front"}}
        for body in objects
        if body["metadata"]["name"] == f"{RELEASE}-front-round-robin"
    ]

    with pytest.raises(FleetFailed, match="ROUND_ROBIN"):
        other_front(renamed, "RANDOM")
