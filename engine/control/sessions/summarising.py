"""Sums up older entries of sessions by jobs that a crash does not lose: executions of a task with a single prompt."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from engine.control.compiling import compile_text
from engine.control.definitions import facts_of, now_us
from engine.control.executions import ExecutionService
from engine.control.failing import is_shared
from engine.control.sessions.recalling import text_of
from engine.control.sessions.windows import entry_tokens, parted, summary_bound, to_summarise
from engine.control.starting import StartService
from engine.core.errors import Conflict, DefinitionError, EngineError, InvalidInput, NotFound
from engine.core.kinds import ExecutionStatus
from engine.core.run.projection import ExecutionFacts
from engine.core.tokens import TOKENIZER, cut_to, likely_tokens
from engine.core.values import Json, compact_json
from engine.store.definitions import TaskFacts
from engine.store.entries import SUMMARIZER, EntryFacts, EntryStore
from engine.store.summaries import SummaryFacts, SummaryStore, UnderWay

SUMMARY_TASK: Final = "session-summary"
"""Name of the task that executions of summaries show; it is stored nowhere."""
SUMMARY_TASK_ID: Final = "0c4a7000-0000-7000-8000-73756d6d6172"
LEASE_US: Final = 5_000_000
"""Whoever starts an execution has so long before another one tries."""
MOST_AT_ONCE: Final = 50
"""Summaries that are looked at in one round."""
MOST_OF_MESSAGE: Final = 4_000
"""Characters of one message that a model is given to sum up."""
MOST_TOKENS: Final = 1_000
"""Of a summary."""
TOLERATED: Final = 2
"""How many times as long a summary may be as it should, since models count otherwise than the engine does."""
_CUT: Final = "… (cut, since it was too long)"
_SPACE: Final = uuid.UUID("3a0a8f3c-52c5-4a1e-9d0e-6e3f2a0c7b15")
_ORDER: Final = (
    "You sum up conversations so that they can go on without their beginning. Keep what may be needed later: who takes "
    "part, what is wanted, what was decided, names, numbers, and what is still open. Where it begins with a summary of "
    "what was said still earlier, keep what that says. Answer with the summary alone."
)

log = structlog.get_logger("everstep.sessions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who sums up, and for whom.

    Attributes:
        agent_id: The agent of the session.
        model: Model that is asked; empty = the default.
        turn_id: The turn beside which it is done, or the summary after which.
    """

    agent_id: str
    model: str
    turn_id: str


class SummaryService:
    """Has older entries summed up; any number of processes may do so at one time.

    Args:
        store: The summaries under way.
        executions: Tells what became of executions.
        starter: Starts them.
    """

    def __init__(self, store: SummaryStore, executions: ExecutionService, starter: StartService) -> None:
        self.store = store
        self._entries = EntryStore(store.database)
        self._executions = executions
        self._starter = starter

    async def begin(self, asked: Asked, entries: Sequence[EntryFacts], *, usual: int) -> str:
        """Have entries of a session summed up, unless a summary of it is under way; the same turn begins it once.

        Args:
            asked: Who sums up.
            entries: The entries, the oldest first; a summary of still older ones may be among them.
            usual: Tokens that the history may have in turns in which nothing long is said.

        Returns:
            Id of the job that does it: of its execution.
        """
        first, last = entries[0], entries[-1]
        facts = SummaryFacts(
            tenant=first.tenant,
            session_id=first.session_id,
            id=str(uuid.uuid5(_SPACE, f"{first.tenant}\n{first.session_id}\n{asked.turn_id}\n{last.id}")),
            request={
                "agent_id": asked.agent_id,
                "model": asked.model,
                "max_tokens": min(MOST_TOKENS, summary_bound(usual)),
                "messages": messages_for(entries, most_tokens=usual - summary_bound(usual)),
                "usual": usual,
            },
            entries=[entry.id for entry in entries],
            created_us=now_us(),
        )
        under_way = await self.store.begin(facts)
        try:
            await self._go_on(under_way.key)
        except Exception as error:
            # the keeper goes on with it, or gives it up: the turn beside it has nothing to do with that
            log.warning("a summary begins later", session=first.session_id, error=str(error)[:300])
        return under_way.id

    async def tick(self) -> None:
        """Start what was not started, and put what is made in the place of the entries.

        Raises:
            EngineError: Temporal or the store does not answer; what was not done is done later.
        """
        for which in await self.store.due(now_us=now_us(), limit=MOST_AT_ONCE):
            try:
                await self._go_on(which)
            except Exception as error:
                if is_shared(error):
                    raise
                # one that can never be made holds up no other
                log.error("a summary is given up", session=which.session_id, job=which.id, exc_info=error)
                await self.store.drop(which)

    async def _go_on(self, which: UnderWay) -> None:
        try:
            execution = (await self._executions.read(which.id, tenant=which.tenant)).facts
        except NotFound:
            now = now_us()
            claimed = await self.store.claim(which, now_us=now, until_us=now + LEASE_US)
            if claimed is not None:
                await self._start(claimed)
            return
        known = await self.store.find(which.session_id, tenant=which.tenant) if execution.settled else None
        if known is not None and known.key == which:
            await self._take(known, execution)

    async def _start(self, facts: SummaryFacts) -> None:
        request = facts.request
        given: dict[str, Json] = {name: request[name] for name in ("messages", "model", "max_tokens")}
        metadata = {"session_id": facts.session_id}
        try:
            task = summary_task(request["model"], tenant=facts.tenant, agent_id=request["agent_id"])
            await self._starter.start(task, given, execution_id=facts.id, metadata=metadata, plan=task.plan)
        except Conflict as error:
            if error.code != "execution.exists":
                await self._give_up(facts, error)
        except (DefinitionError, InvalidInput) as error:
            await self._give_up(facts, error)

    async def _take(self, facts: SummaryFacts, execution: ExecutionFacts) -> None:
        text = execution.output if execution.status is ExecutionStatus.SUCCEEDED else None
        if not isinstance(text, str) or not text.strip():
            error = execution.error or {"code": "summary.empty", "message": "the model said nothing"}
            await self._give_up(facts, InvalidInput(str(error.get("message")), code=str(error.get("code"))))
            return
        if await self.store.finish(facts, _entry(facts, _fitting(facts, text.strip())), now_us=now_us()):
            await self._begin_next(facts)

    async def _begin_next(self, facts: SummaryFacts) -> None:
        """Have more summed up if that was not enough: turns may add more than one summary takes."""
        usual = facts.request.get("usual", 0)
        history = await self._entries.history(facts.session_id, tenant=facts.tenant)
        # the newest may hold calls whose results are on their way
        old, _ = parted(history, goes_on=True)
        chosen = to_summarise(old, usual, usual) if usual else []
        if chosen:
            asked = Asked(agent_id=facts.request["agent_id"], model=facts.request["model"], turn_id=facts.id)
            await self.begin(asked, chosen, usual=usual)

    async def _give_up(self, facts: SummaryFacts, error: EngineError) -> None:
        """Leave the entries as they are; the next turn has them summed up anew."""
        log.warning("a summary failed", session=facts.session_id, job=facts.id, code=error.code, error=error.message)
        await self.store.drop(facts.key)


