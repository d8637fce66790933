"""Which objects outside manage which adapters, and which engines are about to end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both."""
    op.create_table(
        "managed_adapters",
        sa.Column("tenant_id", sa.String(length=255), nullable=False),
        sa.Column("adapter", sa.String(length=255), nullable=False),
        sa.Column("uid", sa.String(length=255), nullable=False),
        sa.Column("namespace", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("retires", sa.Boolean(), nullable=False),
        sa.Column("source_uri", sa.Text(), nullable=False),
        sa.Column("source_mark", sa.String(length=255), nullable=False),
        sa.Column("version_id", sa.String(length=255), nullable=False),
        sa.Column("managed_since", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "adapter"],
            ["adapters.tenant_id", "adapters.name"],
            name=op.f("fk_managed_adapters_tenant_id_adapter_adapters"),
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name=op.f("fk_managed_adapters_version_id_versions")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "adapter", name=op.f("pk_managed_adapters")),
    )
    op.add_column("engines", sa.Column("leaving_since", sa.Double(), nullable=True))
