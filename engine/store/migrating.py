"""Runs the migrations of engine/store/migrations inside one transaction; one query when there is nothing to do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.core.errors import Unavailable
from engine.store.locks import lock_migrations

HEAD = "0016"
"""Newest revision; a test holds it equal to the head of the scripts."""

VERSION_TABLE = "alembic_version"
SCRIPTS = Path(__file__).parent / "migrations"

POLL_S = 0.01
"""How often a migration that waits for another one asks whether it is over."""
_MIGRATING = threading.Lock()


def current_revision(connection: Connection) -> str:
    """Return the revision a database stands at, or an empty text for an empty one."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return ""
    return str(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() or "")  # noqa: S608 our own constant


def upgrade(connection: Connection) -> None:
    """Run all missing migrations on a connection whose write transaction is open.

    Raises:
        Unavailable: `store.newer` if the database stands at a revision that these scripts do not know.
    """
    lock_migrations(connection)
    found = current_revision(connection)
    if found == HEAD:
        return  # another process was quicker while this one waited for the lock
    # imported late: alembic costs 0.1 s that a start on a ready store need not pay
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found and found not in known:
        raise Unavailable(
            f"the store was made by a newer engine (revision {found}, this one knows up to {HEAD})",
            code="store.newer",
            hint="start the engine's newer version, or point EVERSTEP_DATABASE_URL at another store",
        )
    command.upgrade(config, "head")


async def bring_to_head(readers: AsyncEngine, writers: AsyncEngine) -> None:
    """Migrate if the version table does not say that everything is done.

    Args:
        readers: Engine for the quick look.
        writers: Engine whose transactions take the write lock at once, so that of several processes one migrates.

    Raises:
        Unavailable: As `upgrade`.
    """
    async with readers.connect() as connection:
        if await connection.run_sync(current_revision) == HEAD:
            return
    async with _alone(), writers.connect() as connection, connection.begin():
        await connection.run_sync(upgrade)


@asynccontextmanager
async def _alone() -> AsyncIterator[None]:
    """Wait until no other migration runs in this process: alembic keeps the one under way in module globals."""
    # asked again and again: waiting in the lock would stop the event loop that has to release it, and an asyncio lock
    # belongs to one loop
    while not _MIGRATING.acquire(blocking=False):  # noqa: ASYNC110 - see above
        await asyncio.sleep(POLL_S)
    try:
        yield
    finally:
        _MIGRATING.release()
