"""The API's bodies. Times are Unix seconds; `name` of a version is `acme/support@3`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from adapters.parity.policy import ResolvedPolicy
from serving.contract import VersionReport
from serving.controller.auth import DEFAULT_SCOPES, Scope
from serving.controller.fleet_health import EngineState
from serving.controller.gate_wait import GateWait
from serving.controller.lifecycle import State, Verdict, allowed_events
from serving.controller.registry.fleet import ObservedEngine
from serving.controller.registry.tables import (
    AuditRow,
    KeyRow,
    PolicyRow,
    SuiteRow,
    TenantRow,
    VersionRow,
)

Reason = Annotated[str, Field(min_length=3, max_length=2000)]
DisplayName = Annotated[str, Field(min_length=1, max_length=200)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TenantIn(_In):
    """A new tenant."""

    id: str
    display_name: DisplayName | None = None
    max_in_flight: Annotated[int, Field(ge=1)] | None = None


class TenantChange(_In):
    """Fields to change; those left out stay."""

    display_name: DisplayName = ""
    max_in_flight: Annotated[int, Field(ge=1)] | None = None


class TenantOut(BaseModel):
    """A tenant."""

    id: str
    display_name: str
    max_in_flight: int | None
    created_at: float

    @classmethod
    def of(cls, row: TenantRow) -> TenantOut:
        """From its row."""
        return cls(
            id=row.id,
            display_name=row.display_name,
            max_in_flight=row.max_in_flight,
            created_at=row.created_at,
        )


class TenantList(BaseModel):
    """All tenants."""

    tenants: list[TenantOut]


class KeyIn(_In):
    """A new API key."""

    name: DisplayName = "default"
    scopes: Annotated[list[Scope], Field(min_length=1)] = list(DEFAULT_SCOPES)
    expires_at: AwareDatetime | None = None
    """RFC 3339, or Unix seconds."""
    fallback: Literal["none", "base"] = "none"


class KeyOut(BaseModel):
    """An API key without the key itself."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    fallback: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None

    @classmethod
    def of(cls, row: KeyRow) -> KeyOut:
        """From its row."""
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class KeyCreated(KeyOut):
    """The only answer that holds the key."""

    key: str

    @classmethod
    def revealing(cls, row: KeyRow, key: str) -> KeyCreated:
        """From its row and the key, which is not kept."""
        return cls(**KeyOut.of(row).model_dump(), key=key)


class KeyList(BaseModel):
    """All keys of a tenant."""

    keys: list[KeyOut]


class SuiteOut(BaseModel):
    """One content of a suite."""

    id: str
    name: str
    number: int
    digest: str
    n_cases: int
    contamination: dict[str, Any] | None
    created_at: float

    @classmethod
    def of(cls, row: SuiteRow, *, max_leaks: int | None = None) -> SuiteOut:
        """From its row; at most `max_leaks` leaked cases of the report, `n_leaked` counts all."""
        suite = cls(**{name: getattr(row, name) for name in cls.model_fields})
        if suite.contamination is not None and max_leaks is not None:
            leaks = suite.contamination["leaks"][:max_leaks]
            suite.contamination = {**suite.contamination, "leaks": leaks}
        return suite


class SuiteList(BaseModel):
    """All contents of all suites of a tenant."""

    suites: list[SuiteOut]


class PolicySourceOut(BaseModel):
    """Where a field's value comes from; `number` where that scope's policies are numbered."""

    scope: Literal["default", "settings", "fleet", "tenant", "adapter"]
    number: int | None


class PolicyOut(BaseModel):
    """One scope's own policy, what holds there now, and where each field comes from."""

    scope: Literal["fleet", "tenant", "adapter"]
    key: str
    """The audit's subject of this scope's changes."""
    number: int | None
    """None: this scope has no policy of its own."""
    content: dict[str, Any]
    """Its own fields alone."""
    created_at: float | None
    created_by: str | None
    policy: dict[str, Any]
    """Every field, as it holds now (also where an old `number` was asked for)."""
    sources: dict[str, PolicySourceOut]
    """By dotted field name."""

    @classmethod
    def of(
        cls, row: PolicyRow | None, resolved: ResolvedPolicy, *, scope_key: str, scope: str
    ) -> PolicyOut:
        """From its row, if it has one, and what holds."""
        own: dict[str, Any] = dict.fromkeys(("number", "created_at", "created_by"))
        own["content"] = {}
        if row is not None:
            own = {name: getattr(row, name) for name in own}
        return cls.model_validate({**own, **resolved.to_json(), "scope": scope, "key": scope_key})


