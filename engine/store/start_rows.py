"""What is known of starts that wait, and how one ends that Temporal never heard of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, func, select, update

from engine.core.kinds import ExecutionStatus
from engine.store.ends import MOST_AT_ONCE, ExecutionEnd, StoredEvents, write_ends
from engine.store.schema import executions
from engine.store.schema_admission import start_requests, starts
from engine.store.turns import Group, Holder

WAITING = "waiting"
ADMITTED = "admitted"
STARTED = "started"
ENDED = "ended"
HOLDING = (ADMITTED, STARTED)
"""States in which a start holds a place."""

TABLE = "starts"
"""What the locks of starts are named by."""


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """How a start is to end.

    Attributes:
        kind: `cancel` or `terminate`.
        reason: Why.
        actor: Who wants it.
        code: Code of the error, if it is another one than usual.
    """

    kind: str
    reason: str = ""
    actor: str = ""
    code: str = ""

    def to_text(self) -> str:
        """Return it as JSON text."""
        return json.dumps({"kind": self.kind, "reason": self.reason, "actor": self.actor}, ensure_ascii=False)

    @staticmethod
    def of(text: str) -> Withdrawal:
        """Read what `to_text` wrote."""
        return Withdrawal(**json.loads(text))

    def end_of(self, execution_id: str, at_us: int) -> ExecutionEnd:
        """Return how an execution ends by it that Temporal never heard of."""
        if self.kind == "cancel":
            return ended_in_queue(execution_id, at_us, ExecutionStatus.CANCELLED)
        error: dict[str, Any] = {
            "code": self.code or "execution.terminated",
            "message": self.reason or "an operator terminated the execution",
        }
        if self.actor:
            error["details"] = {"actor": self.actor}
        return ended_in_queue(execution_id, at_us, ExecutionStatus.FAILED, error)


def ended_in_queue(
    execution_id: str, at_us: int, status: ExecutionStatus, error: dict[str, Any] | None = None
) -> ExecutionEnd:
    """Return the end of an execution that never began; the events of its workflow are none, as those in the store."""
    return ExecutionEnd(execution_id, status, at_us, error=error, events=0)


@dataclass(slots=True)
class Ends:
    """Ends that one transaction has written, to be told when it is committed.

    Attributes:
        ends: How executions ended.
        news: What `write_ends` says of them.
    """

    ends: list[ExecutionEnd] = field(default_factory=list)
    news: dict[str, bool] = field(default_factory=dict)


def is_start(tenant: str, execution_id: str) -> ColumnElement[bool]:
    """Return the condition that picks the start of an execution."""
    return and_(starts.c.tenant == tenant, starts.c.id == execution_id)


# --- ending --------------------------------------------------------------------------------------------------------


def take_out(connection: Connection, ids: Iterable[str], *, state: str = WAITING) -> list[str]:
    """Let starts that are in a state never begin, and say which these are; the caller closes their executions."""
    taken: list[str] = []
    for execution_id in sorted(ids):
        statement = update(starts).where(starts.c.id == execution_id, starts.c.state == state)
        if connection.execute(statement.values(state=ENDED, params="", input="", claimed_by="")).rowcount:
            taken.append(execution_id)
    return taken


def close(connection: Connection, how: Mapping[str, Withdrawal], now_us: int, done: Ends) -> None:
    """Write the ends of executions that never began, and forget what was gathered for them."""
    if not how:
        return
    stored = {
        name: StoredEvents(cancelled={"reason": withdrawal.reason, "actor": withdrawal.actor})
        for name, withdrawal in how.items()
    }
    for names in batched(how):
        ends = [how[name].end_of(name, now_us) for name in names]
        write_ends(connection, ends, stored, done.news)
        done.ends += ends
        clear_requests(connection, names)


def batched(names: Iterable[str]) -> Iterable[list[str]]:
    """Split names into parts that fit into one statement."""
    rest = list(names)
    return (rest[start : start + MOST_AT_ONCE] for start in range(0, len(rest), MOST_AT_ONCE))


def clear_requests(connection: Connection, ids: list[str]) -> None:
    """Drop the gathered inputs of executions; what the requests led to stays known."""
    statement = update(start_requests).where(start_requests.c.execution_id.in_(ids), start_requests.c.input != "")
    connection.execute(statement.values(input=""))


def is_begun() -> ColumnElement[bool]:
    """Return the condition that an execution is Temporal's: its start does not wait, and has not ended in the queue."""
    mine = (starts.c.tenant == executions.c.tenant, starts.c.id == executions.c.id)
    return ~exists().where(*mine, starts.c.state != STARTED)


def group_of(row: Row[*tuple[Any, ...]]) -> Group:
    """Return the group of one start alone."""
    return Group(
        row.tenant,
        row.lane,
        row.priority,
        row.task_id,
        row.limit_key,
        row.single_key,
        row.busy,
        row.task_limit,
        row.key_limit,
        1,
        row.due_us,
    )


def holders(connection: Connection, *, tenant: str | None = None) -> list[Holder]:
    """Count the executions that hold places.

    Args:
        connection: A connection.
        tenant: Of this tenant only; None = of all.
    """
    columns = (starts.c.tenant, starts.c.task_id, starts.c.limit_key, starts.c.single_key, starts.c.busy)
    query = select(*columns, func.count()).where(starts.c.state.in_(HOLDING)).group_by(*columns)
    if tenant is not None:
        query = query.where(starts.c.tenant == tenant)
    return [Holder(*row) for row in connection.execute(query)]
