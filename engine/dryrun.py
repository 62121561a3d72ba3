"""Runs a plan in memory: virtual time, calls answered by a function, no server; for `dry-run` and for tests."""

from __future__ import annotations

import heapq
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine.core.contracts.activities import ChatParams, ChatResult, ToolParams, Usage, check_arguments
from engine.core.contracts.children import ChildParams, ResolvedTask, ResolveParams
from engine.core.contracts.execution import AnswerSignal, EventSignal, MessageSignal
from engine.core.contracts.lookups import EmbedParams, SearchParams, made_up
from engine.core.contracts.patches import Patch
from engine.core.diagnostics import did_you_mean
from engine.core.errors import BackendError, InvalidInput, LimitExceeded, ToolError, run_error_from_json
from engine.core.kinds import EventType
from engine.core.plan.ir import Plan
from engine.core.plan.ops import TaskOp
from engine.core.plan.planned import refuse_planned
from engine.core.plan.render import plan_outline
from engine.core.run.answers import open_waits
from engine.core.run.effects import Call, CallOutcome, Failed, Ok, Stopped
from engine.core.run.machine import Finished, Machine, Pace
from engine.core.run.require import unmet_requirements
from engine.core.run.snapshot import state_from_json, state_to_json
from engine.core.run.state import WaitFrame
from engine.core.run.walker import Identity
from engine.core.schemas import value_problems
from engine.core.values import Json, canonical_json, compact_json
from engine.talks import Talks

START_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z: a dry run gives the same result whenever it is made."""
MOST_ACTIVATIONS = 1_000_000
CALLS = "$calls"
"""Member of a scripted reply: the tools that the model asks for."""
_COUNTER = re.compile(r"\[\d+\]|~\d+")


@dataclass(frozen=True, slots=True)
class Answered:
    """How a call ends in memory.

    Attributes:
        outcome: Its outcome.
        after_s: How long it takes by the virtual clock.
    """

    outcome: CallOutcome
    after_s: float = 0.001


Handler = Callable[[Call], Answered]


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody answers to a wait.

    Attributes:
        value: The answer; the reason if it is a cancel.
        after_s: How long after the wait has opened it comes, by the virtual clock.
        is_cancel: Whether the execution is cancelled instead.
        busy: What becomes of a message if a turn runs then; empty = as the step says.
        then: Messages that come after it, each so long after the one before.
        inbox: It is a message to this inbox, whatever the wait is for; empty = by the wait.
    """

    value: Json
    after_s: float = 0.0
    is_cancel: bool = False
    busy: str = ""
    then: tuple[Answer, ...] = ()
    inbox: str = ""


Answerer = Callable[[Mapping[str, Json]], Answer | None]
"""Gets the body of a `wait` event once; None = nobody answers."""


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """An event as a dry run saw it."""

    seq: int
    now_us: int
    type: str
    body: dict[str, Json]


def _refused(call: Call) -> Answered | None:
    """Answer a tool call whose arguments do not fit, as the activity would."""
    if isinstance(call.params, ToolParams):
        try:
            check_arguments(call.params)
        except ToolError as error:
            return Answered(Failed(error))
    return None


def _timed(answered: Answered, call: Call) -> Answered:
    """Write into a result how long it took, as the activity does."""
    outcome = answered.outcome
    if not isinstance(outcome, Ok) or not isinstance(call.params, ChatParams | ToolParams | EmbedParams | SearchParams):
        return answered
    value = outcome.value
    if not isinstance(call.params, ToolParams) and isinstance(value, dict):
        value = {**value, "took_s": answered.after_s}
    return Answered(replace(outcome, value=value, took_s=answered.after_s), answered.after_s)


def _found(params: ResolveParams) -> Answered:
    """Find a task in memory, where none are stored: whatever is named is there."""
    name, _, version = params.task.partition("@")
    number = int(version) if version.isdecimal() else 1
    return Answered(Ok(asdict(ResolvedTask(id=params.task, version=number, name=name or params.task))), 0.0)


