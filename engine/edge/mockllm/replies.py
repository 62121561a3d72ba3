"""Makes the mock server's replies, in words that all dialects put into theirs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from engine.core.values import Json, compact_json
from engine.edge.mockllm.script import MockRule, MockUsage, fill


@dataclass(frozen=True, slots=True)
class Reply:
    """What one call is answered.

    Attributes:
        id: Id of the completion.
        model: The model that was asked for.
        text: The text; None if there are only tool calls.
        tool_calls: OpenAI-shaped tool calls.
        finish_reason: Why the reply ended.
        usage: {prompt_tokens, completion_tokens, total_tokens, cached_tokens, cache_write_tokens, reasoning_tokens}.
        chunk_chars: Most characters of a streamed chunk; None = all in one.
        created: Unix time in seconds.
        reasoning: What the model thinks before it answers; empty = nothing.
        logprob: How likely each piece of the text was; None = nobody says.
    """

    id: str
    model: str
    text: str | None
    tool_calls: list[dict[str, Any]]
    finish_reason: str
    usage: dict[str, int]
    chunk_chars: int | None
    created: int
    reasoning: str = ""
    logprob: float | None = None

    def likely(self, piece: str) -> list[dict[str, Json]]:
        """Return how likely a piece of the text was, as OpenAI says it; empty if nobody says."""
        return [] if self.logprob is None else [{"token": piece, "logprob": self.logprob, "top_logprobs": []}]


def make_reply(rule: MockRule, *, model: str, messages: list[Any], last: str, n: int) -> Reply:
    """Make the reply of a rule to a call.

    Args:
        rule: The rule.
        model: The model that was asked for.
        messages: The conversation.
        last: Text of its last user message.
        n: Number of the call, from 1.
    """
    calls = [
        {
            "id": call.id or f"call_{n}_{index}",
            "type": "function",
            "function": {"name": call.name, "arguments": compact_json(fill(call.arguments, last=last, n=n))},
        }
        for index, call in enumerate(rule.tool_calls)
    ]
    text: str | None
    if "json_reply" in rule.model_fields_set:
        text = compact_json(fill(rule.json_reply, last=last, n=n))
    elif rule.reply is not None:
        text = str(fill(rule.reply, last=last, n=n))
    else:
        text = None if calls else last
    return Reply(
        id=f"chatcmpl-mock-{n}",
        model=model,
        text=text,
        tool_calls=calls,
        finish_reason=rule.finish_reason or ("tool_calls" if calls else "stop"),
        usage=_usage(rule, messages, text),
        chunk_chars=rule.stream.chunk_chars if rule.stream else None,
        created=int(time.time()),
        reasoning=str(fill(rule.reasoning, last=last, n=n)),
        logprob=rule.logprob,
    )


def pieces_of(text: str, size: int | None) -> list[str]:
    """Cut a text into pieces of at most so many characters; None = one piece."""
    if size is None or not text:
        return [text]
    return [text[start : start + size] for start in range(0, len(text), size)]


def _usage(rule: MockRule, messages: list[Any], text: str | None) -> dict[str, int]:
    usage = rule.usage
    if usage is None:
        prompt = sum(len(text_of(message).split()) for message in messages)
        usage = MockUsage(prompt_tokens=prompt, completion_tokens=max(1, len((text or "").split())))
    return {**usage.model_dump(), "total_tokens": usage.prompt_tokens + usage.completion_tokens}


def text_of(message: Any) -> str:
    """Return the text of a message whose content is text or a list of parts."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def json_bytes(value: Json) -> bytes:
    """Return compact JSON; halves of surrogate pairs are let through as they are."""
    return compact_json(value).encode("utf-8", "surrogatepass")
