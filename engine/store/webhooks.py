"""Webhooks and their deliveries in the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, tuple_, update

from engine.core.run.projection import Wait
from engine.store.database import Database
from engine.store.locks import lock_row
from engine.store.outbox import DELIVERED, FAILED, PENDING, SENDING, Due, claim, mark_sending, now_us, one_delivery
from engine.store.reading import wait_of
from engine.store.schema import executions, waits
from engine.store.schema_doors import deliveries, end_watchers, webhooks

ANSWER_CHARS = 2_000
"""How much of a receiver's answer is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookFacts:
    """A webhook; times in Unix microseconds.

    Attributes:
        tenant: Whose it is.
        id: Its id.
        url: Where it is told.
        statuses: Of which statuses.
        tasks: Ids or names of tasks; empty = all.
        labels: Labels that an execution must have.
        root_only: Whether executions that others started are left out.
        execution_id: The one execution that it is for; empty = all of the tenant.
        secret: What it is signed with.
        active: Whether it is told anything.
        off_reason: Why it is not.
        note: What it is for.
        created_us: When it was made.
        updated_us: When it was last changed.
        actor: Who made it.
    """

    tenant: str
    id: str
    url: str
    statuses: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    root_only: bool = False
    execution_id: str = ""
    secret: str
    active: bool = True
    off_reason: str = ""
    note: str = ""
    created_us: int
    updated_us: int
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFacts:
    """A delivery, as its columns tell it; times in Unix microseconds."""

    tenant: str
    id: str
    webhook_id: str
    execution_id: str
    status: str
    mark: int
    at_us: int
    state: str
    round: int
    attempts: int
    last_status: int | None
    last_answer: str
    last_error: str
    last_us: int | None
    created_us: int
    ended_us: int | None


_LISTS = ("statuses", "tasks", "labels")
_DELIVERY = tuple(deliveries.c[name] for name in DeliveryFacts.__dataclass_fields__)


def _facts_of(row: Row[*tuple[Any, ...]]) -> WebhookFacts:
    values = dict(row._mapping)
    return WebhookFacts(**values | {name: tuple(json.loads(values[name])) for name in _LISTS})


def webhook_row(facts: WebhookFacts) -> dict[str, Any]:
    """Return the row of a webhook."""
    values = {name: getattr(facts, name) for name in WebhookFacts.__dataclass_fields__}
    return values | {name: json.dumps(list(values[name]), ensure_ascii=False) for name in _LISTS}


def _one(tenant: str, webhook_id: str) -> Any:
    return and_(webhooks.c.tenant == tenant, webhooks.c.id == webhook_id)


