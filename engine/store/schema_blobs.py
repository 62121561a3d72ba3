"""The tables of large payloads, and of executions that were purged."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, String, Table, UniqueConstraint, text

from engine.store.schema import ByteText, truth

_GOING = text("going")

# One row for each payload that is kept outside of the histories.
blobs = Table(
    "blobs",
    truth,
    Column("digest", String(64), primary_key=True),
    # equal bytes that are stored again while their blob is being removed are another blob; 0 = an old file
    Column("made_us", BigInteger, primary_key=True, autoincrement=False),
    # nobody refers to it: to be removed where it is kept, then here
    Column("going", Boolean, nullable=False),
    Index("ix_blobs_going", "digest", "made_us", sqlite_where=_GOING, postgresql_where=_GOING),
)

blob_holders = Table(
    "blob_holders",
    truth,
    Column("digest", String(64), primary_key=True),
    Column("made_us", BigInteger, primary_key=True, autoincrement=False),
    # id of the workflow whose history refers to it
    Column("holder", String(255), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Index(None, "holder"),
)

# What is left of an execution that was purged: that there was one, so that nothing brings it back and its id is not
# used again.
purged = Table(
    "purged",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    # when the last trace of it was found gone from Temporal; NULL = it is still being removed
    Column("done_us", BigInteger),
    # events and histories name an execution by its id alone
    UniqueConstraint("id"),
    Index(None, "done_us"),
)

for _table in (blobs, blob_holders, purged):
    for _column in _table.columns:
        if isinstance(_column.type, String):
            _column.type = _column.type.with_variant(ByteText(), "postgresql")