@dataclass(slots=True)
class MemoryEffects:
    """Effects on a virtual clock.

    Attributes:
        handler: Answers calls.
        clock_us: The time now.
        on_refused: Told of calls that are refused for their arguments, which the handler does not see.
        events: What was emitted.
        queue: What will happen: (time, order, kind, id, outcome).
        waits: Bodies of the waits that were opened, by wait id.
        asked: Numbers of the waits whose answer was asked for.
        holds: Says which timers do not pass by themselves; None = all do.
        talks: What agents and models have said.
    """

    handler: Handler
    clock_us: int = START_US
    on_refused: Callable[[Call, Answered], None] | None = None
    events: list[SeenEvent] = field(default_factory=list)
    queue: list[tuple[int, int, str, str, CallOutcome | None]] = field(default_factory=list)
    dead: set[int] = field(default_factory=set)
    order: itertools.count[int] = field(default_factory=itertools.count)
    waits: dict[str, dict[str, Json]] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)
    holds: Callable[[str], bool] | None = None
    talks: Talks = field(default_factory=Talks)

    def now_us(self) -> int:
        """See `Effects.now_us`."""
        return self.clock_us

    def emit(self, seq: int, event_type: str, body: str) -> None:
        """See `Effects.emit`."""
        seen = SeenEvent(seq, self.clock_us, event_type, json.loads(body))
        self.events.append(seen)
        if event_type == EventType.WAIT.value:
            self.waits[str(seen.body["wait_id"])] = seen.body

    def start_call(self, call: Call) -> None:
        """See `Effects.start_call`."""
        if isinstance(call.params, ResolveParams):
            answered = _found(call.params)
        elif (refused := _refused(call)) is not None:
            answered = refused
            if self.on_refused is not None:
                self.on_refused(call, refused)
        else:
            answered = self._answer(call)
        self._push(self.clock_us + round(answered.after_s * 1e6), "call", call.id, answered.outcome)

    def _answer(self, call: Call) -> Answered:
        try:
            whole = self.talks.whole(call)
        except BackendError as error:
            return Answered(Failed(error))
        answered = _timed(self.handler(whole), whole)
        self.talks.keep(call, whole, answered.outcome)
        return answered

    def cancel_call(self, call_id: str) -> None:
        """See `Effects.cancel_call`."""
        self._kill("call", call_id)
        self._push(self.clock_us, "call", call_id, Stopped())

    def start_timer(self, timer_id: str, deadline_us: int, summary: str) -> None:
        """See `Effects.start_timer`."""
        self._push(max(deadline_us, self.clock_us + 1_000), "timer", timer_id, None)

    def cancel_timer(self, timer_id: str) -> None:
        """See `Effects.cancel_timer`."""
        self._kill("timer", timer_id)

    def patched(self, patch: Patch) -> bool:
        """See `Effects.patched`; nothing in memory is older than this code."""
        del patch
        return True

    def set_paused(self, *, paused: bool) -> None:
        """See `Effects.set_paused`; nobody lists executions in memory."""

    def set_waiting(self, wait_ids: tuple[str, ...]) -> None:
        """See `Effects.set_waiting`; nobody lists executions in memory."""

    def _push(self, at_us: int, kind: str, name: str, outcome: CallOutcome | None) -> None:
        heapq.heappush(self.queue, (at_us, next(self.order), kind, name, outcome))

    def _kill(self, kind: str, name: str) -> None:
        self.dead.update(order for _, order, a_kind, a_name, _ in self.queue if (a_kind, a_name) == (kind, name))

    def answer_later(self, wait_id: str, answer: Answer, inbox: str | None = None) -> None:
        """Let an answer come in its time, or messages to an inbox."""
        inbox = answer.inbox or inbox
        kind = "cancel" if answer.is_cancel else "answer" if inbox is None else "message"
        at_us = self.clock_us + round(answer.after_s * 1e6)
        self._push(at_us, kind, wait_id if inbox is None else f"{answer.busy}:{inbox}", Ok(answer.value))
        for message in answer.then:
            at_us += round(message.after_s * 1e6)
            self._push(at_us, "message", f"{message.busy}:{inbox}", Ok(message.value))

    def forget_timers(self) -> None:
        """Drop all timers, as a continue-as-new does."""
        self.dead.update(order for _, order, kind, _, _ in self.queue if kind == "timer")

    def pop(self) -> tuple[str, str, CallOutcome | None] | None:
        """Advance the clock to the next thing that happens and return it; None if nothing ever will."""
        held: list[tuple[int, int, str, str, CallOutcome | None]] = []
        found: tuple[str, str, CallOutcome | None] | None = None
        while self.queue and found is None:
            item = heapq.heappop(self.queue)
            at_us, order, kind, name, outcome = item
            if order in self.dead:
                self.dead.discard(order)
            elif kind == "timer" and self.holds is not None and self.holds(name):
                held.append(item)
            else:
                self.clock_us = max(self.clock_us, at_us)
                found = kind, name, outcome
        for item in held:
            heapq.heappush(self.queue, item)
        return found

    def pass_timer(self, wanted: Callable[[str], bool]) -> str | None:
        """Advance the clock to the first timer that is wanted, take it out and return its id; None if there is none."""
        timers = (item for item in self.queue if item[2] == "timer" and item[1] not in self.dead)
        found = min((item for item in timers if wanted(item[3])), default=None)
        if found is None:
            return None
        self.queue.remove(found)
        heapq.heapify(self.queue)
        self.clock_us = max(self.clock_us, found[0])
        return found[3]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a run in memory gave.

    Attributes:
        finished: How it ended; None if it waits for an answer that nobody gives.
        events: All events.
        waits: Ids of the waits that are open at the end.
        runs: Number of runs, 1 unless continue-as-new was forced.
        invented: What the calls are called whose replies were made up: step label, or model, tool or task.
    """

    finished: Finished | None
    events: Sequence[SeenEvent]
    waits: Sequence[str]
    runs: int
    invented: Sequence[str] = ()


def run_in_memory(
    plan: Plan,
    given: Json,
    handler: Handler,
    *,
    answers: Sequence[Json] = (),
    answerer: Answerer | None = None,
    outside: Sequence[EventSignal | MessageSignal] = (),
    identity: Identity | None = None,
    carry_every: int | None = None,
    clock_us: int = START_US,
    on_refused: Callable[[Call, Answered], None] | None = None,
    breaks: Sequence[str] = (),
    steer: Callable[[Machine], None] | None = None,
) -> DryRun:
    """Run a plan to its end on a virtual clock.

    Args:
        plan: The plan.
        given: The input; not checked here.
        handler: Answers calls.
        answers: Answers to waits, in the order in which the waits open.
        answerer: Answers each wait by what it asks; used where `answers` say nothing.
        outside: Events and messages from outside; each comes before time goes on, once all wait.
        identity: Who runs; a fixed one by default.
        carry_every: Carry the state over as continue-as-new does, through JSON, after so many activations.
        clock_us: Time at which it starts, Unix microseconds.
        on_refused: See `MemoryEffects`.
        breaks: Steps before which it pauses.
        steer: Does what an operator would, whenever all branches wait; one that is paused stays so until this continues
            it.

    Returns:
        Outcome and events.
    """
    effects = MemoryEffects(handler, clock_us, on_refused)
    who = identity or Identity(execution_id="00000000-0000-4000-8000-000000000000")
    machine = Machine(plan, effects, who)
    machine.start(given, breaks)
    pending, arriving = list(answers), list(outside)
    runs = 1
    happened = 0
    for _ in range(MOST_ACTIVATIONS):
        if machine.run() is Pace.DONE:
            break
        if steer is not None and not machine.has_work:
            steer(machine)
        if carry_every and happened >= carry_every:
            machine.begin_drain()
        if machine.walker.draining and machine.calls_under_way == 0 and not machine.has_work:
            effects.forget_timers()
            machine = Machine(
                plan, effects, who, state_from_json(json.loads(json.dumps(state_to_json(machine.carry()))))
            )
            machine.resume()
            runs, happened = runs + 1, 0
            continue
        happened += 1
        if answerer is not None and effects.waits and not pending:
            _ask_for_answers(machine, effects, answerer)
        if arriving and not machine.has_work:
            arrived = arriving.pop(0)
            if isinstance(arrived, MessageSignal):
                machine.take_message(arrived)
            else:
                machine.take_event(arrived)
        elif not _let_something_happen(machine, effects, pending) and (steer is None or not machine.paused):
            break
    else:
        raise LimitExceeded(f"the run took more than {MOST_ACTIVATIONS} activations", code="limit.activations")
    waits = [frame.wait_id for frame in all_waits(machine)]
    return DryRun(machine.result, effects.events, waits, runs)


def all_waits(machine: Machine) -> list[WaitFrame]:
    """Return the open waits: those for answers, then those for events and for messages, the oldest first."""
    walker = machine.walker
    listening = open_waits(walker, messages=True)
    return [frame for _, frame in (*open_waits(walker), *open_waits(walker, events=True), *listening)]


def _ask_for_answers(machine: Machine, effects: MemoryEffects, answerer: Answerer) -> None:
    for frame in all_waits(machine):
        if frame.opened not in effects.asked:
            effects.asked.add(frame.opened)
            answer = answerer(effects.waits.get(frame.wait_id, {"wait_id": frame.wait_id}))
            if answer is not None:
                effects.answer_later(frame.wait_id, answer, frame.inbox)


def _let_something_happen(machine: Machine, effects: MemoryEffects, pending: list[Json]) -> bool:
    if machine.has_work:
        return True
    if pending and open_waits(machine.walker):
        machine.answer(AnswerSignal(key=f"answer-{len(pending)}", value=pending.pop(0), actor="dry-run"))
        return True
    if pending and (listening := open_waits(machine.walker, messages=True)):
        name = listening[0][1].inbox or ""
        machine.take_message(
            MessageSignal(id=f"message-{len(pending)}", name=name, value=pending.pop(0), actor="dry-run")
        )
        return True
    happened = effects.pop()
    if happened is None:
        return False
    deliver(machine, effects, *happened)
    return True


def deliver(machine: Machine, effects: MemoryEffects, kind: str, name: str, outcome: CallOutcome | None) -> None:
    """Tell a machine what has happened, as `MemoryEffects.pop` returned it."""
    if kind == "timer":
        machine.timer_fired(name)
    elif kind == "cancel" and isinstance(outcome, Ok):
        machine.cancel(str(outcome.value), "dry-run")
    elif kind == "answer" and isinstance(outcome, Ok):
        if any(frame.wait_id == name for frame in all_waits(machine)):
            key = f"answer-{next(effects.order)}"
            machine.answer(AnswerSignal(key=key, value=outcome.value, wait_id=name, actor="dry-run"))
    elif kind == "message" and isinstance(outcome, Ok):
        busy, _, inbox = name.partition(":")
        message_id = f"message-{next(effects.order)}"
        machine.take_message(MessageSignal(id=message_id, name=inbox, value=outcome.value, busy=busy, actor="dry-run"))
    elif outcome is not None:
        machine.call_done(name, outcome)


# --- made-up replies -----------------------------------------------------------------------------------------------


def chat_reply(text: str, *, model: str = "dry-run", tokens: int = 0) -> dict[str, Json]:
    """Return a ChatResult as JSON whose message is a text."""
    usage = Usage(prompt_tokens=0, completion_tokens=tokens, total_tokens=tokens)
    result = ChatResult(
        id="dry-run",
        model=model,
        backend="dry-run",
        created=START_US // 1_000_000,
        message={"role": "assistant", "content": text},
        finish_reason="stop",
        usage=usage,
    )
    return result.to_json()


def with_calls(reply: dict[str, Json], calls: Json) -> dict[str, Json]:
    """Return a reply that asks for tool calls: a list of {TOOL: ARGUMENTS}."""
    named = [(name, given) for call in calls for name, given in dict(call).items()]
    bodies = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": compact_json(given or {})}}
        for number, (name, given) in enumerate(named)
    ]
    message = {**reply["message"], "tool_calls": bodies}
    return {**reply, "message": message, "finish_reason": "tool_calls"}


def agent_paths(path: str) -> list[str]:
    """Return the path of the agent in whose turn a step stands, as a list; empty if it stands in none."""
    around, turn, _ = path.rpartition(".turn[")
    return [around] if turn else []


def _scripted_chat(reply: Json) -> dict[str, Json]:
    if isinstance(reply, dict) and CALLS in reply:
        return with_calls(chat_reply(""), reply[CALLS])
    return chat_reply(reply if isinstance(reply, str) else canonical_json(reply))


class ScriptedReplies:
    """Answers calls from a table, and invents what the table does not say.

    Args:
        table: Replies by step label, step path, tool or task; a list is used up item by item, its last item stays.
            For prompts a text is the reply, {$calls: [{TOOL: ARGUMENTS}]} one that asks for tools, anything else is its
            JSON. The replies of an agent go by its own label or path.
    """

    def __init__(self, table: Mapping[str, Json] | None = None) -> None:
        self._table = {key: list(value) if isinstance(value, list) else [value] for key, value in (table or {}).items()}
        self.invented: dict[str, None] = {}

    def __call__(self, call: Call) -> Answered:
        """Answer one call."""
        params = call.params
        is_chat = isinstance(params, ChatParams)
        names = [call.summary, params.context.path, *agent_paths(params.context.path)]
        if isinstance(params, ToolParams):
            names.append(params.tool.name)
        elif isinstance(params, ChildParams):
            names += [call.tool, params.task.name] if call.tool else [params.task.name]
        for name in names:
            if name in self._table:
                replies = self._table[name]
                reply = replies.pop(0) if len(replies) > 1 else replies[0]
                if isinstance(params, EmbedParams | SearchParams):
                    return Answered(Ok(made_up(params, reply)))
                return Answered(Ok(_scripted_chat(reply) if is_chat else reply))
        # an unlabelled prompt can be named by its path only
        self.invented[params.context.path if is_chat and call.summary.startswith("prompt") else call.summary] = None
        return Answered(Ok(self._invent(call)))

    def _invent(self, call: Call) -> Json:
        params = call.params
        if isinstance(params, ChatParams):
            if params.output_schema is not None:
                return chat_reply(canonical_json(example_of(params.output_schema)))
            if params.tool_choice == "required" and params.tools:
                function = params.tools[0]["function"]
                return with_calls(chat_reply(""), [{function["name"]: example_of(function.get("parameters"))}])
            words = str(params.messages[-1].get("content", ""))[:60]
            return chat_reply(f"(reply to: {words})", model=params.model or "dry-run")
        if isinstance(params, EmbedParams | SearchParams):
            return made_up(params)
        if not isinstance(params, ToolParams):
            name = params.task.name if isinstance(params, ChildParams) else params.task
            return {"dry_run": True, "task": name, "arguments": params.input}
        told = {"dry_run": True, "tool": params.tool.name, "arguments": params.arguments}
        if params.tool.type == "api_call":
            return {"status_code": 200, "headers": {}, "json": told, "content": ""}
        return told


def example_of(schema: Any) -> Json:
    """Return a small value that fits a plain JSON Schema."""
    if not isinstance(schema, dict):
        return None
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("enum", "examples"):
        if schema.get(key):
            return schema[key][0]
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return example_of(schema[key][0])
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    return _example_of_type(kind, schema)


def _example_of_type(kind: Any, schema: dict[str, Any]) -> Json:
    if kind == "object" or "properties" in schema:
        return {name: example_of(part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [example_of(schema.get("items"))] * max(int(schema.get("minItems", 1)), 1)
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "boolean":
        return True
    return "text".ljust(int(schema.get("minLength", 0)), ".") if kind == "string" else None


def dry_run(
    plan: Plan, given: Json, *, replies: Mapping[str, Json] | None = None, answers: Sequence[Json] = ()
) -> DryRun:
    """Run a task without server, model and tools.

    Args:
        plan: The plan.
        given: The input.
        replies: See `ScriptedReplies`.
        answers: Answers to waits in order.

    Returns:
        Outcome and events.

    Raises:
        CompileError: `task.not_runnable` if something of the plan cannot be run yet.
        InvalidInput: `input.invalid` if the input does not fit the task's schema, `input.requirement` if a condition of
            the task does not hold.
    """
    refuse_planned(plan)
    problems = value_problems(given, plan.input_schema, whole="input")
    if problems:
        raise InvalidInput(f"the input does not fit the task: {'; '.join(problems)}")
    unmet = unmet_requirements(plan, given, now_us=START_US)
    if unmet:
        raise InvalidInput(f"the task does not take this input: {'; '.join(unmet)}", code="input.requirement")
    _check_replies(plan, replies or {})
    script = ScriptedReplies(replies)
    ran = run_in_memory(plan, given, script, answers=answers)
    return replace(ran, invented=tuple(script.invented))


def _check_replies(plan: Plan, replies: Mapping[str, Json]) -> None:
    rows = plan_outline(plan)
    known = {row.label for row in rows} | {row.path for row in rows} | set(plan.tools)
    known |= {op.task.partition("@")[0] for block in plan.blocks for op in block.ops if isinstance(op, TaskOp)}
    known |= {tool.runs.partition("@")[0] for tool in plan.tools.values() if tool.runs}
    for name in replies:
        if name not in known and _COUNTER.sub("", name) not in known:
            raise InvalidInput(
                f"the replies name '{name}', which is no step label, step path, tool or task of a step",
                code="replies.unknown",
                hint=did_you_mean(name, known) or "`everstep validate -v` and the events of a dry run show the paths",
            )


def failed(code: str, message: str = "made up", *, retryable: bool = True) -> Failed:
    """Return a failed outcome with a code, for scripts and tests."""
    return Failed(run_error_from_json({"code": code, "message": message}, retryable=retryable))
