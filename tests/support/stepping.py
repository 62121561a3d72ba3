"""A machine in memory that a test moves by hand: told something, let time pass, carried over, looked at."""

from __future__ import annotations

import json
from typing import Any

from engine.core.contracts.execution import AnswerSignal, ControlSignal, EventSignal, MessageSignal
from engine.core.kinds import EventType
from engine.core.plan.ir import Plan
from engine.core.run.effects import Failed, Ok
from engine.core.run.machine import Machine, Pace
from engine.core.run.snapshot import state_from_json, state_to_json
from engine.core.run.walker import Identity
from engine.dryrun.effects import START_US, Handler, MemoryEffects, SeenEvent
from engine.dryrun.running import deliver
from tests.support.memory import compiled, echo

ID = "00000000-0000-4000-8000-000000000000"


class _Effects(MemoryEffects):
    """Effects that also note each time the execution was said to stand still, or not to."""

    def __init__(self, handler: Handler, clock_us: int) -> None:
        super().__init__(handler, clock_us)
        self.statuses: list[bool] = []

    def set_paused(self, *, paused: bool) -> None:
        """See `Effects.set_paused`."""
        self.statuses.append(paused)


class Stepper:
    """One execution in memory.

    Args:
        task: Text of the task, or a plan.
        given: Its input.
        handler: Answers its calls.
        breaks: Steps before which it pauses.
        identity: Members of its identity other than the id.
    """

    def __init__(
        self,
        task: str | Plan,
        given: Any = None,
        handler: Handler = echo,
        breaks: tuple[str, ...] = (),
        **identity: Any,
    ) -> None:
        self.plan = compiled(task) if isinstance(task, str) else task
        self.effects = _Effects(handler, identity.pop("clock_us", START_US))
        self.identity = Identity(**{"execution_id": ID, **identity})
        self.machine = Machine(self.plan, self.effects, self.identity)
        self.machine.start(given, breaks)
        self.settle()

    # --- moving ----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Run as far as it goes without anything happening."""
        while self.machine.run() is Pace.BREATHER:
            pass

    def happen(self) -> str | None:
        """Let the next thing happen, such as the end of a call or a timer, and return what it was called."""
        happened = self.effects.pop()
        if happened is None:
            return None
        deliver(self.machine, self.effects, *happened)
        self.settle()
        return f"{happened[0]} {happened[1]}"

    def go(self) -> list[str]:
        """Let things happen until nothing will."""
        found: list[str] = []
        while self.machine.result is None and (name := self.happen()) is not None:
            found.append(name)
        return found

    def control(self, kind: Any, key: str = "", **members: Any) -> SeenEvent:
        """Send what an operator wants and return the event that tells the outcome."""
        key = key or f"key-{len(self.effects.events)}"
        self.machine.control(ControlSignal(kind=kind, key=key, actor="ann", **members))
        found = [event for event in self.effects.events if event.body.get("key") == key]
        self.settle()
        return found[-1]

    def answer(self, value: Any, wait_id: str = "") -> None:
        """Answer a wait."""
        key = f"answer-{len(self.effects.events)}"
        self.machine.answer(AnswerSignal(key=key, value=value, wait_id=wait_id, actor="ann"))
        self.settle()

    def send(self, name: str, value: Any = None) -> None:
        """Send an event."""
        self.machine.take_event(EventSignal(id=f"{name}-{len(self.effects.events)}", name=name, value=value))
        self.settle()

    def message(self, value: Any = None, id: str = "", *, settle: bool = True, **members: Any) -> dict[str, Any]:
        """Send a message and return the body of the event that tells what becomes of it."""
        signal = MessageSignal(id=id or f"message-{len(self.effects.events)}", value=value, actor="ann", **members)
        before = len(self.effects.events)
        self.machine.take_message(signal)
        told = next(event for event in self.effects.events[before:] if event.type == EventType.MESSAGE_TAKEN)
        if settle:
            self.settle()
        return told.body

    def cancel(self) -> None:
        """Cancel it."""
        self.machine.cancel("enough", "ann")
        self.settle()

    def carry(self) -> None:
        """Continue as new, through JSON; its calls must have ended."""
        state = state_from_json(json.loads(json.dumps(state_to_json(self.machine.carry()))))
        self.effects.forget_timers()
        self.machine = Machine(self.plan, self.effects, self.identity, state)
        self.machine.resume()
        self.settle()

    # --- looking ---------------------------------------------------------------------------------------------------

    @property
    def statuses(self) -> list[bool]:
        """Return what was said of whether it stands still, in order."""
        return self.effects.statuses

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return self.machine.walker.state.paused is not None

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.machine.result is not None

    @property
    def outcome(self) -> Any:
        """Its output, or the code of its error; `...` while it runs, None once it was stopped."""
        if self.machine.result is None:
            return ...
        outcome = self.machine.result.outcome
        if isinstance(outcome, Ok):
            return outcome.value
        return outcome.error.code if isinstance(outcome, Failed) else None

    def types(self) -> list[str]:
        """Return the types of its events."""
        return [event.type for event in self.effects.events]

    def bodies(self, *types: str) -> list[dict[str, Any]]:
        """Return the bodies of its events of some types."""
        return [event.body for event in self.effects.events if event.type in types]
