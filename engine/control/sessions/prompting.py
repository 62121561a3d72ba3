"""What a turn of a session sends to the model: system message, history, the client's messages, tools and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine.control.documents import DocumentService
from engine.control.sessions.contexts import ContextLengths
from engine.control.sessions.offering import Offer, offer_of
from engine.control.sessions.older_roles import in_present_roles
from engine.control.sessions.recalling import recall
from engine.control.sessions.summarising import Asked, SummaryService
from engine.control.sessions.talk import new_message, past_messages, without_loose_ends
from engine.control.sessions.templates import USUAL, render, template_env, turn_fuel
from engine.control.sessions.windows import Room, budget_of, entry_tokens, parted, prompt_size
from engine.core.contracts.lookups import Owner
from engine.core.errors import InvalidInput
from engine.core.lang.context import Fuel
from engine.core.lang.template import is_template
from engine.core.plan.ir import ToolContract
from engine.store.agent_tools import AgentTools
from engine.store.agents import AgentFacts, AgentStore
from engine.store.database import Database
from engine.store.entries import EntryFacts
from engine.store.sessions import SessionFacts
from engine.store.users import UserStore


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

    def calls_tools(self, session: SessionFacts) -> bool:
        """Whether tools that the model calls are run here."""
        return session.auto_run_tools if self.auto_run_tools is None else self.auto_run_tools


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
        left_out: The agent's tools that cannot be offered: {name, message, hint}.
    """

    messages: list[dict[str, Any]]
    docs: list[dict[str, Any]] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    tool_choice: str | dict[str, Any] | None = None
    model: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    agent_id: str = ""
    jobs: list[str] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)

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
        lengths: How much models take.
        summaries: Has older entries summed up.
        contracts: The operator's tools by name.
    """

    def __init__(
        self,
        database: Database,
        documents: DocumentService,
        lengths: ContextLengths,
        summaries: SummaryService,
        contracts: Mapping[str, ToolContract],
    ) -> None:
        self._contracts = contracts
        self._agents = AgentStore(database)
        self._tools = AgentTools(database)
        self._users = UserStore(database)
        self._documents = documents
        self._lengths = lengths
        self._summaries = summaries

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

        The last messages are those of the client, one for each that it sent.

        Args:
            session: The session.
            request: What the client asks.
            history: The entries that are part of the history, in their order, without those of this turn.
            tenant: Tenant id.
            turn_id: The turn; empty = nothing is asked, and nothing is begun beside it.

        Raises:
            InvalidInput: `session.not_member`, `template.invalid`, `template.failed`.
            PromptTooBigError: `session.prompt_too_big`.
            NotFound: `agent.not_found`.
            Unavailable: The store does not answer.
        """
        request = replace(request, messages=in_present_roles(request.messages, history, turn_id=turn_id))
        agents = await self._crew(session, request)
        agent, settings = agents[0], {**agents[0].default_settings, **request.settings}
        usual = str(settings.pop("model", None) or agent.model)
        model = request.model or usual
        offer = await self._offer(agent, request, calls_tools=request.calls_tools(session))
        tools = offer.tools
        docs = await self._found(session, request, history, agent)
        users = [await self._users.get(user_id, tenant=tenant) for user_id in session.users]
        env = template_env(session, agents, users, docs=docs, tools=tools, settings=settings)
        fuel, rendered = turn_fuel(), env if session.render_templates else None
        said = [new_message(message, rendered, fuel) for message in request.messages]
        system = system_message(session, agent, env, fuel)
        old, needed = parted(history, goes_on=bool(said) and said[0]["role"] == "tool")
        now = prompt_size(said) + sum(map(entry_tokens, needed))
        room = Room(
            budget=await self._budget(session, model, settings),
            fixed=prompt_size(system, tools) + now,
            overflow=session.context_overflow,
            said=now,
        )
        past = past_messages(room.fitting(old), agents=len(agents), tools=request.recall_tools)
        past += past_messages(needed, agents=len(agents), tools=True)
        asked = Asked(agent_id=agent.id, model=model, turn_id=turn_id)
        return Prepared(
            messages=[*system, *without_loose_ends(past, said), *said],
            docs=docs,
            tools=tools,
            tool_choice=request.tool_choice,
            model=model,
            settings=settings,
            agent_id=agent.id,
            jobs=await self._jobs(asked, room, old) if turn_id else [],
            left_out=offer.left_out,
        )

    async def _crew(self, session: SessionFacts, request: ChatRequest) -> list[AgentFacts]:
        """Return the agents of a session, the one that is asked first."""
        first = await self._agents.get(request.agent or session.agents[0], tenant=session.tenant)
        if first.id not in session.agents:
            raise InvalidInput(
                f"the agent {request.agent} takes no part in the session {session.id}",
                code="session.not_member",
                hint="name one of its agents, or none",
            )
        others = [agent_id for agent_id in session.agents if agent_id != first.id]
        return [first, *[await self._agents.get(agent_id, tenant=session.tenant) for agent_id in others]]

    async def _offer(self, agent: AgentFacts, request: ChatRequest, *, calls_tools: bool) -> Offer:
        """Return the tools of a turn; those that the request names itself are offered, or refused, as they are."""
        if request.tools is not None:
            return Offer(tools=request.tools, left_out=[])
        found = await self._tools.of_agent(agent.id, agent.tenant)
        tools = [
            {"name": tool.name, "type": tool.type, tool.type: tool.definition}
            | ({"description": tool.description} if tool.description else {})
            for tool in found
        ]
        return offer_of(
            tools, calls_tools=calls_tools, tenant=agent.tenant, contracts=self._contracts, agent_id=agent.id
        )

    async def _found(
        self, session: SessionFacts, request: ChatRequest, history: Sequence[EntryFacts], agent: AgentFacts
    ) -> list[dict[str, Any]]:
        if session.recall_options is None or not request.recall:
            return []
        talk = [*({"role": entry.role, "content": entry.content} for entry in history), *request.messages]
        owners = [*(Owner(kind="user", id=user_id) for user_id in session.users), Owner(kind="agent", id=agent.id)]
        return await recall(self._documents, session.recall_options, talk, owners, tenant=session.tenant)

    async def _budget(self, session: SessionFacts, model: str, settings: Mapping[str, Any]) -> int | None:
        if session.token_budget is not None:
            return session.token_budget
        return budget_of(await self._lengths.of(model), settings)

    async def _jobs(self, asked: Asked, room: Room, old: Sequence[EntryFacts]) -> list[str]:
        """Have older entries summed up if the history has grown too long; return the ids of the jobs that do it."""
        chosen = room.to_summarise(old)
        if not chosen:
            return []
        return [await self._summaries.begin(asked, chosen, usual=room.usual)]


def system_message(
    session: SessionFacts, agent: AgentFacts, env: Mapping[str, Any], fuel: Fuel | None = None
) -> list[dict[str, Any]]:
    """Return the system message of a session, or nothing if its template comes to nothing.

    A situation is a text for the template; one that is a template itself, in a session whose templates are rendered and
    for which there is no other, is the system message: so sessions of 2024 were made.

    Args:
        session: The session.
        agent: The agent that answers.
        env: What templates see.
        fuel: What the templates of the turn may still use up; None = each is alone.

    Raises:
        InvalidInput: `template.invalid`, `template.failed`.
    """
    situation, template = session.situation or "", session.system_template or agent.default_system_template
    if session.render_templates and is_template(situation):
        situation = render(situation, env, "the situation", fuel)
        if not template:
            return [{"role": "system", "content": situation}]
        env = {**env, "situation": situation, "session": {**env["session"], "situation": situation}}
    text = render(template or USUAL, env, "the system template", fuel).strip()
    return [{"role": "system", "content": text}] if text else []
