"""Tables of what model calls have used of limits and budgets, and of what those under way may use."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table

from engine.store.schema import ByteText, truth

# One row for each thing that is used up: what one execution may use, or one period of a budget.
spending = Table(
    "spending",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("pot", String(400), primary_key=True),
    # empty = the limits of an execution
    Column("budget", String(128), nullable=False),
    # empty = it is not of one execution alone
    Column("execution_id", String(200), nullable=False, index=True),
    Column("since_us", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Index("ix_spending_budget_since_us", "budget", "since_us"),
)

# One row for each call under way and each thing that it uses up; a worker that lives renews it.
spending_reserved = Table(
    "spending_reserved",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("pot", String(400), primary_key=True),
    Column("call_id", String(64), primary_key=True),
    Column("execution_id", String(200), nullable=False, index=True),
    Column("cost_nano", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Index("ix_spending_reserved_call_id", "call_id"),
)

for _table in (spending, spending_reserved):
    for _column in _table.columns:
        if isinstance(_column.type, String):
            _column.type = _column.type.with_variant(ByteText(), "postgresql")
