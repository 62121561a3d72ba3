"""The 49 calls of Julep's client of 2024 as a table, and what that client cannot do without in their answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from tests.support.patience import PATIENCE_S

PAGING: dict[str, Any] = {
    "limit": 100,
    "offset": 0,
    "sort_by": "created_at",
    "direction": "asc",
    "metadata_filter": "{}",
}
"""That client cannot leave out any of them."""


Role = Literal["user", "agent", "system", "function", "function_response", "function_call", "auto"]


class Answer(BaseModel):
    """Members beside those that are needed do no harm."""

    model_config = ConfigDict(extra="allow")


class Created(Answer):
    """What every create answers."""

    id: UUID
    created_at: AwareDatetime
    jobs: list[UUID]


class Updated(Answer):
    """What every update answers."""

    id: UUID
    updated_at: AwareDatetime
    jobs: list[UUID]


class Deleted(Answer):
    """What every delete answers."""

    id: UUID
    deleted_at: AwareDatetime
    jobs: list[UUID]


class Kept(Answer):
    """What is kept has these."""

    id: UUID
    created_at: AwareDatetime
    updated_at: AwareDatetime


class Agent(Kept):
    """An agent."""

    name: str
    about: str
    model: str
    instructions: str | list[str]


class User(Kept):
    """A user."""

    name: str
    about: str


class Step(Answer):
    """A step of a task."""

    kind_: str


class TaskTool(Answer):
    """A tool in a task."""

    type: str
    name: str


class Task(Kept):
    """A task."""

    name: str
    description: str
    main: list[Step]
    tools: list[TaskTool]
    inherit_tools: bool


class Function(Answer):
    """The definition of a tool of type function."""

    parameters: dict[str, Any]


class Tool(Kept):
    """A tool of an agent; that client reads no other type."""

    type: Literal["function"]
    name: str
    background: bool
    function: Function
    integration: Any
    system: Any
    api_call: Any


class Execution(Kept):
    """An execution."""

    task_id: UUID
    status: Literal["queued", "starting", "running", "awaiting_input", "succeeded", "failed", "cancelled"]
    input: dict[str, Any]


class Transition(Kept):
    """A transition; its places are pairs."""

    execution_id: UUID
    type: Literal["finish", "wait", "resume", "error", "step", "cancelled"]
    output: dict[str, Any]
    current: tuple[str, int]
    next: tuple[str, int] | None = None


class Transitions(Answer):
    """A group of transitions."""

    transitions: list[Transition]


class Session(Kept):
    """A session."""

    situation: str
    render_templates: bool
    kind: Literal[
        "single_agent_no_user",
        "single_agent_single_user",
        "single_agent_multi_user",
        "multi_agent_no_user",
        "multi_agent_single_user",
        "multi_agent_multi_user",
    ]


class Doc(Answer):
    """A document."""

    id: UUID
    created_at: AwareDatetime
    title: str
    content: str | list[str]


class Owner(Answer):
    """Whose document it is."""

    id: UUID
    role: Literal["user", "agent"]


class Found(Answer):
    """What a search found."""

    id: UUID
    owner: Owner
    snippet_index: list[int]
    snippet: str | None = None


class Vectors(Answer):
    """Vectors of texts."""

    vectors: list[list[float]]


class Job(Kept):
    """A job."""

    name: str
    reason: str
    has_progress: bool
    progress: float
    state: Literal["pending", "in_progress", "retrying", "succeeded", "aborted", "failed", "unknown"]


class Entry(Answer):
    """What somebody said."""

    role: Role
    content: Any
    source: str
    timestamp: float


class History(Answer):
    """What was said in a session."""

    session_id: UUID
    created_at: AwareDatetime
    entries: list[Entry]
    relations: list[Any]


class Delta(Answer):
    """A message of the model."""

    id: UUID
    created_at: AwareDatetime
    role: Role
    content: Any
    tool_calls: list[Any]


class Choice(Answer):
    """One of the model's answers; that client looks for `delta` in every one."""

    index: int
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"]
    delta: Delta


class Chat(Answer):
    """An answer of a chat."""

    id: UUID
    created_at: AwareDatetime
    jobs: list[UUID]
    docs: list[Any]
    choices: list[Choice]


def _found(results: list[Any]) -> list[Any]:
    return [Found.model_validate(item) for item in results]


class Search(Answer):
    """What a search answers."""

    results: Annotated[list[Any], AfterValidator(_found)]


class Listed(Answer):
    """A list."""

    results: list[Any] = Field(...)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of that client.

    Attributes:
        method: Its HTTP method.
        path: Its path.
        answer: What it needs in the answer.
        of: Of lists: what it needs in each item.
        pages: Whether it sends the queries of lists.
        wraps: Whether its body stands in a member `body`.
        adds: What it adds to every body.
    """

    method: str
    path: str
    answer: type[Answer]
    of: type[Answer] | None = None
    pages: bool = False
    wraps: bool = False
    adds: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The status that Julep's server answered with."""
        if self.method == "DELETE":
            return 200 if "/tools/" in self.path else 202
        return 201 if self.method == "POST" and self.answer not in (Search, Vectors) else 200


def _list(path: str, of: type[Answer]) -> Call:
    return Call("GET", path, Listed, of=of, pages=True)


