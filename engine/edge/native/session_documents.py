"""What the OpenAPI document says of sessions and chats: answers, refusals, examples."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from engine.core.values import Json
from engine.edge.http.openapi import Doc, Docs
from engine.edge.native.answers import MOMENT, Answer, Deleted
from engine.edge.native.chat import ChatBody
from engine.edge.native.sessions import SessionBody, SessionChange

Kind = Literal[
    "single_agent_no_user",
    "single_agent_single_user",
    "single_agent_multi_user",
    "multi_agent_no_user",
    "multi_agent_single_user",
    "multi_agent_multi_user",
]


class SessionView(Answer):
    """A session: who talks with whom, and how."""

    id: str
    kind: Kind
    agent: str | None = Field(default=None, description="Of the kinds with a single agent.")
    agents: list[str] | None = Field(default=None, description="Of the other kinds; the first answers usually.")
    user: str | None = Field(default=None, description="Of the kinds with a single user.")
    users: list[str] | None = Field(default=None, description="Of the kinds with several.")
    situation: str | None
    system_template: str | None
    summary: str | None = Field(description="What stands for older entries.")
    render_templates: bool
    token_budget: int | None
    context_overflow: Literal["truncate", "adaptive"] | None
    auto_run_tools: bool
    forward_tool_calls: bool
    recall_options: dict[str, Json] | None
    metadata: dict[str, Json]
    created_at: str
    updated_at: str
    actor: str | None
    jobs: list[str] = Field(description="Always empty; the Julep client of 2024 asks for it.")


class SessionPage(Answer):
    """A page of sessions."""

    items: list[SessionView]


class EntryView(Answer):
    """A message of a session."""

    id: str
    session_id: str
    turn_id: str = Field(description="The execution in which it was said.")
    role: Literal["user", "assistant", "system", "tool", "agent"]
    name: str | None
    content: str | list[dict[str, Json]]
    tool_calls: list[dict[str, Json]] | None
    tool_call_id: str | None
    source: Literal["api_request", "api_response", "tool_request", "tool_response", "internal", "summarizer", "meta"]
    model: str
    tokenizer: str
    token_count: int
    created_at: str
    timestamp: float = Field(description="The same time in Unix seconds.")


class RelationView(Answer):
    """That an entry stands for another one."""

    head: str
    relation: Literal["summary_of"]
    tail: str


class HistoryView(Answer):
    """What was said in a session."""

    session_id: str
    created_at: str
    entries: list[EntryView]
    relations: list[RelationView]


class AnsweredMessage(Answer):
    """What an agent says."""

    id: str
    role: str
    content: str | list[dict[str, Json]]
    name: str | None
    created_at: str
    tool_calls: list[dict[str, Json]] | None = Field(
        default=None, description="What the client is to call; it brings the results as messages of the role `tool`."
    )


class ChoiceView(Answer):
    """An answer of a model."""

    index: int
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"]
    message: AnsweredMessage
    logprobs: dict[str, Json] | None


class TokenCounts(Answer):
    """What was used, of all calls of the turn together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatView(Answer):
    """The answer to what was said."""

    id: str = Field(description="Id of the turn, which is also that of the execution that asked the model.")
    created_at: str
    choices: list[ChoiceView]
    docs: list[dict[str, Json]] = Field(description="The documents that were looked up.")
    jobs: list[str] = Field(description="What goes on beside the answer.")
    usage: TokenCounts


_BODY: Final = (400, 404, 409, 413, 415, 422)
_WHOLE: Final[Json] = {
    "agent": "0a51f6c2-7f0b-4c68-8a38-5b6f1d2e3c4d",
    "situation": "A guest stands at the desk.",
    "recall_options": {"mode": "text", "limit": 3},
}
_CHANGE: Final[Json] = {"situation": "A guest is leaving.", "metadata": {"room": 7}}
_CHANGED: Final = Doc(answer=SessionView, errors=_BODY, body=SessionChange, example=_CHANGE)

