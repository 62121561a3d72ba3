"""Attempts at calls in the tables: rows from facts and back, and the pages that callers read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, tuple_

from engine.core.run.attempts import CANCELLED, RUNNING, AttemptFacts
from engine.store.database import Database
from engine.store.schema import attempts
from engine.store.texts import plain, plain_id

MOST_KEYS = 300
"""Most keys in one statement, of three parameters each; SQLite's builds differ in how many they take."""

_FACTS = tuple(column.name for column in attempts.c)[2:]
"""Columns behind tenant and execution, which are the members of `AttemptFacts`."""

_KEY = tuple_(attempts.c.tenant, attempts.c.execution_id, attempts.c.effect_id)
# built once: putting statements together takes longer than running them
_BY_KEYS = select(attempts).where(_KEY.in_(bindparam("keys", expanding=True)))
_FIRST_SEQ = func.coalesce(attempts.c.started_seq, attempts.c.ended_seq, attempts.c.failed_seq, 0)


def attempt_of(row: Row[*tuple[Any, ...]]) -> AttemptFacts:
    """Turn a row of `attempts` into an attempt."""
    return AttemptFacts(**dict(zip(_FACTS, row[2:], strict=True)))


def attempt_row(tenant: str, execution_id: str, facts: AttemptFacts, closed_us: int | None) -> dict[str, Any]:
    """Return the row of an attempt.

    Args:
        tenant: Tenant of its execution.
        execution_id: The execution.
        facts: What the events tell.
        closed_us: When the execution ended, as Temporal told; what still ran then was cancelled. None = it has not.
    """
    ends_now = closed_us is not None and facts.outcome == RUNNING
    return {
        "tenant": tenant,
        "execution_id": execution_id,
        "effect_id": plain_id(facts.effect_id),
        "path": plain(facts.path),
        "label": plain(facts.label),
        "kind": plain(facts.kind, 32),
        "name": plain(facts.name),
        "attempt": facts.attempt,
        "started_seq": facts.started_seq,
        "started_us": facts.started_us,
        "ended_seq": facts.ended_seq,
        "ended_us": closed_us if ends_now else facts.ended_us,
        "outcome": CANCELLED if ends_now else facts.outcome,
        "failed_seq": facts.failed_seq,
        "error_code": plain(facts.error_code),
        "pause_us": facts.pause_us,
        "deliveries": facts.deliveries,
        "model": plain(facts.model),
        "backend": plain(facts.backend),
        "prompt_tokens": facts.prompt_tokens,
        "completion_tokens": facts.completion_tokens,
        "total_tokens": facts.total_tokens,
        "cost_nano": facts.cost_nano,
        "child_id": plain(facts.child_id, 64),
    }


def load_attempts(
    connection: Connection, keys: Collection[tuple[str, str, str]]
) -> dict[tuple[str, str, str], AttemptFacts]:
    """Read attempts as the events alone told them.

    Args:
        connection: A transaction.
        keys: Tenant, execution and effect id of each.

    Returns:
        Those that are stored, by key.
    """
    found: dict[tuple[str, str, str], AttemptFacts] = {}
    wanted = sorted({(tenant, execution, plain_id(effect)) for tenant, execution, effect in keys})
    for start in range(0, len(wanted), MOST_KEYS):
        for row in connection.execute(_BY_KEYS, {"keys": wanted[start : start + MOST_KEYS]}):
            facts = attempt_of(row)
            if facts.ended_seq is None and facts.outcome == CANCELLED:
                # the end of the execution stopped it, not an event: `attempt_row` says so again if none comes
                facts.outcome, facts.ended_us = RUNNING, None
            found[row.tenant, row.execution_id, row.effect_id] = facts
    return found


class AttemptReader:
    """What API and CLI ask of the attempts."""

    database: Database

    async def list_attempts(
        self,
        execution_id: str,
        *,
        tenant: str,
        path: str | None = None,
        after: tuple[int, str] | None = None,
        limit: int = 1_000,
    ) -> list[AttemptFacts]:
        """Return one page of an execution's attempts in the order in which they began.

        Args:
            execution_id: The execution.
            tenant: Its tenant.
            path: Only those at this step.
            after: Only those behind this place (`AttemptFacts.place`).
            limit: Most to return.
        """
        query = select(attempts).where(attempts.c.tenant == tenant, attempts.c.execution_id == execution_id)
        if path is not None:
            query = query.where(attempts.c.path == path)
        if after is not None:
            first, (seq, effect_id) = _FIRST_SEQ, after
            query = query.where((first > seq) | ((first == seq) & (attempts.c.effect_id > effect_id)))
        query = query.order_by(_FIRST_SEQ, attempts.c.effect_id).limit(limit)
        rows: Sequence[Row[Any]] = await self.database.run(lambda connection: connection.execute(query).all())
        return [attempt_of(row) for row in rows]
