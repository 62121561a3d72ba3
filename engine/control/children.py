"""The use case "a step runs another task": find the task, check its input and authority, hand out its plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy.exc import DBAPIError

from engine.control.definitions import DefinitionService
from engine.control.starting import check_input, check_requirements, labels_of
from engine.core.contracts.children import PlanParams, ResolvedTask, ResolveParams
from engine.core.contracts.execution import summary_of
from engine.core.errors import AuthorityError, Unavailable
from engine.core.plan.codec import plan_from_json, plan_to_json
from engine.core.plan.grant import OPEN, Grant, excess, narrow
from engine.core.plan.ir import Plan
from engine.core.plan.reach import reach_of

MAX_NAMED = 10
"""Names that a message lists of one kind."""


class ChildService:
    """Answers what an execution asks when it runs another task; in the tenant of the one that asks.

    Args:
        definitions: Use cases on tasks.
    """

    def __init__(self, definitions: DefinitionService) -> None:
        self._definitions = definitions

    async def resolve(self, params: ResolveParams) -> ResolvedTask:
        """Find a task, and make sure that it can be run with an input.

        No row is made here: it comes with the first event of the child. One made before the child's workflow would be
        left behind for ever by a parent that is cancelled or terminated between the two.

        Raises:
            NotFound: `task.not_found`, `task.version_not_found`, `alias.not_found`.
            Conflict: `task.ambiguous` if the parent's agent has no task of that name, and several others have.
            InputRejected: `task.two_versions`.
            InvalidInput: `input.invalid`, `input.requirement`.
            AuthorityError: `authority.denied` if it may touch what those above it are not permitted to.
            Unavailable: `store.unreachable`; the same question may be answered later.
        """
        with _store_errors():
            task = await self._definitions.versions.resolve(
                params.task, tenant=params.context.tenant, agent_id=params.agent_id
            )
            body = await self._definitions.plan_for_start(task)
        check_input(task, params.input)
        check_requirements(body, params.input, task.name)
        if params.grant != OPEN:
            check_authority(plan_from_json(body), params.grant)
        return ResolvedTask(
            id=task.id,
            version=task.version,
            name=task.name,
            agent_id=task.agent_id,
            description=summary_of(task.description),
            labels=labels_of(task),
        )

    async def plan(self, params: PlanParams) -> dict[str, Any]:
        """Return the plan of a task's version as JSON, bound to what those above the child permit.

        Raises:
            NotFound: `task.not_found`; one that was removed meanwhile is found, since the execution was started before.
            AuthorityError: `authority.denied`, if its agent or the operator's tools have changed meanwhile.
            Unavailable: `store.unreachable`; the same question may be answered later.
        """
        with _store_errors():
            task = await self._definitions.definitions.get_task(
                params.task_id, tenant=params.tenant, version=params.version, removed=True
            )
            plan = plan_from_json(await self._definitions.plan_for_start(task))
        check_authority(plan, params.grant)
        return plan_to_json(replace(plan, allow=narrow(plan.allow, params.grant)))


def check_authority(plan: Plan, grant: Grant) -> None:
    """Compare what a child may touch with what those above it permit.

    Raises:
        AuthorityError: `authority.denied`.
    """
    beyond = excess(grant, reach_of(plan))
    parts = [f"{kind}: {', '.join(names[:MAX_NAMED])}" for kind, names in beyond.kinds() if names]
    if parts:
        raise AuthorityError(
            f"the task '{plan.task}' may touch more than the execution that runs it ({'; '.join(parts)})",
            hint="add it to `allow` of the task that runs it, or run another task",
            details={"beyond": beyond.to_json()},
        )


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, DBAPIError) as error:
        text = str(getattr(error, "orig", None) or error)
        raise Unavailable(f"the store does not answer: {text}", code="store.unreachable", retryable=True) from error
