"""A token on each version that changes with every write: readers see what they have read before.

While an upgrade rolls out, controllers of the version before still write, and know no token; so may
a person with SQL. What they change gets a new one from the database itself.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_POSTGRESQL = (
    """
    CREATE OR REPLACE FUNCTION loraplane_new_row_token() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.row_token := floor(random() * 4611686018427387904)::bigint;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER loraplane_row_token BEFORE UPDATE ON versions FOR EACH ROW
    WHEN (NEW.row_token = OLD.row_token) EXECUTE FUNCTION loraplane_new_row_token()
    """,
)
_SQLITE = (
    """
    CREATE TRIGGER loraplane_row_token AFTER UPDATE ON versions FOR EACH ROW
    WHEN NEW.row_token = OLD.row_token
    BEGIN
        UPDATE versions SET row_token = abs(random() % 4611686018427387904) WHERE id = NEW.id;
    END
    """,
)


def upgrade() -> None:
    """Add the token; what is there has never been read."""
    op.add_column(
        "versions", sa.Column("row_token", sa.BigInteger(), nullable=False, server_default="0")
    )
    is_sqlite = op.get_context().dialect.name == "sqlite"
    for statement in _SQLITE if is_sqlite else _POSTGRESQL:
        op.execute(statement)
