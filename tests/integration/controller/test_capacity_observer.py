"""The observer on a real registry and real HTTP trace routes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serving.contract import VersionReport, VersionState
from serving.controller.capacity.board import CapacityBoard
from serving.controller.capacity.observer import MAX_PAGES, CapacityObserver
from serving.controller.capacity.trace_client import TraceClient
from tests.builders.controller import SECRET, Controller, a_report
from tests.fakes.trace_server import Ring, served_ring

HOUR = 3600.0


@pytest.fixture
def ring() -> Iterator[Ring]:
    with served_ring(SECRET, Ring()) as ring:
        yield ring


@pytest.fixture
async def board(controller: Controller) -> CapacityBoard:
    board: CapacityBoard = controller.app.state.capacity
    return board


async def tell(controller: Controller, *rings: Ring, **about: object) -> None:
    for ring in rings:
        report = a_report(ring.engine_id, url=ring.url, trace_position=len(ring.events), **about)
        await controller.context.repository.fleet.record_report(report)


async def n_requests(board: CapacityBoard) -> dict[str, int | None]:
    shown = await board.capacity(HOUR)
    return {e.engine: e.curve.n_requests if e.curve else None for e in shown.engines}


async def test_what_is_new_is_read_and_nothing_twice(
    controller: Controller, board: CapacityBoard, ring: Ring
) -> None:
    for turn in range(3):
        ring.admit("acme/a@1", "acme/b@1", at=controller.clock() + turn)
        await tell(controller, ring)
        await board.observer.turn()
        await board.observer.turn()

        assert await n_requests(board) == {"engine-0": 2 * (turn + 1)}
    (engine,) = (await board.capacity(HOUR)).engines
    assert engine.curve is not None
    assert [round(6 * (p.miss_ratio or 0)) for p in engine.curve.points[:2]] == [6, 2]
    assert (engine.trace.next, engine.trace.lag_events) == (12, 0)


async def test_a_long_trace_is_read_over_several_turns_and_its_lag_is_shown(
    controller: Controller, board: CapacityBoard, ring: Ring
) -> None:
    ring.admit(*["acme/a@1"] * 100, at=controller.clock())
    ring.max_page = 10
    await tell(controller, ring)

    await board.observer.turn()

    (engine,) = (await board.capacity(HOUR)).engines
    assert engine.trace.lag_events == 200 - 10 * MAX_PAGES
    for _ in range(2):
        await board.observer.turn()
    assert await n_requests(board) == {"engine-0": 100}


async def test_a_new_controller_builds_the_same_curve_from_the_ring(
    controller: Controller, board: CapacityBoard, ring: Ring
) -> None:
    ring.admit(*[f"acme/a@{n % 7}" for n in range(50)], at=controller.clock() - 100)
    await tell(controller, ring)
    await board.observer.turn()
    again = CapacityBoard(controller.context, another_observer(controller))

    await again.observer.turn()

    first, second = await board.capacity(HOUR), await again.capacity(HOUR)
    assert first.engines[0].curve == second.engines[0].curve
    assert first.fleet == second.fleet
    await again.observer.close()


async def test_a_gap_is_told_and_reading_goes_on(
    controller: Controller, board: CapacityBoard, ring: Ring
) -> None:
    ring.admit("acme/a@1", at=controller.clock())
    await tell(controller, ring)
    await board.observer.turn()
    ring.admit(*["acme/a@1"] * 9, at=controller.clock() + 1)
    ring.first = 10
    await tell(controller, ring)

    await board.observer.turn()

    (engine,) = (await board.capacity(HOUR)).engines
    assert (engine.trace.lost_events, engine.trace.next) == (8, 20)


async def test_one_engine_in_trouble_stops_no_other_and_keeps_what_is_known(
    controller: Controller, board: CapacityBoard, ring: Ring
) -> None:
    with served_ring(SECRET, Ring("engine-1")) as other:
        for item in (ring, other):
            item.admit("acme/a@1", at=controller.clock())
        await tell(controller, ring, other)
        await board.observer.turn()
        for item in (ring, other):
            item.admit("acme/a@1", at=controller.clock() + 1)
        ring.status = 500
        await tell(controller, ring, other)

        await board.observer.turn()

        assert await n_requests(board) == {"engine-0": 1, "engine-1": 2}
        broken = (await board.capacity(HOUR)).engines[0].trace
        assert (broken.error, broken.lag_events) == ("status 500", 2)
        ring.status = 200
        await board.observer.turn()
        assert await n_requests(board) == {"engine-0": 2, "engine-1": 2}


async def test_an_unreachable_engine_keeps_its_state_and_a_forgotten_one_loses_it(
    controller: Controller, board: CapacityBoard, ring: Ring
) -> None:
    ring.admit("acme/a@1", at=controller.clock())
    await tell(controller, ring)
    await board.observer.turn()

    controller.clock.advance(60)
    await board.observer.turn()
    assert board.observer.cursors.keys() == {"engine-0"}
    await tell(controller, ring)
    assert await n_requests(board) == {"engine-0": 1}

    await controller.context.repository.fleet.forget_engine("engine-0", actor="root")
    await board.observer.turn()
    assert board.observer.cursors == {}
    assert await n_requests(board) == {}
    await tell(controller, ring)
    assert await n_requests(board) == {"engine-0": None}


async def test_a_page_of_another_engine_is_not_taken(
    controller: Controller, board: CapacityBoard, ring: Ring
) -> None:
    ring.admit("acme/a@1", at=controller.clock())
    await tell(controller, ring)
    ring.engine_id = "engine-9"

    await board.observer.turn()

    assert board.observer.cursors["engine-0"].error == "a page of something else"
    (engine,) = (await board.capacity(HOUR)).engines
    assert engine.curve is None or engine.curve.n_requests == 0


async def test_a_version_that_is_no_longer_held_leaves_the_curve_of_the_future(
    controller: Controller, board: CapacityBoard, ring: Ring
) -> None:
    held = [VersionReport(name=f"acme/{n}@1", digest="d", state=VersionState.PROVEN) for n in "ab"]
    ring.admit("acme/a@1", "acme/b@1", at=controller.clock())
    await tell(controller, ring, versions=held)
    await board.observer.turn()
    await tell(controller, ring, versions=held[:1])
    await board.observer.turn()
    ring.admit("acme/a@1", at=controller.clock() + 5)
    await tell(controller, ring, versions=held[:1])

    await board.observer.turn()

    (engine,) = (await board.capacity(HOUR)).engines
    assert engine.curve is not None
    assert engine.curve.n_names == 1
    # b had pushed a out of a single slot, and its going brought nobody back.
    assert [round(3 * (p.miss_ratio or 0)) for p in engine.curve.points[:2]] == [3, 2]


async def test_a_report_that_leaves_out_what_nobody_can_name_lets_no_version_go(
    controller: Controller, board: CapacityBoard, ring: Ring
) -> None:
    held = [VersionReport(name=f"acme/{n}@1", digest="d", state=VersionState.PROVEN) for n in "ab"]
    ring.admit("acme/a@1", "acme/b@1", at=controller.clock())
    await tell(controller, ring, versions=held)
    await board.observer.turn()

    await tell(controller, ring, rest_proven_in="7-ffff")
    await board.observer.turn()

    (engine,) = (await board.capacity(HOUR)).engines
    assert engine.curve is not None
    assert engine.curve.n_names == 2


def another_observer(controller: Controller) -> CapacityObserver:
    return CapacityObserver(
        controller.context.repository.fleet,
        TraceClient(SECRET),
        clock=controller.clock,
        engine_timeout_seconds=15.0,
    )
