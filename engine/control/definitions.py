"""Use cases on tasks: check what an author wrote, compile it, store it in versions."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engine.control.compiling import Compiled, compile_text
from engine.control.presentplans import PresentPlans, snapshot_of, tools_of_agent
from engine.control.request_keys import id_for, key_reused
from engine.control.versions import VersionService
from engine.core.diagnostics import Diagnostic
from engine.core.errors import DefinitionError, NotFound
from engine.core.kinds import Dialect
from engine.core.plan.codec import plan_from_json, plan_hash, plan_to_json
from engine.core.plan.difference import Difference, plan_difference
from engine.core.plan.dispatch import dispatch_changes
from engine.core.plan.ir import ToolContract
from engine.core.run.projection import iso_time
from engine.store.definitions import Definitions, TaskFacts, TaskWrites

BESIDE_THE_PLAN = ("description", "canonical_name", "metadata", "dispatch")
"""Keys of a task that no plan holds; with the plan's hash they decide whether a text says something new."""

JSON_FILE = "body"
"""Name of the source in diagnostics when a task came as a JSON object."""


def now_us() -> int:
    """Return the present time in Unix microseconds."""
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of a task found.

    Attributes:
        ok: Whether the task could be created.
        diagnostics: Errors and warnings as JSON, in the order of their places.
        name: Name of the task, if it could be read.
    """

    ok: bool
    diagnostics: list[dict[str, Any]]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Created:
    """A task after an author's text was taken.

    Attributes:
        task: The version that now is the latest.
        warnings: Findings that did not forbid it, as JSON.
        changed: False if its text says nothing that the latest version does not say.
    """

    task: TaskFacts
    warnings: list[dict[str, Any]] = field(default_factory=list)
    changed: bool = True


@dataclass(frozen=True, slots=True)
class Compared:
    """Two versions of a task beside each other.

    Attributes:
        before: The older one; None if there is none.
        after: The newer one; None if it is a text that is not stored.
        source: Text of the newer one.
        difference: What differs between their plans.
        dispatch: What differs between their `dispatch` blocks, which stand beside the plans, one sentence each.
    """

    before: TaskFacts | None
    after: TaskFacts | None
    source: str
    difference: Difference
    dispatch: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return {from, to, before, after, changes, gains, losses, reach, dispatch}; `before`, `after` are texts."""
        return {
            "from": None if self.before is None else self.before.version,
            "to": None if self.after is None else self.after.version,
            "before": "" if self.before is None else self.before.source,
            "after": self.source,
            **self.difference.to_json(),
            "dispatch": self.dispatch,
        }


