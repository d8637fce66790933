"""A token on the fleet's revision: a reader knows whether a write was made on what it has read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the token; whoever has read before has read no token."""
    op.add_column(
        "fleets", sa.Column("revision_token", sa.BigInteger(), nullable=False, server_default="0")
    )
