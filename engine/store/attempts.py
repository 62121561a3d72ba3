"""Attempts at calls in the tables: rows from facts and back, and the pages that callers read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Table, case, func, select

from engine.core.run.attempts import CANCELLED, RUNNING, AttemptFacts
from engine.core.run.progress import Progress
from engine.core.run.usage import TOKENS
from engine.store.bulk import Change, given, replacing, upsert
from engine.store.database import Database
from engine.store.schema import attempts
from engine.store.texts import plain, plain_id

_FACTS = tuple(column.name for column in attempts.c)[2:]
"""Columns behind tenant and execution, which are the members of `AttemptFacts`."""

_FIRST_SEQ = func.coalesce(attempts.c.started_seq, attempts.c.ended_seq, attempts.c.failed_seq, 0)


class AttemptsOf(NamedTuple):
    """What a batch tells of an execution's attempts.

    Attributes:
        tenant: Its tenant.
        execution_id: The execution.
        progress: The fold over the batch.
        from_its_begin: Whether the fold ran over all events of the execution.
        closed_us: When it ended, as Temporal told; None = it has not.
    """

    tenant: str
    execution_id: str
    progress: Progress
    from_its_begin: bool
    closed_us: int | None


def _unless_ended(name: str) -> Change:
    """Return that a column keeps its value if an event has ended the attempt; the end of its execution is none."""

    def change(excluded: Any, table: Table) -> ColumnElement[Any]:
        return case((table.c.ended_seq.is_(None), excluded[name]), else_=table.c[name])

    return change


def _if_failed(name: str) -> Change:
    """Return that a column gets the new value if an event of the batch says that the attempt failed."""

    def change(excluded: Any, table: Table) -> ColumnElement[Any]:
        return case((excluded.failed_seq.is_(None), table.c[name]), else_=excluded[name])

    return change


# what `engine.core.run.attempts` does to an attempt that is known already, for one whose row nobody has read
_PUT = replacing(attempts)
_ENDED = (
    *("ended_seq", "ended_us", "outcome", "error_code", "deliveries", "model", "backend"),
    *(*TOKENS, "cost_nano"),
)
_FINISH = upsert(
    attempts,
    {name: given(name) for name in _ENDED} | {name: _if_failed(name) for name in ("failed_seq", "pause_us")},
)
_FAIL = upsert(
    attempts,
    {name: given(name) for name in ("failed_seq", "outcome", "error_code", "pause_us")}
    | {name: _unless_ended(name) for name in ("ended_seq", "ended_us")},
)


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
        **dict(zip(TOKENS, facts.tokens, strict=True)),
        "cost_nano": facts.cost_nano,
        "child_id": plain(facts.child_id, 64),
    }


def write_attempts(connection: Connection, found: Iterable[AttemptsOf]) -> None:
    """Write what a batch tells of attempts: whole rows of those that began in it, of others only what is new.

    So nobody needs to read a row to write what comes after. An attempt that has no row gets one in any case.
    """
    whole: list[dict[str, Any]] = []
    finished: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for of in found:
        progress = of.progress
        for effect_id, facts in progress.attempts.items():
            row = attempt_row(of.tenant, of.execution_id, facts, of.closed_us)
            if of.from_its_begin or effect_id in progress.begun:
                whole.append(row)
            else:
                (finished if effect_id in progress.finished else failed).append(row)
    _PUT.run(connection, whole)
    _FINISH.run(connection, finished)
    _FAIL.run(connection, failed)


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
