"""Entry of alembic: runs the scripts on the connection it is given, inside that connection's transaction."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
# SQLite's DDL is transactional once the driver leaves BEGIN to us, so a killed migration leaves nothing half done
context.configure(connection=connection, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
