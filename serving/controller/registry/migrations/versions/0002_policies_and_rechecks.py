"""Gate policies by scope, and re-checks of versions in service."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the policies, what a report is a proof for, and where a version's re-check is."""
    op.create_table(
        "policies",
        sa.Column("scope_key", sa.String(length=255), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("tenant_id", sa.String(length=255), nullable=True),
        sa.Column("adapter", sa.String(length=255), nullable=True),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_policies_tenant_id")),
        sa.PrimaryKeyConstraint("scope_key", "number", name=op.f("pk_policies")),
    )
    op.add_column("versions", sa.Column("recheck", sa.JSON(), nullable=True))
    op.add_column("versions", sa.Column("recheck_at", sa.Double(), nullable=True))
    with op.batch_alter_table("gate_reports") as batch:
        batch.add_column(sa.Column("recheck", sa.BigInteger(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("verdict", sa.String(length=16), nullable=True))
        batch.add_column(sa.Column("engine_build", sa.String(length=255), nullable=True))
        batch.add_column(sa.Column("base_revision", sa.String(length=255), nullable=True))
        batch.add_column(sa.Column("dtype", sa.String(length=16), nullable=True))
        batch.drop_constraint(op.f("pk_gate_reports"), type_="primary")
        batch.create_primary_key(op.f("pk_gate_reports"), ["version_id", "attempt", "recheck"])