CALLS: dict[str, Call] = {
    "agents_route_list": _list("/agents", Agent),
    "agents_route_create": Call("POST", "/agents", Created),
    "agents_route_get": Call("GET", "/agents/{id}", Agent),
    "agents_route_create_or_update": Call("POST", "/agents/{id}", Updated),
    "agents_route_update": Call("PUT", "/agents/{id}", Updated),
    "agents_route_delete": Call("DELETE", "/agents/{id}", Deleted),
    "agents_route_patch": Call("PATCH", "/agents/{id}", Updated),
    "agent_docs_route_list": _list("/agents/{id}/docs", Doc),
    "agents_docs_search_route_search": Call("POST", "/agents/{id}/search", Search, pages=True, wraps=True),
    "tasks_route_list": _list("/agents/{id}/tasks", Task),
    "tasks_route_create": Call("POST", "/agents/{id}/tasks", Created),
    "tasks_route_update": Call("PUT", "/agents/{id}/tasks/{child_id}", Updated),
    "tasks_route_delete": Call("DELETE", "/agents/{id}/tasks/{child_id}", Deleted),
    "tasks_route_patch": Call("PATCH", "/agents/{id}/tasks/{child_id}", Updated),
    "agent_tools_route_list": _list("/agents/{id}/tools", Tool),
    "agent_tools_route_create": Call("POST", "/agents/{id}/tools", Created),
    "agent_tools_route_update": Call("PUT", "/agents/{id}/tools/{child_id}", Updated),
    "agent_tools_route_delete": Call("DELETE", "/agents/{id}/tools/{child_id}", Deleted),
    "agent_tools_route_patch": Call("PATCH", "/agents/{id}/tools/{child_id}", Updated),
    "tasks_create_or_update_route_create_or_update": Call("POST", "/agents/{parent_id}/tasks/{id}", Updated),
    "individual_docs_route_get": Call("GET", "/docs/{id}", Doc),
    "individual_docs_route_delete": Call("DELETE", "/docs/{id}", Deleted),
    "embed_route_embed": Call("POST", "/embed", Vectors, wraps=True),
    "executions_route_get": Call("GET", "/executions/{id}", Execution),
    "execution_transitions_route_list": _list("/executions/{id}/transitions", Transitions),
    "job_route_get": Call("GET", "/jobs/{id}", Job),
    "sessions_route_list": _list("/sessions", Session),
    "sessions_route_create": Call("POST", "/sessions", Created),
    "sessions_route_get": Call("GET", "/sessions/{id}", Session),
    "sessions_route_create_or_update": Call("POST", "/sessions/{id}", Updated),
    "sessions_route_update": Call("PUT", "/sessions/{id}", Updated),
    "sessions_route_delete": Call("DELETE", "/sessions/{id}", Deleted),
    "sessions_route_patch": Call("PATCH", "/sessions/{id}", Updated),
    "chat_route_generate": Call("POST", "/sessions/{id}/chat", Chat),
    "history_route_history": Call("GET", "/sessions/{id}/history", History),
    "history_route_delete": Call("DELETE", "/sessions/{id}/history", Deleted),
    "task_executions_route_list": _list("/tasks/{id}/executions", Execution),
    "task_executions_route_create": Call("POST", "/tasks/{id}/executions", Created),
    "task_executions_route_resume_with_task_token": Call(
        "PUT", "/tasks/{id}/executions", Updated, adds={"status": "running"}
    ),
    "task_executions_route_update": Call("PUT", "/tasks/{id}/executions/{child_id}", Updated),
    "users_route_list": _list("/users", User),
    "users_route_create": Call("POST", "/users", Created),
    "users_route_get": Call("GET", "/users/{id}", User),
    "users_route_create_or_update": Call("POST", "/users/{id}", Updated),
    "users_route_update": Call("PUT", "/users/{id}", Updated),
    "users_route_delete": Call("DELETE", "/users/{id}", Deleted),
    "users_route_patch": Call("PATCH", "/users/{id}", Updated),
    "user_docs_route_list": _list("/users/{id}/docs", Doc),
    "user_docs_search_route_search": Call("POST", "/users/{id}/search", Search, pages=True, wraps=True),
}


class Fern:
    """Sends what that client sends, to the byte that counts: its headers, queries and bodies.

    Args:
        url: Its base URL.
        key: Its key; it stands in two headers, in neither with a scheme.
    """

    def __init__(self, url: str, key: str) -> None:
        self.called: set[str] = set()
        self._http = httpx.AsyncClient(
            base_url=url,
            timeout=PATIENCE_S,
            trust_env=False,
            follow_redirects=True,
            headers={
                "X-Fern-Language": "Python",
                "X-Fern-SDK-Name": "julep",
                "X-Fern-SDK-Version": "0.0.0",
                "X-Auth-Key": key,
                "Authorization": key,
            },
        )

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def send(self, name: str, /, *ids: str, query: dict[str, Any] | None = None, **body: Any) -> httpx.Response:
        """Make a call of the table and return the answer as it comes.

        Args:
            name: Its name.
            ids: The ids in its path, in their order.
            query: Of lists: queries that differ from the usual ones; of others: all they send.
            body: Its body.
        """
        call = CALLS[name]
        self.called.add(name)
        path = call.path
        for id_ in ids:
            path = path.replace(path[path.index("{") : path.index("}") + 1], str(id_), 1)
        sent = {**(PAGING if call.pages else {}), **(query or {})}
        given = {**call.adds, **body}
        return await self._http.request(
            call.method,
            path,
            params={key: value if isinstance(value, str | int) else json.dumps(value) for key, value in sent.items()},
            json={"body": given} if call.wraps else (given or None),
        )

    async def __call__(self, name: str, /, *ids: str, query: dict[str, Any] | None = None, **body: Any) -> Any:
        """Make a call of the table and return its answer, which has all that the client needs."""
        answer = await self.send(name, *ids, query=query, **body)
        call = CALLS[name]
        assert answer.status_code == call.status, f"{name}: {answer.status_code} {answer.text}"
        read = call.answer.model_validate_json(answer.text)
        if call.of is None:
            return read
        assert isinstance(read, Listed)
        return [call.of.model_validate(item) for item in read.results]
