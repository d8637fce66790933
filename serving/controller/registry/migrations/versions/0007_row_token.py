"""A token on each version that changes with every write: readers see what they have read before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the token; what is there has never been read."""
    op.add_column(
        "versions", sa.Column("row_token", sa.BigInteger(), nullable=False, server_default="0")
    )
