"""What came of a turn: what the client is told, and the entries that the session keeps of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.control.sessions.prompting import ChatRequest, Prepared
from engine.core.contracts.conversations import kept_reply
from engine.core.run.times import iso_time
from engine.core.tokens import TOKENIZER, likely_tokens
from engine.core.values import Json
from engine.store.chat_turns import TurnFacts
from engine.store.entries import EntryFacts

FINISH_REASONS: Final = ("stop", "length", "content_filter", "tool_calls")
_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
_ROLES: Final = {"tool": "tool_response", "assistant": "api_response"}
_SPACE: Final = uuid.UUID("5f0f2d0e-8a35-4b5f-93d4-0d1b8f5c7a11")


def entries_of(turn: TurnFacts, output: Mapping[str, Any], *, name: str, at_us: int) -> list[EntryFacts]:
    """Return all that was said in a turn, in order: the client's messages, calls of tools and results, the answer.

    Args:
        turn: The turn, with what was prepared.
        output: The output of its execution.
        name: Name of the agent that answered.
        at_us: When the answer was there.
    """
    request, prepared = ChatRequest.from_json(turn.request), Prepared.from_json(turn.prepared or {"messages": []})
    asked = [(message, turn.created_us, _source(message, "api_request")) for message in _asked(request, prepared)]
    said = [({"name": name, **message}, at_us, _source(message, "api_response")) for message in said_in(output)]
    model = str(output.get("model") or prepared.model)
    return [
        _entry(turn, number, message, source, model=model, created_us=created_us)
        for number, (message, created_us, source) in enumerate([*asked, *said])
    ]


def _asked(request: ChatRequest, prepared: Prepared) -> Sequence[dict[str, Any]]:
    """Return the client's messages as the model was told them: the last ones of those that it got."""
    return prepared.messages[-len(request.messages) :] if request.messages else []


def said_in(output: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the model said in an execution, with the results of the tools that were run."""
    # of a single reply the calls need ids, too, by which the client brings their results
    found: Sequence[Mapping[str, Any]] = output.get("messages") or [kept_reply(output["choices"][0]["message"], 0)]
    # a result is the tool's, not the agent's
    return [{**message, "name": None} if message.get("role") == "tool" else dict(message) for message in found]


def _source(message: Mapping[str, Any], usual: str) -> str:
    return _ROLES["tool"] if message.get("role") == "tool" else usual


def _entry(
    turn: TurnFacts, number: int, message: Mapping[str, Any], source: str, *, model: str, created_us: int
) -> EntryFacts:
    content, calls = message.get("content"), message.get("tool_calls")
    return EntryFacts(
        tenant=turn.tenant,
        session_id=turn.session_id,
        id=_entry_id(turn, number),
        turn_id=turn.id,
        role=str(message.get("role")),
        name=message.get("name"),
        content="" if content is None else content,
        tool_calls=list(calls) if calls else None,
        tool_call_id=message.get("tool_call_id"),
        source=source,
        model=model,
        tokenizer=TOKENIZER,
        token_count=likely_tokens([part for part in (content, calls) if part]),
        created_us=created_us,
    )


def _entry_id(turn: TurnFacts, number: int) -> str:
    # the same for everybody who writes down what came of the turn
    return str(uuid.uuid5(_SPACE, f"{turn.id}\n{number}"))


def answer_of(turn: TurnFacts, output: Mapping[str, Any], said: Sequence[EntryFacts], *, at_us: int) -> dict[str, Any]:
    """Return what the client is told: {id, created_at, choices, docs, jobs, usage}; and `text`, for streams.

    The text is all that the model wrote for people, also before calls of tools that were run.

    Args:
        turn: The turn, with what was prepared.
        output: The output of its execution.
        said: Its entries.
        at_us: When the answer was there.
    """
    prepared, last = Prepared.from_json(turn.prepared or {"messages": []}), _last_answer(said)
    choice: dict[str, Json] = output["choices"][0]
    message: dict[str, Json] = {"id": last.id, "role": "assistant", "content": last.content, "name": last.name}
    message["created_at"] = iso_time(at_us)
    calls = _left_to_client(last, said)
    if calls:
        message["tool_calls"] = calls
    reason = choice.get("finish_reason")
    shown: dict[str, Json] = {
        "index": 0,
        "finish_reason": "tool_calls" if calls else reason if reason in FINISH_REASONS else "stop",
        "message": message,
        "logprobs": _likely(choice.get("logprobs")),
    }
    if calls:
        shown["tool_calls"] = calls
    usage = output.get("total_usage") or output.get("usage") or {}
    return {
        "id": turn.id,
        "created_at": iso_time(at_us),
        "choices": [shown],
        "docs": prepared.docs,
        "jobs": prepared.jobs,
        "usage": {name: usage.get(name, 0) for name in _COUNTS},
        "text": "".join(str(message.get("content") or "") for message in _written(output)),
    }


def _written(output: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [message for message in said_in(output) if message.get("role") == "assistant"]


def _last_answer(said: Sequence[EntryFacts]) -> EntryFacts:
    return next(entry for entry in reversed(said) if entry.role == "assistant")


def _left_to_client(last: EntryFacts, said: Sequence[EntryFacts]) -> list[Json]:
    """Return the calls of the last message that nobody has answered yet."""
    answered = {entry.tool_call_id for entry in said if entry.role == "tool"}
    return [call for call in last.tool_calls or [] if call.get("id") not in answered]


def _likely(told: Json) -> Json:
    """Return how likely the tokens were, in the shape that Julep's clients read."""
    tokens = told.get("content") if isinstance(told, dict) else None
    if not tokens:
        return None
    return {"content": [{"top_logprobs": [], **token} for token in tokens]}
