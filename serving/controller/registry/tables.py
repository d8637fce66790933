"""The registry's tables. Rows leave this room detached and are read-only outside of it.

Times are Unix seconds. Nothing is ever deleted that names an artifact: names are not used twice.
Writes are serial (see `transactions`), so counters such as `FleetRow.revision` follow commit order.
"""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]
TOKEN_BITS = 62
"""What a signed 64-bit column holds for certain."""


class Base(DeclarativeBase):
    """All tables; constraints have deterministic names so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own protocol
        str: String(255),
        int: BigInteger,
        float: Double,
        bool: Boolean,
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
        list[str]: JSON,
    }


class FleetRow(Base):
    """Counters of the one served base model; its row is the write lock on PostgreSQL."""

    __tablename__ = "fleets"
    name: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(default=0)
    """Bumped in the same transaction as every change of the snapshot's content."""
    revision_token: Mapped[int] = mapped_column(default=0, server_default="0")
    """Random, another one with each revision: see `changes.Mark`."""
    audit_sequence: Mapped[int] = mapped_column(default=0)
    residency_mode: Mapped[str | None] = mapped_column(String(16))
    """`auto` or `off`; None: never set, so the controller's setting holds."""
    residency_owner: Mapped[str | None]
    """The one controller process that computes residency wishes, until the lease ends."""
    residency_until: Mapped[float | None]
    upgrade_mode: Mapped[str | None] = mapped_column(String(16))
    """`gate`: engines of a kind that is not cleared wait; else every engine may serve."""
    restored_revision: Mapped[int | None]
    """Where this registry went on, when engines followed a higher revision than it knew."""
    leader_term: Mapped[int] = mapped_column(default=0, server_default="0")
    """Writes of the steps under an older term are refused: see `leadership`."""


class TenantRow(Base):
    """Owner and isolation unit."""

    __tablename__ = "tenants"
    id: Mapped[str] = mapped_column(primary_key=True)
    display_name: Mapped[str]
    max_in_flight: Mapped[int | None]
    created_at: Mapped[float]
    deleted_at: Mapped[float | None]


class KeyRow(Base):
    """One API key; the key itself is shown once and never stored."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str]
    prefix: Mapped[str] = mapped_column(String(16))
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    fallback: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float]
    expires_at: Mapped[float | None]
    revoked_at: Mapped[float | None]


class AdapterRow(Base):
    """A tenant's named LoRA; hands out version numbers."""

    __tablename__ = "adapters"
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    next_number: Mapped[int]
    created_at: Mapped[float]


class SuiteRow(Base):
    """One immutable content of a suite; a new content gets the next number."""

    __tablename__ = "suites"
    id: Mapped[str] = mapped_column(primary_key=True)
    """`acme/refunds@2`."""
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str]
    number: Mapped[int]
    digest: Mapped[str]
    n_cases: Mapped[int]
    content: Mapped[str] = mapped_column(Text)
    """JSON lines."""
    contamination: Mapped[Json | None]
    created_at: Mapped[float]
    __table_args__ = (UniqueConstraint("tenant_id", "name", "number"),)


