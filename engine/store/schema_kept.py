"""Table of replies and outputs that are kept for equal calls."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, String, Table, Text

from engine.store.schema import ByteText, truth

# One row for each call whose outcome is kept; it goes with the execution that made the call.
kept_replies = Table(
    "kept_replies",
    truth,
    Column("tenant", String(64), primary_key=True),
    # a hash of all that makes calls equal
    Column("id", String(64), primary_key=True),
    Column("execution_id", String(200), nullable=False, index=True),
    Column("body", Text, nullable=False),
    Column("chars", Integer, nullable=False),
    Column("at_us", BigInteger, nullable=False, index=True),
    Column("until_us", BigInteger, nullable=False, index=True),
)

for _column in kept_replies.columns:
    if isinstance(_column.type, String):
        _column.type = _column.type.with_variant(ByteText(), "postgresql")
