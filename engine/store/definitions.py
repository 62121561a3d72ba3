"""The truth about tasks: rows with versions, read and written by id within one tenant."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.core.errors import Conflict, NotFound
from engine.core.plan.codec import hash_of_json
from engine.core.plan.ir import PLAN_FORMAT
from engine.core.plan.upgrade import format_of, upgrade_plan
from engine.core.values import Json, compact_json
from engine.store.agents import AgentFacts, AgentStore, find_agent, no_agent
from engine.store.aliases import Aliases, AliasFacts, write_alias
from engine.store.database import Database
from engine.store.locks import lock_definitions
from engine.store.metadata import ordered, page_of
from engine.store.schema import agents, task_aliases, tasks
from engine.store.texts import plain


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """One version of a task as it is stored; times in Unix microseconds.

    Attributes:
        id: Task id.
        tenant: Its tenant.
        version: Counts from 1.
        agent_id: Its agent, or an empty text.
        name: Its name.
        canonical_name: Unique name for programs, or None.
        description: What it is for.
        spec: What the author wrote, as JSON.
        source: What the author wrote, as text.
        plan: The compiled plan as JSON.
        plan_hash: Content hash of the plan.
        input_schema: JSON Schema of the input; None = anything.
        metadata: The author's metadata.
        created_us: When the first version was created.
        updated_us: When this version was created.
        applied_set: The set of files it was applied from; empty = created in another way.
        actor: Who wrote this version; empty = nobody was asked for a name.
    """

    id: str
    tenant: str
    version: int = 1
    agent_id: str = ""
    name: str
    canonical_name: str | None = None
    description: str = ""
    spec: dict[str, Any]
    source: str
    plan: dict[str, Any]
    plan_hash: str
    input_schema: Json = None
    metadata: dict[str, Any] = field(default_factory=dict)
    created_us: int
    updated_us: int
    applied_set: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskWrites:
    """Changes of tasks that are made together or not at all.

    Attributes:
        added: New versions; each becomes the latest of its task.
        restated: Stored versions whose text, but not their meaning, has changed.
        removed: Ids of tasks that go.
        aliases: Aliases that are set.
        new_names: Refuse a first version whose name and agent another task has.
    """

    added: Sequence[TaskFacts] = ()
    restated: Sequence[TaskFacts] = ()
    removed: Sequence[str] = ()
    aliases: Sequence[AliasFacts] = ()
    new_names: bool = False


@dataclass(frozen=True, slots=True)
class Namesake:
    """The newest task of an agent that has a name which tasks of other agents may have too.

    Attributes:
        id: The task.
        agent_id: Its agent, or an empty text.
        agent_name: The agent's name, or an empty text.
    """

    id: str
    agent_id: str
    agent_name: str


def _plan_of(row: Row[*tuple[Any, ...]]) -> tuple[dict[str, Any], str]:
    """Return a stored plan in the present format, and its hash."""
    plan: dict[str, Any] = json.loads(row.plan)
    # one of a newer engine can be listed; only what reads it refuses it
    if not 0 < format_of(plan) < PLAN_FORMAT:
        return plan, row.plan_hash
    plan = upgrade_plan(plan)
    # with the old hash, the next `apply` of the same text would make a new version
    return plan, hash_of_json(plan)


def _task_of(row: Row[*tuple[Any, ...]]) -> TaskFacts:
    plan, plan_hash = _plan_of(row)
    return TaskFacts(
        id=row.id,
        tenant=row.tenant,
        version=row.version,
        agent_id=row.agent_id,
        name=row.name,
        canonical_name=row.canonical_name,
        description=row.description,
        spec=json.loads(row.spec),
        source=row.source,
        plan=plan,
        plan_hash=plan_hash,
        input_schema=json.loads(row.input_schema),
        metadata=json.loads(row._mapping["metadata"]),
        created_us=row.created_us,
        updated_us=row.updated_us,
        applied_set=row.applied_set,
        actor=row.actor,
    )


_LIVE = tasks.c.deleted_us.is_(None)


def _has_this_name(name: str, tenant: str, canonical: bool) -> ColumnElement[bool]:
    column = tasks.c.canonical_name if canonical else tasks.c.name
    return and_(tasks.c.tenant == tenant, column == name, tasks.c.latest.is_(True), _LIVE)


def _row_of(task: TaskFacts) -> dict[str, Any]:
    return {
        "tenant": task.tenant,
        "id": task.id,
        "version": task.version,
        "latest": True,
        "agent_id": task.agent_id,
        "name": task.name,
        "canonical_name": task.canonical_name,
        "description": task.description,
        "spec": compact_json(task.spec),
        "source": task.source,
        "plan": compact_json(task.plan),
        "plan_hash": task.plan_hash,
        "input_schema": compact_json(task.input_schema),
        "metadata": compact_json(task.metadata),
        "created_us": task.created_us,
        "updated_us": task.updated_us,
        "applied_set": task.applied_set,
        "actor": plain(task.actor, 255),
    }


async def _add_version(connection: AsyncConnection, task: TaskFacts, *, new_name: bool) -> None:
    # it may have been deleted since the task was compiled
    if task.agent_id and await connection.run_sync(find_agent, task.agent_id, task.tenant) is None:
        raise no_agent(task.agent_id)
    older = and_(tasks.c.tenant == task.tenant, tasks.c.id == task.id, tasks.c.latest.is_(True), _LIVE)
    present = await connection.execute(update(tasks).where(older).values(latest=False))
    taken = f"version {task.version} of task {task.name!r} is stored already"
    if task.version > 1 and present.rowcount == 0:
        raise _overtaken(f"the task {task.name!r} was removed meanwhile")
    if task.version == 1 and new_name and await _has_name(connection, task):
        raise _overtaken(f"there is a task {task.name!r} already")
    try:
        await connection.execute(insert(tasks).values(_row_of(task)))
    except IntegrityError as error:
        raise _overtaken(taken) from error


async def _has_name(connection: AsyncConnection, task: TaskFacts) -> bool:
    query = select(tasks.c.id).where(
        tasks.c.tenant == task.tenant, tasks.c.name == task.name, tasks.c.agent_id == task.agent_id, _LIVE
    )
    return (await connection.execute(query.limit(1))).scalar() is not None


def _overtaken(message: str) -> Conflict:
    return Conflict(message, code="task.exists", hint="another writer was quicker; try again", retryable=True)


class Definitions:
    """Tasks, and the agents whose they are.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.agents = AgentStore(database)
        self.aliases = Aliases(database)

    async def get_agent(self, reference: str, *, tenant: str) -> AgentFacts:
        """Return an agent by its id or canonical name.

        Raises:
            NotFound: `agent.not_found`.
        """
        return await self.agents.get(reference, tenant=tenant)

    async def add_task(self, task: TaskFacts) -> None:
        """Store a task's version and make it the latest one.

        Raises:
            Conflict: `task.exists` if that version is stored already, or the task was removed meanwhile.
            NotFound: `agent.not_found`.
        """
        await self.write_tasks(TaskWrites(added=[task]), tenant=task.tenant, now_us=task.updated_us)

    async def write_tasks(self, writes: TaskWrites, *, tenant: str, now_us: int) -> None:
        """Make several changes in one transaction.

        Args:
            writes: The changes.
            tenant: The tenant of all of them.
            now_us: The time that removed tasks get.

        Raises:
            Conflict: `task.exists` if another writer was quicker; nothing is changed then.
            NotFound: `agent.not_found`, as little is changed then.
        """
        async with self.database.write() as connection:
            await connection.run_sync(lock_definitions, tenant)
            for task in writes.added:
                await _add_version(connection, task, new_name=writes.new_names)
            for task in writes.restated:
                row = {name: _row_of(task)[name] for name in ("spec", "source", "applied_set")}
                same = and_(tasks.c.tenant == tenant, tasks.c.id == task.id, tasks.c.version == task.version)
                await connection.execute(update(tasks).where(same).values(row))
            for alias in writes.aliases:
                await write_alias(connection, alias)
            for task_id in writes.removed:
                gone = and_(tasks.c.tenant == tenant, tasks.c.id == task_id, _LIVE)
                await connection.execute(update(tasks).where(gone).values(deleted_us=now_us))
                names = and_(task_aliases.c.tenant == tenant, task_aliases.c.task_id == task_id)
                await connection.execute(delete(task_aliases).where(names))

    async def get_task(
        self, task_id: str, *, tenant: str, version: int | None = None, removed: bool = False
    ) -> TaskFacts:
        """Return a version of a task, by default the latest.

        Args:
            task_id: The task.
            tenant: Its tenant.
            version: The version.
            removed: Whether it may have been removed, because an execution that names it goes on.

        Raises:
            NotFound: `task.not_found`, also for a removed one.
        """
        which: ColumnElement[bool] = tasks.c.latest.is_(True) if version is None else tasks.c.version == version
        query = select(tasks).where(tasks.c.tenant == tenant, tasks.c.id == task_id, which)
        if not removed:
            query = query.where(_LIVE)
        async with self.database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            what = task_id if version is None else f"{task_id} of version {version}"
            raise NotFound(f"there is no task {what}", code="task.not_found")
        return _task_of(row)

    async def find_task(
        self, name: str, *, tenant: str, agent_id: str = "", canonical: bool = False
    ) -> TaskFacts | None:
        """Return the newest task of that name and agent, or None.

        Args:
            name: The name.
            tenant: Its tenant.
            agent_id: Its agent; empty = none.
            canonical: Whether the canonical name is meant.
        """
        query = select(tasks).where(_has_this_name(name, tenant, canonical), tasks.c.agent_id == agent_id)
        query = query.order_by(tasks.c.created_us.desc(), tasks.c.id).limit(1)
        async with self.database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else _task_of(row)

    async def namesakes(self, name: str, *, tenant: str, limit: int, canonical: bool = False) -> list[Namesake]:
        """Return the newest task of that name of each agent that has one, the newest first.

        Args:
            name: The name.
            tenant: Their tenant.
            limit: Most to return.
            canonical: Whether the canonical name is meant.
        """
        newest_first = (tasks.c.created_us.desc(), tasks.c.id)
        place = func.row_number().over(partition_by=tasks.c.agent_id, order_by=newest_first).label("place")
        named = select(tasks.c.id, tasks.c.tenant, tasks.c.agent_id, tasks.c.created_us, place)
        found = named.where(_has_this_name(name, tenant, canonical)).subquery()
        owner = and_(agents.c.tenant == found.c.tenant, agents.c.id == found.c.agent_id)
        query = (
            select(found.c.id, found.c.agent_id, agents.c.name)
            .select_from(found.outerjoin(agents, owner))
            .where(found.c.place == 1)
            .order_by(found.c.created_us.desc(), found.c.id)
            .limit(limit)
        )
        async with self.database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [Namesake(row.id, row.agent_id, row.name or "") for row in rows]

    async def list_versions(self, task_id: str, *, tenant: str, limit: int = 100, offset: int = 0) -> list[TaskFacts]:
        """Return one page of a task's versions, the newest first."""
        query = (
            select(tasks)
            .where(tasks.c.tenant == tenant, tasks.c.id == task_id, _LIVE)
            .order_by(tasks.c.version.desc())
            .limit(limit)
            .offset(offset)
        )
        async with self.database.read() as connection:
            return [_task_of(row) for row in (await connection.execute(query)).all()]

    async def list_applied(self, applied_set: str, *, tenant: str) -> list[TaskFacts]:
        """Return the tasks that were applied from a set of files, in their latest versions, by name."""
        query = (
            select(tasks)
            .where(tasks.c.tenant == tenant, tasks.c.applied_set == applied_set, tasks.c.latest.is_(True), _LIVE)
            .order_by(tasks.c.name, tasks.c.id)
        )
        async with self.database.read() as connection:
            return [_task_of(row) for row in (await connection.execute(query)).all()]

    async def task_names(self, *, tenant: str, agent_id: str | None = None, limit: int = 1_000) -> list[str]:
        """Return the names of tasks, those that changed last first.

        Args:
            tenant: Tenant id.
            agent_id: Only those of this agent.
            limit: Most to return.
        """
        query = select(tasks.c.name).where(tasks.c.tenant == tenant, tasks.c.latest.is_(True), _LIVE)
        if agent_id is not None:
            query = query.where(tasks.c.agent_id == agent_id)
        query = query.order_by(tasks.c.updated_us.desc()).limit(limit)
        async with self.database.read() as connection:
            return [str(row.name) for row in (await connection.execute(query)).all()]

    async def list_tasks(
        self,
        *,
        tenant: str,
        agent_id: str | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int = 100,
        offset: int = 0,
        sort_by: str = "created_at",
        descending: bool = False,
    ) -> list[TaskFacts]:
        """Return one page of tasks in their latest versions.

        Args:
            tenant: Tenant id.
            agent_id: Only those of this agent.
            name: Only those of this name.
            metadata: Only those whose metadata contains this object.
            limit: Most to return.
            offset: How many to leave out first.
            sort_by: `created_at` or `updated_at`.
            descending: Newest first.
        """
        query: Select[Any] = select(tasks).where(tasks.c.tenant == tenant, tasks.c.latest.is_(True), _LIVE)
        if agent_id is not None:
            query = query.where(tasks.c.agent_id == agent_id)
        if name is not None:
            query = query.where(tasks.c.name == name)
        query = ordered(query, tasks, sort_by, descending)
        async with self.database.read() as connection:
            rows = await page_of(connection, query, metadata=metadata, limit=limit, offset=offset)
            return [_task_of(row) for row in rows]