def summary_task(model: str, *, tenant: str, agent_id: str) -> TaskFacts:
    """Return the task that sums up; what it is told comes by the input, so that nothing in it is read as a template.

    Args:
        model: Model that is asked; empty = the default.
        tenant: Tenant id.
        agent_id: The agent of the session.
    """
    settings = {"max_tokens": "$ _.max_tokens"} | ({"model": "$ _.model"} if model else {})
    step = {"prompt": "$ _.messages", "settings": settings, "unwrap": True}
    source = json.dumps({"name": SUMMARY_TASK, "main": [step]})
    compiled = compile_text(source, file=SUMMARY_TASK, contracts={}, tenant=tenant)
    return facts_of(compiled, source, None, tenant=tenant, agent_id=agent_id, task_id=SUMMARY_TASK_ID)


def messages_for(entries: Sequence[EntryFacts], *, most_tokens: int) -> list[dict[str, Any]]:
    """Return what a model is told to sum entries up; what is long in one of them is cut, but for a summary.

    Args:
        entries: The entries.
        most_tokens: What they may have together.
    """
    others = [entry for entry in entries if entry.source != SUMMARIZER]
    left = most_tokens - sum(entry_tokens(entry) for entry in entries if entry.source == SUMMARIZER)
    is_too_much = sum(map(entry_tokens, others)) > left
    share = max(left // len(others), 1) if is_too_much else None
    told = "\n\n".join(_line(entry, share) for entry in entries)
    return [{"role": "system", "content": _ORDER}, {"role": "user", "content": told}]


def _line(entry: EntryFacts, most_tokens: int | None) -> str:
    if entry.source == SUMMARIZER:
        return f"Summary of what was said before:\n{text_of(entry.content)}"
    who = f"{entry.role} ({entry.name})" if entry.name else entry.role
    calls = "".join(f"\n[calls {_call_text(call)}]" for call in entry.tool_calls or ())
    text = text_of(entry.content)
    shown = text if len(text) <= MOST_OF_MESSAGE else f"{text[:MOST_OF_MESSAGE]}…"
    line = f"{who}: {shown}{calls}"
    return line if most_tokens is None else cut_to(line, most_tokens)


def _call_text(call: Mapping[str, Any]) -> str:
    function = call.get("function")
    if not isinstance(function, Mapping):
        return compact_json(dict(call))[:MOST_OF_MESSAGE]
    return f"{function.get('name')} {function.get('arguments') or ''}"[:MOST_OF_MESSAGE]


def _fitting(facts: SummaryFacts, text: str) -> str:
    """Return a summary cut where it is far longer than it should be: it would leave no room for anything else."""
    most, found = facts.request["max_tokens"], likely_tokens([text])
    if found <= TOLERATED * most:
        return text
    log.warning("a summary is cut", session=facts.session_id, job=facts.id, tokens=found, most=most)
    return cut_to(text, max(most - likely_tokens([_CUT]), 1)) + _CUT


def _entry(facts: SummaryFacts, text: str) -> EntryFacts:
    return EntryFacts(
        tenant=facts.tenant,
        session_id=facts.session_id,
        # the job's own id, so that whoever takes it makes the same entry
        id=facts.id,
        turn_id=facts.id,
        role="system",
        content=text,
        source=SUMMARIZER,
        model=facts.request["model"],
        tokenizer=TOKENIZER,
        token_count=likely_tokens([text]),
        created_us=now_us(),
    )
