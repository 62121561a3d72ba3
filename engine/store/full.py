"""Says in one voice that a store has no space left, or that its disk fails."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from engine.core.errors import Unavailable

NO_SPACE_STATE = "53100"
"""PostgreSQL's `disk_full`."""
FULL_HINT = "make space: what could not be written is written then, and nothing that was acknowledged is lost"


def store_full(place: str) -> Unavailable:
    """Return the error of a store that has no space left."""
    return Unavailable(
        f"there is no space left for the store {place}", code="store.full", hint=FULL_HINT, retryable=True
    )


def explain_sqlite(error: BaseException, place: str) -> Unavailable | None:
    """Return what an error of SQLite means for whoever wanted to write; None if it is not about the disk.

    Args:
        error: What SQLAlchemy or the driver raised.
        place: The store, for people.
    """
    for cause in _causes(error):
        code = getattr(cause, "sqlite_errorcode", None) if isinstance(cause, sqlite3.Error) else None
        if code is None:
            continue
        # the lowest byte is the family, the rest says where it happened
        if code & 0xFF == sqlite3.SQLITE_FULL:
            return store_full(place)
        # the shared memory beside the log has to grow before anything is written
        if code == sqlite3.SQLITE_IOERR_SHMSIZE:
            return store_full(place)
        if code & 0xFF == sqlite3.SQLITE_IOERR:
            return Unavailable(
                f"the disk of the store {place} fails: {cause} ({getattr(cause, 'sqlite_errorname', code)})",
                code="store.disk",
                hint="look at the disk, at its quota and at the limits of this process (`ulimit -f`)",
                retryable=True,
            )
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = getattr(found, "orig", None) or found.__cause__