SESSION_DOCS: Final[Docs] = {
    ("POST", "/api/sessions"): Doc(answer=SessionView, ok=(201,), errors=_BODY, body=SessionBody, example=_WHOLE),
    ("GET", "/api/sessions"): Doc(answer=SessionPage, errors=(400, 422)),
    ("GET", "/api/sessions/{session_id}"): Doc(answer=SessionView, errors=(404, 422)),
    ("POST", "/api/sessions/{session_id}"): Doc(
        answer=SessionView, ok=(201,), errors=_BODY, body=SessionBody, example=_WHOLE
    ),
    ("PUT", "/api/sessions/{session_id}"): _CHANGED,
    ("PATCH", "/api/sessions/{session_id}"): _CHANGED,
    ("DELETE", "/api/sessions/{session_id}"): Doc(answer=Deleted, ok=(202,), errors=(404, 409, 422)),
    ("GET", "/api/sessions/{session_id}/history"): Doc(answer=HistoryView, errors=(400, 404, 422)),
    ("DELETE", "/api/sessions/{session_id}/history"): Doc(answer=Deleted, ok=(202,), errors=(404, 409, 422)),
    ("POST", "/api/sessions/{session_id}/chat"): Doc(
        answer=ChatView,
        ok=(201,),
        errors=(*_BODY, 403, 429, 502, 503, 504),
        body=ChatBody,
        example={"messages": [{"role": "user", "content": "When is breakfast?"}]},
    ),
}

_SESSION: Final[dict[str, Json]] = {
    "id": "5d9f0c1e-52b7-4d5c-9c4b-1f5a5c0f7a22",
    "kind": "single_agent_no_user",
    "agent": "0a51f6c2-7f0b-4c68-8a38-5b6f1d2e3c4d",
    "situation": "A guest stands at the desk.",
    "system_template": None,
    "summary": None,
    "render_templates": False,
    "token_budget": None,
    "context_overflow": None,
    "auto_run_tools": False,
    "forward_tool_calls": False,
    "recall_options": None,
    "metadata": {},
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "actor": None,
    "jobs": [],
}
_TURN: Final = "e3c4b6b0-0c5e-4ad1-9f0e-6a1d2f3b4c55"
_ENTRY: Final[dict[str, Json]] = {
    "id": "0f7b6a52-3b61-5a17-8ef4-0d8f0a3b9c11",
    "session_id": _SESSION["id"],
    "turn_id": _TURN,
    "role": "assistant",
    "name": "helper",
    "content": "From seven to ten.",
    "tool_calls": None,
    "tool_call_id": None,
    "source": "api_response",
    "model": "gpt-4o-mini",
    "tokenizer": "characters",
    "token_count": 5,
    "created_at": MOMENT,
    "timestamp": 1_785_499_200.0,
}
_RELATION: Final[dict[str, Json]] = {"head": _ENTRY["id"], "relation": "summary_of", "tail": _TURN}
_MESSAGE: Final[dict[str, Json]] = {
    **{name: _ENTRY[name] for name in ("id", "role", "content", "name")},
    "created_at": MOMENT,
}
_CHOICE: Final[dict[str, Json]] = {"index": 0, "finish_reason": "stop", "message": _MESSAGE, "logprobs": None}
_USED: Final[dict[str, Json]] = {"prompt_tokens": 24, "completion_tokens": 6, "total_tokens": 30}

SESSION_ANSWERS: Final[dict[type[Any], dict[str, Json]]] = {
    SessionView: _SESSION,
    SessionPage: {"items": [_SESSION]},
    EntryView: _ENTRY,
    RelationView: _RELATION,
    HistoryView: {
        "session_id": _SESSION["id"],
        "created_at": MOMENT,
        "entries": [_ENTRY],
        "relations": [],
    },
    AnsweredMessage: _MESSAGE,
    ChoiceView: _CHOICE,
    TokenCounts: _USED,
    ChatView: {
        "id": _TURN,
        "created_at": MOMENT,
        "choices": [_CHOICE],
        "docs": [],
        "jobs": [],
        "usage": _USED,
    },
}
