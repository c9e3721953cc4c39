"""Alembic's entry: runs on the connection, and in the transaction, that ``engine.upgrade`` hands over."""

from alembic import context

from dispatcher.adapters.sql.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
