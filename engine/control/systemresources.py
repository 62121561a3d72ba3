"""The use case "a task works with agents and users" of its own tenant."""

from __future__ import annotations

from typing import Any, cast

from engine.control.agents import AgentFields, AgentService, agent_view
from engine.control.users import UserFields, UserService, user_view
from engine.core.contracts.activities import CallContext
from engine.core.errors import AuthorityError
from engine.core.plan.grant import OPEN
from engine.core.values import Json
from engine.store.agents import AgentStore
from engine.store.database import Database
from engine.store.users import UserStore

USUAL_LIMIT = 20


class SystemResources:
    """Does what system tools ask for of agents and users.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self._agents = AgentService(AgentStore(database))
        self._users = UserService(UserStore(database))

    async def run(self, operation: str, given: dict[str, Any], context: CallContext) -> Json:
        """Do an operation.

        Args:
            operation: `agent.` or `user.` and list, get, create, update or delete.
            given: Its arguments, which fit its schema.
            context: Who calls, with the whole bound of its plan.

        Raises:
            EngineError: As the use case behind it; `authority.denied` if the bound forbids it.
        """
        resource, _, what = operation.partition(".")
        return await (self._agent if resource == "agent" else self._user)(what, given, context)

    async def _agent(self, what: str, given: dict[str, Any], context: CallContext) -> Json:
        tenant = context.tenant
        if what == "list":
            return [agent_view(agent) for agent in await self._agents.store.page(tenant=tenant, **page_of(given))]
        if what == "get":
            return agent_view(await self._agents.store.get(given["id"], tenant=tenant))
        refuse_bounded(context, f"{what} agents")
        if what == "delete":
            return await self._agents.delete(given["id"], tenant=tenant)
        fields = cast(AgentFields, _fields(given))
        if what == "update":
            return agent_view(await self._agents.patch(given["id"], fields, tenant=tenant))
        made = await self._agents.create(fields, tenant=tenant, request_key=context.key, actor=actor_of(context))
        return agent_view(made)

    async def _user(self, what: str, given: dict[str, Any], context: CallContext) -> Json:
        tenant = context.tenant
        if what == "list":
            return [user_view(user) for user in await self._users.store.page(tenant=tenant, **page_of(given))]
        if what == "get":
            return user_view(await self._users.store.get(given["id"], tenant=tenant))
        refuse_bounded(context, f"{what} users")
        if what == "delete":
            return await self._users.delete(given["id"], tenant=tenant)
        fields = cast(UserFields, _fields(given))
        if what == "update":
            return user_view(await self._users.patch(given["id"], fields, tenant=tenant))
        made = await self._users.create(fields, tenant=tenant, request_key=context.key, actor=actor_of(context))
        return user_view(made)


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "id"}


def page_of(given: dict[str, Any]) -> dict[str, Any]:
    """Return the page of a list that a tool asks for, as arguments of a store's method."""
    page = {"limit": given.get("limit", USUAL_LIMIT), "offset": given.get("offset", 0)}
    return {**page, "metadata": given["metadata_filter"]} if "metadata_filter" in given else page


def actor_of(context: CallContext) -> str:
    """Return who acts when a tool does something, as records show it."""
    return f"execution {context.execution_id}"


def refuse_bounded(context: CallContext, what: str) -> None:
    """Refuse what could give a bounded task more than its bound.

    Raises:
        AuthorityError: `authority.denied`.
    """
    if context.allow is not None and context.allow != OPEN:
        raise AuthorityError(
            f"a task with `allow` may not {what}, which could touch more than itself",
            hint="let a task without `allow` do it, or take the step out",
        )