class VersionRow(Base):
    """One immutable version and where it is in its life."""

    __tablename__ = "versions"
    id: Mapped[str] = mapped_column(primary_key=True)
    """`acme/support@3`."""
    tenant_id: Mapped[str]
    adapter: Mapped[str]
    number: Mapped[int]
    digest: Mapped[str]
    files: Mapped[list[Any]]
    """`[{"name","sha256","size_bytes"}]`, sorted by name."""
    size_bytes: Mapped[int]
    rank: Mapped[int | None]
    state: Mapped[str] = mapped_column(String(16))
    """A `lifecycle.State` value."""
    verdict: Mapped[str | None] = mapped_column(String(16))
    promote_mode: Mapped[str] = mapped_column(String(8))
    """`auto` or `manual`."""
    suite_id: Mapped[str | None] = mapped_column(ForeignKey("suites.id"))
    attempt: Mapped[int] = mapped_column(default=0)
    """Counts re-evaluations and re-stagings; engines forget an earlier failure when it rises."""
    gate_phase: Mapped[str | None] = mapped_column(String(16))
    """`candidate` while engines shall hold an evaluating version for the gate."""
    findings: Mapped[list[Any] | None]
    probe: Mapped[Json | None]
    """`serving.contract.Probe` as JSON; the latest."""
    probes: Mapped[list[Any] | None]
    """`serving.contract.KindProbe`s as JSON, newest first: the latest of each engine kind."""
    progress: Mapped[Json | None]
    error: Mapped[Json | None]
    """Why the last try of a step was put off."""
    override_reason: Mapped[str | None] = mapped_column(Text)
    override_by: Mapped[str | None]
    created_by: Mapped[str]
    created_at: Mapped[float]
    state_since: Mapped[float]
    live_since: Mapped[float | None]
    """When it last became its alias's target."""
    released_at: Mapped[float | None]
    """Retired, and no reachable engine holds it any more."""
    recheck: Mapped[Json | None]
    """The latest re-check on another engine build or base: see `rechecks.Rechecks.conclude`."""
    recheck_at: Mapped[float | None]
    """No re-check is tried before this moment; None: whenever one is needed."""
    next_attempt_at: Mapped[float]
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    """Tries of the present step; 0 after a move."""
    lock_token: Mapped[str | None] = mapped_column(String(64))
    lock_owner: Mapped[str | None]
    lock_expires_at: Mapped[float | None]
    row_token: Mapped[int] = mapped_column(server_default="0")
    """Another one with every write: tells a reader whether it has seen this content. Random, so
    that a registry that came back from a backup never gives an old one to new content."""
    __mapper_args__ = {  # noqa: RUF012 - SQLAlchemy's own protocol
        "version_id_col": row_token,
        "version_id_generator": lambda _before: secrets.randbits(TOKEN_BITS),
    }
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "adapter"], ["adapters.tenant_id", "adapters.name"]),
        UniqueConstraint("tenant_id", "adapter", "number"),
        # The same bytes are the same version, until it is retired.
        Index(
            "ix_versions_live_digest",
            "tenant_id",
            "adapter",
            "digest",
            unique=True,
            sqlite_where=text("state != 'retired'"),
            postgresql_where=text("state != 'retired'"),
        ),
        Index("ix_versions_due", "state", "next_attempt_at"),
        # What a snapshot asks of every version: it need not look at the rows, which are large.
        Index("ix_versions_held", "state", "gate_phase", "id", "row_token"),
    )


class AliasRow(Base):
    """`model: support` of tenant acme means version `number`."""

    __tablename__ = "aliases"
    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    adapter: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]
    previous_number: Mapped[int | None]
    """Target of a rollback."""
    moved_at: Mapped[float]
    moved_by: Mapped[str]
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "adapter"], ["adapters.tenant_id", "adapters.name"]),
    )


class GateReportRow(Base):
    """What the gate measured at one attempt, or at a re-check of a version in service."""

    __tablename__ = "gate_reports"
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    recheck: Mapped[int] = mapped_column(primary_key=True, default=0, server_default="0")
    """0: the evaluation that decided; 1, 2, ...: later re-checks, which move nothing."""
    created_at: Mapped[float]
    report: Mapped[Json]
    verdict: Mapped[str | None] = mapped_column(String(16))
    engine_build: Mapped[str | None]
    """With `base_revision` and `dtype`, what this report proves; None: no engine answered."""
    base_revision: Mapped[str | None]
    """`BaseModelCard.revision`."""
    dtype: Mapped[str | None] = mapped_column(String(16))


class PolicyRow(Base):
    """One content of a scope's gate policy; a new content gets the next number."""

    __tablename__ = "policies"
    scope_key: Mapped[str] = mapped_column(primary_key=True)
    """`policy`, `policy:acme` or `policy:acme/support`; the audit's subject too."""
    number: Mapped[int] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(String(16))
    """`fleet`, `tenant` or `adapter`."""
    tenant_id: Mapped[str | None] = mapped_column(ForeignKey("tenants.id"))
    adapter: Mapped[str | None]
    """May be named before its first version is pushed, so it refers to no row."""
    content: Mapped[Json]
    """`adapters.parity.policy.PolicyPatch` as JSON."""
    created_at: Mapped[float]
    created_by: Mapped[str]