class DefinitionService:
    """Creates and checks tasks.

    Args:
        definitions: The store.
        contracts: Contracts of the operator's tools by name.
    """

    def __init__(self, definitions: Definitions, contracts: Mapping[str, ToolContract]) -> None:
        self.definitions = definitions
        self.contracts = contracts
        self.versions = VersionService(definitions)
        self._present = PresentPlans(definitions)

    async def check_task(
        self, source: str, *, tenant: str, file: str = "task", agent_id: str = "", dialect: Dialect = "everstep"
    ) -> Checked:
        """Compile a task without storing it.

        Args:
            source: YAML or JSON text.
            tenant: Tenant id.
            file: Name of the source in diagnostics.
            agent_id: Agent it would belong to.
            dialect: As for `create_task`.

        Raises:
            NotFound: `agent.not_found`.
        """
        try:
            compiled = await self._compile(source, tenant=tenant, file=file, agent_id=agent_id, dialect=dialect)
        except DefinitionError as error:
            return Checked(False, [item.to_json(file) for item in error.diagnostics])
        return Checked(True, _to_json(compiled.warnings, file), compiled.plan.task)

    async def create_task(
        self,
        source: str,
        *,
        tenant: str,
        file: str = "task",
        agent_id: str = "",
        by_name: bool = False,
        dialect: Dialect = "everstep",
        to_run: bool = False,
        request_key: str = "",
        task_id: str = "",
        actor: str = "",
    ) -> Created:
        """Compile a task and store it.

        Args:
            source: YAML or JSON text.
            tenant: Tenant id.
            file: Name of the source in diagnostics.
            agent_id: Agent it belongs to, by id or canonical name; empty = none.
            by_name: Make a new version of the task that has this name and agent, if there is one and it differs.
            dialect: What the text is read as if it has no key `dialect`.
            to_run: Store nothing if this engine could not run it.
            request_key: If a request with this key has created a task of this text, return that one.
            task_id: The id of a new task; empty = one of its own.
            actor: Who writes it; empty = nobody was asked for a name.

        Raises:
            DefinitionError: With diagnostics.
            NotFound: `agent.not_found`.
            Conflict: `idempotency.key_reused` if the key has created another task; `task.exists` if the id is taken.
        """
        if agent_id:
            agent_id = (await self.definitions.get_agent(agent_id, tenant=tenant)).id
        compiled = await self._compile(source, tenant=tenant, file=file, agent_id=agent_id, dialect=dialect)
        if to_run:
            compiled.check_runs()
        warnings = _to_json(compiled.warnings, file)
        older = None
        if by_name:
            older = await self.definitions.find_task(compiled.plan.task, tenant=tenant, agent_id=agent_id)
        task_id = task_id or id_for(tenant, "task", request_key)
        if request_key and (known := await self._first_version(task_id, tenant)) is not None:
            if known.source != source or known.agent_id != agent_id:
                raise key_reused(request_key, f"the task {known.id}")
            return Created(known, warnings)
        owner = {"tenant": tenant, "agent_id": agent_id, "actor": actor}
        return await self._store(compiled, source, older, warnings, task_id=task_id, **owner)

    async def _first_version(self, task_id: str, tenant: str) -> TaskFacts | None:
        try:
            return await self.definitions.get_task(task_id, tenant=tenant, version=1, removed=True)
        except NotFound:
            return None

    async def update_task(
        self,
        reference: str,
        source: str,
        *,
        tenant: str,
        file: str = "task",
        dialect: Dialect = "everstep",
        actor: str = "",
    ) -> Created:
        """Compile a task and store it as the next version of an existing one, unless it says nothing new.

        Raises:
            DefinitionError: With diagnostics.
            NotFound: `task.not_found`.
        """
        task = await self.versions.resolve(reference, tenant=tenant)
        older = await self.definitions.get_task(task.id, tenant=tenant)
        facts: dict[str, Any] = {"tenant": tenant, "agent_id": older.agent_id}
        compiled = await self._compile(source, file=file, dialect=dialect, name=older.name, **facts)
        warnings = _to_json(compiled.warnings, file)
        return await self._store(compiled, source, older, warnings, actor=actor, **facts)

    async def compare(
        self,
        reference: str,
        *,
        tenant: str,
        older: str = "",
        source: str | None = None,
        file: str = "task",
        dialect: Dialect = "everstep",
    ) -> Compared:
        """Say how a version of a task, or a text that would become one, differs from an older version.

        Args:
            reference: The newer version (`NAME`, `NAME@3`, …); with a text, the task that it belongs to.
            tenant: Tenant id.
            older: The version to compare with: a number or an alias. Empty = the one before, or with a text the latest.
            source: The text.
            file: Its name in diagnostics.
            dialect: As for `create_task`.

        Raises:
            NotFound: As `VersionService.resolve`.
            DefinitionError: The text is wrong.
        """
        newer = await self.versions.resolve(reference, tenant=tenant)
        before: TaskFacts | None = newer
        if older:
            before = await self.versions.resolve(f"{newer.id}@{older}", tenant=tenant)
        elif source is None:
            before = None
            if newer.version > 1:
                before = await self.versions.resolve(newer.id, tenant=tenant, version=newer.version - 1)
        if source is None:
            plan, text, spec = plan_from_json(newer.plan), newer.source, newer.spec
        else:
            compiled = await self._compile(source, tenant=tenant, file=file, agent_id=newer.agent_id, dialect=dialect)
            plan, text, spec = compiled.plan, source, compiled.spec
        old_plan = None if before is None else plan_from_json(before.plan)
        return Compared(
            before=before,
            after=newer if source is None else None,
            source=text,
            difference=plan_difference(old_plan, plan),
            dispatch=dispatch_changes(None if before is None else before.spec.get("dispatch"), spec.get("dispatch")),
        )

    async def plan_for_start(self, task: TaskFacts) -> dict[str, Any]:
        """Return a task's plan as an execution begins with it; see `PresentPlans.of`.

        Raises:
            CompileError: `task.not_runnable` if something in it is only planned, or a tool is not there for its tenant.
            BugError: `plan.stdlib` if it was made for a newer expression library.
        """
        return plan_to_json(await self._present.of(task, self.contracts))

    async def _compile(
        self, source: str, *, tenant: str, file: str, agent_id: str, dialect: Dialect, name: str = ""
    ) -> Compiled:
        agent = await self.definitions.get_agent(agent_id, tenant=tenant) if agent_id else None
        return compile_text(
            source,
            file=file,
            contracts=self.contracts,
            agent=snapshot_of(agent),
            dialect=dialect,
            tenant=tenant,
            name=name,
            inherited=[] if agent is None else await tools_of_agent(self.definitions, agent.id, tenant),
        )

    async def _store(
        self,
        compiled: Compiled,
        source: str,
        older: TaskFacts | None,
        warnings: list[dict[str, Any]],
        *,
        tenant: str,
        agent_id: str,
        actor: str,
        task_id: str = "",
    ) -> Created:
        owner = {"tenant": tenant, "agent_id": agent_id, "actor": actor}
        task = facts_of(compiled, source, older, task_id=task_id, **owner)
        if older is None or says_more(task, older):
            await self.definitions.add_task(task)
            return Created(task, warnings)
        if task.source == older.source:
            return Created(older, warnings, changed=False)
        same = restated(task, older)
        await self.definitions.write_tasks(TaskWrites(restated=[same]), tenant=tenant, now_us=task.updated_us)
        return Created(same, warnings, changed=False)


