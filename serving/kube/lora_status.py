"""What a LoraAdapter's status says: its version's state, three conditions, and why it fails. Pure.

    Accepted    the object is legal, its adapter is its own, and what its source holds is registered
    Evaluated   the gate has answered, and the answer is PASS
    Live        this version answers the tenant's requests

Progress is left out on purpose: a status is written when something changes that a person would act
on, not twice a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from serving.controller.lifecycle import State, Verdict
from serving.kube.kinds import Json
from serving.kube.lora_adapter import Problem, Resource

MAX_MESSAGE = 2000
"""Of a failure, in characters; the report and the API have the rest."""
_MAX_FINDINGS = 8
_FIELDS = (
    "observedGeneration", "version", "state", "verdict", "digest", "live", "report", "failure",
    "conditions",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFacts:
    """The version that an object's source gave, as the registry has it."""

    id: str
    number: int
    state: State
    digest: str
    verdict: Verdict | None = None
    promote_mode: str = "auto"
    findings: tuple[Json, ...] = ()
    reasons: tuple[str, ...] = ()
    """Of the verdict, in words."""
    error: Mapping[str, Any] = field(default_factory=dict)
    """Why its present step was put off."""
    override: str | None = None
    """Who promoted it without PASS, and why."""
    outages: tuple[str, ...] = ()
    """Engines that hold it no more, in words."""
    recheck_failed: bool = False
    has_report: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a status is made of."""

    is_registered: bool = False
    """What its source holds at this generation is registered."""
    version: VersionFacts | None = None
    live: int | None = None
    """Number of the version that the alias points to."""
    problem: Problem | None = None
    """Why it is not accepted."""


@dataclass(frozen=True, slots=True)
class _Condition:
    status: str
    reason: str
    message: str


def render_status(resource: Resource, facts: Facts, *, before: Json, now: float) -> Json:
    """The whole status; `before`: the present one, from which times of transitions are kept."""
    version = facts.version
    conditions = {
        "Accepted": _accepted(facts),
        "Evaluated": _evaluated(facts),
        "Live": _live(facts),
    }
    status: Json = {
        "observedGeneration": resource.generation,
        "state": _state(facts),
        "conditions": [
            _condition(name, item, resource=resource, before=before, now=now)
            for name, item in conditions.items()
        ],
    }
    if version is not None:
        status |= {"version": version.number, "digest": version.digest}
        if version.verdict is not None:
            status["verdict"] = version.verdict.value
        if version.has_report:
            tenant, _, rest = version.id.partition("/")
            adapter = rest.partition("@")[0]
            path = f"/v1/tenants/{tenant}/adapters/{adapter}/versions/{version.number}/report"
            status["report"] = path
    if facts.live is not None:
        status["live"] = facts.live
    if (failure := find_failure(facts)) is not None:
        status["failure"] = {"reason": failure.reason, "message": failure.message}
    return status


def diff_status(before: Json, after: Json) -> Json | None:
    """The merge patch that leads from one status to the other; None: they say the same."""
    patch = {name: after.get(name) for name in _FIELDS if before.get(name) != after.get(name)}
    return patch or None


def condition_of(status: Json, name: str) -> Json:
    """One condition of a status; empty where there is none."""
    for item in status.get("conditions") or ():
        if isinstance(item, dict) and item.get("type") == name:
            return item
    return {}


def find_failure(facts: Facts) -> Problem | None:
    """Why the object does not go on, in words; None while nothing is wrong."""
    if facts.problem is not None:
        return _bounded(facts.problem)
    version = facts.version
    if version is None:
        return None
    is_live = facts.live == version.number
    if is_live:
        return _live_failure(version)
    if version.state in _JUDGED_AGAINST:
        return _bounded(Problem(_JUDGED_AGAINST[version.state], _verdict_text(version)))
    if (blocked := _blocked(version)) is not None:
        return blocked
    if version.error.get("terminal"):
        return _bounded(Problem("StepFailed", _error_text(version.error)))
    return None


_JUDGED_AGAINST = {
    State.REJECTED: "Rejected",
    State.FAILED: "GateFailed",
    State.INCONCLUSIVE: "Inconclusive",
}
_OF_VERDICT = {
    Verdict.PASS: ("True", "Passed"),
    Verdict.FAIL: ("False", "GateFailed"),
    Verdict.INCONCLUSIVE: ("False", "Inconclusive"),
}
_ON_ITS_WAY = {
    State.UPLOADING: ("Validating", "its bytes are being stored"),
    State.VALIDATING: ("Validating", "its files are being checked"),
    State.EVALUATING: ("Evaluating", "the gate measures it"),
}


def _state(facts: Facts) -> str:
    if facts.version is not None:
        return facts.version.state.value
    return "pending" if facts.problem is None else "refused"


def _accepted(facts: Facts) -> _Condition:
    if facts.problem is not None:
        problem = _bounded(facts.problem)
        return _Condition("False", problem.reason, problem.message)
    if facts.version is None or not facts.is_registered:
        return _Condition("Unknown", "Reading", "its source is being read")
    return _Condition("True", "Registered", f"its source is registered as {facts.version.id}")


def _evaluated(facts: Facts) -> _Condition:
    version = facts.version
    if version is None:
        return _Condition("Unknown", "NotRegistered", "there is no version yet")
    if version.verdict is not None:
        status, reason = _OF_VERDICT[version.verdict]
        return _Condition(status, reason, _verdict_text(version))
    if version.state is State.REJECTED:
        return _Condition("False", "Rejected", _verdict_text(version))
    if version.state in _ON_ITS_WAY:
        reason, text = _ON_ITS_WAY[version.state]
        if version.error:
            text += f"; put off: {_error_text(version.error)}"
        return _Condition("Unknown", reason, text[:MAX_MESSAGE])
    return _Condition("Unknown", "NotEvaluated", "it was retired before the gate had answered")


def _live(facts: Facts) -> _Condition:
    version = facts.version
    if version is None:
        return _Condition("False", "NotRegistered", _serving(facts, "there is no version yet"))
    if facts.live == version.number:
        failure = _live_failure(version)
        text = f"{version.id} answers" if failure is None else failure.message
        if version.override is not None:
            text += f"; promoted without PASS by {version.override}"
        return _Condition("True", "Live", text[:MAX_MESSAGE])
    reason, text = _not_live(version)
    return _Condition("False", reason, _serving(facts, text))


def _not_live(version: VersionFacts) -> tuple[str, str]:
    if version.state in _JUDGED_AGAINST:
        return _JUDGED_AGAINST[version.state], "the gate did not let it pass"
    if version.state in _ON_ITS_WAY:
        return _ON_ITS_WAY[version.state][0], "the gate has not answered yet"
    if (blocked := _blocked(version)) is not None:
        return blocked.reason, blocked.message
    match version.state:
        case State.PASSED if version.promote_mode == "manual":
            return "AwaitingPromotion", "it has passed; promote it (spec.promote is manual)"
        case State.PASSED:
            return "Held", "it has passed, but did not go live; the audit says why"
        case State.STAGING:
            return "Staging", "engines are loading and proving it"
        case State.LIVE:
            # The alias was read a moment before or after.
            return "Switching", "its alias is on its way"
        case State.SUPERSEDED:
            return "Superseded", "it was live, and another version is now"
    return "Retired", "it was retired; change the source to register another version"


def _serving(facts: Facts, text: str) -> str:
    if facts.version is not None and facts.live is not None:
        adapter = facts.version.id.partition("@")[0]
        text += f"; {adapter}@{facts.live} answers"
    return text[:MAX_MESSAGE]


def _live_failure(version: VersionFacts) -> Problem | None:
    if version.outages:
        text = f"{version.id} is live, but {'; '.join(version.outages)}"
        return _bounded(Problem("EngineCannotServe", text))
    if version.recheck_failed:
        text = f"{version.id} is live, but did not pass on the engines that run now"
        return Problem("RecheckFailed", text)
    return None


def _blocked(version: VersionFacts) -> Problem | None:
    """What keeps a version that may go live from it: an engine, or time."""
    if version.state not in {State.STAGING, State.PASSED, State.SUPERSEDED}:
        return None
    failed = version.error.get("failed") or ()
    if failed:
        return _bounded(Problem("EngineCannotLoad", "; ".join(map(_engine_text, failed))))
    if version.error.get("code") == "stage_timeout":
        waiting = ", ".join(map(str, version.error.get("waiting_for") or ())) or "any engine"
        text = f"it was not proven in time; waited for {waiting}. Promote it to try again"
        return _bounded(Problem("StageTimeout", text))
    return None


def _engine_text(failure: Mapping[str, Any]) -> str:
    text = f"engine {failure.get('engine')} cannot load it: {failure.get('reason')}"
    return f"{text} ({failure['detail']})" if failure.get("detail") else text


def _verdict_text(version: VersionFacts) -> str:
    if version.state is State.REJECTED and version.verdict is None:
        blocking = [item for item in version.findings if item.get("severity") == "blocking"]
        shown = [_finding_text(item) for item in blocking[:_MAX_FINDINGS]]
        if len(blocking) > len(shown):
            shown.append(f"and {len(blocking) - len(shown)} more findings")
        return " ".join(shown)[:MAX_MESSAGE] or "preflight refused its files"
    name = version.verdict.value if version.verdict is not None else "no verdict"
    return ": ".join([name, "; ".join(version.reasons)])[:MAX_MESSAGE].removesuffix(": ")


def _finding_text(finding: Mapping[str, Any]) -> str:
    where = f" ({finding['where']})" if finding.get("where") else ""
    return f"{finding.get('code')}{where}: {finding.get('meaning')} {finding.get('fix')}"


def _error_text(error: Mapping[str, Any]) -> str:
    shown = [f"{key} {error[key]}" for key in ("reason", "detail", "error") if error.get(key)]
    return " ".join([str(error.get("code")), *(f"({text})" for text in shown)])


def _bounded(problem: Problem) -> Problem:
    return Problem(problem.reason, problem.message[:MAX_MESSAGE])


def _condition(
    name: str, item: _Condition, *, resource: Resource, before: Json, now: float
) -> Json:
    old = condition_of(before, name)
    since = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": name,
        "status": item.status,
        "reason": item.reason,
        "message": item.message,
        "observedGeneration": resource.generation,
        "lastTransitionTime": old.get("lastTransitionTime", since)
        if old.get("status") == item.status
        else since,
    }
