"""Short words for tests of agents in memory: a model that says what it is told to, and what it was asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engine.core.contracts.activities import ChatParams, ToolParams
from engine.core.run.effects import Call, Failed, Ok
from engine.dryrun.effects import Answered
from engine.dryrun.replies import chat_reply, failed


def asks(*calls: tuple[str, Any], text: str | None = None, ids: str = "c") -> dict[str, Any]:
    """Return a message that asks for tools; arguments that are text are taken as they are."""
    bodies = [
        {
            "id": f"{ids}{number}" if ids else "",
            "type": "function",
            "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
        }
        for number, (name, given) in enumerate(calls)
    ]
    return {"role": "assistant", "content": text, "tool_calls": bodies}


class Model:
    """Answers as it is told to, and keeps what was asked; tools give what `tools` says, or their arguments.

    Args:
        says: What it says, one after another: a text, the tool calls [{TOOL: ARGUMENTS}], a whole message, or how the
            call ends.
        tools: What tools give by name: a value, how the call ends, or a function of the arguments.
    """

    def __init__(self, *says: Any, tools: Mapping[str, Any] | None = None) -> None:
        self._says: list[Any] = list(says)
        self._tools = dict(tools or {})
        self.asked: list[ChatParams] = []
        self.called: list[tuple[str, dict[str, Any]]] = []
        self.keys: list[str] = []

    def __call__(self, call: Call) -> Answered:
        """Answer one call."""
        if isinstance(call.params, ToolParams):
            return self._call_tool(call.params)
        assert isinstance(call.params, ChatParams)
        self.asked.append(call.params)
        said = self._says.pop(0)
        if isinstance(said, Ok | Failed):
            return Answered(said)
        if isinstance(said, str):
            return Answered(Ok(chat_reply(said, tokens=10)))
        message = said if isinstance(said, dict) else asks(*(pair for item in said for pair in item.items()))
        return Answered(Ok({**chat_reply("", tokens=10), "message": message, "finish_reason": "tool_calls"}))

    def _call_tool(self, params: ToolParams) -> Answered:
        self.called.append((params.tool.name, params.arguments))
        self.keys.append(params.context.key)
        gives = self._tools.get(params.tool.name, params.arguments)
        if callable(gives):
            gives = gives(params.arguments)
        return gives if isinstance(gives, Answered) else Answered(gives if isinstance(gives, Failed) else Ok(gives))

    @property
    def offered(self) -> list[list[str]]:
        """Names of the tools that each call offered."""
        return [[tool["function"]["name"] for tool in params.tools] for params in self.asked]

    def heard(self, number: int = -1) -> list[str]:
        """Return what the model was told in one of its calls: the contents of the messages behind its own last one."""
        told: list[str] = []
        for message in reversed(self.asked[number].messages):
            if message["role"] == "assistant":
                break
            told.append(str(message["content"]))
        return told[::-1]


def too_long() -> Failed:
    """Return how a call ends whose conversation has outgrown the model."""
    return failed("backend.context_too_long", "too long", retryable=False)
