"""Tables of what LLM backends are asked by all workers together, so that limits hold for all of them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table

from engine.store.schema import ByteText, truth

# One row for each backend with limits: how calls are spread over a minute. A bucket is kept as the time at which it
# would be full again: asking moves that time on, and who comes too early is told when its turn is.
backend_limits = Table(
    "backend_limits",
    truth,
    Column("backend", String(128), primary_key=True),
    Column("requests_us", BigInteger, nullable=False),
    Column("tokens_us", BigInteger, nullable=False),
    # the same for calls at one time: when the last of those that wait may expect a place
    Column("places_us", BigInteger, nullable=False),
)

# What was sent to a backend, by slots of time: what decides whether there is room for more.
backend_sent = Table(
    "backend_sent",
    truth,
    Column("backend", String(128), primary_key=True),
    Column("slot_us", BigInteger, primary_key=True, autoincrement=False),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
)

# One row for each call under way at a backend that bounds them, by a hash; a worker that lives renews it.
backend_calls = Table(
    "backend_calls",
    truth,
    Column("id", String(64), primary_key=True),
    Column("backend", String(128), nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Index("ix_backend_calls_backend", "backend", "until_us"),
)

for _table in (backend_limits, backend_sent, backend_calls):
    for _column in _table.columns:
        if isinstance(_column.type, String):
            _column.type = _column.type.with_variant(ByteText(), "postgresql")