class WebhookStore:
    """Webhooks of all tenants.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- webhooks --------------------------------------------------------------------------------------------------

    async def add(self, facts: WebhookFacts) -> WebhookFacts:
        """Store a webhook; one that is there already stays, and is returned."""

        def write(connection: Connection) -> WebhookFacts:
            lock_row(connection, webhooks.name, facts.id)
            known = connection.execute(select(webhooks).where(_one(facts.tenant, facts.id))).one_or_none()
            if known is not None:
                return _facts_of(known)
            connection.execute(insert(webhooks).values(webhook_row(facts)))
            return facts

        return await self.database.run(write, write=True)

    async def find(self, webhook_id: str, *, tenant: str) -> WebhookFacts | None:
        """Return a webhook, or None."""
        query = select(webhooks).where(_one(tenant, webhook_id))
        row = await self.database.run(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _facts_of(row)

    async def page(
        self, *, tenant: str, limit: int, after: tuple[int, str] | None = None, execution_id: str | None = ""
    ) -> Sequence[WebhookFacts]:
        """Return webhooks, the oldest first.

        Args:
            tenant: Whose.
            limit: Most to return.
            after: Creation time and id of the last one of the page before.
            execution_id: Those of one execution; empty = those of the tenant; None = all.
        """
        query = select(webhooks).where(webhooks.c.tenant == tenant)
        if execution_id is not None:
            query = query.where(webhooks.c.execution_id == execution_id)
        if after is not None:
            query = query.where(tuple_(webhooks.c.created_us, webhooks.c.id) > tuple_(*after))
        query = query.order_by(webhooks.c.created_us, webhooks.c.id).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_facts_of(row) for row in rows]

    async def put(self, facts: WebhookFacts) -> bool:
        """Write a changed webhook; False if there is none any more."""
        statement = update(webhooks).where(_one(facts.tenant, facts.id)).values(webhook_row(facts))
        done = await self.database.run(lambda connection: connection.execute(statement).rowcount, write=True)
        return done == 1

    async def switch_off(self, webhook_id: str, *, tenant: str, reason: str) -> None:
        """Tell a webhook nothing more."""
        values = {"active": False, "off_reason": reason, "updated_us": now_us()}
        statement = update(webhooks).where(_one(tenant, webhook_id)).values(values)
        await self.database.run(lambda connection: connection.execute(statement), write=True)

    async def remove(self, webhook_id: str, *, tenant: str) -> bool:
        """Delete a webhook with its deliveries; False if there is none."""

        def write(connection: Connection) -> bool:
            mine = and_(deliveries.c.tenant == tenant, deliveries.c.webhook_id == webhook_id)
            connection.execute(delete(deliveries).where(mine))
            return connection.execute(delete(webhooks).where(_one(tenant, webhook_id))).rowcount == 1

        return await self.database.run(write, write=True)

    # --- deliveries ------------------------------------------------------------------------------------------------

    async def deliveries(
        self,
        webhook_id: str,
        *,
        tenant: str,
        limit: int,
        after: tuple[int, str] | None = None,
        state: str | None = None,
        execution_id: str | None = None,
    ) -> Sequence[DeliveryFacts]:
        """Return one page of a webhook's deliveries, the newest first."""
        query = select(*_DELIVERY).where(deliveries.c.tenant == tenant, deliveries.c.webhook_id == webhook_id)
        if state is not None:
            query = query.where(deliveries.c.state == state)
        if execution_id is not None:
            query = query.where(deliveries.c.execution_id == execution_id)
        if after is not None:
            query = query.where(tuple_(deliveries.c.created_us, deliveries.c.id) < tuple_(*after))
        query = query.order_by(deliveries.c.created_us.desc(), deliveries.c.id.desc()).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [DeliveryFacts(**row._mapping) for row in rows]

    async def delivery(self, delivery_id: str, *, tenant: str) -> DeliveryFacts | None:
        """Return a delivery, or None."""
        query = select(*_DELIVERY).where(one_delivery(tenant, delivery_id))
        row = await self.database.run(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else DeliveryFacts(**row._mapping)

    async def waits_of(self, delivery: DeliveryFacts) -> list[Wait]:
        """Return the wait that a delivery tells of, if it tells of one."""
        query = select(waits).where(
            waits.c.tenant == delivery.tenant,
            waits.c.execution_id == delivery.execution_id,
            waits.c.opened_seq == delivery.mark,
        )
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [wait_of(row) for row in rows]

    async def counts(self, webhook_id: str, *, tenant: str) -> dict[str, int]:
        """Count a webhook's deliveries by their state."""
        query = select(deliveries.c.state, func.count()).where(
            deliveries.c.tenant == tenant, deliveries.c.webhook_id == webhook_id
        )
        query = query.group_by(deliveries.c.state)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return {str(state): int(count) for state, count in rows}

    async def resend(self, delivery_id: str, *, tenant: str) -> DeliveryFacts | None:
        """Let a delivery that has ended be sent again, under its id; None if it has not ended."""
        again = {
            "state": PENDING,
            "round": deliveries.c.round + 1,
            "lease_us": 0,
            "ended_us": None,
            "created_us": deliveries.c.created_us,
        }
        mine = and_(one_delivery(tenant, delivery_id), deliveries.c.state.in_((DELIVERED, FAILED)))
        statement = update(deliveries).where(mine).values(again)
        done = await self.database.run(lambda connection: connection.execute(statement).rowcount, write=True)
        return await self.delivery(delivery_id, tenant=tenant) if done else None

    async def claim(self, *, until_us: int, limit: int) -> list[Due]:
        """Take deliveries that nobody has begun to send."""
        return await self.database.run(lambda connection: claim(connection, until_us=until_us, limit=limit), write=True)

    async def any_pending(self) -> bool:
        """Whether a delivery waits for somebody to begin with it."""
        query = select(deliveries.c.id).where(deliveries.c.state == PENDING, deliveries.c.lease_us < now_us()).limit(1)
        row = await self.database.run(lambda connection: connection.execute(query).first())
        return row is not None

    async def mark_sending(self, due: Sequence[Due]) -> None:
        """Write that deliveries have a workflow of their own."""
        await self.database.run(lambda connection: mark_sending(connection, due), write=True)

    async def record(
        self,
        delivery_id: str,
        *,
        tenant: str,
        round_: int,
        state: str | None = None,
        attempt: bool = True,
        status: int | None = None,
        answer: str = "",
        error: str = "",
    ) -> None:
        """Write what an attempt came to.

        Args:
            delivery_id: The delivery.
            tenant: Its tenant.
            round_: The round it was made in; what belongs to an earlier one changes nothing.
            state: What the delivery is now; None = it goes on.
            attempt: Whether it was an attempt.
            status: Status of the receiver's answer.
            answer: The answer, as far as it was read.
            error: Why it is no good.
        """
        now = now_us()
        values: dict[str, Any] = {"last_error": error[:ANSWER_CHARS]}
        if attempt:
            values |= {"attempts": deliveries.c.attempts + 1, "last_us": now, "last_status": status}
            values["last_answer"] = answer.replace("\0", "\ufffd")[:ANSWER_CHARS]
        if state is not None:
            values |= {"state": state, "ended_us": now}
        mine = and_(one_delivery(tenant, delivery_id), deliveries.c.round == round_)
        statement = update(deliveries).where(mine).values(values)
        await self.database.run(lambda connection: connection.execute(statement), write=True)

    async def tidy(self, *, before_us: int, lost_us: int) -> None:
        """Delete old deliveries, and webhooks of executions of that time; end those whose workflow is lost.

        Args:
            before_us: Those made before this time go.
            lost_us: Those being sent that had no attempt since then have failed.
        """

        def write(connection: Connection) -> None:
            connection.execute(delete(deliveries).where(deliveries.c.created_us < before_us))
            left = select(deliveries.c.webhook_id).where(deliveries.c.webhook_id == webhooks.c.id).exists()
            old = and_(webhooks.c.execution_id != "", webhooks.c.active.is_(False), webhooks.c.updated_us < before_us)
            connection.execute(delete(webhooks).where(old, ~left))
            there = select(executions.c.id).where(executions.c.id == webhooks.c.execution_id).exists()
            unused = and_(webhooks.c.execution_id != "", webhooks.c.updated_us < before_us)
            connection.execute(delete(webhooks).where(unused, ~there, ~left))
            lost = and_(
                deliveries.c.state == SENDING, func.coalesce(deliveries.c.last_us, deliveries.c.created_us) < lost_us
            )
            why = "the workflow that sent it is gone"
            connection.execute(update(deliveries).where(lost).values(state=FAILED, last_error=why, ended_us=now_us()))

        await self.database.run(write, write=True)

    # --- workflows that wait for an end ----------------------------------------------------------------------------

    async def watch_end(self, execution_id: str, workflow_id: str, *, tenant: str) -> None:
        """Let a workflow of ours be told when an execution ends; done again, it changes nothing."""
        mine = {"tenant": tenant, "execution_id": execution_id, "workflow_id": workflow_id}

        def write(connection: Connection) -> None:
            lock_row(connection, end_watchers.name, execution_id)
            query = select(end_watchers).where(*(end_watchers.c[name] == value for name, value in mine.items()))
            if connection.execute(query).one_or_none() is None:
                connection.execute(insert(end_watchers).values(**mine, ended_us=None))

        await self.database.run(write, write=True)

    async def ended_watchers(self, *, limit: int) -> list[tuple[str, str, str]]:
        """Return tenant, execution and workflow of those that must be told of an end."""
        query = select(end_watchers.c.tenant, end_watchers.c.execution_id, end_watchers.c.workflow_id)
        query = query.where(end_watchers.c.ended_us.is_not(None)).order_by(end_watchers.c.ended_us).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [(row.tenant, row.execution_id, row.workflow_id) for row in rows]

    async def forget_watcher(self, execution_id: str, workflow_id: str, *, tenant: str) -> None:
        """Tell a workflow of an end no more."""
        mine = and_(
            end_watchers.c.tenant == tenant,
            end_watchers.c.execution_id == execution_id,
            end_watchers.c.workflow_id == workflow_id,
        )
        await self.database.run(lambda connection: connection.execute(delete(end_watchers).where(mine)), write=True)
