"""What the engine remembers and tells of each version."""

from __future__ import annotations

from serving.contract import Role, VersionState
from serving.engine.converge import Stage
from serving.engine.ledger import PATIENCE, REFUSED, TRANSIENT, Backoff, Ledger
from serving.engine.reprobe import LastProbe
from tests.builders.snapshots import snapshot, version

ONE = version("acme/support@1")
AGAIN = version("acme/support@1", attempt=1)


def ledger(entry=ONE) -> Ledger:  # type: ignore[no-untyped-def]
    result = Ledger()
    result.follow(snapshot(entry))
    return result


def idle(_name: str) -> int:
    return 0


def state(book: Ledger) -> VersionState:
    (report,) = book.reports(idle)
    return report.state


def test_a_version_goes_from_pending_to_proven() -> None:
    book = ledger()
    seen = [state(book)]

    book.begin(ONE, VersionState.FETCHING)
    seen.append(state(book))
    book.end(ONE)
    book.begin(ONE, VersionState.LOADING)
    book.reached(ONE, Stage.LOADED)
    book.end(ONE)
    seen.append(state(book))
    book.reached(ONE, Stage.PROVEN)
    seen.append(state(book))

    assert seen == [
        VersionState.PENDING,
        VersionState.FETCHING,
        VersionState.LOADING,
        VersionState.PROVEN,
    ]
    assert book.usable == {ONE.name}


def test_a_candidate_is_usable_when_loaded_and_not_after_it_becomes_serving() -> None:
    candidate = version(ONE.name, role=Role.CANDIDATE)
    book = ledger(candidate)
    book.reached(candidate, Stage.LOADED)
    assert book.usable == {ONE.name}

    book.follow(snapshot(ONE, revision=2))

    assert book.usable == frozenset()
    assert state(book) is VersionState.LOADING


def test_failures_double_their_pause_and_success_forgets_them() -> None:
    book = ledger()
    for _ in range(3):
        book.fail(ONE, "shape_mismatch", "x", now=0.0)
    assert book.next_retry() == REFUSED.pause(3) == 120.0

    book.reached(ONE, Stage.PROVEN)
    book.hold(ONE, "store_unavailable", "x", now=10.0)

    assert book.next_retry() == 10.0 + TRANSIENT.first_seconds


def test_a_pause_is_bounded() -> None:
    assert Backoff(1.0, 30.0).pause(1) == 1.0
    assert Backoff(1.0, 30.0).pause(10_000) == 30.0


def test_a_failed_probe_still_counts_after_the_next_load() -> None:
    book = ledger()
    book.reached(ONE, Stage.LOADED)
    book.fail(ONE, "probe_tokens", "x", now=0.0)
    book.reached(ONE, Stage.LOADED)
    book.fail(ONE, "probe_tokens", "x", now=0.0)

    assert book.next_retry() == REFUSED.pause(2)


def test_a_quarantine_is_lifted_by_a_new_attempt_alone() -> None:
    book = ledger()
    book.reached(ONE, Stage.PROVEN)

    assert book.quarantine(ONE.name, "NaN")
    assert not book.quarantine(ONE.name, "NaN")
    book.reached(ONE, Stage.PROVEN)
    book.fail(ONE, "probe_tokens", "late", now=0.0)
    assert state(book) is VersionState.QUARANTINED
    assert book.usable == frozenset()

    book.follow(snapshot(AGAIN, revision=2))
    book.begin(AGAIN, VersionState.LOADING)
    assert state(book) is VersionState.LOADING
    book.reached(AGAIN, Stage.PROVEN)
    assert state(book) is VersionState.PROVEN


def test_only_proven_versions_are_told_with_their_latest_probe() -> None:
    book = ledger()
    book.reached(ONE, Stage.LOADED)
    assert book.proven() == []
    book.probed(ONE.name, now=5.0)
    book.reached(ONE, Stage.PROVEN)
    assert book.proven() == [LastProbe(ONE.name, 5.0, 1)]

    book.reread(ONE.name)
    assert book.proven() == [LastProbe(ONE.name, None, 1)]

    book.quarantine(ONE.name, "another answer", reason="probe_tokens")
    assert book.proven() == []
    (report,) = book.reports(idle)
    assert (report.state, report.reason) == (VersionState.QUARANTINED, "probe_tokens")


def test_quarantining_or_removing_an_unknown_name_changes_nothing() -> None:
    book = ledger()
    before = book.n_changes

    assert not book.quarantine("acme/absent@1", "NaN")
    book.removed("acme/absent@1", is_forgotten=True)
    book.end(version("acme/absent@1"))

    assert book.n_changes == before
    assert not book.was_tried("acme/absent@1")


def test_a_version_that_left_the_snapshot_is_told_until_it_is_removed() -> None:
    book = ledger()
    book.reached(ONE, Stage.PROVEN)
    book.follow(snapshot(revision=2))

    (report,) = book.reports(lambda _: 3)
    assert (report.state, report.in_flight) == (VersionState.PROVEN, 3)
    assert book.usable == frozenset()

    book.removed(ONE.name, is_forgotten=True)
    assert book.reports(idle) == []


def test_a_failure_says_why_and_of_which_attempt() -> None:
    book = ledger(AGAIN)
    book.begin(AGAIN, VersionState.LOADING)
    book.fail(AGAIN, "shape_mismatch", "y" * 1000, now=0.0)
    book.end(AGAIN)

    (report,) = book.reports(idle)
    assert (report.state, report.reason, report.attempt) == (
        VersionState.FAILED,
        "shape_mismatch",
        1,
    )
    assert report.detail == "y" * 500
    assert book.was_tried(AGAIN.name)


def test_a_version_that_is_held_is_not_tried_until_patience_ends() -> None:
    book = ledger()
    for number in range(PATIENCE):
        assert not book.was_tried(ONE.name), f"after {number} holds"
        book.hold(ONE, "engine_unavailable", "no answer", now=float(number))

    assert book.was_tried(ONE.name)


def test_a_held_version_that_is_then_judged_has_been_tried_for_good() -> None:
    book = ledger()
    book.hold(ONE, "store_unavailable", "no answer", now=0.0)
    book.fail(ONE, "shape_mismatch", "", now=1.0)
    assert book.was_tried(ONE.name)

    book.reached(ONE, Stage.LOADED)
    assert book.was_tried(ONE.name)


def test_what_was_held_before_a_success_does_not_count_after_it() -> None:
    book = ledger()
    for number in range(PATIENCE - 1):
        book.hold(ONE, "engine_unavailable", "no answer", now=float(number))
    book.reached(ONE, Stage.PROVEN)
    book.reached(ONE, Stage.LOADED)

    book.hold(ONE, "engine_unavailable", "no answer", now=9.0)

    assert not book.was_tried(ONE.name)
