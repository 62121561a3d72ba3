"""The use case "a task works with sessions" of its own tenant: keeps them, reads what was said, and says something."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from engine.control.sessions.opening import Sessions
from engine.control.sessions.prompting import ChatRequest
from engine.control.sessions.sessions import SETTINGS, Members
from engine.control.sessions.views import answer_view, history_view, session_view
from engine.control.systemresources import actor_of, page_of, refuse_bounded
from engine.core.contracts.activities import CallContext
from engine.core.errors import run_error_from_json
from engine.core.values import Json

_MEMBERS: Final = ("agent", "agents", "user", "users")
_ASKED: Final = (
    "agent",
    "recall",
    "recall_tools",
    "save",
    "auto_run_tools",
    "model",
    "tools",
    "tool_choice",
    "metadata",
)
_SAMPLING: Final = ("temperature", "top_p", "max_tokens", "stop", "seed", "response_format")


class SystemSessions:
    """Does what system tools ask for of sessions.

    Args:
        sessions: Use cases on sessions.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._service = sessions.service
        self._turns = sessions.turns
        self._operations: Mapping[str, Callable[[dict[str, Any], CallContext], Awaitable[Json]]] = {
            "session.list": self._list,
            "session.get": self._get,
            "session.create": self._create,
            "session.create_or_update": self._put,
            "session.update": self._update,
            "session.delete": self._delete,
            "session.history": self._history,
            "session.chat": self._chat,
        }

    async def run(self, operation: str, given: dict[str, Any], context: CallContext) -> Json:
        """Do an operation.

        Args:
            operation: `session.` and what is done.
            given: Its arguments, which fit its schema.
            context: Who calls, with the whole bound of its plan.

        Raises:
            EngineError: As the use case behind it; `authority.denied` if the bound forbids it.
        """
        return await self._operations[operation](given, context)

    async def _list(self, given: dict[str, Any], context: CallContext) -> Json:
        found = await self._service.page(tenant=context.tenant, **page_of(given))
        return [session_view(session) for session in found]

    async def _get(self, given: dict[str, Any], context: CallContext) -> Json:
        return session_view(await self._service.get(given["id"], tenant=context.tenant))

    async def _create(self, given: dict[str, Any], context: CallContext) -> Json:
        refuse_bounded(context, "create sessions")
        who = {"tenant": context.tenant, "request_key": context.key, "actor": actor_of(context)}
        return session_view(await self._service.create(_members(given), _settings(given), **who))

    async def _put(self, given: dict[str, Any], context: CallContext) -> Json:
        refuse_bounded(context, "change sessions")
        who = {"tenant": context.tenant, "actor": actor_of(context)}
        return session_view(await self._service.put(given["id"], _members(given), _settings(given), **who))

    async def _update(self, given: dict[str, Any], context: CallContext) -> Json:
        refuse_bounded(context, "change sessions")
        return session_view(await self._service.change(given["id"], _settings(given), tenant=context.tenant))

    async def _delete(self, given: dict[str, Any], context: CallContext) -> Json:
        refuse_bounded(context, "delete sessions")
        await self._service.remove(given["id"], tenant=context.tenant)
        return {"id": given["id"]}

    async def _history(self, given: dict[str, Any], context: CallContext) -> Json:
        limit = given.get("limit")
        return history_view(*await self._service.history(given["id"], tenant=context.tenant, limit=limit))

    async def _chat(self, given: dict[str, Any], context: CallContext) -> Json:
        """Say something and wait for the answer; a call that is made again gets that of the first."""
        refuse_bounded(context, "speak in sessions")
        asked = {name: given[name] for name in _ASKED if name in given}
        sampling: dict[str, Json] = {name: given[name] for name in _SAMPLING if name in given}
        request = ChatRequest(messages=given["messages"], settings=sampling, **asked)
        who = {"tenant": context.tenant, "request_key": context.key, "actor": actor_of(context)}
        turn = await self._turns.finished(await self._turns.take(given["id"], request, **who))
        if turn.answer is None:
            raise run_error_from_json(turn.error or {})
        return answer_view(turn.answer)


def _members(given: Mapping[str, Any]) -> Members:
    return Members(**{name: given[name] for name in _MEMBERS if name in given})


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in SETTINGS if name in given}
