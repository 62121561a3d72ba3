"""How executions ended, on its way into the tables: compared with the stored events, then written once and for all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.attempts import CANCELLED, RUNNING
from engine.core.run.events import roll_digest, roll_time
from engine.core.run.progress import STOPPED
from engine.core.values import Json, compact_json
from engine.store.locks import lock_executions
from engine.store.outbox import News, note_ends
from engine.store.reading import ROW_ORDER
from engine.store.rows import ENDED_OVER
from engine.store.schema import attempts, events, executions, waits
from engine.store.texts import plain_code

MOST_AT_ONCE = 500
"""SQLite's builds differ in how many parameters they take."""


@dataclass(frozen=True, slots=True)
class ExecutionEnd:
    """What Temporal tells about the end of an execution.

    Attributes:
        execution_id: The execution.
        status: A terminal status.
        closed_us: When it closed, Unix microseconds.
        output: Its output.
        error: {code, message, …} or None.
        events: How many events the workflow counted; None = it did not say (it was terminated, or timed out).
        digest: Its rolling hash over them.
        times: Its rolling hash over their times; None = it did not say.
        tenant: Whose execution Temporal speaks of; empty = it does not say.
    """

    execution_id: str
    status: ExecutionStatus
    closed_us: int
    output: Json = None
    error: dict[str, Any] | None = None
    events: int | None = None
    digest: str = ""
    times: int | None = None
    tenant: str = ""


@dataclass(slots=True)
class StoredEvents:
    """What the store holds of an execution's events.

    Attributes:
        count: How many.
        digest: Rolling hash over them in order.
        times: Rolling hash over their times.
        last_seq: Number of the last one.
        cancelled: Body of the last `cancelled` event, if there is one.
    """

    count: int = 0
    digest: str = ""
    times: int = 0
    last_seq: int = 0
    cancelled: dict[str, Any] = field(default_factory=dict)

    def is_of(self, end: ExecutionEnd) -> bool:
        """Whether these are the events that the workflow counted."""
        same_times = end.times is None or end.times == self.times
        return same_times and (self.count, self.digest) == (end.events, end.digest)


