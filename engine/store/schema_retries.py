"""Table of requests that clients may repeat without a key."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, String, Table

from engine.store.schema import ByteText, truth

# One row for each request of the last hour: a hash of what was asked, and the key under which it is answered.
blind_retries = Table(
    "blind_retries",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("fingerprint", String(64), primary_key=True),
    Column("key", String(64), nullable=False),
    Column("at_us", BigInteger, nullable=False, index=True),
)

for _column in blind_retries.columns:
    if isinstance(_column.type, String):
        _column.type = _column.type.with_variant(ByteText(), "postgresql")
