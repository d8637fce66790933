"""The term of the leader whose writes count, where several controllers share one registry."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the term; no leader has ever taken one."""
    op.add_column(
        "fleets", sa.Column("leader_term", sa.BigInteger(), nullable=False, server_default="0")
    )
