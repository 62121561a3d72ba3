"""The route of chats: what is asked of a session is written down, answered by an execution, and told or streamed."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Header, Request
from pydantic import Field, model_validator
from starlette.responses import JSONResponse, Response

from engine.control.sessions.prompting import ChatRequest
from engine.control.sessions.views import answer_for_fern, answer_view
from engine.core.errors import InvalidInput, run_error_from_json
from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_RUN, actor_of, caller_of
from engine.edge.http.clients import is_fern
from engine.edge.http.problems import STATUS_OF, STATUS_OF_CODE, problem
from engine.edge.http.services import In, Tenant
from engine.edge.native.chat_stream import ChatStream
from engine.edge.native.chat_tools import check_tools
from engine.edge.native.shapes import ActorName, Body
from engine.store.chat_turns import TurnFacts

router = APIRouter(tags=["sessions"])

Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
SETTINGS: Final = (
    "temperature",
    "top_p",
    "max_tokens",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "length_penalty",
    "min_p",
    "logit_bias",
    "stop",
    "seed",
    "response_format",
)
"""What of a request goes to the model as a setting."""
REFUSED_BY_MODEL: Final = frozenset({"backend.refused", "backend.context_too_long", "backend.unknown_model"})
"""Codes of failures that the request itself is to blame for, as far as one can tell."""

_KINDS: Final = {kind.__name__: kind for kind in STATUS_OF}


class CalledFunction(Body):
    """Which function is called, and with what."""

    name: Annotated[str, Field(min_length=1, max_length=255)]
    arguments: str | None = None


class CalledTool(Body):
    """A call of a tool, as an answer told it."""

    ignored = frozenset(
        {"api_call", "integration", "system", "computer_20241022", "bash_20241022", "text_editor_20241022"}
    )

    id: str | None = Field(default=None, max_length=255)
    type: Literal["function"] = "function"
    function: CalledFunction

    def to_json(self) -> dict[str, Json]:
        """Return it as models are told it."""
        function = {"name": self.function.name, "arguments": self.function.arguments or "{}"}
        return {"id": self.id, "type": "function", "function": function}


class ChatMessage(Body):
    """A message.

    Attributes:
        role: Who says it; those behind `tool` are of 2024: the assistant, the user, and calls and results of functions.
        content: A text, several, or parts.
        name: The name of who says it.
        tool_calls: What the assistant wanted to have called.
        tool_call_id: Of the role `tool`: the call whose result it is.
    """

    ignored = frozenset({"id", "created_at"})

    role: Literal[
        "user", "assistant", "system", "tool", "agent", "auto", "function_call", "function_response", "function"
    ]
    content: str | list[str | dict[str, Json]] | None = None
    name: str | None = Field(default=None, max_length=255)
    tool_calls: list[CalledTool] | None = None
    tool_call_id: str | None = Field(default=None, max_length=255)

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.content is None and not self.tool_calls:
            raise ValueError("the message has no content")
        return self

    def to_json(self) -> dict[str, Json]:
        """Return it as models are told it."""
        told: dict[str, Json] = {"role": self.role, "content": self.content}
        if isinstance(self.content, list):
            told["content"] = [
                {"type": "text", "text": part} if isinstance(part, str) else part for part in self.content
            ]
        if self.tool_calls:
            told["tool_calls"] = [call.to_json() for call in self.tool_calls]
        more = {"name": self.name, "tool_call_id": self.tool_call_id}
        return told | {name: value for name, value in more.items() if value is not None}


class ChosenFunction(Body):
    """Which function must be called."""

    ignored = frozenset({"arguments"})

    name: Annotated[str, Field(min_length=1, max_length=255)]


class ChosenTool(Body):
    """Which tool must be called."""

    type: Literal["function"] = "function"
    function: ChosenFunction


class ChatBody(Body):
    """What is asked of a session.

    Attributes:
        messages: What is said.
        agent: Which of its agents answers, by id or canonical name; left out = the first.
        recall: Whether documents are looked up, if the session has `recall_options`.
        recall_tools: Whether the model is told of earlier calls of tools and what they gave.
        remember: Accepted, and means nothing: documents are made of nothing that is said.
        save: Whether what is said becomes part of the history.
        stream: Whether the answer is told as it is written.
        auto_run_tools: Whether tools that the model calls are run; left out = as the session says.
        tools: Tools that stand in for those of the agent.
        tool_choice: Whether the model calls a tool, or which one it must.
        model: Who is asked; left out = the model of the agent.
        metadata: Anything; stands in the execution.
        actor: Who asks.
    """

    ignored = frozenset({"preset"})

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=10_000)]
    agent: str | None = Field(default=None, max_length=255)
    recall: bool = True
    recall_tools: bool = True
    remember: bool = False
    save: bool = True
    stream: bool = False
    auto_run_tools: bool | None = None
    tools: list[dict[str, Json]] | None = Field(default=None, max_length=1_000)
    tool_choice: Literal["auto", "none", "required"] | ChosenTool | None = None
    model: str | None = Field(default=None, max_length=255)
    temperature: Number | None = None
    top_p: Number | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=2**31)
    frequency_penalty: Number | None = None
    presence_penalty: Number | None = None
    repetition_penalty: Number | None = None
    length_penalty: Number | None = None
    min_p: Number | None = None
    logit_bias: dict[str, Number] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    response_format: dict[str, Json] | None = None
    metadata: dict[str, Json] | None = None
    actor: ActorName = ""

    @property
    def asked(self) -> ChatRequest:
        """What is asked, for the use case."""
        choice = self.tool_choice
        return ChatRequest(
            messages=[message.to_json() for message in self.messages],
            agent=self.agent or "",
            recall=self.recall,
            recall_tools=self.recall_tools,
            auto_run_tools=self.auto_run_tools,
            save=self.save,
            stream=self.stream,
            model=self.model or "",
            settings={name: getattr(self, name) for name in SETTINGS if getattr(self, name) is not None},
            tools=self.tools,
            tool_choice=choice.model_dump() if isinstance(choice, ChosenTool) else choice,
            metadata=self.metadata or {},
        )


@router.post("/sessions/{session_id}/chat", status_code=201, response_model=None, dependencies=[MAY_RUN])
async def chat(session_id: str, request: Request, services: In, tenant: Tenant, key: Key = "") -> Response:
    """Say something in a session and get the answer; with `stream` as it is written.

    What was asked is written down first: it is answered once, also if the connection breaks or a process dies, and the
    same request with the same Idempotency-Key gets that answer.
    """
    if "x-custom-api-key" in request.headers:
        raise InvalidInput(
            "X-Custom-Api-Key is not taken: it would stand in the histories of executions",
            code="chat.custom_key",
            hint="let the operator add a backend with this key, and name its model in the request",
        )
    body = await read_model(request, ChatBody)
    check_tools(caller_of(request), body.tools)
    turn = await services.sessions.turns.take(
        session_id, body.asked, tenant=tenant, request_key=key, actor=actor_of(request, body.actor)
    )
    # the client of 2024 sends `stream: true` and reads one JSON text all the same
    if body.stream and not is_fern(request.headers):
        stream = ChatStream(services.sessions.turns, services.rooms, turn, failed)
        return await stream.response(stall_s=services.settings.stream_stall_s)
    ended = await services.sessions.turns.finished(turn)
    if ended.answer is None:
        return failed(ended)
    answer = answer_view(ended.answer)
    return JSONResponse(answer_for_fern(answer) if is_fern(request.headers) else answer, 201)


def failed(turn: TurnFacts) -> JSONResponse:
    """Return the refusal of a turn that has no answer; the same request would fail once more."""
    body = turn.error or {}
    error = run_error_from_json(body)
    kind = _KINDS.get(body.get("kind", ""), type(error))
    status = 400 if error.code in REFUSED_BY_MODEL else STATUS_OF_CODE.get(error.code, STATUS_OF[kind])
    told = problem(status, code=error.code, message=error.message, kind=kind.__name__, hint=error.hint, turn_id=turn.id)
    told.headers["x-should-retry"] = "false"
    return told
