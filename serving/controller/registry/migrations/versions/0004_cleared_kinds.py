"""Kinds of engines that may serve tenants, load probes by kind, where a restored registry began."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; a version's present load probe is that of the engine that it last passed on."""
    op.create_table(
        "cleared_kinds",
        sa.Column("engine_build", sa.String(length=255), nullable=False),
        sa.Column("base_revision", sa.String(length=255), nullable=False),
        sa.Column("dtype", sa.String(length=16), nullable=False),
        sa.Column("cleared_at", sa.Double(), nullable=False),
        sa.Column("cleared_by", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "engine_build", "base_revision", "dtype", name=op.f("pk_cleared_kinds")
        ),
    )
    op.add_column("fleets", sa.Column("upgrade_mode", sa.String(length=16), nullable=True))
    op.add_column("fleets", sa.Column("restored_revision", sa.BigInteger(), nullable=True))
    op.add_column("versions", sa.Column("probes", sa.JSON(), nullable=True))
    _say_whose_probes_they_are()


def _say_whose_probes_they_are() -> None:
    versions = sa.table(
        "versions",
        sa.column("id", sa.String()),
        sa.column("probe", sa.JSON(none_as_null=True)),
        sa.column("probes", sa.JSON(none_as_null=True)),
    )
    reports = sa.table(
        "gate_reports",
        *(
            sa.column(name)
            for name in (
                "version_id", "attempt", "recheck", "verdict",
                "engine_build", "base_revision", "dtype",
            )
        ),
    )  # fmt: skip
    connection = op.get_bind()
    passed = sa.select(reports).where(
        reports.c.verdict == "PASS",
        reports.c.engine_build.is_not(None),
        reports.c.base_revision.is_not(None),
        reports.c.dtype.is_not(None),
    )
    kinds: dict[str, dict[str, Any]] = {
        row.version_id: {
            "build": row.engine_build, "base_revision": row.base_revision, "dtype": row.dtype,
        }
        for row in connection.execute(passed.order_by(reports.c.attempt, reports.c.recheck))
    }  # fmt: skip
    for version_id, probe in connection.execute(sa.select(versions.c.id, versions.c.probe)).all():
        if probe is not None and version_id in kinds:
            said = [{"kind": kinds[version_id], "probe": probe}]
            connection.execute(
                sa.update(versions).where(versions.c.id == version_id).values(probes=said)
            )
