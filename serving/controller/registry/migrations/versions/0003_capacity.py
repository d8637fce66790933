"""Samples of the engines' counts, and which adapters engines shall prefer to keep."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add samples with what they are differences to, residency wishes, and the mode's switch."""
    op.create_table(
        "capacity_marks",
        sa.Column("engine_id", sa.String(length=255), nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("engine_id", name=op.f("pk_capacity_marks")),
    )
    op.create_table(
        "capacity_samples",
        sa.Column("engine_id", sa.String(length=255), nullable=False),
        sa.Column("bucket", sa.BigInteger(), nullable=False),
        sa.Column("sample", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("engine_id", "bucket", name=op.f("pk_capacity_samples")),
    )
    op.create_index(op.f("ix_capacity_samples_bucket"), "capacity_samples", ["bucket"])
    op.create_table(
        "residency_wishes",
        sa.Column("engine_id", sa.String(length=255), nullable=False),
        sa.Column("hot", sa.JSON(), nullable=False),
        sa.Column("companions", sa.JSON(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("engine_id", name=op.f("pk_residency_wishes")),
    )
    op.add_column("fleets", sa.Column("residency_mode", sa.String(length=16), nullable=True))
    op.add_column("fleets", sa.Column("residency_owner", sa.String(length=255), nullable=True))
    op.add_column("fleets", sa.Column("residency_until", sa.Double(), nullable=True))
    op.add_column(
        "engines",
        sa.Column("report_token", sa.String(length=32), nullable=False, server_default=""),
    )
    op.add_column("engines", sa.Column("sample_bucket", sa.BigInteger(), nullable=True))
