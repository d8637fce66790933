"""A version's life: states, events, and which event leads where. Pure; the only such table.

uploading -> validating -> rejected
                        -> evaluating -> passed | failed | inconclusive
passed (or, overridden, failed | inconclusive) -> staging -> live -> superseded -> retired
"""

from __future__ import annotations

from enum import StrEnum

from serving.controller.errors import IllegalTransition


class State(StrEnum):
    """They complete the sentence "version acme/support@3 is ..."."""

    UPLOADING = "uploading"
    VALIDATING = "validating"
    REJECTED = "rejected"
    EVALUATING = "evaluating"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    PASSED = "passed"
    STAGING = "staging"
    LIVE = "live"
    SUPERSEDED = "superseded"
    RETIRED = "retired"


class Event(StrEnum):
    """What happens to a version; they complete "somebody or some step decided to ..."."""

    ACKNOWLEDGE = "acknowledge"
    """The bytes are safe: the upload's row is written."""
    ACCEPT = "accept"
    """Preflight found nothing that blocks."""
    REJECT = "reject"
    PASS = "pass"  # noqa: S105 - an event, not a password
    FAIL = "fail"
    HOLD = "hold"
    """The gate could not tell: inconclusive."""
    REEVALUATE = "reevaluate"
    PROMOTE = "promote"
    OVERRIDE = "override"
    """A named person promotes without PASS, with a reason."""
    WITHDRAW = "withdraw"
    """Leave staging again, back to what the verdict says."""
    SWITCH = "switch"
    """Every ready engine has proven it: the alias moves here."""
    SUPERSEDE = "supersede"
    """The alias moved away from here."""
    RESTORE = "restore"
    """Rollback: the alias moves back here."""
    RETIRE = "retire"


class Verdict(StrEnum):
    """The gate's answer."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


VERDICT_EVENT = {
    Verdict.PASS: Event.PASS,
    Verdict.FAIL: Event.FAIL,
    Verdict.INCONCLUSIVE: Event.HOLD,
}

VERDICT_STATE = {
    Verdict.PASS: State.PASSED,
    Verdict.FAIL: State.FAILED,
    Verdict.INCONCLUSIVE: State.INCONCLUSIVE,
}

_S, _E = State, Event
_TABLE: dict[Event, dict[State, State]] = {
    _E.ACKNOWLEDGE: {_S.UPLOADING: _S.VALIDATING},
    _E.ACCEPT: {_S.VALIDATING: _S.EVALUATING},
    _E.REJECT: {_S.VALIDATING: _S.REJECTED},
    _E.PASS: {_S.EVALUATING: _S.PASSED},
    _E.FAIL: {_S.EVALUATING: _S.FAILED},
    _E.HOLD: {_S.EVALUATING: _S.INCONCLUSIVE},
    _E.REEVALUATE: dict.fromkeys((_S.PASSED, _S.FAILED, _S.INCONCLUSIVE), _S.EVALUATING),
    # A superseded version may be promoted again once the rollback slot points elsewhere.
    _E.PROMOTE: dict.fromkeys((_S.PASSED, _S.SUPERSEDED), _S.STAGING),
    _E.OVERRIDE: dict.fromkeys((_S.FAILED, _S.INCONCLUSIVE, _S.SUPERSEDED), _S.STAGING),
    _E.SWITCH: {_S.STAGING: _S.LIVE},
    _E.SUPERSEDE: {_S.LIVE: _S.SUPERSEDED},
    _E.RESTORE: {_S.SUPERSEDED: _S.LIVE},
    _E.RETIRE: dict.fromkeys(
        (
            _S.VALIDATING, _S.REJECTED, _S.EVALUATING, _S.FAILED, _S.INCONCLUSIVE,
            _S.PASSED, _S.STAGING, _S.LIVE, _S.SUPERSEDED,
        ),
        _S.RETIRED,
    ),
}  # fmt: skip

SERVING_STATES = frozenset({State.STAGING, State.LIVE, State.SUPERSEDED})
"""An engine holds these ready for their tenant."""


def next_state(state: State, event: Event, *, verdict: Verdict | None = None) -> State:
    """Where `event` leads from `state`; `verdict` is the version's latest, for WITHDRAW.

    Raises:
        IllegalTransition: the state does not allow the event.
    """
    target = _TABLE.get(event, {}).get(state)
    if event is Event.WITHDRAW and state is State.STAGING and verdict is not None:
        target = VERDICT_STATE[verdict]
    if target is None:
        raise IllegalTransition(
            state=state.value, event=event.value, allowed=[e.value for e in allowed_events(state)]
        )
    return target


def allowed_events(state: State) -> list[Event]:
    """Events that `state` allows, in the order of `Event`."""
    return [
        event
        for event in Event
        if state in _TABLE.get(event, {}) or (event is Event.WITHDRAW and state is State.STAGING)
    ]
