"""What a turn of a session sends to the model: system message, history, the client's messages, tools and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from engine.control.documents import DocumentService
from engine.core.errors import InvalidInput
from engine.store.database import Database
from engine.store.definitions import Definitions

if TYPE_CHECKING:
    from engine.store.entries import EntryFacts
    from engine.store.sessions import SessionFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What a client asks of a session.

    Attributes:
        messages: What is said, as the client wrote it.
        agent: Id or name of the agent that is to answer; empty = the first of the session.
        recall: Whether documents may be looked up.
        recall_tools: Whether the model is told of earlier calls of tools and their results.
        auto_run_tools: Whether tools are called here; None = as the session says.
        save: Whether what is said becomes part of the history.
        stream: Whether the answer is sent as it is written.
        model: Model to be asked; empty = that of the agent.
        settings: Sampling settings of this request; they win over those of the agent.
        tools: Julep tool objects that stand in for those of the agent; None = those of the agent.
        tool_choice: `auto`, `none` or {type, function}; None = nothing is said of it.
        metadata: The client's metadata.
    """

    messages: list[dict[str, Any]]
    agent: str = ""
    recall: bool = True
    recall_tools: bool = True
    auto_run_tools: bool | None = None
    save: bool = True
    stream: bool = False
    model: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> ChatRequest:
        """Read what `to_json` returned."""
        return ChatRequest(**body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a turn asks, worked out once and kept.

    Attributes:
        messages: The messages as the model gets them.
        docs: The documents that were found, as the client is told of them.
        tools: The tools that are offered, as Julep tool objects.
        tool_choice: As in the request.
        model: The model; empty = the default of the engine.
        settings: Sampling settings: those of the agent, then those of the request.
        agent_id: The agent that answers.
        jobs: Ids of the jobs that go on beside the answer.
    """

    messages: list[dict[str, Any]]
    docs: list[dict[str, Any]] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    tool_choice: str | dict[str, Any] | None = None
    model: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    agent_id: str = ""
    jobs: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> Prepared:
        """Read what `to_json` returned."""
        return Prepared(**body)


class PromptService:
    """Works out what a turn sends to the model.

    Args:
        database: The open store.
        documents: Looks documents up.
    """

    def __init__(self, database: Database, documents: DocumentService) -> None:
        self._definitions = Definitions(database)
        self._documents = documents

    async def prepare(
        self,
        session: SessionFacts,
        request: ChatRequest,
        history: Sequence[EntryFacts],
        *,
        tenant: str,
        turn_id: str,
    ) -> Prepared:
        """Work out what the model is asked; the same arguments give the same as long as nothing else has changed.

        Args:
            session: The session.
            request: What the client asks.
            history: The entries that are part of the history, in their order, without those of this turn.
            tenant: Tenant id.
            turn_id: The turn; empty = nothing is asked, and nothing is begun beside it.

        Raises:
            InvalidInput: `session.no_agent`, `session.not_member`.
        """
        agent = await self._definitions.get_agent(_chosen(session, request), tenant=tenant)
        system = {"role": "system", "content": str(agent.instructions or agent.about or agent.name)}
        said = [{"role": entry.role, "content": entry.content} for entry in history]
        return Prepared(
            messages=[system, *said, *request.messages],
            tools=list(request.tools or []),
            tool_choice=request.tool_choice,
            model=request.model or agent.model,
            settings={**agent.default_settings, **request.settings},
            agent_id=agent.id,
        )


def _chosen(session: SessionFacts, request: ChatRequest) -> str:
    if not session.agents:
        raise InvalidInput("nobody answers in this session: it has no agent", code="session.no_agent")
    return request.agent or session.agents[0]