class OnEngine(BaseModel):
    """One version on one engine, as that engine reported it."""

    engine: str
    state: str
    reason: str | None
    detail: str | None
    in_flight: int
    seen_at: float


class VersionOut(BaseModel):
    """One version."""

    name: str
    tenant: str
    adapter: str
    version: int
    digest: str
    state: State
    verdict: Verdict | None
    size_bytes: int
    rank: int | None
    promote: str
    suite: str | None
    attempt: int
    findings: list[Any]
    progress: dict[str, Any] | None
    error: dict[str, Any] | None
    override_reason: str | None
    override_by: str | None
    recheck: dict[str, Any] | None
    """The latest re-check on another engine build or base: verdict, reason, reasons, report."""
    created_by: str
    created_at: float
    state_since: float
    live_since: float | None
    allowed: list[str]
    """Events that the present state allows."""
    engines: list[OnEngine] = []

    @classmethod
    def of(cls, row: VersionRow, engines: list[ObservedEngine] | None = None) -> VersionOut:
        """From its row and the engines' reports."""
        same = {"digest", "verdict", "size_bytes", "rank", "attempt", "progress", "error"}
        same |= {"override_reason", "override_by", "created_by", "created_at", "state_since"}
        same |= {"recheck"}
        state = State(row.state)
        return cls(
            **{name: getattr(row, name) for name in same},
            name=row.id,
            tenant=row.tenant_id,
            adapter=row.adapter,
            version=row.number,
            state=state,
            promote=row.promote_mode,
            suite=row.suite_id,
            findings=row.findings or [],
            live_since=row.live_since,
            allowed=[event.value for event in allowed_events(state)],
            engines=[
                _on_engine(item, engine)
                for engine in engines or []
                for item in engine.report.versions
                if item.name == row.id
            ],
        )


def versions_on_engines(engines: Iterable[ObservedEngine]) -> dict[str, list[OnEngine]]:
    """By version, what each engine that knows it says of it."""
    found: defaultdict[str, list[OnEngine]] = defaultdict(list)
    for engine in engines:
        for item in engine.report.versions:
            found[item.name].append(_on_engine(item, engine))
    return found


def _on_engine(item: VersionReport, engine: ObservedEngine) -> OnEngine:
    return OnEngine(
        engine=engine.report.engine_id,
        state=item.state.value,
        reason=item.reason,
        detail=item.detail,
        in_flight=item.in_flight,
        seen_at=engine.seen_at,
    )


class AdapterOut(BaseModel):
    """One adapter with its versions, newest first."""

    name: str
    tenant: str
    live: int | None
    """What the alias points to."""
    previous: int | None
    """Where a rollback leads."""
    created_at: float
    versions: list[VersionOut]


class AdapterList(BaseModel):
    """All adapters of a tenant."""

    adapters: list[AdapterOut]


class FleetAdapterList(AdapterList):
    """Adapters of all tenants; `total` counts those of the other pages too."""

    total: int


class PromoteIn(_In):
    """`override_reason` is needed where the gate has not passed the version."""

    override_reason: Reason | None = None


class ReasonIn(_In):
    """Why; kept in the audit."""

    reason: Reason | None = None


class EngineOut(BaseModel):
    """One engine and the last that it reported."""

    id: str
    state: EngineState
    seen_at: float
    report: dict[str, Any]
    gate: GateWait | None = None
    """What the gate has to measure before tenants reach it; null: it does not wait for that."""


class ClearIn(_In):
    """Why an engine's kind may answer tenants without the gate's word; kept in the audit."""

    reason: Reason


class EngineList(BaseModel):
    """All engines."""

    engines: list[EngineOut]


class EventOut(BaseModel):
    """One row of the audit trail."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    id: int
    at: float
    actor: str
    tenant: str | None
    subject: str
    action: str
    from_state: str | None = Field(serialization_alias="from")
    to_state: str | None = Field(serialization_alias="to")
    reason: str | None
    evidence: dict[str, Any] | None

    @classmethod
    def of(cls, row: AuditRow) -> EventOut:
        """From its row."""
        same = cls.model_fields.keys() - {"tenant"}
        return cls(**{name: getattr(row, name) for name in same}, tenant=row.tenant_id)


class EventList(BaseModel):
    """Audit rows, newest first; `last_id` resumes a stream."""

    events: list[EventOut]
    last_id: int
