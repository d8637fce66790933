"""The engine room as a whole, on a fake engine: fetch, load, prove, serve, restart, quarantine."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import pytest

from serving.contract import FleetSnapshot, Probe, ProbeCase, Role, VersionState
from serving.engine.scope import RequestRefused, RequestScope
from tests.builders.snapshots import key, snapshot, version
from tests.fakes.engine_port import answer_of
from tests.fakes.engine_world import World

ACME = key("acme-key")
CONFIG = b"{}"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    if hasattr(world, "runtime"):
        await world.runtime.stop()


def state_of(world: World, name: str) -> VersionState | None:
    report = world.seen(name)
    return report.state if report else None


def desired(world: World, *versions, revision: int = 1, aliases=()) -> FleetSnapshot:  # type: ignore[no-untyped-def]
    return snapshot(
        *versions, revision=revision, aliases=aliases, keys=(ACME,), store_url=world.store_url
    )


async def admitted(world: World, model: str) -> RequestScope:
    scope = RequestScope(ACME)
    await world.runtime.admit(scope, model, {})
    return scope


async def refusal(world: World, model: str) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        await admitted(world, model)
    return caught.value


async def test_a_staged_version_is_fetched_loaded_probed_and_reported_proven(world: World) -> None:
    right = answer_of(CONFIG + b"one", [1, 2], 2)
    probe = Probe([ProbeCase([1, 2], list(right.token_ids), list(right.logprobs))], 0.1, 0.01)
    one = version("acme/support@1", digest=await world.put("one"), probe=probe)
    world.link.publish(desired(world, one, aliases=(one.name,)))

    await world.run()
    await world.until(lambda: world.link.last_report and world.link.last_report.is_ready)

    assert state_of(world, one.name) is VersionState.PROVEN
    scope = await admitted(world, "support")
    assert scope.answering_name() == "acme/support@1"
    assert world.link.last_report is not None
    assert world.link.last_report.revision == 1
    assert world.link.last_report.cached == [one.name]


async def test_a_version_that_answers_otherwise_is_failed_and_not_served(world: World) -> None:
    probe = Probe([ProbeCase([1, 2], [300, 301], [-0.5, -0.5])], 0.1, 0.01)
    bad = version("acme/support@1", digest=await world.put("one"), probe=probe)
    good = version("acme/sales@1", digest=await world.put("two"))
    world.link.publish(desired(world, bad, good, aliases=(bad.name, good.name)))

    await world.run()
    await world.until(lambda: state_of(world, bad.name) is VersionState.FAILED)
    await world.until(lambda: bad.name not in world.port.cached)

    report = world.seen(bad.name)
    assert report is not None
    assert report.reason == "probe_tokens"
    assert (await refusal(world, "support")).status is HTTPStatus.SERVICE_UNAVAILABLE
    await world.until(lambda: world.runtime.readiness() is None)
    assert (await admitted(world, "sales")).answering_name() == good.name


async def test_a_refused_adapter_reports_the_reason_and_harms_nobody(world: World) -> None:
    bad = version("acme/support@1", digest=await world.put("REFUSE"))
    good = version("acme/sales@1", digest=await world.put("two"))
    gone = version("acme/gone@1", digest="sha256:" + "0" * 64)
    world.link.publish(desired(world, bad, good, gone))

    await world.run()
    await world.until(lambda: state_of(world, good.name) is VersionState.PROVEN)
    await world.until(lambda: state_of(world, gone.name) is VersionState.FAILED)
    await world.until(lambda: state_of(world, bad.name) is VersionState.FAILED)

    assert world.seen(bad.name).reason == "shape_mismatch"  # type: ignore[union-attr]
    assert world.seen(gone.name).reason == "artifact_not_found"  # type: ignore[union-attr]


async def test_a_promotion_moves_new_requests_and_leaves_running_ones(world: World) -> None:
    one = version("acme/support@1", digest=await world.put("one"))
    two = version("acme/support@2", digest=await world.put("two"))
    world.link.publish(desired(world, one, two, aliases=(one.name,)))
    await world.run()
    await world.until(lambda: world.runtime.readiness() is None)
    running = await admitted(world, "support")

    world.link.publish(desired(world, one, two, aliases=(two.name,), revision=2))
    await world.until(lambda: world.runtime.agent.followed_revision == 2)

    await world.runtime.admit(running, "support", {})
    assert running.answering_name() == one.name
    assert (await admitted(world, "support")).answering_name() == two.name


async def test_a_retired_version_goes_when_its_last_request_has_ended(world: World) -> None:
    one = version("acme/support@1", digest=await world.put("one"))
    world.link.publish(desired(world, one, aliases=(one.name,)))
    await world.run()
    await world.until(lambda: world.runtime.readiness() is None)
    running = await admitted(world, "support")

    world.link.publish(desired(world, revision=2))
    await world.until(lambda: world.link.last_report and world.link.last_report.revision == 2)
    assert one.name in world.port.cached
    assert world.seen(one.name).in_flight == 1  # type: ignore[union-attr]
    assert (await refusal(world, "support")).status is HTTPStatus.NOT_FOUND

    running.release()
    await world.until(lambda: one.name not in world.port.cached)
    await world.until(lambda: world.seen(one.name) is None)
    await world.until(lambda: not any(world.artifacts.glob("sha256-*")))


async def test_a_restarted_engine_serves_without_controller_and_store(tmp_path: Path) -> None:
    first = World(tmp_path)
    one = version("acme/support@1", digest=await first.put("one"))
    first.link.publish(desired(first, one, aliases=(one.name,)))
    await first.run()
    await first.until(lambda: first.runtime.readiness() is None)
    await first.runtime.stop()
    shutil.rmtree(tmp_path / "store")

    second = World(tmp_path)
    second.link.is_down = True
    second.start()
    assert second.runtime.readiness() == "the first snapshot"
    await second.runtime.start()
    await second.until(lambda: second.runtime.readiness() is None)

    assert (await admitted(second, "support")).answering_name() == one.name
    assert second.port.loads[one.name].loads_disk == 1
    await second.runtime.stop()


async def test_bytes_that_changed_on_disk_are_fetched_again(tmp_path: Path) -> None:
    first = World(tmp_path)
    one = version("acme/support@1", digest=await first.put("one"))
    first.link.publish(desired(first, one, aliases=(one.name,)))
    await first.run()
    await first.until(lambda: first.runtime.readiness() is None)
    await first.runtime.stop()
    (folder,) = first.artifacts.glob("sha256-*")
    file = folder / "adapter_model.safetensors"
    file.chmod(0o644)
    file.write_text("half")

    second = World(tmp_path)
    second.link.publish(desired(second, one, aliases=(one.name,)))
    await second.run()
    await second.until(lambda: second.runtime.readiness() is None)

    assert second.port.cached[one.name] == CONFIG + b"one"
    await second.runtime.stop()


async def test_a_poisonous_version_is_quarantined_until_a_new_attempt(world: World) -> None:
    one = version("acme/support@1", digest=await world.put("one"))
    world.link.publish(desired(world, one, aliases=(one.name,)))
    await world.run()
    await world.until(lambda: world.runtime.readiness() is None)
    running = await admitted(world, "support")

    world.port.non_finite.add(one.name)
    world.port.requests[one.name] = 3
    world.runtime.hint()
    await world.until(lambda: state_of(world, one.name) is VersionState.QUARANTINED)

    assert world.port.requests[one.name] == 0
    assert (await refusal(world, "support")).status is HTTPStatus.SERVICE_UNAVAILABLE
    running.release()
    await world.until(lambda: one.name not in world.port.cached)
    again = version(one.name, digest=one.digest, attempt=1)
    world.link.publish(desired(world, again, aliases=(one.name,), revision=2))
    await world.until(lambda: state_of(world, one.name) is VersionState.PROVEN)
    assert world.seen(one.name).attempt == 1  # type: ignore[union-attr]


async def test_an_adapter_that_makes_nan_in_its_probe_is_never_served(world: World) -> None:
    bad = version("acme/support@1", digest=await world.put("NAN"))
    world.link.publish(desired(world, bad, aliases=(bad.name,)))

    await world.run()
    await world.until(lambda: state_of(world, bad.name) is VersionState.QUARANTINED)
    await world.until(lambda: bad.name not in world.port.cached)

    assert world.seen(bad.name).reason == "non_finite"  # type: ignore[union-attr]


async def test_a_candidate_is_proven_by_loading_and_only_the_gate_reaches_it(world: World) -> None:
    candidate = version("acme/support@1", digest=await world.put("NAN"), role=Role.CANDIDATE)
    world.link.publish(desired(world, candidate))

    await world.run()
    await world.until(lambda: state_of(world, candidate.name) is VersionState.PROVEN)

    gate = RequestScope(key("gate", tenant="", scopes=("gate",)))
    await world.runtime.admit(gate, candidate.name, {})
    assert gate.answering_name() == candidate.name
    assert (await refusal(world, candidate.name)).status is HTTPStatus.NOT_FOUND


async def test_an_evicted_version_is_read_again_before_its_request(tmp_path: Path) -> None:
    world = World(tmp_path, cpu_slots=2)
    versions = [version(f"acme/a{i}@1", digest=await world.put(f"w{i}")) for i in range(5)]
    world.link.publish(desired(world, *versions, aliases=[v.name for v in versions]))
    await world.run()
    await world.until(lambda: world.runtime.readiness() is None)

    for entry in versions:
        scope = await admitted(world, entry.adapter)
        assert entry.name in world.port.cached
        scope.release()

    assert world.port.loads_in_step == 0
    await world.runtime.stop()


async def test_a_version_whose_files_vanish_is_fetched_again(tmp_path: Path) -> None:
    world = World(tmp_path, cpu_slots=1)
    one = version("acme/a@1", digest=await world.put("one"))
    two = version("acme/b@1", digest=await world.put("two"))
    world.link.publish(desired(world, one, two, aliases=(one.name, two.name)))
    await world.run()
    await world.until(lambda: world.runtime.readiness() is None)
    (await admitted(world, "b")).release()
    for folder in world.artifacts.glob(f"sha256-{one.digest[7:]}"):
        folder.chmod(0o755)
        shutil.rmtree(folder)

    refused = await refusal(world, "a")

    assert refused.code == "adapter_not_ready"
    await world.until(lambda: state_of(world, one.name) is VersionState.FAILED)
    await world.until(lambda: state_of(world, one.name) is VersionState.PROVEN)
    assert (await admitted(world, "a")).answering_name() == one.name
    await world.runtime.stop()


async def test_an_engine_that_does_not_answer_says_nothing_about_the_adapter(world: World) -> None:
    one = version("acme/support@1", digest=await world.put("one"))
    world.link.publish(desired(world, one))
    world.start()
    world.port.is_down = True
    await world.runtime.start()
    await world.until(lambda: (r := world.seen(one.name)) and r.reason == "engine_unavailable")
    assert state_of(world, one.name) is VersionState.PENDING

    world.port.is_down = False
    await world.until(lambda: state_of(world, one.name) is VersionState.PROVEN)


async def test_too_many_adapters_in_use_is_a_503_after_a_bounded_wait(tmp_path: Path) -> None:
    world = World(tmp_path, cpu_slots=1, load_wait_seconds=0.2)
    one = version("acme/a@1", digest=await world.put("one"))
    two = version("acme/b@1", digest=await world.put("two"))
    world.link.publish(desired(world, one, two, aliases=(one.name, two.name)))
    await world.run()
    await world.until(lambda: world.runtime.readiness() is None)
    held = await admitted(world, "a")

    refused = await refusal(world, "b")

    assert (refused.status, refused.code) == (HTTPStatus.SERVICE_UNAVAILABLE, "adapters_busy")
    assert refused.retry_after_seconds == 2
    held.release()
    assert (await admitted(world, "b")).answering_name() == two.name
    await world.runtime.stop()


async def test_a_snapshot_of_another_fleet_or_an_older_one_is_not_followed(world: World) -> None:
    await world.run()
    one = version("acme/support@1", digest=await world.put("one"))
    await world.runtime.agent.accept(snapshot(one, fleet="elsewhere", revision=9))
    await world.runtime.agent.accept(desired(world, one, revision=5))
    await world.runtime.agent.accept(desired(world, revision=4))

    await world.until(lambda: world.runtime.agent.followed_revision == 5)
    assert world.runtime.table is not None
    assert one.name in world.runtime.table.versions


async def test_one_request_is_resolved_once(world: World) -> None:
    one = version("acme/a@1", digest=await world.put("one"))
    two = version("acme/b@1", digest=await world.put("two"))
    world.link.publish(desired(world, one, two, aliases=(one.name, two.name)))
    await world.run()
    await world.until(lambda: world.runtime.readiness() is None)
    scope = await admitted(world, "a")

    with pytest.raises(RequestRefused):
        await world.runtime.admit(scope, "b", {})

    assert scope.answering_name() == one.name
    assert world.runtime.admission.claims(one.name) == 1
    assert world.runtime.listing(scope)[0] == ("a", one.name)


async def test_a_store_that_does_not_answer_says_nothing_about_the_adapter(world: World) -> None:
    one = version("acme/support@1")
    world.link.publish(snapshot(one, keys=(ACME,), store_url="file:///proc/no-store"))

    await world.run()
    await world.until(lambda: (r := world.seen(one.name)) and r.reason == "store_unavailable")

    assert state_of(world, one.name) is VersionState.PENDING
    # Nor does it keep the other tenants waiting for long.
    await world.until(lambda: world.runtime.readiness() is None)


async def test_an_engine_is_not_ready_while_a_version_is_only_held(world: World) -> None:
    one = version("acme/support@1", digest=await world.put("one"))
    world.link.publish(desired(world, one, aliases=(one.name,)))
    world.start()
    world.port.is_down = True
    await world.runtime.start()
    await world.until(lambda: (r := world.seen(one.name)) and r.reason == "engine_unavailable")

    held = world.runtime.readiness()
    world.port.is_down = False
    await world.until(lambda: world.runtime.readiness() is None)
    scope = await admitted(world, "support")

    assert held == "the proof of this engine's versions"
    assert scope.answering_name() == one.name


async def test_a_removal_that_the_engine_did_not_confirm_is_tried_again(world: World) -> None:
    one = version("acme/support@1", digest=await world.put("one"))
    world.link.publish(desired(world, one, aliases=(one.name,)))
    await world.run()
    await world.until(lambda: world.runtime.readiness() is None)
    world.port.is_down = True

    world.link.publish(desired(world, revision=2))
    await world.until(lambda: world.link.last_report and world.link.last_report.revision == 2)
    assert world.seen(one.name) is not None

    world.port.is_down = False
    await world.until(lambda: one.name not in world.port.cached)
    await world.until(lambda: world.seen(one.name) is None)


async def test_a_dead_engine_is_a_503_not_a_wrong_answer(tmp_path: Path) -> None:
    world = World(tmp_path, cpu_slots=1)
    one = version("acme/a@1", digest=await world.put("one"))
    two = version("acme/b@1", digest=await world.put("two"))
    world.link.publish(desired(world, one, two, aliases=(one.name, two.name)))
    await world.run()
    await world.until(lambda: world.runtime.readiness() is None)
    (await admitted(world, "a")).release()
    world.port.is_down = True

    refused = await refusal(world, "b")

    assert (refused.status, refused.code) == (HTTPStatus.SERVICE_UNAVAILABLE, "engine_unavailable")
    await world.runtime.stop()
