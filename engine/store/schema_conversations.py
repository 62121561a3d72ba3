"""Table of what agents and models have said to each other, so that each call need carry only what is new."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, String, Table, Text

from engine.store.schema import ByteText, truth

# One row for each reply of a model: what was new in the call, and the reply. It is a copy that may be lost, since the
# execution itself has the whole conversation; rows of one conversation hang together by hashes, so that a call that
# was made twice leaves two rows of which the next call names one.
conversations = Table(
    "conversations",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("execution_id", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    # over all messages up to and with those of this row
    Column("hash", String(64), primary_key=True),
    # the same of the row before; empty = it is the first one
    Column("before", String(64), nullable=False),
    # of the messages up to and with those of this row
    Column("number", Integer, nullable=False),
    Column("messages", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False, index=True),
)

for _column in conversations.columns:
    if isinstance(_column.type, String):
        _column.type = _column.type.with_variant(ByteText(), "postgresql")
