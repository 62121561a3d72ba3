"""Use cases on stored tasks: find one by id, name, version or alias; move aliases; remove tasks."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.core.diagnostics import did_you_mean
from engine.core.errors import Conflict, InputRejected, NotFound
from engine.core.run.projection import iso_time
from engine.store.aliases import AliasFacts
from engine.store.definitions import Definitions, Namesake, TaskFacts, TaskWrites

LATEST = "latest"
ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}\Z")
MOST_VERSION = 2**31 - 1
"""What the store's column holds."""
MOST_NAMESAKES = 10
"""So many of the tasks that a name may mean are told."""


@dataclass(frozen=True, slots=True)
class Removed:
    """A task that was removed.

    Attributes:
        task: Its latest version.
        deleted_us: When, Unix microseconds.
    """

    task: TaskFacts
    deleted_us: int


def check_alias(alias: str) -> str:
    """Return an alias if it may be one.

    Raises:
        InputRejected: `alias.bad_name`.
    """
    if ALIAS.match(alias) is None or alias == LATEST:
        why = "always means the newest version" if alias == LATEST else "is not a name for an alias"
        raise InputRejected(
            f"'{alias[:80]}' {why}",
            code="alias.bad_name",
            hint="use a letter, then letters, digits, `_`, `.`, `-`; at most 64 characters, such as `prod`",
        )
    return alias


