"""Runs a plan in memory to its end: lets one thing after another happen and tells the machine of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.core.contracts.execution import AnswerSignal, EventSignal, MessageSignal
from engine.core.errors import LimitExceeded
from engine.core.plan.ir import Plan
from engine.core.run.answers import open_waits
from engine.core.run.effects import Call, CallOutcome, Ok
from engine.core.run.frames import WaitFrame
from engine.core.run.machine import Finished, Machine, Pace
from engine.core.run.snapshot import state_from_json, state_to_json
from engine.core.run.walker import Identity
from engine.core.values import Json
from engine.dryrun.effects import START_US, Answered, Answerer, Handler, MemoryEffects, SeenEvent

MOST_ACTIVATIONS = 1_000_000


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