def facts_of(
    compiled: Compiled,
    source: str,
    older: TaskFacts | None,
    *,
    tenant: str,
    agent_id: str = "",
    applied_set: str = "",
    task_id: str = "",
    actor: str = "",
) -> TaskFacts:
    """Return the version that a compiled text would become.

    Args:
        compiled: The task.
        source: Its text.
        older: The latest version of the task that it belongs to; None = a new task.
        tenant: Tenant id.
        agent_id: Its agent, or an empty text.
        applied_set: The set of files it comes from, or an empty text.
        task_id: Id of a new task; empty = a new one.
        actor: Who writes it; empty = nobody was asked for a name.
    """
    plan, spec, now = compiled.plan, compiled.spec, now_us()
    canonical = spec.get("canonical_name")
    return TaskFacts(
        id=(task_id or str(uuid.uuid4())) if older is None else older.id,
        tenant=tenant,
        version=1 if older is None else older.version + 1,
        agent_id=agent_id,
        name=plan.task,
        canonical_name=canonical if isinstance(canonical, str) else None,
        description=str(spec.get("description") or ""),
        spec=spec,
        source=source,
        plan=plan_to_json(plan),
        plan_hash=plan_hash(plan),
        input_schema=plan.input_schema,
        metadata=dict(spec.get("metadata") or {}),
        created_us=now if older is None else older.created_us,
        updated_us=now,
        applied_set=applied_set or ("" if older is None else older.applied_set),
        actor=actor,
    )


def says_more(task: TaskFacts, older: TaskFacts) -> bool:
    """Whether a version differs from an older one in more than the words of its text (comments, order, spelling)."""
    if task.plan_hash != older.plan_hash or task.name != older.name:
        return True
    return any(task.spec.get(key) != older.spec.get(key) for key in BESIDE_THE_PLAN)


def restated(task: TaskFacts, older: TaskFacts) -> TaskFacts:
    """Return an older version with the text of one that means the same, so that its comments are not lost."""
    return replace(older, spec=task.spec, source=task.source, applied_set=task.applied_set)


def _to_json(items: list[Diagnostic], file: str) -> list[dict[str, Any]]:
    return [item.to_json(file) for item in items]


def task_view(task: TaskFacts) -> dict[str, Any]:
    """Return a task as JSON: what its author wrote, and id, version, agent_id, plan_hash and times."""
    return {
        **task.spec,
        "id": task.id,
        "name": task.name,
        "version": task.version,
        "agent_id": task.agent_id or None,
        "description": task.description,
        "canonical_name": task.canonical_name,
        "input_schema": task.input_schema,
        "metadata": task.metadata,
        "plan_hash": task.plan_hash,
        "created_at": iso_time(task.created_us),
        "updated_at": iso_time(task.updated_us),
    }