# built once: putting statements together takes longer than running them
_EVENTS = (
    select(events.c.execution_id, events.c.seq, events.c.now_us, events.c.type, events.c.body)
    .join(executions, (executions.c.tenant == events.c.tenant) & (executions.c.id == events.c.execution_id))
    .where(executions.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(events.c.execution_id, *ROW_ORDER)
)
_ROWS = select(
    executions.c.id,
    executions.c.tenant,
    executions.c.settled,
    executions.c.verified,
    executions.c.last_seq,
    executions.c.updated_us,
).where(executions.c.id.in_(bindparam("ids", expanding=True)))
_MINE = (executions.c.tenant == bindparam("b_tenant")) & (executions.c.id == bindparam("b_id"))
_CLOSE = (
    update(executions)
    .where(_MINE)
    .values(
        status=bindparam("b_status"),
        output=bindparam("b_output"),
        error=bindparam("b_error"),
        error_code=bindparam("b_error_code"),
        closed_us=bindparam("b_closed_us"),
        updated_us=bindparam("b_updated_us"),
        verified=bindparam("b_verified"),
        open_waits=0,
        settled=True,
    )
)
_VERIFY = update(executions).where(_MINE).values(verified=bindparam("b_verified"))
_CLOSE_WAITS = (
    update(waits)
    .where(
        waits.c.tenant == bindparam("b_tenant"),
        waits.c.execution_id == bindparam("b_id"),
        waits.c.closed_seq.is_(None),
    )
    .values(closed_seq=ENDED_OVER, closed_us=bindparam("b_closed_us"), outcome=STOPPED)
)
_STOP_ATTEMPTS = (
    update(attempts)
    .where(
        attempts.c.tenant == bindparam("b_tenant"),
        attempts.c.execution_id == bindparam("b_id"),
        attempts.c.outcome == RUNNING,
    )
    .values(outcome=CANCELLED, ended_us=bindparam("b_closed_us"))
)


def stored_events(connection: Connection, ids: Sequence[str]) -> dict[str, StoredEvents]:
    """Count and hash the stored events of executions, at most `MOST_AT_ONCE`; those without any are left out."""
    found: dict[str, StoredEvents] = {}
    for execution_id, seq, now_us, type_, body in connection.execute(_EVENTS, {"ids": list(ids)}):
        stored = found.setdefault(execution_id, StoredEvents())
        stored.count += 1
        stored.digest = roll_digest(stored.digest, seq, type_, body)
        stored.times = roll_time(stored.times, now_us)
        stored.last_seq = seq
        if type_ == EventType.CANCELLED:
            stored.cancelled = json.loads(body)
    return found


def write_ends(
    connection: Connection,
    ends: Sequence[ExecutionEnd],
    stored: Mapping[str, StoredEvents],
    news: dict[str, bool] | None = None,
) -> dict[str, bool | None]:
    """Write how executions ended, at most `MOST_AT_ONCE`; of those settled before, only `verified` changes.

    Args:
        connection: A transaction that may write.
        ends: What Temporal says; executions without a row, and those whose row is another tenant's, are left out.
        stored: What `stored_events` found a moment ago.
        news: Filled with the executions whose end was not stored before (True), and with those whose stored events
            were wrong when it was and are right now (False).

    Returns:
        By execution whether its stored events are those of the workflow; None = the workflow did not say.
    """
    by_id = {end.execution_id: end for end in ends}
    lock_executions(connection, by_id)
    matches: dict[str, bool | None] = {}
    closing: list[dict[str, Any]] = []
    again: list[dict[str, Any]] = []
    for row in connection.execute(_ROWS, {"ids": list(by_id)}):
        end, had = by_id[row.id], stored.get(row.id, StoredEvents())
        if end.tenant not in ("", row.tenant):
            continue
        # events that came after they were counted make the count worthless
        equal = had.last_seq == row.last_seq and had.is_of(end)
        matches[row.id] = None if end.events is None else equal
        values = {"b_tenant": row.tenant, "b_id": row.id, "b_verified": matches[row.id]}
        if news is not None and (not row.settled or (row.verified is False and equal)):
            news[row.id] = not row.settled
        if row.settled:
            again.append(values)
        else:
            closing.append(values | _closing(end, had, row.updated_us))
    if again:
        connection.execute(_VERIFY, again)
    if closing:
        connection.execute(_CLOSE, closing)
        connection.execute(_CLOSE_WAITS, closing)
        connection.execute(_STOP_ATTEMPTS, closing)
        note_ends(
            connection,
            [
                News(row["b_tenant"], row["b_id"], row["b_status"], row["b_closed_us"], row["b_closed_us"])
                for row in closing
            ],
        )
    return matches


def _closing(end: ExecutionEnd, had: StoredEvents, updated_us: int) -> dict[str, Any]:
    error = cancel_error(had.cancelled) if end.status is ExecutionStatus.CANCELLED else end.error
    return {
        "b_status": end.status.value,
        "b_output": None if end.output is None else compact_json(end.output),
        "b_error": None if error is None else compact_json(error),
        "b_error_code": "" if error is None else plain_code(str(error.get("code") or "")),
        "b_closed_us": end.closed_us,
        "b_updated_us": max(updated_us, end.closed_us),
    }


def cancel_error(event: Mapping[str, Any]) -> dict[str, Any]:
    """Say why an execution was cancelled; Temporal knows only that it was, the reason stands in the events."""
    reason, actor = str(event.get("reason") or ""), str(event.get("actor") or "")
    error: dict[str, Any] = {"code": "execution.cancelled", "message": reason or "the execution was cancelled"}
    details: dict[str, Any] = {"actor": actor} if actor else {}
    if event.get("finally"):
        details["finally"] = event["finally"]
    if details:
        error["details"] = details
    return error
