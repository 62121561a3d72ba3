"""Jobs over many executions in the store: the set each was made for, and what came of every one of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, select, tuple_, update

from engine.core.errors import NotFound
from engine.core.values import compact_json
from engine.store.bulk import upsert
from engine.store.database import Database
from engine.store.locks import lock_row
from engine.store.schema import executions
from engine.store.schema_doors import bulk_items, bulk_jobs

COLLECTING, RUNNING, PAUSED, DONE, ABORTED = "collecting", "running", "paused", "done", "aborted"
OPEN_STATES = (COLLECTING, RUNNING, PAUSED)
OUTCOMES = ("done", "refused", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """A job; times in Unix microseconds.

    Attributes:
        tenant: Whose it is.
        id: Its id.
        action: What is done to each execution.
        filter: To which executions.
        options: How; of one that has ended without the value of an answer.
        rate: How many a second at most.
        state: collecting, running, paused, done, aborted.
        total: How many executions it has found.
        done: To how many it was done.
        refused: How many could not take it.
        failed: With how many it went wrong.
        cursor: Where the next page of its set begins; empty = the set is whole, or was not begun.
        created_us: When it was asked for.
        updated_us: When something last changed.
        closed_us: When it ended.
        actor: Who wants it.
    """

    tenant: str
    id: str
    action: str
    filter: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    rate: int
    state: str = COLLECTING
    total: int = 0
    done: int = 0
    refused: int = 0
    failed: int = 0
    cursor: str = ""
    created_us: int
    updated_us: int
    closed_us: int | None = None
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFacts:
    """What came of one execution of a job: an outcome, or empty = nothing yet."""

    place: int
    execution_id: str
    outcome: str = ""
    code: str = ""
    message: str = ""
    new_id: str = ""
    at_us: int | None = None


_JSON = ("filter", "options")
_ITEM = tuple(
    bulk_items.c.item_id.label(name) if name == "execution_id" else bulk_items.c[name]
    for name in ItemFacts.__dataclass_fields__
)
_ADD_ITEMS = upsert(bulk_items, None)


def _job_of(row: Row[*tuple[Any, ...]]) -> JobFacts:
    values = dict(row._mapping)
    return JobFacts(**values | {name: json.loads(values[name]) for name in _JSON})


def _one(tenant: str, job_id: str) -> Any:
    return and_(bulk_jobs.c.tenant == tenant, bulk_jobs.c.id == job_id)


def without_value(options: dict[str, Any]) -> dict[str, Any]:
    """Return options without what executions are answered: theirs, to go when they are purged."""
    return {name: value for name, value in options.items() if name != "value"}


class JobStore:
    """Jobs of all tenants.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def add(self, job: JobFacts) -> JobFacts:
        """Store a job; one of its id that is there already stays, and is returned."""

        def write(connection: Connection) -> JobFacts:
            lock_row(connection, bulk_jobs.name, job.id)
            known = connection.execute(select(bulk_jobs).where(_one(job.tenant, job.id))).one_or_none()
            if known is not None:
                return _job_of(known)
            values = {name: getattr(job, name) for name in JobFacts.__dataclass_fields__}
            connection.execute(insert(bulk_jobs).values(values | {name: compact_json(values[name]) for name in _JSON}))
            return job

        return await self.database.run(write, write=True)

    async def get(self, job_id: str, *, tenant: str) -> JobFacts:
        """Return a job.

        Raises:
            NotFound: `bulk.not_found`.
        """
        query = select(bulk_jobs).where(_one(tenant, job_id))
        row = await self.database.run(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            raise NotFound(f"there is no job {job_id}", code="bulk.not_found")
        return _job_of(row)

    async def page(self, *, tenant: str, limit: int, after: tuple[int, str] | None = None) -> Sequence[JobFacts]:
        """Return one page of a tenant's jobs, the latest first."""
        query = select(bulk_jobs).where(bulk_jobs.c.tenant == tenant)
        if after is not None:
            query = query.where(tuple_(bulk_jobs.c.created_us, bulk_jobs.c.id) < tuple_(*after))
        query = query.order_by(bulk_jobs.c.created_us.desc(), bulk_jobs.c.id.desc()).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_job_of(row) for row in rows]

    async def unstarted(self, *, before_us: int, limit: int) -> list[JobFacts]:
        """Return jobs of all tenants of which nothing was done since a time, though nobody has stopped them."""
        query = select(bulk_jobs).where(bulk_jobs.c.state == COLLECTING, bulk_jobs.c.total == 0)
        query = query.where(bulk_jobs.c.updated_us < before_us).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_job_of(row) for row in rows]

    async def move(self, job_id: str, *, tenant: str, to: str, of: Sequence[str], now_us: int) -> bool:
        """Bring a job from one of some states to another; False if it is in none of them."""
        values: dict[str, Any] = {"state": to, "updated_us": now_us}
        if to in (DONE, ABORTED):
            values["closed_us"] = now_us
        mine = and_(_one(tenant, job_id), bulk_jobs.c.state.in_(of))

        def write(connection: Connection) -> bool:
            lock_row(connection, bulk_jobs.name, job_id)
            options = connection.execute(select(bulk_jobs.c.options).where(mine)).scalar_one_or_none()
            if options is not None and "closed_us" in values:
                values["options"] = compact_json(without_value(json.loads(options)))
            return connection.execute(update(bulk_jobs).where(mine).values(values)).rowcount == 1

        return await self.database.run(write, write=True)

    async def add_items(self, job: JobFacts, ids: Sequence[str], *, cursor: str, whole: bool, now_us: int) -> JobFacts:
        """Add a page to the set of a job; added again, it changes nothing.

        Args:
            job: The job as it was read before the page.
            ids: The executions.
            cursor: Where the next page begins.
            whole: Whether this was the last page, so that work begins.
            now_us: The present time.
        """

        def write(connection: Connection) -> JobFacts:
            lock_row(connection, bulk_jobs.name, job.id)
            now = _job_of(connection.execute(select(bulk_jobs).where(_one(job.tenant, job.id))).one())
            if now.cursor != job.cursor or now.total != job.total or now.state != COLLECTING:
                return now  # another attempt was quicker
            rows = [
                {
                    "tenant": job.tenant,
                    "job_id": job.id,
                    "place": now.total + number,
                    "item_id": execution_id,
                    "outcome": "",
                    "code": "",
                    "message": "",
                    "new_id": "",
                    "at_us": None,
                }
                for number, execution_id in enumerate(ids)
            ]
            _ADD_ITEMS.run(connection, rows)
            values: dict[str, Any] = {"total": now.total + len(rows), "cursor": cursor, "updated_us": now_us}
            if whole:
                values["state"] = RUNNING
            connection.execute(update(bulk_jobs).where(_one(job.tenant, job.id)).values(values))
            return _job_of(connection.execute(select(bulk_jobs).where(_one(job.tenant, job.id))).one())

        return await self.database.run(write, write=True)

    async def next_items(self, job_id: str, *, tenant: str, limit: int, after: int = -1) -> list[ItemFacts]:
        """Return the next executions of a job to which nothing was done yet, of those behind the place `after`."""
        query = select(*_ITEM).where(
            bulk_items.c.tenant == tenant,
            bulk_items.c.job_id == job_id,
            bulk_items.c.outcome == "",
            bulk_items.c.place > after,
        )
        query = query.order_by(bulk_items.c.place).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [ItemFacts(**row._mapping) for row in rows]

    async def record(self, job_id: str, items: Sequence[ItemFacts], *, tenant: str, now_us: int) -> None:
        """Write what came of executions; what was written before stays."""

        def write(connection: Connection) -> None:
            lock_row(connection, bulk_jobs.name, job_id)
            counts = dict.fromkeys(OUTCOMES, 0)
            for item in items:
                mine = and_(
                    bulk_items.c.tenant == tenant,
                    bulk_items.c.job_id == job_id,
                    bulk_items.c.place == item.place,
                    bulk_items.c.outcome == "",
                )
                values = {
                    "outcome": item.outcome,
                    "code": item.code,
                    "message": item.message[:1_000],
                    "new_id": item.new_id,
                    "at_us": now_us,
                }
                counts[item.outcome] += connection.execute(update(bulk_items).where(mine).values(values)).rowcount
            sums = {name: bulk_jobs.c[name] + count for name, count in counts.items() if count}
            connection.execute(update(bulk_jobs).where(_one(tenant, job_id)).values(**sums, updated_us=now_us))

        await self.database.run(write, write=True)

    async def items(
        self, job_id: str, *, tenant: str, limit: int, after: int | None = None, outcome: str | None = None
    ) -> list[ItemFacts]:
        """Return one page of a job's executions in their order; `outcome` empty = those not done yet."""
        query = select(*_ITEM).where(bulk_items.c.tenant == tenant, bulk_items.c.job_id == job_id)
        if after is not None:
            query = query.where(bulk_items.c.place > after)
        if outcome is not None:
            query = query.where(bulk_items.c.outcome == outcome)
        rows = await self.database.run(
            lambda connection: connection.execute(query.order_by(bulk_items.c.place).limit(limit)).all()
        )
        return [ItemFacts(**row._mapping) for row in rows]

    async def known(self, ids: Sequence[str], *, tenant: str) -> list[str]:
        """Return those of some executions that the tenant has, in the same order."""
        query = select(executions.c.id).where(executions.c.tenant == tenant, executions.c.id.in_(ids))
        found = set(await self.database.run(lambda connection: connection.execute(query).scalars().all()))
        return [item for item in dict.fromkeys(ids) if item in found]
