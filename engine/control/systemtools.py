"""The use case "a task works with what this server keeps": in its tenant, and within its own bound."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from engine.control.children import check_authority
from engine.control.definitions import DefinitionService, task_view
from engine.control.documents import DocumentService
from engine.control.sessions.opening import Sessions
from engine.control.starting import StartService
from engine.control.systemdocs import Find, SystemDocs
from engine.control.systemresources import SystemResources, actor_of, page_of, refuse_bounded
from engine.control.systemsessions import SystemSessions
from engine.core.contracts.activities import CallContext
from engine.core.plan.codec import plan_from_json, plan_to_json
from engine.core.plan.grant import OPEN, Grant, check_permitted, narrow
from engine.core.run.projection import execution_view
from engine.core.values import Json, compact_json
from engine.store.definitions import TaskFacts
from engine.store.docs import DocStore
from engine.store.filters import ExecutionFilter
from engine.store.listing import ExecutionLists
from engine.store.projection import ProjectionStore

RESOURCES = ("agent.", "user.")


class SystemTools:
    """Does what system tools ask for.

    Args:
        definitions: Use cases on tasks and agents.
        starter: Starts executions.
        store: The projection.
        sessions: Use cases on sessions.
        find: Searches documents; None = this process cannot.
    """

    def __init__(
        self,
        definitions: DefinitionService,
        starter: StartService,
        store: ProjectionStore,
        sessions: Sessions,
        find: Find | None = None,
    ) -> None:
        self._docs = SystemDocs(DocumentService(DocStore(store.database)), find)
        self._resources = SystemResources(store.database)
        self._sessions = SystemSessions(sessions)
        self._definitions = definitions
        self._starter = starter
        self._store = store
        self._lists = ExecutionLists(store.database)
        self._operations: Mapping[str, Callable[[dict[str, Any], CallContext], Awaitable[Json]]] = {
            "task.list": self._list_tasks,
            "task.get": self._get_task,
            "task.create": self._create_task,
            "task.update": self._update_task,
            "task.delete": self._delete_task,
            "execution.list": self._list_executions,
            "execution.get": self._get_execution,
            "execution.create": self._create_execution,
        }

    async def run(self, operation: str, arguments: dict[str, Any], context: CallContext) -> Json:
        """Do an operation.

        Args:
            operation: One of `engine.core.plan.system_tools.OPERATIONS`.
            arguments: Its arguments, which fit its schema.
            context: Who calls, with the whole bound of its plan.

        Raises:
            EngineError: As the use case behind it; `authority.denied` if the bound forbids it.
        """
        if operation.startswith("session."):
            return await self._sessions.run(operation, arguments, context)
        if operation.startswith(RESOURCES) and ".doc." not in operation:
            return await self._resources.run(operation, arguments, context)
        if operation not in self._operations:
            return await self._docs.run(operation, arguments, context)
        return await self._operations[operation](arguments, context)

    # --- tasks ---

    async def _list_tasks(self, given: dict[str, Any], context: CallContext) -> Json:
        wanted = {name: given[name] for name in ("agent_id", "name") if name in given}
        found = await self._definitions.definitions.list_tasks(tenant=context.tenant, **wanted, **page_of(given))
        grant = context.allow or OPEN
        return [task_view(task) for task in found if grant.permits("tasks", task.name)]

    async def _get_task(self, given: dict[str, Any], context: CallContext) -> Json:
        return task_view(await self._task(given["id"], context))

    async def _create_task(self, given: dict[str, Any], context: CallContext) -> Json:
        refuse_bounded(context, "create tasks")
        made = await self._definitions.create_task(
            _source(given["task"]),
            tenant=context.tenant,
            agent_id=given.get("agent_id", ""),
            request_key=context.key,
            actor=actor_of(context),
        )
        return task_view(made.task)

    async def _update_task(self, given: dict[str, Any], context: CallContext) -> Json:
        refuse_bounded(context, "change tasks")
        source = _source(given["task"])
        actor = actor_of(context)
        made = await self._definitions.update_task(given["id"], source, tenant=context.tenant, actor=actor)
        return task_view(made.task)

    async def _delete_task(self, given: dict[str, Any], context: CallContext) -> Json:
        refuse_bounded(context, "remove tasks")
        task = await self._task(given["id"], context)
        await self._definitions.versions.remove(task.id, tenant=context.tenant)
        return {"id": task.id, "name": task.name}

    async def _task(self, reference: str, context: CallContext) -> TaskFacts:
        task = await self._definitions.versions.resolve(reference, tenant=context.tenant)
        check_permitted(context.allow or OPEN, "tasks", task.name)
        return task

    # --- executions ---

    async def _list_executions(self, given: dict[str, Any], context: CallContext) -> Json:
        grant = context.allow or OPEN
        wanted = ExecutionFilter()
        if "task" in given:
            wanted = replace(wanted, task_id=(await self._task(given["task"], context)).id)
        page = await self._lists.page(wanted, tenant=context.tenant, **page_of(given))
        return [execution_view(facts) for facts in page.items if grant.permits("tasks", facts.task_name)]

    async def _get_execution(self, given: dict[str, Any], context: CallContext) -> Json:
        facts = await self._store.get_execution(given["id"], tenant=context.tenant)
        check_permitted(context.allow or OPEN, "tasks", facts.task_name)
        return execution_view(facts)

    async def _create_execution(self, given: dict[str, Any], context: CallContext) -> Json:
        task = await self._task(given["task"], context)
        plan = None
        if context.allow is not None:
            plan = await self._narrowed(task, context.allow)
        started = await self._starter.start(
            task,
            given.get("input"),
            idempotency_key=context.key,
            metadata=given.get("metadata"),
            labels=given.get("labels", ()),
            actor=actor_of(context),
            plan=plan,
        )
        return {"id": started.facts.id, "task_id": task.id, "task": task.name, "version": task.version}

    async def _narrowed(self, task: TaskFacts, grant: Grant) -> dict[str, Any]:
        """Return the plan of an execution that may touch no more than the one that starts it."""
        plan = plan_from_json(await self._definitions.plan_for_start(task))
        check_authority(plan, grant)
        return plan_to_json(replace(plan, allow=narrow(plan.allow, grant)))


def _source(task: Json) -> str:
    return task if isinstance(task, str) else compact_json(task)
