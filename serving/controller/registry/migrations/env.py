"""Alembic's entry: migrate on the connection that `migrations.migrate` has opened and locked."""

from __future__ import annotations

from alembic import context

from serving.controller.registry.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
