"""Table of the summaries of sessions that are under way."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, String, Table, Text

from engine.store.schema import ByteText, truth

# Gone as soon as the summary stands among the entries, or has failed. `id` is that of the execution which makes it.
session_summaries = Table(
    "session_summaries",
    truth,
    Column("tenant", String(64), primary_key=True),
    # at most one of a session at a time
    Column("session_id", String(64), primary_key=True),
    Column("id", String(64), nullable=False),
    # JSON: what the model is asked
    Column("request", Text, nullable=False),
    # JSON: ids of the entries that it will stand for
    Column("entries", Text, nullable=False),
    # until then nobody else starts it
    Column("lease_us", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

for _column in session_summaries.columns:
    if isinstance(_column.type, String):
        _column.type = _column.type.with_variant(ByteText(), "postgresql")