class VersionService:
    """Finds tasks by what people call them, and keeps their aliases.

    Args:
        definitions: The store.
    """

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions

    async def resolve(
        self,
        reference: str,
        *,
        tenant: str,
        version: int | None = None,
        agent_id: str | None = None,
        only: bool = False,
    ) -> TaskFacts:
        """Return the version of a task that a reference means.

        Args:
            reference: `ID`, `NAME`, `CANONICAL_NAME`, or one of them with `@3`, `@latest` or `@ALIAS` behind it. A task
                whose whole name is the reference comes first; of several tasks of one name and agent, the newest.
            tenant: Its tenant.
            version: The version, if the reference names none.
            agent_id: Agent whose tasks come before others of the same name; empty = those of no agent come first.
            only: Whether the tasks of others are not found at all.

        Returns:
            The task in that version; without one the latest.

        Raises:
            NotFound: `task.not_found`, `task.version_not_found`, `alias.not_found`.
            Conflict: `task.ambiguous` if tasks of several agents have the name, and none of them comes first.
            InputRejected: `task.two_versions` if the reference and `version` both name one.
        """
        found = await self._find(reference, tenant=tenant, agent_id=agent_id, only=only)
        which = ""
        if found is None:
            head, mark, which = reference.rpartition("@")
            found = await self._find(head, tenant=tenant, agent_id=agent_id, only=only) if mark and head else None
        if found is None:
            known = await self._definitions.task_names(tenant=tenant, agent_id=agent_id if only else None)
            near = did_you_mean(reference, known) or did_you_mean(reference.partition("@")[0], known)
            raise NotFound(f"there is no task {reference}", code="task.not_found", hint=near)
        if which and version is not None:
            raise InputRejected(
                f"'{reference}' names a version, and version {version} is asked for as well",
                code="task.two_versions",
                hint="leave one of them out",
            )
        number = version if not which else await self._number_of(found, which)
        if number is None or number == found.version:
            return found
        return await self._version(found, number)

    async def _find(self, name: str, *, tenant: str, agent_id: str | None, only: bool) -> TaskFacts | None:
        try:
            found = await self._definitions.get_task(name, tenant=tenant)
        except NotFound:
            pass
        else:
            return None if only and found.agent_id != agent_id else found
        if agent_id is not None:
            for canonical in (False, True):
                own = await self._definitions.find_task(name, tenant=tenant, agent_id=agent_id, canonical=canonical)
                if own is not None:
                    return own
        return None if only else await self._find_anybodys(name, tenant=tenant)

    async def _find_anybodys(self, name: str, *, tenant: str) -> TaskFacts | None:
        for canonical in (False, True):
            found = await self._definitions.namesakes(
                name, tenant=tenant, limit=MOST_NAMESAKES + 1, canonical=canonical
            )
            if len(found) > 1:
                raise _ambiguous(name, found)
            if found:
                return await self._definitions.get_task(found[0].id, tenant=tenant)
        return None

    async def _number_of(self, task: TaskFacts, which: str) -> int | None:
        if which == LATEST:
            return None
        if which.isascii() and which.isdigit():
            return int(which[:12])
        alias = await self._definitions.aliases.find(task.id, which, tenant=task.tenant)
        if alias is not None:
            return alias.version
        known = [item.alias for item in await self._definitions.aliases.list_all(tenant=task.tenant, task_id=task.id)]
        listed = f"its aliases: {', '.join(known)}" if known else "it has none"
        raise NotFound(
            f"the task '{task.name}' has no alias '{which[:80]}'",
            code="alias.not_found",
            hint="; ".join(part for part in (did_you_mean(which, known), listed) if part),
        )

    async def _version(self, task: TaskFacts, number: int) -> TaskFacts:
        if 0 < number <= MOST_VERSION:
            try:
                return await self._definitions.get_task(task.id, tenant=task.tenant, version=number)
            except NotFound:
                pass
        raise NotFound(
            f"the task '{task.name}' has no version {number}",
            code="task.version_not_found",
            hint=f"its newest version is {task.version}",
        )

    async def list_versions(
        self, reference: str, *, tenant: str, limit: int = 100, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return a task's versions as JSON, the newest first.

        Raises:
            NotFound: As `resolve`.
        """
        task = await self.resolve(reference, tenant=tenant)
        latest = await self._definitions.get_task(task.id, tenant=tenant)
        aliases = await self._definitions.aliases.list_all(tenant=tenant, task_id=task.id)
        found = await self._definitions.list_versions(task.id, tenant=tenant, limit=limit, offset=offset)
        return [
            {
                "id": item.id,
                "name": item.name,
                "version": item.version,
                "latest": item.version == latest.version,
                "aliases": [alias.alias for alias in aliases if alias.version == item.version],
                "plan_hash": item.plan_hash,
                "description": item.description,
                "actor": item.actor or None,
                "created_at": iso_time(item.updated_us),
            }
            for item in found
        ]

    async def list_aliases(self, *, tenant: str, reference: str | None = None) -> list[AliasFacts]:
        """Return the aliases of a task, or of all tasks.

        Raises:
            NotFound: As `resolve`.
        """
        task = None if reference is None else await self.resolve(reference, tenant=tenant)
        return await self._definitions.aliases.list_all(tenant=tenant, task_id=None if task is None else task.id)

    async def set_alias(
        self, reference: str, alias: str, *, tenant: str, version: int | str = LATEST, expect: int | None = None
    ) -> AliasFacts:
        """Let an alias point to a version.

        Args:
            reference: The task.
            alias: Its name.
            tenant: The tenant.
            version: A number, `latest`, or another alias (to promote what it points to).
            expect: The version it must point to now; 0 = it must not exist yet; None = whatever it is.

        Raises:
            NotFound: As `resolve`.
            InputRejected: `alias.bad_name`.
            Conflict: `alias.moved` if it does not point to what was expected.
        """
        check_alias(alias)
        task = await self.resolve(reference, tenant=tenant)
        number = version if isinstance(version, int) else await self._number_of(task, version)
        if isinstance(number, int):
            task = await self._version(task, number)
        elif version == LATEST:
            task = await self._definitions.get_task(task.id, tenant=tenant)
        facts = AliasFacts(tenant=tenant, task_id=task.id, alias=alias, version=task.version, updated_us=_now_us())
        await self._definitions.aliases.put(facts, expect=expect)
        return facts

    async def delete_alias(self, reference: str, alias: str, *, tenant: str) -> None:
        """Delete an alias.

        Raises:
            NotFound: As `resolve`, and `alias.not_found`.
        """
        task = await self.resolve(reference, tenant=tenant)
        await self._definitions.aliases.remove(task.id, alias, tenant=tenant)

    async def remove(self, reference: str, *, tenant: str, agent_id: str | None = None) -> Removed:
        """Remove a task with all its versions and aliases.

        Its executions go on, since each carries its own plan, and its name is free at once.

        Args:
            reference: The task.
            tenant: Its tenant.
            agent_id: The agent whose task it must be; None = anybody's.

        Raises:
            NotFound: As `resolve`.
            Conflict: As `resolve`.
            InputRejected: `task.one_version` if the reference names a version: versions cannot be removed one by one.
        """
        task = await self.resolve(reference, tenant=tenant, agent_id=agent_id, only=agent_id is not None)
        if reference not in (task.id, task.name, task.canonical_name):
            raise InputRejected(
                f"'{reference}' names one version, but a task is removed as a whole",
                code="task.one_version",
                hint=f"remove '{task.name}', or delete the alias",
            )
        moment = _now_us()
        await self._definitions.write_tasks(TaskWrites(removed=[task.id]), tenant=tenant, now_us=moment)
        return Removed(task, moment)


def _ambiguous(name: str, found: Sequence[Namesake]) -> Conflict:
    """Return the refusal of a name that tasks of several agents have: the newest of them is hardly the one meant."""
    told = [f"{item.id} (of {item.agent_name or 'no agent'})" for item in found[:MOST_NAMESAKES]]
    return Conflict(
        f"tasks of several agents are called '{name}': {', '.join(told)}{', …' if len(found) > len(told) else ''}",
        code="task.ambiguous",
        hint=f"give the id of the one that is meant; below its agent (/agents/AGENT/tasks/{name}) the name does",
        details={
            "tasks": [{"id": item.id, "agent_id": item.agent_id or None} for item in found[:MOST_NAMESAKES]],
        },
    )


def alias_view(facts: AliasFacts) -> dict[str, Any]:
    """Return an alias as JSON: {alias, task_id, version, updated_at}."""
    return {
        "alias": facts.alias,
        "task_id": facts.task_id,
        "version": facts.version,
        "updated_at": iso_time(facts.updated_us),
    }


def _now_us() -> int:
    return time.time_ns() // 1_000
