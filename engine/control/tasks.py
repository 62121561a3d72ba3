"""Use cases on single tasks as Julep's clients have them: under an id of their own, replaced, patched, removed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.control.definitions import Created, DefinitionService
from engine.control.resources import chosen_id, merged
from engine.control.versions import Removed
from engine.core.errors import Conflict, NotFound
from engine.core.kinds import Dialect
from engine.store.definitions import TaskFacts

PATCHED_FILE = "body.json"
"""Name of the source in diagnostics of a task of which only some members were sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Whose task it is, and who sends it how.

    Attributes:
        tenant: Tenant id.
        agent: Id or canonical name of the agent whose task it must be; None = anybody's.
        file: Name of the source in diagnostics.
        dialect: What a text is read as if it has no key `dialect`.
        actor: Who sends it; empty = nobody was asked for a name.
    """

    tenant: str
    agent: str | None = None
    file: str = "body"
    dialect: Dialect = "everstep"
    actor: str = ""


class TaskEdits:
    """Writes tasks that are named by an id, a name or a canonical name.

    Args:
        definitions: Compiles and stores them.
    """

    def __init__(self, definitions: DefinitionService) -> None:
        self._definitions = definitions

    async def find(self, reference: str, *, tenant: str, agent: str | None, version: int | None = None) -> TaskFacts:
        """Return the version of a task that a reference means.

        Args:
            reference: As `VersionService.resolve` takes it.
            tenant: Its tenant.
            agent: The agent whose task it must be; None = anybody's.
            version: The version, if the reference names none.

        Raises:
            NotFound: As `VersionService.resolve`, `agent.not_found`; `task.not_found` for one of another agent.
            Conflict: `task.ambiguous` if anybody's task may be meant, and tasks of several agents have the name.
        """
        owner_id = await self._id_of(agent, tenant=tenant)
        return await self._definitions.versions.resolve(
            reference, tenant=tenant, version=version, agent_id=owner_id, only=agent is not None
        )

    async def put(self, reference: str, source: str, author: Author) -> Created:
        """Store a task under an id: as a new one, or as the next version of what is there.

        Args:
            reference: The id; a name or canonical name only of a task that is there.
            source: YAML or JSON text.
            author: Who sends it; the agent must be given.

        Raises:
            DefinitionError: With diagnostics.
            NotFound: `agent.not_found`.
            InvalidInput: `request.bad_id` for a new task whose id is none.
            Conflict: `task.id_taken` if a task of another agent, or one that was removed, has the id.
        """
        try:
            task = await self.find(reference, tenant=author.tenant, agent=author.agent)
        except NotFound as error:
            if error.code != "task.not_found":
                raise
            return await self._add(chosen_id(reference, "task"), source, author)
        return await self._next(task, source, author)

    async def replace(self, reference: str, source: str, author: Author) -> Created:
        """Make the next version of a task of a whole text, which may leave out the name; same text, same version.

        Raises:
            DefinitionError: With diagnostics.
            NotFound: As `find`.
            Conflict: As `find`.
        """
        return await self._next(await self.find(reference, tenant=author.tenant, agent=author.agent), source, author)

    async def patch(self, reference: str, changes: Mapping[str, Any], author: Author) -> Created:
        """Make the next version of a task with some members replaced; null takes a member out.

        What stays was written in the task's own dialect, so what is new is read in it too.

        Args:
            reference: The task.
            changes: The members; those of `metadata` are laid over the present ones.
            author: Who sends them.

        Raises:
            DefinitionError: With diagnostics; they name places in the task as it would become.
            NotFound: As `find`.
            Conflict: As `find`.
        """
        task = await self.find(reference, tenant=author.tenant, agent=author.agent)
        latest = await self._definitions.definitions.get_task(task.id, tenant=author.tenant)
        spec = {**latest.spec, **changes}
        if "metadata" in changes:
            spec["metadata"] = merged(latest.metadata, changes["metadata"])
        kept = {name: value for name, value in spec.items() if value is not None}
        return await self._definitions.update_task(
            latest.id,
            json.dumps(kept, ensure_ascii=False, indent=2),
            tenant=author.tenant,
            file=PATCHED_FILE,
            actor=author.actor,
        )

    async def remove(self, reference: str, *, tenant: str, agent: str | None) -> Removed:
        """Remove a task with all its versions; its executions go on.

        Raises:
            NotFound: As `find`.
            Conflict: As `find`.
            InputRejected: As `VersionService.remove`.
        """
        owner_id = await self._id_of(agent, tenant=tenant)
        return await self._definitions.versions.remove(reference, tenant=tenant, agent_id=owner_id)

    async def _id_of(self, agent: str | None, *, tenant: str) -> str | None:
        if agent is None:
            return None
        return (await self._definitions.definitions.get_agent(agent, tenant=tenant)).id

    async def _next(self, task: TaskFacts, source: str, author: Author) -> Created:
        return await self._definitions.update_task(
            task.id,
            source,
            tenant=author.tenant,
            file=author.file,
            dialect=author.dialect,
            actor=author.actor,
        )

    async def _add(self, task_id: str, source: str, author: Author) -> Created:
        assert author.agent is not None
        agent = await self._definitions.definitions.get_agent(author.agent, tenant=author.tenant)
        try:
            return await self._definitions.create_task(
                source,
                tenant=author.tenant,
                file=author.file,
                agent_id=agent.id,
                dialect=author.dialect,
                task_id=task_id,
                actor=author.actor,
            )
        except Conflict:
            pass
        try:
            # another request with this id was quicker
            task = await self.find(task_id, tenant=author.tenant, agent=agent.id)
        except NotFound:
            raise Conflict(
                f"the id {task_id} cannot be that of a new task",
                code="task.id_taken",
                hint="a task of another agent has it, or one that was removed; take a new UUID",
            ) from None
        return await self._next(task, source, author)
