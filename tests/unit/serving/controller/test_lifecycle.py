"""The table of states and events."""

from __future__ import annotations

import pytest

from serving.controller.errors import IllegalTransition
from serving.controller.lifecycle import (
    SERVING_STATES,
    VERDICT_EVENT,
    VERDICT_STATE,
    Event,
    State,
    Verdict,
    allowed_events,
    next_state,
)


def test_every_state_is_reached_from_uploading_and_can_end_retired() -> None:
    reached, edges = {State.UPLOADING}, True
    while edges:
        found = {
            next_state(state, event, verdict=verdict)
            for state in reached
            for event in allowed_events(state)
            for verdict in Verdict
        }
        edges = bool(found - reached)
        reached |= found

    assert reached == set(State)
    for state in set(State) - {State.UPLOADING, State.RETIRED}:
        assert next_state(state, Event.RETIRE) is State.RETIRED


def test_nothing_leads_out_of_retired() -> None:
    assert allowed_events(State.RETIRED) == []


def test_only_staging_leads_to_live_except_for_a_rollback() -> None:
    into_live = {
        (state, event)
        for state in State
        for event in allowed_events(state)
        if next_state(state, event, verdict=Verdict.PASS) is State.LIVE
    }

    assert into_live == {(State.STAGING, Event.SWITCH), (State.SUPERSEDED, Event.RESTORE)}


def test_a_version_that_never_passed_reaches_staging_by_override_alone() -> None:
    for state in (State.FAILED, State.INCONCLUSIVE):
        assert next_state(state, Event.OVERRIDE) is State.STAGING
        with pytest.raises(IllegalTransition):
            next_state(state, Event.PROMOTE)


def test_a_rejected_version_goes_nowhere_but_out() -> None:
    assert allowed_events(State.REJECTED) == [Event.RETIRE]


@pytest.mark.parametrize("verdict", list(Verdict))
def test_leaving_staging_leads_back_to_the_verdict(verdict: Verdict) -> None:
    assert next_state(State.STAGING, Event.WITHDRAW, verdict=verdict) is VERDICT_STATE[verdict]
    assert next_state(State.EVALUATING, VERDICT_EVENT[verdict]) is VERDICT_STATE[verdict]


def test_an_illegal_move_names_state_event_and_what_is_allowed() -> None:
    with pytest.raises(IllegalTransition) as caught:
        next_state(State.LIVE, Event.ACCEPT)

    assert caught.value.fields == {
        "state": "live",
        "event": "accept",
        "allowed": ["supersede", "retire"],
    }


def test_staging_without_a_verdict_cannot_be_withdrawn() -> None:
    with pytest.raises(IllegalTransition):
        next_state(State.STAGING, Event.WITHDRAW)


def test_engines_hold_what_is_staged_live_or_superseded() -> None:
    assert {State.STAGING, State.LIVE, State.SUPERSEDED} == SERVING_STATES