class AuditRow(Base):
    """One move: who, when, from, to, why, evidence. Never changed."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Rises in commit order without gaps, so that a reader may resume after the last one seen."""
    at: Mapped[float]
    actor: Mapped[str]
    tenant_id: Mapped[str | None] = mapped_column(index=True)
    subject: Mapped[str] = mapped_column(index=True)
    action: Mapped[str]
    from_state: Mapped[str | None]
    to_state: Mapped[str | None]
    reason: Mapped[str | None] = mapped_column(Text)
    evidence: Mapped[Json | None]


class EngineRow(Base):
    """The last report of one engine."""

    __tablename__ = "engines"
    id: Mapped[str] = mapped_column(primary_key=True)
    report: Mapped[Json]
    """`serving.contract.EngineReport` as JSON."""
    seen_at: Mapped[float]
    first_seen_at: Mapped[float]
    report_token: Mapped[str] = mapped_column(String(32), server_default="")
    """Another one with every report: tells a reader whether it has seen this one."""
    sample_bucket: Mapped[int | None]
    """Number of the sampling interval in which it last reported; see `capacity.sampling`."""
    leaving_since: Mapped[float | None]
    """Whoever started it has said that it is about to end; None: it stays."""


class CapacityMarkRow(Base):
    """What an engine had counted when its last sample was taken."""

    __tablename__ = "capacity_marks"
    engine_id: Mapped[str] = mapped_column(primary_key=True)
    mark: Mapped[str] = mapped_column(Text)
    """`capacity.sampling.Mark` as JSON."""


class CapacitySampleRow(Base):
    """What one engine counted within one sampling interval."""

    __tablename__ = "capacity_samples"
    engine_id: Mapped[str] = mapped_column(primary_key=True)
    bucket: Mapped[int] = mapped_column(primary_key=True, index=True)
    """Start of the interval, Unix seconds."""
    sample: Mapped[str] = mapped_column(Text)
    """`capacity.sampling.Sample` as JSON; text, because many are read at once."""


class WishesRow(Base):
    """Which adapters one engine shall prefer to keep."""

    __tablename__ = "residency_wishes"
    engine_id: Mapped[str] = mapped_column(primary_key=True)
    hot: Mapped[list[str]]
    """Hottest first."""
    companions: Mapped[Json]
    """Tenant -> names to bring into CPU memory when its burst begins."""
    changed_at: Mapped[float]


class NoiseFloorRow(Base):
    """Cached negative control: the base model through one engine build against its reference."""

    __tablename__ = "noise_floors"
    build: Mapped[str] = mapped_column(primary_key=True)
    base_revision: Mapped[str] = mapped_column(primary_key=True)
    dtype: Mapped[str] = mapped_column(primary_key=True)
    floor: Mapped[Json]
    measured_at: Mapped[float]


class ClearedKindRow(Base):
    """A kind of engine that may serve tenants; once written it stays."""

    __tablename__ = "cleared_kinds"
    engine_build: Mapped[str] = mapped_column(primary_key=True)
    base_revision: Mapped[str] = mapped_column(primary_key=True)
    dtype: Mapped[str] = mapped_column(String(16), primary_key=True)
    cleared_at: Mapped[float]
    cleared_by: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)


class ManagedRow(Base):
    """Which object outside manages an adapter, and what it gave; see `managed`."""

    __tablename__ = "managed_adapters"
    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    adapter: Mapped[str] = mapped_column(primary_key=True)
    uid: Mapped[str]
    """Of the object; names are used again, uids are not."""
    namespace: Mapped[str]
    name: Mapped[str]
    generation: Mapped[int]
    """Of the object, when its source was last found to be what is registered."""
    retires: Mapped[bool]
    """Whether the object's deletion retires what it registered."""
    source_uri: Mapped[str] = mapped_column(Text)
    source_mark: Mapped[str]
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"))
    managed_since: Mapped[float]
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "adapter"], ["adapters.tenant_id", "adapters.name"]),
    )


class IdempotencyRow(Base):
    """What an Idempotency-Key was used for."""

    __tablename__ = "idempotency_keys"
    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request: Mapped[str] = mapped_column(Text)
    """Fingerprint of the request that was answered."""
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"))
    created_at: Mapped[float]
