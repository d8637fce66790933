"""An index with all that a snapshot asks of every version: which are held, and their tokens."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index; it changes nothing that was written."""
    op.create_index(
        "ix_versions_held", "versions", ["state", "gate_phase", "id", "row_token"], unique=False
    )
