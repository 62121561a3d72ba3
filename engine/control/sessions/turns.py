"""Turns of sessions: taken down, then brought to their end by whoever is there; each step may be made again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import structlog

from engine.control.definitions import now_us
from engine.control.executions import ExecutionService
from engine.control.failing import is_shared
from engine.control.request_keys import id_for, key_reused
from engine.control.sessions.answers import answer_of, entries_of
from engine.control.sessions.chatplans import chat_input, chat_task
from engine.control.sessions.prompting import ChatRequest, Prepared, PromptService
from engine.control.sessions.sessions import SessionService, no_session
from engine.control.starting import StartService
from engine.core.errors import BugError, Conflict, EngineError, InvalidInput, NotFound, Unavailable
from engine.core.kinds import ExecutionStatus
from engine.core.plan.ir import ToolContract
from engine.core.run.projection import ExecutionFacts
from engine.store.agents import AgentStore
from engine.store.changes import Changes
from engine.store.chat_turns import ACCEPTED, RUNNING, UNKNOWN_US, TurnFacts, TurnStore
from engine.store.sessions import SessionFacts

LEASE_US: Final = 20_000_000
"""How long whoever has begun a turn has until the model is asked; then others begin it again."""
AGAIN_US: Final = 1_000_000
"""Pause before what did not work for lack of a service is tried again."""
PATIENCE_US: Final = 120_000_000
"""How long one process does that while nothing was asked yet; time in which none ran does not count."""
LOOK_S: Final = 1.0
PAGE: Final = 50
KEPT_US: Final = 7 * 86_400_000_000
"""How long the answer of a turn is told to whoever asks again; what was said stays in the session."""
TIDY_US: Final = 600_000_000

log = structlog.get_logger("everstep.sessions")


class TurnService:
    """Takes turns and brings them to their end; any number of processes may do so at one time.

    Args:
        sessions: Use cases on sessions.
        turns: Where turns are.
        prompts: Works out what the model is asked.
        starter: Starts executions.
        executions: Reads them.
        changes: Watch over the store.
        contracts: The operator's tools by name.
    """

    def __init__(
        self,
        sessions: SessionService,
        turns: TurnStore,
        prompts: PromptService,
        starter: StartService,
        executions: ExecutionService,
        changes: Changes,
        contracts: Mapping[str, ToolContract],
    ) -> None:
        self._contracts = contracts
        self._sessions = sessions
        self._turns = turns
        self._prompts = prompts
        self._starter = starter
        self._executions = executions
        self._changes = changes
        self._agents = AgentStore(turns.database)
        self._driven: dict[tuple[str, str], asyncio.Task[TurnFacts]] = {}
        self._failing: dict[tuple[str, str], int] = {}
        self._tidied_us = 0

    # --- for those who ask -------------------------------------------------------------------------------------------

    async def take(
        self, session_id: str, request: ChatRequest, *, tenant: str, request_key: str = "", actor: str = ""
    ) -> TurnFacts:
        """Write a request down; from then on it is answered, whatever happens to this process.

        Args:
            session_id: The session.
            request: What is asked.
            tenant: Tenant id.
            request_key: The request's Idempotency-Key: a repetition gets the turn that is there.
            actor: Who asks.

        Raises:
            NotFound: `session.not_found`.
            InvalidInput: `session.not_member` if the agent that is asked does not take part.
            Conflict: `idempotency.key_reused`.
        """
        session = await self._sessions.get(session_id, tenant=tenant)
        await self._check_agent(session, request)
        at_us = now_us()
        wanted = TurnFacts(
            tenant=tenant,
            id=id_for(tenant, f"chat\n{session_id}", request_key),
            session_id=session_id,
            saved=request.save,
            request=request.to_json(),
            actor=actor,
            created_us=at_us,
            updated_us=at_us,
        )
        turn = await self._turns.accept(wanted)
        if turn.session_id != session_id or turn.request != wanted.request:
            raise key_reused(request_key, f"the turn {turn.id}")
        return turn

    async def _check_agent(self, session: SessionFacts, request: ChatRequest) -> None:
        if not request.agent:
            return
        agent = await self._agents.get(request.agent, tenant=session.tenant)
        if agent.id not in session.agents:
            raise InvalidInput(
                f"the agent {request.agent} takes no part in the session {session.id}",
                code="session.not_member",
                hint="name one of its agents, or none",
            )

    async def finished(self, turn: TurnFacts) -> TurnFacts:
        """Bring a turn to its end and return it; it goes on if nobody waits for it any more.

        Raises:
            NotFound: `session.not_found` if the session was deleted meanwhile.
            Unavailable: `chat.pending` if this process goes down before.
        """
        key = (turn.tenant, turn.id)
        driving = self._driven.get(key)
        if driving is None:
            driving = self._driven[key] = asyncio.create_task(self._drive(turn), name=f"chat-{turn.id}")
            driving.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(driving)

    def _forget(self, key: tuple[str, str], done: asyncio.Task[TurnFacts]) -> None:
        self._driven.pop(key, None)
        self._failing.pop(key, None)
        if not done.cancelled():
            # whoever waited has it; nobody may have
            done.exception()

    async def close(self) -> None:
        """Let go of the turns; the watch over the store must be closed before."""
        await asyncio.gather(*self._driven.values(), return_exceptions=True)

    async def _drive(self, turn: TurnFacts) -> TurnFacts:
        async with self._changes.subscribe() as changes:
            while not self._changes.closed:
                found = await self._looked(turn)
                if not found.is_open:
                    return found
                await changes.wait(LOOK_S)
        raise Unavailable(
            f"the turn {turn.id} goes on, but this process ends",
            code="chat.pending",
            hint="repeat the request with the same Idempotency-Key, or read the history",
            retryable=True,
        )

    async def _looked(self, turn: TurnFacts) -> TurnFacts:
        """Do what can be done for a turn now, and return it as it is."""
        try:
            await self.advance(turn.id, tenant=turn.tenant)
        except Exception as error:
            if not _passes(error):
                raise
        found = await self._turns.get(turn.id, tenant=turn.tenant)
        if found is None:
            raise no_session(turn.session_id)
        return found

    # --- for everybody -----------------------------------------------------------------------------------------------

    async def advance(self, turn_id: str, *, tenant: str) -> None:
        """Do the next step of a turn, unless somebody else is about to, or an earlier turn must be over first.

        What does not pass by itself ends the turn: one that cannot be ended would hold up its session for ever.

        Raises:
            Unavailable: The store, or what asks the model, does not answer; it may be called again.
        """
        turn = await self._turns.get(turn_id, tenant=tenant)
        if turn is None:
            return
        try:
            if turn.state == ACCEPTED:
                await self._begin(turn)
            elif turn.state == RUNNING:
                await self._end(turn)
        except Exception as error:
            if _passes(error):
                raise
            await self._fail(turn, error)

    async def keep(self) -> None:
        """Go on with all turns that nobody works on: what workers do without being asked.

        Raises:
            EngineError: The store, or what asks the model, does not answer; all others were gone on with.
        """
        due = await self._turns.due(now_us=now_us(), limit=PAGE)
        # one that waits for a service holds up no other
        tried = await asyncio.gather(
            *(self.advance(turn_id, tenant=tenant) for tenant, turn_id in due), return_exceptions=True
        )
        if now_us() - self._tidied_us > TIDY_US:
            self._tidied_us = now_us()
            await self._turns.remove_ended(before_us=now_us() - KEPT_US, limit=1_000)
        for error in tried:
            if error is not None:
                raise error

    # --- beginning ---------------------------------------------------------------------------------------------------

    async def _begin(self, accepted: TurnFacts) -> None:
        now, tenant = now_us(), accepted.tenant
        turn = await self._turns.claim(accepted.id, tenant=tenant, now_us=now, until_us=now + LEASE_US)
        if turn is None:
            return
        try:
            await self._ask(turn)
        except Exception as error:
            if not _passes(error) or self._failing_for(turn, error) >= PATIENCE_US:
                await self._fail(turn, error)
                return
            await self._turns.put_off(turn, until_us=now_us() + AGAIN_US)
            raise _waits(error) from error
        self._failing.pop((tenant, turn.id), None)

    def _failing_for(self, turn: TurnFacts, error: Exception) -> int:
        """Return for how many microseconds a turn could not be begun here, and say so in the log once."""
        key = (turn.tenant, turn.id)
        if key not in self._failing:
            self._failing[key] = now_us()
            log.warning("a turn waits", turn=turn.id, error=str(error)[:300])
        return now_us() - self._failing[key]

    async def _ask(self, turn: TurnFacts) -> None:
        """Ask the model, by an execution whose id is that of the turn."""
        session = await self._sessions.get(turn.session_id, tenant=turn.tenant)
        request = ChatRequest.from_json(turn.request)
        prepared = await self._prepared(turn, session, request)
        task = chat_task(
            prepared,
            tenant=turn.tenant,
            calls_tools=request.calls_tools(session),
            contracts=self._contracts,
            created_us=turn.created_us,
        )
        metadata = {**request.metadata, "session_id": session.id}
        if prepared.left_out:
            metadata["left_out"] = prepared.left_out
        try:
            await self._starter.start(
                task,
                chat_input(prepared),
                execution_id=turn.id,
                metadata=metadata,
                labels=["chat"],
                actor=turn.actor,
                plan=task.plan,
            )
        except Conflict as error:
            # whoever began the turn before did not live to say so
            if error.code != "execution.exists":
                raise
        await self._turns.set_running(turn, now_us=now_us())

    async def _prepared(self, turn: TurnFacts, session: SessionFacts, request: ChatRequest) -> Prepared:
        if turn.prepared is not None:
            return Prepared.from_json(turn.prepared)
        history = await self._sessions.entries.history(session.id, tenant=turn.tenant)
        made = await self._prompts.prepare(session, request, history, tenant=turn.tenant, turn_id=turn.id)
        kept = await self._turns.keep_prepared(turn, made.to_json(), now_us=now_us())
        if kept is None or kept.prepared is None:
            raise no_session(session.id)
        # somebody else may have been faster
        return Prepared.from_json(kept.prepared)

    # --- ending ------------------------------------------------------------------------------------------------------

    async def _end(self, turn: TurnFacts) -> None:
        """Write down what came of the execution, if it is over."""
        try:
            facts = (await self._executions.read(turn.id, tenant=turn.tenant)).facts
        except NotFound as error:
            if now_us() - turn.updated_us >= UNKNOWN_US:
                await self._fail(turn, error)
            return
        if not facts.settled:
            return
        if facts.status is not ExecutionStatus.SUCCEEDED:
            await self._turns.fail(turn, _error_of(facts), now_us=now_us())
            return
        at_us = facts.closed_us or now_us()
        name = await self._agent_name(facts)
        said = entries_of(turn, facts.output, name=name, at_us=at_us)
        answer = answer_of(turn, facts.output, said, at_us=at_us)
        await self._turns.finish(turn, answer, said if turn.saved else [], now_us=now_us())

    async def _agent_name(self, facts: ExecutionFacts) -> str:
        try:
            return (await self._agents.get(facts.agent_id, tenant=facts.tenant)).name
        except NotFound:
            # deleted while it answered
            return ""

    async def _fail(self, turn: TurnFacts, reason: Exception) -> None:
        self._failing.pop((turn.tenant, turn.id), None)
        error = _waits(reason) if _passes(reason) and not isinstance(reason, EngineError) else reason
        if not isinstance(error, EngineError):
            log.error("a turn fails by a mistake of the engine", turn=turn.id, exc_info=reason)
            error = BugError("the engine failed on this turn", code="chat.bug", hint="see its log")
        told = {**error.to_json(), "kind": type(error).__name__}
        await self._turns.fail(turn, told, now_us=now_us())


def _passes(error: BaseException) -> bool:
    """Whether what failed may succeed later, since it failed for a service that does not answer now."""
    return isinstance(error, Exception) and (is_shared(error) or (isinstance(error, EngineError) and error.retryable))


def _waits(error: Exception) -> Unavailable:
    """Return the error of a turn that waits for a service; what drivers say of themselves stands in the log alone."""
    if isinstance(error, EngineError):
        return Unavailable(error.message, code="chat.waits", hint=error.hint, retryable=True)
    return Unavailable("a service that the engine needs is away", code="chat.waits", retryable=True)


def _error_of(facts: ExecutionFacts) -> dict[str, Any]:
    """Return why an execution gave no answer: {code, message, hint?, details?}."""
    if isinstance(facts.error, dict) and facts.error.get("code"):
        return facts.error
    error = Conflict(f"the execution {facts.id} was {facts.status.value} before there was an answer", code="chat.ended")
    return {**error.to_json(), "kind": type(error).__name__}
