"""Effects on a virtual clock: what a machine asks for happens in memory, and calls are answered by a function."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace

from engine.core.contracts.activities import ChatParams, ToolParams, check_arguments
from engine.core.contracts.children import ResolvedTask, ResolveParams
from engine.core.contracts.lookups import EmbedParams, SearchParams
from engine.core.contracts.patches import Patch
from engine.core.errors import BackendError, ToolError
from engine.core.kinds import EventType
from engine.core.run.effects import Call, CallOutcome, Failed, Ok, Stopped
from engine.core.values import Json
from engine.talks import Talks

START_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z: a dry run gives the same result whenever it is made."""


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
