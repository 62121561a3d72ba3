"""Keeps conversations in memory, as workers keep them in the store, for runs without a server."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from engine.core.contracts.activities import ChatParams
from engine.core.contracts.conversations import CONVERSATION_MISSING, chain_all, kept_reply
from engine.core.errors import BackendError
from engine.core.run.effects import Call, CallOutcome, Ok
from engine.core.values import Json


@dataclass(slots=True)
class Talks:
    """The conversations of the executions that run in memory.

    Attributes:
        kept: Their messages by id.
    """

    kept: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def whole(self, call: Call) -> Call:
        """Return a call with all messages of its conversation.

        Raises:
            BackendError: `conversation.missing` if those that it leaves out are not here.
        """
        params = call.params
        if not isinstance(params, ChatParams) or params.conversation is None:
            return call
        said = params.conversation
        known = self.kept.get(said.id, [])[: said.known]
        if chain_all("", known) != said.hash:
            raise BackendError("the conversation is not kept here", code=CONVERSATION_MISSING)
        return replace(call, params=replace(params, messages=[*known, *params.messages], conversation=None))

    def keep(self, call: Call, whole: Call, outcome: CallOutcome) -> None:
        """Keep what a call and its reply said.

        Args:
            call: The call as it came.
            whole: The call with all messages.
            outcome: How it ended.
        """
        said = call.params.conversation if isinstance(call.params, ChatParams) else None
        value: Json = outcome.value if isinstance(outcome, Ok) else None
        if said is not None and isinstance(whole.params, ChatParams) and isinstance(value, dict):
            messages = whole.params.messages
            self.kept[said.id] = [*messages, kept_reply(value["message"], len(messages))]
