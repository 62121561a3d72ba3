"""What webhooks are told: noted in the transaction that stores an event or an end, and sent by others later."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, bindparam, select, update

from engine.core.kinds import EventType, ExecutionStatus
from engine.store.bulk import ById, upsert
from engine.store.schema import executions
from engine.store.schema_doors import deliveries, end_watchers, webhooks

STATUS_OF: Mapping[str, str] = {
    EventType.INIT: ExecutionStatus.RUNNING,
    EventType.WAIT: ExecutionStatus.AWAITING_INPUT,
    EventType.EXECUTION_PAUSED: ExecutionStatus.PAUSED,
    EventType.EXECUTION_CONTINUED: ExecutionStatus.RUNNING,
}
"""The status to which an event brings an execution; ends are told by Temporal alone."""

TOLD_US = 30 * 86_400_000_000
"""What happened longer ago is not told any more: a repair makes old rows anew, and deliveries are not kept for ever."""

PENDING, SENDING, DELIVERED, FAILED = "pending", "sending", "delivered", "failed"


class News(NamedTuple):
    """An execution has come to a status.

    Attributes:
        tenant: Its tenant.
        execution_id: The execution.
        status: The status.
        mark: Number of the event, or the time of the end, that brought it there.
        at_us: When, Unix microseconds.
    """

    tenant: str
    execution_id: str
    status: str
    mark: int
    at_us: int


_ADD = upsert(deliveries, None)
_HOOKS = select(webhooks).where(
    webhooks.c.active.is_(True),
    webhooks.c.tenant.in_(bindparam("tenants", expanding=True)),
    webhooks.c.execution_id.in_(bindparam("ids", expanding=True)),
)
_NAMES = ById(
    select(
        executions.c.tenant,
        executions.c.id,
        executions.c.task_id,
        executions.c.task_name,
        executions.c.labels,
        executions.c.parent_id,
    ),
    executions.c.id,
)
_WAKE = (
    update(end_watchers)
    .where(
        end_watchers.c.tenant.in_(bindparam("tenants", expanding=True)),
        end_watchers.c.execution_id.in_(bindparam("ids", expanding=True)),
        end_watchers.c.ended_us.is_(None),
    )
    .values(ended_us=bindparam("b_now"))
)
_CHUNK = 500


def delivery_id(webhook_id: str, execution_id: str, status: str, mark: int) -> str:
    """Return the id under which a webhook is told one thing, however often that is noted or sent."""
    text = f"{webhook_id}\n{execution_id}\n{status}\n{mark}"
    return f"msg_{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def note_events(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Note what events tell webhooks.

    Args:
        connection: The transaction that stores them.
        rows: Their rows in `events`.
    """
    news = [
        News(row["tenant"], row["execution_id"], STATUS_OF[row["type"]], row["seq"], row["now_us"])
        for row in rows
        if row["type"] in STATUS_OF
    ]
    note(connection, news)


def note_ends(connection: Connection, news: Sequence[News]) -> None:
    """Note ends for webhooks, and for the workflows that wait for them, in the transaction that stores them."""
    for start in range(0, len(news), _CHUNK):
        part = news[start : start + _CHUNK]
        wanted = {"tenants": sorted({item.tenant for item in part}), "ids": [item.execution_id for item in part]}
        connection.execute(_WAKE, {**wanted, "b_now": now_us()})
    note(connection, news)


def note(connection: Connection, news: Sequence[News]) -> None:
    """Make a delivery for each webhook that wants to know something; what was noted before stays as it is."""
    oldest = now_us() - TOLD_US
    fresh = [item for item in news if item.at_us > oldest]
    if not fresh:
        return
    hooks: dict[str, Row[*tuple[Any, ...]]] = {}
    tenants = sorted({item.tenant for item in fresh})
    for start in range(0, len(fresh), _CHUNK):
        ids = ["", *{item.execution_id for item in fresh[start : start + _CHUNK]}]
        for row in connection.execute(_HOOKS, {"tenants": tenants, "ids": ids}):
            hooks[row.id] = row
    if not hooks:
        return
    names = {row.id: row for row in _NAMES.read(connection, sorted({item.execution_id for item in fresh}))}
    made = [
        _delivery_row(hook, item)
        for item in fresh
        for hook in hooks.values()
        if _wants(hook, item, names.get(item.execution_id))
    ]
    _ADD.run(connection, made)


def _wants(hook: Row[*tuple[Any, ...]], item: News, named: Row[*tuple[Any, ...]] | None) -> bool:
    if named is None or hook.tenant != item.tenant or named.tenant != item.tenant:
        return False
    if item.status not in json.loads(hook.statuses):
        return False
    if hook.execution_id:
        return bool(hook.execution_id == item.execution_id)
    if item.at_us < hook.created_us or (hook.root_only and named.parent_id):
        return False
    tasks, labels = json.loads(hook.tasks), json.loads(hook.labels)
    if tasks and named.task_id not in tasks and named.task_name not in tasks:
        return False
    return not labels or set(labels) <= set(json.loads(named.labels))


def _delivery_row(hook: Row[*tuple[Any, ...]], item: News) -> dict[str, Any]:
    return {
        "tenant": item.tenant,
        "id": delivery_id(hook.id, item.execution_id, item.status, item.mark),
        "webhook_id": hook.id,
        "execution_id": item.execution_id,
        "status": item.status,
        "mark": item.mark,
        "at_us": item.at_us,
        "state": PENDING,
        "round": 0,
        "attempts": 0,
        "last_status": None,
        "last_answer": "",
        "last_error": "",
        "last_us": None,
        "created_us": now_us(),
        "lease_us": 0,
        "ended_us": None,
    }


def now_us() -> int:
    """Return the present time in Unix microseconds."""
    return time.time_ns() // 1_000


# --- what is to be sent ----------------------------------------------------------------------------------------------


class Due(NamedTuple):
    """A delivery that a process has taken to send."""

    tenant: str
    id: str
    round: int


def claim(connection: Connection, *, until_us: int, limit: int) -> list[Due]:
    """Take deliveries that nobody has begun to send.

    Args:
        connection: A transaction that may write.
        until_us: Until when they are this process's own; then others may take those it has not begun.
        limit: Most to take.
    """
    query = (
        select(deliveries.c.tenant, deliveries.c.id, deliveries.c.round)
        .where(deliveries.c.state == PENDING, deliveries.c.lease_us < now_us())
        .order_by(deliveries.c.created_us, deliveries.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    due = [Due(*row) for row in connection.execute(query)]
    for item in due:
        connection.execute(update(deliveries).where(one_delivery(item.tenant, item.id)).values(lease_us=until_us))
    return due


def mark_sending(connection: Connection, due: Sequence[Due]) -> None:
    """Write that deliveries have a workflow of their own, which does all the rest."""
    for item in due:
        mine = and_(one_delivery(item.tenant, item.id), deliveries.c.state == PENDING, deliveries.c.round == item.round)
        connection.execute(update(deliveries).where(mine).values(state=SENDING))


def one_delivery(tenant: str, delivery: str) -> Any:
    """Return the condition that picks one delivery."""
    return and_(deliveries.c.tenant == tenant, deliveries.c.id == delivery)
