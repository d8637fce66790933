"""The capacity routes of a real controller, with engines' traces over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from serving.contract import (
    AdapterCounts,
    EngineMemory,
    LoadTimes,
    TraceEvent,
    TraceKind,
    decode_snapshot,
)
from serving.controller.app import create_app
from serving.controller.capacity.residency import ResidencyKeeper
from serving.settings import SettingInvalid
from tests.builders.controller import SECRET, Controller, a_report, settings_in
from tests.fakes.trace_server import Ring, served_ring

ALL = ["inference", "read", "push", "promote"]


@pytest.fixture
def ring() -> Iterator[Ring]:
    with served_ring(SECRET, Ring()) as ring:
        yield ring


async def tell(controller: Controller, ring: Ring, **about: Any) -> None:
    report = a_report(ring.engine_id, url=ring.url, trace_position=len(ring.events), **about)
    engine = await controller.engine_client()
    sent = await engine.post(
        f"/internal/v1/engines/{ring.engine_id}/report", content=msgspec.json.encode(report)
    )
    assert sent.status_code == 204


async def seen(controller: Controller, ring: Ring, **about: Any) -> httpx.AsyncClient:
    await tell(controller, ring, **about)
    await controller.app.state.capacity.observer.turn()
    return await controller.client()


async def test_capacity_shows_counts_memory_load_times_and_the_curve(
    controller: Controller, ring: Ring
) -> None:
    ring.admit(*["acme/a@1", "acme/b@1"] * 5, at=controller.clock() - 30)
    counts = [
        AdapterCounts(name="acme/a@1", requests=5, loads_disk=1, loads_cache=4, removals=1),
        AdapterCounts(name="acme/b@1", requests=5, loads_disk=1, evictions_slot=4, failures=2),
    ]
    admin = await seen(
        controller,
        ring,
        counts=counts,
        pinned=["acme/a@1"],
        hot={"1m": 2},
        hot_90={"1m": 2},
        memory=EngineMemory(1000, 10, 5000),
        load_times={"disk": LoadTimes(2, 1.0), "cache": LoadTimes(4, 0.2)},
    )

    shown = (await admin.get("/v1/capacity?window=5m")).json()

    (engine,) = shown["engines"]
    assert shown["window_seconds"] == 300
    assert (engine["loads_disk"], engine["loads_cache"], engine["evictions_slot"]) == (2, 4, 4)
    assert (engine["removals"], engine["failures"], engine["pinned"]) == (1, 2, ["acme/a@1"])
    assert engine["memory"] == {"slot_bytes": 1000, "kv_bytes_per_token": 10, "kv_tokens": 5000}
    assert engine["load_seconds"] == {"disk": 0.5, "cache": pytest.approx(0.05)}
    assert [item["name"] for item in engine["adapters"]] == ["acme/a@1", "acme/b@1"]
    points = {point["slots"]: point for point in engine["curve"]["points"]}
    assert (points[1]["miss_ratio"], points[2]["miss_ratio"]) == (1.0, 0.2)
    assert points[2]["added_seconds"] == pytest.approx(0.2 * 0.05 + 0.2 * 0.5)
    assert shown["fleet"] == engine["curve"]
    assert shown["residency"] == {"mode": "auto", "wishes": {}}


async def test_a_plan_names_the_slots_that_the_goal_needs(
    controller: Controller, ring: Ring
) -> None:
    names = [f"acme/a@{n}" for n in range(1, 7)]
    ring.admit(*names * 100, at=controller.clock() - 900)
    admin = await seen(controller, ring)

    plan = (await admin.get("/v1/capacity/plan?target_miss_ratio=0.02")).json()
    impossible = (await admin.get("/v1/capacity/plan?target_miss_ratio=0.001")).json()

    assert plan["goal"] == {"miss_ratio": 0.02, "added_seconds": None}
    assert (plan["now"]["engines"], plan["now"]["gpu_slots"]) == (1, 3)
    assert plan["now"]["miss_ratio"] == 1.0
    assert (plan["is_reachable"], plan["is_enough_data"]) == (True, True)
    assert plan["recommended"]["gpu_slots"] == 6
    assert plan["predicted"]["miss_ratio"] == pytest.approx(0.01)
    assert (impossible["is_reachable"], impossible["recommended"]) == (False, None)


async def test_without_engines_nothing_is_planned(controller: Controller) -> None:
    admin = await controller.client()

    plan = (await admin.get("/v1/capacity/plan")).json()

    assert (plan["recommended"], plan["is_enough_data"], plan["is_reachable"]) == (
        None,
        False,
        None,
    )
    assert plan["now"]["gpu_slots"] is None
    assert plan["goal"] == {"miss_ratio": 0.05, "added_seconds": None}


async def test_history_shows_what_was_counted_in_each_step(
    controller: Controller, ring: Ring
) -> None:
    for turn in range(4):
        counts = [AdapterCounts(name="acme/a@1", requests=10 * turn, loads_disk=turn)]
        await tell(controller, ring, counts=counts, active=["acme/a@1"])
        controller.clock.advance(10)
    admin = await controller.client()

    history = (await admin.get("/v1/capacity/history?seconds=60&points=6")).json()

    assert history["step_seconds"] == 10
    assert len(history["times"]) == 6
    engine = history["engines"]["engine-0"]
    assert [n for n in engine["requests"] if n is not None] == [10, 10, 10]
    assert engine["requests"][-1] is None
    (adapter,) = history["adapters"]
    assert adapter["name"] == "acme/a@1"
    assert [n for n in adapter["in_slot"] if n is not None] == [1, 1, 1]


async def test_the_table_of_adapters_is_searched_sorted_and_paged(
    controller: Controller, ring: Ring
) -> None:
    tenant = await controller.tenant("acme", ALL)
    name = await controller.make_live(tenant, "acme", b"one")
    counts = [AdapterCounts(name=f"globex/b@{n}", requests=n) for n in (1, 2, 3)]
    await tell(controller, ring, counts=[*counts, AdapterCounts(name=name, requests=9)])
    admin = await controller.client()

    page = (await admin.get("/v1/capacity/adapters?limit=2&offset=1")).json()
    found = (await admin.get("/v1/capacity/adapters?search=acme&sort=name&order=asc")).json()
    refused = await admin.get("/v1/capacity/adapters?sort=colour")

    assert (page["total"], [row["requests"] for row in page["adapters"]]) == (4, [3, 2])
    assert (found["total"], found["adapters"][0]["name"]) == (1, name)
    assert (found["adapters"][0]["state"], found["adapters"][0]["is_live"]) == ("live", True)
    assert (refused.status_code, refused.json()["code"]) == (422, "request_invalid")
    assert refused.json()["errors"][0]["subject"] == "query.sort"


async def test_the_table_follows_reports_and_moves(controller: Controller, ring: Ring) -> None:
    tenant, admin = await controller.tenant("acme", ALL), await controller.client()
    name = await controller.make_live(tenant, "acme", b"one")

    async def row() -> tuple[int, str]:
        (found,) = (await admin.get("/v1/capacity/adapters")).json()["adapters"]
        return found["requests"], found["state"]

    assert await row() == (0, "live")
    await tell(controller, ring, counts=[AdapterCounts(name=name, requests=4)])
    assert await row() == (4, "live")
    await tenant.post("/v1/tenants/acme/adapters/support/versions/1/retire", json={})
    assert await row() == (4, "retired")


async def test_the_fleets_adapters_are_searched_and_paged(controller: Controller) -> None:
    names = []
    for tenant in ("acme", "globex", "hooli"):
        client = await controller.tenant(tenant, ALL)
        names.append(await controller.make_live(client, tenant, tenant.encode()))
    admin = await controller.client()

    whole = (await admin.get("/v1/adapters")).json()
    page = (await admin.get("/v1/adapters?limit=1&offset=1")).json()
    found = (await admin.get("/v1/adapters?search=HOOLI/sup")).json()
    wild = (await admin.get("/v1/adapters?search=%25")).json()

    assert [a["versions"][0]["name"] for a in whole["adapters"]] == names
    assert (whole["total"], page["total"], found["total"]) == (3, 3, 1)
    assert page["adapters"] == whole["adapters"][1:2]
    assert found["adapters"] == whole["adapters"][2:]
    assert (wild["total"], wild["adapters"]) == (0, [])


async def test_a_trace_is_downloaded_as_lines_page_by_page(
    controller: Controller, ring: Ring
) -> None:
    ring.admit("acme/a@1", "acme/b@1", at=controller.clock())
    ring.max_page = 3
    await tell(controller, ring)
    admin = await controller.client()

    answer = await admin.get("/v1/engines/engine-0/trace?after=1")

    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["position"] for line in lines] == [1, 2, 3]
    assert (lines[0]["kind"], lines[1]["kind"]) == ("finished", "admitted")
    assert set(lines[0]) == set(TraceEvent.__struct_fields__)
    again = [TraceEvent(**{**line, "kind": TraceKind[line["kind"].upper()]}) for line in lines]
    assert again == ring.events[1:]


async def test_a_trace_that_cannot_be_had_is_a_problem_and_never_looks_whole(
    controller: Controller, ring: Ring
) -> None:
    ring.admit(*["acme/a@1"] * 5, at=controller.clock())
    ring.max_page, ring.fails_after = 2, 1
    await tell(controller, ring)
    admin = await controller.client()

    # What the server then does is to cut the connection.
    transport = httpx.ASGITransport(controller.app, raise_app_exceptions=True)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://controller", headers=admin.headers
    ) as client:
        with pytest.raises(RuntimeError, match="response already started"):
            await client.get("/v1/engines/engine-0/trace")
    down = await admin.get("/v1/engines/engine-0/trace")
    controller.clock.advance(60)
    silent = await admin.get("/v1/engines/engine-0/trace")
    absent = await admin.get("/v1/engines/engine-7/trace")

    assert (down.status_code, down.json()["code"]) == (503, "trace_unavailable")
    assert (silent.status_code, silent.json()["code"]) == (503, "trace_unavailable")
    assert absent.status_code == 404


async def test_hot_adapters_become_wishes_in_the_snapshot_until_it_is_switched_off(
    controller: Controller, ring: Ring
) -> None:
    tenant = await controller.tenant("acme", ALL)
    name = await controller.make_live(tenant, "acme", b"one")
    cold = [f"cold/c@{n}" for n in range(1, 41)]
    ring.admit(*[x for one in cold for x in (name, name, name, one)], at=controller.clock() - 160)
    admin = await seen(controller, ring)
    keeper = ResidencyKeeper(controller.context, controller.app.state.capacity)

    await keeper.turn()
    first = await snapshot(controller)
    await keeper.turn()

    assert [(wish.engine, wish.hot) for wish in first.residency] == [("engine-0", [name])]
    assert (await snapshot(controller)).revision == first.revision
    shown = (await admin.get("/v1/capacity")).json()["residency"]
    assert shown == {"mode": "auto", "wishes": {"engine-0": [name]}}

    off = await admin.put("/v1/capacity/residency", json={"mode": "off"})
    await keeper.turn()

    assert off.json() == {"mode": "off", "wishes": {}}
    assert (await snapshot(controller)).residency == []
    events = (await admin.get("/v1/events?subject=residency")).json()["events"]
    assert [(e["action"], e["from"], e["to"]) for e in events] == [
        ("set_residency_mode", "auto", "off")
    ]
    await admin.put("/v1/capacity/residency", json={"mode": "auto"})
    await keeper.turn()
    assert [wish.hot for wish in (await snapshot(controller)).residency] == [[name]]


async def test_an_engine_whose_trace_fails_keeps_its_wishes(
    controller: Controller, ring: Ring
) -> None:
    tenant = await controller.tenant("acme", ALL)
    name = await controller.make_live(tenant, "acme", b"one")
    cold = [f"cold/c@{n}" for n in range(1, 41)]
    ring.admit(*[x for one in cold for x in (name, name, name, one)], at=controller.clock() - 160)
    await seen(controller, ring)
    keeper = ResidencyKeeper(controller.context, controller.app.state.capacity)
    await keeper.turn()

    controller.clock.advance(7200)
    ring.admit("cold/c@1", at=controller.clock())
    ring.status = 500
    await seen(controller, ring)
    await keeper.turn()
    assert [wish.hot for wish in (await snapshot(controller)).residency] == [[name]]

    ring.status = 200
    await seen(controller, ring)
    await keeper.turn()
    assert (await snapshot(controller)).residency == []


async def test_a_retired_version_is_in_no_wish(controller: Controller, ring: Ring) -> None:
    tenant = await controller.tenant("acme", ALL)
    name = await controller.make_live(tenant, "acme", b"one")
    cold = [f"cold/c@{n}" for n in range(1, 41)]
    ring.admit(*[x for one in cold for x in (name, name, name, one)], at=controller.clock() - 160)
    await seen(controller, ring)
    await ResidencyKeeper(controller.context, controller.app.state.capacity).turn()
    assert len((await snapshot(controller)).residency) == 1

    await tenant.post("/v1/tenants/acme/adapters/support/versions/1/retire", json={})

    assert (await snapshot(controller)).residency == []


@pytest.mark.parametrize("body", [{"mode": "always"}, {}, {"mode": "off", "more": 1}])
async def test_an_unknown_mode_is_refused(controller: Controller, body: dict[str, Any]) -> None:
    admin = await controller.client()

    answer = await admin.put("/v1/capacity/residency", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")


def test_a_controller_does_not_start_with_an_unknown_mode(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid) as caught:
        create_app(settings_in(tmp_path, residency_mode="always"))

    assert caught.value.name == "LORAPLANE_RESIDENCY_MODE"


async def test_metrics_show_the_curve_the_plan_and_the_lag(
    controller: Controller, ring: Ring
) -> None:
    nobody = await controller.client(None)
    before = (await nobody.get("/metrics")).text
    ring.admit(*[f"acme/a@{n}" for n in range(1, 7)] * 100, at=controller.clock() - 900)
    await seen(controller, ring)

    text = (await nobody.get("/metrics")).text

    assert "loraplane_slot_miss_ratio{" not in before
    assert "\nloraplane_recommended_engines " not in before
    assert 'loraplane_slot_miss_ratio{slots="3"} 1.0' in text
    assert 'loraplane_slot_miss_ratio{slots="128"} 0.01' in text
    assert 'loraplane_configured_slots{level="gpu"} 3.0' in text
    assert 'loraplane_recommended_slots{level="gpu"} 6.0' in text
    assert "loraplane_capacity_requests 600.0" in text
    assert 'loraplane_capacity_observer_lag_events{engine="engine-0"} 0.0' in text
    assert 'loraplane_version_state_seconds{state="evaluating"} 0.0' in text
    assert text.count("loraplane_slot_miss_ratio{") <= 10


async def snapshot(controller: Controller) -> Any:
    engine = await controller.engine_client()
    return decode_snapshot((await engine.get("/internal/v1/snapshot?after=-1")).content)
