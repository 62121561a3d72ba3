"""Schedules and their runs in the store: what Temporal's schedules shall be, and what came of each run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, delete, func, insert, or_, select, update

from engine.core.errors import Conflict
from engine.core.values import compact_json
from engine.store.database import Database
from engine.store.locks import lock_row
from engine.store.schema import tasks
from engine.store.schema_doors import schedule_runs, schedules

KEPT_RUNS = 200
"""How many runs of a schedule are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFacts:
    """A schedule; times in Unix microseconds.

    Attributes:
        tenant: Whose it is.
        id: Its id.
        name: What people call it; unique in its tenant.
        task: The task that it starts: id or name, perhaps with `@VERSION` or `@ALIAS`.
        body: When and how it starts it (engine.control.schedules.ScheduleBody as JSON).
        paused: Whether it starts nothing at present.
        note: Why, or what it is for.
        origin_id: The task whose `dispatch` made it; empty = somebody made it by hand.
        origin_place: Which cron of that `dispatch` it is.
        rev: How often it was changed.
        applied_rev: Which change Temporal has.
        limit_rev: The change that last set how many runs are left.
        problem: Why Temporal does not have the last change.
        deleted_us: When it was removed here, until it is removed in Temporal too.
        created_us: When it was made.
        updated_us: When it was last changed.
        actor: Who made it.
    """

    tenant: str
    id: str
    name: str
    task: str
    body: dict[str, Any]
    paused: bool = False
    note: str = ""
    origin_id: str = ""
    origin_place: int = 0
    rev: int = 1
    applied_rev: int = 0
    limit_rev: int = 1
    problem: str = ""
    deleted_us: int | None = None
    created_us: int
    updated_us: int
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What came of one run of a schedule: `started`, `refused` with the reason, or empty = under way."""

    nominal_us: int
    execution_id: str
    at_us: int
    outcome: str = ""
    error: dict[str, Any] | None = field(default=None)


class TaskCrons(NamedTuple):
    """The newest version of a task that names crons in its `dispatch`."""

    tenant: str
    id: str
    name: str
    version: int
    dispatch: dict[str, Any]


def _facts_of(row: Row[*tuple[Any, ...]]) -> ScheduleFacts:
    values = dict(row._mapping)
    return ScheduleFacts(**values | {"body": json.loads(values["body"])})


def _row_of(facts: ScheduleFacts) -> dict[str, Any]:
    values = {name: getattr(facts, name) for name in ScheduleFacts.__dataclass_fields__}
    return values | {"body": compact_json(facts.body)}


def _one(tenant: str, schedule_id: str) -> Any:
    return and_(schedules.c.tenant == tenant, schedules.c.id == schedule_id)


class ScheduleStore:
    """Schedules of all tenants.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def add(self, facts: ScheduleFacts) -> ScheduleFacts:
        """Store a schedule; one of its id that is there already stays, and is returned.

        Raises:
            Conflict: `schedule.exists` if another has its name.
        """

        def write(connection: Connection) -> ScheduleFacts:
            lock_row(connection, schedules.name, facts.tenant)
            known = connection.execute(select(schedules).where(_one(facts.tenant, facts.id))).one_or_none()
            if known is not None and known.deleted_us is None:
                return _facts_of(known)
            same = and_(schedules.c.tenant == facts.tenant, schedules.c.name == facts.name)
            if connection.execute(select(schedules.c.id).where(same)).one_or_none() is not None:
                raise Conflict(
                    f"there is already a schedule '{facts.name}'",
                    code="schedule.exists",
                    hint="change it, or choose another name",
                )
            if known is None:
                connection.execute(insert(schedules).values(_row_of(facts)))
                return facts
            # removed here and not yet in Temporal
            back = replace(facts, rev=known.rev + 1, applied_rev=known.applied_rev, limit_rev=known.rev + 1)
            connection.execute(update(schedules).where(_one(facts.tenant, facts.id)).values(_row_of(back)))
            return back

        return await self.database.run(write, write=True)

    async def find(self, reference: str, *, tenant: str) -> ScheduleFacts | None:
        """Return a schedule by id or name, or None; removed ones are not found."""
        named = or_(schedules.c.id == reference, schedules.c.name == reference)
        query = select(schedules).where(schedules.c.tenant == tenant, named, schedules.c.deleted_us.is_(None))
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        by_id = [row for row in rows if row.id == reference]
        return _facts_of((by_id or rows)[0]) if rows else None

    async def page(
        self, *, tenant: str, limit: int, after: str | None = None, task_id: str | None = None
    ) -> list[ScheduleFacts]:
        """Return one page of a tenant's schedules in order of their names."""
        query = select(schedules).where(schedules.c.tenant == tenant, schedules.c.deleted_us.is_(None))
        if after is not None:
            query = query.where(schedules.c.name > after)
        if task_id is not None:
            query = query.where(schedules.c.origin_id == task_id)
        query = query.order_by(schedules.c.name).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_facts_of(row) for row in rows]

    async def change(self, facts: ScheduleFacts, *, expect_rev: int | None = None) -> ScheduleFacts | None:
        """Write a changed schedule under a new number of its own; None if it is gone, or was changed meanwhile.

        Raises:
            Conflict: `schedule.exists` if another has its new name.
        """

        def write(connection: Connection) -> ScheduleFacts | None:
            lock_row(connection, schedules.name, facts.tenant)
            query = select(schedules.c.rev, schedules.c.applied_rev).where(_one(facts.tenant, facts.id))
            known = connection.execute(query.where(schedules.c.deleted_us.is_(None))).one_or_none()
            if known is None or (expect_rev is not None and known.rev != expect_rev):
                return None
            same = and_(schedules.c.tenant == facts.tenant, schedules.c.name == facts.name, schedules.c.id != facts.id)
            if connection.execute(select(schedules.c.id).where(same)).one_or_none() is not None:
                raise Conflict(f"there is already a schedule '{facts.name}'", code="schedule.exists")
            values = _row_of(facts) | {"rev": known.rev + 1, "applied_rev": known.applied_rev, "problem": ""}
            if facts.limit_rev > facts.rev:
                values["limit_rev"] = known.rev + 1
            connection.execute(update(schedules).where(_one(facts.tenant, facts.id)).values(values))
            row = connection.execute(select(schedules).where(_one(facts.tenant, facts.id))).one()
            return _facts_of(row)

        return await self.database.run(write, write=True)

    async def mark_deleted(self, schedule_id: str, *, tenant: str, now_us: int) -> ScheduleFacts | None:
        """Remove a schedule, whose name is free at once; the row goes when Temporal has removed it. None = none."""

        def write(connection: Connection) -> ScheduleFacts | None:
            lock_row(connection, schedules.name, tenant)
            mine = and_(_one(tenant, schedule_id), schedules.c.deleted_us.is_(None))
            row = connection.execute(select(schedules).where(mine)).one_or_none()
            if row is None:
                return None
            gone = {"deleted_us": now_us, "name": f"{schedule_id}#removed", "rev": schedules.c.rev + 1}
            connection.execute(update(schedules).where(mine).values(gone))
            return _facts_of(row)

        return await self.database.run(write, write=True)

    async def drop(self, schedule_id: str, *, tenant: str) -> None:
        """Delete the row of a schedule that was removed, and its runs."""

        def write(connection: Connection) -> None:
            runs = and_(schedule_runs.c.tenant == tenant, schedule_runs.c.schedule_id == schedule_id)
            connection.execute(delete(schedule_runs).where(runs))
            mine = and_(_one(tenant, schedule_id), schedules.c.deleted_us.is_not(None))
            connection.execute(delete(schedules).where(mine))

        await self.database.run(write, write=True)

    async def mark_applied(self, facts: ScheduleFacts, *, problem: str = "") -> None:
        """Write that Temporal has a change, or why it cannot have it."""
        values: dict[str, Any] = {"problem": problem[:2_000]}
        if not problem:
            values["applied_rev"] = facts.rev
        newer = schedules.c.applied_rev <= facts.rev
        statement = update(schedules).where(_one(facts.tenant, facts.id), newer).values(values)
        await self.database.run(lambda connection: connection.execute(statement), write=True)

    async def unapplied(self, *, limit: int) -> list[ScheduleFacts]:
        """Return schedules of all tenants whose last change Temporal does not have."""
        query = select(schedules).where(schedules.c.applied_rev != schedules.c.rev).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_facts_of(row) for row in rows]

    async def all_ids(self) -> list[ScheduleFacts]:
        """Return the schedules of all tenants that are not removed."""
        query = select(schedules).where(schedules.c.deleted_us.is_(None))
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_facts_of(row) for row in rows]

    # --- what tasks say --------------------------------------------------------------------------------------------

    async def stamp_of_tasks(self) -> tuple[Any, ...]:
        """Return something that differs whenever a task was stored or removed."""
        query = select(
            func.count(), func.max(tasks.c.updated_us), func.max(tasks.c.deleted_us), func.sum(tasks.c.version)
        )
        row = await self.database.run(lambda connection: connection.execute(query).one())
        return tuple(row)

    async def tasks_with(self, part: str, *, tenant: str | None = None) -> list[TaskCrons]:
        """Return the newest versions of tasks whose `dispatch` has a part (`cron`, `triggers`)."""
        # the text is looked through and not parsed; what it finds too much is left out below
        query = select(tasks.c.tenant, tasks.c.id, tasks.c.name, tasks.c.version, tasks.c.spec).where(
            tasks.c.latest.is_(True), tasks.c.deleted_us.is_(None), tasks.c.spec.like(f'%"{part}"%')
        )
        if tenant is not None:
            query = query.where(tasks.c.tenant == tenant)
        rows = await self.database.run(lambda connection: connection.execute(query.order_by(tasks.c.id)).all())
        found: list[TaskCrons] = []
        for row in rows:
            dispatch = json.loads(row.spec).get("dispatch")
            if isinstance(dispatch, Mapping) and dispatch.get(part):
                found.append(TaskCrons(row.tenant, row.id, row.name, row.version, dict(dispatch)))
        return found

    async def of_tasks(self) -> list[ScheduleFacts]:
        """Return the schedules of all tenants that were made of what tasks say."""
        query = select(schedules).where(schedules.c.origin_id != "", schedules.c.deleted_us.is_(None))
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_facts_of(row) for row in rows]

    # --- runs ------------------------------------------------------------------------------------------------------

    async def begin_run(self, schedule_id: str, run: RunFacts, *, tenant: str) -> RunFacts:
        """Note that a run begins; one of the same time that is noted already is returned."""
        place = {"tenant": tenant, "schedule_id": schedule_id, "nominal_us": run.nominal_us}
        mine = and_(*(schedule_runs.c[name] == value for name, value in place.items()))

        def write(connection: Connection) -> RunFacts:
            lock_row(connection, schedule_runs.name, schedule_id)
            known = connection.execute(select(schedule_runs).where(mine)).one_or_none()
            if known is not None:
                return _run_of(known)
            connection.execute(
                insert(schedule_runs).values(
                    **place, started_id=run.execution_id, at_us=run.at_us, outcome="", error=None
                )
            )
            return run

        return await self.database.run(write, write=True)

    async def end_run(
        self,
        schedule_id: str,
        nominal_us: int,
        *,
        tenant: str,
        outcome: str,
        execution_id: str = "",
        error: dict[str, Any] | None = None,
    ) -> None:
        """Write what came of a run, and forget the oldest ones beyond those that are kept."""
        of_schedule = and_(schedule_runs.c.tenant == tenant, schedule_runs.c.schedule_id == schedule_id)
        told = None if error is None else compact_json(error)
        values = {"outcome": outcome, "started_id": execution_id, "error": told}

        def write(connection: Connection) -> None:
            connection.execute(
                update(schedule_runs).where(of_schedule, schedule_runs.c.nominal_us == nominal_us).values(values)
            )
            oldest = select(schedule_runs.c.at_us).where(of_schedule).order_by(schedule_runs.c.at_us.desc())
            last = connection.execute(oldest.offset(KEPT_RUNS).limit(1)).scalar()
            if last is not None:
                connection.execute(delete(schedule_runs).where(of_schedule, schedule_runs.c.at_us <= last))

        await self.database.run(write, write=True)

    async def runs(self, schedule_id: str, *, tenant: str, limit: int) -> Sequence[RunFacts]:
        """Return the last runs of a schedule, the latest first."""
        query = select(schedule_runs).where(
            schedule_runs.c.tenant == tenant, schedule_runs.c.schedule_id == schedule_id
        )
        query = query.order_by(schedule_runs.c.at_us.desc(), schedule_runs.c.nominal_us.desc()).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_run_of(row) for row in rows]


def _run_of(row: Row[*tuple[Any, ...]]) -> RunFacts:
    return RunFacts(
        nominal_us=row.nominal_us,
        execution_id=row.started_id,
        at_us=row.at_us,
        outcome=row.outcome,
        error=None if row.error is None else json.loads(row.error),
    )
