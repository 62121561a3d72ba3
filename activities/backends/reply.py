"""Puts one reply together from its parts, in whatever words a backend sends them."""

from __future__ import annotations

from typing import Any, Protocol

from activities.backends.base import Tell, tell_nobody
from engine.core.contracts.activities import ChatResult, Usage


class ReplyError(Exception):
    """The reply of a server has not the agreed shape; the text says what is wrong."""


class TooLarge(ReplyError):
    """The reply is larger than we take."""


class ErrorInReply(Exception):
    """The server tells of an error inside a reply that began well.

    Attributes:
        problem: The error as the server sent it.
    """

    def __init__(self, problem: Any) -> None:
        super().__init__(str(problem))
        self.problem = problem


class ReplyReader(Protocol):
    """Reads one reply in a backend's words.

    Attributes:
        parts: What was read.
    """

    parts: ReplyParts

    @property
    def is_whole(self) -> bool:
        """Whether the server has said that nothing more comes."""
        ...

    def take(self, data: bytes) -> None:
        """Take the data of one event of a stream, or the whole body of a reply that is not streamed.

        Raises:
            ReplyError: It has not the agreed shape.
            ErrorInReply: It is an error.
        """
        ...


def usage_of(
    prompt: int, answer: int, *, total: int = 0, cached: int = 0, cache_write: int = 0, reasoning: int = 0
) -> Usage:
    """Return the tokens of a call; parts that are more than the whole are cut, so that a price cannot go below zero.

    Args:
        prompt: Tokens of the request, with those of the cache.
        answer: Tokens of the reply, with those that the model thought with.
        total: Both, if the server says it.
        cached: Those of the request that came from the cache.
        cache_write: Those of the request that went into it.
        reasoning: Those of the reply that the model thought with.
    """
    read = max(0, min(cached, prompt))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=answer,
        total_tokens=total or prompt + answer,
        cached_tokens=read,
        cache_write_tokens=max(0, min(cache_write, prompt - read)),
        reasoning_tokens=max(0, min(reasoning, answer)),
    )


def count_in(details: Any, name: str) -> int:
    """Return a count of an object; 0 if there is none.

    What is only told beside the tokens of a call makes no reply a bad one, whatever its shape.
    """
    count = details.get(name) if isinstance(details, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) else 0


def logprobs_in(told: Any) -> list[dict[str, Any]]:
    """Return those of what a server tells of tokens that are in the shape of OpenAI's; whatever else it says."""
    items = told if isinstance(told, list) else []
    return [item for item in items if isinstance(item, dict) and "token" in item and "logprob" in item]


class ReplyParts:
    """The reply so far.

    Attributes:
        id: The server's id of the reply.
        model: Model that answers.
        created: Unix time in seconds; 0 = the server did not say.
        finish_reason: stop, length, tool_calls or content_filter; empty as long as none was named.
        usage: Token counts; None = the server has sent none.
        started: Whether anything of a message has come.
        logprobs: How likely each token of the text was, [{token, logprob, …}]; empty = the server did not say.

    Args:
        tell: Takes what the model writes, as it comes.
    """

    def __init__(self, tell: Tell = tell_nobody) -> None:
        self._tell = tell
        self.id = ""
        self.model = ""
        self.created = 0
        self.finish_reason = ""
        self.usage: Usage | None = None
        self.started = False
        self.logprobs: list[dict[str, Any]] = []
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}

    @property
    def calls(self) -> int:
        """How many tool calls have come."""
        return len(self._calls)

    @property
    def last_call(self) -> int:
        """Number of the last tool call; there must be one."""
        return max(self._calls)

    def add_text(self, text: str) -> None:
        """Add to the text of the message."""
        self._text.append(text)
        self._tell("content", text, 0, "")

    def add_reasoning(self, text: str) -> None:
        """Show what the model thinks while it comes; it is no part of the reply."""
        self._tell("reasoning", text, 0, "")

    def add_refusal(self, text: str) -> None:
        """Add to the words with which the model refuses."""
        self._refusal.append(text)

    def add_call(self, index: int, *, call_id: str = "", name: str = "", arguments: str = "") -> None:
        """Add to a tool call.

        Args:
            index: Which call of the message it is, from 0.
            call_id: Its id; the first one that is not empty counts.
            name: More of the name of its tool.
            arguments: More of the JSON text of its arguments.
        """
        into = self._calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
        into["id"] = into["id"] or call_id
        into["name"] += name
        into["arguments"] += arguments
        self._tell("tool_call", name, index, "name")
        self._tell("tool_call", arguments, index, "arguments")

    def result(self, *, backend: str, model: str, now_s: int) -> ChatResult:
        """Return the reply.

        Args:
            backend: Name of the backend.
            model: The model that was asked for; used if the server names none.
            now_s: Unix time in seconds; used if the server names none.
        """
        text = "".join(self._text)
        calls = [self._call(index) for index in sorted(self._calls)]
        message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
        if self._refusal:
            message["refusal"] = "".join(self._refusal)
        if calls:
            message["tool_calls"] = calls
        return ChatResult(
            id=self.id,
            model=self.model or model,
            backend=backend,
            created=self.created or now_s,
            message=message,
            finish_reason=self.finish_reason or ("tool_calls" if calls else "stop"),
            usage=self.usage,
            logprobs=self.logprobs or None,
        )

    def _call(self, index: int) -> dict[str, Any]:
        call = self._calls[index]
        return {
            "id": call["id"] or f"call_{index}",
            "type": "function",
            "function": {"name": call["name"], "arguments": call["arguments"] or "{}"},
        }
